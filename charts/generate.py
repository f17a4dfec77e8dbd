"""Generates values.schema.json and the table in README.md from the values.yaml of each chart: `make generate`.

It also writes the values of the app's learners, from their classes, the version of pyproject.toml into the charts and
into the producer's Job, and Spark's version into the SparkApplication.

Two kinds of comments in values.yaml describe a value: `# --` starts its meaning, and `# @schema` holds further rules as
JSON Schema. A map with a `# --` comment is one value with free content. Any other map is a group of values. Groups are
closed, so that a misspelt name is an error.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from streaming_regression.learners import LEARNERS, options

CHARTS = Path(__file__).parent
NAMES = ("streaming-ml", "operators")
BEGIN, END = "<!-- values: made by `make generate` -->\n", "<!-- end of values -->\n"
LEARNERS_BEGIN = "# Learners: made by `make generate` from spark-apps/streaming_regression/learners\n"
LEARNERS_END = "\n# End of the learners\n"
BAR = "\\|"  # a bar that does not end a cell of a table
LIMITS = {"gt": "exclusiveMinimum", "ge": "minimum", "lt": "exclusiveMaximum", "le": "maximum"}
"""Limits of a setting: JSON Schema's names by pydantic's."""
STAMPED = {
    "charts/streaming-ml/Chart.yaml": r"^((?:version|appVersion): ).*",
    "charts/operators/Chart.yaml": r"^(version: ).*",
    "producer/job.yaml": r"^( *image: streaming-ml-producer:).*",
}
"""Files that contain the project's version, and the pattern of the text before the version."""
DECIMAL = r"^-?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,2})?$"
"""A decimal number as text: Helm makes a text of `--set rls.ridge=0.001`. validate.yaml compares it with the limits."""
SPARK_STAMPED = "charts/streaming-ml/templates/app/sparkapplication.yaml", r"^( *sparkVersion: ).*"
"""The file that contains Spark's version, which is that of pyspark in the image."""
TYPES = {bool: "boolean", int: "integer", float: "number", str: "string", list: "array", dict: "object"}
Schema = dict[str, Any]
NAMED: dict[str, Schema] = {
    "peer": {
        "type": "object",
        "minProperties": 1,
        "propertyNames": {"enum": ["ipBlock", "namespaceSelector", "podSelector"]},
        "additionalProperties": {
            "type": "object",
            "propertyNames": {"enum": ["cidr", "except", "matchLabels", "matchExpressions"]},
        },
    }
}
"""Schemas that `items` in a comment may name: the peer of a NetworkPolicy."""


@dataclass(frozen=True, slots=True)
class Value:
    """A value of a chart, or a group of values if it has `children`."""

    name: str
    default: object
    meaning: str
    schema: Schema
    children: tuple[Value, ...] = ()


def values(chart: str) -> tuple[Value, ...]:
    """Return the values in a chart's values.yaml."""
    text = (CHARTS / chart / "values.yaml").read_text(encoding="utf-8")
    return _group(yaml.compose(text, yaml.SafeLoader), yaml.safe_load(text), text.splitlines())


def schema(chart: str) -> str:
    """Return the content of values.schema.json. A value that may be a decimal number may also be its text."""
    dependencies = yaml.safe_load((CHARTS / chart / "Chart.yaml").read_text(encoding="utf-8")).get("dependencies", [])
    root = _closed(values(chart))
    for dependency in dependencies:  # a dependency has more values than those that this chart sets
        root["properties"][dependency["name"]] = _open(root["properties"][dependency["name"]])
    # Helm passes `global` from a parent chart to its dependencies.
    shared = {"type": "object", "description": "Values that parent charts and dependencies share"}
    ours = root["properties"].get("global")
    root["properties"]["global"] = _open(ours) | shared if ours else shared
    root["properties"]["enabled"] = {"type": "boolean", "description": "Whether a parent chart installs this one"}
    root = _like(root, root)
    text = json.dumps({"$schema": "http://json-schema.org/draft-07/schema#", **root}, indent=2, ensure_ascii=False)
    return text + "\n"


