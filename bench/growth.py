"""Measures how speed, memory and state of the app grow.

1. Time to the first point that a search finds, while records arrive: after the start of a new run, and after the
   restart that follows a SIGKILL of driver, Java and workers.
2. Speed while a single quantity differs from the base (3 features, 3 partitions a topic, 100,000 rows a micro-batch,
   one process): rows a micro-batch, features, partitions (several rounds in turn), executors as local processes.
3. Speed and memory of a long run with 200,000 rows a micro-batch, while the number of points in Elasticsearch grows.
   Another run over the same topics stores one percent of the points.

A refresh of the live page (`Page.data`, all sections, all data) is timed after the base's run and after the long run.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import psutil
from elasticsearch import Elasticsearch as Client

from bench import harness, measurements
from bench.harness import Load, New, Run, clear, run, streaming, whole_flights
from bench.measurements import shown, spread
from dashboards.page import Choice, Page
from dashboards.panels import Names
from embedded.testing.records import synthetic
from embedded.testing.stream import Stream
from embedded.testing.waiting import wait_until


@dataclass(frozen=True)
class Sizes:
    """The quantities that vary, and the numbers of records. Runs with other features have smaller micro-batches."""

    per_batch: int
    batches: int
    rows: Sequence[int]
    partitions: Sequence[int]
    rounds: int  # of the runs with other partitions
    executors: Sequence[int]
    features: Sequence[int]
    with_features: int
    stored: tuple[int, int]  # points, rows a micro-batch
    starts: int  # number of new runs, and of restarts
    sampled: bool = True  # also a run that stores one percent of the points


SIZES = {
    "full": Sizes(
        100_000, 5, [1_000, 10_000, 200_000], [1, 24], 3, [1, 2], [1, 10, 100], 10_000, (6_000_000, 200_000), 3
    ),
    "quick": Sizes(40_000, 6, [], [], 0, [], [3, 30], 10_000, (300_000, 40_000), 1, sampled=False),
    "tiny": Sizes(2_000, 6, [500], [1, 4], 2, [1], [3, 10], 400, (30_000, 2_000), 1),
}


def point(stream: Stream, varied: str, value: int, per_batch: int, master: str = "") -> dict[str, Any]:
    """Return speed, stages, memory and the size of the model's state of one run of the app."""
    found = run(stream, "--max-offsets-per-trigger", str(per_batch), master=master)
    states = sorted((stream.folder / "checkpoint" / "model").glob("*.json"))
    result: dict[str, Any] = {
        "varied": varied,
        "value": value,
        "rows": per_batch,
        "state_bytes": states[-1].stat().st_size,
    }
    result |= found.steady(per_batch)
    if varied == "base":
        result["refresh_ms"] = refresh(stream)
    clear(stream)
    print(f"{varied} {value:,}: {result['records_per_second']:,.0f} records/s", flush=True)
    return result


def varied(new: New, size: Sizes) -> list[dict[str, Any]]:
    """Return the app's runs, the base first."""
    flights = whole_flights(size.per_batch * size.batches)
    base = new("base", flights)
    found = [point(base, "base", 0, size.per_batch)]
    found += [point(new(f"rows-{n}", whole_flights(min(20 * n, 1_000_000))), "rows", n, n) for n in size.rows]
    streams = {n: new(f"partitions-{n}", flights, partitions=n) for n in size.partitions}
    for number in range(size.rounds):
        found += [point(split.again(str(number)), "partitions", n, size.per_batch) for n, split in streams.items()]
    for executors in size.executors:
        stream, master = base.again(f"executors-{executors}"), f"local-cluster[{executors},1,1024]"
        found.append(point(stream, "executors", executors, size.per_batch, master))
    for features in size.features:
        # Each row is sent 8 times: making 100 numbers for a row takes longer than processing them.
        values = synthetic(size.with_features, 1, features) * 8
        names = [f"x{index}" for index in range(features)]
        stream = new(f"features-{features}", values, features=names, label="y")
        found.append(point(stream, "features", features, size.with_features))
    return found


