"""Code that the benchmarks share: servers, CPU and memory of processes, runs of a program, load."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import re
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from confluent_kafka import Producer
from elasticsearch import Elasticsearch as Client
from typing_extensions import Self

from embedded import Elasticsearch, Kafka
from embedded.testing.records import flights
from embedded.testing.stream import App, Stream
from streaming_regression.records import Fields
from streaming_regression.schema import templates

RIVER, MLLIB = ("bench/river_app.py",), ("bench/mllib_app.py",)  # for `Stream.app`, whose default is our app
OURS = ("-m", "streaming_regression")
ALWAYS = ("--trigger-interval-s", "0", "--log-format", "json")
FULL = 0.9  # of the largest micro-batch; smaller ones are at the start of a run, where sizes grow, or at its end
MB = 1e6


def app_options(description: str | None) -> argparse.Namespace:
    """Return the flags of our app that the other programs need; `run` and `streaming` pass more flags than these."""
    parser = argparse.ArgumentParser(description=description)
    needed = "kafka-bootstrap elasticsearch-url kafka-train-topic kafka-test-topic index-prefix label checkpoint"
    for name in needed.split():
        parser.add_argument(f"--{name}", required=True)
    parser.add_argument("--features", type=lambda text: text.split(","), required=True)
    parser.add_argument("--available-now", action="store_true")
    parser.add_argument("--process", type=int, default=0, help="number of this process, from 0")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--max-offsets-per-trigger", type=int, default=100_000)
    parser.add_argument("--threads", type=int, default=2, help="threads that send bulk requests")
    parser.add_argument("--chunk", type=int, default=5_000, help="documents a bulk request")
    return parser.parse_known_args()[0]


def log_rows(rows: int) -> None:
    """Log, as our app does for each micro-batch, that rows were acknowledged."""
    event = {"time": datetime.now(timezone.utc).isoformat(), "rows": rows}
    sys.stderr.write(json.dumps(event) + "\n")  # in one call: two processes may write to the file
    sys.stderr.flush()


known_flights = cache(lambda: [value for value in flights(336_776) if b"null" not in value])


def whole_flights(rows: int) -> list[bytes]:
    """Return `rows` flights without missing values, so that every program makes a point of each record; repeated."""
    known = known_flights()
    return (known * (rows // len(known) + 1))[:rows]


New = Callable[..., Stream]


@contextlib.contextmanager
def servers() -> Iterator[New]:
    """Start Kafka and Elasticsearch; yield a function that creates a stream and produces values, 4 of 5 to train."""
    with Kafka() as broker, Elasticsearch() as search, tempfile.TemporaryDirectory() as folder:

        def new(name: str, values: Sequence[bytes] = (), **changes: Any) -> Stream:  # noqa: ANN401
            (place := Path(folder) / name).mkdir()
            stream = Stream(name, broker, search, place, **changes)
            stream.create_topics()
            stream.produce(train=values[: len(values) * 4 // 5], test=values[len(values) * 4 // 5 :])
            return stream

        yield new


class Background:
    """Runs `_work` in a thread until the `with` block ends. The end of the block raises an error of `_work`."""

    def __init__(self) -> None:
        self._over = threading.Event()

    def __enter__(self) -> Self:
        self._future = ThreadPoolExecutor(1).submit(self._work)
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._future.result()

    def _work(self) -> None:
        """Work until `_over` is set."""
        raise NotImplementedError


class Usage(Background):
    """CPU seconds and resident memory of this process and its descendants, by role, measured twice a second.

    Roles are Kafka, Elasticsearch, bench (this process), driver Python (its other Python children), Java (Spark) and
    Python workers. CPU is the sum over all processes of a role, including ended ones. Memory is that of the role's
    largest process.
    """

    def __init__(self, broker: Kafka, search: Elasticsearch) -> None:
        super().__init__()
        self._roles = {os.getpid(): "bench", broker.pid: "Kafka", search.pid: "Elasticsearch"}
        self._cpu: dict[tuple[str, int], float] = {}
        self._samples: list[tuple[float, dict[str, float], dict[str, float]]] = []

    def _work(self) -> None:
        me = psutil.Process()
        while not self._over.wait(0.5):
            memory: dict[str, float] = defaultdict(float)
            for process in [me, *me.children(recursive=True)]:
                with contextlib.suppress(psutil.NoSuchProcess):
                    role = self._roles.get(process.pid) or self._role(process)
                    times = process.cpu_times()
                    self._cpu[role, process.pid] = times.user + times.system
                    memory[role] = max(memory[role], process.memory_info().rss / MB)
            cpu: dict[str, float] = defaultdict(float)
            for (role, _), seconds in self._cpu.items():
                cpu[role] += seconds
            self._samples.append((time.time(), cpu, memory))

    def _role(self, process: psutil.Process) -> str:
        if process.name() == "java":
            return "Java"
        return "driver Python" if process.ppid() == os.getpid() else "Python workers"

    def cpu(self, start: float, end: float) -> dict[str, float]:
        """Return the CPU seconds of each role between two times."""
        times = [sample[0] for sample in self._samples]
        found = {}
        for role in sorted({role for role, _ in self._cpu}):
            first, last = np.interp([start, end], times, [sample[1].get(role, 0.0) for sample in self._samples])
            found[role] = float(last - first)
        return found

    def memory(self, at: float) -> dict[str, float]:
        """Return the memory of each role's largest process at a time, in MB."""
        return dict(min(self._samples, key=lambda sample: abs(sample[0] - at))[2])


