"""What runs on executors: decode, predict, write, and return the statistics, all in one pass over a partition."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from functools import cache
from itertools import starmap
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
from elasticsearch import Elasticsearch

from streaming_regression import documents, sampling, streaks
from streaming_regression.decode import Fields, Invalid, decode
from streaming_regression.documents import Gap, Origin, Points, Records, Tally
from streaming_regression.errors import BY_NAME, StreamError
from streaming_regression.kafka import consumer
from streaming_regression.kafka.connection import Connection, Range
from streaming_regression.learners import Model, Statistics
from streaming_regression.sink import bulk
from streaming_regression.sink import connection as elasticsearch
from streaming_regression.sink.bulk import Refusal
from streaming_regression.sink.indices import Indices

STAGES = ("read", "decode", "predict", "encode", "write", "statistics")
WRITES_AHEAD = 2
"""Bulk requests under way while the next records are decoded; more brought nothing on 2 cores (bench/pipeline.py)."""

RESULT = pa.schema(
    [
        ("topic", pa.string()),
        ("partition", pa.int32()),
        *[(name, pa.int64()) for name in ("first_offset", "last_offset", "rows", "labelled", "invalid")],
        *[(name, pa.float64()) for name in ("sum_squared_error", "sum_absolute_error", "sum_y", "sum_y_squared")],
        ("learned", pa.int64()),
        ("factor", pa.list_(pa.float64())),
        ("shift", pa.list_(pa.float64())),
        ("gaps", pa.list_(pa.list_(pa.int64()))),  # first and last offset of records that are gone
        (
            "reasons",  # of invalid records, the most frequent ones
            pa.list_(pa.struct([("field", pa.string()), ("reason", pa.string()), ("count", pa.int64())])),
        ),
        ("batch_time", pa.int64()),  # microseconds since 1970: Spark would make the driver's local time of it
        ("seconds", pa.list_(pa.float64())),
        ("error", pa.string()),
        ("message", pa.string()),
    ]
)
"""One row per range of offsets, or one with `error` and `message`: data, because an exception in Spark's executors
reaches the driver as text and is tried again by Spark, which the sink has done already."""


@dataclass(frozen=True, slots=True)
class Task:
    """What every executor needs to know of a micro-batch."""

    batch: int
    run: str
    prefix: str
    fields: Fields
    train_topic: str
    model: Model  # without its memory, which executors do not need
    connection: elasticsearch.Connection
    kafka: Connection
    gaps: bool
    points_fraction: float


@dataclass(slots=True)
class _Part:
    """The statistics so far of one range of offsets; the names are those of `RESULT`."""

    topic: str
    partition: int
    first_offset: int
    last_offset: int
    statistics: Statistics
    rows: int = 0
    labelled: int = 0
    invalid: int = 0
    sum_squared_error: float = 0.0
    sum_absolute_error: float = 0.0
    sum_y: float = 0.0
    sum_y_squared: float = 0.0
    gaps: list[tuple[int, int]] = field(default_factory=list)
    reasons: Counter[streaks.Reason] = field(default_factory=Counter)

    def add(self, records: Records, points: Points, learn: bool) -> None:
        known = ~np.isnan(points.y)
        x, y, pred = points.x[known], points.y[known], points.pred[known]
        error = y - pred
        if not self.rows:
            self.first_offset = int(records.offsets[0])
        self.last_offset = int(records.offsets[-1])
        self.rows += len(records.offsets)
        self.labelled += len(y)
        self.invalid += len(records.offsets) - len(points.y)
        self.sum_squared_error += float(error @ error)
        self.sum_absolute_error += float(np.abs(error).sum())
        self.sum_y += float(y.sum())
        self.sum_y_squared += float(y @ y)
        if learn:
            self.statistics = self.statistics.with_rows(x, y)

    def row(self) -> dict[str, object]:
        numbers = {name.name: getattr(self, name.name) for name in fields(self) if name.name != "statistics"}
        numbers["reasons"] = streaks.commonest(self.reasons)
        learned = self.statistics
        lists = {"factor": learned.factor.ravel().tolist(), "shift": learned.shift.tolist()}
        return {**numbers, "learned": learned.rows, **lists}


class _Clock:
    """Seconds per stage, in wall time of the thread that runs `score`."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._last = time.perf_counter()

    def charge(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] += now - self._last
        self._last = now


