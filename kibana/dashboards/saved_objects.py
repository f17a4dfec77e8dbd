"""The dashboards as Kibana's saved objects, one JSON object per line, for import into Kibana 8.12 and newer.

Kibana migrates objects from the type versions given here to its own, and refuses a file that has a newer version. It
does not check the content of the JSON strings in the attributes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

from dashboards import charts, lens
from dashboards.panels import (
    REFRESH_S,
    SAMPLE,
    SHOWN,
    TIME,
    AnyPanel,
    Index,
    Line,
    Metric,
    Names,
    Sample,
    Section,
    Table,
    sections,
)

Json = dict[str, Any]
CORE_VERSION = "8.8.0"
TYPE_VERSIONS = {
    "index-pattern": "8.0.0",
    "search": "8.0.0",
    "lens": "8.9.0",
    "visualization": "8.5.0",
    "dashboard": "8.9.0",
}
INDICES: tuple[Index, ...] = ("points", "metrics", "models", "invalid")
VEGA_LITE = "https://vega.github.io/schema/vega-lite/v5.json"  # an identifier; it is never fetched
SEARCH_HEIGHT = 15
KQL_WORDS = frozenset(["and", "or", "not", "true", "false", "null", "nan", "infinity"])
SQUARED_ERROR = (
    "if (doc['pred'].size() != 0 && doc['y'].size() != 0) "
    "{ double d = doc['pred'].value - doc['y'].value; emit(d * d); }"
)


def ndjson(names: Names) -> str:
    """Return the file's text: data views, saved searches, panels and the dashboard that shows them."""
    return "".join(json.dumps(saved, ensure_ascii=False) + "\n" for saved in saved_objects(names))


def dashboard_id(names: Names) -> str:
    """Return the id of the dashboard in Kibana."""
    return f"{names.prefix}-streaming-ml"


def saved_objects(names: Names) -> list[Json]:
    """Return all objects, each after the objects that it refers to."""
    found = sections(names)
    sets = [section for section in found if section.topic]
    return [
        *(_data_view(names, index) for index in INDICES),
        *(_saved_search(names, section) for section in sets),
        *(_panel(names, section, panel) for section in found for panel in section.panels),
        _dashboard(names, found, sets),
    ]


def _object(kind: str, object_id: str, attributes: Json, references: list[Json]) -> Json:
    return {
        "type": kind,
        "id": object_id,
        "attributes": attributes,
        "references": references,
        "coreMigrationVersion": CORE_VERSION,
        "typeMigrationVersion": TYPE_VERSIONS[kind],
    }


def _reference(kind: str, object_id: str, name: str) -> Json:
    return {"type": kind, "id": object_id, "name": name}


def _search_source(topic: str | None = None, **more: str) -> Json:
    query = {"query": _kql(topic), "language": "kuery"}
    return {"searchSourceJSON": json.dumps({"query": query, "filter": [], **more})}


def _kql(topic: str | None, without: str | None = None) -> str:
    """Return the filter, in Kibana's query language, for documents of `topic` that lack the field `without`.

    A topic's name is quoted if the language would read it as something else: an operator, null, a number.
    """
    terms = [f"not {without}:*"] if without else []
    if topic is not None:
        plain = re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", topic) and topic.lower() not in KQL_WORDS
        terms.insert(0, f"topic:{topic}" if plain else f'topic:"{topic}"')
    return " and ".join(terms)


def _data_view(names: Names, index: Index) -> Json:
    attributes: Json = {
        "title": names.pattern(index),
        "name": names.pattern(index),
        "timeFieldName": TIME,
        "fields": "[]",
        "sourceFilters": "[]",
        "fieldAttrs": "{}",
        "fieldFormatMap": "{}",
        "runtimeFieldMap": "{}",
        "allowNoIndex": True,
    }
    if index == "points":
        number = {"id": "number", "params": {"pattern": "0,0.0000"}}
        runtime = {"type": "double", "script": {"source": SQUARED_ERROR}}
        attributes["fieldFormatMap"] = json.dumps({"Squared error": number})
        attributes["runtimeFieldMap"] = json.dumps({"Squared error": runtime})
    return _object("index-pattern", f"{names.prefix}-{index}", attributes, [])


def _saved_search(names: Names, section: Section) -> Json:
    reference = "kibanaSavedObjectMeta.searchSourceJSON.index"
    attributes = {
        "title": section.title,
        "description": f"The stored points of topic {section.topic} with their predictions; a sample if "
        "--points-fraction is below 1",
        "columns": [
            *(f"x.{name}" for name in names.fields[:SHOWN]),
            "y",
            "pred",
            "Squared error",
            "partition",
            "offset",
        ],
        "sort": [[TIME, "desc"]],
        "grid": {},
        "hideChart": False,
        "isTextBasedQuery": False,
        "timeRestore": False,
        "kibanaSavedObjectMeta": _search_source(section.topic, indexRefName=reference),
    }
    view = _reference("index-pattern", f"{names.prefix}-points", reference)
    return _object("search", _search_id(names, section), attributes, [view])


def _search_id(names: Names, section: Section) -> str:
    return f"{names.prefix}-{section.id}-set"


def _panel(names: Names, section: Section, panel: AnyPanel) -> Json:
    title = f"{section.title}: {panel.title}"
    match panel:
        case Metric():
            return _lens(names, panel, title, "lnsMetric", *lens.metric(panel))
        case Line():
            return _lens(names, panel, title, "lnsXY", *lens.line(panel))
        case Table():
            return _lens(names, panel, title, "lnsDatatable", *lens.table(panel))
        case Sample():
            return _vega(names, panel, title)