@dataclass(frozen=True)
class Run:
    """A program's run over records: the events of its log, one per micro-batch, and its number of task slots."""

    events: list[dict[str, Any]]
    usage: Usage
    slots: int = 1

    def steady(self, warm_up: int) -> dict[str, Any]:
        """Return rate, CPU and memory over micro-batches of full size after the first `warm_up` rows.

        The first micro-batches of a new run grow, and the last one holds the remaining rows: these do not count.
        `shares`, only for our app, is the part of the task slots' wall time that each stage took. The stage "write"
        waits for Elasticsearch.
        """
        sizes = np.array([event["rows"] for event in self.events])
        rows, times = np.cumsum(sizes), [event["at"] for event in self.events]
        full = np.flatnonzero(sizes >= FULL * sizes.max())
        first, last = max(int(np.searchsorted(rows, warm_up)), int(full[0]) - 1), int(full[-1])
        assert last > first, f"no micro-batch of full size after the first {warm_up:,} rows: {sizes.tolist()}"
        start, end, done = times[first], times[last], int(rows[last] - rows[first])
        cpu = {role: seconds / done * 1e6 for role, seconds in self.usage.cpu(start, end).items()}
        found = {
            "records_per_second": done / (end - start),
            "seconds_per_batch": float(np.median(np.diff(times[first : last + 1]))),
            "cpu_s_per_million": {"all": sum(cpu.values()), **cpu},
            "memory_mb": self.usage.memory(end),
        }
        if "stages" in self.events[-1]:
            warm = self.events[first + 1 : last + 1]
            spent = self.slots * (end - start)
            shares = {name: sum(event["stages"][name] for event in warm) / spent for name in warm[0]["stages"]}
            found["shares"] = {**shares, "driver, idle": 1 - sum(shares.values())}
        return found


def events(log: str) -> list[dict[str, Any]]:
    """Return the log lines about micro-batches as dicts, each with its time `at`, in seconds since 1970."""
    lines = (json.loads(line) for line in log.splitlines() if line.startswith("{"))
    found = [line for line in lines if "rows" in line]
    for event in found:
        event["at"] = datetime.fromisoformat(event["time"].replace("Z", "+00:00")).timestamp()
    return sorted(found, key=lambda event: float(event["at"]))


def run(
    stream: Stream,
    *flags: str,
    program: Sequence[str] = OURS,
    processes: int = 1,
    master: str = "",
    timeout_s: float = 600,
) -> Run:
    """Let a program process all records in the stream's topics; `master` replaces Spark's master local[*]."""
    install_templates(stream)
    environment = {"PYSPARK_SUBMIT_ARGS": f"--master {master} pyspark-shell"} if master else {}
    flags = ("--available-now", *ALWAYS, *flags)
    executors = re.match(r"local-cluster\[(\d+)", master)
    slots = int(executors[1]) if executors else os.cpu_count() or 1
    with Usage(stream.broker, stream.search) as usage, contextlib.ExitStack() as stack:
        apps = []
        for number in range(processes):
            which = ("--process", str(number), "--processes", str(processes)) if processes > 1 else ()
            apps.append(stack.enter_context(stream.app(*flags, *which, program=program, **environment)))
        for app in apps:
            if app.wait(timeout_s):
                raise SystemExit(app.log[-8000:])
        time.sleep(0.6)  # `usage` measures the processes once more
    return Run(events(apps[0].log), usage, slots)


