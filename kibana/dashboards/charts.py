"""Vega-Lite specifications of the panels, without data: for the live page and for Kibana's charts that Lens lacks.

The features used are those of Vega-Lite 5.5, which Kibana 8.12 has.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from dashboards import palette
from dashboards.panels import TIME, Event, Line, Names, Sample
from dashboards.samples import MARGIN, TAIL

Spec = dict[str, Any]
SERIES = {"observed": palette.OBSERVED, "predicted": palette.PREDICTED}
LEGEND = 30  # names that a legend has room for; the tooltip of a line also shows its name
CLOCK = {"hours": "%H:%M", "minutes": "%H:%M", "seconds": ":%S"}  # Vega's default is a 12-hour clock
MOMENT = "%Y-%m-%d %H:%M:%S"
ROUNDED = ",.6~r"  # six significant digits, without an exponent
Z95 = 1.96  # 95 % of a normal distribution are within this many standard deviations
INTERVAL = [f"datum.pred {sign} {Z95} * datum.standard_error" for sign in "-+"]
PLACE = {"field": "place", "type": "nominal", "title": "topic-partition-offset"}


def line(panel: Line) -> Spec:
    """Return the specification of a line chart for rows of x, series and value, and rows of the data set `events`."""
    return {
        "layer": [
            lines(panel),
            *(
                marks(kind, {"name": "events"}, [{"filter": f"datum.label === '{kind.label}'"}])
                for kind in panel.events
            ),
        ]
    }


def lines(panel: Line) -> Spec:
    """Return the layer with the lines."""
    legend = {"orient": "top", "title": None} if 1 < len(panel.measures) <= LEGEND else None
    time = panel.across == TIME
    x = {"field": "x", "type": "temporal" if time else "quantitative", "title": None if time else panel.x_title}
    axis: Spec = {"axis": {"format": CLOCK}} if time else {"axis": {"tickMinStep": 1}}  # batches, offsets are whole
    whole = {} if time else {"scale": {"zero": False}}
    scale = {"scale": {"type": "log", "nice": True}} if panel.scale == "log" else {}
    y = {"field": "value", "type": "quantitative", "title": panel.y_title}
    domain = [measure.label for measure in panel.measures]
    colour = {"field": "series", "type": "nominal", "scale": {"domain": domain, "range": _colours(panel)}}
    encoding: Spec = {
        "x": {**x, **axis, **whole},
        "y": {**y, **scale},
        "color": {**colour, "legend": legend},
        "tooltip": [
            {**x, "title": panel.x_title, "format": MOMENT if time else ","},
            {**y, "format": ROUNDED},
            _nominal("series"),
        ],
    }
    if any(measure.dashed for measure in panel.measures):
        dashes = [[5, 4] if measure.dashed else [1, 0] for measure in panel.measures]
        dashed = {"field": "series", "type": "nominal", "scale": {"domain": domain, "range": dashes}}
        encoding["strokeDash"] = {**dashed, "legend": legend}  # the same legend as the colours: one for both
    positive = {"transform": [{"filter": "datum.value > 0"}]} if panel.scale == "log" else {}
    return {**positive, "mark": {"type": "line", "point": {"size": 16}, "strokeWidth": 2}, "encoding": encoding}


def _colours(panel: Line) -> list[str]:
    return [measure.colour for measure in panel.measures]


def marks(kind: Event, data: Spec, transform: Sequence[Spec] = ()) -> Spec:
    """Return the layer with a vertical line at each event of a kind, for documents as Elasticsearch returns them."""
    x = {"field": "x", "type": "temporal", "title": None}
    text = {"field": "event", "type": "nominal", "title": kind.label}
    return {
        "data": data,
        "transform": [
            *transform,
            {"calculate": f"toDate(datum._source['{TIME}'])", "as": "x"},
            {"calculate": kind.text, "as": "event"},
        ],
        "mark": {"type": "rule", "strokeWidth": 3, "opacity": 0.7, "color": kind.colour},
        "encoding": {"x": x, "tooltip": [{**x, "title": "time", "format": MOMENT}, text]},
    }


def sample(panel: Sample, names: Names, feature: str) -> Spec:
    """Return the specification of a sample's chart over a field, for the rows that `samples.read_sample` returns."""
    if panel.drawing == "residuals":
        return residuals(panel, names, {"field": "start", "bin": {"binned": True}}, {"field": "count"})
    if panel.drawing == "diagonal":
        return diagonal(panel, names)
    return cloud(names, feature, categories=bool(names.categories[feature]))