def score(batches: Iterable[pa.RecordBatch], task: Task) -> Iterator[pa.RecordBatch]:
    """Yield one row of `RESULT` per range of offsets, after all points and invalid records are acknowledged.

    `batches` hold ranges of offsets (`ranges.SCHEMA`), one a row, and the column batch_time. Predictions are those of
    the model before the micro-batch. A point that Elasticsearch refuses becomes an invalid record and is not learned.
    """
    try:
        with ThreadPoolExecutor(WRITES_AHEAD) as pool:
            rows = _Scorer(task, _client(task.connection), pool).run(batches)
    except StreamError as error:
        rows = [{"error": type(error).__name__, "message": str(error)}]
    yield pa.RecordBatch.from_pylist(rows, schema=RESULT)


@cache
def _client(connection: elasticsearch.Connection) -> Elasticsearch:
    """Return this process's client: the next task finds its connections open."""
    return connection.open()


def warm_up(rows: Iterator[pa.RecordBatch], kafka: Connection) -> Iterator[pa.RecordBatch]:
    """Yield `rows` as they are, after the imports of this module; open the connection to Kafka."""
    consumer.reader(kafka)
    yield from rows


class _Chunk(NamedTuple):
    """Records that are being written: all their points, and those of them that are stored."""

    wanted: Range
    origin: Origin
    records: Records
    points: Points
    stored: Points
    writing: Future[list[Refusal]]


class _Scorer:
    def __init__(self, task: Task, client: Elasticsearch, pool: Executor) -> None:
        self._task = task
        self._client = client
        self._indices = Indices(task.prefix, task.fields)
        self._pool = pool
        self._model = task.model
        self._clock = _Clock()
        self._parts: dict[Range, _Part] = {}
        self._under_way: deque[_Chunk] = deque()

    def run(self, batches: Iterable[pa.RecordBatch]) -> list[dict[str, object]]:
        batch_time: int | None = None
        for batch in batches:
            batch_time = int(batch["batch_time"].cast(pa.int64())[0].as_py())
            origin = Origin.at(batch_time, self._task.run, self._task.batch, self._task.prefix)
            self._read(origin, _ranges(batch))
        while self._under_way:
            self._settle(self._under_way.popleft())
        share = max(1, len(self._parts))  # the task's seconds, once in the sum over its parts
        shared = {"batch_time": batch_time, "seconds": [spent / share for spent in self._clock.seconds.values()]}
        return [{**part.row(), **shared} for part in self._parts.values()]

    def _read(self, origin: Origin, share: Iterator[Range]) -> None:
        for wanted, found in consumer.reader(self._task.kafka).read(share, gaps=self._task.gaps):
            self._clock.charge("read")
            if isinstance(found, Gap):
                self._part(wanted).gaps.append((found.first, found.last))
                continue
            self._send(wanted, origin, found)
            if len(self._under_way) > WRITES_AHEAD:
                self._settle(self._under_way.popleft())
        self._clock.charge("read")

    def _part(self, wanted: Range) -> _Part:
        if wanted not in self._parts:
            empty = Statistics.empty(len(self._task.fields.features))
            self._parts[wanted] = _Part(wanted.topic, wanted.partition, wanted.start, wanted.start, empty)
        return self._parts[wanted]

    def _send(self, wanted: Range, origin: Origin, records: Records) -> None:
        """Decode and predict all records, encode those points that are stored, and begin to write."""
        learn = records.topic == self._task.train_topic
        decoded = decode(records.values, self._task.fields, label_needed=learn)
        self._part(wanted).reasons += streaks.count(decoded.invalid)
        self._clock.charge("decode")
        pred = self._model.predict(decoded.x)
        points = Points(np.array(decoded.positions, np.int64), decoded.x, decoded.y, pred)
        self._clock.charge("predict")
        faulty = documents.invalid(origin, records, decoded.invalid)
        stored = self._sample(records, points)
        lines = documents.points(origin, self._task.fields, records, stored)
        self._clock.charge("encode")
        writing = self._pool.submit(self._write, origin, records, lines, decoded.invalid, faulty)
        self._under_way.append(_Chunk(wanted, origin, records, points, stored, writing))

    def _sample(self, records: Records, points: Points) -> Points:
        """Return the points to store."""
        fraction = self._task.points_fraction
        if fraction >= 1:
            return points
        offsets = records.offsets[points.positions]
        return points.only(sampling.chosen(records.topic, records.partition, offsets, fraction))

    def _write(
        self, origin: Origin, records: Records, lines: list[str], faults: list[Invalid], faulty: list[str]
    ) -> list[Refusal]:
        """Write points and invalid records; return the points that were refused."""
        self._keep(origin, records, faults, faulty)
        return bulk.write(self._task.connection, self._client, lines, self._indices, origin.index("points"))

    def _keep(self, origin: Origin, records: Records, faults: list[Invalid], faulty: list[str]) -> None:
        """Write invalid records, one that is refused with the beginning of its value only."""
        index = origin.index("invalid")
        refusals = bulk.write(self._task.connection, self._client, faulty, self._indices, index)
        if refusals:
            again = [faults[refusal.position] for refusal in refusals]
            shorter = documents.invalid(origin, records, again, whole=False)
            bulk.write_all(self._task.connection, self._client, shorter, self._indices, index)

    def _settle(self, chunk: _Chunk) -> None:
        """Wait until records are acknowledged, then count and learn what became a point."""
        wanted, origin, records, points, stored, writing = chunk
        refusals = writing.result()
        if refusals:
            faults = [Invalid(int(stored.positions[one.position]), None, one.reason) for one in refusals]
            self._keep(origin, records, faults, documents.invalid(origin, records, faults))
            points = points.without([fault.position for fault in faults])
            self._part(wanted).reasons += streaks.count(faults)
        self._clock.charge("write")
        self._part(wanted).add(records, points, learn=records.topic == self._task.train_topic)
        self._clock.charge("statistics")