def install_templates(stream: Stream) -> None:
    """Install our app's index templates, so that every program writes with the same mappings."""
    with Client(stream.search.url) as client:
        for name, template in templates(stream.prefix, Fields(tuple(stream.features), stream.label)).items():
            client.indices.put_index_template(name=name, **template)


def assert_right(stream: Stream, seed: int, sample: int = 1000) -> None:
    """Check that each record is one point, and that sampled points have the right values and a model's predictions."""
    points = f"{stream.prefix}-points-*"
    expected, found = sum(map(len, stream.produced.values())), stream.count("points")
    assert found == expected, f"{stream.prefix}: {found} points of {expected} records"
    rng = np.random.default_rng(seed)
    labels, errors = [], []
    with Client(stream.search.url, request_timeout=60) as client:
        for topic, values in stream.produced.items():
            numbers = rng.choice(len(values), min(sample, len(values)), replace=False).tolist()
            ids = {f"{topic}-{n % stream.partitions}-{n // stream.partitions}": n for n in numbers}
            hits = client.search(index=points, query={"ids": {"values": list(ids)}}, size=sample)["hits"]["hits"]
            assert {hit["_id"] for hit in hits} == ids.keys()
            for hit in hits:
                point, record = hit["_source"], json.loads(values[ids[hit["_id"]]] or b"")
                assert [*(point["x"][name] for name in stream.features), point["y"]] == list(record.values()), hit
                error = point["y"] - point["pred"]
                np.testing.assert_allclose(point["squared_error"], error**2, rtol=1e-9, atol=1e-9)
                if ids[hit["_id"]] >= len(values) // 2:  # the first micro-batch is predicted without a model
                    labels.append(point["y"])
                    errors.append(error)
    assert np.mean(np.square(errors)) < np.var(labels) / 2, (
        f"{stream.prefix}: predictions are hardly better than a constant"
    )


def clear(stream: Stream) -> None:
    """Delete the stream's indices."""
    with Client(stream.search.url, request_timeout=60) as client:
        if names := list(client.indices.get(index=f"{stream.prefix}-*")):
            client.indices.delete(index=names)


class Load(Background):
    """Sends records at `rate`, which can be changed, 4 of 5 to train; `sent` is the number of delivered records.

    Some records are followed: `probes` maps the id of a record's point to the time when the record was due, even if it
    was sent later. The reader removes the entries.
    """

    def __init__(self, stream: Stream, values: Sequence[bytes], probes_per_second: float = 0) -> None:
        super().__init__()
        self.rate, self.sent = 0.0, 0
        self.probes: dict[str, float] = {}
        self._stream, self._values, self._probes_per_second = stream, cycle(values), probes_per_second

    def _work(self) -> None:
        settings = {"bootstrap.servers": self._stream.broker.bootstrap, "enable.idempotence": True, "log_level": 2}
        producer = Producer({**settings, "linger.ms": 5, "queue.buffering.max.messages": 0})  # 0: no limit
        topics, places = (self._stream.train, self._stream.test), [0, 0]
        due, last, number, probe = 0.0, time.time(), 0, 0.0  # `due`: total number of records that should be sent by now
        while not self._over.wait(0.005):
            rate, now = self.rate, time.time()
            before, since, due, last = due, last, due + rate * (now - last), now
            while number < int(due):
                role = int(number % 5 == 4)
                offset, partition = divmod(places[role], self._stream.partitions)
                producer.produce(topics[role], next(self._values), partition=partition)
                producer.poll(0)
                places[role] += 1
                number += 1
                probe += self._probes_per_second / rate
                if probe >= 1:
                    probe -= 1
                    self.probes[f"{topics[role]}-{partition}-{offset}"] = since + (number - before) / rate
            producer.poll(0)
            self.sent = number - len(producer)
        producer.flush(30)


@contextlib.contextmanager
def streaming(stream: Stream, *flags: str, program: Sequence[str] = OURS) -> Iterator[App]:
    """A program that runs micro-batches without a pause until it is killed at the end of the block."""
    install_templates(stream)
    with stream.app(*ALWAYS, *flags, program=program) as app:
        yield app
