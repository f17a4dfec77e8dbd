"""The NDJSON: properties that Kibana does not check, and that the committed file is up to date."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import vl_convert

from dashboards import charts, formula, palette
from dashboards.dashboard import dashboard_id, ndjson, saved_objects
from dashboards.panels import RANGE, SHOWN, Line, Metric, Names, Sample
from dashboards.saved_objects import CORE_VERSION, TYPE_VERSIONS
from dashboards.sections import sections
from dashboards.templates import templates
from streaming_regression import schema
from streaming_regression.records import Fields
from tests.kibana_specs import answered, named_searches, searches, vega_spec
from tests.slow import slow_except
from tests.strategies import AWKWARD_NAMES

ALONE = ("Air temperature [K]", "__proto__", "constructor", "it's", "🌡️ °C", "series", "time", "a.b[0]")
COMMITTED = Path(__file__).parents[2] / "kibana" / "dashboards.ndjson"
NAMES = [
    pytest.param(Names(), id="flights"),
    pytest.param(Names(("x",), "y", "other", "a.train", "a-test"), id="one-feature"),
    pytest.param(Names(("a b", "c.d", "it's", "ü", "f-1"), "the label", "p.q_r"), id="odd-names"),
    pytest.param(Names(AWKWARD_NAMES, "it's [y] ÷ 2", "p", "or", "007"), id="awkward-names"),
    pytest.param(Names(("delay", "carrier[UA|AA]", r"o.p[x\|y|z]", "b"), "y", "p"), id="categories"),
    pytest.param(Names(("carrier[UA|AA]", "origin[E|J]"), "y", "p"), id="categories-only"),
    pytest.param(Names(("carrier[UA|AA]",), "y", "p"), id="category-alone"),
    pytest.param(Names((*(f"f{i}" for i in range(1500)), "c[x|y]"), "y", "p"), id="many"),
    *(pytest.param(Names((name,), f"{name}'", "p"), id=f"alone-{i}") for i, name in enumerate(ALONE)),
    *(pytest.param(Names((f"{name}'",), name, "p"), id=f"label-{i}") for i, name in enumerate(ALONE)),
]
ATTRIBUTES = {  # those that the schemas of a real Kibana 8.12 allow; it refuses others
    "index-pattern": {"title", "name", "timeFieldName", "fields", "sourceFilters", "fieldAttrs", "fieldFormatMap"}
    | {"runtimeFieldMap", "allowNoIndex"},
    "search": {"title", "description", "columns", "sort", "grid", "hideChart", "isTextBasedQuery", "timeRestore"}
    | {"kibanaSavedObjectMeta", "rowHeight"},
    "lens": {"title", "description", "visualizationType", "state"},
    "visualization": {"title", "description", "version", "uiStateJSON", "visState", "kibanaSavedObjectMeta"},
    "dashboard": {"title", "description", "version", "timeRestore", "timeFrom", "timeTo", "refreshInterval"}
    | {"optionsJSON", "panelsJSON", "kibanaSavedObjectMeta", "controlGroupInput"},
}


TITLES = ("Train set", "Test set", "Largest errors", "Invalid records")


def fields_of(names: Names, view: str) -> set[str]:
    """The fields of the index template whose documents a data view shows, by its id."""

    def flat(properties: dict[str, Any], before: str = "") -> Iterator[str]:
        for name, field in properties.items():
            if "properties" in field:
                yield from flat(field["properties"], f"{before}{name}.")
            else:
                yield before + name

    return {*flat(templates(names)[view]["template"]["mappings"]["properties"]), "___records___"}


def lens(names: Names) -> list[dict[str, Any]]:
    return [saved for saved in saved_objects(names) if saved["type"] == "lens"]


def layer_of(panel: dict[str, Any]) -> dict[str, Any]:
    (layer,) = panel["attributes"]["state"]["datasourceStates"]["formBased"]["layers"].values()
    return dict(layer)


def test_committed_file_is_todays() -> None:
    assert COMMITTED.read_text(encoding="utf-8") == ndjson(Names()), "stale: run `make generate`"


@pytest.mark.parametrize("names", NAMES)
def test_templates_are_the_streaming_regressions(names: Names) -> None:
    assert templates(names) == schema.templates(names.prefix, Fields(names.features, names.label))


@pytest.mark.parametrize("names", NAMES)
def test_every_reference_resolves_and_ids_are_unique(names: Names) -> None:
    objects = [json.loads(line) for line in ndjson(names).splitlines()]
    known = [(saved["type"], saved["id"]) for saved in objects]
    assert len({*known}) == len(known)
    assert all(one_id.startswith(f"{names.prefix}-") for _, one_id in known)
    for saved in objects:
        assert [ref for ref in saved["references"] if (ref["type"], ref["id"]) not in known] == []


@pytest.mark.parametrize("names", NAMES)
def test_attributes_and_versions_are_those_that_kibana_8_12_knows(names: Names) -> None:
    for saved in saved_objects(names):
        assert saved["attributes"].keys() == ATTRIBUTES[saved["type"]], saved["id"]
        assert (saved["coreMigrationVersion"], saved["typeMigrationVersion"]) == (
            CORE_VERSION,
            TYPE_VERSIONS[saved["type"]],
        )


@pytest.mark.parametrize("names", NAMES)
def test_inner_json_parses_and_names_its_references(names: Names) -> None:
    for saved in saved_objects(names):
        attributes, named = saved["attributes"], {ref["name"] for ref in saved["references"]}
        if meta := attributes.get("kibanaSavedObjectMeta"):
            source = json.loads(meta["searchSourceJSON"])
            assert source.get("indexRefName") in {None, *named}
        for name, text in attributes.items():
            if name.endswith(("JSON", "Map", "State")) or name in {"fields", "sourceFilters", "fieldAttrs"}:
                json.loads(text)
        if saved["type"] == "dashboard":
            panels = json.loads(attributes["panelsJSON"])
            of_panels = {f"{panel['panelIndex']}:{panel['panelRefName']}" for panel in panels}
            controls = json.loads(attributes["controlGroupInput"]["panelsJSON"])
            kinds = {"optionsListControl": "optionsListDataView", "rangeSliderControl": "rangeSliderDataView"}
            of_controls = {f"controlGroup_{name}:{kinds[control['type']]}" for name, control in controls.items()}
            assert of_panels | of_controls == named


def test_dashboard_restores_a_time_that_shows_the_run_and_refreshes_every_5_seconds() -> None:
    attributes = saved_objects(Names())[-1]["attributes"]
    assert (attributes["timeRestore"], attributes["timeFrom"], attributes["timeTo"]) == (True, "now-7d", "now")
    assert attributes["refreshInterval"] == {"pause": False, "value": 5000}
    assert RANGE[1] in attributes["description"]


@pytest.mark.parametrize("names", NAMES[:4])
def test_controls_are_of_fields_that_kibana_8_12_offers_them_for(names: Names) -> None:
    """A list of options is for texts, a slider for numbers. Both filter the fields of these names in all data views."""
    controls = json.loads(saved_objects(names)[-1]["attributes"]["controlGroupInput"]["panelsJSON"])
    properties = templates(names)[f"{names.prefix}-metrics"]["template"]["mappings"]["properties"]
    kinds = {"keyword": "optionsListControl", "integer": "rangeSliderControl"}
    for name, control in controls.items():
        assert control["explicitInput"]["id"] == name
        field = control["explicitInput"]["fieldName"]
        assert control["type"] == kinds[properties[field]["type"]]
        for kind in ("points", "invalid"):
            assert field in fields_of(names, f"{names.prefix}-{kind}")


def test_panels_without_topic_ignore_a_filter_for_a_topic() -> None:
    """The models' documents have no topic, so `topic:test` in the query bar would empty their panels."""
    names = Names()
    for saved in lens(names):
        of_models = saved["references"][0]["id"] == "spark-models"
        assert layer_of(saved).get("ignoreGlobalFilters", False) is of_models, saved["id"]
    for saved in saved_objects(names):
        for url in searches(vega_spec(saved)):
            filtered = "%dashboard_context" in json.dumps(url["body"])
            assert filtered is ("topic" in fields_of(names, url["index"][:-2]) and "lost" not in json.dumps(url))