def cloud(names: Names, feature: str | None, *, categories: bool) -> Spec:
    """Return the specification of y and pred over x, which is `feature`, or chosen by the user if that is None.

    Rows with a `standard_error` get a vertical bar, the 95 % confidence interval of the prediction.

    `categories`: the values of x are categories, else numbers.
    """
    title: Any = {"signal": "feature"} if feature is None else _title(feature)
    x, value = _number("x", title), _number("value", _title(names.label))
    if categories:
        x = {**_nominal("x"), "title": title}
    shown = {**x, "format": ROUNDED} if not categories else x
    if feature is None:  # the heading in a tooltip cannot change
        shown = {**_nominal("chosen"), "title": "feature"}
    legend = {"orient": "top", "title": None, "symbolOpacity": 1, "symbolSize": 60}
    ends = [{"calculate": end, "as": name} for end, name in zip(INTERVAL, ("least", "most"), strict=True)]
    bar = {"type": "rule", "color": palette.PREDICTED, "opacity": 0.35, "strokeWidth": 1}
    chosen = {"calculate": f"feature + ' = ' + {'datum.x' if categories else _rounded('datum.x')}", "as": "chosen"}
    return {
        "transform": [*inliers(["y", "pred"] if categories else ["x", "y", "pred"])],
        "layer": [
            {
                "transform": [{"filter": "!datum.outlier && isValid(datum.standard_error)"}, *ends],
                "mark": bar,
                "encoding": {
                    "x": x,
                    "y": {"field": "least", "type": "quantitative", "title": value["title"], "scale": {"zero": False}},
                    "y2": {"field": "most"},
                },
            },
            {
                "transform": [
                    {"filter": "!datum.outlier"},
                    *([chosen] if feature is None else []),
                    {"calculate": "datum.y", "as": "observed"},
                    {"calculate": "datum.pred", "as": "predicted"},
                    {"fold": [*SERIES], "as": ["series", "value"]},
                    {"filter": "isValid(datum.value)"},
                ],
                "mark": {"type": "point", "filled": True, "size": 22, "opacity": 0.6},
                "encoding": {
                    "x": x,
                    "y": value,
                    "color": {**_series([*SERIES.values()]), "legend": legend},
                    "shape": {**_series(["circle", "cross"]), "legend": legend},
                    "tooltip": [shown, {**value, "format": ROUNDED}, _nominal("series"), PLACE],
                },
            },
            outliers(),
        ],
    }


def diagonal(panel: Sample, names: Names) -> Spec:
    """Return the specification of pred over y, with the diagonal on which perfect predictions lie."""
    x, y = _number("y", f"observed {names.label}"), _number("pred", f"predicted {names.label}")
    ends = [
        {"filter": "!datum.outlier"},
        {"aggregate": [{"op": "min", "field": "y", "as": "low"}, {"op": "max", "field": "y", "as": "high"}]},
        {"calculate": "[datum.low, datum.high]", "as": "end"},
        {"flatten": ["end"]},
    ]
    point = {"type": "point", "filled": True, "size": 14, "opacity": 0.5, "color": names.colour(panel.topic)}
    return {
        "transform": [*inliers(["y", "pred"])],
        "layer": [
            {
                "transform": [{"filter": "!datum.outlier"}],
                "mark": point,
                "encoding": {
                    "x": x,
                    "y": y,
                    "tooltip": [{**x, "format": ROUNDED}, {**y, "format": ROUNDED}, PLACE],
                },
            },
            {
                "transform": ends,
                "mark": {"type": "line", "strokeDash": [6, 4], "strokeWidth": 1.5, "color": palette.REFERENCE},
                "encoding": {
                    "x": {"field": "end", "type": "quantitative"},
                    "y": {"field": "end", "type": "quantitative"},
                },
            },
            outliers(),
        ],
    }


