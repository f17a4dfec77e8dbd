"""Each panel's numbers from a real Elasticsearch, compared with an independent computation in numpy."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from typing import Any

import numpy as np
import pytest
import vl_convert
from elasticsearch import Elasticsearch as Client

from dashboards import vega
from dashboards.page import Choice, Page
from dashboards.panels import SAMPLE, Line, Names, Sample
from dashboards.sections import sections
from embedded import Elasticsearch
from tests.integration.written import Batch, Written, hours_ago, mean_absolute_error, mse, now, r2, variance
from tests.kibana_specs import answered
from tests.strategies import AWKWARD_NAMES

FEATURES = ("a", "b.c", "d e")  # a name may contain a dot or a blank


@pytest.fixture
def written(request: pytest.FixtureRequest, search: Elasticsearch) -> Written:
    prefix = re.sub("[^a-z0-9]+", "-", request.node.name.lower()).strip("-")
    return Written(Names(FEATURES, "target", prefix, "learn", "check"), search)


def data(written: Written, **chosen: str) -> dict[str, Any]:
    with Client(written.search.url, request_timeout=30) as client:
        return Page(written.names, client).data(Choice.of(chosen, written.names))


def panels(written: Written, **chosen: str) -> dict[str, Any]:
    found: dict[str, Any] = data(written, **chosen)["panels"]
    return found


def test_metrics_equal_numpy(written: Written) -> None:
    written.write(300, hours_ago(2), noise=9)
    written.write(
        500, unlabelled=True, faults=[*[("missing", "a")] * 3, *[("not JSON", None)] * 2, ("not a number", "d e")]
    )
    shown = panels(written)
    for name, topic in (("train", "learn"), ("test", "check")):
        assert shown[f"{name}-mse"] == pytest.approx(mse(written.of(topic)), rel=1e-12)
        assert shown[f"{name}-r2"] == pytest.approx(r2(written.of(topic)), rel=1e-9)
        assert shown[f"{name}-rmse"] == pytest.approx(mse(written.of(topic)) ** 0.5, rel=1e-12)
        assert shown[f"{name}-mae"] == pytest.approx(mean_absolute_error(written.of(topic)), rel=1e-12)
        assert shown[f"{name}-variance"] == pytest.approx(variance(written.of(topic)), rel=1e-9)
    assert shown["model-rows-seen"] == 1600
    assert shown["model-invalid"] == 6
    assert shown["model-invalid-reasons"] == [
        ["missing", "a", "learn", 3],
        ["not JSON", "–", "learn", 2],
        ["not a number", "d e", "learn", 1],
    ]


def test_reason_null_is_shown_as_a_missing_value(written: Written) -> None:
    """Only as a reason: a field may be called null."""
    written.write(5, faults=[("null", "a"), ("missing", "null")])
    rows = panels(written)["model-invalid-reasons"]
    assert sorted(rows) == [["missing", "null", "learn", 1], ["value missing (null)", "a", "learn", 1]]


def test_error_over_time_equals_numpy_for_both_topics_and_the_mean(written: Written) -> None:
    times = [hours_ago(1 + minutes / 60) for minutes in (30, 20, 10)]
    for number, time in enumerate(times):
        written.write(80, time, noise=3.0 + number)
    rows = panels(written)["overview-error"]
    for series, topics in (("train", ["learn"]), ("test", ["check"]), ("always the mean", ["learn", "check"])):
        of_series = [row["value"] for row in rows if row["series"] == series]
        cut = [[batch for batch in written.batches if batch.time == time and batch.topic in topics] for time in times]
        wanted = [variance(batches) if series == "always the mean" else mse(batches) for batches in cut]
        np.testing.assert_allclose(of_series, wanted, rtol=1e-9)


def test_events_are_listed_and_absent_fields_are_no_fault(written: Written) -> None:
    """An older version of the streaming regression has no `drift` and no `restarted`."""
    written.write(5, hours_ago(2))
    assert data(written)["events"] == []
    written.write(5, hours_ago(1), gaps=[1234])
    (lost,) = data(written)["events"]
    assert (lost["label"], lost["_source"]["lost"], lost["_source"]["topic"]) == ("lost records", 1234, "learn")
    written.allow("models", drift={"properties": {"train": {"type": "boolean"}}}, restarted={"type": "boolean"})
    written.write(5, drift={"train": True}, restarted=True)
    found = {row["label"]: row["_source"] for row in data(written)["events"]}
    assert found.keys() == {"drift", "lost records", "restart"}
    assert found["drift"]["drift"] == {"train": True}
    assert {row["label"] for row in data(written, range="15m")["events"]} == {"drift", "restart"}


def test_newest_micro_batch_is_shown_whatever_the_time_range(written: Written) -> None:
    written.write(10, hours_ago(9), lag=77)
    for range_ in ("15m", "all"):
        shown = panels(written, range=range_)["overview-stream"]
        assert shown["values"] == ["rls", 77, 20, "test"]
        assert shown["time"].startswith(f"{written.batches[0].time:%Y-%m-%dT%H:%M:%S}")


def test_default_range_is_that_of_kibanas_dashboard(written: Written) -> None:
    """An older record counts in neither."""
    written.write(300, hours_ago(24 * 8), noise=9)
    written.write(300, hours_ago(24 * 6))
    newer = [batch for batch in written.of("learn") if batch.first_offset]
    assert panels(written)["train-mse"] == pytest.approx(mse(newer), rel=1e-12)
    assert panels(written, range="all")["train-mse"] == pytest.approx(mse(written.of("learn")), rel=1e-12)


def test_lost_records_are_summed_and_not_counted_as_invalid(written: Written) -> None:
    """A gap is one document, for any number of lost records."""
    written.write(10, hours_ago(2), gaps=[1000])
    assert (panels(written)["model-lost"], panels(written, range="1h")["model-lost"]) == (1000, 0)
    written.write(10, faults=[("missing", "a")], gaps=[1, 2500])
    shown = panels(written)
    assert (shown["model-lost"], shown["model-invalid"]) == (3501, 1)
    assert panels(written, range="1h")["model-lost"] == 2501
    assert shown["model-invalid-reasons"] == [["missing", "a", "learn", 1]]


def test_points_and_weights_of_a_feature_with_any_name_are_shown(written: Written) -> None:
    """In Elasticsearch's queries, in the page's responses, and in Kibana's searches."""
    named = Written(Names(AWKWARD_NAMES, "it's [y]", written.names.prefix, "learn", "check"), written.search)
    named.write(40, hours_ago(1))
    named.write(40)
    shown = panels(named)
    for name in AWKWARD_NAMES:
        line = [row["value"] for row in shown["model-weights"] if row["series"] == name]
        assert line == [model["weights"][name] for model in named.models], name
    for i, name in enumerate(AWKWARD_NAMES):
        rows = panels(named, feature=name, topic="train")["train-points"]
        assert [row["x"] for row in rows] == sorted(x for batch in named.of("learn") for x in batch.x[:, i]), name
    (panel, *_) = (
        candidate for section in sections(named.names) for candidate in section.panels if isinstance(candidate, Sample)
    )
    body = vega.sample(named.names, panel)["data"]["url"]["body"] | {"query": {"term": {"topic": "learn"}}}
    with Client(named.search.url, request_timeout=30) as client:
        hits = client.search(index=named.names.pattern("points"), **body)["hits"]["hits"]
    for i, name in enumerate(AWKWARD_NAMES):
        found = sorted(hit["fields"][f"x.{name}"][0] for hit in hits)
        assert found == sorted(x for batch in named.of("learn") for x in batch.x[:, i]), name