def test_two_prefixes_and_two_spaces_share_no_title_and_no_id() -> None:
    """Also where one prefix, or one space and prefix, begins another."""
    prefixes, spaces = (
        ("spark", "spark-train", "spark-x", "train", "team.spark"),
        (None, "team", "spark", "spark-train"),
    )
    found = [
        (saved["type"], saved["id"])
        for prefix in prefixes
        for space in spaces
        for saved in saved_objects(Names(prefix=prefix), space)
    ]
    assert len(found) == len({*found})
    titles = [saved["attributes"]["title"] for prefix in prefixes for saved in saved_objects(Names(prefix=prefix))]
    assert len(titles) == len({*titles})
    assert saved_objects(Names(), "default") == saved_objects(Names())
    assert dashboard_id(Names()) == "spark-streaming-ml"
    assert dashboard_id(Names(), "team") == "team~spark-streaming-ml"


def test_links_of_the_note_lead_to_saved_searches_of_the_same_space() -> None:
    for space in (None, "team"):
        objects = saved_objects(Names(), space)
        (note,) = [saved for saved in objects if saved["id"].endswith("overview-note")]
        targets = re.findall(r"\]\(discover#/view/([^?]+)\?_g=\(time:\(from:now-7d,to:now\)\)\)", str(note))
        assert targets == [saved["id"] for saved in objects if saved["type"] == "search"]


