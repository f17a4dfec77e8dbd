"""The consumer with which an executor fetches the records of ranges of offsets."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from itertools import accumulate, groupby
from typing import Any

import numpy as np
from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from streaming_regression.documents import Gap, Records
from streaming_regression.errors import ServerUnavailable
from streaming_regression.kafka import errors
from streaming_regression.kafka.connection import Connection, Place, Range

Message = Any
"""A record, or an event with an error. Any, because the client's type allows None for each part of a record."""

RECORDS = 10_000
BYTES = 16 * 2**20
"""Maximum number of records in a chunk, and of bytes of their values, which bounds memory for large records."""
GROUP = 50_000
RANGES = 16
"""Most offsets and ranges that are fetched together; more ranges if they have at most RECORDS offsets. With fewer, each
change of the partitions costs a fetch: at 24 partitions a topic and 10,000 offsets Kafka took 5 CPU µs a record instead
of 2."""

AWAY_S = 30.0
"""Seconds without any answer from the brokers after which the task fails; then the driver waits for Kafka."""

OPTIONS: dict[str, Any] = {
    "group.id": "streaming-regression",  # required by the client; no offset is committed
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
    "isolation.level": "read_committed",  # skip records of aborted transactions
    "auto.offset.reset": "error",
    "receive.message.max.bytes": 1_000_000_000,  # a single record may be larger than the default, 100 MB
    "max.poll.interval.ms": 86_400_000,  # Elasticsearch may be away for long between two polls
    "queued.min.messages": 20_000,
    "queued.max.messages.kbytes": 32 * 1024,
    # The defaults, 1 s and 0.5 s, would delay each range.
    "fetch.queue.backoff.ms": 5,
    "fetch.wait.max.ms": 1,
}
"""Options of the consumer; a user can change those that `login.FIXED` does not list."""

POLL_S = 0.05
WATERMARKS_S = 2.0
METADATA_S = 2.0
OUT_OF_RANGE = frozenset([KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE])
ANSWERS = OUT_OF_RANGE | {KafkaError._PARTITION_EOF}
"""Events that prove that the brokers answer. Other errors may repeat for ever and must not restart the AWAY_S limit."""
UNREADABLE = frozenset([KafkaError._BAD_MSG, KafkaError._BAD_COMPRESSION, KafkaError.INVALID_MSG])


@dataclass(slots=True)
class _Reading:
    """A range that is being read, and its records that were fetched but not yet yielded.

    Attributes
    ----------
    most : bytes of values in a chunk.
    position : the next offset to fetch.
    """

    wanted: Range
    most: int
    position: int
    offsets: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    values: list[bytes | None] = field(default_factory=list)

    @property
    def rest(self) -> int:
        """Number of offsets that are still to be fetched."""
        return max(self.wanted.end - self.position, 0)

    def add(self, messages: list[Message]) -> None:
        """Keep the messages that belong to the range: the client also fetches messages after its end."""
        offsets = [message.offset() for message in messages]
        self.position = offsets[-1] + 1
        if self.position > self.wanted.end:
            offsets = offsets[: bisect_left(offsets, self.wanted.end)]
            messages = messages[: len(offsets)]
        self.offsets += offsets
        self.times += [message.timestamp()[1] for message in messages]
        self.values += [message.value() for message in messages]

    def take(self) -> Iterator[Records]:
        """Yield the full chunks and, when the whole range is fetched, the rest.

        The chunks depend only on the records, not on how they arrived, so a replay yields the same chunks.
        """
        while self.values:
            sizes = accumulate(len(value) if value else 0 for value in self.values)
            count = next((count for count, size in enumerate(sizes, 1) if size >= self.most or count == RECORDS), None)
            if count is None:
                if self.rest:
                    return
                count = len(self.values)
            yield Records(
                self.wanted.topic,
                self.wanted.partition,
                np.array(self.offsets[:count], np.int64),
                np.array(self.times[:count], np.int64),
                self.values[:count],
            )
            del self.offsets[:count], self.times[:count], self.values[:count]


