"""The dashboards as Kibana's saved objects, one JSON object per line, for import into Kibana 8.12 and newer.

Kibana migrates objects from the type versions given here to its own, and refuses a file that has a newer version. It
does not check the content of the JSON strings in the attributes.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Any

from dashboards import lens, vega
from dashboards.panels import (
    RANGE,
    REASONS,
    SHOWN,
    TIME,
    AnyPanel,
    Index,
    Line,
    Metric,
    Names,
    Note,
    Section,
    Table,
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
KQL_WORDS = frozenset(["and", "or", "not", "true", "false", "null", "nan", "infinity"])
WIDTHS = {TIME: 210, "reason": 380, "value": 420}
WIDTH = 120  # of the other columns of a list of documents, in pixels
EXACT = {"id": "number", "params": {"pattern": "0,0.0000"}}


@dataclass(frozen=True, slots=True)
class Home:
    """The installation and the space that the objects are for; `space` is None for the default space.

    An id exists only once in all spaces: if a file with the same ids is imported into a second space, Kibana gives its
    objects random ids. So the ids for another space begin with it, and a `~`, which neither a space nor a prefix has.
    """

    names: Names
    space: str | None = None

    def id(self, name: str) -> str:
        """Return the id of an object."""
        space = "" if self.space in {None, "default"} else f"{self.space}~"
        return f"{space}{self.names.prefix}-{name}"

    def title(self, text: str) -> str:
        """Return the title of an object, by which its users can tell installations apart."""
        return f"{text} ({self.names.prefix})"


@dataclass(frozen=True, slots=True)
class Search:
    """A list of documents, Kibana's saved search."""

    id: str
    title: str
    description: str
    index: Index
    columns: tuple[str, ...]
    topic: str | None = None
    sort: str = TIME


def searches(names: Names) -> tuple[Search, ...]:
    """Return the lists: the points of both sets, the points with the largest errors, and the invalid records."""
    columns = (*(f"x.{name}" for name in names.fields[:SHOWN]), "y", "pred", "squared_error")
    stored = "with their predictions; a sample if --points-fraction is below 1"
    place = ("partition", "offset")
    return (
        *(
            Search(
                f"{name}-set",
                f"{title} set",
                f"The stored points of topic {topic} {stored}",
                "points",
                (*columns, *place),
                topic,
            )
            for name, title, topic in (("train", "Train", names.train), ("test", "Test", names.test))
        ),
        Search(
            "largest-errors",
            "Largest errors",
            f"The stored points of both topics {stored}",
            "points",
            (*columns, "topic", *place),
            sort="squared_error",
        ),
        Search(
            "invalid-records",
            "Invalid records",
            "The records that could not be used, and the gaps of lost records",
            "invalid",
            ("reason", "field", "topic", *place, "value", "lost"),
        ),
    )


def saved(home: Home, kind: str, name: str, attributes: Json, references: list[Json]) -> Json:
    """Return an object in the format of Kibana's files."""
    return {
        "type": kind,
        "id": home.id(name),
        "attributes": attributes,
        "references": references,
        "coreMigrationVersion": CORE_VERSION,
        "typeMigrationVersion": TYPE_VERSIONS[kind],
    }


def reference(home: Home, kind: str, target: str, name: str) -> Json:
    """Return an object's reference, called `name`, to the object of a kind whose own name is `target`."""
    return {"type": kind, "id": home.id(target), "name": name}


def search_source(topic: str | None = None, **more: str) -> Json:
    """Return the part of an object that has its query."""
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


