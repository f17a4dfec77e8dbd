"""The micro-batch protocol: one pass, one Spark job, exactly once in effect."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from datetime import date, datetime, timezone
from functools import partial
from typing import Any

import numpy as np
from elasticsearch import Elasticsearch
from pyspark.sql import DataFrame

from streaming_regression import documents, scoring
from streaming_regression.documents import Course, Origin
from streaming_regression.elasticsearch import bulk, indices
from streaming_regression.elasticsearch import connection as elasticsearch
from streaming_regression.elasticsearch.indices import Indices
from streaming_regression.errors import Refused
from streaming_regression.files import REMEDY
from streaming_regression.health import Health, by_topic
from streaming_regression.kafka.admin import Topics
from streaming_regression.kafka.connection import Range
from streaming_regression.kafka.ranges import Options, planned
from streaming_regression.learners import DivergedError, Learner, Model, Statistics
from streaming_regression.prometheus import Errors, Metrics
from streaming_regression.scoring import Found
from streaming_regression.settings import Settings
from streaming_regression.state import State, StateStore
from streaming_regression.streaks import IN_A_ROW, Streaks

log = logging.getLogger(__name__)

TASKS_PER_CORE = 1
"""Tasks of a micro-batch per core (or per unit of spark.default.parallelism, if it is set). All tasks get the same
number of offsets, so more tasks would only add their fixed cost (10 ms and more each)."""


class MicroBatches:
    """Holds the model and processes the micro-batches. All methods run on the driver.

    After a crash at any point the micro-batch is replayed with the same offsets, the same previous model and the same
    document ids, because the model's state is written last, just before Spark commits the micro-batch.
    """

    def __init__(
        self,
        settings: Settings,
        learner: Learner,
        connection: elasticsearch.Connection,
        client: Elasticsearch,
        store: StateStore,
        topics: Topics,
        *,
        options: Options,
    ) -> None:
        self._settings = settings
        self._learner = learner
        self._connection = connection
        self._client = client
        self._store = store
        self._topics = topics
        self._options = options
        self._latest: tuple[int, State] = (-1, State(Model(np.array(settings.initial)), Health()))
        # With --available-now a run may have fewer micro-batches than IN_A_ROW.
        self._streaks = Streaks(settings.index_prefix, 1 if settings.available_now else IN_A_ROW)
        self._indices = Indices(settings.index_prefix, settings.fields)
        self.metrics = Metrics(settings.topics, learner.name, settings.fields.layout.columns)
        self._published = False
        self._prepared: set[date] = set()
        self._expired_on: date | None = None
        self._refreshing: threading.Thread | None = None

    def process(self, frame: DataFrame, batch: int) -> None:
        """Process micro-batch `batch`. After a crash Spark calls this again, with the same result."""
        start = time.monotonic()
        done = self._store.load(batch)
        if done is not None:
            log.info("batch %d: was finished before", batch)
            self._latest = (batch, done)
            self.metrics.restore(done.model, done.health)
            return
        before = self._before(batch)
        self._prepare(batch)
        origin, found = self._score(frame, batch, before)
        health, drifted = before.health.after(batch, found.partitions, found.scores, self._settings.drift_growth)
        after = State(self._learn(before.model, found.statistics), health)
        course = None
        if found.partitions or found.gaps:  # otherwise the offsets hold only transaction markers
            course = self._publish(origin, found, after.model, start, drifted)
        self._store.save(batch, after)
        self._latest = (batch, after)
        self.metrics.note(after.model, after.health, found.partitions, course)

    def _before(self, batch: int) -> State:
        """Return the state after micro-batch `batch` - 1, from memory or, after a restart, from the checkpoint."""
        if self._latest[0] == batch - 1:
            return self._latest[1]
        state = self._store.load(batch - 1)
        if state is None:
            raise Refused(
                f"checkpoint {self._settings.checkpoint}: model/{batch - 1}.json is missing, so batch {batch} has "
                f"no model to start from: {REMEDY}"
            )
        return state

    def _prepare(self, batch: int) -> None:
        """Create today's indices, once a day; for the first micro-batch also those of the day when it began."""
        days = {datetime.now(timezone.utc).date()}
        if not self._prepared:
            days.add(self._store.began(batch).date())
        for day in sorted(days - self._prepared):
            self._indices.prepare(self._connection, self._client, day)
            self._prepared.add(day)

    def _score(self, frame: DataFrame, batch: int, before: State) -> tuple[Origin, Found]:
        """Predict and write all records in one Spark job; return its results, bounded in size by partitions and d²."""
        settings = self._settings
        run = self._store.run()
        assert run is not None  # noqa: S101 - `StateStore.begin` wrote it before the query started
        origin = Origin(run, batch, self._store.began(batch), settings.index_prefix)
        task = scoring.Task(
            origin=origin,
            fields=settings.fields,
            format=settings.format,
            train_topic=settings.kafka_train_topic,
            model=replace(before.model, memory=None),
            connection=self._connection,
            kafka=self._topics.connection,
            gaps=settings.on_data_loss == "continue",
            points_fraction=settings.points_fraction,
            scales=before.health.scales,
            drift_growth=settings.drift_growth,
            uncertainty=self._learner.uncertainty(before.model) if settings.prediction_intervals else None,
        )
        # The same ranges as in `frame`, at half the cost: Spark plans no query and needs one Python worker per task
        # instead of two.
        spark = frame.sparkSession.sparkContext
        # Asked for each micro-batch, because executors can come and go.
        shares = self._planned(batch, TASKS_PER_CORE * spark.defaultParallelism)
        tasks = spark.parallelize(shares, max(1, len(shares)))
        return origin, scoring.found(tasks.mapPartitions(partial(scoring.score, task=task)).collect())

    def _planned(self, batch: int, tasks: int) -> list[list[Range]]:
        """Return the ranges of offsets for each of at most `tasks` tasks, from Spark's offset log."""
        begin = self._store.end_offsets(batch - 1) if batch else self._options.beginning
        return planned(begin, self._store.end_offsets(batch), tasks)

    def _learn(self, before: Model, parts: list[Statistics]) -> Model:
        """Return the next model, or the last good one if the learner diverged; log once each weight it cannot learn."""
        total = Statistics.total(parts, len(self._settings.fields.layout.columns))
        try:
            after = self._learner.update(before, total)
        except DivergedError as error:
            log.error("the last good model stays: %s", error)
            return before
        doubts = self._learner.doubts(after, total)
        for text in dict.fromkeys(text for feature, text in doubts.items() if feature not in before.warned):
            log.warning("%s", text)
        return replace(after, warned=before.warned | doubts.keys())

    def _publish(self, origin: Origin, found: Found, after: Model, start: float, drifted: set[str]) -> Course:
        """Write the gaps, metrics and model of the micro-batch, log it, and delete old indices once a day."""
        seconds = time.monotonic() - start
        lag = self._topics.lag(self._store.end_offsets(origin.batch))
        fields, name = self._settings.fields, self._learner.name
        for gap in found.gaps:
            log.error(
                "%d records were deleted from Kafka before they were read: %s-%d, offsets %d to %d",
                gap.last - gap.first + 1,
                *gap,
            )
        lines = documents.gaps(origin, found.gaps) + documents.metrics(origin, found.partitions)
        drift = {role: topic in drifted for role, topic in self._settings.topics.items()} if drifted else {}
        restarted = origin.batch > 0 and not self._published
        course = Course(seconds, lag, self._settings.points_fraction, drift, restarted)
        lines += documents.model(origin, fields, name, after, course)
        bulk.write_all(self._connection, self._client, lines, self._indices)
        self._published = True
        if self._settings.index_refresh_interval_s is None:
            self._refreshing = indices.refresh(self._client, origin, self._refreshing)
        _log(origin.batch, found, self._settings, seconds, lag)
        self._streaks.note(origin.batch, found.partitions, found.reasons)
        today = origin.time.date()
        if self._settings.retention_days and today != self._expired_on:
            indices.expire(self._connection, self._client, origin.prefix, today, self._settings.retention_days)
            self._expired_on = today
        return course


def _log(batch: int, found: Found, settings: Settings, seconds: float, lag: int | None) -> None:
    topics = by_topic(found.partitions)
    rows = sum(numbers.rows for numbers in topics.values())
    values: dict[str, Any] = {
        "batch": batch,
        "rows": rows,
        "invalid": sum(numbers.invalid for numbers in topics.values()),
    }
    for role, topic in settings.topics.items():
        errors = Errors.of(topics[topic]) if topic in topics else None
        values[f"mse_{role}"] = errors.mean_squared_error if errors else None
    values |= {"rows_per_second": round(rows / seconds), "seconds": round(seconds, 3), "lag": lag}
    text = "batch %d: %d rows, %d invalid, MSE train %s, test %s, %d rows/s, %.2f s, lag %s"
    shown = [value if value is not None else "-" for value in values.values()]
    shown[3:5] = [value if isinstance(value, str) else f"{value:.6g}" for value in shown[3:5]]
    log.info(text, *shown, extra={"values": {**values, "stages": dict(found.seconds)}})
    stages = ", ".join(f"{name} {spent:.2f}" for name, spent in found.seconds.items())
    log.debug("batch %d: seconds in tasks: %s", batch, stages)
