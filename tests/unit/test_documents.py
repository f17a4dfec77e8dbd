"""The text of the documents: it parses to the same numbers and names, and is the same each time."""

from __future__ import annotations

import base64
import json
from datetime import date, datetime, timedelta, timezone
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streaming_regression import documents, schema
from streaming_regression.documents import Course, Origin, PartitionMetrics, Points, Records
from streaming_regression.elasticsearch.bulk import requests
from streaming_regression.learners import LIMIT, Model
from streaming_regression.records import Fields, Invalid, decode

TIME = datetime(2026, 3, 1, 0, 30, tzinfo=timezone(timedelta(hours=1)))  # in UTC still the last day of February
ORIGIN = Origin.at(round(TIME.timestamp() * 1_000_000), "run-1", 7, "spark")
numbers = st.floats(min_value=-LIMIT, max_value=LIMIT)
names = st.text(st.characters(exclude_categories=["Cs"]), min_size=1)


def parsed(lines: list[str]) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    pairs = [line.splitlines() if "\n" not in line[:-1] else line[:-1].split("\n") for line in lines]
    return [(json.loads(action)["index"], json.loads(document)) for action, document in pairs]


@given(
    features=st.lists(names, min_size=1, max_size=3, unique=True),
    rows=st.lists(st.tuples(numbers, numbers, numbers, st.none() | numbers, numbers), max_size=5),
)
def test_points_hold_the_numbers_exactly(features: list[str], rows: list[Any]) -> None:
    table = np.array([[np.nan if cell is None else cell for cell in row] for row in rows], np.float64).reshape(-1, 5)
    n = len(rows)
    records = Records("a-b.c", 2, np.arange(100, 100 + 2 * n), np.arange(2 * n), [b""] * (2 * n))
    found = Points(np.arange(0, 2 * n, 2), table[:, : len(features)], table[:, 3], table[:, 4])
    pairs = parsed(documents.points(ORIGIN, Fields(tuple(features), "y"), records, found))
    assert len(pairs) == n
    for number, (action, document) in enumerate(pairs):
        offset = 100 + 2 * number
        y, pred = table[number, 3], table[number, 4]
        assert action == {"_id": f"a-b.c-2-{offset}"}
        labelled = {} if np.isnan(y) else {"y": y, "squared_error": (y - pred) ** 2}
        assert document == {
            "run": "run-1",
            "batch": 7,
            "topic": "a-b.c",
            "partition": 2,
            "offset": offset,
            "@timestamp": f"1970-01-01T00:00:00.{2 * number:03}Z",
            "pred": pred,
            "x": dict(zip(features, table[number], strict=False)),
            **labelled,
        }


def test_a_point_has_a_standard_error_where_it_is_known() -> None:
    records = Records("t", 0, np.arange(4), np.arange(4), [b""] * 4)
    y, errors = np.array([1.0, np.nan, 2.0, np.nan]), np.array([0.5, 0.25, np.nan, np.nan])
    found = Points(np.arange(4), np.ones((4, 1)), y, np.zeros(4), None, errors)
    documents_ = [document for _, document in parsed(documents.points(ORIGIN, Fields(("a",), "y"), records, found))]
    assert [document.get("standard_error", "-") for document in documents_] == [0.5, 0.25, "-", "-"]
    assert [document.get("y", "-") for document in documents_] == [1, "-", 2, "-"]
    assert [document.get("squared_error", "-") for document in documents_] == [1, "-", 4, "-"]
    (kept,) = parsed(documents.points(ORIGIN, Fields(("a",), "y"), records, found.without([0, 2, 3])))
    assert kept[1]["standard_error"] == 0.25


def test_an_invalid_record_keeps_its_value_as_text_or_else_as_base64() -> None:
    times = np.array(["2026-01-01T00:00:00.5", "2026-01-01", "2026-01-02"], "datetime64[ms]").astype(np.int64)
    records = Records("test", 0, np.array([5, 6, 7]), times, [b"\xff", None, b'"\x00"'])
    faults = [Invalid(0, None, "not UTF-8"), Invalid(1, None, "tombstone"), Invalid(2, "a", "missing")]
    found = [document for _, document in parsed(documents.invalid(ORIGIN, records, faults))]
    assert [invalid.get("value_base64") for invalid in found] == ["/w==", None, None]
    assert [invalid.get("value", "-") for invalid in found] == ["-", None, '"\x00"']
    assert [invalid["offset"] for invalid in found] == [5, 6, 7]
    assert found[0]["@timestamp"] == "2026-01-01T00:00:00.500Z"


