"""The first section: whether the model is good, whether it gets worse, and whether the stream is running."""

from __future__ import annotations

from dashboards import palette
from dashboards.panels import (
    RANGE,
    TIME,
    AnyPanel,
    Event,
    Line,
    Measure,
    Metric,
    Names,
    Newest,
    Note,
    Place,
    Section,
)

MSE = "sum(sum_squared_error) / sum(labelled)"
VARIANCE = "sum(sum_y_squared) / sum(labelled) - sum(sum_y) / sum(labelled) * (sum(sum_y) / sum(labelled))"
RMSE = f"sqrt({MSE})"
MAE = "sum(sum_absolute_error) / sum(labelled)"
R2 = "1 - sum(sum_squared_error) / (sum(sum_y_squared) - sum(sum_y) * sum(sum_y) / sum(labelled))"
EVENTS = (
    Event(
        "drift",
        "models",
        (("drift.train", True), ("drift.test", True)),
        "'drift in ' + (datum._source.drift.train ? 'train' : '') + "
        "(datum._source.drift.train && datum._source.drift.test ? ' and ' : '') + "
        "(datum._source.drift.test ? 'test' : '')",
        palette.DRIFT,
    ),
    Event(
        "lost records",
        "invalid",
        (("lost", None),),
        "format(datum._source.lost, ',') + ' records lost in ' + datum._source.topic + '-' + datum._source.partition",
        palette.LOST,
    ),
    Event(
        "restart",
        "models",
        (("restarted", True),),
        "'restart before micro-batch ' + datum._source.batch",
        palette.RESTART,
    ),
)
"""The moments that the charts over time mark with a vertical line."""


def overview(names: Names) -> Section:
    """Return the section."""
    return Section("overview", "Overview", None, (_stream(names), _note(names), _error(names), *_tiles(names)))


def _stream(names: Names) -> Newest:
    return Newest(
        "overview-stream",
        "Stream",
        "The newest micro-batch, whatever the time range: when it began, the learner, the records that then waited in "
        f"Kafka, and the run, which is the id of the streaming query. {names.prefix} is the prefix of the indices.",
        Place(0, 0, 48, 5),
        "models",
        None,
        (("learner", "Learner"), ("lag", "Records waiting in Kafka"), ("rows_seen", "Records learned"), ("run", "Run")),
    )


def _note(names: Names) -> Note:
    return Note(
        "overview-note",
        "About this dashboard",
        "What the dashboard shows, and where the documents are described.",
        Place(0, 5, 10, 18),
        "metrics",
        None,
        (
            f"A linear regression predicts {names.label} from {names.summary}. It learns from the Kafka topic "
            f"{names.train} and predicts {names.train} and {names.test}. Each record is predicted before the model "
            "learns from it, so all errors are errors on new records.",
            f"All numbers are of the chosen time range. Kibana and the live page begin with the {RANGE[1]}, so they "
            "show the same numbers.",
            f"To send data, write JSON records to {names.train} and {names.test}. In the project, "
            "docs/your-own-topic.md shows how, and docs/architecture.md describes all documents and their fields.",
        ),
    )


def _error(names: Names) -> Line:
    return Line(
        "overview-error",
        "Error over time",
        f"Mean squared error of the predictions of {names.label} in both topics. The dashed line is the error of a "
        "model that always predicts the mean of the same records: a useful model is well below it. The scale is "
        "logarithmic. Vertical lines mark detected drift, lost records and restarts.",
        Place(10, 5, 24, 18),
        "metrics",
        None,
        (
            Measure("train", MSE, palette.TRAIN, names.train),
            Measure("test", MSE, palette.TEST, names.test),
            Measure("always the mean", VARIANCE, palette.REFERENCE, dashed=True),
        ),
        TIME,
        "time",
        f"MSE ({names.label}²)",
        scale="log",
        events=EVENTS,
    )


def _tiles(names: Names) -> tuple[AnyPanel, ...]:
    label = names.label
    kinds = (
        (
            "rmse",
            "RMSE",
            RMSE,
            label,
            f"Root of the mean squared error, in the unit of {label}. Large errors count more than in the MAE.",
        ),
        ("mae", "MAE", MAE, label, f"Mean absolute error, in the unit of {label}."),
        (
            "r2",
            "R²",
            R2,
            "",
            f"Share of the variance of {label} that the predictions explain: 1 is perfect, 0 is no better than always "
            "predicting the mean, below 0 is worse than that.",
        ),
    )
    return tuple(
        Metric(
            f"{name}-{kind}",
            f"{title} {name}",
            f"{about} Over all labelled records of topic {topic} in the time range.",
            Place(34 + 7 * column, 5 + 6 * row, 7, 6),
            "metrics",
            topic,
            Measure(f"{title} {name}", formula, names.colour(topic)),
            unit,
            4,
        )
        for row, (kind, title, formula, unit, about) in enumerate(kinds)
        for column, (name, topic) in enumerate((("train", names.train), ("test", names.test)))
    )
