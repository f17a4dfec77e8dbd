"""The formats that the producer sends: wrong schemas are refused before anything is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from producer.errors import ConfigError
from producer.formats import encoder
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
    ],
)
def test_a_schema_that_cannot_be_used_is_named_by_its_file(tmp_path: Path, content: bytes, text: str) -> None:
    file = tmp_path / "schema"
    file.write_bytes(content)
    line = fault("--source", "ndjson", "--input-file", "-", "--value-schema-file", str(file))
    assert line.startswith(f"--value-schema-file / VALUE_SCHEMA_FILE: {file} ")
    assert text in line
