"""From the bytes of Kafka records to numbers, or to the reason why not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter

import numpy as np
import orjson

from streaming_regression.learners import LIMIT, Floats

NUMBERS = frozenset([int, float])  # exact types: bool is an int to isinstance
JSON_TYPES = {
    str: "a string",
    bool: "a boolean",
    list: "an array",
    dict: "an object",
    int: "a number",
    float: "a number",
}


@dataclass(frozen=True, slots=True)
class Fields:
    """The names of the d features and of the label."""

    features: tuple[str, ...]
    label: str


@dataclass(frozen=True, slots=True)
class Invalid:
    """Why the record at `position` is no point; `field` is None where the whole record is at fault.

    Reasons hold nothing of the record but JSON's own words, so that they can be counted.
    """

    position: int
    field: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """Records apart: `positions` (ascending) of the m valid ones with their `x`, shape (m, d), and `y`, shape (m,).

    The label of a test record that has none, or null, is NaN. Each other record stands in `invalid`, ascending.
    """

    positions: list[int]
    x: Floats
    y: Floats
    invalid: list[Invalid]


class _InvalidRecord(ValueError):
    def __init__(self, field: str | None, reason: str) -> None:
        super().__init__(field, reason)
        self.field = field
        self.reason = reason


def decode(values: Sequence[bytes | None], fields: Fields, *, label_needed: bool) -> Decoded:
    """Decode records: JSON objects in UTF-8 whose features, and label if it is needed or there, are finite numbers.

    Where the label is not needed, null counts as absent. Of a repeated name the last counts; other names are ignored.
    Numbers above `LIMIT` in magnitude count as not finite, because their squares would not be. Any bytes give a point
    or an `Invalid`, never an exception.
    """
    names = (*fields.features, fields.label)
    pick = itemgetter(*names)
    loads = orjson.loads
    rows: list[tuple[float, ...]] = []
    positions: list[int] = []
    invalid: list[Invalid] = []
    for position, value in enumerate(values):
        try:
            row = pick(loads(value))  # type: ignore[arg-type]
            if not NUMBERS.issuperset(map(type, row)):
                raise TypeError
        except (ValueError, KeyError, TypeError):  # not plainly valid: look closely
            try:
                row = _row(value, fields, label_needed)
            except _InvalidRecord as error:
                invalid.append(Invalid(position, error.field, error.reason))
                continue
        rows.append(row)
        positions.append(position)

    table = np.fromiter(chain.from_iterable(rows), np.float64, len(rows) * len(names)).reshape(len(rows), len(names))
    large = np.abs(table) > LIMIT
    if large.any():
        bad = np.flatnonzero(large.any(axis=1))
        for index in reversed(bad.tolist()):
            name = names[int(np.argmax(large[index]))]
            invalid.append(Invalid(positions.pop(index), name, f"not finite: beyond ±{LIMIT:g}"))
        invalid.sort(key=lambda one: one.position)
        table = np.delete(table, bad, axis=0).reshape(-1, len(names))
    return Decoded(positions, table[:, :-1], table[:, -1], invalid)


def _row(value: bytes | None, fields: Fields, label_needed: bool) -> tuple[float, ...]:
    """Return the numbers of one record, or raise with its first fault; slower than the loop above, and thorough."""
    constants: list[str] = []  # NaN, Infinity, -Infinity: Python's and JavaScript's writers know them, JSON does not
    record = _parse(value, constants)
    row = [_number(record, name) for name in fields.features]
    unlabelled = not label_needed and record.get(fields.label) is None  # many writers put null for "not known"
    row.append(np.nan if unlabelled else _number(record, fields.label))
    if constants:
        raise _InvalidRecord(None, f"not JSON: {constants[0]}")
    return tuple(row)


def _parse(value: bytes | None, constants: list[str]) -> dict[str, object]:
    if value is None:
        raise _InvalidRecord(None, "tombstone: no value")
    if not value:
        raise _InvalidRecord(None, "empty")
    if value.startswith(b"\xef\xbb\xbf"):
        raise _InvalidRecord(None, "not JSON: byte order mark")
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise _InvalidRecord(None, "not UTF-8") from None

    def constant(name: str) -> float:
        constants.append(name)
        return float(name)

    try:
        # Unlike orjson, the standard library goes on at 1e400, NaN or half a surrogate, so that the field can be named,
        # or ignored where it is not ours. As floats, numbers of any length parse in no time.
        record = json.loads(text, parse_int=float, parse_constant=constant)
    except RecursionError:
        raise _InvalidRecord(None, "nested too deeply") from None
    except json.JSONDecodeError:
        raise _InvalidRecord(None, f"not JSON: {_fault(value)}") from None
    if not isinstance(record, dict):
        raise _InvalidRecord(None, f"not a JSON object but {_kind(record)}")
    return record


def _fault(value: bytes) -> str:
    """Return what orjson finds wrong, without the place: its words are clear, and the same for all Pythons."""
    try:
        orjson.loads(value)
    except orjson.JSONDecodeError as error:
        return error.msg.partition(": line ")[0]
    return "no JSON value"


def _number(record: dict[str, object], name: str) -> float:
    if name not in record:
        raise _InvalidRecord(name, "missing")
    value = record[name]
    if value is None:
        raise _InvalidRecord(name, "null")
    if not isinstance(value, float):
        raise _InvalidRecord(name, f"not a number but {_kind(value)}")
    if not np.isfinite(value):
        raise _InvalidRecord(name, "not finite: NaN" if np.isnan(value) else "not finite: infinite or beyond ±1.8e308")
    return value


def _kind(value: object) -> str:
    return "null" if value is None else JSON_TYPES.get(type(value), "no JSON value")
