"""Any bytes become a point or a reason, never an exception; a valid record keeps its numbers."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming_regression.learners import LIMIT
from streaming_regression.records import Fields, decode
from tests.sample_records import AS_THEY_COME, BAD, BAD_AS_THEY_COME, GOOD, GOOD_AS_THEY_COME
from tests.strategies import json_values, numbers

FIELDS = Fields(("a", "b"), "y")
NESTED = Fields(("a.b", "c.0.d"), r"e\.f.g")
WITH_CATEGORIES = (Fields(("a", "b[p|7|true]"), "y"), Fields(("c.0.d[p|q]", "a.b[7|1000|x y]"), r"e\.f.g"))
PATHS = {"a": ["a"], "b": ["b"], "y": ["y"], "a.b": ["a", "b"], "c.0.d": ["c", "0", "d"], r"e\.f.g": ["e.f", "g"]}
ABSENT = object()
DECIMALS = ("1.5", " 2 ", "1e3", "-.5", "+5.", "\t7\r\n", "1e-400", "007")
OTHERS = (
    "1e400",
    "1e71",
    "",
    " ",
    ".",
    "e5",
    "1,5",
    "1.234,5",
    "NaN",
    "inf",
    "-Infinity",
    "0x10",
    "1_0",
    "\u0661",
    "\uff11",
)
strings = st.sampled_from([*DECIMALS, *OTHERS, "1\u00a0", "1\x0b", "1 2", "--1", "1e", "1.5 m", "true"])
strings |= st.sampled_from(["p", "q", "7", "x y", "\ud800", "long" * 300])
whole = st.sampled_from([7, 7.0, 1000, -0.0, 2**53 - 1, 2**53, 2**53 + 1, 10**30])
records = st.dictionaries(st.sampled_from(["a", "b", "y", "z"]) | st.text(), json_values | numbers | strings | whole)
values = st.none() | st.binary() | st.text().map(str.encode) | records.map(lambda record: json.dumps(record).encode())


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A valid record with some bytes changed, removed or inserted."""
    flat = b'{"a": 1.5, "b": -2, "y": 4.25e1, "z": "\\u00e9"}'
    value = bytearray(draw(st.sampled_from([flat, b'{"a":{"b":1.5},"c":[{"d":"-2"}],"e.f":{"g":4.25e1}}'])))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(value)))
        value[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(value)


@st.composite
def nested(draw: st.DrawFn) -> bytes:
    """A record for `NESTED` whose values are mostly numbers, and whose parts are sometimes left out or replaced."""
    leaf = st.one_of(numbers, numbers, numbers, strings, strings, whole, st.booleans(), json_values)
    record: dict[str, Any] = {"a": {"b": draw(leaf)}, "c": [{"d": draw(leaf)}], "e.f": {"g": draw(leaf)}}
    for part in draw(st.lists(st.sampled_from(["a", "c", "e.f", "a.b", "c.0.d", r"e\.f.g", "e"]), max_size=2)):
        record[part] = draw(leaf | st.just({"0": {"d": 1}, "f": {"g": 2}}) | st.lists(leaf, max_size=1))
    for part in draw(st.lists(st.sampled_from([*record]), max_size=1)):
        del record[part]
    return json.dumps(record).encode()


def found(record: dict[str, Any], name: str) -> Any:
    """The value for a name, looked up independently of `paths`."""
    if name in record:
        return record[name]
    value: Any = record
    try:
        for key in PATHS[name]:
            value = value[int(key)] if isinstance(value, list) and key.isdigit() else value[key]
    except (LookupError, TypeError):
        return ABSENT
    return value


def number(value: Any, fields: Fields) -> float | None:
    """The number that a value counts as, or None."""
    if type(value) is bool and not fields.booleans_as_numbers:
        return None
    if type(value) is str:
        text = value.strip(" \t\r\n")
        if not fields.numeric_strings or not text.isascii() or text != text.strip() or "_" in text:
            return None
        try:
            value = float(text) if Decimal(text).is_finite() else None
        except InvalidOperation:
            return None
    try:
        return float(value) if isinstance(value, int | float) and abs(float(value)) <= LIMIT else None
    except OverflowError:
        return None


def category(value: Any) -> str | None:
    """The category that a value counts as, or None."""
    if type(value) is str:
        return (
            value if len(value) <= 1024 and not any("\ud800" <= character <= "\udfff" for character in value) else None
        )
    if type(value) is bool:
        return json.dumps(value)
    exact = isinstance(value, int | float) and -(2**53) < value < 2**53 and value % 1 == 0
    return f"{value + 0:.0f}" if exact else None


def columns(value: Any, feature: str, fields: Fields) -> list[float | None]:
    """The numbers of a feature with categories; [None] for a value that makes the record invalid."""
    declared = feature.partition("[")[2].removesuffix("]").split("|")
    text = category(value)
    if text is None or (text not in declared and fields.unknown_category == "invalid"):
        return [None]
    return [float(text == name) for name in declared]


def point(value: bytes | None, fields: Fields, label_needed: bool) -> list[float] | None:
    """The numbers of a valid record, or None: the contract, implemented independently with the standard library."""
    constants: list[str] = []

    def constant(name: str) -> float:
        constants.append(name)
        return math.nan

    try:
        record = json.loads((value or b"").decode(), parse_constant=constant)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or constants:
        return None
    row: list[float | None] = []
    for feature in fields.features:
        name, categories, _ = feature.partition("[")
        given = found(record, name)
        row += columns(given, feature, fields) if categories else [number(given, fields)]
    label = found(record, fields.label)
    row.append(math.nan if not label_needed and label in (ABSENT, None) else number(label, fields))
    return None if None in row else row  # type: ignore[return-value]


@given(
    values=st.lists(values | damaged() | nested()),
    fields=st.sampled_from([FIELDS, NESTED, *WITH_CATEGORIES]),
    label_needed=st.booleans(),
    numeric_strings=st.booleans(),
    booleans=st.booleans(),
    unknown=st.sampled_from(["invalid", "zeros"]),
)
def test_any_bytes_become_a_point_or_a_reason(
    values: list[bytes | None],
    fields: Fields,
    label_needed: bool,
    numeric_strings: bool,
    booleans: bool,
    unknown: str,
) -> None:
    fields = replace(fields, numeric_strings=numeric_strings, booleans_as_numbers=booleans, unknown_category=unknown)
    decoded = decode(values, fields, label_needed=label_needed)
    invalid = [fault.position for fault in decoded.invalid]
    assert sorted(decoded.positions + invalid) == list(range(len(values)))
    assert decoded.positions == sorted(decoded.positions)
    points = [point(value, fields, label_needed) for value in values]
    assert decoded.positions == [i for i, row in enumerate(points) if row]
    width = len(fields.layout.columns)
    assert decoded.x.shape == (len(decoded.positions), width)
    assert decoded.y.shape == (len(decoded.positions),)
    assert np.isfinite(decoded.x).all()
    expected = np.array([row for row in points if row], np.float64).reshape(-1, width + 1)
    np.testing.assert_array_equal(np.column_stack([decoded.x, decoded.y]), expected)
    names = {None, *(feature.partition("[")[0] for feature in fields.features), fields.label}
    assert all(fault.field in names and fault.reason for fault in decoded.invalid)
    if decoded.texts is not None:
        kept = [json.loads(values[position] or b"") for position in decoded.positions]
        given = [[category(found(record, name)) for name in fields.layout.categories] for record in kept]
        assert decoded.texts.tolist() == given


@given(rows=st.lists(st.tuples(numbers | st.integers(-(2**60), 2**60), numbers, numbers)))
def test_decode_inverts_encode(rows: list[tuple[float, float, float]]) -> None:
    values = [json.dumps({"b": b, "y": y, "a": a}).encode() for a, b, y in rows]
    decoded = decode(values, FIELDS, label_needed=True)
    assert not decoded.invalid
    table = np.array(rows, np.float64).reshape(-1, 3)
    np.testing.assert_array_equal(np.column_stack([decoded.x, decoded.y]), table)


def test_a_missing_or_null_label_is_fine_in_test_only() -> None:
    values: list[bytes | None] = [b'{"a":1,"b":2}', b'{"a":1,"b":2,"y":null}', b'{"a":1,"b":2,"y":3,"y":null}']
    decoded = decode(values, FIELDS, label_needed=False)
    assert decoded.positions == [0, 1, 2]
    assert np.isnan(decoded.y).all()
    invalid = decode(values, FIELDS, label_needed=True).invalid
    assert [(fault.field, fault.reason) for fault in invalid] == [("y", "missing"), ("y", "null"), ("y", "null")]


@pytest.mark.parametrize("label", ["NaN", '""', '"2"', '"null"', "false", "[]", "{}", "1e400", "-Infinity"])
def test_a_label_that_is_there_and_no_number_is_invalid_in_both_topics(label: str) -> None:
    for label_needed in (True, False):
        (invalid,) = decode([b'{"a":1,"b":2,"y":%s}' % label.encode()], FIELDS, label_needed=label_needed).invalid
        assert invalid.field == "y"


def test_a_null_feature_is_invalid_in_both_topics() -> None:
    for label_needed in (True, False):
        (invalid,) = decode([b'{"a":1,"b":null,"y":3}'], FIELDS, label_needed=label_needed).invalid
        assert (invalid.field, invalid.reason) == ("b", "null")


def test_each_bad_kind_has_its_field_and_reason_and_each_unusual_one_its_numbers() -> None:
    decoded = decode([value for value, _, _ in BAD], FIELDS, label_needed=False)
    assert [(fault.field, fault.reason) for fault in decoded.invalid] == [(field, reason) for _, field, reason in BAD]
    decoded = decode([value for value, _ in GOOD], FIELDS, label_needed=True)
    assert not decoded.invalid
    np.testing.assert_array_equal(np.column_stack([decoded.x, decoded.y]), [row for _, row in GOOD])


def test_records_as_they_come_have_their_numbers_or_a_reason_that_names_the_path() -> None:
    decoded = decode([value for value, _, _ in BAD_AS_THEY_COME], AS_THEY_COME, label_needed=True)
    assert [(fault.field, fault.reason) for fault in decoded.invalid] == [
        (at, reason) for _, at, reason in BAD_AS_THEY_COME
    ]
    decoded = decode([value for value, _ in GOOD_AS_THEY_COME], AS_THEY_COME, label_needed=True)
    assert not decoded.invalid
    np.testing.assert_array_equal(np.column_stack([decoded.x, decoded.y]), [row for _, row in GOOD_AS_THEY_COME])


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("a", 1),
        ("a.b", 1),  # the key of that name comes before the path
        (r"a\.b", 1),
        ("c.d", 2),
        ("c.e.1", 4),
        ("c.f.0", 5),  # a key of an object, not a position
        (r"c.g\.h", 6),
        (r"c.g\.h.i", None),
        ("c.g.h", None),
        ("c.e.2", None),
        ("c.e.01", None),
        ("c.e.-1", None),
        ("c.e.x", None),
        ("c.e." + "9" * 5_000, None),
        ("c.d.x", None),
        ("d.c", None),
        ("0", None),
    ],
)
def test_a_name_is_a_key_or_else_a_path(name: str, value: float | None) -> None:
    record = {"a": 1, "a.b": 1, "c": {"d": 2, "e": [3, 4], "f": {"0": 5}, "g.h": 6}, "y": 0}
    if name == "a.b":
        record["a"] = {"b": 9}
    fields = Fields((name,), "y")
    for text in (json.dumps(record), json.dumps({**record, "z": 1e300}).replace("1e+300", "1e400")):  # fast, thorough
        decoded = decode([text.encode()], fields, label_needed=True)
        assert decoded.x.ravel().tolist() == ([] if value is None else [value])
        assert [fault.field for fault in decoded.invalid] == ([name] if value is None else [])


