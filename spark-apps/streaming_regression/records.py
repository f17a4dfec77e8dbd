"""Decodes the bytes of Kafka records into numbers, or into the reason why a record is invalid."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
import orjson

from streaming_regression.categories import (
    LONGEST,
    Encoder,
    Layout,
    NotACategoryError,
    Texts,
    UnknownCategoryError,
    encoding,
    layout,
)
from streaming_regression.learners import LIMIT, Floats
from streaming_regression.paths import MISSING, Record, find, kind, picker

NUMBERS = frozenset([int, float])  # compared exactly, because isinstance(True, int) holds
BLANKS = "[ \t\r\n]*"
DECIMAL = re.compile(rf"{BLANKS}[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]+)?{BLANKS}")
WITH_COMMA = re.compile(rf"{BLANKS}[+-]?[0-9.]*,[0-9.,]*([eE][+-]?[0-9]+)?{BLANKS}")


@dataclass(frozen=True, slots=True)
class Fields:
    """The features and the label, and which values besides JSON numbers count as numbers.

    Attributes
    ----------
    features, label : keys of the record, or paths such as `payload.temp` and `data.0.v`; a feature with categories is
        `carrier[UA|AA]`.
    numeric_strings : a string that contains a decimal number, such as "1.5", " 2 " or "1e3", counts as that number.
    booleans_as_numbers : false counts as 0, true as 1.
    unknown_category : a value that is not a declared category makes the record "invalid", or counts as "zeros" in all
        columns of the field.
    """

    features: tuple[str, ...]
    label: str
    numeric_strings: bool = False
    booleans_as_numbers: bool = False
    unknown_category: str = "invalid"

    @property
    def layout(self) -> Layout:
        """The fields to read from a record, and the model's columns."""
        return layout(self.features)


@dataclass(frozen=True, slots=True)
class Invalid:
    """Why the record at `position` is invalid; `field` is None if the whole record is at fault.

    A reason contains nothing of the record's content except constants such as NaN, so equal faults can be counted.
    """

    position: int
    field: str | None
    reason: str


@dataclass(frozen=True, slots=True)
class Decoded:
    """The m valid records, by `positions` (ascending), `x`, shape (m, d), and `y`, shape (m,); and the invalid ones.

    A missing or null label of a test record is NaN. `invalid` is in the order of the positions. `texts`, shape (m, k),
    holds the values of the k fields with categories; None if k is 0.
    """

    positions: list[int]
    x: Floats
    y: Floats
    invalid: list[Invalid]
    texts: Texts | None = None


class InvalidRecord(ValueError):
    """A record is invalid: the field at fault, or None for the whole record, and the reason (see `Invalid`)."""

    def __init__(self, field: str | None, reason: str) -> None:
        super().__init__(field, reason)
        self.field = field
        self.reason = reason


class Parser(NamedTuple):
    """How a format's values are parsed.

    Attributes
    ----------
    loads : the fast way; for a value that it cannot parse it raises ValueError, LookupError or TypeError.
    parse : the thorough way, which raises InvalidRecord; it adds constants that make the record invalid to the list.
    """

    loads: Callable[[bytes], Any]
    parse: Callable[[bytes | None, list[str]], Record]


def decode(
    values: Sequence[bytes | None], fields: Fields, *, label_needed: bool, parser: Parser | None = None
) -> Decoded:
    """Decode records whose features and label are finite numbers; without a `parser`, JSON objects in UTF-8.

    A name stands for the key of that name, or else for a path (see `paths`). Unless `label_needed`, the label may be
    absent or null. If a key is repeated, its last value counts; other keys are ignored. Numbers above `LIMIT` in
    magnitude count as not finite, because sums of their squares could overflow. A field with categories becomes the
    columns that `categories` describes.
    Any bytes give a point or an `Invalid`, never an exception.
    """
    columns = fields.layout
    encoders = columns.encoders(unknown_allowed=fields.unknown_category == "zeros")
    names = (*columns.numbers, fields.label, *columns.categories)
    label = len(columns.numbers)
    pick = picker(names)
    if encoders:
        pick = encoding(pick, encoders)
    numbers = NUMBERS | {bool} if fields.booleans_as_numbers else NUMBERS
    loads, parse = parser or JSON
    rows: list[tuple[float, ...]] = []
    positions: list[int] = []
    unlabelled: list[int] = []
    invalid: list[Invalid] = []
    for position, value in enumerate(values):
        try:
            row = pick(loads(value))  # type: ignore[arg-type]
            if not numbers.issuperset(map(type, row)):
                row = _converted(row, numbers, fields.numeric_strings)
        except (ValueError, LookupError, TypeError):  # the fast path failed: decode it thoroughly
            try:
                row = _row(parse, value, fields, label_needed, encoders)
            except InvalidRecord as error:
                invalid.append(Invalid(position, error.field, error.reason))
                continue
            if math.isnan(row[label]):
                unlabelled.append(len(rows))
        rows.append(row)
        positions.append(position)

    table = np.fromiter(chain.from_iterable(rows), np.float64, len(rows) * len(names)).reshape(len(rows), len(names))
    table[unlabelled, label] = 0.0
    wrong = ~(np.abs(table) <= LIMIT)  # also NaN, which Avro has
    table[unlabelled, label] = np.nan
    if wrong.any():
        bad = np.flatnonzero(wrong.any(axis=1))
        for index in reversed(bad.tolist()):
            column = int(np.argmax(wrong[index]))
            reason = "not finite: NaN" if np.isnan(table[index, column]) else f"not finite: beyond ±{LIMIT:g}"
            invalid.append(Invalid(positions.pop(index), names[column], reason))
        invalid.sort(key=lambda fault: fault.position)
        table = np.delete(table, bad, axis=0).reshape(-1, len(names))
    if not encoders:
        return Decoded(positions, table[:, :-1], table[:, -1], invalid)
    codes = table[:, label + 1 :].astype(np.int64)
    texts = np.column_stack([encoder.texts(column) for encoder, column in zip(encoders, codes.T, strict=True)])
    return Decoded(positions, columns.matrix(table[:, :label], codes), table[:, label], invalid, texts)


