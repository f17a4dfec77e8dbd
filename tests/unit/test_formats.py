"""Values behind the id of a schema: any bytes become a point or a reason, and faults of the registry are no reasons."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from typing import Any

import fastavro
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming_regression import formats, pauses
from streaming_regression.errors import ConfigError, Refused, ServerUnavailable
from streaming_regression.formats import Format
from streaming_regression.learners import LIMIT
from streaming_regression.records import Decoded, Fields, Parser, decode
from streaming_regression.registry import Connection
from tests.scripted_registry import ScriptedRegistry
from tests.strategies import json_values, numbers

NESTED = {
    "type": "record",
    "name": "Reading",
    "fields": [
        {"name": "a", "type": ["null", "double", "string", "boolean"]},
        {
            "name": "b",
            "type": {
                "type": "record",
                "name": "Inner",
                "fields": [
                    {"name": "c", "type": {"type": "array", "items": ["long", "float"]}},
                    {"name": "m", "type": {"type": "map", "values": "int"}},
                ],
            },
        },
        {"name": "y", "type": ["null", "double"]},
    ],
}
LOGICAL: list[tuple[str, Any, bytes, float | str]] = [
    ("decimal", {"type": "bytes", "logicalType": "decimal", "precision": 9, "scale": 2}, b"\x04\xfe\xff", -2.57),
    (
        "fixed",
        {"type": "fixed", "name": "F", "size": 2, "logicalType": "decimal", "precision": 4, "scale": 1},
        b"\x00\x7b",
        12.3,
    ),
    ("whole", {"type": "bytes", "logicalType": "decimal", "precision": 4}, b"\x02\x7b", 123.0),
    ("millis", {"type": "long", "logicalType": "timestamp-millis"}, b"\x80\x90\xaa\xde\xfag", 1786000000000.0),
    ("micros", {"type": "long", "logicalType": "timestamp-micros"}, b"\x01", -1.0),
    ("date", {"type": "int", "logicalType": "date"}, b"\xc0\xb8\x02", 20000.0),
    ("time", {"type": "int", "logicalType": "time-millis"}, b"\x90\x4e", 5000.0),
    ("enum", {"type": "enum", "name": "E", "symbols": ["A"]}, b"\x00", "not a number but a string"),
    ("uuid", {"type": "string", "logicalType": "uuid"}, b"\x02x", "not a number but a string"),
    ("bytes", "bytes", b"\x02x", "not a number but bytes"),
    ("nan", "double", b"\0\0\0\0\0\0\xf8\x7f", "not finite: NaN"),
    ("inf", "float", b"\0\0\x80\xff", "not finite: beyond ±1e+70"),
    ("huge", "double", b"\x9c\x75\x00\x88\x3c\xe4\x37\x7e", "not finite: beyond ±1e+70"),
]
"""Name, schema, Avro content, and the number or the reason."""
EVOLVED = {**NESTED, "fields": [{"name": "new", "type": "string"}, *reversed(NESTED["fields"])]}
EMPTY = {"type": "array", "items": {"type": "record", "name": "I", "fields": [{"name": "i", "type": "null"}]}}
SCHEMAS: dict[int, tuple[str, Any, list[dict[str, Any]]]] = {
    1: ("AVRO", NESTED, []),
    2: ("JSON", {"type": "object"}, []),
    3: ("AVRO", EVOLVED, []),
    4: ("PROTOBUF", 'syntax = "proto3";', []),
    5: ("AVRO", '{"type":"record"', []),
    6: ("AVRO", {"type": "record", "name": "R", "fields": [{"name": "a", "type": "Unknown"}]}, []),
    7: ("AVRO", '"double"', []),
    8: (
        "AVRO",
        {
            "type": "record",
            "name": "Outer",
            "fields": [{"name": "a", "type": "double"}, {"name": "b", "type": "x.Part"}, {"name": "y", "type": "int"}],
        },
        [{"name": "x.Part", "subject": "subject-9", "version": 1}],
    ),
    9: (
        "AVRO",
        {"type": "record", "name": "x.Part", "fields": [{"name": "c", "type": {"type": "array", "items": "int"}}]},
        [],
    ),
    10: (
        "AVRO",
        ["null", "x.Part", "Outer"],
        [
            {"name": "Outer", "subject": "subject-8", "version": 1},
            {"name": "x.Part", "subject": "subject-9", "version": 1},
        ],
    ),
    12: ("AVRO", '"string"', []),
    13: ("AVRO", {"type": "record", "name": "N", "fields": [{"name": "n", "type": ["null", "N"]}]}, []),
    14: ("AVRO", {"type": "record", "name": "E", "fields": [{"name": "e", "type": EMPTY}]}, []),
    11: ("AVRO", NESTED, [{"name": "gone", "subject": "subject-99", "version": 1}]),
}
FIELDS = Fields(("a", "b.c.0"), "y")


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedRegistry]:
    logical = {"type": "record", "name": "L", "fields": [{"name": n, "type": t} for n, t, _, _ in LOGICAL]}
    with ScriptedRegistry({**SCHEMAS, 20: ("AVRO", logical, [])}) as registry:
        yield registry


@pytest.fixture(scope="module")
def avro(server: ScriptedRegistry) -> Parser:
    return formats.parser(Format("avro", Connection(server.url, timeout_s=30)))


@pytest.fixture(scope="module")
def framed_json(server: ScriptedRegistry) -> Parser:
    return formats.parser(Format("json-schema-registry", Connection(server.url, timeout_s=30)))


def frame(number: int, content: bytes) -> bytes:
    return b"\0" + number.to_bytes(4, "big") + content


def encoded(record: Any, schema: Any = NESTED) -> bytes:
    buffer = BytesIO()
    fastavro.schemaless_writer(buffer, fastavro.parse_schema(schema), record)
    return buffer.getvalue()


def reading(a: Any = 1.5, c: Any = (7,), y: Any = 4.25) -> dict[str, Any]:
    return {"a": a, "b": {"c": list(c), "m": {"k": 3}}, "y": y}


def reasons(decoded: Decoded) -> list[tuple[str | None, str]]:
    return [(fault.field, fault.reason) for fault in decoded.invalid]


@given(rows=st.lists(st.tuples(numbers, st.integers(-(2**60), 2**60), numbers)), number=st.sampled_from([1, 3]))
def test_an_avro_record_has_the_numbers_that_were_encoded(
    avro: Parser, rows: list[tuple[float, int, float]], number: int
) -> None:
    """Schema 3 has another order and another field: records of both may be in one topic."""
    values = [frame(number, encoded({**reading(a, [c], y), "new": "é"}, SCHEMAS[number][1])) for a, c, y in rows]
    decoded = decode(values, FIELDS, label_needed=True, parser=avro)
    assert not decoded.invalid
    table = np.array(rows, np.float64).reshape(-1, 3)
    np.testing.assert_array_equal(np.column_stack([decoded.x, decoded.y]), table)


def test_paths_lead_through_records_maps_and_arrays(avro: Parser) -> None:
    fields = Fields(("b.m.k", "b.c.1", "a"), "y", numeric_strings=True, booleans_as_numbers=True)
    values = [frame(1, encoded(reading(a, [1, 2.5]))) for a in (True, " 2 ", 0.5)]
    decoded = decode(values, fields, label_needed=True, parser=avro)
    assert decoded.x.tolist() == [[3, 2.5, 1], [3, 2.5, 2], [3, 2.5, 0.5]]
    values = [frame(1, encoded(reading(None, []))), frame(1, encoded(reading("x", [1, 2])))]
    assert reasons(decode(values, fields, label_needed=True, parser=avro)) == [
        ("b.c.1", "missing: not in b.c, an array"),
        ("a", "not a number but a string that is not a decimal number"),
    ]
    assert reasons(decode(values, Fields(("b.q",), "y"), label_needed=True, parser=avro))[0][1] == "missing: not in b"


@pytest.mark.parametrize(("name", "number"), [(name, number) for name, _, _, number in LOGICAL])
def test_a_logical_type_is_a_number_or_a_reason(avro: Parser, name: str, number: float | str) -> None:
    value = frame(20, b"".join(content for _, _, content, _ in LOGICAL))
    for fields, needed in ((Fields((name,), "millis"), True), (Fields(("millis",), name), False)):
        decoded = decode([value], fields, label_needed=needed, parser=avro)
        if isinstance(number, str):
            assert reasons(decoded) == [(name, number)]
        else:
            assert number in (decoded.x[0, 0], decoded.y[0])


def test_a_label_of_null_is_absent_in_the_test_topic_only(avro: Parser) -> None:
    values = [frame(1, encoded(reading(y=None))), frame(1, encoded(reading())), frame(1, encoded(reading(math.nan)))]
    decoded = decode(values, FIELDS, label_needed=False, parser=avro)
    assert np.isnan(decoded.y).tolist() == [True, False]
    assert reasons(decoded) == [("a", "not finite: NaN")]
    decoded = decode(values, FIELDS, label_needed=True, parser=avro)
    assert reasons(decoded) == [("y", "null"), ("a", "not finite: NaN")]


AVRO = encoded(reading())


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "tombstone: no value"),
        (b"", "empty"),
        (b'{"a":1}', "no schema id: the value does not begin with a byte 0"),
        (AVRO, "no schema id: the value does not begin with a byte 0"),
        (b"\0\0\0", "no schema id: it ends too early"),
        (frame(99, AVRO), "the schema registry has no schema with its id"),
        (frame(2, AVRO), "its schema is of type JSON, not Avro (--value-format)"),
        (frame(4, AVRO), "its schema is of type Protobuf, not Avro (--value-format)"),
        (
            frame(5, AVRO),
            "its schema in the registry cannot be used: JSONDecodeError: Expecting ',' delimiter: line 1 column 17 "
            "(char 16)",
        ),
        (frame(6, AVRO), "its schema in the registry cannot be used: UnknownType: Unknown"),
        (frame(11, AVRO), "the schema registry has no schema with its id"),
        (frame(7, b"\0" * 8), "not an Avro record but a number"),
        (frame(1, b""), "not Avro of its schema: it ends too early"),
        (frame(1, AVRO[:-1]), "not Avro of its schema: it ends too early"),
        (frame(1, AVRO + b"\0"), "not Avro of its schema"),
        (frame(12, b"\x06ab"), "not Avro of its schema: it ends too early"),
        (frame(12, b"\x00"), "not an Avro record but a string"),
        (frame(13, b"\x02" * 1_000_000), "its schema in the registry cannot be used: a record contains itself"),
        (
            frame(14, b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f\0"),
            "its schema in the registry cannot be used: the items of an array have no bytes",
        ),
        (frame(1, b"\x7f" + AVRO), "not Avro of its schema"),
        (frame(3, b"\x02\xff" + AVRO), "not Avro of its schema"),
    ],
)
def test_a_value_that_is_not_avro_has_a_reason_of_its_own(avro: Parser, value: bytes | None, reason: str) -> None:
    assert reasons(decode([value], FIELDS, label_needed=True, parser=avro)) == [(None, reason)]


def test_schemas_may_refer_to_others(avro: Parser) -> None:
    content = np.array([1.5]).tobytes() + b"\x02\x0e\x00" + b"\x08"
    for value in (frame(8, content), frame(10, b"\x04" + content)):
        decoded = decode([value], FIELDS, label_needed=True, parser=avro)
        assert reasons(decoded) == []
        assert (decoded.x.tolist(), decoded.y.tolist()) == ([[1.5, 7]], [4])


def test_framed_json_is_decoded_like_json_behind_a_schema_of_that_type(framed_json: Parser) -> None:
    record = json.dumps(reading()).encode()
    values = [frame(2, record), frame(2, b'{"a":1e400}'), frame(2, b""), frame(1, record), record, frame(2, b"[]")]
    decoded = decode(values, FIELDS, label_needed=True, parser=framed_json)
    assert (decoded.x.tolist(), decoded.y.tolist()) == ([[1.5, 7]], [4.25])
    assert reasons(decoded) == [
        ("a", "not finite: infinite or beyond ±1.8e308"),
        (None, "empty"),
        (None, "its schema is of type Avro, not JSON (--value-format)"),
        (None, "no schema id: the value does not begin with a byte 0"),
        (None, "not a JSON object but an array"),
    ]


def test_json_without_a_registry_recognizes_framed_values() -> None:
    decoded = decode([frame(1, AVRO)], FIELDS, label_needed=True)
    assert reasons(decoded) == [
        (None, "not JSON: it begins with a byte 0, as values with a schema id do (--value-format)")
    ]


records = st.builds(
    reading, st.none() | numbers | st.floats() | st.booleans() | st.text(), st.lists(st.integers(-9, 9))
)
frames = st.sampled_from([*SCHEMAS, 20, 99, 2**32 - 1]).map(lambda number: frame(number, b""))


@st.composite
def framed(draw: st.DrawFn) -> bytes:
    """A frame with matching or other content, often damaged."""
    content = draw(st.binary(max_size=40) | records.map(encoded) | json_values.map(lambda v: json.dumps(v).encode()))
    value = bytearray(draw(frames | st.just(frame(1, b"")) | st.just(frame(2, b""))) + content)
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, len(value)))
        value[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(value)


@given(
    values=st.lists(st.none() | st.binary(max_size=40) | framed()),
    label_needed=st.booleans(),
    numeric_strings=st.booleans(),
    booleans=st.booleans(),
    form=st.sampled_from(["avro", "json-schema-registry"]),
)
def test_any_bytes_become_a_point_or_a_reason(
    server: ScriptedRegistry,
    values: list[bytes | None],
    label_needed: bool,
    numeric_strings: bool,
    booleans: bool,
    form: formats.Name,
) -> None:
    parser = formats.parser(Format(form, Connection(server.url, timeout_s=30)))
    fields = replace(FIELDS, numeric_strings=numeric_strings, booleans_as_numbers=booleans)
    decoded = decode(values, fields, label_needed=label_needed, parser=parser)
    invalid = [fault.position for fault in decoded.invalid]
    assert sorted(decoded.positions + invalid) == list(range(len(values)))
    assert decoded.positions == sorted(decoded.positions)
    assert decoded.x.shape == (len(decoded.positions), 2)
    assert (np.abs(decoded.x) <= LIMIT).all()
    assert (np.abs(decoded.y[~np.isnan(decoded.y)]) <= LIMIT).all()
    assert not (label_needed and np.isnan(decoded.y).any())
    assert all(fault.field in {None, "a", "b.c.0", "y"} and fault.reason for fault in decoded.invalid)
    for position in decoded.positions:  # its one record alone gives the same point
        alone = decode([values[position]], fields, label_needed=label_needed, parser=parser)
        np.testing.assert_array_equal(alone.x, decoded.x[[decoded.positions.index(position)]])


def test_a_schema_is_asked_for_once_and_an_unknown_one_again_later(
    server: ScriptedRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    parser = formats.parser(Format("avro", Connection(server.url, timeout_s=31)))
    server.requests.clear()
    value = frame(50, AVRO)
    for _ in range(3):
        assert decode([frame(1, AVRO), value] * 5, FIELDS, label_needed=True, parser=parser).positions[:1] == [0]
    assert sorted(server.requests) == ["/schemas/ids/1", "/schemas/ids/50"]
    monkeypatch.setattr(formats, "UNKNOWN_S", 0.0)
    monkeypatch.setitem(server.schemas, 50, ("AVRO", NESTED, []))
    monkeypatch.setattr(time, "monotonic", lambda: 1e12)
    assert decode([value], FIELDS, label_needed=True, parser=parser).positions == [0]


@pytest.mark.parametrize(
    ("answers", "kind"),
    [
        ([(503, "")] * 1000, ServerUnavailable),
        ([(401, "")], ConfigError),
        ([(200, {})], Refused),
        ([(403, "")], Refused),
    ],
)
def test_a_fault_of_the_registry_is_never_one_of_a_record(
    answers: list[Any], kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pauses, "FIRST_PAUSE_S", 0.001)
    with ScriptedRegistry(SCHEMAS) as server:
        parser = formats.parser(Format("avro", Connection(server.url, timeout_s=0.05)))
        server.answers = answers
        with pytest.raises(kind):
            decode([frame(1, AVRO)], FIELDS, label_needed=True, parser=parser)
        server.answers = [(503, "")]
        parser = formats.parser(Format("avro", Connection(server.url, timeout_s=30)))
        assert decode([frame(1, AVRO)], FIELDS, label_needed=True, parser=parser).positions == [0]
