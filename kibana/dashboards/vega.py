"""Specifications of Kibana's Vega panels: the charts that Lens lacks, with the searches for their data."""

from __future__ import annotations

import json
from typing import Any

from dashboards import charts, measures, palette, queries
from dashboards.panels import BUCKETS, SAMPLE, SHOWN, TIME, Event, Index, Line, Names, Newest, Sample

Spec = dict[str, Any]
VEGA_LITE = "https://vega.github.io/schema/vega-lite/v5.json"  # an identifier; it is never fetched
IN_RANGE = {"range": {TIME: {"%timefilter%": True}}}
ROWS = "rows"  # the name of a panel's data
INK = {"color": palette.REFERENCE}
"""The colour of texts: Vega-Lite's own is black, also on a dark background."""


def specification(names: Names, panel: Sample | Line | Newest) -> Spec:
    """Return a panel's specification. Its text says so if there are no data, because empty axes do not."""
    if isinstance(panel, Newest):
        drawn = newest(names, panel)
    else:
        drawn = trend(names, panel) if isinstance(panel, Line) else sample(names, panel)
    where = "" if isinstance(panel, Newest) else " in this time range"
    # Vega warns of each layer without rows, such as that of drift, and Kibana would write the warnings over the chart.
    config = drawn.get("config", {})
    config = {**config, "kibana": {**config.get("kibana", {}), "hideWarnings": True}}
    too_few = 1 if isinstance(panel, Line) and panel.per_second else 0  # the last bucket has no rate yet
    layers = [*drawn["layer"], _nothing(f"no data{where}", too_few)]
    return {"$schema": VEGA_LITE, **drawn, "layer": layers, "config": config}


def _nothing(words: str, too_few: int) -> Spec:
    text = {"expr": f"length(data('{ROWS}')) > {too_few} ? '' : '{words}'"}
    middle = {"x": {"expr": "width / 2"}, "y": {"expr": "height / 2"}}
    return {"data": {"values": [{}]}, "mark": {"type": "text", "fontSize": 13, "text": text, **middle, **INK}}


def _data(names: Names, index: Index, body: Spec, found: str) -> Spec:
    return {"url": {"index": names.pattern(index), "body": body}, "format": {"property": found}}


def _matching(topic: str | None) -> Spec:
    """Return the query for the documents of a topic that the dashboard's time range, query and filters match."""
    return {
        "must": ["%dashboard_context-must_clause%"],
        "filter": [
            "%dashboard_context-filter_clause%",
            *([{"term": {"topic": topic}}] if topic else []),
            IN_RANGE,
        ],
        "must_not": ["%dashboard_context-must_not_clause%"],
    }


def trend(names: Names, panel: Line) -> Spec:
    """Return the specification of lines over time.

    Elasticsearch chooses the width of the buckets from the data. In Lens it would follow from the time range: in a
    range of 7 days, a run of some minutes would be a single dot.
    """
    buckets = {"field": TIME, "buckets": BUCKETS}
    body = {
        "size": 0,
        "query": {"bool": _matching(panel.topic)},
        "aggs": {"x": {"auto_date_histogram": buckets, "aggs": queries.line_aggs(panel)}},
    }
    labels = [measure.label for measure in panel.measures]
    values = [f"({measures.vega(measure, panel.measures)})" for measure in panel.measures]
    seconds: list[Spec] = []
    if panel.per_second:
        following: Spec = {"op": "lead", "field": "start", "as": "next"}
        seconds = [
            {"calculate": "datum.began.value", "as": "start"},
            {"window": [following], "sort": [{"field": "start"}], "frame": [None, None]},
            {"filter": "isValid(datum.next)"},
        ]
        values = [f"{value} / (datum.next - datum.start) * 1000" for value in values]
    return {
        "data": {"name": ROWS, **_data(names, panel.index, body, "aggregations.x.buckets")},
        "layer": [
            {
                **(drawn := charts.lines(panel)),
                "transform": [
                    {"filter": "datum.doc_count > 0"},
                    *seconds,
                    {"calculate": "toDate(datum.key)", "as": "x"},
                    *({"calculate": value, "as": label} for value, label in zip(values, labels, strict=True)),
                    {"fold": labels, "as": ["series", "value"]},
                    {"filter": "isFinite(datum.value)"},
                    *drawn.get("transform", []),
                ],
            },
            *(charts.marks(kind, _events(names, kind)) for kind in panel.events),
        ],
    }


def _events(names: Names, kind: Event) -> Spec:
    """Return the data of the events, whatever the dashboard's query and filters: models have no topic.

    The data have a name, because Kibana 8.12 finds the data that a response is for by their name: the responses for
    all data without a name go to the first of these, and the chart fails.
    """
    body = queries.event(kind, None)
    body["query"]["bool"]["filter"] = [IN_RANGE]
    return {"name": kind.label, **_data(names, kind.index, body, "hits.hits")}