def test_a_click_on_an_error_or_an_invalid_record_leads_to_discover() -> None:
    panels = json.loads(saved_objects(Names())[-1]["attributes"]["panelsJSON"])
    leading = {
        panel["panelIndex"]: panel["embeddableConfig"]["enhancements"]["dynamicActions"]["events"]
        for panel in panels
        if panel["embeddableConfig"]["enhancements"]
    }
    assert leading.keys() == {"train-mse-over-offset", "test-mse-over-offset", "model-invalid-reasons"}
    assert {event["action"]["factoryId"] for (event,) in leading.values()} == {"OPEN_IN_DISCOVER_DRILLDOWN"}
    assert len({event["eventId"] for (event,) in leading.values()}) == 3


def test_zero_is_a_number_and_not_an_absence() -> None:
    """Kibana's `emptyAsNull` shows a sum of 0 as N/A."""
    for saved in lens(Names()):
        for column in layer_of(saved)["columns"].values():
            assert column["params"].get("emptyAsNull", False) is False


def luminance(colour: str) -> float:
    """The relative luminance of WCAG 2.1."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_colours_can_be_seen_on_white_and_on_dark_and_have_one_meaning() -> None:
    own = [palette.TRAIN, palette.TEST, palette.OBSERVED, palette.PREDICTED]
    every = [*own, palette.REFERENCE, palette.DRIFT, palette.LOST, *palette.SERIES]
    assert len({*every}) == len(every)
    for colour in every:
        for background in ("#ffffff", "#1d1e24", "#1a202b"):
            one, other = sorted([luminance(colour), luminance(background)])
            assert (other + 0.05) / (one + 0.05) >= 3, (colour, background)
    for section in sections(Names()):
        for panel in section.panels:
            if isinstance(panel, Line):
                for measure in panel.measures:
                    topic = measure.topic or panel.topic
                    wanted = {"train": palette.TRAIN, "test": palette.TEST}.get(topic or "")
                    assert measure.colour == wanted or (wanted is None and measure.colour not in own)


def test_lens_lines_have_the_colours_and_the_scale_of_the_definition() -> None:
    defined = {panel.id: panel for section in sections(Names()) for panel in section.panels if isinstance(panel, Line)}
    for saved in lens(Names()):
        if saved["attributes"]["visualizationType"] != "lnsXY":
            continue
        panel, visualization = (
            defined[saved["id"].removeprefix("spark-")],
            saved["attributes"]["state"]["visualization"],
        )
        colours = {part["forAccessor"]: part["color"] for part in visualization["layers"][0]["yConfig"]}
        assert [*colours.values()] == [measure.colour for measure in panel.measures]
        assert [*colours] == visualization["layers"][0]["accessors"]
        assert visualization.get("yLeftScale", "linear") == panel.scale


def test_no_two_panels_overlap_and_none_leaves_the_grid() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(saved_objects(Names())[-1]["attributes"]["panelsJSON"]):
        grid = panel["gridData"]
        cells = {(grid["x"] + x, grid["y"] + y) for x in range(grid["w"]) for y in range(grid["h"])}
        assert not cells & taken, panel["panelIndex"]
        assert max(x for x, _ in cells) < 48
        taken |= cells


@pytest.mark.parametrize("names", NAMES)
def test_lens_columns_exist_in_the_templates_and_refer_to_each_other(names: Names) -> None:
    for panel in lens(names):
        layer, (view,) = layer_of(panel), panel["references"]
        columns = layer["columns"]
        assert set(layer["columnOrder"]) == columns.keys()
        for column in columns.values():
            if "sourceField" in column:
                assert column["sourceField"] in fields_of(names, view["id"])
            assert set(column.get("references", [])) <= columns.keys()
        visualization = panel["attributes"]["state"]["visualization"]
        kind = panel["attributes"]["visualizationType"]
        if kind == "lnsMetric":
            shown = {visualization["metricAccessor"]}
        elif kind == "lnsXY":
            shown = {visualization["layers"][0]["xAccessor"], *visualization["layers"][0]["accessors"]}
        else:
            shown = {column["columnId"] for column in visualization["columns"]}
        assert shown <= columns.keys()
        assert shown == {name for name in columns if "X" not in name}  # columns with an X are parts of a formula


@pytest.mark.parametrize("names", NAMES)
def test_saved_searches_show_fields_that_exist_in_rows_of_one_line(names: Names) -> None:
    searches = [saved for saved in saved_objects(names) if saved["type"] == "search"]
    titles = [search["attributes"]["title"] for search in searches]
    assert titles == [f"{title} ({names.prefix})" for title in TITLES]
    for search in searches:
        attributes = search["attributes"]
        known = fields_of(names, search["references"][0]["id"]) | {"@timestamp"}
        assert {*attributes["columns"], *(column for column, _ in attributes["sort"])} <= known
        assert len({*attributes["columns"]}) == len(attributes["columns"])
        assert attributes["grid"]["columns"].keys() == {"@timestamp", *attributes["columns"]}
        assert attributes["rowHeight"] == 1
    queries = [
        json.loads(search["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"])["query"] for search in searches
    ]
    if names.train == "train":
        assert [query["query"] for query in queries] == ["topic:train", "topic:test", "", ""]


def test_squared_error_is_there_once_with_a_name_for_people() -> None:
    (view,) = [saved for saved in saved_objects(Names()) if saved["id"] == "spark-points"]
    assert json.loads(view["attributes"]["runtimeFieldMap"]) == {}
    assert json.loads(view["attributes"]["fieldAttrs"])["squared_error"] == {"customLabel": "Squared error"}


def test_formula_becomes_the_columns_that_lens_makes_of_it() -> None:
    (r2,) = [panel for panel in lens(Names()) if panel["id"] == "spark-train-r2"]
    columns = layer_of(r2)["columns"]
    assert list(columns) == ["value", *(f"valueX{i}" for i in range(6))]
    assert columns["value"]["references"] == ["valueX5"]
    parts = [columns[f"valueX{i}"]["sourceField"] for i in range(5)]
    assert parts == ["sum_squared_error", "sum_y_squared", "sum_y", "sum_y", "labelled"]
    assert written(columns) == (
        "subtract(1, divide(valueX0, subtract(valueX1, divide(multiply(valueX2, valueX3), valueX4))))"
    )


def written(columns: dict[str, Any]) -> str:
    """The arithmetic of a formula's columns as text, after a check of the places that it names in the formula."""
    (arithmetic,) = columns["value"]["references"]
    formula = columns["value"]["params"]["formula"]

    def text(node: Any) -> str:
        if not isinstance(node, dict):
            return str(node)
        assert formula[node["location"]["min"] : node["location"]["max"]] == node["text"]
        return f"{node['name']}({', '.join(map(text, node['args']))})"

    return text(columns[arithmetic]["params"]["tinymathAst"])


