"""The topics, through Kafka's admin client: whether they exist, their offsets, and this user's right to read them."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar

from confluent_kafka import IsolationLevel, KafkaError, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AclOperation, AdminClient, OffsetSpec, TopicDescription  # type: ignore[attr-defined]

from streaming_regression.errors import StreamError
from streaming_regression.kafka import errors
from streaming_regression.kafka.connection import Connection, Place

log = logging.getLogger(__name__)
Result = TypeVar("Result")

ANSWER_WITHIN_S = 5.0
PAUSE_S = 1.0

URL_SAFE = str.maketrans("+/", "-_")
"""Converts librdkafka's plain base64 of a topic's id to Kafka's URL-safe form, which checkpoints contain."""

Position = Mapping[str, Mapping[str, int]]
"""Topic → partition → offset of the next record, as in Spark's offset log."""


def flat(position: Position) -> dict[Place, int]:
    """Return a position by place, in the order of topic and partition."""
    places = [((topic, int(number)), offset) for topic, held in position.items() for number, offset in held.items()]
    return dict(sorted(places))


def nested(offsets: Mapping[Place, int]) -> dict[str, dict[str, int]]:
    """Return offsets by place in the form of Spark's offset log."""
    position: dict[str, dict[str, int]] = {}
    for (topic, partition), offset in offsets.items():
        position.setdefault(topic, {})[str(partition)] = offset
    return position


class Topics:
    """The train and the test topic; every call asks the brokers.

    A call without an answer within ANSWER_WITHIN_S seconds raises one of `errors`; `check` and `check_held` retry it.
    """

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self._names = (connection.train_topic, connection.test_topic)
        self._client: AdminClient | None = None
        self._reported: list[KafkaError] = []
        self._ids: dict[str, str] = {}

    @property
    def ids(self) -> tuple[str, ...]:
        """Kafka's ids of both topics, after a `check`: a topic that is deleted and recreated gets a new id."""
        return tuple(self._ids.values())

    def check(self, timeout_s: float) -> None:
        """Wait until both topics can be read; retry passing errors for up to `timeout_s` seconds.

        Raises
        ------
        KafkaUnavailable, TopicMissing
            After that time.
        ConfigError, Refused
            At once: for a wrong CA or login; for missing rights, and for a topic that was recreated since the last
            check.
        """
        for topic, description in self._retrying(self._describe, timeout_s).items():
            rights = description.authorized_operations  # empty if the brokers do not report them
            if rights and AclOperation.READ not in rights:
                raise errors.no_right_to_read(self.connection, topic)

    def beginning(self, timeout_s: float) -> dict[str, dict[str, int]]:
        """Return where a new run begins: at the first record that each partition holds.

        Raises
        ------
        KafkaUnavailable, TopicMissing
            After `timeout_s` seconds without an answer.
        """
        first, _ = self._retrying(lambda: self.bounds(self.places()), timeout_s)
        return nested(first)

    def check_held(self, position: Position, timeout_s: float, *, gaps: bool) -> None:
        """Check that Kafka still holds all records from `position` on; with `gaps` the oldest may be deleted.

        Raises
        ------
        Refused
            When records are deleted, or when `position` is beyond the end of a partition.
        """
        wanted = flat(position)
        first, end = self._retrying(partial(self.bounds, wanted), timeout_s)
        check_held(wanted, first, end, gaps=gaps)

    def lag(self, position: Position) -> int | None:
        """Return the number of records that Kafka holds beyond `position`; None without an answer."""
        wanted = flat(position)
        try:
            _, ends = self.bounds(wanted)
        except StreamError as error:
            log.debug("the consumer lag is unknown: %s", error)
            return None
        return sum(ends.values()) - sum(wanted.values())

    def places(self) -> list[Place]:
        """Return all partitions of both topics."""
        found = self._describe().items()
        return sorted((topic, partition.id) for topic, description in found for partition in description.partitions)

    def bounds(self, places: Iterable[Place]) -> tuple[dict[Place, int], dict[Place, int]]:
        """Return the first offset of each partition, and the offset after its last record.

        The end is before the first record of an open transaction.
        """
        wanted = [TopicPartition(*place) for place in places]
        if not wanted:
            return {}, {}
        options: dict[str, Any] = {"isolation_level": IsolationLevel.READ_COMMITTED, "request_timeout": ANSWER_WITHIN_S}
        list_offsets = partial(self._admin().list_offsets, **options)
        kinds = OffsetSpec.earliest(), OffsetSpec.latest()  # type: ignore[no-untyped-call]
        first, end = self._ask(*[partial(list_offsets, dict.fromkeys(wanted, kind)) for kind in kinds])
        return _by_place(first), _by_place(end)

    def _describe(self) -> dict[str, TopicDescription]:
        """Return the description of both topics; Refused for a topic that was recreated since the first call."""
        asked = TopicCollection(list(self._names))
        options: dict[str, Any] = {"include_authorized_operations": True, "request_timeout": ANSWER_WITHIN_S}
        found: dict[str, TopicDescription]
        (found,) = self._ask(lambda: self._admin().describe_topics(asked, **options))
        for topic, description in found.items():
            identity = str(description.topic_id).translate(URL_SAFE)
            if self._ids.setdefault(topic, identity) != identity:
                raise errors.recreated(topic)
        return found

    def _admin(self) -> AdminClient:
        if self._client is None:
            self._client = self.connection.open(AdminClient, self._reported.append, {})
        return self._client

    def _ask(self, *calls: Callable[[], Mapping[Any, Any]]) -> list[dict[Any, Any]]:
        """Run calls of the admin client concurrently; return the answers of each call, by topic or partition."""
        topic = self._names[0]
        try:
            found = []
            for futures in [call() for call in calls]:
                answers = {}
                for key, future in futures.items():
                    topic = getattr(key, "topic", key)
                    answers[key] = future.result()
                found.append(answers)
            self._reported.clear()
            return found
        except KafkaException as failure:
            self._admin().poll(0)  # calls error_cb, which gets the causes of broken connections
            del self._reported[:-10]  # kept for the next try: librdkafka requests a token only every 10 s
            known = [*self._reported, failure.args[0]]
            raise (
                errors.permanent(known, self.connection, topic) or errors.passing(known, self.connection, topic)
            ) from failure

    def _retrying(self, call: Callable[[], Result], timeout_s: float) -> Result:
        """Return the result of `call`; repeat it while its error may pass, for up to `timeout_s` seconds."""
        start = time.monotonic()
        logged = 0.0
        while True:
            try:
                return call()
            except StreamError as error:
                if not error.may_pass:
                    raise
                trouble = error
            waited = time.monotonic() - start
            if waited >= timeout_s:
                raise type(trouble)(f"{trouble}; gave up after {waited:.0f} s (--server-timeout-s)")
            if waited >= logged:
                log.warning("%s; waiting (%.0f of %.0f s)", trouble, waited, timeout_s)
                logged = max(2 * waited, 5.0)
            time.sleep(PAUSE_S)


def _by_place(answers: Mapping[TopicPartition, Any]) -> dict[Place, int]:
    return {(place.topic, place.partition): int(answer.offset) for place, answer in answers.items()}


def check_held(
    wanted: Mapping[Place, int], first: Mapping[Place, int], end: Mapping[Place, int], *, gaps: bool
) -> None:
    """Raise Refused if `wanted` is beyond a partition's end or, without `gaps`, before its first offset."""
    for place, offset in wanted.items():
        if offset > end[place] or (offset < first[place] and not gaps):
            raise errors.lost(*place, first[place], end[place], offset)
