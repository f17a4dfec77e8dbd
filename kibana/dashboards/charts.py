"""Vega-Lite specifications of the panels, without data and colours: for the live page and for Kibana's samples."""

from __future__ import annotations

from typing import Any

from dashboards.panels import TIME, Line, Names, Sample

Spec = dict[str, Any]
SERIES = ("observed", "predicted")
LEGEND = 30  # names that a legend has room for; the tooltip of a line also shows its name
CLOCK = {"hours": "%H:%M", "minutes": "%H:%M", "seconds": ":%S"}  # Vega's default is a 12-hour clock


def line(panel: Line) -> Spec:
    """Return the specification of a line chart for rows of x, series and value."""
    legend = {"orient": "top", "title": None} if 1 < len(panel.measures) <= LEGEND else None
    time = panel.across == TIME
    x = {"field": "x", "type": "temporal" if time else "quantitative", "title": None if time else panel.x_title}
    axis = {"axis": {"format": CLOCK}} if time else {}
    y = {"field": "value", "type": "quantitative", "title": panel.y_title}
    series = [measure.label for measure in panel.measures]
    return {
        "mark": {"type": "line", "point": {"size": 16}, "strokeWidth": 2},
        "encoding": {
            "x": {**x, **axis},
            "y": y,
            "color": {"field": "series", "type": "nominal", "scale": {"domain": series}, "legend": legend},
            "tooltip": [
                {**x, "title": panel.x_title, **({"format": "%H:%M:%S"} if time else {})},
                y,
                _nominal("series"),
            ],
        },
    }


def sample(panel: Sample, names: Names, feature: str) -> Spec:
    """Return the specification of a sample's chart over a field, for the rows that `queries.read_sample` returns."""
    if panel.drawing == "residuals":
        return residuals(names, {"field": "start", "bin": {"binned": True}}, {"field": "count"})
    if panel.drawing == "diagonal":
        return diagonal(names)
    return cloud(names, feature, categories=bool(names.categories[feature]))


def cloud(names: Names, feature: str | None, *, categories: bool) -> Spec:
    """Return the specification of y and pred over x, which is `feature`, or chosen by the user if that is None.

    `categories`: the values of x are categories, else numbers.
    """
    x, value = _number("x", _title(feature or "feature")), _number("value", _title(names.label))
    if categories:
        x = {**_nominal("x"), "title": x["title"]}
    return {
        "transform": [
            {"calculate": "datum.y", "as": "observed"},
            {"calculate": "datum.pred", "as": "predicted"},
            {"fold": list(SERIES), "as": ["series", "value"]},
            {"filter": "isValid(datum.value)"},
        ],
        "mark": {"type": "point", "filled": True, "size": 14, "opacity": 0.5},
        "encoding": {
            "x": x,
            "y": value,
            "color": {
                "field": "series",
                "type": "nominal",
                "scale": {"domain": list(SERIES)},
                "legend": {"orient": "top", "title": None, "symbolOpacity": 1, "symbolSize": 60},
            },
            "tooltip": [x, value, _nominal("series")],
        },
    }


def diagonal(names: Names) -> Spec:
    """Return the specification of pred over y, with the diagonal on which perfect predictions lie."""
    x, y = _number("y", f"observed {names.label}"), _number("pred", f"predicted {names.label}")
    ends = [
        {"aggregate": [{"op": "min", "field": "y", "as": "low"}, {"op": "max", "field": "y", "as": "high"}]},
        {"calculate": "[datum.low, datum.high]", "as": "end"},
        {"flatten": ["end"]},
    ]
    return {
        "layer": [
            {
                "mark": {"type": "point", "filled": True, "size": 14, "opacity": 0.5},
                "encoding": {"x": x, "y": y, "tooltip": [x, y]},
            },
            {
                "transform": ends,
                "mark": {"type": "line", "strokeDash": [6, 4], "strokeWidth": 1.5, "color": "#d9480f"},
                "encoding": {
                    "x": {"field": "end", "type": "quantitative"},
                    "y": {"field": "end", "type": "quantitative"},
                },
            },
        ]
    }


def residuals(names: Names, x: Spec, y: Spec) -> Spec:
    """Return the specification of the residuals' histogram, for the fields or bins `x` and the count `y`."""
    x = {**x, "type": "quantitative", "title": f"residual ({names.label}, observed − predicted)"}
    y = {**y, "type": "quantitative", "title": "points"}
    if "aggregate" in y:
        return {"mark": {"type": "bar"}, "encoding": {"x": x, "y": y, "tooltip": [x, y]}}
    numbers = {"type": "quantitative"}
    ends = [{"field": "start", "title": "from", **numbers}, {"field": "end", "title": "to", **numbers}]
    return {"mark": {"type": "bar"}, "encoding": {"x": x, "x2": {"field": "end"}, "y": y, "tooltip": [*ends, y]}}


def _title(name: str) -> str:
    """Return a user's name as a title, followed by an invisible zero-width space.

    Vega uses titles as keys of objects. It fails on a key that is also a method of all objects, such as `constructor`,
    and the keys of a tooltip must differ from each other, so a feature must not have the key `series`.
    """
    return f"{name}\u200b"


def _number(field: str, title: str) -> Spec:
    return {"field": field, "type": "quantitative", "title": title, "scale": {"zero": False}}


def _nominal(field: str) -> Spec:
    return {"field": field, "type": "nominal"}
