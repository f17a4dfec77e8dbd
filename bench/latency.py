"""Measures how long it takes until a search finds a record.

The latency of a record is the time from the moment when it is due to be sent to Kafka until a search in Elasticsearch
finds its point. About 50 records a second are followed. Every 50 ms one search looks for those that were not found yet,
like a dashboard that refreshes all the time. Index settings are the defaults: Elasticsearch refreshes once a second.
Ours also requests a refresh after each micro-batch. Each program runs alone, first to warm up, then at each rate.

A bisection then finds the highest rate that a program sustains. Its interval begins at the highest rate at which the
program kept up, and ends at 1.1 times the program's rate in bench/pipeline.py. The interval is halved until its ends
are within 7 %, or until the program has had its number of tries. A program keeps up if all records are found, and if
the median of the last third of the time exceeds that of the first third by less than 0.5 s or less than 30 %. Each
third lasts at least four times the median latency at the highest rate at which the program kept up, and at most 20 s,
so that it contains several micro-batches. Ours and MLlib begin a micro-batch as soon as the previous micro-batch has
ended.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from elasticsearch import ApiError
from elasticsearch import Elasticsearch as Client

from bench import harness, measurements
from bench.harness import MLLIB, OURS, RIVER, Load, clear, run, streaming, whole_flights
from bench.measurements import KEPT_UP, spread
from bench.pipeline import CHOSEN, bodies, push, river_flags
from embedded.testing.stream import App

PROGRAMS = {"ours": OURS, "river": RIVER, "mllib": MLLIB}
WINDOWS = 3
WARM_UP_S = 6.0
PROBES_PER_SECOND = 50
GROWTH_S, GROWTH, GRACE_S = 0.5, 0.3, 10.0  # allowed growth of the median; time to look for records at the end
FELL_BEHIND, NOT_SENT = "fell behind", "not measured: the load was not sent in full"
NEAR, ABOVE = 0.07, 1.1  # a bisection's last interval, relative; its first upper end, in rates of bench/pipeline.py
SEVERAL, LONGEST_S = 4, 20.0  # length of a window: in median latencies, to contain several micro-batches; at most


@dataclass(frozen=True)
class Plan:
    """How a program is measured: its shortest window in seconds, its rates, and the tries of its bisection."""

    window_s: float
    rates: Sequence[int]
    tries: int


@dataclass(frozen=True)
class Sizes:
    """The programs to measure; Elasticsearch is warmed up with `raw` documents."""

    programs: dict[str, Plan]
    raw: int


RATES = (100, 1_000, 5_000)
SIZES = {
    "full": Sizes(
        {"ours": Plan(5, RATES, 5), "river": Plan(5, RATES[1:], 4), "mllib": Plan(16, RATES[-1:], 3)}, 100_000
    ),
    "quick": Sizes({"ours": Plan(5, RATES[-1:], 0), "river": Plan(5, RATES[-1:], 0)}, 100_000),
    "tiny": Sizes({"ours": Plan(2, (100, 300), 1), "river": Plan(2, (100, 300), 1)}, 20_000),
}


@dataclass(frozen=True)
class Watch:
    """A running program's load, and the index to search for its points."""

    load: Load
    client: Client
    index: str

    def found(self, seconds: float) -> Iterator[tuple[float, float]]:
        """Search for `seconds` seconds; yield the due time and the latency of each record that is found."""
        end = time.time() + seconds
        while time.time() < end:
            oldest = {"ids": {"values": list(self.load.probes)[:1000]}}
            try:
                hits = self.client.search(index=self.index, query=oldest, size=1000, source=False)["hits"]["hits"]
            except ApiError as error:
                if error.status_code not in {404, 503}:  # the index does not exist yet, or its shard is starting
                    raise
                hits = []
            now = time.time()
            for hit in hits:
                due = self.load.probes.pop(hit["_id"])
                yield due, now - due
            time.sleep(0.05)

    def until_found(self, due: float, limit_s: float) -> list[tuple[float, float]]:
        """Search until all records that were due before `due` are found, or for `limit_s`; return those found."""
        found: list[tuple[float, float]] = []
        deadline = time.time() + limit_s
        while min(self.load.probes.copy().values(), default=due) < due and time.time() < deadline:
            found += self.found(0.5)
        return found

    def at_rate(self, rate: float, window_s: float) -> dict[str, Any]:
        """Return the latencies at a rate, over all followed records, their range over windows, and the verdict."""
        self.load.rate = rate
        start, sent = time.time(), self.load.sent
        end = start + WINDOWS * window_s
        found = list(self.found(end - start))
        share = (self.load.sent - sent) / (rate * (time.time() - start))
        found += self.until_found(end, max(GRACE_S, window_s))
        edges = [start + n * window_s for n in range(WINDOWS + 1)]
        windows = [[wait for due, wait in found if low <= due < high] for low, high in pairwise(edges)]
        result: dict[str, Any] = {"rate": rate, "sent": share}
        if all(windows):
            every = [wait for window in windows for wait in window]
            for name, percent in (("p50", 50), ("p99", 99), ("max", 100)):
                by_window = spread(float(np.percentile(window, percent)) for window in windows)
                result[name] = {**by_window, "median": float(np.percentile(every, percent))}  # over all records
        lost = min(self.load.probes.copy().values(), default=end) < end
        if share < 0.98:
            result["verdict"] = f"{NOT_SENT} ({share:.0%})"
        elif lost or not all(windows) or grown(result["p50"]["values"]):
            result["verdict"] = FELL_BEHIND
        else:
            result["verdict"] = KEPT_UP
        return result


