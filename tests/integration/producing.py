"""The producer as a process, and the records in the topics after it."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice
from pathlib import Path
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from embedded import Kafka
from embedded.testing.flags import last_flags
from embedded.testing.waiting import wait_until
from producer.layout import Layout
from producer.sources import Synthetic

Records = dict[str, dict[int, list[tuple[str, int, bytes]]]]


@functools.cache
def synthetic(count: int, seed: int = 0) -> list[bytes]:
    """The records of `--source synthetic` with default settings."""
    source = Synthetic(("x1", "x2", "x3"), "y", (1.5, -2.0, 0.5), 3.0, 1.0, seed)
    return list(islice(source.rows(0), count))


@dataclass
class Ended:
    """Exit code and output of a producer."""

    code: int
    out: str
    err: str
    command: str

    @property
    def summary(self) -> dict[str, Any]:
        summary: dict[str, Any] = json.loads(self.out)
        return summary

    @property
    def errors(self) -> list[str]:
        """The messages of the ERROR lines."""
        lines = map(json.loads, self.err.splitlines())
        return [line["message"] for line in lines if line["level"] == "ERROR"]


@dataclass
class Running:
    """A running producer."""

    command: list[str]
    process: subprocess.Popen[bytes]
    folder: Path

    def wait_for_log(self, text: str, timeout_s: float = 60) -> None:
        def missing() -> str:
            log = (self.folder / "err").read_text()
            if text in log:
                return ""
            assert self.process.poll() is None, f"it ended without {text!r}: {log}"
            return f"no {text!r} in {log}"

        wait_until(missing, timeout_s, poll_s=0.005)

    def end(self, timeout_s: float = 120) -> Ended:
        self.process.wait(timeout_s)
        out, err = ((self.folder / name).read_text() for name in ("out", "err"))
        return Ended(self.process.returncode, out, err, " ".join(self.command))


@dataclass
class Topics:
    """The two topics of a test, and producers that send to them."""

    broker: Kafka
    name: str
    folder: Path
    partitions: int = 3
    options: Sequence[str] = ()
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def train(self) -> str:
        return f"{self.name}-train"

    @property
    def test(self) -> str:
        return f"{self.name}-test"

    def create(self) -> None:
        self.broker.create_topics([self.train, self.test], partitions=self.partitions)

        def missing() -> str:
            try:
                self.size()
            except KafkaException as error:  # no leader yet
                return str(error)
            return ""

        wait_until(missing, 30)

    def start(self, *flags: str, stdin: int | None = None) -> Running:
        """Start a producer; later flags override earlier ones."""
        folder = self.folder / str(len(self.started))
        folder.mkdir()
        given = ["--log-format", "json", "--kafka-bootstrap", self.broker.bootstrap]
        given += ["--kafka-train-topic", self.train, "--kafka-test-topic", self.test, *self.options, *flags]
        command = [sys.executable, "-m", "producer", *last_flags(given)]
        with (folder / "out").open("wb") as out, (folder / "err").open("wb") as err:
            process = subprocess.Popen(command, stdin=stdin, stdout=out, stderr=err, env=os.environ, cwd=folder)
        self.started.append(process)
        return Running(command, process, folder)

    def run(self, *flags: str, timeout_s: float = 120) -> Ended:
        """Run a producer to its end."""
        return self.start(*flags).end(timeout_s)

    def size(self) -> int:
        """The number of records in the topics."""
        with consumer(self.broker) as client:
            return sum(high - low for *_, low, high in offsets(client, self))

    def wait_for_more_than(self, count: int, running: Running, timeout_s: float = 60) -> None:
        with consumer(self.broker) as client:

            def missing() -> str:
                if running.process.poll() is not None:
                    return ""
                size = sum(high - low for *_, low, high in offsets(client, self))
                return "" if size > count else f"{size} records, not more than {count}"

            wait_until(missing, timeout_s, poll_s=0.005)

    def read(self) -> Records:
        """Return run, seq and value of all records, by topic and partition."""
        records: Records = {self.train: defaultdict(list), self.test: defaultdict(list)}
        with consumer(self.broker) as client:
            left = {(topic, partition): high for topic, partition, _, high in offsets(client, self) if high}
            client.assign([TopicPartition(topic, partition, 0) for topic, partition in left])
            while left:
                for message in client.consume(10_000, timeout=1):
                    assert message.error() is None, message.error()
                    topic, partition, value = message.topic(), message.partition(), message.value()
                    assert topic is not None
                    assert partition is not None
                    assert value is not None
                    headers = dict(message.headers() or [("run", b""), ("seq", b"-1")])
                    run, seq = headers["run"], headers["seq"]
                    assert isinstance(run, bytes)
                    assert isinstance(seq, bytes)
                    records[topic][partition].append((run.decode(), int(seq), value))
                    if message.offset() == left[topic, partition] - 1:
                        del left[topic, partition]
        return records

    def wrong(self, run: str, rows: list[bytes], share: Fraction = Fraction(1, 5)) -> list[str]:
        """Return the records that are not there exactly once, unchanged, in order and in their partition."""
        layout = Layout(share, self.partitions, self.partitions)
        should: dict[tuple[str, int], list[int]] = defaultdict(list)
        for seq in range(len(rows)):
            place, _ = layout.locate(seq)
            should[self.test if place.test else self.train, place.partition].append(seq)
        wrong = []
        for topic, partitions in self.read().items():
            for partition in {*range(self.partitions), *partitions}:
                found = [(seq, value) for other, seq, value in partitions.get(partition, []) if other == run]
                seqs, expected = [seq for seq, _ in found], should[topic, partition]
                if seqs != expected:
                    missing, repeated = len({*expected} - {*seqs}), len(seqs) - len({*seqs})
                    wrong.append(f"{topic} {partition}: {missing} missing, {repeated} repeated, or not in order")
                elif any(value != rows[seq] for seq, value in found):
                    wrong.append(f"{topic} {partition}: a value is not what was sent")
        return wrong

    def close(self) -> None:
        for process in self.started:
            process.kill()
            process.wait()


@contextlib.contextmanager
def consumer(broker: Kafka) -> Iterator[Consumer]:
    client = Consumer({"bootstrap.servers": broker.bootstrap, "group.id": "tests", "enable.auto.commit": False})
    try:
        yield client
    finally:
        client.close()


def offsets(client: Consumer, topics: Topics) -> Iterator[tuple[str, int, int, int]]:
    """Yield topic, partition, first offset and end."""
    for topic in (topics.train, topics.test):
        metadata = client.list_topics(topic, timeout=10).topics[topic]
        assert metadata.error is None or metadata.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART
        for partition in metadata.partitions:
            yield topic, partition, *client.get_watermark_offsets(TopicPartition(topic, partition), timeout=10)