def data_view(home: Home, index: Index) -> Json:
    """Return the data view of the indices of a kind."""
    formats: Json = {
        "points": {"pred": EXACT, "squared_error": EXACT},
        "invalid": {
            "reason": {
                "id": "static_lookup",
                "params": {"lookupEntries": [{"key": key, "value": value} for key, value in REASONS.items()]},
            }
        },
    }
    labels = {"points": {"squared_error": {"customLabel": "Squared error"}, "pred": {"customLabel": "Prediction"}}}
    attributes: Json = {
        "title": home.names.pattern(index),
        "name": home.names.pattern(index),
        "timeFieldName": TIME,
        "fields": "[]",
        "sourceFilters": "[]",
        "fieldAttrs": json.dumps(labels.get(index, {})),
        "fieldFormatMap": json.dumps(formats.get(index, {})),
        "runtimeFieldMap": "{}",
        "allowNoIndex": True,
    }
    return saved(home, "index-pattern", index, attributes, [])


def saved_search(home: Home, search: Search) -> Json:
    """Return a list of documents, with rows of one line."""
    view = "kibanaSavedObjectMeta.searchSourceJSON.index"
    attributes = {
        "title": home.title(search.title),
        "description": search.description,
        "columns": list(search.columns),
        "sort": [[search.sort, "desc"]],
        "grid": {"columns": {name: {"width": WIDTHS.get(name, WIDTH)} for name in (TIME, *search.columns)}},
        "rowHeight": 1,
        "hideChart": False,
        "isTextBasedQuery": False,
        "timeRestore": False,
        "kibanaSavedObjectMeta": search_source(search.topic, indexRefName=view),
    }
    return saved(home, "search", search.id, attributes, [reference(home, "index-pattern", search.index, view)])


def panel_object(home: Home, section: Section, panel: AnyPanel) -> Json:
    """Return a panel as an object of Kibana's library."""
    title = home.title(f"{section.title}: {panel.title}")
    match panel:
        case Metric():
            return _lens(home, panel, title, "lnsMetric", *lens.metric(panel))
        case Line() if panel.across != TIME:
            return _lens(home, panel, title, "lnsXY", *lens.line(panel))
        case Table():
            return _lens(home, panel, title, "lnsDatatable", *lens.table(panel))
        case Note():
            return markdown(home, panel.id, title, panel.description, _note(home, panel))
        case _:
            spec = vega.specification(home.names, panel)
            # In ASCII: Kibana reads the text as HJSON, which may treat other characters differently from JSON.
            params = {"spec": json.dumps(spec, indent=1)}
            return _visualization(home, panel.id, title, panel.description, "vega", params)


def _lens(home: Home, panel: AnyPanel, title: str, kind: str, visualization: Json, columns: Json) -> Json:
    without = panel.without if isinstance(panel, Table) else None
    layer = {"columns": columns, "columnOrder": list(columns), "incompleteColumns": {}, "sampling": 1}
    if panel.index == "models":  # its documents have no topic and no partition, which a user filters by
        layer["ignoreGlobalFilters"] = True
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
    view = reference(home, "index-pattern", panel.index, f"indexpattern-datasource-layer-{lens.LAYER}")
    return saved(home, "lens", panel.id, attributes, [view])


def markdown(home: Home, name: str, title: str, description: str, text: str) -> Json:
    """Return a panel with a text in Markdown."""
    params = {"fontSize": 12, "openLinksInNewTab": False, "markdown": text}
    return _visualization(home, name, title, description, "markdown", params)


def _note(home: Home, panel: Note) -> str:
    """Return the note's text, with links that lead from the dashboard to the lists of documents, in any space."""
    time = f"?_g=(time:(from:{RANGE[2]},to:now))"
    links = [
        f"- [{search.title}](discover#/view/{home.id(search.id)}{time})"  # from …/app/dashboards to …/app/discover
        for search in searches(home.names)
    ]
    return "\n\n".join([*panel.paragraphs, "The documents, in Discover:", "\n".join(links)])


def _visualization(home: Home, name: str, title: str, description: str, kind: str, params: Json) -> Json:
    state = {"title": title, "type": kind, "aggs": [], "params": params}
    attributes = {
        "title": title,
        "description": description,
        "version": 1,
        "uiStateJSON": "{}",
        "visState": json.dumps(state, ensure_ascii=False),
        "kibanaSavedObjectMeta": search_source(),
    }
    return saved(home, "visualization", name, attributes, [])
