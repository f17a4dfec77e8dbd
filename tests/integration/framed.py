"""Values behind the id of a schema, made with Confluent's client and fastavro."""

from __future__ import annotations

import json
from io import BytesIO
from typing import Any

import fastavro
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient

from embedded.testing.registry import Registry

READING: dict[str, Any] = {
    "type": "record",
    "name": "Reading",
    "fields": [
        {
            "name": "sensor",
            "type": {
                "type": "record",
                "name": "Sensor",
                "fields": [
                    {"name": "temperature", "type": ["null", "double"]},
                    {"name": "load", "type": {"type": "array", "items": "float"}},
                ],
            },
        },
        {
            "name": "cost",
            "type": {"type": "bytes", "logicalType": "decimal", "precision": 12, "scale": 3},
        },
        {"name": "wear", "type": ["null", "double"]},
    ],
}
NEWER = {**READING, "fields": [{"name": "site", "type": "string", "default": "?"}, *READING["fields"]]}
JSON_SCHEMA = {"$schema": "http://json-schema.org/draft-07/schema#", "type": "object"}


def register(registry: Registry, subject: str, schema: Any, kind: str = "AVRO") -> int:
    """Register a schema, and return its id."""
    with SchemaRegistryClient({"url": registry.url}) as client:
        return int(client.register_schema(subject, Schema(json.dumps(schema), kind)))


def framed(number: int, content: bytes) -> bytes:
    return b"\0" + number.to_bytes(4, "big") + content


def avro(record: Any, schema: Any) -> bytes:
    buffer = BytesIO()
    fastavro.schemaless_writer(buffer, fastavro.parse_schema(schema), record)
    return buffer.getvalue()