def readme(chart: str) -> str:
    """Return the content of README.md with the current table of values."""
    text = (CHARTS / chart / "README.md").read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    rows = [
        f"| `{name}` | `{_shown(value.default)}` | {value.meaning.replace('|', BAR)} |"
        for name, value in _leaves(values(chart))
    ]
    table = "\n".join(["| value | default | meaning |", "|---|---|---|", *rows])
    return f"{before}{BEGIN}{table}\n{END}{after}"


def learner_values() -> str:
    """Return streaming-ml's values.yaml with the values of the learners, from the fields that are settings."""
    names = list(LEARNERS)
    meaning = "; ".join(f"`{name}`: {learner.summary}" for name, learner in LEARNERS.items())
    lines = [
        *_comment(f"The learner (LEARNER). {meaning}. To change it, start a new run", ""),
        f"# @schema {{enum: [{', '.join(names)}]}}",
        "learner: rls",
    ]
    for name, learner in LEARNERS.items():
        lines += ["", f"{name}:"]
        for option in options(learner):
            limits = {LIMITS[word]: limit for word, limit in option.metadata["limits"].items()}
            if option.default is None:
                limits = {"type": ["number", "null"], **limits}
            description = option.metadata["description"]
            variable = f"{name}_{option.name}".upper()
            lines += _comment(f"{description[0].upper()}{description[1:]} ({variable})", "  ")
            if limits:
                lines.append(f"  # @schema {json.dumps(limits)}")
            lines.append(f"  {_camel(option.name)}: {json.dumps(option.default)}")
    text = (CHARTS / "streaming-ml" / "values.yaml").read_text(encoding="utf-8")
    before, _, rest = text.partition(LEARNERS_BEGIN)
    _, _, after = rest.partition(LEARNERS_END)
    return "\n".join([before + LEARNERS_BEGIN.rstrip("\n"), *lines, LEARNERS_END + after])


def learner_template() -> str:
    """Return the template that makes environment variables of those values."""
    lines = [
        "{{/* Made by `make generate` from the app's learners. */}}",
        '{{- define "streaming-ml.app.learnerEnv" -}}',
    ]
    for name, learner in LEARNERS.items():
        for option in options(learner):
            value = f".Values.{name}.{_camel(option.name)}"
            whole = "int64 " if type(option.default) is int else ""
            entry = f"- {{name: {name.upper()}_{option.name.upper()}, value: {{{{ {whole}{value} | quote }}}}}}"
            lines += [f"{{{{- if ne {value} nil }}}}", entry, "{{- end }}"] if option.default is None else [entry]
    return "\n".join([*lines, "{{- end }}", ""])


def _comment(text: str, indent: str) -> list[str]:
    return textwrap.wrap(f"-- {text}", 120, initial_indent=f"{indent}# ", subsequent_indent=f"{indent}# ")


def _camel(name: str) -> str:
    first, *others = name.split("_")
    return first + "".join(map(str.capitalize, others))


def stamped(path: str, pattern: str, version: str) -> str:
    """Return the content of a file with `version` behind the text of each match of `pattern`."""
    text = (CHARTS.parent / path).read_text(encoding="utf-8")
    return re.sub(pattern, rf"\g<1>{version}", text, flags=re.MULTILINE)


def spark_version() -> str:
    """Return the version of pyspark in the image."""
    text = (CHARTS.parent / "spark-apps" / "requirements.txt").read_text(encoding="utf-8")
    return str(re.findall(r"^pyspark==([\w.]+)", text, re.MULTILINE)[0])


def project_version() -> str:
    """Return the version in pyproject.toml."""
    text = (CHARTS.parent / "pyproject.toml").read_text(encoding="utf-8")
    return str(re.findall(r'^version = "(.+?)"', text, re.MULTILINE)[0])


def _group(node: Any, content: dict[str, Any], lines: list[str]) -> tuple[Value, ...]:  # noqa: ANN401 - yaml's
    found = []
    for key, inner in node.value:
        meaning, extra = _comments(lines, key.start_mark.line)
        default = content[key.value]
        children = _group(inner, default, lines) if isinstance(default, dict) and not meaning else ()
        derived = {"type": TYPES[type(default)]} if type(default) in TYPES else {}
        found.append(Value(key.value, default, meaning, derived | extra, children))
    return tuple(found)


