"""The live page's sample of points: a search whose cost hardly grows with the data, and the rows of its drawings."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from dashboards.panels import SAMPLE, Sample
from dashboards.queries import Extent, Query, Row

CLUSTERS = 100
"""Limit of the ranges of offsets in which points are searched, if only a sample of the points is stored."""
BINS = 30
TAIL = 0.01
MARGIN = 0.5
"""Values that lie farther from the range of all but the TAIL smallest and largest ones than MARGIN times this range
are outliers: a drawing counts them, but does not show them, so that a single one does not squeeze all others."""


def sample(topic: str, known: Extent, feature: str, stored: float = 1.0) -> Query:
    """Return the search for at most SAMPLE points, spread evenly over the topic's offsets.

    If all points are stored, the offsets are divided into blocks whose length is a power of two, and one offset of each
    block is searched. While the stream continues, the same points stay in the sample and new points are added, until
    the length of the blocks doubles; so the drawing does not jump. The offsets are searched in their index (an `ids`
    query would search every segment for every id), and the values are read from columns (doc values). So the cost
    hardly depends on the number of points.

    Parameters
    ----------
    stored
        The share of the points that is stored. Below 1 most single offsets would not be found. So a range of offsets
        of each block is searched, long enough to find as many points.
    """
    ranges = known.of(topic)
    partitions = [
        {"bool": {"filter": [{"term": {"partition": number}}, {"range": {"offset": {"gte": first, "lte": last}}}]}}
        for number, (first, last) in ranges.items()
    ]
    offsets = _at_offsets(ranges) if stored >= 1 else _near_offsets(ranges, stored)
    filters: list[Query] = [*offsets, {"term": {"topic": topic}}, {"bool": {"should": partitions}}]
    query: Query = {"bool": {"filter": filters}} if partitions else {"match_none": {}}
    common = {
        "size": SAMPLE,
        "stored_fields": "_none_",
        "docvalue_fields": [f"x.{feature}", "y", "pred", "standard_error", "partition", "offset"],
        "track_total_hits": False,
    }
    if stored >= 1:
        return {**common, "query": query, "sort": ["_doc"]}
    # More than SAMPLE points may match, by chance or because a larger share was stored earlier. The highest hashes of
    # the offset choose evenly among them.
    chosen = {"query": query, "random_score": {"seed": 1, "field": "offset"}, "boost_mode": "replace"}
    return {**common, "query": {"function_score": chosen}}


def _at_offsets(ranges: Mapping[int, tuple[int, int]]) -> list[Query]:
    level = sample_level(ranges, SAMPLE)
    return [{"terms": {"offset": sorted(representative(block, level) for block in _blocks(ranges, level))}}]


def _near_offsets(ranges: Mapping[int, tuple[int, int]], stored: float) -> list[Query]:
    if sum(last - first + 1 for first, last in ranges.values()) * stored <= SAMPLE:
        return []
    level = sample_level(ranges, CLUSTERS)
    length = math.ceil(SAMPLE / max(CLUSTERS, len(ranges)) / stored)  # in offsets
    begins = sorted(representative(block, level) for block in _blocks(ranges, level))
    return [{"bool": {"should": [{"range": {"offset": {"gte": begin, "lt": begin + length}}} for begin in begins]}}]


def _blocks(ranges: Mapping[int, tuple[int, int]], level: int) -> set[int]:
    return {block for first, last in ranges.values() for block in range(first >> level, (last >> level) + 1)}


def sample_level(ranges: Mapping[int, tuple[int, int]], most: int) -> int:
    """Return the lowest level at which blocks of 2^level offsets divide all ranges into at most `most` blocks in total.

    With more than `most` ranges, return the level at which the whole of each range is in a single block.
    """
    highest = max((last for _, last in ranges.values()), default=0)
    level = 0
    while highest >> level and sum((last >> level) - (first >> level) + 1 for first, last in ranges.values()) > most:
        level += 1
    return level


def representative(block: int, level: int) -> int:
    """Return the offset that represents the block of offsets from `block` * 2^level on.

    It is the offset that represents one of the two halves of the block. A hash chooses the half, so the choice is the
    same each time. A fixed rule, such as always the first half, might always choose offsets that hold transaction
    markers.
    """
    for below in range(level, 0, -1):
        mixed = (2 * block + 1) * 0x9E3779B97F4A7C15 + below * 0xD1B54A32D192ED03 & 0xFFFFFFFFFFFFFFFF
        block = 2 * block + (mixed >> 60 & 1)
    return block


def read_sample(panel: Sample, answer: Mapping[str, Any], feature: str) -> list[Row]:
    """Return a drawing's rows.

    Returns
    -------
    list of dict
        Over a feature: x, y (None if unlabelled), pred, place (topic-partition-offset) and standard_error (None if
        unknown). Predictions over labels: y, pred and place. Residuals: the histogram's start, end and count.
    """
    found = [_point(panel, hit["fields"], feature) for hit in answer["hits"]["hits"]]
    found = [row for row in found if row["x"] is not None]  # the stream may have other features than the page
    if panel.drawing == "feature":
        # A category is a text. The field may be a number in another day's index, of a run before.
        return sorted(found, key=lambda row: (isinstance(row["x"], str), row["x"]))
    labelled = [row for row in found if row["y"] is not None]
    if panel.drawing == "diagonal":
        kept = ({name: row[name] for name in ("y", "pred", "place")} for row in labelled)
        return sorted(kept, key=lambda row: float(row["y"]))
    residuals = [row["y"] - row["pred"] for row in labelled]
    return histogram([value for value in residuals if math.isfinite(value)])  # the difference may overflow float64


def _point(panel: Sample, fields: Mapping[str, Any], feature: str) -> Row:
    def value(name: str) -> Any:  # noqa: ANN401 - a number or a category
        return fields.get(name, [None])[0]

    return {
        "x": value(f"x.{feature}"),
        "y": value("y"),
        "pred": value("pred"),
        "standard_error": value("standard_error"),
        "place": f"{panel.topic}-{value('partition')}-{value('offset')}",
    }


def histogram(values: list[float]) -> list[Row]:
    """Return start, end and count of at most BINS bins of a round width, including empty bins.

    Outliers are in no bin. If there are any, a last row has their count, and None for start and end.
    """
    if not values:
        return []
    least, most = fences(values)
    inside = [value for value in values if least <= value <= most]
    lowest, highest = min(inside), max(inside)
    raw = (highest - lowest) / (BINS - 2) or 1.0
    power = 10.0 ** math.floor(math.log10(raw))
    width = next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= raw)
    first = math.floor(lowest / width)
    counts = [0] * (math.floor(highest / width) - first + 1)
    for value in inside:
        counts[math.floor(value / width) - first] += 1
    rows: list[Row] = [
        {"start": (first + i) * width, "end": (first + i + 1) * width, "count": n} for i, n in enumerate(counts)
    ]
    outliers = len(values) - len(inside)
    return [*rows, {"start": None, "end": None, "count": outliers}] if outliers else rows


def fences(values: list[float]) -> tuple[float, float]:
    """Return the limits beyond which a value is an outlier; `charts.inliers` has the same rule in Vega-Lite."""
    ordered = sorted(values)
    last = len(ordered) - 1
    if last < 1:
        return -math.inf, math.inf
    low = next((value for i, value in enumerate(ordered) if i / last >= TAIL), ordered[-1])
    high = next((value for i, value in reversed([*enumerate(ordered)]) if i / last <= 1 - TAIL), ordered[0])
    low, high = min(low, high), max(low, high)
    return low - MARGIN * (high - low), high + MARGIN * (high - low)
