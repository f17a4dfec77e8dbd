"""The file for Kibana: the dashboard, with headings and controls, and all objects that it shows."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dashboards.panels import RANGE, REFRESH_S, TIME, AnyPanel, Line, Metric, Names, Newest, Section, Table
from dashboards.saved_objects import (
    INDICES,
    Home,
    data_view,
    markdown,
    panel_object,
    reference,
    saved,
    saved_search,
    search_source,
    searches,
)
from dashboards.sections import sections

Json = dict[str, Any]
DASHBOARD = "streaming-ml"
HEADING_HEIGHT = 3
LIST_HEIGHT = 11
LISTS = ("train-set", "test-set", "invalid-records")
"""The saved searches that the dashboard shows; links lead to the others."""
CONTROLS = (
    ("topic", "Topic", "optionsListControl", "optionsListDataView"),
    ("partition", "Partition", "rangeSliderControl", "rangeSliderDataView"),
)
"""Field, title, type and kind of reference: Kibana 8.12 offers a list of texts and a range of numbers."""


def ndjson(names: Names, space: str | None = None) -> str:
    """Return the file's text: data views, saved searches, panels and the dashboard that shows them."""
    return "".join(json.dumps(found, ensure_ascii=False) + "\n" for found in saved_objects(names, space))


def saved_objects(names: Names, space: str | None = None) -> list[Json]:
    """Return all objects, each after the objects that it refers to."""
    home = Home(names, space)
    found = sections(names)
    return [
        *(data_view(home, index) for index in INDICES),
        *(saved_search(home, search) for search in searches(names)),
        *(
            markdown(home, f"{name}-heading", home.title(f"Heading: {title}"), "", f"## {title}")
            for name, title in _headings(found)
        ),
        *(panel_object(home, section, panel) for section in found for panel in section.panels),
        _dashboard(home, found),
    ]


def dashboard_id(names: Names, space: str | None = None) -> str:
    """Return the id of the dashboard in Kibana."""
    return Home(names, space).id(DASHBOARD)


def _headings(found: tuple[Section, ...]) -> list[tuple[str, str]]:
    """Return name and text of each heading: of all sections but the first, and of the lists of documents."""
    titles = [
        (section.id, f"{section.title} (topic {section.topic})" if section.topic else section.title)
        for section in found[1:]
    ]
    return [*titles, ("records", "Records")]


@dataclass(frozen=True, slots=True)
class _Placed:
    """A panel on the dashboard: type and name of its object, its place, and what `embeddableConfig` has besides."""

    kind: str
    name: str
    title: str
    grid: dict[str, int]
    config: Json


def _placed(home: Home, found: tuple[Section, ...]) -> Iterator[_Placed]:
    """Yield the dashboard's panels, section below section."""
    headings = dict(_headings(found))
    top = 0

    def heading(name: str) -> _Placed:
        grid = {"x": 0, "y": top, "w": 48, "h": HEADING_HEIGHT}
        return _Placed("visualization", f"{name}-heading", headings[name], grid, {"hidePanelTitles": True})

    for section in found:
        if section.id in headings:
            yield heading(section.id)
            top += HEADING_HEIGHT
        for panel in section.panels:
            place = panel.place
            grid = {"x": place.x, "y": top + place.y, "w": place.width, "h": place.height}
            yield _Placed(_kind(panel), panel.id, panel.title, grid, _config(panel))
        top += max(panel.place.y + panel.place.height for panel in section.panels)
    yield heading("records")
    top += HEADING_HEIGHT
    for search in searches(home.names):
        if search.id in LISTS:
            grid = {"x": 0, "y": top, "w": 48, "h": LIST_HEIGHT}
            yield _Placed("search", search.id, search.title, grid, {})
            top += LIST_HEIGHT


def _kind(panel: AnyPanel) -> str:
    in_lens = isinstance(panel, Metric | Table) or (isinstance(panel, Line) and panel.across != TIME)
    return "lens" if in_lens else "visualization"


def _config(panel: AnyPanel) -> Json:
    """Return a panel's settings on the dashboard: a click in a chart of errors or reasons leads to Discover."""
    if isinstance(panel, Newest):
        return {"hidePanelTitles": True}
    if not (isinstance(panel, Table) or (isinstance(panel, Line) and panel.across == "first_offset")):
        return {}
    event = {
        "eventId": str(uuid.uuid5(uuid.NAMESPACE_OID, panel.id)),
        "triggers": ["FILTER_TRIGGER"],
        "action": {
            "factoryId": "OPEN_IN_DISCOVER_DRILLDOWN",
            "name": "Open in Discover",
            "config": {"openInNewTab": True},
        },
    }
    return {"enhancements": {"dynamicActions": {"events": [event]}}}


def _controls() -> Json:
    panels = {
        name: {
            "type": kind,
            "order": i,
            "grow": False,
            "width": "medium",
            "explicitInput": {"id": name, "fieldName": name, "title": title, "enhancements": {}},
        }
        for i, (name, title, kind, _) in enumerate(CONTROLS)
    }
    ignored = dict.fromkeys(("ignoreFilters", "ignoreQuery", "ignoreTimerange", "ignoreValidations"), False)
    return {
        "controlStyle": "oneLine",
        "chainingSystem": "HIERARCHICAL",
        "ignoreParentSettingsJSON": json.dumps(ignored),
        "panelsJSON": json.dumps(panels),
    }


def _dashboard(home: Home, found: tuple[Section, ...]) -> Json:
    names = home.names
    placed = [*_placed(home, found)]
    panels = [
        {
            "type": panel.kind,
            "gridData": {**panel.grid, "i": panel.name},
            "panelIndex": panel.name,
            "title": panel.title,
            "embeddableConfig": {"enhancements": {}, **panel.config},
            "panelRefName": f"panel_{panel.name}",
        }
        for panel in placed
    ]
    options = {"useMargins": True, "syncColors": False, "syncCursor": True, "syncTooltips": False}
    attributes = {
        "title": names.title,
        "description": f"How well {names.label} is predicted from {names.summary}, and the model's state. All numbers "
        f"are of the chosen time range, at first the {RANGE[1]}.",
        "version": 1,
        "timeRestore": True,
        "timeFrom": RANGE[2],
        "timeTo": "now",
        "refreshInterval": {"pause": False, "value": REFRESH_S * 1000},
        "controlGroupInput": _controls(),
        "optionsJSON": json.dumps({**options, "hidePanelTitles": False}),
        "panelsJSON": json.dumps(panels, ensure_ascii=False),
        "kibanaSavedObjectMeta": search_source(),
    }
    references = [
        *(reference(home, panel.kind, panel.name, f"{panel.name}:panel_{panel.name}") for panel in placed),
        *(reference(home, "index-pattern", "metrics", f"controlGroup_{name}:{kind}") for name, _, _, kind in CONTROLS),
    ]
    return saved(home, "dashboard", DASHBOARD, attributes, references)