def test_every_formula_of_lens_computes_what_the_page_computes() -> None:
    """The tree of each formula's columns, evaluated, equals the page's value for the same results of aggregations."""
    functions: dict[str, Any] = {
        "add": lambda a, b: a + b,
        "subtract": lambda a, b: a - b,
        "multiply": lambda a, b: a * b,
        "divide": lambda a, b: a / b,
        "sqrt": lambda a: a**0.5,
    }
    defined = {
        panel.id: panel for section in sections(Names()) for panel in section.panels if isinstance(panel, Metric)
    }
    checked = 0
    for saved in lens(Names()):
        columns = layer_of(saved)["columns"]
        if columns.get("value", {}).get("operationType") != "formula":
            continue
        expression = formula.parse(defined[saved["id"].removeprefix("spark-")].measure.formula)
        assert columns["value"]["params"]["formula"] == defined[saved["id"].removeprefix("spark-")].measure.formula
        fields = {column["sourceField"] for column in columns.values() if "sourceField" in column}
        results = {name: 100.0 + 7.0 * i**2 for i, name in enumerate(sorted(fields, reverse=True))}

        def value(node: Any, columns: Any = columns, results: Any = results) -> float:
            if isinstance(node, dict):
                return float(functions[node["name"]](*map(value, node["args"])))
            return float(results[columns[node]["sourceField"]] if isinstance(node, str) else node)

        (arithmetic,) = columns["value"]["references"]
        names = formula.aggregations([expression])
        found = {name: {"value": results[next(iter(part.values()))["field"]]} for name, part in names.items()}
        (wanted,) = formula.values([expression], found)
        assert wanted is not None
        assert value(columns[arithmetic]["params"]["tinymathAst"]) == pytest.approx(wanted)
        assert written(columns)
        checked += 1
    assert checked == 10


