"""How long it takes until a record can be found.

From the call that sends a record to Kafka until a search in Elasticsearch finds its point, as a dashboard would that
refreshes all the time: some 50 records a second are followed, with a search for those not yet found every 50 ms. Index
settings are the defaults (refreshed once a second). Each program runs alone, first to warm up, then at each rate;
after the fixed rates it doubles until the program falls behind, and one rate between is tried: the highest that it kept
up with is the highest sustainable. Ours and MLlib's begin a micro-batch as soon as the one before has ended.
"""

from __future__ import annotations

import json
import statistics
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from elasticsearch import ApiError
from elasticsearch import Elasticsearch as Client

from bench.harness import (
    MLLIB,
    OURS,
    RIVER,
    Load,
    events,
    machine,
    new_stream,
    options,
    save,
    spread,
    streaming,
    whole_flights,
)
from embedded import Elasticsearch, Kafka
from tests.integration.stream import App, Stream

PROGRAMS = {"ours": OURS, "river": RIVER, "mllib": MLLIB}
PROBES_PER_SECOND = 50
KEPT_UP_S = 5.0  # a program keeps up with a rate if at its end no record is older than this and not found
Size = tuple[list[int], int, float, int, float]
# Rates, the highest rate to try, seconds to warm up, windows a rate, seconds a window.
SIZES: dict[str, Size] = {
    "full": ([100, 1_000, 5_000], 60_000, 10, 3, 4),
    "quick": ([5_000], 5_000, 6, 2, 4),
    "tiny": ([100, 300], 400, 5, 2, 3),
}


def watch(load: Load, client: Client, index: str, seconds: float) -> list[tuple[float, float]]:
    """Return when a record was sent and how long it then took, of those that were found in so many seconds from now."""
    found: list[tuple[float, float]] = []
    end = time.time() + seconds
    while time.time() < end:
        oldest = list(load.probes)[:1000]
        try:
            answer = client.search(index=index, query={"ids": {"values": oldest}}, size=1000, source=False)
            hits = answer["hits"]["hits"]
        except ApiError as error:
            if error.status_code not in {404, 503}:  # no index yet, or a new one
                raise
            hits = []
        now = time.time()
        for hit in hits:
            sent = load.probes.pop(hit["_id"])
            found.append((sent, now - sent))
        time.sleep(0.05)
    return found


def behind(load: Load) -> float:
    """Return the age, in seconds, of the oldest record that was not found yet."""
    return time.time() - min(load.probes.copy().values(), default=time.time())


def catch_up(load: Load, client: Client, index: str, seconds: float) -> None:
    """Wait so many seconds, then until the program has caught up with what was sent."""
    watch(load, client, index, seconds)
    deadline = time.time() + 60
    while behind(load) > KEPT_UP_S / 2 and time.time() < deadline:
        watch(load, client, index, 1)


def at_rate(load: Load, client: Client, index: str, rate: float, windows: int, seconds: float) -> dict[str, Any] | None:
    """Return the latencies at a rate, with their range over windows; None if the program cannot keep up."""
    load.rate = rate
    start = time.time()
    found = watch(load, client, index, windows * seconds + 1)
    end = start + windows * seconds
    if (late := behind(load)) > KEPT_UP_S:
        print(f"{rate:,.0f} records/s are too many: {late:.1f} s behind after {end - start:.0f} s", flush=True)
        return None
    found += watch(load, client, index, 2.5)  # the last ones sent within the time
    edges = [start + n * seconds for n in range(windows + 1)]
    by_window = [[wait for sent, wait in found if low <= sent < high] for low, high in pairwise(edges)]
    if not all(by_window):
        return None
    every = [wait for sent, wait in found if start <= sent < end]
    return {
        "rate": rate,
        "followed": len(every),
        "p50": spread(float(np.percentile(window, 50)) for window in by_window),
        "p99": spread(float(np.percentile(window, 99)) for window in by_window),
        "max": max(every),
    }


def measure(program: str, stream: Stream, app: App, size: Size) -> list[dict[str, Any]]:
    """Return latencies of a running program, rate by rate."""
    rates, highest, warm_up, windows, seconds = size
    found: list[dict[str, Any]] = []
    index = f"{stream.prefix}-points-*"
    with (
        Client(stream.search.url, request_timeout=60) as client,
        Load(stream, whole_flights(300_000), PROBES_PER_SECOND) as load,
    ):
        load.rate = rates[0]
        deadline = time.time() + 120
        while not watch(load, client, index, 1):
            assert time.time() < deadline, f"no point of {program} was found:\n{app.log[-4000:]}"
        load.rate = float(min(1_000, rates[-1]))
        catch_up(load, client, index, warm_up)
        rate, failed = float(rates[0]), False
        while rate <= highest:
            many = (windows, seconds) if rate in rates else (1, 1.5 * seconds)
            start = time.time()
            one = at_rate(load, client, index, rate, *many)
            assert app.process.poll() is None, app.log[-4000:]
            if one is None:
                load.rate = 0.0
                catch_up(load, client, index, 0)
                if failed or not found:
                    break
                failed, rate = True, (found[-1]["rate"] * rate) ** 0.5
                continue
            batches = [event for event in events(app.log) if event["at"] > start and "seconds" in event]
            if batches:  # ours tells how long its micro-batches took
                one["batch_s"] = statistics.median(event["seconds"] for event in batches)
            found.append(one)
            p50, p99 = (one[q]["median"] for q in ("p50", "p99"))
            print(
                f"{program}: {rate:7,.0f} records/s: p50 {p50:.2f} s, p99 {p99:.2f} s, max {one['max']:.2f} s",
                flush=True,
            )
            if failed:
                break
            rate = next((float(fixed) for fixed in rates if fixed > rate), rate * 2)
    return found


def main() -> None:
    given = options(__doc__)
    results: dict[str, Any] = {"machine": machine(), "programs": {}}
    print("machine", json.dumps(results["machine"]), flush=True)
    with Kafka() as broker, Elasticsearch() as search, tempfile.TemporaryDirectory() as folder:
        for program, command in PROGRAMS.items():
            stream = new_stream(f"latency-{program}", broker, search, Path(folder))
            with streaming(stream, program=command) as app:
                results["programs"][program] = measure(program, stream, app, SIZES[given.size])
    save(given.results, "latency", results)


if __name__ == "__main__":
    main()