def test_feature_that_the_stream_does_not_have_is_drawn_empty(written: Written) -> None:
    written.write(300)
    other = replace(written, names=replace(written.names, features=("other",)))
    shown = panels(other)
    assert shown["train-points"] == []
    assert shown["train-mse"] == pytest.approx(mse(written.of("learn")), rel=1e-12)


def test_long_micro_batch_does_not_count_as_stopped_and_a_lost_shard_is_reported(written: Written) -> None:
    """A model document's `seconds` are 1.5 plus its number: the tenth took 11.5 s; its time is when it began."""
    for number in range(10):
        written.write(1, now() - timedelta(seconds=40 if number == 9 else 100))
    found = data(written)
    assert (found["state"], found["whole"]) == ("live", True)
    nowhere = {"index.routing.allocation.require._name": "none"}
    lost = f"{written.names.prefix}-metrics-2020.01.01"
    with Client(written.search.url) as client:
        client.indices.create(index=lost, settings=nowhere, wait_for_active_shards=0)
        try:
            assert data(written)["whole"] is False
        finally:
            client.indices.delete(index=lost)


def test_time_range_leaves_out_what_is_older(written: Written) -> None:
    written.write(300, hours_ago(30), noise=9, faults=[("missing", "a")])
    written.write(500)
    shown = panels(written, range="1h")
    newer = [batch for batch in written.of("learn") if batch.first_offset > 0]
    assert shown["train-mse"] == pytest.approx(mse(newer), rel=1e-12)
    assert shown["model-invalid"] == 0
    assert shown["model-invalid-reasons"] == []
    assert len(shown["train-points"]) == 1000
    assert {row["x"] for row in shown["train-points"]} == {x for batch in newer for x in batch.x[:, 0].tolist()}


