"""The kinds of panels and sections, from whose definitions `saved_objects` and `page` make their output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dashboards import palette
from dashboards.names import column_names, split_feature

Index = Literal["points", "metrics", "models", "invalid"]
Drawing = Literal["feature", "diagonal", "residuals"]
Scale = Literal["linear", "log"]
SAMPLE = 2000  # limit of points drawn per topic
SHOWN = 50
"""Limit of features or weights in one chart, list of columns or Kibana drop-down: more would be slow and unreadable."""
REFRESH_S = 5
BUCKETS = 100
TIME = "@timestamp"
RANGE = ("7d", "last 7 days", "now-7d")
"""The time range that both renderers show at first: its name in a URL, its title, its start in Elasticsearch."""
REASONS = {"null": "value missing (null)"}
"""The texts that panels show instead of some reasons in the documents of invalid records."""


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

    @property
    def title(self) -> str:
        """The title of the dashboard. The prefix tells installations apart."""
        return f"Streaming machine learning ({self.prefix})"

    def pattern(self, index: Index) -> str:
        """Return the index pattern for all indices of a kind."""
        return f"{self.prefix}-{index}-*"

    def colour(self, topic: str | None) -> str:
        """Return the colour of a topic, or that of the first series for panels over all topics."""
        return {self.train: palette.TRAIN, self.test: palette.TEST}.get(topic or "", palette.SERIES[0])


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

    A formula contains numbers, + - * /, sqrt, and the aggregations sum, average, min and max of a field, so it is also
    a valid Python expression. With a `topic`, only that topic's documents count.
    """

    label: str
    formula: str
    colour: str
    topic: str | None = None
    dashed: bool = False


@dataclass(frozen=True, slots=True)
class Event:
    """Documents that mark a moment: those in which one of the `fields` has this value, or any value for None.

    `text` is an expression of Vega, which sees the document as `datum._source`.
    """

    label: str
    index: Index
    fields: tuple[tuple[str, bool | None], ...]
    text: str
    colour: str


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
    """Measures over the field `across` (@timestamp or another), in at most BUCKETS buckets.

    On a logarithmic scale, values of 0 have no place and are left out of the drawing.
    """

    measures: tuple[Measure, ...]
    across: str
    x_title: str
    y_title: str
    per_second: bool = False
    scale: Scale = "linear"
    events: tuple[Event, ...] = ()


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


@dataclass(frozen=True, slots=True)
class Newest(Panel):
    """The age and some fields of the newest document, whatever the time range; `fields` are (field, heading)."""

    fields: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Note(Panel):
    """Text without numbers, as paragraphs."""

    paragraphs: tuple[str, ...]


AnyPanel = Metric | Line | Sample | Table | Newest | Note


@dataclass(frozen=True, slots=True)
class Section:
    """Panels under one heading. The section of the train or test set has that set's topic."""

    id: str
    title: str
    topic: str | None
    panels: tuple[AnyPanel, ...]