class Reader:
    """A consumer that reads ranges of offsets; it joins no group.

    librdkafka prefetches in a thread of its own while the caller processes records.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._reported: list[KafkaError] = []
        self._blamed = ""
        self._consumer = connection.open(
            Consumer,
            self._reported.append,
            OPTIONS,
        )
        # Without this, librdkafka requests the partitions' leaders only a second after the first assignment of each
        # topic. If no broker answers, `read` raises the error.
        with suppress(KafkaException):
            for topic in (connection.train_topic, connection.test_topic):
                self._consumer.list_topics(topic, timeout=METADATA_S)

    def read(self, share: Iterable[Range], *, gaps: bool) -> Iterator[tuple[Range, Records | Gap]]:
        """Yield the records of ranges in chunks and, with `gaps`, the gaps of deleted records.

        Each range must be of a different partition. The chunks of a range come in order; those of several ranges are
        interleaved. Offsets without a record (transaction markers, aborted and compacted records) are skipped.

        Raises
        ------
        KafkaUnavailable, TopicMissing
            When the brokers do not answer for AWAY_S seconds, or no longer know the topic.
        ConfigError, Refused
            For a wrong login or CA, for missing rights and, without `gaps`, for deleted records.
        """
        for group in _groups(share):
            most = BYTES // len(group)  # so that many ranges together buffer no more than one
            try:
                yield from self._read([_Reading(wanted, most, wanted.start) for wanted in group], gaps=gaps)
            finally:
                self._consumer.unassign()

    def _read(self, readings: list[_Reading], *, gaps: bool) -> Iterator[tuple[Range, Records | Gap]]:
        by_place = {(reading.wanted.topic, reading.wanted.partition): reading for reading in readings}
        last_answer = time.monotonic()
        self._assign(readings)
        while waiting := [reading for reading in readings if reading.rest]:
            # `consume` waits until it has this number of messages, so do not request more than are left.
            messages, events = self._consume(min(RECORDS, sum(reading.rest for reading in waiting)))
            for place, mine in _by_place(messages, readings):
                reading = by_place[place]
                if not reading.rest:
                    continue  # fetched before the partition was unassigned
                reading.add(mine)
                yield from ((reading.wanted, records) for records in reading.take())
            if len(readings) > 1 and (done := [reading for reading in waiting if not reading.rest]):
                self._consumer.incremental_unassign([TopicPartition(*reading.wanted[:2]) for reading in done])
            for event in events:
                yield from self._handle(event, by_place, gaps=gaps)
            if messages or any(event.error().code() in ANSWERS for event in events):
                last_answer = time.monotonic()
            self._check(waiting[0].wanted.topic, last_answer)

    def _handle(
        self, event: Message, by_place: Mapping[Place, _Reading], *, gaps: bool
    ) -> Iterator[tuple[Range, Records | Gap]]:
        """Handle an event: the end of a partition, an offset out of range, or an error of a connection."""
        error = event.error()
        if error.code() not in ANSWERS:
            self._reported.append(error)
            self._blamed = event.topic() or self._blamed
            return
        reading = by_place[event.topic(), event.partition()]
        if error.code() == KafkaError._PARTITION_EOF:
            reading.position = max(reading.position, event.offset())
        elif reading.rest:
            wanted, position = reading.wanted, reading.position
            first = self._first_held(wanted, position, gaps=gaps)
            if first > position:
                yield wanted, Gap(wanted.topic, wanted.partition, position, min(first, wanted.end) - 1)
                reading.position = first
            self._assign(by_place.values())
        yield from ((reading.wanted, records) for records in reading.take())

    def _consume(self, most: int) -> tuple[list[Message], list[Message]]:
        """Return up to `most` records and, separately, the events among them."""
        messages = self._consumer.consume(most, POLL_S)
        events = [message for message in messages if message.error() is not None]
        return [message for message in messages if message.error() is None] if events else messages, events

    def _assign(self, readings: Iterable[_Reading]) -> None:
        """Assign the partitions of the unfinished ranges, each from its next offset, and no others."""
        places = [TopicPartition(*reading.wanted[:2], reading.position) for reading in readings if reading.rest]
        self._consumer.assign(places)

    def _first_held(self, wanted: Range, position: int, *, gaps: bool) -> int:
        """Return the first offset that the partition holds, after the broker has refused `position`."""
        last_answer = time.monotonic()
        place = TopicPartition(wanted.topic, wanted.partition)
        while True:
            try:
                first, end = self._consumer.get_watermark_offsets(place, timeout=WATERMARKS_S)
            except KafkaException as failure:
                self._reported.append(failure.args[0])
                self._check(wanted.topic, last_answer)
                continue
            if position > end or (position < first and not gaps):
                raise errors.lost(wanted.topic, wanted.partition, first, end, position)
            return int(first)

    def _check(self, topic: str, last_answer: float) -> None:
        """Raise the error that ends the reading, if any; `last_answer` is the time.monotonic() of the last answer.

        The message names `topic`, unless the client named another one.
        """
        topic = self._blamed or topic
        failure = errors.permanent(self._reported, self._connection, topic)
        silent = time.monotonic() - last_answer
        if failure is None and (silent > AWAY_S or errors.no_topic(self._reported)):
            failure = errors.passing(self._reported, self._connection, topic)
            if unreadable := [error for error in self._reported if error.code() in UNREADABLE]:
                failure = ServerUnavailable(
                    f"{self._connection.where} has sent only unreadable data of topic {topic} for {silent:.0f} s: "
                    f"{unreadable[-1].str()}"
                )
        if failure or silent < POLL_S:
            self._reported.clear()
            self._blamed = ""
        del self._reported[:-10]
        if failure:
            raise failure


def _groups(share: Iterable[Range]) -> Iterator[list[Range]]:
    """Group ranges that are fetched together: fetching each alone would cost 10 ms, and there may be many.

    The limits of a group bound the records that a task buffers; the size of the chunks bounds their bytes.
    """
    group: list[Range] = []
    for wanted in share:
        offsets = sum(member.end - member.start for member in [*group, wanted])
        if group and offsets > (GROUP if len(group) < RANGES else RECORDS):
            yield group
            group = []
        group.append(wanted)
    if group:
        yield group


def _by_place(messages: list[Message], readings: list[_Reading]) -> Iterator[tuple[Place, list[Message]]]:
    """Yield the messages of each partition."""
    if len(readings) == 1 and messages:
        yield readings[0].wanted[:2], messages
        return
    for place, mine in groupby(messages, lambda message: (message.topic(), message.partition())):
        yield place, list(mine)


def check_settings(connection: Connection) -> None:
    """Raise ConfigError if librdkafka cannot use a setting or an option; this needs no broker."""
    connection.open(Consumer, lambda _: None, OPTIONS).close()


@cache
def reader(connection: Connection) -> Reader:
    """Return this process's reader, so that the next task reuses its connections."""
    return Reader(connection)
