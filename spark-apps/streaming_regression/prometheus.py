"""The figures of the model and the stream in Prometheus' format; the driver serves them at http://HOST:PORT/metrics."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Histogram, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.registry import Collector

from streaming_regression.documents import Course, PartitionMetrics
from streaming_regression.errors import ConfigError
from streaming_regression.health import Health, Totals, by_topic
from streaming_regression.learners import Model

PREFIX = "streaming_regression"
BUCKETS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
"""Upper limits of the histogram of micro-batch durations, in seconds."""
CANCELLED = 1e-12
"""Share of Σy² up to which the labels' variance, a difference of two sums, may be only rounding: it has no digit."""
COUNTERS: tuple[tuple[str, str, Callable[[Totals], float]], ...] = (
    ("records", "Records read, including invalid ones.", lambda totals: totals.rows),
    ("labelled_records", "Valid records with a label.", lambda totals: totals.labelled),
    ("invalid_records", "Records that cannot be used.", lambda totals: totals.invalid),
    (
        "squared_error",
        "Sum of the squared errors of the predictions, in label units squared.",
        lambda totals: totals.sum_squared_error,
    ),
    (
        "absolute_error",
        "Sum of the absolute errors of the predictions, in label units.",
        lambda totals: totals.sum_absolute_error,
    ),
    ("drift_detections", "Detections of drift: the errors had grown.", lambda totals: totals.drifts),
)
"""Counters of each topic: name without prefix and `_total`, help text, and value."""


@dataclass(frozen=True, slots=True)
class Errors:
    """The errors of a topic in one micro-batch; `r_squared` is None if all labels are equal up to rounding."""

    mean_squared_error: float
    mean_absolute_error: float
    r_squared: float | None

    @classmethod
    def of(cls, numbers: PartitionMetrics) -> Errors | None:
        """Return the errors from the sums over a topic's points; None without a label."""
        rows, squares = numbers.labelled, numbers.sum_y_squared
        if not rows:
            return None
        mean = numbers.sum_y / rows
        varies = squares - rows * mean * mean
        explained = 1 - numbers.sum_squared_error / varies if varies > CANCELLED * squares else None
        return cls(numbers.sum_squared_error / rows, numbers.sum_absolute_error / rows, explained)


GAUGES: tuple[tuple[str, str, Callable[[Errors], float | None]], ...] = (
    (
        "mean_squared_error",
        "MSE of the predictions in the last micro-batch with labels, in label units squared.",
        lambda errors: errors.mean_squared_error,
    ),
    (
        "mean_absolute_error",
        "Mean absolute error of the predictions in the last micro-batch with labels, in label units.",
        lambda errors: errors.mean_absolute_error,
    ),
    (
        "r_squared",
        "Coefficient of determination of the predictions in the last micro-batch with labels; 1 is perfect.",
        lambda errors: errors.r_squared,
    ),
)
"""Gauges of each topic: name without prefix, help text, and value."""


class Metrics(Collector):
    """The current figures.

    The counters of a topic come from the checkpoint, so a restart or a replay counts nothing twice. Call
    `restore` before the first scrape: a counter that begins at 0 and then jumps would look like new records.
    """

    def __init__(
        self,
        topics: Mapping[str, str],
        learner: str,
        columns: Sequence[str],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._topics = topics
        self._learner = learner
        self._columns = columns
        self._clock = clock
        self._state: tuple[Model, Health] | None = None
        self._errors: dict[str, Errors] = {}
        self._lag: int | None = None
        self._success: float | None = None
        self._durations = Histogram(
            f"{PREFIX}_micro_batch_duration_seconds",
            "Duration of the micro-batches since the driver's start.",
            buckets=BUCKETS,
            registry=None,
        )

    def restore(self, model: Model, health: Health) -> None:
        """Take over the state from the checkpoint."""
        self._state = model, health

    def note(self, model: Model, health: Health, partitions: Sequence[PartitionMetrics], course: Course | None) -> None:
        """Take over the results of a finished micro-batch; `course` is None if it had no records."""
        found = {topic: Errors.of(numbers) for topic, numbers in by_topic(partitions).items()}
        self._errors = self._errors | {topic: errors for topic, errors in found.items() if errors}
        if course:
            self._lag = course.lag
            self._durations.observe(course.seconds)
        self._state = model, health
        self.succeeded()

    def succeeded(self) -> None:
        """Note that a micro-batch has ended, or that there was nothing to do."""
        self._success = self._clock()

    def collect(self) -> Iterator[Metric]:
        """Yield all metrics; `prometheus_client` calls this for each scrape, in a thread of its own."""
        yield InfoMetricFamily(PREFIX, "The learner of this driver.", {"learner": self._learner})
        yield from self._durations.collect()
        for name, text, value in (
            ("lag_records", "Records in Kafka that were not read at the end of the last micro-batch.", self._lag),
            (
                "last_success_timestamp_seconds",
                "When a micro-batch ended, or no record waited, for the last time.",
                self._success,
            ),
        ):
            if value is not None:
                yield GaugeMetricFamily(f"{PREFIX}_{name}", text, value)
        yield from self._by_topic()
        if self._state:
            yield from self._of_model(self._state[0])

    def _by_topic(self) -> Iterator[Metric]:
        totals = self._state[1].totals if self._state else {}
        for name, text, count in COUNTERS:
            counter = CounterMetricFamily(f"{PREFIX}_{name}", text, labels=["role", "topic"])
            for role, topic in self._topics.items():
                counter.add_metric([role, topic], count(totals.get(topic, Totals())))
            yield counter
        for name, text, figure in GAUGES:
            gauge = GaugeMetricFamily(f"{PREFIX}_{name}", text, labels=["role", "topic"])
            for role, topic in self._topics.items():
                value = figure(self._errors[topic]) if topic in self._errors else None
                if value is not None:
                    gauge.add_metric([role, topic], value)
            yield gauge

    def _of_model(self, model: Model) -> Iterator[Metric]:
        intercept, *weights = model.weights.tolist()
        yield CounterMetricFamily(f"{PREFIX}_learned_records", "Records that the model has learned.", model.rows_seen)
        yield GaugeMetricFamily(f"{PREFIX}_intercept", "Intercept of the model, in label units.", intercept)
        gauge = GaugeMetricFamily(
            f"{PREFIX}_weight", "Weight of a feature, in label units per unit of the feature.", labels=["feature"]
        )
        for column, weight in zip(self._columns, weights, strict=True):
            gauge.add_metric([column], weight)
        yield gauge


@contextmanager
def serving(port: int) -> Iterator[CollectorRegistry]:
    """Serve the metrics of the registry that is yielded, on all addresses of this machine; for port 0 serve nothing.

    Raises
    ------
    ConfigError
        When the port cannot be used.
    """
    registry = CollectorRegistry()
    if not port:
        yield registry
        return
    everywhere = "::" if socket.has_dualstack_ipv6() else "0.0.0.0"  # noqa: S104 - a Prometheus elsewhere scrapes it
    try:
        server, thread = start_http_server(port, everywhere, registry)
    except OSError as error:
        raise ConfigError(
            f"--metrics-port / METRICS_PORT: port {port} cannot be used: {error.strerror}: choose another port"
        ) from error
    try:
        yield registry
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
