"""The definition of the dashboards: sections of panels, from which `saved_objects` and `page` make their output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dashboards.names import column_names, split_feature

Index = Literal["points", "metrics", "models", "invalid"]
Drawing = Literal["feature", "diagonal", "residuals"]
SAMPLE = 2000  # limit of points drawn per topic
SHOWN = 50
"""Limit of features or weights in one chart, list of columns or Kibana drop-down: more would be slow and unreadable."""
REFRESH_S = 5


@dataclass(frozen=True, slots=True)
class Names:
    """The names that differ between installations. A feature is `field`, or `field[category|category]`."""

    features: tuple[str, ...] = ("dep_delay", "distance", "air_time")
    label: str = "arr_delay"
    prefix: str = "spark"
    train: str = "train"
    test: str = "test"

    @property
    def categories(self) -> dict[str, tuple[str, ...]]:
        """The declared categories of each feature's field; a field that is a number has none."""
        return dict(map(split_feature, self.features))

    @property
    def fields(self) -> tuple[str, ...]:
        """The features' fields, in their order."""
        return tuple(self.categories)

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the model's weights: a field that is a number, or `field=category` for each category."""
        return column_names(self.features)

    @property
    def summary(self) -> str:
        """The features' fields, shortened if there are many."""
        fields = self.fields
        more = f" and {len(fields) - 10:,} more" if len(fields) > 10 else ""
        return ", ".join(fields[:10]) + more

    def pattern(self, index: Index) -> str:
        """Return the index pattern for all indices of a kind."""
        return f"{self.prefix}-{index}-*"


@dataclass(frozen=True, slots=True)
class Place:
    """The place of a panel in its section, on a grid 48 columns wide with rows about 20 pixels high."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True)
class Measure:
    """A number computed from a group of documents, by a formula of Kibana's Lens.

    A formula contains numbers, + - * / and the aggregations sum, average, min and max of a field, so it is also a valid
    Python expression.
    """

    label: str
    formula: str


@dataclass(frozen=True, slots=True)
class Panel:
    """The attributes of all panels. `topic` is None for a panel over the documents of all topics."""

    id: str
    title: str
    description: str
    place: Place
    index: Index
    topic: str | None


@dataclass(frozen=True, slots=True)
class Metric(Panel):
    """One number. `rare`: show 0 if there are no documents, because documents are written only after a fault."""

    measure: Measure
    unit: str = ""
    decimals: int = 0
    rare: bool = False


@dataclass(frozen=True, slots=True)
class Line(Panel):
    """Measures over the field `across` (@timestamp or another), in at most BUCKETS buckets."""

    measures: tuple[Measure, ...]
    across: str
    x_title: str
    y_title: str
    per_second: bool = False


@dataclass(frozen=True, slots=True)
class Sample(Panel):
    """A drawing of at most SAMPLE points: over a feature, predictions over labels, or a histogram of residuals."""

    drawing: Drawing


@dataclass(frozen=True, slots=True)
class Table(Panel):
    """The most frequent combinations of some keyword fields, with their counts; `columns` are (field, heading).

    Documents that have the field `without` are not counted.
    """

    columns: tuple[tuple[str, str], ...]
    rows: int = 10
    without: str | None = None


AnyPanel = Metric | Line | Sample | Table


@dataclass(frozen=True, slots=True)
class Section:
    """Panels under one heading. The section of the train or test set has that set's topic."""

    id: str
    title: str
    topic: str | None
    panels: tuple[AnyPanel, ...]


BUCKETS = 100
TIME = "@timestamp"
MSE = "sum(sum_squared_error) / sum(labelled)"
R2 = "1 - sum(sum_squared_error) / (sum(sum_y_squared) - sum(sum_y) * sum(sum_y) / sum(labelled))"


def sections(names: Names) -> tuple[Section, ...]:
    """Return the dashboards' sections: the train set, the test set, the model."""
    return (
        _records_section("train", "Train set", names.train, names),
        _records_section("test", "Test set", names.test, names),
        _model_section(names),
    )


