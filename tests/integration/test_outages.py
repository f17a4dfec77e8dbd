"""Servers that are stopped for a while, up to a minute, while the stream runs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from embedded import Elasticsearch, Kafka
from embedded.testing.records import synthetic
from embedded.testing.stream import App, Stream
from embedded.testing.waiting import wait_until
from tests.integration.exactly_once import check_exactly_once
from tests.slow import slow_except


@pytest.fixture
def own_stream(tmp_path: Path) -> Iterator[Stream]:
    """A stream with its own servers."""
    with Kafka() as broker, Elasticsearch() as search:
        stream = Stream("outage", broker, search, tmp_path, ("x0", "x1", "x2"), "y")
        stream.create_topics()
        yield stream


@contextmanager
def producing(stream: Stream, rate: int) -> Iterator[None]:
    """Produce about `rate` records a second in the block; records for a stopped broker are sent when it is back."""
    end = threading.Event()

    def produce() -> None:
        seed = 0
        while not end.wait(0.5):
            values = synthetic(rate // 2, seed)
            stream.produce(train=values[: len(values) // 2], test=values[len(values) // 2 :])
            seed += 1

    thread = threading.Thread(target=produce)
    thread.start()
    try:
        yield
    finally:
        end.set()
        thread.join()


def wait_for_all(stream: Stream, app: App) -> None:
    """Wait until all records are points."""

    def missing() -> str:
        assert app.process.poll() is None, f"the app ended:\n{app.log[-4000:]}"
        have, want = stream.count("points"), len(stream.places())
        return "" if have == want else f"{have} of {want} points; the log ends:\n{app.log[-2000:]}"

    wait_until(missing, 120, poll_s=1)


@pytest.mark.parametrize(
    ("server", "seconds"), slow_except([("search", 10)], [("search", 10), ("search", 60), ("broker", 60)])
)
def test_a_server_that_is_away_is_waited_for(own_stream: Stream, server: str, seconds: int) -> None:
    stream = own_stream
    with stream.app() as app:
        with producing(stream, rate=1000):
            app.wait_for("INFO batch 1:")
            away = getattr(stream, server)
            away.stop()
            time.sleep(seconds)  # the outage itself, not a wait for a condition
            assert app.process.poll() is None, f"the app ended:\n{app.log[-4000:]}"
            away.start()
            before = app.log.count("INFO batch")
            wait_until(lambda: "" if app.log.count("INFO batch") > before + 2 else f"no more:\n{app.log[-2000:]}", 120)
        wait_for_all(stream, app)
        assert app.terminate(30) == 0
    assert "Traceback" not in app.log
    check_exactly_once(stream)
    want = stream.lstsq()
    assert np.linalg.norm(stream.weights() - want) <= 1e-9 * np.linalg.norm(want)


@pytest.mark.slow
def test_elasticsearch_killed_under_load_loses_nothing_that_it_acknowledged(own_stream: Stream) -> None:
    stream = own_stream
    values = synthetic(60_000, seed=8)
    stream.produce(train=values[:40_000], test=values[40_000:])
    with stream.app("--max-offsets-per-trigger", "4000") as app:
        for batch in (2, 6):
            app.wait_for(f"INFO batch {batch}:")
            stream.search.kill()
            stream.search.start()
        wait_for_all(stream, app)
        assert app.terminate(30) == 0
    check_exactly_once(stream)
