"""The commands of docs/your-own-topic.md turn records of each form into points."""

from __future__ import annotations

import copy
import json
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedded.testing.reference import lstsq
from embedded.testing.registry import Registry
from embedded.testing.stream import Stream
from tests.integration.framed import avro, framed, register
from tests.slow import slow_except

PAGE = (Path(__file__).parents[2] / "docs" / "your-own-topic.md").read_text()
CASES = re.findall(
    r"^### ([^\n]+)\n(?:(?!^#).)*?```json\n([^\n]+)\n```\n```\n([^\n]+)\n```", PAGE, re.MULTILINE | re.DOTALL
)
QUICK = [case for case in CASES if case[0] in {"Debezium with Avro"}]
ROWS = 60


def example(schema: Any) -> Any:
    """A value of an Avro schema or of a JSON Schema."""
    kind = schema["type"] if isinstance(schema, dict) else schema
    if isinstance(schema, list):
        return example(next(branch for branch in schema if branch != "null"))
    if kind in {"record", "object"}:
        fields = schema.get("properties") or {field["name"]: field["type"] for field in schema["fields"]}
        return {name: example(inner) for name, inner in fields.items()}
    return "c" if kind == "string" else 1 if kind in {"long", "int"} else VALUE if kind == "Value" else 1.5


VALUE = {"id": 7, "temperature": 1.5, "load": 1.5, "wear": 1.5}


def changed(record: Any, path: str, number: float) -> None:
    """Put a number at a path, as a string if there was a string."""
    *above, last = path.split(".")
    for key in above:
        record = record[int(key)] if isinstance(record, list) else record[key]
    record[last] = str(number) if isinstance(record[last], str) else number


def test_the_page_has_all_cases() -> None:
    assert len(CASES) == 9
    assert len({name for name, _, _ in CASES}) == 9


@pytest.mark.parametrize(("name", "block", "command"), slow_except(QUICK, CASES))
def test_the_command_of_each_section_works(
    stream: Stream, registry: Registry, name: str, block: str, command: str
) -> None:
    program, _, module, *words = shlex.split(command)
    assert (program, module) == (".venv/bin/python", "streaming_regression"), name
    given = dict(zip(words[::2], words[1::2], strict=False))
    stream.features, stream.label = given["--features"].split(","), given["--label"]
    stream.create_topics()
    given_json = json.loads(block)
    form = given.get("--value-format", "json")
    pattern = given_json if form == "json" else example(given_json)
    number = (
        register(registry, f"{stream.train}-value", given_json, "AVRO" if form == "avro" else "JSON")
        if form != "json"
        else 0
    )
    rng = np.random.default_rng(4)
    x = rng.normal(size=(ROWS, len(stream.features))).astype(np.float32).astype(float)
    table = np.column_stack([x, x.sum(axis=1) + 3])
    values = []
    for row in table.tolist():
        record = copy.deepcopy(pattern)
        for path, value in zip([*stream.features, stream.label], row, strict=True):
            changed(record, path, value)
        content = avro(record, given_json) if form == "avro" else json.dumps(record).encode()
        values.append(framed(number, content) if number else content)
    stream.produce(train=values)
    if number:
        words[words.index("--schema-registry-url") + 1] = registry.url
    done = stream.run(*words)
    assert done.returncode == 0, done.stderr
    assert stream.count("invalid") == 0
    assert stream.count("points") == ROWS
    want = lstsq(table)
    assert np.linalg.norm(stream.weights() - want) <= 1e-6 * np.linalg.norm(want)