def _records_section(name: str, title: str, topic: str, names: Names) -> Section:
    label = names.label
    return Section(
        name,
        title,
        topic,
        (
            Metric(
                f"{name}-mse",
                "MSE",
                f"Mean squared error of the predictions of {label} over all labelled records of the time range. Each "
                "record is predicted before the model learns from it, so this is an error on unseen data.",
                Place(0, 0, 8, 7),
                "metrics",
                topic,
                Measure("MSE", MSE),
                f"{label}²",
                4,
            ),
            Metric(
                f"{name}-r2",
                "R²",
                f"Share of the variance of {label} that the predictions explain: 1 is perfect, 0 is no better than "
                "always predicting the mean, below 0 is worse than that.",
                Place(0, 7, 8, 7),
                "metrics",
                topic,
                Measure("R²", R2),
                "",
                4,
            ),
            Line(
                f"{name}-mse-over-offset",
                "MSE over the offset",
                "Mean squared error of the micro-batches that begin in a range of Kafka offsets, over all partitions. "
                "It falls while the model learns, and rises when the data change.",
                Place(8, 0, 20, 14),
                "metrics",
                topic,
                (Measure("MSE", MSE),),
                "first_offset",
                "Kafka offset",
                f"MSE ({label}²)",
            ),
            Sample(
                f"{name}-points",
                "Points with predictions",
                f"Observed and predicted {label} against one feature, for at most {SAMPLE:,} of the stored points, "
                "spread evenly over the time range. If the model is good, the two clouds of points coincide.",
                Place(28, 0, 20, 14),
                "points",
                topic,
                "feature",
            ),
            Line(
                f"{name}-rows-per-second",
                "Records per second",
                "Records processed per second, from the start of a micro-batch to the start of the next, including "
                "invalid records.",
                Place(0, 14, 16, 12),
                "metrics",
                topic,
                (Measure("records/s", "sum(rows)"),),
                TIME,
                "time",
                "records/s",
                per_second=True,
            ),
            Sample(
                f"{name}-residuals",
                "Residuals",
                f"Histogram of the residuals, observed minus predicted {label}, of at most {SAMPLE:,} of the stored "
                "points. For a good model it is narrow and centred at 0; a peak beside 0 shows a bias.",
                Place(16, 14, 16, 12),
                "points",
                topic,
                "residuals",
            ),
            Sample(
                f"{name}-prediction-over-label",
                "Prediction against observation",
                f"Predicted against observed {label} of at most {SAMPLE:,} of the stored points. Perfect predictions "
                "lie on the diagonal.",
                Place(32, 14, 16, 12),
                "points",
                topic,
                "diagonal",
            ),
        ),
    )


def _model_section(names: Names) -> Section:
    columns = names.columns
    some = f" The chart shows the first {SHOWN} of {len(columns):,} weights." if len(columns) > SHOWN else ""
    return Section(
        "model",
        "Model",
        None,
        (
            Metric(
                "model-rows-seen",
                "Records learned",
                "Number of labelled train records from which the newest model has learned.",
                Place(0, 0, 12, 6),
                "models",
                None,
                Measure("records", "max(rows_seen)"),
            ),
            Metric(
                "model-points-stored",
                "Points stored",
                "Smallest fraction of the points that the stream stored in the time range (--points-fraction). Below "
                "100 %, charts and lists of points show only this sample. All other numbers include every record.",
                Place(12, 0, 12, 6),
                "models",
                None,
                Measure("share", "100 * min(points_fraction)"),
                "%",
                4,
            ),
            Metric(
                "model-invalid",
                "Invalid records",
                "Records of the time range that could not be used; the table shows the reasons. Their raw values are "
                f"stored in {names.pattern('invalid')}.",
                Place(24, 0, 12, 6),
                "metrics",
                None,
                Measure("records", "sum(invalid)"),
            ),
            Metric(
                "model-lost",
                "Lost records",
                "Number of Kafka offsets whose records were deleted before the stream read them, because the retention "
                f"of the topic is too short. Each gap is a document in {names.pattern('invalid')} with its first and "
                "last offset.",
                Place(36, 0, 12, 6),
                "invalid",
                None,
                Measure("offsets", "sum(lost)"),
                rare=True,
            ),
            Line(
                "model-weights",
                "Weights",
                f"The model's weights over time: by how much the predicted {names.label} changes if a feature grows by "
                f"one. Flat lines mean that the model has converged.{some}",
                Place(0, 6, 24, 12),
                "models",
                None,
                tuple(Measure(name, f"average({f'weights.{name}'!r})") for name in columns[:SHOWN]),
                TIME,
                "time",
                f"{names.label} per unit",
            ),
            Line(
                "model-intercept",
                "Intercept",
                f"The predicted {names.label} when all features are 0, over time.",
                Place(24, 6, 24, 12),
                "models",
                None,
                (Measure("intercept", "average(intercept)"),),
                TIME,
                "time",
                f"intercept ({names.label})",
            ),
            Line(
                "model-batch-time",
                "Micro-batch time",
                "Seconds from the start of a micro-batch until its model is written: mean and longest.",
                Place(0, 18, 16, 12),
                "models",
                None,
                (Measure("mean", "average(seconds)"), Measure("longest", "max(seconds)")),
                TIME,
                "time",
                "seconds",
            ),
            Line(
                "model-lag",
                "Consumer lag",
                "Records that wait in Kafka after a micro-batch. A rising line means that records arrive faster than "
                "the stream processes them.",
                Place(16, 18, 16, 12),
                "models",
                None,
                (Measure("lag", "max(lag)"),),
                TIME,
                "time",
                "records",
            ),
            Table(
                "model-invalid-reasons",
                "Invalid records by reason",
                "The most frequent reasons why records could not be used, with the field that caused them.",
                Place(32, 18, 16, 12),
                "invalid",
                None,
                (("reason", "Reason"), ("field", "Field"), ("topic", "Topic")),
                without="lost",
            ),
        ),
    )
