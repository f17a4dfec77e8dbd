"""The records that were sent, computed from the sources, each with the topic, partition and offset it must have."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from embedded.testing.reference import lstsq
from producer.layout import Layout
from producer.sources import Flights, Synthetic

FEATURES = ("dep_delay", "distance", "air_time")
LABEL = "arr_delay"
NAMES = (*FEATURES, LABEL)
Row = tuple[float | None, ...]


def flights() -> list[bytes]:
    """All flights."""
    return list(Flights().rows(0))


def synthetic_settings(seed: int) -> dict[str, str]:
    """The producer's settings for the records that `synthetic` returns."""
    return {"SOURCE": "synthetic", "FEATURES": ",".join(FEATURES), "LABEL": LABEL, "SEED": str(seed)}


def synthetic(count: int, seed: int) -> list[bytes]:
    """Points of a linear model, with the flights' fields and the producer's default parameters."""
    return list(islice(Synthetic(FEATURES, LABEL, (1.5, -2.0, 0.5), 3.0, 1.0, seed).rows(0), count))


@dataclass
class Sent:
    """The records of runs that were sent completely, one after the other."""

    rows: dict[str, Row] = field(default_factory=dict)  # by the id of the document: topic-partition-offset
    _runs: set[str] = field(default_factory=set)
    _ends: dict[tuple[str, int], int] = field(default_factory=lambda: defaultdict(int))

    def add(self, run: str, values: Sequence[bytes], partitions: int) -> None:
        """Add a run of the producer, with every fifth record in the test topic; a run is sent only once."""
        if run in self._runs:
            return
        self._runs.add(run)
        layout = Layout(Fraction(1, 5), partitions, partitions)
        begins = dict(self._ends)
        for seq, value in enumerate(values):
            place, index = layout.locate(seq)
            topic = "test" if place.test else "train"
            offset = begins.get((topic, place.partition), 0) + index
            record = json.loads(value)
            self.rows[f"{topic}-{place.partition}-{offset}"] = tuple(record[name] for name in NAMES)
            self._ends[topic, place.partition] = offset + 1

    @property
    def points(self) -> dict[str, Row]:
        """The rows without a missing value."""
        return {key: row for key, row in self.rows.items() if None not in row}

    @property
    def learned(self) -> NDArray[np.float64]:
        """The rows from which a model learns, shape (n, d + 1)."""
        return np.array([row for key, row in self.points.items() if key.startswith("train-")], np.float64)

    def lstsq(self, ridge: float = 0.0) -> NDArray[np.float64]:
        """numpy's solution for all rows from which a model learns, intercept first; `ridge` pulls the weights to 0."""
        return lstsq(self.learned, ridge)
