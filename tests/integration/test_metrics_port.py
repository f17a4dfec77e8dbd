"""The driver serves its metrics while it runs, goes on counting after a restart, and ends as without them."""

from __future__ import annotations

import urllib.request
from collections.abc import Mapping
from contextlib import suppress

import pytest
from prometheus_client.parser import text_string_to_metric_families

from embedded import free_port
from embedded.testing.records import synthetic
from embedded.testing.stream import Stream
from embedded.testing.waiting import wait_until


def scraped(port: int) -> dict[tuple[str, str], float]:
    """The samples by name and role; empty while nobody answers."""
    found: dict[tuple[str, str], float] = {}
    with suppress(OSError), urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=30) as answer:
        for family in text_string_to_metric_families(answer.read().decode()):
            for sample in family.samples:
                name = sample.name.removeprefix("streaming_regression_")
                found[name, sample.labels.get("role", "")] = sample.value
    return found


def test_counters_equal_the_records_across_a_restart_and_sigterm_ends_the_server(stream: Stream) -> None:
    stream.features, stream.label = ("x0", "x1", "x2"), "y"
    stream.create_topics()
    values = [*synthetic(1_500, seed=1), b"{}", b"not JSON"]
    port = free_port()
    for life in (1, 2):
        stream.produce(train=values, test=synthetic(300, seed=2))
        want = {("records_total", "train"): 1_502 * life, ("records_total", "test"): 300 * life}
        want |= {("invalid_records_total", "train"): 2 * life, ("learned_records_total", ""): 1_500 * life}
        with stream.app("--metrics-port", str(port)) as app:

            def missing(want: Mapping[tuple[str, str], float] = want) -> str:
                assert app.process.poll() is None, app.log[-4000:]
                found = scraped(port)
                return "" if found.items() >= want.items() else f"{want} is not in {found}"

            wait_until(missing, 240)
            if life == 2:  # a counter that begins at 0 and then jumps would look like new records
                assert "continuing run" in app.log
            found = scraped(port)
            documents = [document for document in stream.documents("metrics") if document["topic"] == stream.train]
            total = sum(document["sum_squared_error"] for document in documents)
            assert found["squared_error_total", "train"] == pytest.approx(total, rel=1e-9)
            assert found["lag_records", ""] == 0
            assert found["last_success_timestamp_seconds", ""] > 1.7e9
            assert app.terminate(60) == 0, app.log[-4000:]
        assert scraped(port) == {}
