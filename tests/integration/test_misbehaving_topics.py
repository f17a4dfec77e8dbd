"""All that Kafka allows in a topic, read by the whole program; `test_kafka_ranges` has each case for itself."""

from __future__ import annotations

import json
from datetime import datetime, timezone

import numpy as np
import pytest
from confluent_kafka import KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic  # type: ignore[attr-defined]
from elasticsearch import ApiError

from embedded.testing.reference import lstsq
from embedded.testing.stream import App, Stream
from embedded.testing.waiting import wait_until
from streaming_regression.documents import Records
from streaming_regression.kafka.connection import Connection, Range
from streaming_regression.kafka.consumer import Reader
from tests.integration.test_kafka_ranges import CODECS

LARGE = {"max.message.bytes": "10000000", "message.timestamp.type": "LogAppendTime"}
COMPACTED = {"cleanup.policy": "compact", "segment.bytes": "1048576", "segment.ms": "100"}
COMPACTED |= {"max.compaction.lag.ms": "100", "min.cleanable.dirty.ratio": "0.001"}
Headers = list[tuple[str, str | bytes | None]]
PADDING = "x" * 9_000_000


class Everything:
    """Records in the train topic of every kind that Kafka allows, and the points that they must become: a and y."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self.points: dict[float, float] = {}

    def record(self, padding: str = "") -> bytes:
        """Return a new valid record."""
        number = len(self.points)
        self.points[number] = 3.0 * number + 1
        return json.dumps({"a": number, "y": self.points[number], "other": padding}).encode()

    def producer(self, **options: object) -> Producer:
        common = {"bootstrap.servers": self._stream.broker.bootstrap, "log_level": 0, "message.max.bytes": 10_000_000}
        return Producer({**common, **options})

    def send_with_every_codec(self) -> None:
        """Send records with and without keys and headers, and a tombstone; their own time is 1 ms after 1970."""
        for codec in CODECS:
            sender = self.producer(**{"compression.type": codec})
            kinds: list[tuple[bytes | None, Headers | None]] = [(None, None), (b"", [("", b"\xff")])]
            kinds.append((b"k", [("seq", b"1"), ("seq", None)]))
            for key, headers in kinds:
                value = self.record("y" * 1000)
                sender.produce(self._stream.train, value, key=key, headers=headers, timestamp=1)
            sender.produce(self._stream.train, None, key=b"k")
            assert sender.flush(60) == 0

    def send_in_transactions(self) -> None:
        """Abort two transactions, and commit one between them."""
        sender = self.producer(**{"transactional.id": self._stream.name})
        sender.init_transactions(30)
        for committed in (False, True, False):
            sender.begin_transaction()
            for number in range(5):
                lost = json.dumps({"a": 1e6 + number, "y": 0}).encode()
                sender.produce(self._stream.train, self.record() if committed else lost)
            sender.flush(30)
            (sender.commit_transaction if committed else sender.abort_transaction)(30)

    def send_9_megabytes(self) -> None:
        """Send a valid record and an invalid one of 9 MB."""
        sender = self.producer()
        sender.produce(self._stream.train, self.record(PADDING))
        sender.produce(self._stream.train, PADDING.encode())
        assert sender.flush(60) == 0

    def add_partitions(self, admin: AdminClient) -> None:
        """Add two partitions, and send records to all three."""
        (grown,) = admin.create_partitions([NewPartitions(self._stream.train, 3)]).values()
        grown.result()
        sender = self.producer()

        def missing() -> str:
            known = sender.list_topics(self._stream.train, timeout=10).topics[self._stream.train].partitions
            return "" if len(known) == 3 else f"the producer knows {len(known)} partitions"

        wait_until(missing, 60)
        for partition in (0, 1, 2, 2):
            sender.produce(self._stream.train, self.record(), partition=partition)
        assert sender.flush(60) == 0


@pytest.mark.slow
def test_a_topic_with_all_that_kafka_allows_gives_each_record_once(stream: Stream) -> None:
    """Codecs, headers, null keys, tombstones, 9 MB, aborted transactions, the broker's time, compaction, and partitions
    that are added while the app runs. At last the topic is deleted and recreated, which ends the app.
    """
    stream.features, stream.label = ("a",), "y"
    begin = f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%M:%S}"
    admin = AdminClient({"bootstrap.servers": stream.broker.bootstrap, "log_level": 0})
    topics = [NewTopic(stream.train, 1, config=LARGE), NewTopic(stream.test, 1, config=COMPACTED)]
    for created in admin.create_topics(topics).values():
        created.result()
    everything, compacted = Everything(stream), Compacted(stream)
    everything.send_with_every_codec()
    everything.send_in_transactions()
    everything.send_9_megabytes()
    before = compacted.left()
    with stream.app("--max-offsets-per-trigger", "7") as app:
        wait_until(lambda: written(stream, app, len(everything.points)), 180)
        everything.add_partitions(admin)
        wait_until(lambda: written(stream, app, len(everything.points)), 180)
        wait_until(lambda: learned(stream, len(everything.points)), 60)

        points = [point for point in stream.documents("points") if point["topic"] == stream.train]
        assert len(points) == len(everything.points)
        assert {point["x"]["a"]: point["y"] for point in points} == everything.points
        assert min(point["@timestamp"] for point in points) > begin, "the broker's time, not the producer's 1 ms"
        predicted = {point["offset"] for point in stream.documents("points") if point["topic"] == stream.test}
        assert compacted.left() <= predicted <= before, "more may have been compacted meanwhile"
        reasons = sorted(document["reason"].partition(":")[0] for document in stream.documents("invalid"))
        assert reasons == ["not JSON"] + ["tombstone"] * len(CODECS)
        np.testing.assert_allclose(stream.weights(), lstsq(np.array([*everything.points.items()])), atol=1e-6)

        (deleted,) = admin.delete_topics([stream.train]).values()
        deleted.result()
        wait_until(lambda: create_again(admin, stream.train), 30)
        assert app.wait(120) == 4, app.log
    assert f"topic {stream.train} was deleted and recreated" in app.log.splitlines()[-1]


class Compacted:
    """Records in the test topic, of which compaction has removed some; without a label, so they are only predicted."""

    def __init__(self, stream: Stream) -> None:
        self._stream = stream
        self._reader = Reader(Connection(stream.broker.bootstrap, stream.train, stream.test))
        self._sender = Producer({"bootstrap.servers": stream.broker.bootstrap, "log_level": 0})
        self._sent = 0
        for _ in range(3):
            self._send(200_000)
        wait_until(self._missing, 120, poll_s=1)

    def left(self) -> set[int]:
        """Return the offsets of the records that are still there."""
        found = self._reader.read([Range(self._stream.test, 0, 0, self._sent)], gaps=False)
        return {offset for _, part in found if isinstance(part, Records) for offset in part.offsets.tolist()}

    def _missing(self) -> str:
        self._send(1)
        return "" if len(self.left()) < self._sent else "nothing is compacted yet"

    def _send(self, padding: int) -> None:
        for key in range(4):
            value = json.dumps({"a": key, "other": "x" * padding}).encode()
            self._sender.produce(self._stream.test, value, key=b"%d" % key)
            self._sent += 1
        assert self._sender.flush(60) == 0


def written(stream: Stream, app: App, count: int) -> str:
    """Return how many points of the train topic are missing, for `wait_until`."""
    assert app.process.poll() is None, app.log
    try:
        points = [point for point in stream.documents("points") if point["topic"] == stream.train]
    except ApiError as error:
        return f"there is no index yet, or it is just being created: {error}"
    return "" if len(points) >= count else f"{len(points)} of {count} points are written"


def learned(stream: Stream, count: int) -> str:
    """Return how many points are not learned yet; the model is written after the points of its micro-batch."""
    seen = stream.last_model()["rows_seen"]
    return "" if seen >= count else f"{seen} of {count} points are learned"


def create_again(admin: AdminClient, topic: str) -> str:
    """Return why the topic is not created yet: its deletion may not have ended."""
    (created,) = admin.create_topics([NewTopic(topic, 1, 1)]).values()
    try:
        created.result()
    except KafkaException as error:
        return str(error)
    return ""