def compiled(spec: dict[str, Any], version: str) -> dict[str, Any]:
    return dict(vl_convert.vegalite_to_vega(spec, vl_version=version))


def points(names: Names) -> dict[str, Any]:
    """A response with points: some without a label, some with a standard error, one of a run with other features."""
    rows = [
        {
            "_id": f"train-0-{i}",
            "_source": {"pred": i, **({"y": i * 1.5} if i % 3 else {}), **({"standard_error": 0.5} if i % 2 else {})},
            "fields": {
                f"x.{field}": [categories[i % 2] if categories else i] for field, categories in names.categories.items()
            },
        }
        for i in range(10)
    ]
    return {"hits": {"hits": [*rows, {"_id": "train-0-99", "_source": {"pred": 1, "y": 2}}]}}


def document(time: str, **fields: Any) -> dict[str, Any]:
    return {"_source": {"@timestamp": time, "topic": "train", "partition": 0, "batch": 7, **fields}}


def response(names: Names, pattern: str, body: dict[str, Any]) -> dict[str, Any]:
    """A response to a search of a Vega panel."""
    if pattern == names.pattern("points"):
        return points(names)
    if "aggs" in body:
        aggs = body["aggs"]["x"]["aggs"]
        sums = {name: {"value": 8.0} for name in ("a0", "a1", "a2", "a3")}
        bucket: dict[str, Any] = {name: sums if "aggs" in part else {"value": 8.0} for name, part in aggs.items()}
        buckets = [{"key": 10**12 + 5000 * i, "doc_count": i % 3, **bucket} for i in range(6)]
        for row in buckets:
            if "began" in row:
                row["began"] = {"value": row["key"]}
        return {"aggregations": {"x": {"buckets": buckets}}}
    found = document("2001-09-09T01:46:50Z", learner="rls", lag=1234, rows_seen=10**6, run="r1")
    asked = json.dumps(body.get("query"))
    if "lost" in asked:
        found = document("2001-09-09T01:46:50Z", lost=1234)
    elif "drift" in asked:
        found = document("2001-09-09T01:46:50Z", drift={"train": True})
    return {"hits": {"hits": [found]}}


