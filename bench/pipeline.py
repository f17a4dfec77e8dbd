"""Measures how many records a second get from Kafka to acknowledged in Elasticsearch.

All programs use the same flights, servers and mappings. Everything runs on this machine, in turn, for several rounds:
  raw        bulk bodies of the same documents, made in advance, from the best number of clients: Elasticsearch's limit
  ours       the app with its default, 200,000 records a micro-batch, and the time that each stage takes
  river      bench/river_app.py in one process, and river x2 in two, with the best number of threads and size of chunks
  mllib      bench/mllib_app.py, the straightforward port of the proof of concept, 80,000 a micro-batch; one round
Results are reported only if, after each run, every record is a correct point exactly once, and our weights are those of
least squares. A new run of ours begins with small micro-batches, so only micro-batches of full size count. The last
measurements are the time of a micro-batch of 6 records, and the CPU time that one thread needs to decode a record in
each form. CPU seconds and memory include all processes and the servers.
"""

from __future__ import annotations

import time
import uuid
from collections import defaultdict
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from elasticsearch import Elasticsearch as Client

from bench import decoding, harness, measurements
from bench.harness import MLLIB, RIVER, Run, Usage, assert_right, clear, run, whole_flights
from bench.measurements import shown, spread
from embedded.testing.stream import Stream
from streaming_regression.documents import Origin, Points, Records, points
from streaming_regression.records import Fields, decode

BODY = 5_000  # documents in a part of a bulk request; the app sends 10,000 in a request
PARTITIONS = 4  # an even number, for two processes
CHOSEN = {"raw": f"2 {2 * BODY}", "river": "2 5000"}  # clients or threads, and documents a request; used without tuning


@dataclass(frozen=True)
class Sizes:
    """Numbers of records of ours and raw, of River, and of MLlib (0: not run), which warms up for a third of them."""

    ours: int
    river: int
    mllib: int
    per_batch: int
    warm_up: int
    tuning: int  # records for each setting of raw and River
    rounds: int
    small: int  # micro-batches of 6 records


SIZES = {
    "full": Sizes(1_200_000, 200_000, 240_000, 200_000, 200_000, 100_000, 3, 40),
    "quick": Sizes(240_000, 60_000, 0, 40_000, 80_000, 0, 1, 0),
    "tiny": Sizes(60_000, 30_000, 40_000, 10_000, 20_000, 30_000, 2, 8),
}


