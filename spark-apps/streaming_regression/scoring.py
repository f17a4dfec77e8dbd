"""The work of the executors: read, decode, predict, write and collect statistics, in one pass over the records."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field, fields
from functools import cache
from typing import NamedTuple

import numpy as np
from elasticsearch import Elasticsearch

from streaming_regression import documents, formats, sampling, streaks
from streaming_regression.documents import Gap, Origin, PartitionMetrics, Points, Records
from streaming_regression.drift import Scores, scores
from streaming_regression.elasticsearch import bulk
from streaming_regression.elasticsearch import connection as elasticsearch
from streaming_regression.elasticsearch.bulk import Refusal
from streaming_regression.elasticsearch.indices import Indices
from streaming_regression.errors import StreamError
from streaming_regression.formats import Format
from streaming_regression.kafka import consumer
from streaming_regression.kafka.connection import Connection, Range
from streaming_regression.learners import Model, Statistics, Uncertainty
from streaming_regression.records import Fields, Invalid, decode

STAGES = ("read", "decode", "predict", "encode", "write", "statistics")
WRITES_AHEAD = 2
"""Bulk writes in progress while the next records are decoded; more gave no speed on 2 cores (bench/pipeline.py)."""


@dataclass(frozen=True, slots=True)
class Task:
    """The data of a micro-batch that every executor needs."""

    origin: Origin
    fields: Fields
    format: Format
    train_topic: str
    model: Model  # without its memory, which executors do not need
    connection: elasticsearch.Connection
    kafka: Connection
    gaps: bool
    points_fraction: float
    scales: Mapping[str, float]  # by topic; a topic without one gets no scores
    drift_growth: float
    uncertainty: Uncertainty | None  # None: no standard errors


@dataclass(slots=True)
class Part:
    """The results for a range of offsets; most names are those of `PartitionMetrics`."""

    topic: str
    partition: int
    first_offset: int
    last_offset: int
    statistics: Statistics | None = None  # None: nothing was learned
    rows: int = 0
    labelled: int = 0
    invalid: int = 0
    sum_squared_error: float = 0.0
    sum_absolute_error: float = 0.0
    sum_y: float = 0.0
    sum_y_squared: float = 0.0
    gaps: list[Gap] = field(default_factory=list)
    reasons: Counter[streaks.Reason] = field(default_factory=Counter)
    scores: Scores = field(default_factory=Scores)

    def add(self, records: Records, points: Points, task: Task) -> None:
        """Count records; in the train topic, add the points with a label to the statistics."""
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
        if self.topic in task.scales:
            self.scores += scores(error, task.scales[self.topic], task.drift_growth)
        if self.topic == task.train_topic and len(y):
            self.statistics = (self.statistics or Statistics.empty(x.shape[1])).with_rows(x, y)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of a task.

    Attributes
    ----------
    parts : the results for each range of offsets with records or gaps.
    seconds : wall time by the name of the stage.
    error : why the task failed. It is returned instead of raised, because Spark would pass an exception on as text
        only and run the task again, although the sink has already retried.
    """

    parts: list[Part]
    seconds: dict[str, float]
    error: StreamError | None = None


class _Clock:
    """Seconds per stage, in wall time of the thread that runs `score`."""

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._last = time.perf_counter()

    def charge(self, stage: str) -> None:
        now = time.perf_counter()
        self.seconds[stage] += now - self._last
        self._last = now


def score(shares: Iterable[list[Range]], task: Task) -> Iterator[Outcome]:
    """Read, predict and write ranges of offsets; yield the results once Elasticsearch has acknowledged all documents.

    Predictions are made with the model before the micro-batch. A point that Elasticsearch refuses becomes an invalid
    record and is not learned.
    """
    return (_outcome(share, task) for share in shares)


def _outcome(share: list[Range], task: Task) -> Outcome:
    try:
        with ThreadPoolExecutor(WRITES_AHEAD) as pool:
            return _Scorer(task, _client(task.connection), pool).run(share)
    except StreamError as error:
        return Outcome([], {}, error)


@cache
def _client(connection: elasticsearch.Connection) -> Elasticsearch:
    """Return this process's client, so that the next task reuses its connections."""
    return connection.open()


def warm_up(_: Iterable[object], kafka: Connection) -> Iterator[object]:
    """Open the connection to Kafka. A Spark job that calls this also starts the workers, which import this module."""
    consumer.reader(kafka)
    yield from ()


class _Chunk(NamedTuple):
    """Records that are being written, all their points, and the points that are stored."""

    wanted: Range
    records: Records
    points: Points
    stored: Points
    writing: Future[list[Refusal]]