def test_a_value_with_a_schema_id_is_text_only_if_json_follows() -> None:
    values = [b'\0\0\0\x01\x02{"a":1}', b"\0\0\0\0\x05ab", b"\xff\0\0\0\x05ab", b"\0\0\0\0"]
    records = Records("test", 0, np.arange(4), np.zeros(4, np.int64), [*values])
    faults = [Invalid(position, None, "why") for position in range(4)]
    found = [document for _, document in parsed(documents.invalid(ORIGIN, records, faults))]
    assert [document.get("schema_id") for document in found] == [258, 5, None, None]
    assert [document.get("value") for document in found] == [values[0].decode(), None, None, values[3].decode()]
    kept = [base64.b64decode(document["value_base64"]) for document in found[1:3]]
    assert kept == values[1:3]


def test_a_value_that_is_much_longer_in_json_is_kept_in_base64() -> None:
    """A megabyte of control characters is 6 MB in JSON; several such records are more than Elasticsearch accepts."""
    records = Records("test", 0, np.array([5]), np.array([0]), [b"\0" * 1_000_000])
    ((_, document),) = parsed(documents.invalid(ORIGIN, records, [Invalid(0, None, "not JSON")]))
    assert base64.b64decode(document["value_base64"]) == b"\0" * 1_000_000


def test_a_time_that_cannot_be_right_becomes_the_micro_batchs() -> None:
    """Microseconds and nanoseconds instead of milliseconds, and -1, which means no time."""
    wrong = [1_700_000_000_000_000, 1_700_000_000_000_000_000, -1, -62_135_596_800_001, 253_402_300_800_000]
    times = np.array([*wrong, 0, 253_402_300_799_999])
    records = Records("test", 0, np.arange(7), times, [None] * 7)
    found = [
        document["@timestamp"]
        for _, document in parsed(documents.invalid(ORIGIN, records, [Invalid(i, None, "") for i in range(7)]))
    ]
    assert found == ["2026-02-28T23:30:00.000Z"] * 5 + ["1970-01-01T00:00:00.000Z", "9999-12-31T23:59:59.999Z"]


def test_ids_and_indices_follow_from_the_batch_alone() -> None:
    numbers = PartitionMetrics("train", 1, 10, 19, 10, 9, 1, 4.0, 3.0, 2.0, 1.0)
    ((action, document),) = parsed(documents.metrics(ORIGIN, [numbers]))
    assert action == {"_index": "spark-metrics-2026.02.28", "_id": "7-train-1"}
    assert document["@timestamp"] == "2026-02-28T23:30:00.000Z"
    fields = Fields(("a", "b"), "y")
    model = Model(np.array([0.5, 1.0, 2.0]), 90)
    lines = documents.model(ORIGIN, fields, "rls", model, Course(1.5, None, 0.25, {}, restarted=False))
    ((action, document),) = parsed(lines)
    assert action == {"_index": "spark-models-2026.02.28", "_id": "7"}
    assert (document["intercept"], document["weights"], document["rows_seen"]) == (0.5, {"a": 1.0, "b": 2.0}, 90)
    assert document["points_fraction"] == 0.25
    assert not {"drift", "restarted"} & document.keys()


def test_a_point_holds_the_text_of_a_category_once_and_a_model_a_weight_for_each() -> None:
    fields = Fields(("a", "c d[p|q%]", "b", "e[1|2]"), "y", unknown_category="zeros")
    values: list[bytes | None] = [
        b'{"a":1.5,"b":2,"c d":"q%","e":2,"y":3}',
        b'{"a":2.5,"b":3,"c d":"\\u00e9\\"\\n%s","e":true}',
    ]
    decoded = decode(values, fields, label_needed=False)
    records = Records("test", 0, np.array([5, 6]), np.array([0, 0]), values)
    found = Points(np.array(decoded.positions), decoded.x, decoded.y, np.zeros(2), decoded.texts)
    stored = [document for _, document in parsed(documents.points(ORIGIN, fields, records, found))]
    expected = [{"a": 1.5, "c d": "q%", "b": 2, "e": "2"}, {"a": 2.5, "c d": 'é"\n%s', "b": 3, "e": "true"}]
    assert [document["x"] for document in stored] == expected
    assert [list(document["x"]) for document in stored] == [["a", "c d", "b", "e"]] * 2
    ((_, document),) = parsed(documents.points(ORIGIN, fields, records, found.without([0])))
    assert document["x"] == expected[1]

    model = Model(np.array([0.0, 1, 2, 3, 4, 5, 6]), 90)
    ((_, document),) = parsed(
        documents.model(ORIGIN, fields, "rls", model, Course(1.5, None, 0.25, {}, restarted=False))
    )
    names = ["a", "c d=p", "c d=q%", "b", "e=1", "e=2"]
    assert document["weights"] == dict(zip(names, range(1, 7), strict=True))
    mappings = schema.mappings(fields)
    assert {name: field["type"] for name, field in mappings["points"]["properties"]["x"]["properties"].items()} == {
        "a": "double",
        "c d": "keyword",
        "b": "double",
        "e": "keyword",
    }
    assert [*mappings["models"]["properties"]["weights"]["properties"]] == names


