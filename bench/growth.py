"""How speed, memory and state grow.

Our app alone, one thing varied at a time from the base (3 features, 3 partitions a topic, 100,000 rows a micro-batch,
one process): rows a micro-batch, features, partitions, executors as local processes, and the points that Elasticsearch
holds already, which one long run fills up: its memory is followed, too. Then the time to the first point that can be
found, from the start and from the restart after a SIGKILL of driver, Java and workers, with records coming in.
"""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from elasticsearch import Elasticsearch as Client

from bench.harness import Load, clear, machine, new_stream, options, run, save, shown, spread, streaming, whole_flights
from embedded import Elasticsearch, Kafka
from tests.integration.stream import Stream, synthetic
from tests.waiting import wait_until


@dataclass(frozen=True)
class Sizes:
    """What is varied, and over how many records."""

    per_batch: int
    batches: int
    rows: Sequence[int]
    features: Sequence[int]
    partitions: Sequence[int]
    executors: Sequence[int]
    stored: int
    restarts: int


SIZES = {
    "full": Sizes(100_000, 6, [1_000, 10_000, 250_000], [1, 3, 10, 100], [1, 24], [1, 2, 4], 10_000_000, 3),
    "quick": Sizes(40_000, 6, [], [3, 30], [12], [], 400_000, 1),
    "tiny": Sizes(2_000, 6, [500], [3, 10], [4], [1], 30_000, 1),
}


@dataclass(frozen=True)
class Bench:
    """The servers, and a folder."""

    broker: Kafka
    search: Elasticsearch
    folder: Path

    def stream(self, name: str, values: Sequence[bytes], **changes: Any) -> Stream:  # noqa: ANN401
        """Return a new stream whose topics hold the values."""
        return new_stream(name, self.broker, self.search, self.folder, values, **changes)

    def point(self, stream: Stream, per_batch: int, master: str = "") -> dict[str, Any]:
        """Return speed, stages, memory and the size of the model's state of one run of the app."""
        found = run(stream, "--max-offsets-per-trigger", str(per_batch), master=master)
        result = found.steady(sum(event["rows"] for event in found.events[:3]))
        states = sorted((stream.folder / "checkpoint" / "model").glob("*.json"))
        result["state_bytes"] = states[-1].stat().st_size
        clear(stream)
        memory = result["memory_mb"]["end"]
        print(
            f"{stream.name}: {result['records_per_second']:,.0f} records/s, state {result['state_bytes']:,} bytes, "
            + ", ".join(f"{role} {memory[role]:.0f} MB" for role in ("driver Python", "Java", "Python workers")),
            flush=True,
        )
        return result


def varied(bench: Bench, size: Sizes) -> dict[str, dict[int, dict[str, Any]]]:
    """Return the app's runs by what was varied and its value; the base stands in each."""
    flights = whole_flights(size.per_batch * size.batches)
    base = bench.point(bench.stream("base", flights), size.per_batch)
    found: dict[str, dict[int, dict[str, Any]]] = {
        "rows": {size.per_batch: base},
        "partitions": {3: base},
        "executors": {0: base},
        "features": {},
    }
    for rows in size.rows:
        batches = 30 if rows <= 10_000 else 5
        values = whole_flights(rows * batches)
        found["rows"][rows] = bench.point(bench.stream(f"rows-{rows}", values), rows)
    for partitions in size.partitions:
        stream = bench.stream(f"partitions-{partitions}", flights, partitions=partitions)
        found["partitions"][partitions] = bench.point(stream, size.per_batch)
    for executors in size.executors:
        master = f"local-cluster[{executors},1,1024]"
        stream = bench.stream(f"executors-{executors}", flights)
        found["executors"][executors] = bench.point(stream, size.per_batch, master)
    for features in size.features:
        # Each row comes several times: to make 100 numbers a row takes longer than to process them.
        values = synthetic(size.per_batch // 5, 1, features) * size.batches
        names = [f"x{index}" for index in range(features)]
        stream = bench.stream(f"features-{features}", values, features=names, label="y")
        found["features"][features] = bench.point(stream, size.per_batch // 5)
    return found


def stored(bench: Bench, size: Sizes) -> list[dict[str, Any]]:
    """Return speed and memory by points that Elasticsearch holds, in ten steps of one run."""
    stream = bench.stream("stored", whole_flights(size.stored))
    found = run(stream, "--max-offsets-per-trigger", str(size.per_batch), timeout_s=1200)
    rows = np.cumsum([event["rows"] for event in found.events])
    times = [event["at"] for event in found.events]
    end = max(i for i, event in enumerate(found.events) if event["rows"] > size.per_batch / 2)  # then they run dry
    edges = np.unique(np.linspace(2, end, 11).astype(int)).tolist()  # the first micro-batches warm up
    steps = []
    for first, last in pairwise(edges):
        rate = float(rows[last] - rows[first]) / (times[last] - times[first])
        memory = found.usage.memory(times[last])
        steps.append({"points": int(rows[last]), "records_per_second": rate, "memory_mb": memory})
        print(f"{rows[last]:,} points: {rate:,.0f} records/s, Java {memory.get('Java', 0):.0f} MB", flush=True)
    clear(stream)
    return steps


def restarts(bench: Bench, size: Sizes) -> dict[str, Any]:
    """Return seconds to the first new point that can be found: from the start, and from restarts after SIGKILL."""
    stream = bench.stream("restarts", [])
    values = whole_flights(1_000)
    times: list[float] = []
    with Client(bench.search.url, request_timeout=60) as client, Load(stream, values) as load:
        load.rate = 1_000.0

        def points() -> int:
            quiet = client.options(ignore_status=[404, 503])  # an index that is being made
            return int(quiet.count(index=f"{stream.prefix}-points-*").get("count", 0))

        def none_above(known: int) -> str:
            return "" if points() > known else f"no point beyond the {known} known"

        for number in range(size.restarts + 1):
            client.indices.refresh(index=f"{stream.prefix}-points-*")
            known, start = points(), time.time()
            with streaming(stream) as app:
                wait_until(partial(none_above, known), 120, poll_s=0.05)
                times.append(time.time() - start)
                print(f"start {number}: first new point after {times[-1]:.1f} s", flush=True)
                wait_until(partial(none_above, known + 5_000), 120)
                os.killpg(app.process.pid, signal.SIGKILL)
    return {"start_s": times[0], "restart_s": spread(times[1:])}


def main() -> None:
    given = options(__doc__)
    size = SIZES[given.size]
    results: dict[str, Any] = {"machine": machine()}
    print("machine", json.dumps(results["machine"]), flush=True)
    with Kafka() as broker, Elasticsearch() as search, tempfile.TemporaryDirectory() as folder:
        bench = Bench(broker, search, Path(folder))
        results["restarts"] = restarts(bench, size)
        print(f"restart: {shown(results['restarts']['restart_s'], '.1f')} s")
        results["varied"] = varied(bench, size)
        results["stored"] = stored(bench, size)
    save(given.results, "growth", results)


if __name__ == "__main__":
    main()
