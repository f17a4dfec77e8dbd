"""The streaming source: each row is a range of offsets, whose records an executor fetches itself.

Spark provides the offset log, the commit log, triggers and recovery, as for every source. The offsets have the format
of Spark's own Kafka source, {"topic": {"partition": offset}}, so a checkpoint of that source can be continued. Spark
runs the reader in a Python process of its own beside the driver, and starts others to plan the query. Therefore this
module imports as little as possible: numpy alone would add 0.3 s to the start of each process.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, MutableMapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pyspark.sql.datasource import DataSource, DataSourceStreamReader, InputPartition
from pyspark.sql.streaming.datasource import ReadAllAvailable, ReadLimit, ReadMaxRows, SupportsTriggerAvailableNow
from pyspark.sql.types import StructType

from streaming_regression.kafka.admin import Position, Topics, check_held, flat, nested
from streaming_regression.kafka.connection import Connection, Place, Range
from streaming_regression.kafka.login import Login

SCHEMA = "topic string, partition int, start bigint, end bigint"
FIRST = 500
"""Offsets of a run's first micro-batch. It is small because an untrained model predicts it; later ones are larger."""
LEAST_PER_TASK = 5_000
"""Least number of offsets for a task, because each task has a fixed cost of about 10 ms."""


@dataclass(frozen=True, slots=True)
class Options:
    """Options of the source. They are passed as JSON in the DataFrame's options, so they contain no secret.

    Attributes
    ----------
    beginning : the offsets at which the run began.
    most : records per micro-batch at most, all partitions together.
    tasks : tasks per micro-batch at most.
    gaps : continue when the oldest records of a partition were deleted before they were read.
    """

    connection: Connection
    beginning: dict[str, dict[str, int]]
    most: int
    tasks: int
    gaps: bool

    def to_json(self) -> str:
        """Return the options as text."""
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> Options:
        """Return the options that `to_json` wrote."""
        known = json.loads(text)
        given: dict[str, Any] = known.pop("connection")
        login: dict[str, Any] = {
            name: Path(text) if text and name.endswith("_file") else text for name, text in given["login"].items()
        }
        return cls(Connection(**{**given, "login": Login(**login)}), **known)


class Share(InputPartition):
    """The ranges that one task reads."""

    def __init__(self, ranges: list[Range]) -> None:
        super().__init__(ranges)
        self.ranges = ranges


class KafkaRanges(DataSource):
    """The streaming source `kafka-ranges`, with one option, `options`: `Options` as JSON."""

    def __init__(self, options: MutableMapping[str, str]) -> None:
        super().__init__(options)
        self._options = Options.from_json(options["options"])

    @classmethod
    def name(cls) -> str:
        """Return the name that `readStream.format` takes."""
        return "kafka-ranges"

    def schema(self) -> str:
        """Return the columns: those of `Range`."""
        return SCHEMA

    def streamReader(self, schema: StructType) -> DataSourceStreamReader:  # noqa: ARG002, N802 - Spark's signature
        """Return the reader."""
        return RangeReader(self._options)


class RangeReader(DataSourceStreamReader, SupportsTriggerAvailableNow):
    """Plans micro-batches: their offsets, and how tasks share them."""

    def __init__(self, options: Options) -> None:
        self._options = options
        self._topics = Topics(options.connection)
        self._final: dict[Place, int] | None = None

    def initialOffset(self) -> dict[str, dict[str, int]]:  # noqa: N802
        """Return the offsets at which the run begins."""
        return self._options.beginning

    def getDefaultReadLimit(self) -> ReadLimit:  # noqa: N802
        """Return the limit of a micro-batch."""
        return ReadMaxRows(self._options.most)

    def prepareForTriggerAvailableNow(self) -> None:  # noqa: N802
        """Store the current end offsets as the end of the query."""
        _, self._final = self._topics.bounds(self._topics.places())

    def latestOffset(self, start: Position, limit: ReadLimit) -> dict[str, dict[str, int]]:  # noqa: N802
        """Return the end of the micro-batch that begins at `start`.

        Raises
        ------
        KafkaUnavailable, TopicMissing, ConfigError, Refused
            When the brokers do not answer; Refused also when records after `start` are deleted.
        """
        known = flat(start)
        places = self._topics.places()
        begins = {place: known.get(place, 0) for place in places}  # a new partition begins at 0
        first, ends = self._topics.bounds(places)
        check_held(begins, first, ends, gaps=self._options.gaps)
        if self._final is not None:
            ends = {place: min(end, self._final.get(place, 0)) for place, end in ends.items()}
        most = None if isinstance(limit, ReadAllAvailable) else self._most(known)
        return nested(known | limited(begins, ends, most))

    def _most(self, start: Mapping[Place, int]) -> int:
        """Return the limit of a micro-batch that begins at `start`.

        A micro-batch is at most as large as all before it together. So the model that predicts it has seen at least as
        many records, and the error over the offset shows how the model learns. The limit depends on offsets alone, so a
        run that was interrupted cuts the same micro-batches as one that was not.
        """
        before = sum(start.values()) - sum(flat(self._options.beginning).values())
        return min(self._options.most, max(FIRST, before))

    def partitions(self, start: Position, end: Position) -> list[Share]:
        """Return the shares of the tasks."""
        return [Share(share) for share in planned(start, end, self._options.tasks)]

    def read(self, partition: InputPartition) -> Iterator[tuple[str, int, int, int]]:
        """Yield the ranges of a task."""
        yield from partition.ranges  # type: ignore[attr-defined]


def limited(begins: Mapping[Place, int], ends: Mapping[Place, int], most: int | None) -> dict[Place, int]:
    """Return end offsets that leave about `most` offsets in total, shared in proportion to the partitions' sizes.

    Each partition with records gets at least one, so that a large partition does not hold up a small one.
    """
    held = {place: max(end - begins[place], 0) for place, end in ends.items()}
    total = sum(held.values())
    if most is None or total <= most:
        return {place: begins[place] + count for place, count in held.items()}
    found, before = {}, 0
    for place, count in held.items():
        after = before + count
        found[place] = begins[place] + max(after * most // total - before * most // total, min(count, 1))
        before = after
    return found


def planned(start: Position, end: Position, tasks: int) -> list[list[Range]]:
    """Return the ranges of each task; the same for the same offsets, so that a replay sums up in the same order."""
    before = flat(start)
    ranges = [Range(*place, before.get(place, 0), stop) for place, stop in flat(end).items()]
    return shares([span for span in ranges if span.end > span.start], tasks)


def shares(ranges: Iterable[Range], tasks: int) -> list[list[Range]]:
    """Divide ranges, in order, into at most `tasks` shares with the same number of offsets.

    Large ranges are split and small ones combined, so that all cores work whatever the number of partitions.
    """
    waiting = list(ranges)
    total = sum(span.end - span.start for span in waiting)
    size = max(-(-total // tasks), LEAST_PER_TASK)
    found: list[list[Range]] = []
    room = 0
    for span in waiting:
        start = span.start
        while start < span.end:
            if room == 0:
                found.append([])
                room = size
            end = min(span.end, start + room)
            found[-1].append(span._replace(start=start, end=end))
            room -= end - start
            start = end
    return found
