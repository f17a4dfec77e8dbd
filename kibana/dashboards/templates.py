"""The index templates that the panels need: the contract with the streaming regression, which installs them too."""

from __future__ import annotations

from typing import Any

from dashboards.panels import Names

KEYWORD, INTEGER, LONG, DOUBLE, BOOLEAN = (
    {"type": name} for name in ("keyword", "integer", "long", "double", "boolean")
)
CATEGORY = {"type": "keyword", "ignore_above": 1024}
COMMON = {"run": KEYWORD, "@timestamp": {"type": "date"}}
PLACE = {"topic": KEYWORD, "partition": INTEGER, "offset": LONG}
COUNTS = ("first_offset", "last_offset", "rows", "labelled", "invalid")
SUMS = ("sum_squared_error", "sum_absolute_error", "sum_y", "sum_y_squared")


def templates(names: Names) -> dict[str, dict[str, Any]]:
    """Return the index templates by name."""
    x = {field: CATEGORY if categories else DOUBLE for field, categories in names.categories.items()}
    weights = dict.fromkeys(names.columns, DOUBLE)
    fields = len(weights) + 100  # Elasticsearch's limit is 1,000, unless an index has another one
    limit = {"mapping": {"total_fields": {"limit": fields}}} if fields > 1000 else {}
    mappings: dict[str, dict[str, Any]] = {
        "points": {**PLACE, "x": _flat(x), "y": DOUBLE, "pred": DOUBLE, "squared_error": DOUBLE, "batch": LONG}
        | {"standard_error": DOUBLE},
        "metrics": {
            "batch": LONG,
            "topic": KEYWORD,
            "partition": INTEGER,
            **dict.fromkeys(COUNTS, LONG),
            **dict.fromkeys(SUMS, DOUBLE),
        },
        "models": {
            "batch": LONG,
            "learner": KEYWORD,
            "intercept": DOUBLE,
            "weights": _flat(weights),
            "rows_seen": LONG,
            "seconds": DOUBLE,
            "lag": LONG,
            "points_fraction": DOUBLE,
            "drift": {"type": "object", "properties": dict.fromkeys(("train", "test"), BOOLEAN)},
            "restarted": BOOLEAN,
        },
        "invalid": {
            **PLACE,
            "last_offset": LONG,
            "lost": LONG,
            "field": KEYWORD,
            "reason": KEYWORD,
            "value": {"type": "keyword", "index": False, "doc_values": False},
            "value_base64": {"type": "binary"},
            "schema_id": LONG,
        },
    }
    return {
        f"{names.prefix}-{kind}": {
            "index_patterns": [f"{names.prefix}-{kind}-*"],
            "priority": 500 + len(names.prefix),  # if prefixes overlap, the longer one takes precedence
            "template": {
                "settings": {"number_of_shards": 1, "auto_expand_replicas": "0-1", **limit},
                "mappings": {"dynamic": "strict", "properties": {**COMMON, **properties}},
            },
        }
        for kind, properties in mappings.items()
    }


def _flat(properties: dict[str, Any]) -> dict[str, Any]:
    return {"type": "object", "subobjects": False, "properties": properties}