def test_mse_over_the_offset_equals_numpy(written: Written) -> None:
    for number in range(60):
        written.write(150, noise=60 - number)
    rows = panels(written)["train-mse-over-offset"]
    # offsets go up to 8,999, so 90 buckets of 100 offsets hold the 60 micro-batches
    expected: dict[int, list[Batch]] = {}
    for batch in written.of("learn"):
        expected.setdefault(batch.first_offset // 100 * 100, []).append(batch)
    assert [row["x"] for row in rows] == sorted(expected)
    np.testing.assert_allclose([row["value"] for row in rows], [mse(expected[row["x"]]) for row in rows], rtol=1e-12)


def test_rate_is_a_batchs_records_until_the_next_one_begins(written: Written) -> None:
    times = [hours_ago(1 + minutes / 60) for minutes in (10, 7, 6, 0)]
    for time, rows in zip(times, (60, 120, 30, 500), strict=True):
        written.write(rows, time)
    rows = panels(written)["train-rows-per-second"]
    assert [row["value"] for row in rows] == pytest.approx([120 / 180, 240 / 60, 60 / 360])


def test_model_lines_equal_what_was_written(written: Written) -> None:
    for number in range(5):
        written.write(10, hours_ago(5 - number), lag=100 - number)
    shown = panels(written, topic="train")
    assert not any(name.startswith("test") for name in shown)
    for name in FEATURES:
        line = [row["value"] for row in shown["model-weights"] if row["series"] == name]
        assert line == [model["weights"][name] for model in written.models]
    assert [row["value"] for row in shown["model-intercept"]] == [0, 1, 2, 3, 4]
    assert [row["value"] for row in shown["model-lag"]] == [100, 99, 98, 97, 96]
    assert [row["value"] for row in shown["model-batch-time"] if row["series"] == "longest"] == [
        1.5,
        2.5,
        3.5,
        4.5,
        5.5,
    ]


@pytest.mark.slow
def test_sample_is_bounded_spread_and_the_points_themselves(written: Written) -> None:
    written.write(2500, unlabelled=True)
    written.write(2500)
    shown = panels(written, feature="b.c")
    points = {
        (batch.x[i, 1], batch.pred[i]): batch.first_offset + i for batch in written.of("learn") for i in range(2500)
    }
    rows = shown["train-points"]
    offsets = Counter(points[row["x"], row["pred"]] for row in rows)
    assert SAMPLE / 2 < len(rows) <= SAMPLE
    assert sorted(offset // 8 for offset in offsets) == [*range(5000 // 8)]  # evenly
    assert set(offsets.values()) == {2}  # one in each of the two partitions
    assert shown == panels(written, feature="b.c")
    assert any(row["y"] is None for row in shown["test-points"])
    assert all(row["y"] is not None for row in shown["test-prediction-over-label"])


@pytest.mark.slow
def test_sample_stays_while_the_stream_goes_on(written: Written) -> None:
    written.write(2500)
    before = {row["x"] for row in panels(written)["train-points"]}
    written.write(500)
    after = {row["x"] for row in panels(written)["train-points"]}
    assert before < after


@pytest.mark.slow
@pytest.mark.parametrize(("rows", "at_least"), [(2000, 300), (60_000, SAMPLE / 2)], ids=["few", "many"])
def test_with_a_sample_of_the_points_drawings_are_full_and_numbers_exact(
    written: Written, rows: int, at_least: int
) -> None:
    """A search for one offset per block, as if all points were stored, would find only a tenth of the points."""
    written.write(rows, noise=9, fraction=0.1)
    found = data(written)
    shown = found["panels"]
    assert (found["points_fraction"], shown["model-points-stored"]) == (0.1, 0.1)
    assert shown["train-mse"] == pytest.approx(mse(written.of("learn")), rel=1e-12)
    assert shown["train-r2"] == pytest.approx(r2(written.of("learn")), rel=1e-9)
    assert shown["model-rows-seen"] == 2 * rows
    offsets = {
        (x, pred): batch.first_offset + i
        for batch in written.of("learn")
        for i, (x, pred) in enumerate(zip(batch.x[:, 0].tolist(), batch.pred.tolist(), strict=True))
    }
    drawn = [offsets[row["x"], row["pred"]] for row in shown["train-points"]]
    assert at_least < len(drawn) <= SAMPLE
    assert sum(interval["count"] for interval in shown["train-residuals"]) == len(drawn)
    tenths = np.bincount(np.array(drawn) * 10 // rows, minlength=10)
    assert tenths.min() > len(drawn) / 10 / 3, "spread over all offsets"


def test_residual_histogram_equals_numpys(written: Written) -> None:
    written.write(700, noise=20)
    bins = panels(written)["train-residuals"]
    edges = [bins[0]["start"], *(interval["end"] for interval in bins)]
    residuals = np.concatenate([batch.y - batch.pred for batch in written.of("learn")])
    assert 10 <= len(bins) <= 30
    assert [interval["count"] for interval in bins] == np.histogram(residuals, edges)[0].tolist()


def test_prediction_over_label_is_the_sample(written: Written) -> None:
    written.write(20)
    expected = sorted((y, pred) for batch in written.of("check") for y, pred in zip(batch.y, batch.pred, strict=True))
    rows = panels(written)["test-prediction-over-label"]
    assert [(row["y"], row["pred"]) for row in rows] == expected
    (batch, *_) = written.of("check")
    places = {(batch.y[i], batch.pred[i]): f"check-{batch.partition}-{batch.first_offset + i}" for i in range(20)}
    named = {(row["y"], row["pred"]): row["place"] for row in rows}
    assert named.items() >= places.items()


def in_kibana(written: Written, spec: Any, since: str = "now-7d") -> Any:
    """A Vega specification with Elasticsearch's responses, after Kibana's replacements for its placeholders.

    The embedded Elasticsearch does not have auto_date_histogram, which chooses one of some widths of buckets. Here it
    is a date_histogram with one of these widths.
    """

    def answer(pattern: str, body: Any) -> Any:
        text = re.sub(r'"%dashboard_context-[a-z_]+%",? ?', "", json.dumps(body))
        body = json.loads(text.replace('"%timefilter%": true', f'"gte": "{since}"'))
        for aggregation in body.get("aggs", {}).values():
            del aggregation["auto_date_histogram"]
            aggregation["date_histogram"] = {"field": "@timestamp", "fixed_interval": "1m"}
        with Client(written.search.url, request_timeout=30) as client:
            return client.search(index=pattern, **body).body

    return answered(spec, answer)


def values_of(spec: Any) -> list[tuple[str, float]]:
    """Series and value of each point of a specification's lines: Vega writes them as texts in place of the lines."""
    lines, *_ = spec["layer"]
    lines["transform"].append({"calculate": "'#' + datum.series + '|' + datum.value + '#'", "as": "text"})
    lines["mark"] = {"type": "text"}
    lines["encoding"] = {name: lines["encoding"][name] for name in ("x", "y")} | {"text": {"field": "text"}}
    svg = vl_convert.vegalite_to_svg({**spec, "width": 900, "height": 400}, vl_version="5.8")
    return [(series, float(value)) for series, value in re.findall(r">#([^#|]*)\|([^#]*)#<", svg)]


def test_kibanas_lines_over_time_show_the_pages_numbers(written: Written) -> None:
    """Three micro-batches in different minutes: each is a bucket, here and on the page."""
    times = [hours_ago(1 + minutes / 60) for minutes in (30, 20, 10)]
    for number, time in enumerate(times):
        written.write(80, time, noise=3.0 + number)
    shown = panels(written)
    lines = [
        panel
        for section in sections(written.names)
        for panel in section.panels
        if isinstance(panel, Line) and panel.across == "@timestamp"
    ]
    assert len(lines) == 3
    for panel in lines:
        drawn = sorted(values_of(in_kibana(written, vega.trend(written.names, panel))))
        wanted = sorted((row["series"], row["value"]) for row in shown[panel.id])
        assert [series for series, _ in drawn] == [series for series, _ in wanted]
        assert len(drawn) == (9 if panel.id == "overview-error" else 2)
        np.testing.assert_allclose([value for _, value in drawn], [value for _, value in wanted], rtol=1e-9)


def test_kibanas_own_searches_for_samples_run_here_too(written: Written) -> None:
    """With Kibana's replacements for its placeholders: no filters, the last 15 minutes."""
    written.write(50, hours_ago(1))
    written.write(1500, unlabelled=True)
    panels_of = [panel for section in sections(written.names) for panel in section.panels if isinstance(panel, Sample)]
    with Client(written.search.url, request_timeout=30) as client:
        for panel in panels_of:
            text = json.dumps(vega.sample(written.names, panel)["data"]["url"]["body"])
            text = re.sub(r'"%dashboard_context-[a-z_]+%",? ?', "", text)
            body = json.loads(text.replace('"%timefilter%": true', '"gte": "now-15m"'))
            first, again = (client.search(index=written.names.pattern("points"), **body)["hits"]["hits"] for _ in "ab")
            assert [hit["_id"] for hit in first] == [hit["_id"] for hit in again]
            points = {(hit["_id"], hit["_source"].get("y"), hit["_source"]["pred"]) for hit in first}
            known = {
                (f"{batch.topic}-{batch.partition}-{offset}", None if np.isnan(y) else y, pred)
                for batch in written.of(str(panel.topic))
                if batch.first_offset
                for offset, (y, pred) in enumerate(
                    zip(batch.y.tolist(), batch.pred.tolist(), strict=True), batch.first_offset
                )
            }
            assert len(points) == SAMPLE
            assert points <= known


@pytest.mark.parametrize("installed", [True, False], ids=["templates", "nothing"])
def test_before_the_first_micro_batch_all_is_empty(search: Elasticsearch, installed: bool) -> None:
    names = Names(FEATURES, "target", f"empty-{installed}".lower())
    with Client(search.url) as client:
        written = Written(names, search) if installed else None
        found = Page(names, client).data(Choice.of({}, names))
    assert written is None or not written.batches
    assert found["state"] == "empty"
    assert found["events"] == []
    assert not any(found["panels"].values())


def test_state_tells_when_the_stream_has_stopped(written: Written) -> None:
    written.write(10, hours_ago(1), lag=77)
    found = data(written)
    assert (found["state"], found["lag"]) == ("stopped", 77)
    assert found["last"].startswith(f"{written.batches[0].time:%Y-%m-%dT%H:%M:%S}")
    written.write(10, now())
    assert data(written)["state"] == "live"
