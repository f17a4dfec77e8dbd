"""The records of a range of offsets, fetched by an executor."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate
from typing import Any

import numpy as np
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streaming_regression.documents import Gap, Records
from streaming_regression.errors import ServerUnavailable
from streaming_regression.kafka import errors
from streaming_regression.kafka.connection import Connection, Range

RECORDS = 10_000
BYTES = 16 * 2**20
"""Records, and bytes of their values, that are handed on at once: enough to be quick, few enough for large records."""

AWAY_S = 30.0
"""Seconds without any news from the brokers after which the task gives up, and the driver waits instead."""

POLL_S = 0.05
WATERMARKS_S = 2.0
OUT_OF_RANGE = frozenset([KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE])
NEWS = OUT_OF_RANGE | {KafkaError._PARTITION_EOF}
"""Events that show that the brokers answer; others may come again and again, and must not keep the task waiting."""
UNREADABLE = frozenset([KafkaError._BAD_MSG, KafkaError._BAD_COMPRESSION, KafkaError.INVALID_MSG])


@dataclass(slots=True)
class _Pending:
    """Records that were fetched and not handed on yet."""

    offsets: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)

    def add(self, messages: list[Any]) -> None:
        self.offsets += [message.offset() for message in messages]
        self.times += [message.timestamp()[1] for message in messages]
        self.values += [message.value() for message in messages]

    def take(self, wanted: Range, *, whole: bool) -> Iterator[Records]:
        """Yield the chunks that are full; with `whole` the rest, too.

        Where a chunk ends depends on the records alone, never on how they arrived, so that a replay cuts them alike.
        """
        while self.values:
            sizes = accumulate(len(value) if value else 0 for value in self.values)
            count = next((count for count, size in enumerate(sizes, 1) if size >= BYTES or count == RECORDS), None)
            if count is None:
                if not whole:
                    return
                count = len(self.values)
            yield Records(
                wanted.topic,
                wanted.partition,
                np.array(self.offsets[:count], np.int64),
                np.array(self.times[:count], np.int64),
                self.values[:count],
            )
            del self.offsets[:count], self.times[:count], self.values[:count]


class Reader:
    """A consumer that reads ranges, one after the other; it joins no group.

    librdkafka fetches ahead in a thread of its own while the caller works on what it got.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._reported: list[KafkaError] = []
        self._consumer = connection.open(
            Consumer,
            self._reported.append,
            {
                "group.id": "streaming-regression",  # the client wants a name; nothing is committed
                "enable.auto.commit": False,
                "enable.auto.offset.store": False,
                "enable.partition.eof": True,
                "isolation.level": "read_committed",  # nothing is learned from a transaction that was aborted
                "auto.offset.reset": "error",
                "receive.message.max.bytes": 1_000_000_000,  # a single record may be larger than the default, 100 MB
                "max.poll.interval.ms": 86_400_000,  # Elasticsearch may be away for long between two polls
                "queued.min.messages": 20_000,
                "queued.max.messages.kbytes": 32 * 1024,
                # Their defaults, a second and half a second, would hold up each range.
                "fetch.queue.backoff.ms": 5,
                "fetch.wait.max.ms": 10,
            },
        )

    def read(self, wanted: Range, *, gaps: bool) -> Iterator[Records | Gap]:
        """Yield the records of a range in chunks, and, with `gaps`, which of them are gone.

        Offsets without a record (marks of transactions, aborted and compacted records) are passed over.

        Raises
        ------
        KafkaUnavailable, TopicMissing
            When the brokers say nothing for AWAY_S seconds, or do not know the topic any more.
        ConfigError, Refused
            For a wrong login or CA, for missing rights, and, without `gaps`, for records that are gone.
        """
        pending = _Pending()
        position = wanted.start
        heard = time.monotonic()
        self._assign(wanted, position)
        try:
            while position < wanted.end:
                room = min(RECORDS - len(pending.values), wanted.end - position)  # `consume` waits until it is full
                records, events = self._consume(room)
                if records:
                    position = records[-1].offset() + 1
                    if position > wanted.end:
                        records = [record for record in records if record.offset() < wanted.end]
                    pending.add(records)
                    yield from pending.take(wanted, whole=False)
                for event in events:
                    error = event.error()
                    if error.code() == KafkaError._PARTITION_EOF:
                        position = max(position, event.offset())
                    elif error.code() not in OUT_OF_RANGE:
                        self._reported.append(error)
                    elif position < wanted.end:
                        first = self._first_held(wanted, position, gaps=gaps)
                        if first > position:
                            yield Gap(wanted.topic, wanted.partition, position, min(first, wanted.end) - 1)
                            position = first
                        self._assign(wanted, position)
                if records or any(event.error().code() in NEWS for event in events):
                    heard = time.monotonic()
                self._check(wanted.topic, heard)
            yield from pending.take(wanted, whole=True)
        finally:
            self._consumer.unassign()

    def _consume(self, most: int) -> tuple[list[Any], list[Any]]:
        """Return up to `most` records, and apart from them what the client has to say."""
        messages: list[Any] = self._consumer.consume(most, POLL_S)  # the client's types do not tell the two apart
        events = [message for message in messages if message.error() is not None]
        return [message for message in messages if message.error() is None] if events else messages, events

    def _assign(self, wanted: Range, offset: int) -> None:
        self._consumer.assign([TopicPartition(wanted.topic, wanted.partition, offset)])

    def _first_held(self, wanted: Range, position: int, *, gaps: bool) -> int:
        """Return the first offset that the partition holds, after the broker has refused `position`."""
        heard = time.monotonic()
        place = TopicPartition(wanted.topic, wanted.partition)
        while True:
            try:
                first, end = self._consumer.get_watermark_offsets(place, timeout=WATERMARKS_S)
            except KafkaException as failure:
                self._reported.append(failure.args[0])
                self._check(wanted.topic, heard)
                continue
            if position > end or (position < first and not gaps):
                raise errors.lost(wanted.topic, wanted.partition, first, end, position)
            return int(first)

    def _check(self, topic: str, heard: float) -> None:
        """Raise what forbids to go on; `heard` is when the brokers last gave news (time.monotonic)."""
        failure = errors.permanent(self._reported, self._connection, topic)
        silent = time.monotonic() - heard
        if failure is None and (silent > AWAY_S or errors.no_topic(self._reported)):
            failure = errors.passing(self._reported, self._connection, topic)
            if unreadable := [error for error in self._reported if error.code() in UNREADABLE]:
                failure = ServerUnavailable(
                    f"{self._connection.where} has sent nothing of topic {topic} that can be read for {silent:.0f} s: "
                    f"{unreadable[-1].str()}"
                )
        if failure or silent < POLL_S:
            self._reported.clear()
        del self._reported[:-10]
        if failure:
            raise failure


@cache
def reader(connection: Connection) -> Reader:
    """Return this process's reader: the next task finds its connections open."""
    return Reader(connection)
