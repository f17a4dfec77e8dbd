"""The NDJSON: properties that Kibana does not check, and that the committed file is up to date."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import vl_convert

from dashboards import charts
from dashboards.panels import SHOWN, Line, Names, Sample, sections
from dashboards.saved_objects import CORE_VERSION, TYPE_VERSIONS, ndjson, saved_objects
from dashboards.templates import templates
from streaming_regression import schema
from streaming_regression.records import Fields
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
ATTRIBUTES = {  # those of a file that a real Kibana 8.12 imported and showed
    "index-pattern": {"title", "name", "timeFieldName", "fields", "sourceFilters", "fieldAttrs", "fieldFormatMap"}
    | {"runtimeFieldMap", "allowNoIndex"},
    "search": {"title", "description", "columns", "sort", "grid", "hideChart", "isTextBasedQuery", "timeRestore"}
    | {"kibanaSavedObjectMeta"},
    "lens": {"title", "description", "visualizationType", "state"},
    "visualization": {"title", "description", "version", "uiStateJSON", "visState", "kibanaSavedObjectMeta"},
    "dashboard": {"title", "description", "version", "timeRestore", "timeFrom", "timeTo", "refreshInterval"}
    | {"optionsJSON", "panelsJSON", "kibanaSavedObjectMeta"},
}


def fields_of(names: Names, view: str) -> set[str]:
    """The fields of the index template whose documents a data view shows, by its id."""

    def flat(properties: dict[str, Any], before: str = "") -> Iterator[str]:
        for name, field in properties.items():
            if "properties" in field:
                yield from flat(field["properties"], f"{before}{name}.")
            else:
                yield before + name

    fields = {*flat(templates(names)[view]["template"]["mappings"]["properties"]), "___records___"}
    return fields | ({"Squared error"} if view.endswith("-points") else set())


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
            assert {f"{panel['panelIndex']}:{panel['panelRefName']}" for panel in panels} == named


def test_dashboard_restores_time_and_refreshes_every_5_seconds() -> None:
    attributes = saved_objects(Names())[-1]["attributes"]
    assert (attributes["timeRestore"], attributes["timeFrom"], attributes["timeTo"]) == (True, "now-15m", "now")
    assert attributes["refreshInterval"] == {"pause": False, "value": 5000}


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
def test_saved_searches_are_of_one_set_and_show_fields_that_exist(names: Names) -> None:
    searches = [saved for saved in saved_objects(names) if saved["type"] == "search"]
    assert [search["attributes"]["title"] for search in searches] == ["Train set", "Test set"]
    for search in searches:
        assert set(search["attributes"]["columns"]) <= fields_of(names, search["references"][0]["id"])
    queries = [
        json.loads(search["attributes"]["kibanaSavedObjectMeta"]["searchSourceJSON"])["query"] for search in searches
    ]
    if names.train == "train":
        assert [query["query"] for query in queries] == ["topic:train", "topic:test"]


def test_formula_becomes_the_columns_that_lens_makes_of_it() -> None:
    (r2,) = [panel for panel in lens(Names()) if panel["id"] == "spark-train-r2"]
    columns = layer_of(r2)["columns"]
    assert list(columns) == ["value", *(f"valueX{i}" for i in range(6))]
    assert columns["value"]["references"] == ["valueX5"]
    parts = [columns[f"valueX{i}"]["sourceField"] for i in range(5)]
    assert parts == ["sum_squared_error", "sum_y_squared", "sum_y", "sum_y", "labelled"]
    tree, formula = columns["valueX5"]["params"]["tinymathAst"], columns["value"]["params"]["formula"]

    def written(node: Any) -> str:
        if not isinstance(node, dict):
            return str(node)
        assert formula[node["location"]["min"] : node["location"]["max"]] == node["text"]
        return f"{node['name']}({', '.join(map(written, node['args']))})"

    assert written(tree) == (
        "subtract(1, divide(valueX0, subtract(valueX1, divide(multiply(valueX2, valueX3), valueX4))))"
    )


def compiled(spec: dict[str, Any], version: str) -> dict[str, Any]:
    return dict(vl_convert.vegalite_to_vega(spec, vl_version=version))


@pytest.mark.parametrize("version", ["5.8", "5.20", "6.4"])
@pytest.mark.parametrize("names", NAMES)
def test_kibanas_vega_panels_compile_draw_and_ask_for_fields_that_exist(names: Names, version: str) -> None:
    rows = [
        {
            "_source": {"pred": i, **({"y": i * 1.5} if i % 3 else {})},
            "fields": {
                f"x.{field}": [categories[i % 2] if categories else i] for field, categories in names.categories.items()
            },
        }
        for i in range(10)
    ] + [{"_source": {"pred": 1, "y": 2}}]  # from a run with other features
    for saved in saved_objects(names):
        if saved["type"] != "visualization":
            continue
        spec = json.loads(json.loads(saved["attributes"]["visState"])["params"]["spec"])
        url = spec["data"]["url"]
        assert url["index"] == names.pattern("points")
        assert url["body"]["size"] <= 2000
        fields = fields_of(names, f"{names.prefix}-points")
        asked = url["body"].get("fields", [])
        assert asked == ["x.*"] or {*asked} <= fields
        offered = [choice for choice in spec.get("params", []) if choice["name"] == "feature"]
        assert all({f"x.{name}" for name in choice["bind"]["options"]} <= fields for choice in offered)
        spec["data"] = {"values": rows}
        assert compiled(spec, version)["marks"]
        assert "<path" in vl_convert.vegalite_to_svg(spec, vl_version=version)


@pytest.mark.parametrize("names", NAMES)
def test_the_pages_drawings_compile_in_the_version_that_is_served(names: Names) -> None:
    for panel in (panel for section in sections(names) for panel in section.panels):
        if isinstance(panel, Line):
            spec = charts.line(panel)
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
    assert [len(saved["attributes"]["columns"]) for saved in searched] == [SHOWN + 5] * 2


def test_a_chart_over_categories_has_an_axis_of_categories() -> None:
    names = Names(("delay", "carrier[UA|AA]"), "y")
    (panel, *_) = (
        panel for section in sections(names) for panel in section.panels if getattr(panel, "drawing", "") == "feature"
    )
    assert isinstance(panel, Sample)
    assert charts.sample(panel, names, "carrier")["encoding"]["x"]["type"] == "nominal"
    assert charts.sample(panel, names, "delay")["encoding"]["x"]["type"] == "quantitative"
