"""The definition of the dashboards: an overview, then a section for the train set, the test set and the model."""

from __future__ import annotations

from dashboards import palette
from dashboards.overview import EVENTS, MSE, VARIANCE, overview
from dashboards.panels import SAMPLE, SHOWN, TIME, Line, Measure, Metric, Names, Place, Sample, Section, Table


def sections(names: Names) -> tuple[Section, ...]:
    """Return the dashboards' sections."""
    return (
        overview(names),
        _records_section("train", "Train set", names.train, names),
        _records_section("test", "Test set", names.test, names),
        _model_section(names),
    )


def _records_section(name: str, title: str, topic: str, names: Names) -> Section:
    label, colour = names.label, names.colour(topic)
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
                Measure("MSE", MSE, colour),
                f"{label}²",
                4,
            ),
            Metric(
                f"{name}-variance",
                "MSE of the mean",
                f"Mean squared error of a model that always predicts the mean of {label}, which is the variance of "
                f"{label}. A useful model has a much lower MSE.",
                Place(0, 7, 8, 7),
                "metrics",
                topic,
                Measure("MSE of the mean", VARIANCE, palette.REFERENCE),
                f"{label}²",
                4,
            ),
            Line(
                f"{name}-mse-over-offset",
                "MSE over the offset",
                "Mean squared error of the micro-batches that begin in a range of Kafka offsets, over all partitions. "
                "It falls while the model learns, and rises when the data change. The scale is logarithmic, because "
                "the first micro-batch is predicted by a model that has learned nothing.",
                Place(8, 0, 20, 14),
                "metrics",
                topic,
                (Measure("MSE", MSE, colour),),
                "first_offset",
                "Kafka offset",
                f"MSE ({label}²)",
                scale="log",
            ),
            Sample(
                f"{name}-points",
                "Points with predictions",
                f"Observed and predicted {label} against one feature, for at most {SAMPLE:,} of the stored points, "
                "spread evenly over the time range. If the model is good, the two clouds of points coincide. Vertical "
                "bars are the 95 % confidence intervals of the predictions, if the learner knows them.",
                Place(28, 0, 20, 14),
                "points",
                topic,
                "feature",
            ),
            Line(
                f"{name}-rows-per-second",
                "Records per second",
                "Records processed per second, from the start of a micro-batch to the start of the next, including "
                "invalid records. Vertical lines mark detected drift, lost records and restarts.",
                Place(0, 14, 16, 12),
                "metrics",
                topic,
                (Measure("records/s", "sum(rows)", colour),),
                TIME,
                "time",
                "records/s",
                per_second=True,
                events=EVENTS,
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
    return Section("model", "Model", None, (*_model_numbers(names), *_model_charts(names)))


def _model_numbers(names: Names) -> tuple[Metric, ...]:
    colour = palette.SERIES[0]
    return (
        Metric(
            "model-rows-seen",
            "Records learned",
            "Number of labelled train records from which the newest model has learned.",
            Place(0, 0, 12, 6),
            "models",
            None,
            Measure("records", "max(rows_seen)", colour),
        ),
        Metric(
            "model-points-stored",
            "Points stored",
            "Smallest fraction of the points that the stream stored in the time range (--points-fraction). Below "
            "1, charts and lists of points show only this sample. All other numbers include every record.",
            Place(12, 0, 12, 6),
            "models",
            None,
            Measure("fraction", "min(points_fraction)", colour),
            "of all points",
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
            Measure("records", "sum(invalid)", colour),
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
            Measure("offsets", "sum(lost)", colour),
            rare=True,
        ),
    )


def _model_charts(names: Names) -> tuple[Line | Table, ...]:
    columns, colours = names.columns, palette.SERIES
    some = f" The chart shows the first {SHOWN} of {len(columns):,} weights." if len(columns) > SHOWN else ""
    return (
        Line(
            "model-weights",
            "Weights",
            f"The model's weights after each micro-batch: by how much the predicted {names.label} changes if a feature "
            f"grows by one. Flat lines mean that the model has converged.{some}",
            Place(0, 6, 24, 12),
            "models",
            None,
            tuple(
                Measure(name, f"average({f'weights.{name}'!r})", colours[i % len(colours)])
                for i, name in enumerate(columns[:SHOWN])
            ),
            "batch",
            "micro-batch",
            f"{names.label} per unit",
        ),
        Line(
            "model-intercept",
            "Intercept",
            f"The predicted {names.label} when all features are 0, after each micro-batch.",
            Place(24, 6, 24, 12),
            "models",
            None,
            (Measure("intercept", "average(intercept)", colours[0]),),
            "batch",
            "micro-batch",
            f"intercept ({names.label})",
        ),
        Line(
            "model-batch-time",
            "Micro-batch time",
            "Seconds from the start of a micro-batch until its model is written: mean and longest.",
            Place(0, 18, 16, 12),
            "models",
            None,
            (
                Measure("mean", "average(seconds)", colours[0]),
                Measure("longest", "max(seconds)", colours[1]),
            ),
            "batch",
            "micro-batch",
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
            (Measure("lag", "max(lag)", colours[0]),),
            "batch",
            "micro-batch",
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
    )
