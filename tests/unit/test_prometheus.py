"""The metrics: their names, values and counters, read back through HTTP by Prometheus' own parser."""

from __future__ import annotations

import urllib.request
from collections.abc import Iterable

import numpy as np
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from embedded import free_port
from streaming_regression.documents import Course, PartitionMetrics
from streaming_regression.errors import ConfigError
from streaming_regression.health import Health, Totals
from streaming_regression.learners import Model
from streaming_regression.prometheus import Errors, Metrics, serving

TOPICS = {"train": "flights-train", "test": 'te"st\n'}
COURSE = Course(0.7, 12, 1.0, {}, restarted=False)
PARTITIONS = [
    PartitionMetrics("flights-train", 0, 0, 9, 10, 4, 6, 8.0, 4.0, 10.0, 30.0),
    PartitionMetrics("flights-train", 1, 0, 9, 10, 6, 4, 12.0, 6.0, 20.0, 90.0),
]
Values = dict[tuple[str, str], float]


def scraped(port: int) -> Iterable[Metric]:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        assert answer.headers["Content-Type"].startswith("text/plain")
        return list(text_string_to_metric_families(answer.read().decode()))


def values(families: Iterable[Metric]) -> Values:
    """The samples without buckets and times of creation, by name and the value of their last label."""
    return {
        (sample.name.removeprefix("streaming_regression_"), next(reversed(sample.labels.values()), "")): sample.value
        for family in families
        for sample in family.samples
        if not sample.name.endswith(("_bucket", "_created"))
    }


def metrics() -> Metrics:
    return Metrics(TOPICS, "rls", ["dep_delay", 'a"b'], clock=lambda: 1000.5)


def note(found: Metrics, model: Model) -> None:
    health = Health({"flights-train": Totals(20, 10, 10, 20.0, 10.0, 2)})
    found.note(model, health, PARTITIONS, COURSE)


def test_a_scrape_gives_the_figures_of_model_and_stream() -> None:
    found, port = metrics(), free_port()
    note(found, Model(np.array([1.5, 2.5, -3.5]), 10))
    with serving(port) as registry:
        registry.register(found)
        families = scraped(port)
    mean, spread = 3.0, 120 - 10 * 9
    assert mean * 10 == 30
    train, test = TOPICS.values()
    have = values(families)
    assert have == {
        ("info", "rls"): 1,
        ("micro_batch_duration_seconds_count", ""): 1,
        ("micro_batch_duration_seconds_sum", ""): 0.7,
        ("lag_records", ""): 12,
        ("last_success_timestamp_seconds", ""): 1000.5,
        ("records_total", train): 20,
        ("labelled_records_total", train): 10,
        ("invalid_records_total", train): 10,
        ("squared_error_total", train): 20,
        ("absolute_error_total", train): 10,
        ("drift_detections_total", train): 2,
        **{(f"{name}_total", test): 0 for name in ("records", "labelled_records", "invalid_records")},
        **{(f"{name}_total", test): 0 for name in ("squared_error", "absolute_error", "drift_detections")},
        ("mean_squared_error", train): 2,
        ("mean_absolute_error", train): 1,
        ("r_squared", train): pytest.approx(1 - 20 / spread),
        ("learned_records_total", ""): 10,
        ("intercept", ""): 1.5,
        ("weight", "dep_delay"): 2.5,
        ("weight", 'a"b'): -3.5,
    }


def test_names_and_help_texts_follow_prometheus_conventions() -> None:
    """Counters end with `_total`, times are in seconds, every metric has a help text that is a sentence."""
    found = metrics()
    note(found, Model(np.zeros(3)))
    families = list(found.collect())
    assert len({family.name for family in families}) == len(families)
    for family in families:
        assert family.name.startswith("streaming_regression")
        assert family.documentation.endswith("."), family.name
        counter = any(sample.name.endswith("_total") for sample in family.samples)
        assert counter == (family.type == "counter"), family.name
        assert not {"ms", "milliseconds", "percent", "minutes"} & set(family.name.split("_")), family.name
        assert all(label in {"role", "topic", "feature", "learner", "le"} for s in family.samples for label in s.labels)


def test_counters_go_on_after_a_restart_and_gauges_wait_for_a_micro_batch() -> None:
    before, after = metrics(), metrics()
    model = Model(np.zeros(3), 10)
    note(before, model)
    after.restore(model, Health({"flights-train": Totals(20, 10, 10, 20.0, 10.0, 2)}))
    old, new = values(before.collect()), values(after.collect())
    gone = {name for name, _ in old.keys() - new.keys()}
    assert gone == {
        *("mean_squared_error", "mean_absolute_error", "r_squared", "lag_records", "last_success_timestamp_seconds")
    }
    totals = {key: value for key, value in new.items() if key[0].endswith("_total")}
    assert totals == {key: value for key, value in old.items() if key[0].endswith("_total")}


def test_equal_labels_have_no_r_squared_and_a_topic_without_labels_keeps_its_last_errors() -> None:
    found = metrics()
    model, health = Model(np.zeros(3)), Health()
    found.note(model, health, [PartitionMetrics("flights-train", 0, 0, 1, 2, 2, 0, 8.0, 4.0, 4.0, 8.0)], COURSE)
    train = TOPICS["train"]
    assert ("r_squared", train) not in values(found.collect())
    found.note(model, health, [PartitionMetrics("flights-train", 0, 2, 2, 1, 0, 1, 0.0, 0.0, 0.0, 0.0)], COURSE)
    assert values(found.collect())["mean_squared_error", train] == 4


def test_equal_labels_have_no_r_squared_whatever_their_rounding() -> None:
    """Σy² - (Σy)²/n is then not 0 but about 1e-16 of Σy², and R² would be about -1e15."""
    for rows in range(1, 200):
        y = np.full(rows, 0.1)
        found = Errors.of(PartitionMetrics("t", 0, 0, 1, rows, rows, 0, 1.0, 1.0, float(y.sum()), float(y @ y)))
        assert found is not None
        assert found.r_squared is None, rows


def test_the_server_ends_with_its_block_and_a_used_port_is_named() -> None:
    port = free_port()
    with (
        serving(port),
        pytest.raises(ConfigError, match=rf"--metrics-port / METRICS_PORT: port {port} cannot"),
        serving(port),
    ):
        pass
    with pytest.raises(OSError, match="refused"), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics"):
        pass
    with serving(0) as registry:
        assert isinstance(registry, CollectorRegistry)