def refresh(stream: Stream) -> dict[str, Any]:
    """Return the live page's time for a full refresh, after checking its MSE against all metrics documents."""
    names = Names(tuple(stream.features), stream.label, stream.prefix, stream.train, stream.test)
    train = [document for document in stream.documents("metrics") if document["topic"] == stream.train]
    errors, rows = np.sum([(document["sum_squared_error"], document["labelled"]) for document in train], axis=0)
    times = []
    with Client(stream.search.url, request_timeout=60) as client:
        client.indices.refresh(index=f"{stream.prefix}-*")
        page, choice = Page(names, client), Choice.of({}, names)
        np.testing.assert_allclose(page.data(choice)["panels"]["train-mse"], errors / rows, rtol=1e-9)
        for _ in range(25):
            start = time.perf_counter()
            page.data(choice)
            times.append((time.perf_counter() - start) * 1000)
    return spread(times[5:])


def in_steps(found: Run, size: Sizes) -> dict[str, Any]:
    """Return speed and memory in ten steps of one long run after its warm-up."""
    points, per_batch = size.stored
    rows = np.cumsum([event["rows"] for event in found.events])
    times = [event["at"] for event in found.events]
    first = int(np.searchsorted(rows, max(points // 20, 2 * per_batch)))
    end = max(i for i, event in enumerate(found.events) if event["rows"] > per_batch / 2)  # later ones are small
    steps = []
    for low, high in pairwise(np.unique(np.linspace(first, end, 11).astype(int)).tolist()):
        rate, memory = float(rows[high] - rows[low]) / (times[high] - times[low]), found.usage.memory(times[high])
        steps.append({"points": int(rows[high]), "records_per_second": rate, "memory_mb": memory})
        print(f"{rows[high]:,} records: {rate:,.0f} records/s, Java {memory.get('Java', 0):.0f} MB", flush=True)
    return {"warm_up": int(rows[first]), "steps": steps}


def stored(new: New, size: Sizes) -> dict[str, Any]:
    """Return speed and memory of a long run that stores all points, and of a run that stores one percent of them."""
    points, per_batch = size.stored
    flags = ("--max-offsets-per-trigger", str(per_batch))
    stream = new("stored", whole_flights(points))
    results = {}
    if size.sampled:
        sampled = stream.again("sampled")
        found = run(sampled, *flags, "--points-fraction", "0.01", timeout_s=1200)
        counted = sum(document["rows"] for document in sampled.documents("metrics"))
        assert counted == points, f"{counted} records counted of {points}"
        assert abs(sampled.count("points") - points / 100) < points**0.5, "stored points are not 1 % of the records"
        clear(sampled)
        results["sampled"] = in_steps(found, size)
    results["stored"] = in_steps(run(stream, *flags, timeout_s=1200), size) | {"refresh_ms": refresh(stream)}
    clear(stream)
    return results


def restarts(new: New, size: Sizes) -> dict[str, Any]:
    """Return the seconds until a search finds the first new point: after starts of new runs, and after SIGKILL."""
    first = new("restarts")
    runs = [first.again(f"start-{number}") for number in range(size.starts)]
    times: list[float] = []
    with Client(first.search.url, request_timeout=60) as client, Load(first, whole_flights(1_000)) as load:
        load.rate = 1_000.0

        def none_above(stream: Stream, known: int) -> str:
            quiet = client.options(ignore_status=[404, 503])  # the index is being created
            points = int(quiet.count(index=f"{stream.prefix}-points-*").get("count", 0))
            return "" if points > known else f"no point beyond the {known} known"

        for stream in [*runs, *[runs[-1]] * size.starts]:
            known = -1
            while known != (known := stream.count("points")):  # wait for requests of the killed app
                time.sleep(1)
            start = time.time()
            with streaming(stream) as app:
                wait_until(partial(none_above, stream, known), 120, poll_s=0.05)
                times.append(time.time() - start)
                print(f"{stream.prefix}: first new point after {times[-1]:.1f} s", flush=True)
                wait_until(partial(none_above, stream, known + 5_000), 120)
                me = psutil.Process(app.process.pid)
                for process in [me, *me.children(recursive=True)]:  # Python workers have their own group
                    with contextlib.suppress(psutil.NoSuchProcess):
                        process.kill()
    return {"start_s": spread(times[: size.starts]), "restart_s": spread(times[size.starts :])}


def main() -> None:
    with measurements.results("growth", __doc__) as (given, _, found), harness.servers() as new:
        size = SIZES[given]
        found["restarts"] = restarts(new, size)
        print(f"start, restart: {', '.join(map(shown, found['restarts'].values()))} s", flush=True)
        found["varied"] = varied(new, size)
        found.update(stored(new, size))


if __name__ == "__main__":
    main()