class _Scorer:
    def __init__(self, task: Task, client: Elasticsearch, pool: Executor) -> None:
        self._task = task
        self._origin = task.origin
        self._client = client
        self._indices = Indices(task.origin.prefix, task.fields)
        self._parser = formats.parser(task.format)
        self._pool = pool
        self._clock = _Clock()
        self._parts: dict[Range, Part] = {}
        self._under_way: deque[_Chunk] = deque()

    def run(self, share: list[Range]) -> Outcome:
        for wanted, found in consumer.reader(self._task.kafka).read(share, gaps=self._task.gaps):
            self._clock.charge("read")
            if isinstance(found, Gap):
                self._part(wanted).gaps.append(found)
                continue
            self._send(wanted, found)
            if len(self._under_way) > WRITES_AHEAD:
                self._settle(self._under_way.popleft())
        self._clock.charge("read")
        while self._under_way:
            self._settle(self._under_way.popleft())
        for part in self._parts.values():
            part.reasons = streaks.most_frequent(part.reasons)
        return Outcome(list(self._parts.values()), self._clock.seconds)

    def _part(self, wanted: Range) -> Part:
        if wanted not in self._parts:
            self._parts[wanted] = Part(wanted.topic, wanted.partition, wanted.start, wanted.start)
        return self._parts[wanted]

    def _send(self, wanted: Range, records: Records) -> None:
        """Decode and predict all records, encode the points to store, and start writing them."""
        learn = records.topic == self._task.train_topic
        decoded = decode(records.values, self._task.fields, label_needed=learn, parser=self._parser)
        self._part(wanted).reasons += streaks.count(decoded.invalid)
        self._clock.charge("decode")
        pred = self._task.model.predict(decoded.x)
        uncertainty = self._task.uncertainty
        errors = None if uncertainty is None else uncertainty.standard_errors(decoded.x)
        positions = np.array(decoded.positions, np.int64)
        points = Points(positions, decoded.x, decoded.y, pred, decoded.texts, errors)
        self._clock.charge("predict")
        faulty = documents.invalid(self._origin, records, decoded.invalid)
        stored = self._sample(records, points)
        lines = documents.points(self._origin, self._task.fields, records, stored)
        self._clock.charge("encode")
        writing = self._pool.submit(self._write, records, lines, decoded.invalid, faulty)
        self._under_way.append(_Chunk(wanted, records, points, stored, writing))

    def _sample(self, records: Records, points: Points) -> Points:
        """Return the points to store."""
        fraction = self._task.points_fraction
        if fraction >= 1:
            return points
        offsets = records.offsets[points.positions]
        return points.only(sampling.chosen(records.topic, records.partition, offsets, fraction))

    def _write(self, records: Records, lines: list[str], faults: list[Invalid], faulty: list[str]) -> list[Refusal]:
        """Write points and invalid records; return the points that were refused."""
        self._keep(records, faults, faulty)
        return bulk.write(self._task.connection, self._client, lines, self._indices, self._origin.index("points"))

    def _keep(self, records: Records, faults: list[Invalid], faulty: list[str]) -> None:
        """Write invalid records; write a refused record again with only the beginning of its value."""
        index = self._origin.index("invalid")
        refusals = bulk.write(self._task.connection, self._client, faulty, self._indices, index)
        if refusals:
            again = [faults[refusal.position] for refusal in refusals]
            shorter = documents.invalid(self._origin, records, again, whole=False)
            bulk.write_all(self._task.connection, self._client, shorter, self._indices, index)

    def _settle(self, chunk: _Chunk) -> None:
        """Wait until records are acknowledged, then count them and learn from their points."""
        wanted, records, points, stored, writing = chunk
        refusals = writing.result()
        if refusals:
            faults = [Invalid(int(stored.positions[refusal.position]), None, refusal.reason) for refusal in refusals]
            self._keep(records, faults, documents.invalid(self._origin, records, faults))
            points = points.without([fault.position for fault in faults])
            self._part(wanted).reasons += streaks.count(faults)
        self._clock.charge("write")
        self._part(wanted).add(records, points, self._task)
        self._clock.charge("statistics")


@dataclass(frozen=True, slots=True)
class Found:
    """The results of all tasks of a micro-batch, in the order of topic, partition and offset.

    Attributes
    ----------
    reasons : why records are invalid, by topic.
    scores : sums over the scores of the errors, by topic; for the test for drift.
    seconds : wall time by the name of the stage, the sum over all tasks.
    """

    partitions: list[PartitionMetrics] = field(default_factory=list)
    statistics: list[Statistics] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    reasons: dict[str, Counter[streaks.Reason]] = field(default_factory=dict)
    scores: dict[str, Scores] = field(default_factory=dict)
    seconds: Counter[str] = field(default_factory=Counter)


def found(outcomes: Iterable[Outcome]) -> Found:
    """Merge the results of tasks; the order of the result does not depend on the order of the tasks.

    Raises
    ------
    StreamError
        The first error that a task returned.
    """
    result = Found()
    parts: list[Part] = []
    for outcome in outcomes:
        if outcome.error:
            raise outcome.error
        parts += outcome.parts
        result.seconds.update(outcome.seconds)
    for part in sorted(parts, key=lambda part: (part.topic, part.partition, part.first_offset)):
        result.gaps.extend(part.gaps)
        if not part.rows:
            continue
        if part.statistics is not None:
            result.statistics.append(part.statistics)
        result.reasons.setdefault(part.topic, Counter()).update(part.reasons)
        result.scores[part.topic] = result.scores.get(part.topic, Scores()) + part.scores
        partition = PartitionMetrics(**{field.name: getattr(part, field.name) for field in fields(PartitionMetrics)})
        last = result.partitions[-1] if result.partitions else None
        if last and (last.topic, last.partition) == (partition.topic, partition.partition):
            result.partitions[-1] = last.joined(partition)
        else:
            result.partitions.append(partition)
    return result