def test_a_label_behind_a_path_that_ends_early_is_absent() -> None:
    fields = Fields(("a",), "after.y")
    values: list[bytes | None] = [
        b'{"a":1}',
        b'{"a":1,"after":null}',
        b'{"a":1,"after":{}}',
        b'{"a":1,"after":{"y":null}}',
    ]
    assert np.isnan(decode(values, fields, label_needed=False).y).all()
    assert [fault.reason for fault in decode(values, fields, label_needed=True).invalid] == [
        "missing",
        "missing: after is null",
        "missing: not in after",
        "null",
    ]


def test_strings_and_booleans_are_no_numbers_unless_a_setting_says_so() -> None:
    values: list[bytes | None] = [
        b'{"a":"1.5","b":2,"y":3}',
        b'{"a":1.5,"b":true,"y":3}',
        b'{"a":" 2 ","b":false,"y":"1e3"}',
    ]
    for numeric_strings, booleans, points in ((0, 0, []), (1, 0, [0]), (0, 1, [1]), (1, 1, [0, 1, 2])):
        fields = replace(FIELDS, numeric_strings=bool(numeric_strings), booleans_as_numbers=bool(booleans))
        assert decode(values, fields, label_needed=True).positions == points


def test_a_value_is_the_category_that_is_written_like_it_or_the_record_is_invalid() -> None:
    fields = Fields(("a", "b[UA|7|true|x y]"), "y")
    values = ['"UA"', "7", "7.0", '"7"', "true", '"x y"', '"AA"', "8", "false", '"ua"', '" UA"', '""', "null", "1.5"]
    values += ["[]", "1e400", '"\\ud800"', '"%s"' % ("x" * 1025)]
    lines: list[bytes | None] = [b'{"a":1,"b":%s,"y":2}' % value.encode() for value in values]
    decoded = decode([*lines, b'{"a":1,"y":2}'], fields, label_needed=True)
    assert decoded.positions == [0, 1, 2, 3, 4, 5]
    assert decoded.x.tolist() == [[1, *(float(i == code) for i in range(4))] for code in (0, 1, 1, 1, 2, 3)]
    assert decoded.texts is not None
    assert decoded.texts.ravel().tolist() == ["UA", "7", "7", "7", "true", "x y"]
    unknown = "not one of the declared categories"
    other = ["null", "not a category but a number that is not whole, or not below 2^53", "not a category but an array"]
    other += [other[1], "not a category but a string that is not valid Unicode"]
    assert [(fault.field, fault.reason) for fault in decoded.invalid] == [
        ("b", reason) for reason in [*[unknown] * 6, *other, unknown, "missing"]
    ]

    decoded = decode(lines, replace(fields, unknown_category="zeros"), label_needed=True)
    assert decoded.positions == [*range(12)]
    assert not decoded.x[6:, 1:].any()
    assert decoded.texts is not None
    assert decoded.texts[6:].ravel().tolist() == ["AA", "8", "false", "ua", " UA", ""]
    too_long = "not a category but a string of more than 1,024 characters"
    assert [fault.reason for fault in decoded.invalid] == [*other, too_long]


def test_columns_are_in_the_order_of_the_features_whatever_their_kind() -> None:
    fields = Fields(("o[E|J]", "a", r"p\.q[x\|y|z]", "b"), "y")
    assert fields.layout.columns == ("o=E", "o=J", "a", r"p\.q=x\|y", r"p\.q=z", "b")
    decoded = decode([b'{"o":"J","a":5,"p.q":"x|y","b":6,"y":7}'], fields, label_needed=True)
    assert decoded.x.tolist() == [[0, 1, 5, 1, 0, 6]]
    assert decode([], fields, label_needed=True).x.shape == (0, 6)
    alone = Fields(("o[E|J]",), "y")
    assert decode([b'{"o":"J","y":7}'], alone, label_needed=True).x.tolist() == [[0, 1]]