def _lens(names: Names, panel: AnyPanel, title: str, kind: str, visualization: Json, columns: Json) -> Json:
    without = panel.without if isinstance(panel, Table) else None
    layer = {"columns": columns, "columnOrder": list(columns), "incompleteColumns": {}, "sampling": 1}
    attributes = {
        "title": title,
        "description": panel.description,
        "visualizationType": kind,
        "state": {
            "visualization": visualization,
            "query": {"language": "kuery", "query": _kql(panel.topic, without)},
            "filters": [],
            "datasourceStates": {
                "formBased": {"layers": {lens.LAYER: layer}},
                "indexpattern": {"layers": {}},
                "textBased": {"layers": {}},
            },
            "internalReferences": [],
            "adHocDataViews": {},
        },
    }
    view = _reference("index-pattern", f"{names.prefix}-{panel.index}", f"indexpattern-datasource-layer-{lens.LAYER}")
    return _object("lens", f"{names.prefix}-{panel.id}", attributes, [view])


def _vega(names: Names, panel: Sample, title: str) -> Json:
    state = {"title": title, "type": "vega", "aggs": [], "params": {"spec": json.dumps(vega(names, panel), indent=1)}}
    attributes = {
        "title": title,
        "description": panel.description,
        "version": 1,
        "uiStateJSON": "{}",
        "visState": json.dumps(state, ensure_ascii=False),
        "kibanaSavedObjectMeta": _search_source(),
    }
    return _object("visualization", f"{names.prefix}-{panel.id}", attributes, [])


def vega(names: Names, panel: Sample) -> Json:
    """Return the Vega-Lite specification with Kibana's search in it.

    The sample consists of the points with the highest hashes of the offset: deterministic, and spread over all offsets.
    """
    matching = {
        "must": ["%dashboard_context-must_clause%"],
        "filter": [
            "%dashboard_context-filter_clause%",
            {"term": {"topic": panel.topic}},
            {"range": {TIME: {"%timefilter%": True}}},
        ],
        "must_not": ["%dashboard_context-must_not_clause%"],
    }
    sampled = {
        "query": {"bool": matching},
        "random_score": {"seed": 1, "field": "offset"},
        "boost_mode": "replace",
    }
    body: Json = {"size": SAMPLE, "_source": ["y", "pred"], "query": {"function_score": sampled}}
    fields: list[Json] = [
        {"calculate": "datum._source.y", "as": "y"},
        {"calculate": "datum._source.pred", "as": "pred"},
    ]
    spec: Json = {
        "$schema": VEGA_LITE,
        "data": {"url": {"index": names.pattern("points"), "body": body}, "format": {"property": "hits.hits"}},
    }
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
        drawing = charts.cloud(names, None if others else first, categories=categories)
    else:
        fields.append({"filter": "isValid(datum.y)"})
        drawing = charts.diagonal(names)
    if panel.drawing == "residuals":
        fields.append({"calculate": "datum.y - datum.pred", "as": "residual"})
        drawing = charts.residuals(names, {"field": "residual", "bin": {"maxbins": 30}}, {"aggregate": "count"})
    return {**spec, **drawing, "transform": [*fields, *drawing.get("transform", [])]}


def _drawn(names: Names) -> tuple[tuple[str, ...], bool]:
    """Return the fields that Kibana's chart over a feature offers, and whether they are categories.

    The axis of a chart has one type, whatever the user chooses, so categories are offered only if there are no numbers.
    Every point is loaded with all fields that are offered. The live page loads only the chosen field and offers all.
    """
    numbers = tuple(field for field, categories in names.categories.items() if not categories)
    return (numbers or names.fields)[:SHOWN], not numbers


def _dashboard(names: Names, found: tuple[Section, ...], sets: list[Section]) -> Json:
    placed = [*_placed(names, found, sets)]
    panels = [
        {
            "type": kind,
            "gridData": {**grid, "i": name},
            "panelIndex": name,
            "embeddableConfig": {"enhancements": {}},
            "panelRefName": f"panel_{name}",
        }
        for kind, name, _, grid in placed
    ]
    attributes = {
        "title": "Streaming machine learning",
        "description": f"How well {names.label} is predicted from {names.summary}, and the model's state",
        "version": 1,
        "timeRestore": True,
        "timeFrom": "now-15m",
        "timeTo": "now",
        "refreshInterval": {"pause": False, "value": REFRESH_S * 1000},
        "optionsJSON": json.dumps(
            {
                "useMargins": True,
                "syncColors": False,
                "syncCursor": True,
                "syncTooltips": False,
                "hidePanelTitles": False,
            }
        ),
        "panelsJSON": json.dumps(panels),
        "kibanaSavedObjectMeta": _search_source(),
    }
    references = [_reference(kind, target, f"{name}:panel_{name}") for kind, name, target, _ in placed]
    return _object("dashboard", dashboard_id(names), attributes, references)


def _placed(
    names: Names, found: tuple[Section, ...], sets: list[Section]
) -> Iterator[tuple[str, str, str, dict[str, int]]]:
    """Yield type, name, object id and place of each panel of the dashboard, section below section."""
    top = 0
    for section in found:
        for panel in section.panels:
            kind = "visualization" if isinstance(panel, Sample) else "lens"
            place = panel.place
            grid = {"x": place.x, "y": top + place.y, "w": place.width, "h": place.height}
            yield kind, panel.id, f"{names.prefix}-{panel.id}", grid
        top += max(panel.place.y + panel.place.height for panel in section.panels)
    for i, section in enumerate(sets):
        grid = {"x": 24 * i, "y": top, "w": 24, "h": SEARCH_HEIGHT}
        yield "search", f"{section.id}-records", _search_id(names, section), grid
