"""A panel in the format of Lens, Kibana's chart editor: the visualization and the columns of its single layer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from dashboards.formula import OPERATORS, Call, Expression, Operation, Root, calls, parse
from dashboards.panels import BUCKETS, Line, Metric, Table

Json = dict[str, Any]
LAYER = "layer"


def metric(panel: Metric) -> tuple[Json, Json]:
    """Return visualization and columns of a metric."""
    params = {"format": {"id": "number", "params": {"decimals": panel.decimals}}}
    columns = _columns("value", panel.measure.label, panel.measure.formula, params)
    visualization = {"layerId": LAYER, "layerType": "data", "metricAccessor": "value"}
    return visualization | ({"subtitle": panel.unit} if panel.unit else {}), columns


def line(panel: Line) -> tuple[Json, Json]:
    """Return visualization and columns of a line chart over a field that is a number.

    Lens derives the width of the buckets from the smallest and largest value. For a date it would derive it from the
    dashboard's time range, however short the run is.
    """
    columns: Json = {"x": _buckets(panel)}
    accessors = [f"y{i}" for i in range(len(panel.measures))]
    for accessor, measure in zip(accessors, panel.measures, strict=True):
        columns |= _columns(accessor, measure.label, measure.formula, {})
    everywhere = {"x": True, "yLeft": True, "yRight": True}
    logarithmic = {"yLeftScale": "log", "yLeftExtent": {"mode": "dataBounds", "niceValues": True}}
    colours = [
        {"forAccessor": accessor, "color": measure.colour}
        for accessor, measure in zip(accessors, panel.measures, strict=True)
    ]
    visualization = {
        "legend": {"isVisible": len(panel.measures) > 1, "position": "right"},
        "valueLabels": "hide",
        "fittingFunction": "Linear",
        "preferredSeriesType": "line",
        "xTitle": panel.x_title,
        "yTitle": panel.y_title,
        "axisTitlesVisibilitySettings": everywhere,
        "tickLabelsVisibilitySettings": everywhere,
        "labelsOrientation": {"x": 0, "yLeft": 0, "yRight": 0},
        "gridlinesVisibilitySettings": everywhere,
        **(logarithmic if panel.scale == "log" else {}),
        "layers": [
            {
                "layerId": LAYER,
                "layerType": "data",
                "seriesType": "line",
                "xAccessor": "x",
                "accessors": accessors,
                "yConfig": colours,
                "position": "top",
                "showGridlines": False,
            }
        ],
    }
    return visualization, columns


def _buckets(panel: Line) -> Json:
    return {
        "label": panel.x_title,
        "customLabel": True,
        "dataType": "number",
        "operationType": "range",
        "sourceField": panel.across,
        "isBucketed": True,
        "scale": "interval",
        "params": {
            "includeEmptyRows": False,
            "type": "histogram",
            "ranges": [{"from": 0, "to": 1000, "label": ""}],
            "maxBars": BUCKETS,
        },
    }


def table(panel: Table) -> tuple[Json, Json]:
    """Return visualization and columns of a table of counts."""
    columns: Json = {
        name: {
            "label": heading,
            "customLabel": True,
            "dataType": "string",
            "operationType": "terms",
            "sourceField": name,
            "isBucketed": True,
            "scale": "ordinal",
            "params": {
                "size": panel.rows,
                "orderBy": {"type": "column", "columnId": "count"},
                "orderDirection": "desc",
                # A record that is invalid as a whole has no field; Lens shows "missing" only together with "other".
                "otherBucket": name == "field",
                "missingBucket": name == "field",
                "parentFormat": {"id": "terms"},
                "include": [],
                "exclude": [],
                "includeIsRegex": False,
                "excludeIsRegex": False,
            },
        }
        for name, heading in panel.columns
    }
    columns["count"] = {
        "label": "Records",
        "customLabel": True,
        "dataType": "number",
        "operationType": "count",
        "sourceField": "___records___",
        "isBucketed": False,
        "scale": "ratio",
        "params": {"emptyAsNull": False},
    }
    shown = [{"columnId": name} for name in columns]
    return {"layerId": LAYER, "layerType": "data", "columns": shown, "rowHeight": "single"}, columns


def _columns(column: str, label: str, formula: str, params: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return Lens' columns for a formula; the first, with the id `column`, is the one to show.

    A single aggregation is one column. Any other formula needs the columns that Lens' editor makes: a column `<id>X0`,
    `X1`, … for each aggregation, a column for the arithmetic, and the formula, which refers to the arithmetic.
    """
    expression = parse(formula)
    if isinstance(expression, Call):
        return {column: _aggregation_column(expression, label, params)}
    found = calls(expression)
    parts = {f"{column}X{i}": _aggregation_column(call, f"Part of {label}", {}) for i, call in enumerate(found)}
    ids = iter(parts)
    arithmetic = f"{column}X{len(found)}"
    common = {"dataType": "number", "isBucketed": False, "scale": "ratio", "customLabel": True}
    return {
        column: {
            **common,
            "label": label,
            "operationType": "formula",
            "params": {"formula": formula, "isFormulaBroken": False, **params},
            "references": [arithmetic],
        },
        **parts,
        arithmetic: {
            **common,
            "label": f"Part of {label}",
            "operationType": "math",
            "params": {"tinymathAst": _tinymath(expression, lambda: next(ids))},
            "references": list(parts),
        },
    }


def _aggregation_column(call: Call, label: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return the column of an aggregation. `emptyAsNull` would turn a sum of 0 into "no value"."""
    return {
        "label": label,
        "customLabel": True,
        "dataType": "number",
        "operationType": call.function,
        "sourceField": call.field,
        "isBucketed": False,
        "scale": "ratio",
        "params": {"emptyAsNull": False, **params},
    }


def _tinymath(expression: Expression, next_id: Callable[[], str]) -> Any:  # noqa: ANN401 - a tree of JSON
    match expression:
        case Call():
            return next_id()
        case Operation(operator=op, left=left, right=right):
            return {
                "type": "function",
                "name": OPERATORS[op][0],
                "args": [_tinymath(left, next_id), _tinymath(right, next_id)],
                "location": {"min": expression.start, "max": expression.end},
                "text": expression.text,
            }
        case Root(argument=argument):
            return {
                "type": "function",
                "name": "sqrt",
                "args": [_tinymath(argument, next_id)],
                "location": {"min": expression.start, "max": expression.end},
                "text": expression.text,
            }
        case _:
            return int(expression) if expression.is_integer() else expression