def residuals(panel: Sample, names: Names, x: Spec, y: Spec) -> Spec:
    """Return the specification of the residuals' histogram, for the fields or bins `x` and the count `y`.

    With counted bins, a row without `start` has the number of outliers. Otherwise the rows are residuals.
    """
    x = {**x, "type": "quantitative", "title": f"residual ({names.label}, observed − predicted)"}
    y = {**y, "type": "quantitative", "title": "points"}
    bar = {"type": "bar", "color": names.colour(panel.topic)}
    if "aggregate" in y:
        encoding = {"x": x, "y": y, "tooltip": [x, y]}
        drawn = {"transform": [{"filter": "!datum.outlier"}], "mark": bar, "encoding": encoding}
        return {"transform": [*inliers(["residual"])], "layer": [drawn, outliers()]}
    numbers = {"type": "quantitative", "format": ROUNDED}
    ends = [{"field": "start", "title": "from", **numbers}, {"field": "end", "title": "to", **numbers}]
    encoding = {"x": x, "x2": {"field": "end"}, "y": y, "tooltip": [*ends, {**y, "format": ","}]}
    drawn = {"transform": [{"filter": "!datum.outlier"}], "mark": bar, "encoding": encoding}
    return {
        "transform": [{"calculate": "!isValid(datum.start)", "as": "outlier"}],
        "layer": [drawn, outliers(field="count")],
    }


def inliers(fields: Sequence[str]) -> list[Spec]:
    """Return the transforms that set `outlier` for rows in which one of the fields is an outlier.

    `samples.fences` has the same rule. The percentile of a value is the share of the other values below it.
    """
    found: list[Spec] = []
    for name in fields:
        value = f"datum['{name}']"
        low, high = (f"datum['{end} of {name}']" for end in ("low", "high"))
        ends = {"low": f">= {TAIL}", "high": f"<= {1 - TAIL}"}
        found += [
            {"window": [{"op": "percent_rank", "as": "rank"}], "sort": [{"field": name}]},
            *(
                {"calculate": f"datum.rank {where} && isValid({value}) ? {value} : null", "as": f"{end} {name}"}
                for end, where in ends.items()
            ),
            {
                "joinaggregate": [
                    {"op": "min", "field": f"low {name}", "as": f"low of {name}"},
                    {"op": "max", "field": f"high {name}", "as": f"high of {name}"},
                ]
            },
            {
                "calculate": f"isValid({value}) && abs({value} - ({low} + {high}) / 2) > "
                f"{0.5 + MARGIN} * abs({high} - {low})",
                "as": f"outlier in {name}",
            },
        ]
    either = " || ".join(f"datum['outlier in {name}']" for name in fields)
    return [*found, {"calculate": either, "as": "outlier"}]


def outliers(field: str | None = None) -> Spec:
    """Return the layer with the number of outliers: of the rows with `outlier`, or the sum of a field of theirs."""
    op = {"op": "sum", "field": field, "as": "n"} if field else {"op": "count", "as": "n"}
    text = "format(datum.n, ',') + (datum.n === 1 ? ' point lies' : ' points lie') + ' outside'"
    place = {"x": {"expr": "width - 4"}, "y": 4, "align": "right", "baseline": "top"}
    return {
        "transform": [{"filter": "datum.outlier"}, {"aggregate": [op]}, {"calculate": text, "as": "text"}],
        "mark": {"type": "text", "color": palette.REFERENCE, "fontSize": 12, **place},
        "encoding": {"text": {"field": "text"}},
    }


def _rounded(expression: str) -> str:
    return f"format({expression}, '{ROUNDED}')"


def _title(name: str) -> str:
    """Return a user's name as a title, followed by an invisible zero-width space.

    Vega uses titles as keys of objects. It fails on a key that is also a method of all objects, such as `constructor`,
    and the keys of a tooltip must differ from each other, so a feature must not have the key `series`.
    """
    return f"{name}\u200b"


def _number(field: str, title: Any) -> Spec:  # noqa: ANN401 - a text, or a signal
    return {"field": field, "type": "quantitative", "title": title, "scale": {"zero": False}}


def _series(values: list[str]) -> Spec:
    """Return the encoding of observed and predicted by a colour or a shape."""
    return {**_nominal("series"), "scale": {"domain": [*SERIES], "range": values}}


def _nominal(field: str) -> Spec:
    return {"field": field, "type": "nominal"}
