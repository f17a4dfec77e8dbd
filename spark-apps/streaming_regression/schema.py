"""The indices of a prefix: their names, their mappings and their index templates."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date
from typing import Any

from streaming_regression.categories import LONGEST
from streaming_regression.records import Fields

KINDS = ("points", "metrics", "models", "invalid")
PRIORITY = 500  # of the index templates; Elastic's own have 100 and 200
DEFAULT_FIELD_LIMIT = 1000
OTHER_FIELDS = 100  # room for the fields of documents besides the features; they are fewer than 20
KEYWORD, LONG, DOUBLE = {"type": "keyword"}, {"type": "long"}, {"type": "double"}
BOOLEAN = {"type": "boolean"}
COMMON = {"run": KEYWORD, "@timestamp": {"type": "date"}}
PLACE = {"topic": KEYWORD, "partition": {"type": "integer"}, "offset": LONG}
CATEGORY = {"type": "keyword", "ignore_above": LONGEST}
VALUE_ONLY = {"type": "keyword", "index": False, "doc_values": False}  # stored, not indexed: any length


@dataclass(frozen=True, slots=True)
class Storage:
    """How Elasticsearch stores an index.

    Attributes
    ----------
    shards : int
        Number of primary shards, among which the documents are divided.
    replicas : int or None
        Number of copies of each shard; None: one copy if there is a second node, else none.
    refresh_interval_s : float or None
        Seconds until new documents are found by searches; None: Elasticsearch's default.
    """

    shards: int = 1
    replicas: int | None = None
    refresh_interval_s: float | None = None

    def settings(self) -> dict[str, Any]:
        """Return the index settings."""
        found: dict[str, Any] = {"number_of_shards": self.shards}
        if self.replicas is None:
            found["auto_expand_replicas"] = "0-1"
        else:
            found["number_of_replicas"] = self.replicas
        if self.refresh_interval_s is not None:
            found["refresh_interval"] = f"{round(self.refresh_interval_s * 1000)}ms"
        return found


DEFAULT_STORAGE = Storage()


def index_name(prefix: str, kind: str, day: date) -> str:
    """Return the name of the index of a day's documents of `kind`."""
    return f"{prefix}-{kind}-{day:%Y.%m.%d}"


def index_date(name: str, prefix: str) -> date | None:
    """Return the date in an index's name, or None if the name does not belong to the prefix."""
    match = re.fullmatch(rf"{re.escape(prefix)}-(?:{'|'.join(KINDS)})-(\d{{4}})\.(\d\d)\.(\d\d)", name)
    try:
        return date(*map(int, match.groups())) if match else None
    except ValueError:  # not a date, such as 2026.13.45
        return None


def index_kind(name: str, prefix: str) -> str:
    """Return the kind of documents that an index of the prefix holds, from its name."""
    return name.removeprefix(f"{prefix}-").partition("-")[0]


def mappings(fields: Fields) -> dict[str, dict[str, Any]]:
    """Return the mapping of each kind of document; Elasticsearch refuses documents with other fields."""
    layout = fields.layout
    x = {field: CATEGORY if field in layout.categories else DOUBLE for field in layout.fields}
    properties: dict[str, dict[str, Any]] = {
        "points": {**PLACE, "x": _flat(x), "y": DOUBLE, "pred": DOUBLE, "squared_error": DOUBLE, "batch": LONG}
        | {"standard_error": DOUBLE},
        "metrics": {
            "batch": LONG,
            "topic": KEYWORD,
            "partition": {"type": "integer"},
            **dict.fromkeys(["first_offset", "last_offset", "rows", "labelled", "invalid"], LONG),
            **dict.fromkeys(["sum_squared_error", "sum_absolute_error", "sum_y", "sum_y_squared"], DOUBLE),
        },
        "models": {
            "batch": LONG,
            "learner": KEYWORD,
            "intercept": DOUBLE,
            "weights": _flat(dict.fromkeys(layout.columns, DOUBLE)),
            "rows_seen": LONG,
            "seconds": DOUBLE,
            "lag": LONG,
            "points_fraction": DOUBLE,
            "drift": {"type": "object", "properties": {"train": BOOLEAN, "test": BOOLEAN}},
            "restarted": BOOLEAN,
        },
        "invalid": {
            **PLACE,
            "field": KEYWORD,
            "reason": KEYWORD,
            "value": VALUE_ONLY,
            "value_base64": {"type": "binary"},
            "schema_id": LONG,
            "last_offset": LONG,
            "lost": LONG,
        },
    }
    return {kind: {"dynamic": "strict", "properties": {**COMMON, **own}} for kind, own in properties.items()}


def settings(fields: Fields) -> dict[str, Any]:
    """Return the index settings that the mappings need: Elasticsearch's limit of fields in an index is 1,000."""
    most = len(fields.layout.columns) + OTHER_FIELDS
    return {"mapping": {"total_fields": {"limit": most}}} if most > DEFAULT_FIELD_LIMIT else {}


def _flat(properties: dict[str, Any]) -> dict[str, Any]:
    """Return an object's mapping in which dots are part of the fields' names and do not separate objects."""
    return {"type": "object", "subobjects": False, "properties": properties}


def templates(prefix: str, fields: Fields, storage: Storage = DEFAULT_STORAGE) -> dict[str, dict[str, Any]]:
    """Return the index templates by name.

    Elasticsearch refuses two templates of the same priority that match the same name. A longer prefix has a higher
    priority, because `a-points-*`, of prefix a, also matches the indices of prefix a-points.
    """
    return {
        f"{prefix}-{kind}": {
            "index_patterns": [f"{prefix}-{kind}-*"],
            "priority": PRIORITY + len(prefix),
            "template": {
                "settings": {**storage.settings(), **settings(fields)},
                "mappings": mapping,
            },
        }
        for kind, mapping in mappings(fields).items()
    }