def _converted(row: tuple[object, ...], numbers: frozenset[type], numeric_strings: bool) -> tuple[Any, ...]:
    """Return the row with numbers instead of strings; TypeError or ValueError for any other value."""
    if numeric_strings:
        row = tuple([_decimal(value) if type(value) is str else value for value in row])
    if not numbers.issuperset(map(type, row)):
        raise TypeError
    return row


def _decimal(text: str) -> float:
    if not DECIMAL.fullmatch(text) or math.isinf(number := float(text)):
        raise ValueError
    return number


def _row(
    parse: Callable[[bytes | None, list[str]], Record],
    value: bytes | None,
    fields: Fields,
    label_needed: bool,
    encoders: Sequence[Encoder],
) -> tuple[float, ...]:
    """Return the numbers of one record, or raise its first fault; slower than the path in `decode`, but complete."""
    constants: list[str] = []  # NaN, Infinity, -Infinity: some encoders write them, but they are not JSON
    record = parse(value, constants)
    row = [_number(record, name, fields) for name in fields.layout.numbers]
    unlabelled = not label_needed and find(record, fields.label)[0] in (MISSING, None)  # null often means "unknown"
    row.append(np.nan if unlabelled else _number(record, fields.label, fields))
    row += [_code(record, encoder) for encoder in encoders]
    if constants:
        raise InvalidRecord(None, f"not JSON: {constants[0]}")
    return tuple(row)


def parse_json(value: bytes | None, constants: list[str]) -> Record:
    """Return a JSON object; raise InvalidRecord with the reason for any other value."""
    if value is None:
        raise InvalidRecord(None, "tombstone: no value")
    if not value:
        raise InvalidRecord(None, "empty")
    if value.startswith(b"\0") and len(value) > 4:
        raise InvalidRecord(None, "not JSON: it begins with a byte 0, as values with a schema id do (--value-format)")
    if value.startswith(b"\xef\xbb\xbf"):
        raise InvalidRecord(None, "not JSON: byte order mark")
    try:
        text = value.decode()
    except UnicodeDecodeError:
        raise InvalidRecord(None, "not UTF-8") from None

    def constant(name: str) -> float:
        constants.append(name)
        return float(name)

    try:
        # Unlike orjson, the standard library accepts 1e400, NaN and lone surrogates, so that the fault can name the
        # field, or be ignored in a field that is not used. Parsing integers as floats is fast for any length.
        record = json.loads(text, parse_int=float, parse_constant=constant)
    except RecursionError:
        raise InvalidRecord(None, "nested too deeply") from None
    except json.JSONDecodeError:
        raise InvalidRecord(None, f"not JSON: {_fault(value)}") from None
    if not isinstance(record, dict):
        raise InvalidRecord(None, f"not a JSON object but {kind(record)}")
    return record


JSON = Parser(orjson.loads, parse_json)


def _fault(value: bytes) -> str:
    """Return orjson's error message without the position: it is clear, and the same for all Python versions."""
    try:
        orjson.loads(value)
    except orjson.JSONDecodeError as error:
        return error.msg.partition(": line ")[0]
    return "syntax error"


def _number(record: Record, name: str, fields: Fields) -> float:
    value = _value(record, name)
    if type(value) is int:  # of Avro
        value = float(value)
    if isinstance(value, str) and fields.numeric_strings and DECIMAL.fullmatch(value):
        value = float(value)
    if isinstance(value, bool) and fields.booleans_as_numbers:
        value = float(value)
    if not isinstance(value, float):
        detail = _text_kind(value) if isinstance(value, str) and fields.numeric_strings else kind(value)
        raise InvalidRecord(name, f"not a number but {detail}")
    if not np.isfinite(value):
        raise InvalidRecord(name, "not finite: NaN" if np.isnan(value) else "not finite: infinite or beyond ±1.8e308")
    return value


def _code(record: Record, encoder: Encoder) -> int:
    value = _value(record, encoder.field)
    try:
        if isinstance(value, str):
            value.encode()  # JSON can hold half of a surrogate pair, which no document can
        return encoder.code(value)
    except UnicodeEncodeError:
        raise InvalidRecord(encoder.field, "not a category but a string that is not valid Unicode") from None
    except UnknownCategoryError:
        raise InvalidRecord(encoder.field, "not one of the declared categories") from None
    except NotACategoryError:
        detail = kind(value)
        if isinstance(value, float):
            detail = "a number that is not whole, or not below 2^53"
        elif isinstance(value, str):
            detail = f"a string of more than {LONGEST:,} characters"
        raise InvalidRecord(encoder.field, f"not a category but {detail}") from None


def _value(record: Record, name: str) -> object:
    value, end = find(record, name)
    if value is MISSING:
        raise InvalidRecord(name, f"missing: {end}" if end else "missing")
    if value is None:
        raise InvalidRecord(name, "null")
    return value


def _text_kind(text: str) -> str:
    if not text.strip():
        return "an empty string"
    if WITH_COMMA.fullmatch(text):
        return "a string with a comma: only a point separates decimals"
    return "a string that is not a decimal number"
