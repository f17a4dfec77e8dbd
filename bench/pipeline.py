"""How many records a second get from Kafka to acknowledged in Elasticsearch.

The same flights, servers and mappings for all, everything on this one machine, round by round in turn:
  raw        prebuilt bulk bodies of the same documents, from as many clients as do best: Elasticsearch's own limit
  ours       the app, 100,000 records a micro-batch, and where its time goes
  river      bench/river_app.py in one process, and river x2 in two
  mllib      bench/mllib_app.py, the straightforward port of the proof of concept
After each run all records must be there once, as the points that they should be; else nothing is reported. Then the
time of a micro-batch of 6 records. CPU seconds and memory are those of all processes, servers included.
"""

from __future__ import annotations

import json
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from elasticsearch import Elasticsearch as Client

from bench import harness
from bench.harness import MLLIB, RIVER, Run, Usage, assert_right, clear, new_stream, run, shown, spread, whole_flights
from embedded import Elasticsearch, Kafka
from streaming_regression.decode import Fields, decode
from streaming_regression.documents import Origin, Points, Records, points
from tests.integration.stream import FLIGHT_FIELDS, Stream

PER_BATCH = 100_000
BODY = 10_000  # documents a request, as the app's
# Records of ours and raw, and of the others; rounds; micro-batches of 6 records.
SIZES = {"full": (800_000, 400_000, 3, 60), "quick": (300_000, 100_000, 1, 10), "tiny": (60_000, 20_000, 1, 8)}


def bodies(values: Sequence[bytes]) -> list[bytes]:
    """Return the app's documents of records, as bulk requests without an index."""
    fields = Fields(FLIGHT_FIELDS[:-1], FLIGHT_FIELDS[-1])
    origin = Origin.at(int(time.time() * 1e6), "raw", 0, "raw")
    found = []
    for start in range(0, len(values), BODY):
        part = decode(values[start : start + BODY], fields, label_needed=True)
        count = len(part.y)
        times = np.full(count, np.datetime64(int(time.time() * 1000), "ms"))
        records = Records("pipeline-train", 0, np.arange(start, start + count), times, [])
        lines = points(origin, fields, records, Points(np.arange(count), part.x, part.y, part.x @ [1.02, -0.09, 0.7]))
        found.append("".join(lines).encode())
    return found


def push(stream: Stream, requests: Sequence[bytes], clients: int) -> Run:
    """Send prebuilt bodies from so many clients."""
    harness.install_templates(stream)
    index = f"{stream.prefix}-points-raw"
    events: list[dict[str, Any]] = []
    with Client(stream.search.url, request_timeout=60) as client, ThreadPoolExecutor(clients) as pool:

        def send(body: bytes) -> None:
            assert not client.bulk(index=index, operations=body, filter_path="errors")["errors"]  # type: ignore[arg-type]
            events.append({"at": time.time(), "rows": BODY})

        with Usage(stream.broker, stream.search) as usage:
            list(pool.map(send, requests))
            time.sleep(0.6)
        client.indices.refresh(index=index)
        assert client.count(index=index)["count"] == BODY * len(requests)
    return Run(sorted(events, key=lambda event: float(event["at"])), usage)


def small_batches(broker: Kafka, search: Elasticsearch, folder: Path, values: Sequence[bytes]) -> dict[str, Any]:
    """Return the steady run of micro-batches of 6 records."""
    (folder / "small").mkdir()
    stream = Stream("small", broker, search, folder / "small")
    stream.create_topics()
    stream.produce(train=values[::2], test=values[1::2])
    return run(stream, "--max-offsets-per-trigger", "6").steady(18)


def main() -> None:
    given = harness.options(__doc__)
    many, few, rounds, batches = SIZES[given.size]
    print("machine", json.dumps(about := harness.machine()), flush=True)
    values = whole_flights(many)
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    with Kafka() as broker, Elasticsearch() as search, tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        long, short = (new_stream(f"pipeline-{n}", broker, search, folder, values[:n]) for n in (many, few))
        requests = bodies(values)
        push(warm := long.again("warm"), requests, 2)
        clear(warm)
        rates = {}
        for clients in (1, 2, 3, 4, 6):
            trial = long.again(f"trial-{clients}")
            tried = push(trial, requests[: max(6, len(requests) // 4)], clients).steady(BODY)
            rates[clients] = tried["records_per_second"]
            clear(trial)
        best = max(rates, key=lambda clients: rates[clients])
        print("raw, by clients:", {clients: f"{rate:,.0f}" for clients, rate in rates.items()}, flush=True)
        per_batch = ("--max-offsets-per-trigger", str(min(PER_BATCH, few // 4)))

        def raw(stream: Stream) -> Run:
            return push(stream, requests, best)

        def ours(stream: Stream) -> Run:
            return run(stream, *per_batch)

        def river(stream: Stream) -> Run:
            return run(stream, program=RIVER)

        def river_twice(stream: Stream) -> Run:
            return run(stream, program=RIVER, processes=2)

        def mllib(stream: Stream) -> Run:
            return run(stream, *per_batch, program=MLLIB)

        programs = {
            "raw": (raw, long, 3 * BODY),
            "ours": (ours, long, many // 3),
            "river": (river, short, few // 10),
            "river x2": (river_twice, short, few // 5),
            "mllib": (mllib, short, few * 3 // 8),
        }
        for number in range(rounds):
            for program, (measure, stream, warm_up) in programs.items():
                one = stream.again(f"{program.replace(' ', '-')}-{number}")
                result = measure(one).steady(warm_up)
                if program != "raw":
                    assert_right(one, seed=number)
                clear(one)
                found[program].append(result)
                rate, cpu = result["records_per_second"], sum(result["cpu_s_per_million"].values())
                print(f"{number + 1}: {program:<9} {rate:8,.0f} records/s, {cpu:6.1f} CPU s a million", flush=True)
        small = small_batches(broker, search, folder, values[: batches * 6])
    results: dict[str, Any] = {"machine": about, "raw_by_clients": rates, "small": small, "programs": {}}
    for program, every in found.items():
        rate = spread(result["records_per_second"] for result in every)
        results["programs"][program] = {**every[-1], "records_per_second": rate}
    report(results)
    harness.save(given.results, "pipeline", results)


def report(results: dict[str, Any]) -> None:
    """Print the figures of each program, and where ours spends its time."""
    programs, small = results["programs"], results["small"]
    ours = programs["ours"]
    for name, one in programs.items():
        ratio = ours["records_per_second"]["median"] / one["records_per_second"]["median"]
        cpu = ", ".join(f"{role} {seconds:.1f}" for role, seconds in one["cpu_s_per_million"].items())
        print(f"{name:<9} {shown(one['records_per_second'])} records/s, ours {ratio:.2f} times that; CPU s: {cpu}")
    print("ours: of the time of all cores goes to:")
    for stage, share in ours["shares"].items():
        print(f"  {stage:<12} {share:6.1%}")
    print(f"a micro-batch of 6 records takes {shown(small['seconds_per_batch'], '.3f')} s")
    for name, part in (("large", ours), ("small", small)):
        for role, end in part["memory_mb"]["end"].items():
            middle = part["memory_mb"]["middle"].get(role, 0)
            print(f"{name}: {role} {middle:.0f} MB in the middle, {end:.0f} MB at the end")


if __name__ == "__main__":
    main()
