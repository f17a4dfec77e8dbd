"""The check that a stream's documents hold every record exactly once."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np

from embedded.testing.stream import Stream

Place = tuple[str, int, int]
"""Topic, partition and offset of a record."""


def check_exactly_once(stream: Stream, expected: Mapping[Place, object] | None = None) -> None:
    """Every record is a document exactly once, and the metrics documents add up to the points and invalid records.

    `expected` has x and y of each point, and the reason of each invalid record. Without it, no record may be invalid.
    """
    points, invalid = stream.documents("points"), stream.documents("invalid")
    documents = [*points, *invalid]
    places = [place(document) for document in documents]
    assert len(places) == len(set(places))
    assert set(places) == stream.places()
    assert all(document["_id"] == "{}-{}-{}".format(*place(document)) for document in documents)
    assert len({document["run"] for document in documents}) == 1
    if expected is None:
        assert invalid == []
    else:
        found = {place(point): (point["x"], point["y"]) for point in points}
        assert found | {place(document): document["reason"] for document in invalid} == expected
    sums: dict[tuple[int, str, int], Any] = defaultdict(lambda: np.zeros(2))
    for point in points:
        sums[point["batch"], point["topic"], point["partition"]] += [1, point["squared_error"]]
    metrics = {
        (document["batch"], document["topic"], document["partition"]): document
        for document in stream.documents("metrics")
    }
    assert set(metrics) == set(sums)
    for key, document in metrics.items():
        offsets = range(document["first_offset"], document["last_offset"] + 1)
        bad = sum(place(other)[:2] == key[1:] and other["offset"] in offsets for other in invalid)
        assert document["invalid"] == bad
        have = [document["rows"] - bad, document["sum_squared_error"]]
        np.testing.assert_allclose(have, sums[key], rtol=1e-9)


def place(document: Mapping[str, Any]) -> Place:
    return document["topic"], document["partition"], document["offset"]