def nothing(_: str, body: dict[str, Any]) -> dict[str, Any]:
    """The response to a search of empty indices."""
    return {"hits": {"hits": []}, **({"aggregations": {"x": {"buckets": []}}} if "aggs" in body else {})}


@pytest.mark.parametrize("version", slow_except(["5.8"], ["5.8", "5.20", "6.4"]))
@pytest.mark.parametrize("names", NAMES)
def test_kibanas_vega_panels_compile_draw_and_ask_for_fields_that_exist(names: Names, version: str) -> None:
    for saved in saved_objects(names):
        if (spec := vega_spec(saved)) is None:
            continue
        for url in searches(spec):
            body, fields = url["body"], fields_of(names, url["index"][:-2])
            assert body["size"] <= 2000
            asked = body.get("fields", [])
            assert asked == ["x.*"] or {*asked} <= fields
            for part in re.findall(r'"(?:field|term|exists)": \{?"([^"]+)"', json.dumps(body)):
                assert part in fields | {"field"} or part.startswith("%"), (part, saved["id"])
        fields = fields_of(names, f"{names.prefix}-points")
        offered = [choice for choice in spec.get("params", []) if choice["name"] == "feature"]
        assert all({f"x.{name}" for name in choice["bind"]["options"]} <= fields for choice in offered)
        drawn = answered(spec, lambda pattern, body: response(names, pattern, body))
        assert compiled(drawn, version)["marks"]
        svg = vl_convert.vegalite_to_svg(drawn, vl_version=version)
        assert ("<path" in svg or "1,234" in svg) and "no data" not in svg
        if len(named_searches(spec)) == 4:
            for event in ("drift in train", "1,234 records lost in train-0", "restart before micro-batch 7"):
                assert event in svg


@pytest.mark.parametrize("names", NAMES[:5])
def test_a_vega_panel_without_documents_says_so(names: Names) -> None:
    for saved in saved_objects(names):
        if spec := vega_spec(saved):
            assert "no data" in vl_convert.vegalite_to_svg(answered(spec, nothing), vl_version="5.8"), saved["id"]


def test_each_search_of_a_vega_panel_has_a_name_of_its_own() -> None:
    """Kibana 8.12 finds the data that a response is for by their name, and mixes up data without one."""
    found = [named_searches(spec) for saved in saved_objects(Names()) if (spec := vega_spec(saved))]
    assert max(map(len, found)) == 4
    for panel in found:
        assert None not in panel
        assert len({*panel}) == len(panel)


def test_a_rate_that_is_not_known_yet_is_no_data() -> None:
    def first(pattern: str, body: dict[str, Any]) -> dict[str, Any]:
        found = response(names, pattern, body)
        for result in found.get("aggregations", {}).values():
            result["buckets"] = result["buckets"][1:2]
        return found

    names = Names()
    rates = [saved for saved in saved_objects(names) if saved["id"].endswith("rows-per-second")]
    assert len(rates) == 2
    for saved in rates:
        assert "no data" in vl_convert.vegalite_to_svg(answered(vega_spec(saved), first), vl_version="5.8")


