"""The formats of values: JSON, and JSON or Avro behind the id of its schema in a registry (Confluent's wire format).

A framed value is a byte 0, the schema's id (4 bytes, big-endian), and the content. The id is looked up once per
process. While the registry is away, decoding waits; its fault is never a fault of a record.

fastavro decodes Avro, as in Confluent's own deserialiser. That one expands the schema again for each record: 5.6 µs for
four numbers, instead of 1.9 µs here.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from io import BytesIO
from typing import TYPE_CHECKING, Any, Literal

import orjson

from streaming_regression import registry
from streaming_regression.paths import Record, kind
from streaming_regression.records import JSON, InvalidRecord, Parser, parse_json

if TYPE_CHECKING:
    from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

Name = Literal["json", "json-schema-registry", "avro"]
FRAME = 5
"""Bytes before the content of a framed value."""
UNKNOWN_S = 10.0
"""Seconds until the registry is asked again for a schema that it did not have."""
SHOWN = 200
"""Characters of an error in a schema."""
UNION = "UnionOfStreamingRegression"  # in no namespace, as that of a record applies to names within it
FAULTS = 10_000
"""Maximum number of ids without a usable schema that a process remembers."""
TYPES = {"AVRO": "Avro", "JSON": "JSON", "PROTOBUF": "Protobuf"}


@dataclass(frozen=True, slots=True)
class Format:
    """A format, and the registry that a framed one needs."""

    name: Name = "json"
    registry: registry.Connection | None = None


@cache
def parser(form: Format) -> Parser:
    """Return this process's parser of a format, so that the next task knows its schemas.

    Raises
    ------
    ConfigError
        When a file of the registry's login cannot be used.
    """
    if form.registry is None:
        return JSON
    return _avro(form.registry) if form.name == "avro" else _framed_json(form.registry)


def _framed_json(connection: registry.Connection) -> Parser:
    schemas = Schemas(connection, "JSON", lambda _schema, _client: None)

    def loads(value: bytes) -> Any:  # noqa: ANN401 - any JSON
        schemas[value[:FRAME]]
        return orjson.loads(value[FRAME:])

    def parse(value: bytes | None, constants: list[str]) -> Record:
        value = _framed(value)
        schemas[value[:FRAME]]
        return parse_json(value[FRAME:], constants)

    return Parser(loads, parse)


def _avro(connection: registry.Connection) -> Parser:
    from fastavro.read import LOGICAL_READERS  # noqa: PLC0415

    # All other logical types stay what Avro stores: a date or time is a number in the unit of its type.
    LOGICAL_READERS.clear()
    LOGICAL_READERS.update(dict.fromkeys(["bytes-decimal", "fixed-decimal"], _decimal))
    schemas = Schemas(connection, "AVRO", _avro_reader)

    def loads(value: bytes) -> Any:  # noqa: ANN401 - any value of Avro
        read = schemas[value[:FRAME]]
        content = BytesIO(value + b"\0")  # fastavro does not notice a string that ends too early; so it reads this byte
        content.seek(FRAME)
        try:
            record = read(content)
        except Exception:  # noqa: BLE001 - fastavro raises many kinds of errors for damaged content
            raise InvalidRecord(None, _fault(content, value)) from None
        if content.tell() != len(value):
            raise InvalidRecord(None, _fault(content, value))
        return record

    def parse(value: bytes | None, _: list[str]) -> Record:
        record = loads(_framed(value))
        if not isinstance(record, dict):
            raise InvalidRecord(None, f"not an Avro record but {kind(record)}")
        return record

    return Parser(loads, parse)


def _framed(value: bytes | None) -> bytes:
    """Return a value that has a frame and content."""
    if value is None:
        raise InvalidRecord(None, "tombstone: no value")
    if not value:
        raise InvalidRecord(None, "empty")
    if value[0]:
        raise InvalidRecord(None, "no schema id: the value does not begin with a byte 0")
    if len(value) < FRAME:
        raise InvalidRecord(None, "no schema id: it ends too early")
    return value


def _fault(content: BytesIO, value: bytes) -> str:
    """Return why `content`, which is `value` and one more byte, is not Avro, from the position where reading ended."""
    if content.tell() > len(value):
        return "not Avro of its schema: it ends too early"
    return "not Avro of its schema"


def _decimal(content: bytes, schema: Any, _reader: object = None) -> float:  # noqa: ANN401 - fastavro's
    """Return the number of the logical type decimal: a big-endian integer, divided by 10^scale."""
    try:
        return float(int.from_bytes(content, "big", signed=True) / 10 ** schema.get("scale", 0))
    except OverflowError:
        return math.inf


class Schemas(dict[bytes, Any]):
    """Schemas that were looked up, by a value's frame; a missing one is asked for, and parsed by `parse`.

    A frame without a schema raises InvalidRecord.
    """

    def __init__(
        self,
        connection: registry.Connection,
        type_: str,
        parse: Callable[[Schema, SchemaRegistryClient], Any],
    ) -> None:
        super().__init__()
        self._connection = connection
        self._client = connection.open()
        self._type = type_
        self._parse = parse
        self._faults: dict[bytes, tuple[str, float]] = {}

    def __missing__(self, frame: bytes) -> Any:  # noqa: ANN401 - as `parse` returns it
        if len(frame) < FRAME or frame[0]:
            raise InvalidRecord(None, "no schema id")
        fault, until = self._faults.get(frame, ("", 0.0))
        if time.monotonic() >= until:
            fault = self._look_up(frame)
            if not fault:
                return self[frame]
            if len(self._faults) >= FAULTS:  # values in another format may have millions of ids
                self._faults.clear()
            self._faults[frame] = fault, time.monotonic() + UNKNOWN_S
        raise InvalidRecord(None, fault)

    def _look_up(self, frame: bytes) -> str:
        """Keep the schema of a frame, or return why there is none."""
        number = int.from_bytes(frame[1:], "big")
        try:
            schema = self._connection.retrying(lambda: _schema(self._client, number))
            found = schema.schema_type or "AVRO"
            if found != self._type:
                return f"its schema is of type {TYPES.get(found, 'unknown')}, not {TYPES[self._type]} (--value-format)"
            self[frame] = self._connection.retrying(lambda: self._parse(schema, self._client))
        except registry.NotFoundError:
            return "the schema registry has no schema with its id"
        except InvalidSchemaError as error:
            return f"its schema in the registry cannot be used: {error}"
        return ""


def _schema(client: SchemaRegistryClient, number: int) -> Schema:
    schema = client.get_schema(number)
    if not schema.schema_str:
        raise ValueError("this is not the answer of a schema registry")
    return schema


class InvalidSchemaError(Exception):
    """A schema in the registry is not a valid Avro schema."""


def _avro_reader(schema: Schema, client: SchemaRegistryClient) -> Callable[[BytesIO], Any]:
    """Return the function that reads a value of a schema, which may refer to other schemas."""
    from fastavro import parse_schema, schemaless_reader  # noqa: PLC0415

    named: dict[str, Any] = {}
    references: set[tuple[str, int]] = set()

    def parsed(schema: Schema, *, root: bool = False) -> Any:  # noqa: ANN401 - fastavro's
        for reference in schema.references or []:
            key = (str(reference.subject), int(reference.version or 0))
            if key not in references:
                references.add(key)
                parsed(client.get_version(*key, True).schema)
        try:
            content = json.loads(schema.schema_str or "")
            if root and isinstance(content, list):
                # For a record, fastavro keeps the types that it refers to, but not for a union. A record of one field
                # is encoded as that field.
                content = {"type": "record", "name": UNION, "fields": [{"name": "value", "type": content}]}
            # Defaults are for readers that have another schema.
            return parse_schema(content, named, _ignore_default_error=True)
        except Exception as error:  # fastavro raises many kinds of errors for a wrong schema
            raise InvalidSchemaError(f"{type(error).__name__}: {error}"[:SHOWN]) from error

    found = parsed(schema, root=True)
    _least(found, named)
    if UNION in named:
        return lambda content: schemaless_reader(content, found, None)["value"]  # type: ignore[call-overload,index]
    return lambda content: schemaless_reader(content, found, None)


def _least(schema: Any, named: Mapping[str, Any], above: tuple[str, ...] = ()) -> int:  # noqa: ANN401 - fastavro's
    """Return 0 if values of a schema may have no bytes, else 1; InvalidSchemaError for a schema that is not safe.

    A record in itself could be nested so deeply that fastavro overflows the stack, which ends the process. An array of
    items without bytes could have 2^62 of them. `above` are the names of the records around the schema.
    """
    while isinstance(schema, dict) and isinstance(schema["type"], (dict, list)):
        schema = schema["type"]
    if isinstance(schema, list):
        for branch in schema:
            _least(branch, named, above)
        return 1
    kind = schema["type"] if isinstance(schema, dict) else schema
    if kind in {"record", "error"}:
        if schema["name"] in above:
            raise InvalidSchemaError("a record contains itself")
        return max([0, *(_least(field["type"], named, (*above, schema["name"])) for field in schema["fields"])])
    if kind == "array" and not _least(schema["items"], named, above):
        raise InvalidSchemaError("the items of an array have no bytes")
    if kind == "map":
        return max(1, _least(schema["values"], named, above))
    if kind in named:
        return _least(named[kind], named, above)
    return int(kind != "null" and (kind != "fixed" or schema["size"] > 0))
