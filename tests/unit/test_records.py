"""Any bytes become a point or a reason, never an exception; a valid record keeps its numbers."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming_regression.learners import LIMIT
from streaming_regression.records import Fields, decode
from tests.sample_records import BAD, GOOD
from tests.strategies import json_values, numbers

FIELDS = Fields(("a", "b"), "y")
records = st.dictionaries(st.sampled_from(["a", "b", "y", "z"]) | st.text(), json_values | numbers)
values = st.none() | st.binary() | st.text().map(str.encode) | records.map(lambda record: json.dumps(record).encode())


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A valid record with some bytes changed, removed or inserted."""
    value = bytearray(b'{"a": 1.5, "b": -2, "y": 4.25e1, "z": "\\u00e9"}')
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(value)))
        value[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(value)


def is_point(value: bytes | None, label_needed: bool) -> bool:
    """The contract, implemented independently with the standard library."""
    constants: list[str] = []

    def constant(name: str) -> float:
        constants.append(name)
        return math.nan

    try:
        record = json.loads((value or b"").decode(), parse_constant=constant)
    except (ValueError, RecursionError):
        return False
    if not isinstance(record, dict) or constants:
        return False
    needed = ["a", "b", "y"] if label_needed or record.get("y") is not None else ["a", "b"]
    try:
        return all(type(record[name]) in {int, float} and abs(float(record[name])) <= LIMIT for name in needed)
    except (KeyError, OverflowError):
        return False


@given(values=st.lists(values | damaged()), label_needed=st.booleans())
def test_any_bytes_become_a_point_or_a_reason(values: list[bytes | None], label_needed: bool) -> None:
    decoded = decode(values, FIELDS, label_needed=label_needed)
    invalid = [fault.position for fault in decoded.invalid]
    assert sorted(decoded.positions + invalid) == list(range(len(values)))
    assert decoded.positions == sorted(decoded.positions)
    assert decoded.positions == [i for i, value in enumerate(values) if is_point(value, label_needed)]
    assert decoded.x.shape == (len(decoded.positions), 2)
    assert decoded.y.shape == (len(decoded.positions),)
    assert np.isfinite(decoded.x).all()
    assert all(fault.field in {None, "a", "b", "y"} and fault.reason for fault in decoded.invalid)


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
