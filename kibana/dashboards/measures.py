"""The aggregations that a panel's measures need in a search, and the measures' values in its response."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dashboards import formula
from dashboards.panels import Measure


def aggregations(measures: Sequence[Measure]) -> dict[str, Any]:
    """Return the aggregations, by name. The measures of a topic share one aggregation, which filters its documents."""
    found: dict[str, Any] = {}
    for topic, group in _topics(measures):
        needed = formula.aggregations(_formulas(group))
        if topic is None:
            found |= needed
        else:
            found[_name(topic, measures)] = {"filter": {"term": {"topic": topic}}, "aggs": needed}
    return found


def values(measures: Sequence[Measure], bucket: Mapping[str, Any]) -> list[float | None]:
    """Return the measures' values for a bucket of a response, in their order; see `formula.values` for None."""
    found: dict[Measure, float | None] = {}
    for topic, group in _topics(measures):
        results = bucket if topic is None else bucket[_name(topic, measures)]
        found.update(zip(group, formula.values(_formulas(group), results), strict=True))
    return [found[measure] for measure in measures]


def vega(measure: Measure, measures: Sequence[Measure]) -> str:
    """Return the expression of Vega for the value of one of `measures`; `datum` is a bucket of a response."""
    group = next(group for topic, group in _topics(measures) if topic == measure.topic)
    bucket = "datum" if measure.topic is None else f"datum.{_name(measure.topic, measures)}"
    return formula.vega(formula.parse(measure.formula), _formulas(group), bucket)


def _topics(measures: Sequence[Measure]) -> Iterator[tuple[str | None, list[Measure]]]:
    for topic in dict.fromkeys(measure.topic for measure in measures):
        yield topic, [measure for measure in measures if measure.topic == topic]


def _name(topic: str, measures: Sequence[Measure]) -> str:
    """Return the name of a topic's aggregation. It is numbered, because Vega would read a dash in a name as a minus."""
    return f"t{[*dict.fromkeys(measure.topic for measure in measures)].index(topic)}"


def _formulas(measures: Sequence[Measure]) -> list[formula.Expression]:
    return [formula.parse(measure.formula) for measure in measures]
