"""The topics, indices and checkpoint of a test on the shared servers, and the app as a process that uses them."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import Producer
from elasticsearch import Elasticsearch as Client
from elasticsearch.helpers import scan
from numpy.typing import NDArray

from embedded import Elasticsearch, Kafka
from embedded.testing.flags import last_flags
from embedded.testing.records import FLIGHT_FIELDS, Value, table
from embedded.testing.reference import lstsq
from embedded.testing.repeated import Repeated
from embedded.testing.waiting import wait_until


@dataclass
class Stream:
    """Topics `<name>-train` and `<name>-test`, indices `<prefix>-*` and a checkpoint that belong to one test."""

    name: str
    broker: Kafka
    search: Elasticsearch
    folder: Path
    features: Sequence[str] = FLIGHT_FIELDS[:-1]
    label: str = FLIGHT_FIELDS[-1]
    partitions: int = 3
    produced: dict[str, list[Value]] = field(default_factory=dict)
    prefix: str = ""
    repeated: Repeated | None = None
    """A process in which `run` starts the app; it saves the start of Java."""

    def __post_init__(self) -> None:
        self.prefix = self.prefix or self.name

    def again(self, suffix: str) -> Stream:
        """The same topics with other indices and another checkpoint."""
        folder = self.folder / suffix
        folder.mkdir()
        return replace(self, prefix=f"{self.name}-{suffix}", folder=folder)

    @property
    def train(self) -> str:
        """The topic with the records to learn from."""
        return f"{self.name}-train"

    @property
    def test(self) -> str:
        """The topic with the records to predict only."""
        return f"{self.name}-test"

    @property
    def flags(self) -> list[str]:
        """The app's flags for this stream."""
        return [
            *("--kafka-bootstrap", self.broker.bootstrap, "--elasticsearch-url", self.search.url),
            *("--kafka-train-topic", self.train, "--kafka-test-topic", self.test, "--index-prefix", self.prefix),
            *("--features", ",".join(self.features), "--label", self.label),
            *("--checkpoint", str(self.folder / "checkpoint")),
        ]

    def create_topics(self) -> None:
        """Create both topics."""
        self.broker.create_topics([self.train, self.test], partitions=self.partitions)

    def produce(self, train: Sequence[Value] = (), test: Sequence[Value] = ()) -> None:
        """Write records, the i-th to partition i modulo the number of partitions; all acknowledged on return."""
        producer = Producer(
            {"bootstrap.servers": self.broker.bootstrap, "linger.ms": 20, "enable.idempotence": True, "log_level": 0}
            | {"message.max.bytes": 4_000_000, "queue.buffering.max.messages": 0}  # 0 means no limit
        )
        for topic, values in ((self.train, train), (self.test, test)):
            known = self.produced.setdefault(topic, [])
            for value in values:
                producer.produce(topic, value, partition=len(known) % self.partitions)
                known.append(value)
                producer.poll(0)
        assert producer.flush(240) == 0

    def run(self, *flags: str, timeout_s: float = 600, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the app over the records that are there now; return the ended process with its log."""
        if self.repeated and not environment:
            command = last_flags([*self.flags, "--available-now", *flags])
            ending = self.repeated.start(command, timeout_s)
            return subprocess.CompletedProcess(command, ending.code, "", ending.log)
        with self.app("--available-now", *flags, **environment) as app:
            code = app.wait(timeout_s)
        return subprocess.CompletedProcess(app.command, code, "", app.log)

    @contextlib.contextmanager
    def app(
        self, *flags: str, program: Sequence[str] = ("-m", "streaming_regression"), **environment: str
    ) -> Iterator[App]:
        """The app as a process; it is killed at the end if it still runs."""
        log = self.folder / "app.log"
        start = log.stat().st_size if log.exists() else 0
        command = [sys.executable, *program, *last_flags([*self.flags, *flags])]
        with log.open("ab") as file:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env={**os.environ, **environment},
                start_new_session=True,  # so that a signal can reach all its processes, as a terminal's Ctrl-C does
            )
        try:
            yield App(command, process, log, start)
        finally:
            process.kill()
            process.wait()

    def documents(self, kind: str) -> list[dict[str, Any]]:
        """All documents of `kind`, their ids as `_id` and indices as `_index` among the fields."""
        with Client(self.search.url, request_timeout=60) as client:
            client.indices.refresh(index=f"{self.prefix}-{kind}-*")
            hits = list(scan(client, index=f"{self.prefix}-{kind}-*", size=5000))
        return [{**hit["_source"], "_id": hit["_id"], "_index": hit["_index"]} for hit in hits]

    def count(self, kind: str) -> int:
        """The number of documents of `kind`."""
        with Client(self.search.url, request_timeout=60) as client:
            client.indices.refresh(index=f"{self.prefix}-{kind}-*")
            return int(client.count(index=f"{self.prefix}-{kind}-*")["count"])

    def places(self) -> set[tuple[str, int, int]]:
        """Topic, partition and offset of all records produced."""
        return {
            (topic, number % self.partitions, number // self.partitions)
            for topic, values in self.produced.items()
            for number in range(len(values))
        }

    def last_model(self) -> dict[str, Any]:
        """The document of the newest model."""
        return max(self.documents("models"), key=lambda document: int(document["batch"]))

    def weights(self) -> NDArray[np.float64]:
        """The newest model's intercept and weights, in the order of the features."""
        model = self.last_model()
        return np.array([model["intercept"], *(model["weights"][name] for name in self.features)])

    def lstsq(self) -> NDArray[np.float64]:
        """The least-squares solution for all records of the train topic, intercept first."""
        return lstsq(table(self.produced[self.train], [*self.features, self.label]))


@dataclass
class App:
    """A running app."""

    command: list[str]
    process: subprocess.Popen[bytes]
    path: Path
    start: int

    @property
    def log(self) -> str:
        """The app's log so far."""
        return self.path.read_bytes()[self.start :].decode()

    def wait(self, timeout_s: float) -> int:
        """Wait until the app ends, and return its exit code."""
        try:
            return self.process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still running after {timeout_s:g} s:\n{self.log[-4000:]}") from None

    def wait_for(self, text: str, timeout_s: float = 180) -> None:
        """Wait until the app has logged `text`."""

        def missing() -> str:
            log = self.log
            if text in log:
                return ""
            assert self.process.poll() is None, f"ended without logging {text!r}:\n{log[-4000:]}"
            return f"not logged: {text!r}; the log ends:\n{log[-2000:]}"

        wait_until(missing, timeout_s)

    def terminate(self, timeout_s: float) -> int:
        """Send SIGTERM and return the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.wait(timeout_s)