def grown(medians: Sequence[float]) -> bool:
    """Whether the median of the last window exceeds that of the first so much that a backlog builds up."""
    return medians[-1] - medians[0] > max(GROWTH_S, GROWTH * medians[0])


def bisect(low: float, high: float, tries: int, keeps_up: Callable[[float], bool]) -> None:
    """Halve the interval between a rate that the program sustains, `low`, and a rate that is too high, `high`."""
    for _ in range(tries):
        if high - low <= NEAR * high:
            break
        middle = float(f"{(low + high) / 2:.3g}")
        low, high = (middle, high) if keeps_up(middle) else (low, middle)


def measure(program: str, watch: Watch, app: App, plan: Plan, reached: float) -> list[dict[str, Any]]:
    """Return the latencies of a running program at each rate."""
    results: list[dict[str, Any]] = []

    def highest() -> dict[str, Any]:
        return max(
            (entry for entry in results if entry["verdict"] == KEPT_UP),
            key=lambda entry: float(entry["rate"]),
            default={},
        )

    def keeps_up(rate: float) -> bool:
        usual = highest().get("p50", {"median": 0.0})["median"]
        watch.until_found(time.time(), 60)
        warm_run = watch.at_rate(rate, min(max(plan.window_s, SEVERAL * usual), LONGEST_S))
        assert app.process.poll() is None, app.log[-4000:]
        watch.load.rate = 0.0  # so that the program catches up
        times = ", ".join(f"{q} {warm_run[q]['median']:.2f} s" for q in ("p50", "p99", "max") if q in warm_run)
        print(f"{program}: {rate:7,.0f} records/s: {times}, {warm_run['verdict']}", flush=True)
        results.append(warm_run)
        return bool(warm_run["verdict"] == KEPT_UP)

    watch.load.rate = min(1_000.0, plan.rates[-1])
    deadline = time.time() + 120
    while not list(watch.found(1)):
        assert time.time() < deadline, f"no point of {program} was found:\n{app.log[-4000:]}"
    list(watch.found(WARM_UP_S))
    for rate in plan.rates:
        keeps_up(float(rate))
    bisect(highest().get("rate", 0.0), ABOVE * reached, plan.tries, keeps_up)
    return results


def main() -> None:
    with measurements.results("latency", __doc__) as (given, folder, results), harness.servers() as new:
        size = SIZES[given]
        known = folder / "pipeline.json"
        pipeline: dict[str, Any] = {"programs": {}, "chosen": CHOSEN}
        if known.exists():
            pipeline = json.loads(known.read_text())
        full = new("full", whole_flights(size.raw))
        push(warm := full.again("warm"), bodies(full), 2, 2)
        clear(warm)
        results["programs"] = {}
        for program, plan in size.programs.items():
            which, flags = PROGRAMS[program], river_flags(pipeline["chosen"]["river"]) if program == "river" else ()
            reached = 0.0
            if program in pipeline["programs"]:
                reached = pipeline["programs"][program]["records_per_second"]["median"]
            elif plan.tries:
                per_batch = ("--max-offsets-per-trigger", str(size.raw // 8))
                warm_run = run(full.again(program), *flags, *per_batch, program=which)
                reached = warm_run.steady(size.raw // 3)["records_per_second"]
            stream = new(f"latency-{program}")
            with (
                streaming(stream, *flags, program=which) as app,
                Client(stream.search.url, request_timeout=60) as client,
                Load(stream, whole_flights(300_000), PROBES_PER_SECOND) as load,
            ):
                watch = Watch(load, client, f"{stream.prefix}-points-*")
                results["programs"][program] = measure(program, watch, app, plan, reached)


if __name__ == "__main__":
    main()
