"""What runs on executors: decode, predict, write, and return the statistics, all in one pass over a partition."""

from __future__ import annotations

import gc
import math
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cache
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa
from elasticsearch import Elasticsearch

from streaming_regression import documents, sink
from streaming_regression.decode import Fields, Invalid, decode
from streaming_regression.documents import Origin, Points, Records, Tally
from streaming_regression.errors import BY_NAME, StreamError
from streaming_regression.learners import Floats, Model, Statistics
from streaming_regression.sink import Refusal

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
        ("batch_time", pa.int64()),  # microseconds since 1970: Spark would make the driver's local time of it
        ("seconds", pa.list_(pa.float64())),
        ("error", pa.string()),
        ("message", pa.string()),
    ]
)
"""One row per topic and partition, or one with `error` and `message`: data, because an exception in Spark's executors
reaches the driver as text and is tried again by Spark, which the sink has done already."""


@dataclass(frozen=True, slots=True)
class Task:
    """What every executor needs to know of a micro-batch."""

    batch: int
    run: str
    prefix: str
    fields: Fields
    train_topic: str
    weights: Floats
    connection: sink.Connection


@dataclass(slots=True)
class _Part:
    """The statistics so far of one topic and partition; the names are those of `RESULT`."""

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

    def add(self, records: Records, points: Points, learn: bool) -> None:
        known = ~np.isnan(points.y)
        x, y, pred = points.x[known], points.y[known], points.pred[known]
        error = y - pred
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
        return {**numbers, "learned": self.statistics.rows, "factor": self.statistics.factor.ravel().tolist()}


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
    """Yield one row of `RESULT` per topic and partition, after all points and invalid records are acknowledged.

    `batches` hold columns topic, partition, offset, timestamp, value and batch_time. Predictions are those of the model
    before the micro-batch. A point that Elasticsearch refuses becomes an invalid record and is not learned.
    """
    try:
        with ThreadPoolExecutor(WRITES_AHEAD) as pool:
            rows = _Scorer(task, _client(task.connection), pool).run(batches)
    except StreamError as error:
        rows = [{"error": type(error).__name__, "message": str(error)}]
    yield pa.RecordBatch.from_pylist(rows, schema=RESULT)
    freeze()


@cache
def _client(connection: sink.Connection) -> Elasticsearch:
    """Return this process's client: the next task finds its connections open."""
    return connection.open()


@cache
def freeze() -> None:
    """Leave out of all later garbage collections what this process has imported, once.

    Spark's worker collects after each task: 30 to 60 ms over these modules, more than a small task takes.
    """
    gc.collect()
    gc.freeze()


class _Scorer:
    def __init__(self, task: Task, client: Elasticsearch, pool: Executor) -> None:
        self._task = task
        self._client = client
        self._pool = pool
        self._model = Model(task.weights)
        self._clock = _Clock()
        self._parts: dict[tuple[str, int], _Part] = {}
        self._under_way: deque[tuple[Origin, Records, Points, Future[list[Refusal]]]] = deque()

    def run(self, batches: Iterable[pa.RecordBatch]) -> list[dict[str, object]]:
        batch_time: int | None = None
        for batch in batches:
            self._clock.charge("read")
            batch_time = int(batch["batch_time"].cast(pa.int64())[0].as_py())
            origin = Origin.at(batch_time, self._task.run, self._task.batch, self._task.prefix)
            for records in _partitions(batch):
                self._send(origin, records)
                if len(self._under_way) > WRITES_AHEAD:
                    self._settle(*self._under_way.popleft())
        self._clock.charge("read")
        while self._under_way:
            self._settle(*self._under_way.popleft())
        share = max(1, len(self._parts))  # the task's seconds, once in the sum over its parts
        shared = {"batch_time": batch_time, "seconds": [spent / share for spent in self._clock.seconds.values()]}
        return [{**part.row(), **shared} for part in self._parts.values()]

    def _send(self, origin: Origin, records: Records) -> None:
        """Decode, predict and encode, and begin to write."""
        learn = records.topic == self._task.train_topic
        decoded = decode(records.values, self._task.fields, label_needed=learn)
        self._clock.charge("decode")
        pred = self._model.predict(decoded.x)
        points = Points(np.array(decoded.positions, np.int64), decoded.x, decoded.y, pred)
        self._clock.charge("predict")
        faulty = documents.invalid(origin, records, decoded.invalid)
        lines = documents.points(origin, self._task.fields, records, points)
        self._clock.charge("encode")
        self._under_way.append((origin, records, points, self._pool.submit(self._write, origin, lines, faulty)))

    def _write(self, origin: Origin, lines: list[str], faulty: list[str]) -> list[Refusal]:
        connection = self._task.connection
        sink.write_all(connection, self._client, faulty, origin.index("invalid"))
        return sink.write(connection, self._client, lines, origin.index("points"))

    def _settle(self, origin: Origin, records: Records, points: Points, writing: Future[list[Refusal]]) -> None:
        """Wait until records are acknowledged, then count and learn what became a point."""
        refusals = writing.result()
        if refusals:
            faults = [Invalid(int(points.positions[one.position]), None, one.reason) for one in refusals]
            self._write(origin, [], documents.invalid(origin, records, faults))
            points = points.without([one.position for one in refusals])
        self._clock.charge("write")
        place = (records.topic, records.partition)
        if place not in self._parts:
            empty = Statistics.empty(len(self._task.fields.features))
            self._parts[place] = _Part(*place, int(records.offsets[0]), int(records.offsets[-1]), empty)
        self._parts[place].add(records, points, learn=records.topic == self._task.train_topic)
        self._clock.charge("statistics")


def _partitions(batch: pa.RecordBatch) -> Iterator[Records]:
    """Yield the records of an Arrow batch by topic and partition; Spark gives a task those of one, as a rule."""
    start = 0
    for place, same in groupby(zip(batch["topic"].to_pylist(), batch["partition"].to_pylist(), strict=True)):
        part = batch.slice(start, sum(1 for _ in same))
        start += part.num_rows
        times = part["timestamp"].to_numpy(zero_copy_only=False).astype("datetime64[ms]")
        yield Records(*place, part["offset"].to_numpy(), times, part["value"].to_pylist())


def parts(rows: Iterable[Mapping[str, Any]]) -> list[tuple[Tally, Statistics]]:
    """Return what `score` found, on the driver, in the order of topic and partition whatever that of the executors.

    Raises
    ------
    ConfigError, ServerUnavailable, Refused
        The first that an executor ran into.
    """
    found = []
    for row in rows:
        if row["error"]:
            raise BY_NAME[row["error"]](row["message"])
        size = math.isqrt(len(row["factor"]))
        statistics = Statistics(row["learned"], np.array(row["factor"]).reshape(size, size))
        found.append((Tally(**{one.name: row[one.name] for one in fields(Tally)}), statistics))
    return sorted(found, key=lambda one: (one[0].topic, one[0].partition))