def newest(names: Names, panel: Newest) -> Spec:
    """Return the specification of texts: the age and the fields of the newest document, whatever the time range."""
    body = queries.newest_of(panel)
    seconds = f"max(0, (now() - toDate(datum._source['{TIME}'])) / 1000)"
    age = (
        f"{seconds} < 120 ? format({seconds}, '.0f') + ' s ago' : {seconds} < 7200 ? format({seconds} / 60, '.0f') + "
        f"' min ago' : {seconds} < 172800 ? format({seconds} / 3600, '.0f') + ' h ago' : "
        f"format({seconds} / 86400, '.0f') + ' days ago'"
    )
    fields = [(name, f"datum._source['{name}']") for name, _ in panel.fields]
    written = [
        ("Last micro-batch", age),
        *(
            (heading, f"!isValid({field}) ? '–' : isNumber({field}) ? format({field}, ',') : {field}")
            for (_, field), (_, heading) in zip(fields, panel.fields, strict=True)
        ),
    ]
    layers: list[Spec] = []
    for i, (heading, value) in enumerate(written):
        left: Spec = {"x": {"expr": f"width * {i / (len(written) + 0.7):.4f}"}, "align": "left", "baseline": "top"}
        title = {"type": "text", "fontSize": 12, "text": heading, "y": 0, **left, **INK}
        text = {"type": "text", "fontSize": 17, "text": {"expr": value}, "y": 18, **left, **INK}
        layers += [{"mark": title}, {"mark": text}]
    return {
        "data": {"name": ROWS, **_data(names, panel.index, body, "hits.hits")},
        "layer": layers,
        "config": {"view": {"stroke": None}},
    }


def sample(names: Names, panel: Sample) -> Spec:
    """Return the specification of a drawing of points.

    The sample consists of the points with the highest hashes of the offset: deterministic, and spread over all offsets.
    """
    sampled = {
        "query": {"bool": _matching(panel.topic)},
        "random_score": {"seed": 1, "field": "offset"},
        "boost_mode": "replace",
    }
    body: Spec = {"size": SAMPLE, "_source": ["y", "pred", "standard_error"], "query": {"function_score": sampled}}
    fields: list[Spec] = [
        {"calculate": "datum._source.y", "as": "y"},
        {"calculate": "datum._source.pred", "as": "pred"},
        {"calculate": "datum._source.standard_error", "as": "standard_error"},
        {"calculate": "datum._id", "as": "place"},
    ]
    spec: Spec = {"data": {"name": ROWS, **_data(names, panel.index, body, "hits.hits")}}
    if panel.drawing == "feature":
        drawn, categories = _drawn(names)
        first, *others = drawn
        if others:
            choice = {"input": "select", "options": list(drawn), "name": "feature "}
            spec["params"] = [{"name": "feature", "value": first, "bind": choice}]
            spec["config"] = {"kibana": {"restoreSignalValuesOnRefresh": True}}  # keeps the choice on refresh
        # The whole path, "x.constructor", because Vega does not read a member named like a method of all objects.
        body["fields"] = ["x.*"] if len(drawn) == len(names.features) else [f"x.{name}" for name in drawn]
        chosen = "'x.' + feature" if others else json.dumps(f"x.{first}")
        fields.append({"calculate": f"datum.fields && datum.fields[{chosen}]", "as": "found"})
        fields.append({"calculate": "datum.found ? datum.found[0] : null", "as": "x"})
        fields.append({"filter": "isValid(datum.x)"})
        drawing = charts.cloud(names, None if others else first, categories=categories)
    else:
        fields.append({"filter": "isValid(datum.y)"})
        drawing = charts.diagonal(panel, names)
    if panel.drawing == "residuals":
        fields.append({"calculate": "datum.y - datum.pred", "as": "residual"})
        binned = {"field": "residual", "bin": {"maxbins": 30}}
        drawing = charts.residuals(panel, names, binned, {"aggregate": "count"})
    return {**spec, **drawing, "transform": [*fields, *drawing["transform"]]}


def _drawn(names: Names) -> tuple[tuple[str, ...], bool]:
    """Return the fields that Kibana's chart over a feature offers, and whether they are categories.

    The axis of a chart has one type, whatever the user chooses, so categories are offered only if there are no numbers.
    Every point is loaded with all fields that are offered. The live page loads only the chosen field and offers all.
    """
    numbers = tuple(field for field, categories in names.categories.items() if not categories)
    return (numbers or names.fields)[:SHOWN], not numbers
