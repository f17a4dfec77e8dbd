"""Measures how long the app takes to decode a record, for each form of records."""

from __future__ import annotations

import json
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np
import orjson

from bench.harness import whole_flights
from bench.measurements import Spread, spread
from embedded.testing.records import FLIGHT_FIELDS
from streaming_regression.records import NUMBERS, Fields, decode

ROWS = 10_000
ROUNDS = 15
LEAST = "parsing and look-up by key only"
FLAT = "flat"


def least(values: list[bytes], names: tuple[str, ...]) -> None:
    """Do what a decoder of flat records cannot do without: parse, look up by key, check types, make a table."""
    pick, loads = itemgetter(*names), orjson.loads
    rows = []
    for value in values:
        row = pick(loads(value))
        if not NUMBERS.issuperset(map(type, row)):
            raise TypeError
        rows.append(row)
    np.fromiter(chain.from_iterable(rows), np.float64, len(rows) * len(names)).reshape(len(rows), len(names))


def decoded(values: list[bytes], fields: Fields) -> None:
    found = decode(values, fields, label_needed=True)
    assert len(found.y) == len(values)


def measured() -> dict[str, Spread]:
    """Return the nanoseconds of a record of four numbers in each form; the forms are measured in turn."""
    records: list[dict[str, Any]] = [json.loads(value) for value in whole_flights(ROWS)]
    *features, label = FLIGHT_FIELDS
    flat = Fields(tuple(features), label)
    nested = Fields(tuple(f"payload.{name}" for name in features), f"payload.{label}")
    strings = Fields(tuple(features), label, numeric_strings=True)
    category = Fields((*features, "origin[EWR|JFK|LGA]"), label)
    forms: dict[str, tuple[list[dict[str, Any]], Callable[[list[bytes]], None]]] = {
        LEAST: (records, partial(least, names=FLIGHT_FIELDS)),
        FLAT: (records, partial(decoded, fields=flat)),
        "in an object": ([{"payload": record} for record in records], partial(decoded, fields=nested)),
        "strings": (
            [{name: str(value) for name, value in record.items()} for record in records],
            partial(decoded, fields=strings),
        ),
        "flat, with a category": (
            [{**record, "origin": "JFK"} for record in records],
            partial(decoded, fields=category),
        ),
    }
    values = {form: [json.dumps(record).encode() for record in given] for form, (given, _) in forms.items()}
    times: dict[str, list[float]] = defaultdict(list)
    for number in range(ROUNDS + 1):
        for form, (_, work) in forms.items():
            start = time.process_time()
            work(values[form])
            if number:  # the first round warms up
                times[form].append((time.process_time() - start) / ROWS * 1e9)
    return {form: spread(each) for form, each in times.items()}
