"""The formats that the producer sends: wrong schemas are refused before anything is sent."""

from __future__ import annotations

import json
from decimal import Decimal
from io import BytesIO
from pathlib import Path

import pytest
from fastavro import parse_schema, schemaless_reader

from producer.errors import ConfigError
from producer.formats import DoesNotFitError, _avro, encoder
from producer.kafka import Stop
from producer.settings import load

AVRO = ("--value-format", "avro", "--schema-registry-url", "http://127.0.0.1:1")


def fault(*flags: str) -> str:
    with pytest.raises(ConfigError) as error:
        encoder(load([*AVRO, *flags]), Stop())
    return str(error.value)


def test_json_is_sent_as_it_is() -> None:
    assert encoder(load([]), Stop()) is None


@pytest.mark.parametrize("name", ["a.b", "1a", "a b", "größe"])
def test_a_feature_whose_name_avro_does_not_allow_is_named(name: str) -> None:
    line = fault("--features", f"{name},b,c")
    assert line.startswith(f"--features / FEATURES: {name!r} is not a valid name in Avro")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"{", "is not a file with JSON"),
        (b"\xff", "is not a file with JSON"),
        (b'{"type":"recrod"}', "is not a valid Avro schema: "),
        (b"[1]", "is not a valid Avro schema: "),
        (b"[]", "is not the schema of a record"),
        (b'"double"', "is not the schema of a record"),
    ],
)
def test_a_schema_that_cannot_be_used_is_named_by_its_file(tmp_path: Path, content: bytes, text: str) -> None:
    file = tmp_path / "schema"
    file.write_bytes(content)
    line = fault("--source", "ndjson", "--input-file", "-", "--value-schema-file", str(file))
    assert line.startswith(f"--value-schema-file / VALUE_SCHEMA_FILE: {file} ")
    assert text in line


LOAD = {"type": "record", "name": "Load", "fields": [{"name": "v", "type": ["null", "double"]}]}
SCHEMA = {
    "type": "record",
    "name": "Reading",
    "fields": [
        {"name": "temperature", "type": ["null", "double"]},
        {"name": "loads", "type": {"type": "array", "items": LOAD}},
        {"name": "cost", "type": {"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}},
        {"name": "other", "type": ["null", "Load"], "default": None},
    ],
}
GOOD = {"temperature": 1, "loads": [{"v": 2.5}, {"v": None}], "cost": 20.5}


def test_lines_of_a_file_become_avro_with_decimals() -> None:
    write = _avro(load([]), json.dumps(SCHEMA))
    more = {**GOOD, "other": {"v": 1}, "not in the schema": 7}
    for given, other in ((GOOD, None), (more, {"v": 1.0})):
        found = schemaless_reader(BytesIO(write(json.dumps(given).encode())), parse_schema(SCHEMA), None)
        assert found == {**GOOD, "cost": Decimal("20.50"), "other": other}


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"temperature": ...}, "temperature is missing, and the schema has no default for it"),
        ({"loads": [{"v": 1}, {"w": 2}]}, "loads.1.v is missing, and the schema has no default for it"),
        ({"loads": [1]}, "loads.0 is not an object"),
        ({"temperature": "secret"}, "a value does not have the type that the schema gives its field"),
        ({"cost": 20.555}, "a value does not have the type that the schema gives its field"),
    ],
)
def test_a_line_that_does_not_fit_the_schema_is_refused_with_the_field(changes: dict[str, object], text: str) -> None:
    line = {name: value for name, value in (GOOD | changes).items() if value is not ...}
    with pytest.raises(DoesNotFitError) as error:
        _avro(load([]), json.dumps(SCHEMA))(json.dumps(line).encode())
    assert str(error.value) == text