def _ranges(batch: pa.RecordBatch) -> Iterator[Range]:
    columns = [batch[name].to_pylist() for name in Range._fields]
    return starmap(Range, zip(*columns, strict=True))


@dataclass(frozen=True, slots=True)
class Found:
    """What the executors found in a micro-batch, in the order of topic, partition and offset; `reasons` by topic."""

    tallies: list[Tally]
    statistics: list[Statistics]
    gaps: list[Gap]
    reasons: dict[str, Counter[streaks.Reason]] = field(default_factory=dict)


def found(rows: Iterable[Mapping[str, Any]]) -> Found:
    """Return what `score` found, on the driver, in the same order whatever the executors' order.

    Raises
    ------
    StreamError
        The first that an executor ran into.
    """
    result = Found([], [], [])
    for row in sorted(rows, key=_place):
        if row["error"]:
            raise BY_NAME[row["error"]](row["message"])
        result.gaps.extend(Gap(row["topic"], row["partition"], *gap) for gap in row["gaps"])
        if not row["rows"]:
            continue
        size = len(row["shift"]) + 1
        factor = np.array(row["factor"]).reshape(size, size)
        result.statistics.append(Statistics(row["learned"], factor, np.array(row["shift"])))
        result.reasons.setdefault(row["topic"], Counter()).update(streaks.summed(row["reasons"]))
        tally = Tally(**{field.name: row[field.name] for field in fields(Tally)})
        last = result.tallies[-1] if result.tallies else None
        if last and (last.topic, last.partition) == (tally.topic, tally.partition):
            result.tallies[-1] = last.joined(tally)
        else:
            result.tallies.append(tally)
    return result


def _place(row: Mapping[str, Any]) -> tuple[str, int, int]:
    return row["topic"] or "", row["partition"] or 0, row["first_offset"] or 0