def bodies(stream: Stream) -> list[bytes]:
    """Return all points of a stream in the app's bulk format, at most BODY points in each text."""
    fields = Fields(tuple(stream.features), stream.label)
    now = int(time.time() * 1000)
    origin = Origin.at(now * 1000, str(uuid.uuid4()), 0, stream.prefix)
    found = []
    for topic, values in stream.produced.items():
        for partition in range(stream.partitions):
            mine = values[partition :: stream.partitions]
            for start in range(0, len(mine), BODY):
                part = decode(mine[start : start + BODY], fields, label_needed=True)
                offsets = np.arange(start, start + len(part.y))
                records = Records(topic, partition, offsets, now + offsets // 10, [])
                pred = part.x @ [1.02, -0.09, 0.7]
                lines = points(origin, fields, records, Points(offsets - start, part.x, part.y, pred))
                found.append("".join(lines).encode())
    np.random.default_rng(0).shuffle(found)  # the app's tasks also alternate between partitions
    return found


def push(stream: Stream, parts: Sequence[bytes], clients: int, at_once: int) -> Run:
    """Send bodies from `clients` threads, with `at_once` parts in each request."""
    harness.install_templates(stream)
    events: list[dict[str, Any]] = []
    requests = [b"".join(parts[start : start + at_once]) for start in range(0, len(parts), at_once)]
    with Client(stream.search.url, request_timeout=60) as client, ThreadPoolExecutor(clients) as pool:

        def send(body: bytes) -> None:
            index = f"{stream.prefix}-points-raw"
            assert not client.bulk(index=index, operations=body, filter_path="errors")["errors"]  # type: ignore[arg-type]
            events.append({"at": time.time(), "rows": body.count(b"\n") // 2})

        with Usage(stream.broker, stream.search) as usage:
            list(pool.map(send, requests))
            time.sleep(0.6)
    assert stream.count("points") == sum(event["rows"] for event in events)
    return Run(sorted(events, key=lambda event: float(event["at"])), usage)


def river_flags(setting: str) -> tuple[str, ...]:
    """Return the flags of bench/river_app.py for `setting`: threads and documents a request."""
    threads, chunk = setting.split()
    return ("--threads", threads, "--chunk", chunk)


def with_parts(parts: Sequence[bytes], clients: int, at_once: int) -> Callable[[Stream], Run]:
    return lambda stream: push(stream, parts, clients, at_once)


def with_river(flags: Sequence[str]) -> Callable[[Stream], Run]:
    return lambda stream: run(stream, *flags, program=RIVER)


def best(name: str, stream: Stream, choices: dict[str, Callable[[Stream], Run]]) -> tuple[str, dict[str, float]]:
    """Return the fastest setting, and the rate of each setting; the first tenth of the records does not count."""
    rates = {}
    for number, (setting, measure) in enumerate(choices.items()):
        repeated = stream.again(f"{name}-{number}")
        rates[setting] = measure(repeated).steady(sum(map(len, stream.produced.values())) // 10)["records_per_second"]
        clear(repeated)
    print(f"{name}, records/s by setting:", {setting: f"{rate:,.0f}" for setting, rate in rates.items()}, flush=True)
    return max(rates, key=lambda setting: rates[setting]), rates


def main() -> None:
    with measurements.results("pipeline", __doc__) as (given, _, results), harness.servers() as new:
        size = SIZES[given]
        results |= {"per_batch": size.per_batch, "warm_up": size.warm_up}

        def stream(name: str, records: int) -> Stream:
            return new(f"pipeline-{name}", whole_flights(records), partitions=PARTITIONS)

        streams = {n: stream(str(n), n) for n in {size.ours, size.river, size.mllib} - {0}}
        parts = bodies(streams[size.ours])
        push(warm := streams[size.ours].again("warm"), parts, 2, 2)
        clear(warm)
        raw = {f"{n} {b * BODY}": (n, b) for n in (2, 4) for b in (1, 2)}  # clients, documents a request
        river = {key: river_flags(key) for key in (f"{n} {b}" for n in (2, 4) for b in (500, 5_000))}
        chosen = dict(CHOSEN)
        if size.tuning:
            some = parts[: 2 * size.tuning // BODY]
            few = stream("tuning", size.tuning)
            for name, choices in {
                "raw": {key: with_parts(some, *at) for key, at in raw.items()},
                "river": {key: with_river(flags) for key, flags in river.items()},
            }.items():
                chosen[name], results[f"{name}_by_setting"] = best(name, few, choices)
        results["chosen"] = chosen
        flags, per_batch = river_flags(chosen["river"]), ("--max-offsets-per-trigger", str(size.per_batch))
        third = ("--max-offsets-per-trigger", str(size.mllib // 3))
        rounds = size.rounds
        programs: dict[str, tuple[int, int, int, Callable[[Stream], Run]]] = {
            "raw": (rounds, size.ours, size.ours // 10, lambda stream: push(stream, parts, *raw[chosen["raw"]])),
            "ours": (rounds, size.ours, size.warm_up, lambda stream: run(stream, *per_batch)),
            "river": (rounds, size.river, 10_000, lambda stream: run(stream, *flags, program=RIVER)),
            "river x2": (rounds, size.river, 10_000, lambda stream: run(stream, *flags, program=RIVER, processes=2)),
            "mllib": (1, size.mllib, size.mllib // 4, lambda stream: run(stream, *third, program=MLLIB)),
        }
        found: dict[str, list[dict[str, Any]]] = defaultdict(list)
        for number in range(rounds):
            for program, (times, records, warm_up, measure) in programs.items():
                if not records or number >= times:
                    continue
                repeated = streams[records].again(f"{program.replace(' ', '-')}-{number}")
                result = measure(repeated).steady(warm_up)
                if program != "raw":
                    assert_right(repeated, seed=number)
                if program == "ours":
                    np.testing.assert_allclose(repeated.weights(), repeated.lstsq(), rtol=1e-9)
                clear(repeated)
                found[program].append(result)
                rate, cpu = result["records_per_second"], result["cpu_s_per_million"]["all"]
                print(f"{number + 1}: {program:<9} {rate:8,.0f} records/s, {cpu:6.1f} CPU s a million", flush=True)
        if size.small:
            small = run(stream("small", 6 * size.small), "--max-offsets-per-trigger", "6")
            results["small"] = spread(np.diff([event["at"] for event in small.events[2:]]).tolist())
            print(f"a micro-batch of 6 records: {shown(results['small'])} s", flush=True)
        results["decoding"] = decoding.measured()
        for form, found_ns in results["decoding"].items():
            print(f"decoding a record, {form}: {shown(found_ns)} ns", flush=True)
        results["programs"] = {
            program: measurements.over(results_of_rounds) for program, results_of_rounds in found.items()
        }


if __name__ == "__main__":
    main()