def test_indices_may_have_as_many_fields_as_there_are_features() -> None:
    assert schema.settings(Fields(("a", "b"), "y")) == {}
    many = Fields(tuple(f"f{number}" for number in range(1500)), "y")
    limit = schema.settings(many)["mapping"]["total_fields"]["limit"]
    for template in schema.templates("spark", many).values():
        assert template["template"]["settings"]["mapping"]["total_fields"]["limit"] == limit
        properties = template["template"]["mappings"]["properties"]
        assert len(properties) + sum(len(field.get("properties", {})) for field in properties.values()) <= limit


def test_indices_are_stored_as_the_settings_say() -> None:
    fields = Fields(("a",), "y")
    for template in schema.templates("spark", fields).values():
        assert template["template"]["settings"] == {"number_of_shards": 1, "auto_expand_replicas": "0-1"}
    storage = schema.Storage(shards=3, replicas=2, refresh_interval_s=2.5)
    for template in schema.templates("spark", fields, storage).values():
        found = template["template"]["settings"]
        assert found == {"number_of_shards": 3, "number_of_replicas": 2, "refresh_interval": "2500ms"}


def test_every_field_of_a_document_is_in_its_mapping() -> None:
    """The mappings are strict: Elasticsearch refuses a document with a field that is not in its mapping."""
    fields = Fields(("a.b", "c"), "y")
    records = Records("train", 0, np.array([1]), np.array([0]), [b"\xff"])
    found = Points(np.array([0]), np.ones((1, 2)), np.ones(1), np.ones(1), None, np.ones(1))
    numbers = PartitionMetrics("train", 0, 1, 1, 1, 1, 0, 0.0, 0.0, 1.0, 1.0)
    drift = {"train": True, "test": False}
    invalid = documents.invalid(ORIGIN, records, [Invalid(0, None, "x")])
    invalid += documents.invalid(
        ORIGIN, Records("t", 0, records.offsets, records.times, [b"x"]), [Invalid(0, "c", "x")]
    )
    framed = Records("t", 0, records.offsets, records.times, [b"\0\0\0\0\x01x"])
    invalid += documents.invalid(ORIGIN, framed, [Invalid(0, None, "x")])
    invalid += documents.gaps(ORIGIN, [documents.Gap("t", 0, 5, 9)])
    lines = {
        "points": documents.points(ORIGIN, fields, records, found),
        "metrics": documents.metrics(ORIGIN, [numbers]),
        "models": documents.model(ORIGIN, fields, "rls", Model(np.ones(3)), Course(1.0, 1, 1.0, drift, restarted=True)),
        "invalid": invalid,
    }
    for kind, template in schema.templates("spark", fields).items():
        mapping = template["template"]["mappings"]
        used = {name for _, document in parsed(lines[kind.removeprefix("spark-")]) for name in document}
        assert mapping["dynamic"] == "strict"
        assert used == set(mapping["properties"])


def test_no_request_is_much_larger_than_its_limit_and_all_documents_go_out_in_order() -> None:
    lines = ["x" * size for size in (1, 2000, 5, 995, 6, 1)]
    assert list(requests(lines, range(6), 1000)) == [[0], [1], [2, 3], [4, 5]]
    assert list(requests(lines, [1, 4], 1000)) == [[1], [4]]
    assert list(requests([], [], 1000)) == []


def test_only_the_prefix_s_own_dated_indices_count_as_its() -> None:
    assert schema.index_date("spark-points-2026.02.28", "spark") == date(2026, 2, 28)
    for name in (
        "spark-points-x-points-2026.02.28",
        "sparks-points-2026.02.28",
        "spark-points-2026.02",
        "spark-x-2026.02.28",
    ):
        assert schema.index_date(name, "spark") is None
    assert schema.index_date("spark-points-2026.13.45", "spark") is None
    assert schema.index_date("a.b-models-2026.02.28", "a.b") == date(2026, 2, 28)
