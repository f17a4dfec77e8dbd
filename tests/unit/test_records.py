"""Any bytes become a point or a reason, never an exception; a valid record keeps its numbers."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from decimal import Decimal, InvalidOperation
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streaming_regression.learners import LIMIT
from streaming_regression.records import Fields, decode
from tests.sample_records import AS_THEY_COME, BAD, BAD_AS_THEY_COME, GOOD, GOOD_AS_THEY_COME
from tests.strategies import json_values, numbers

FIELDS = Fields(("a", "b"), "y")
NESTED = Fields(("a.b", "c.0.d"), r"e\.f.g")
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
records = st.dictionaries(st.sampled_from(["a", "b", "y", "z"]) | st.text(), json_values | numbers)
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
    leaf = st.one_of(numbers, numbers, numbers, strings, st.booleans(), json_values)
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
    row = [number(found(record, name), fields) for name in fields.features]
    label = found(record, fields.label)
    row.append(math.nan if not label_needed and label in (ABSENT, None) else number(label, fields))
    return None if None in row else row  # type: ignore[return-value]


@settings(deadline=None)
@given(
    values=st.lists(values | damaged() | nested()),
    fields=st.sampled_from([FIELDS, NESTED]),
    label_needed=st.booleans(),
    numeric_strings=st.booleans(),
    booleans=st.booleans(),
)
def test_any_bytes_become_a_point_or_a_reason(
    values: list[bytes | None], fields: Fields, label_needed: bool, numeric_strings: bool, booleans: bool
) -> None:
    fields = replace(fields, numeric_strings=numeric_strings, booleans_as_numbers=booleans)
    decoded = decode(values, fields, label_needed=label_needed)
    invalid = [fault.position for fault in decoded.invalid]
    assert sorted(decoded.positions + invalid) == list(range(len(values)))
    assert decoded.positions == sorted(decoded.positions)
    points = [point(value, fields, label_needed) for value in values]
    assert decoded.positions == [i for i, row in enumerate(points) if row]
    assert decoded.x.shape == (len(decoded.positions), 2)
    assert decoded.y.shape == (len(decoded.positions),)
    assert np.isfinite(decoded.x).all()
    expected = np.array([row for row in points if row], np.float64).reshape(-1, 3)
    np.testing.assert_array_equal(np.column_stack([decoded.x, decoded.y]), expected)
    assert all(fault.field in {None, *fields.features, fields.label} and fault.reason for fault in decoded.invalid)


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
