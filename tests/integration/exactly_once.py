"""The check that a stream's documents hold every record exactly once."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np

from embedded.testing.stream import Stream


def check_exactly_once(stream: Stream) -> None:
    """Every record is a point exactly once, and the metrics documents add up to the points."""
    points = stream.documents("points")
    places = [(point["topic"], point["partition"], point["offset"]) for point in points]
    assert len(places) == len(set(places))
    assert set(places) == stream.places()
    assert all(point["_id"] == "{}-{}-{}".format(*place) for point, place in zip(points, places, strict=True))
    assert len({point["run"] for point in points}) == 1
    sums: dict[tuple[int, str, int], Any] = defaultdict(lambda: np.zeros(2))
    for point in points:
        sums[point["batch"], point["topic"], point["partition"]] += [1, point["squared_error"]]
    metrics = {
        (document["batch"], document["topic"], document["partition"]): document
        for document in stream.documents("metrics")
    }
    assert set(metrics) == set(sums)
    for key, document in metrics.items():
        np.testing.assert_allclose([document["rows"], document["sum_squared_error"]], sums[key], rtol=1e-9)
