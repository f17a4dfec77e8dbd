"""The formats of values: JSON, and JSON or Avro behind the id of its schema in a registry (Confluent's wire format)."""

import json
import re
from collections.abc import Callable, Mapping
from decimal import Decimal
from io import BytesIO
from typing import Any

import orjson

from producer import registry
from producer.errors import ConfigError
from producer.kafka import Stop
from producer.settings import Settings, setting
from producer.sources import FLIGHT_TEXTS

Encode = Callable[[bytes, bool], bytes]
"""Returns a source's value in the form for the train topic or, if the second argument is true, the test topic.

Raises `DoesNotFitError`.
"""

MAGIC = b"\0"


class DoesNotFitError(ValueError):
    """A value does not fit the schema. The text says why, with names of fields only, so it can be shown."""


def encoder(settings: Settings, stop: Stop) -> Encode | None:
    """Return the function that makes the values to send, or None if the source's values are sent as they are.

    It registers the schema of the values of each topic that gets records, under the subject `TOPIC-value`. The same
    schema always gets the same id, so a restart makes the same bytes.

    Raises
    ------
    ConfigError, ServerUnavailable, Refused
        When the schema cannot be used, or the registry cannot register it.
    """
    if settings.value_format == "json":
        return None
    content: Callable[[bytes], bytes]
    if settings.value_format == "avro":
        schema, kind = _schema(settings, _avro_schema), "AVRO"
        content = _avro(settings, schema)
    else:
        schema, kind, content = _schema(settings, _json_schema), "JSON", bytes
    topics = {False: settings.kafka_train_topic, True: settings.kafka_test_topic}
    used = [topic for test, topic in topics.items() if settings.test_fraction != (0 if test else 1)]
    ids = registry.register(settings, stop, used, kind, schema)
    frames = {test: MAGIC + ids[topic].to_bytes(4, "big") for test, topic in topics.items() if topic in ids}
    return lambda value, test: frames[test] + content(value)


def _schema(settings: Settings, default: Callable[[dict[str, str], bool], str]) -> str:
    """Return the schema's text: that of the file, or the schema of the source's records."""
    file = settings.value_schema_file
    if file is None:
        return default(_fields(settings), settings.source == "flights")
    try:
        text = file.read_text("utf-8")
        json.loads(text)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{setting('value_schema_file')}: {file} is not a file with JSON: {error}") from error
    return text


def _fields(settings: Settings) -> dict[str, str]:
    """Return the type of each field of the source's records: double, long or string; nothing for lines of a file."""
    if settings.source == "flights":
        return {name: "string" if name in FLIGHT_TEXTS else "long" for name in settings.flight_fields}
    return dict.fromkeys((*settings.features, settings.label) if settings.source == "synthetic" else (), "double")


def _avro_schema(fields: dict[str, str], flights: bool) -> str:
    if wrong := [name for name in fields if not re.fullmatch("[A-Za-z_][A-Za-z0-9_]*", name)]:
        raise ConfigError(
            f"{setting('features')}: {wrong[0]!r} is not a valid name in Avro: use letters, digits and '_', and do not "
            "begin with a digit"
        )
    typed = [{"name": name, "type": ["null", kind] if flights else kind} for name, kind in fields.items()]
    return json.dumps({"type": "record", "name": "Flight" if flights else "Point", "fields": typed})


def _json_schema(fields: dict[str, str], flights: bool) -> str:
    kinds = {"double": "number", "long": "integer", "string": "string"}
    typed = {name: {"type": [kinds[kind], "null"] if flights else kinds[kind]} for name, kind in fields.items()}
    properties = {"properties": typed} if typed else {}
    return json.dumps({"$schema": "http://json-schema.org/draft-07/schema#", "type": "object", **properties})


def _avro(settings: Settings, text: str) -> Callable[[bytes], bytes]:
    """Return the function that makes Avro of a JSON value."""
    from fastavro import parse_schema, schemaless_writer  # noqa: PLC0415

    named: dict[str, Any] = {}
    try:
        schema: Any = parse_schema(json.loads(text), named)
    except Exception as error:  # fastavro raises many kinds of errors for a wrong schema
        raise ConfigError(
            f"{setting('value_schema_file')}: {settings.value_schema_file} is not a valid Avro schema: {error}"
        ) from error
    if not isinstance(schema, dict) or schema["type"] != "record":
        raise ConfigError(f"{setting('value_schema_file')}: {settings.value_schema_file} is not the schema of a record")

    def content(value: bytes) -> bytes:
        buffer = BytesIO()
        try:
            record = orjson.loads(value)
        except orjson.JSONDecodeError:
            raise DoesNotFitError("it is not JSON") from None
        try:
            schemaless_writer(buffer, schema, _fitted(record, schema, named))
        except DoesNotFitError:
            raise
        except Exception as error:  # fastavro raises many kinds of errors for a value that does not fit
            raise DoesNotFitError("a value does not have the type that the schema gives its field") from error
        return buffer.getvalue()

    return content


def _fitted(value: Any, schema: Any, named: Mapping[str, Any], path: str = "") -> Any:  # noqa: ANN401 - any JSON
    """Return a JSON value as fastavro takes it: with decimals, and without fields that the schema does not have.

    fastavro writes null for a missing field whose type allows null. So a name that is misspelt in the schema would lose
    all values of its field; DoesNotFitError unless the schema has a default.
    """
    schema = named.get(schema, schema) if isinstance(schema, str) else schema
    if isinstance(schema, list):
        types = [branch for branch in schema if branch != "null"]
        return value if value is None or len(types) != 1 else _fitted(value, types[0], named, path)
    if not isinstance(schema, dict):
        return value
    kind = schema["type"]
    if kind == "record":
        return _fitted_record(value, schema["fields"], named, path)
    if kind == "array" and isinstance(value, list):
        value = [_fitted(item, schema["items"], named, f"{path}.{index}") for index, item in enumerate(value)]
    elif kind == "map" and isinstance(value, dict):
        value = {key: _fitted(item, schema["values"], named, f"{path}.{key}") for key, item in value.items()}
    elif schema.get("logicalType") == "decimal" and type(value) in {int, float}:
        value = Decimal(str(value)).normalize()
    elif not isinstance(kind, str):
        value = _fitted(value, kind, named, path)
    return value


def _fitted_record(value: Any, fields: Any, named: Mapping[str, Any], path: str) -> dict[str, Any]:  # noqa: ANN401
    if not isinstance(value, dict):
        raise DoesNotFitError(f"{path or 'it'} is not an object")
    record = {}
    for field in fields:
        name = f"{path}.{field['name']}" if path else field["name"]
        if field["name"] in value:
            record[field["name"]] = _fitted(value[field["name"]], field["type"], named, name)
        elif "default" not in field:
            raise DoesNotFitError(f"{name} is missing, and the schema has no default for it")
    return record