def test_vega_panels_name_the_feature_the_place_and_rounded_numbers() -> None:
    names = Names(("a", "b"), "y")
    (saved,) = [saved for saved in saved_objects(names) if saved["id"] == "spark-train-points"]
    found = {
        "hits": {
            "hits": [
                {"_id": f"train-3-{i}", "_source": {"pred": i / 7, "y": i / 3}, "fields": {"x.a": [i / 9], "x.b": [i]}}
                for i in range(9)
            ]
        }
    }
    spec = answered(vega_spec(saved), lambda *_: found)
    for feature in names.fields:
        (choice,) = spec["params"]
        choice["value"] = feature
        svg = vl_convert.vegalite_to_svg(spec, vl_version="5.8")
        assert f">{feature}</text>" in svg
        assert ">feature</text>" not in svg
        assert "topic-partition-offset: train-3-8" in svg


def test_an_outlier_is_counted_and_leaves_room_for_the_others() -> None:
    (saved,) = [saved for saved in saved_objects(Names(("a",), "y")) if saved["id"] == "spark-train-points"]

    def drawn(*more: tuple[float, float]) -> str:
        pairs = [(float(i % 37), float(i % 41)) for i in range(500)] + [*more]
        hits = [
            {"_id": f"train-0-{i}", "_source": {"pred": y, "y": y}, "fields": {"x.a": [x]}}
            for i, (x, y) in enumerate(pairs)
        ]
        spec = answered(vega_spec(saved), lambda *_: {"hits": {"hits": hits}})
        return str(vl_convert.vegalite_to_svg({**spec, "width": 400, "height": 300}, vl_version="5.8"))

    assert "outside" not in drawn()
    one, two = drawn((1e6, 5.0)), drawn((1e6, 5.0), (3.0, -1e9))
    assert "1 point lies outside" in one
    assert "2 points lie outside" in two
    ticks = [float(text) for text in re.findall(r">([0-9.,]+)</text>", two.replace(",", ""))]
    assert max(ticks) <= 60


@pytest.mark.parametrize("names", NAMES)
def test_the_pages_drawings_compile_in_the_version_that_is_served(names: Names) -> None:
    for panel in (panel for section in sections(names) for panel in section.panels):
        if isinstance(panel, Line):
            spec = charts.line(panel)
            assert len(spec["layer"]) == 1 + len(panel.events)
        elif isinstance(panel, Sample):
            spec = charts.sample(panel, names, names.fields[-1])
        else:
            continue
        assert compiled({"data": {"values": []}, **spec}, vl_convert.get_vegalite_versions()[-1])["marks"]


def test_with_many_features_no_panel_grows_without_bound() -> None:
    """Each point of a sample is loaded with all features that Kibana's drop-down offers, up to 2,000 points."""
    many = Names(tuple(f"sensor {i}" for i in range(1500)))
    text = ndjson(many)
    assert len(text) < 3 * len(ndjson(Names(tuple(f"sensor {i}" for i in range(SHOWN)))))
    assert "The chart shows the first 50 of 1,500 weights." in text
    assert "sensor 9 and 1,490 more" in text
    searched = [saved for saved in saved_objects(many) if saved["type"] == "search"]
    assert [len(saved["attributes"]["columns"]) for saved in searched] == [SHOWN + 5, SHOWN + 5, SHOWN + 6, 7]


def test_a_chart_over_categories_has_an_axis_of_categories() -> None:
    names = Names(("delay", "carrier[UA|AA]"), "y")
    (panel, *_) = (
        panel for section in sections(names) for panel in section.panels if getattr(panel, "drawing", "") == "feature"
    )
    assert isinstance(panel, Sample)
    for feature, kind in (("carrier", "nominal"), ("delay", "quantitative")):
        layers = charts.sample(panel, names, feature)["layer"][:2]
        assert [layer["encoding"]["x"]["type"] for layer in layers] == [kind, kind]