def _comments(lines: list[str], line: int) -> tuple[str, Schema]:
    """Return the meaning and the schema in the comments directly above a line."""
    block: list[str] = []
    while line and (text := lines[line - 1].strip()).startswith("#"):
        block.insert(0, text.removeprefix("#").strip())
        line -= 1
    extra: Schema = next(
        (yaml.safe_load(text.removeprefix("@schema")) for text in block if text.startswith("@schema")), {}
    )
    if isinstance(name := extra.get("items"), str):
        extra["items"] = NAMED[name]
    words = [text for text in block if not text.startswith("@schema")]
    starts = [number for number, text in enumerate(words) if text.startswith("--")]
    return (" ".join(words[starts[0] :]).removeprefix("-- ") if starts else ""), extra


def _closed(group: tuple[Value, ...]) -> Schema:
    properties = {
        value.name: _closed(value.children)
        if value.children
        else {**_with_text(value.schema), "description": value.meaning}
        for value in group
    }
    # A user who sets a value to null makes Helm remove the value and its default.
    required = [value.name for value in group if value.default is not None]
    return {"type": "object", "additionalProperties": False, "required": required, "properties": properties}


def _with_text(schema: Schema) -> Schema:
    """Return the schema of a number that accepts the number's text, too; of a list, for its items."""
    if isinstance(items := schema.get("items"), dict):
        return {**schema, "items": _with_text(items)}
    if not _is_decimal(schema):
        return schema
    kinds = schema["type"] if isinstance(schema["type"], list) else [schema["type"]]
    return {**schema, "type": [*kinds, "string"], "pattern": DECIMAL}


def _is_decimal(schema: Schema) -> bool:
    return "number" in schema.get("type", [])  # a name, or a list of names


def decimals_template() -> str:
    """Return the template that lists the decimal values with their limits, for templates/validate.yaml."""
    lines = [
        "{{/* Made by `make generate` from values.yaml: the values that may be decimal numbers, and their limits. */}}"
    ]
    lines.append('{{- define "streaming-ml.decimals" -}}')
    for name, value in _leaves(values("streaming-ml")):
        schema = value.schema.get("items", value.schema)
        if _is_decimal(schema):
            limits = {limit: schema[limit] for limit in LIMITS.values() if limit in schema}
            lines.append(f"{name}: {json.dumps(limits)}")
    return "\n".join([*lines, "{{- end }}", ""])


def _open(closed: Schema) -> Schema:
    properties = {
        name: _open(property_) if "properties" in property_ else property_
        for name, property_ in closed["properties"].items()
    }
    return {"type": "object", "properties": properties}


def _like(part: Schema, root: Schema) -> Schema:
    """Return a schema in which `{like: GROUP, without: NAMES}` is that group without NAMES, with no required value."""
    if "like" in part:
        properties = root["properties"][part["like"]]["properties"]
        kept = {name: value for name, value in properties.items() if name not in part.get("without", ())}
        return {"type": "object", "additionalProperties": False, "properties": kept, "description": part["description"]}
    if "properties" in part:
        return {**part, "properties": {name: _like(inner, root) for name, inner in part["properties"].items()}}
    return part


def _leaves(group: tuple[Value, ...], prefix: str = "") -> Iterator[tuple[str, Value]]:
    for value in group:
        if value.children:
            yield from _leaves(value.children, f"{prefix}{value.name}.")
        else:
            yield f"{prefix}{value.name}", value


def _shown(default: object) -> str:
    return json.dumps(default, ensure_ascii=False).replace("|", BAR)


if __name__ == "__main__":
    (CHARTS / "streaming-ml" / "values.yaml").write_text(learner_values(), encoding="utf-8")
    templates = CHARTS / "streaming-ml" / "templates"
    (templates / "app" / "_learners.tpl").write_text(learner_template(), encoding="utf-8")
    (templates / "_decimals.tpl").write_text(decimals_template(), encoding="utf-8")
    versions = [(path, pattern, project_version()) for path, pattern in STAMPED.items()]
    for path, pattern, version in [*versions, (*SPARK_STAMPED, spark_version())]:
        (CHARTS.parent / path).write_text(stamped(path, pattern, version), encoding="utf-8")
    for name in NAMES:
        (CHARTS / name / "values.schema.json").write_text(schema(name), encoding="utf-8")
        (CHARTS / name / "README.md").write_text(readme(name), encoding="utf-8")
