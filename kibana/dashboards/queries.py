"""The live page's searches in Elasticsearch, without scripts, and how their responses become a panel's numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from dashboards import formula
from dashboards.panels import BUCKETS, SAMPLE, TIME, Line, Measure, Metric, Names, Sample, Table

Query = dict[str, Any]
Row = dict[str, Any]
STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400, 604_800)
PARTITIONS = 10_000
CLUSTERS = 100
"""Limit of the ranges of offsets in which points are searched, if only a sample of the points is stored."""
BINS = 30


@dataclass(frozen=True, slots=True)
class Extent:
    """The extent of the data in the time range: first and last offset of each partition, by topic; first and last time.

    Times are milliseconds since 1970.
    """

    offsets: Mapping[str, Mapping[int, tuple[int, int]]] = field(default_factory=dict)
    first_ms: float = 0
    last_ms: float = 0

    def of(self, topic: str) -> Mapping[int, tuple[int, int]]:
        """Return the first and last offset of each partition of a topic."""
        return self.offsets.get(topic, {})


def within(since: str | None, topic: str | None = None) -> Query:
    """Return the query for the documents of a topic since a time such as now-15m; None: all topics, any time."""
    filters: list[Query] = [{"term": {"topic": topic}}] if topic else []
    if since:
        filters.append({"range": {TIME: {"gte": since}}})
    return {"bool": {"filter": filters}}


def extent(names: Names, since: str | None) -> Query:
    """Return the search in the metrics whose response `read_extent` reads."""
    by_partition = {
        "terms": {"field": "partition", "size": PARTITIONS},
        "aggs": {"first": {"min": {"field": "first_offset"}}, "last": {"max": {"field": "last_offset"}}},
    }
    topics = {"terms": {"topic": [names.train, names.test]}}
    return {
        "size": 0,
        "query": {"bool": {"filter": [within(since), topics]}},
        "aggs": {
            "topic": {"terms": {"field": "topic"}, "aggs": {"partition": by_partition}},
            "first": {"min": {"field": TIME}},
            "last": {"max": {"field": TIME}},
        },
    }


def read_extent(answer: Mapping[str, Any]) -> Extent:
    """Return the extent from the response to `extent`; an empty one if there is no index yet."""
    found = answer.get("aggregations")
    if not found or found["first"]["value"] is None:
        return Extent()
    offsets = {
        topic["key"]: {
            int(partition["key"]): (int(partition["first"]["value"]), int(partition["last"]["value"]))
            for partition in topic["partition"]["buckets"]
        }
        for topic in found["topic"]["buckets"]
    }
    return Extent(offsets, found["first"]["value"], found["last"]["value"])


def fraction(since: str | None) -> Query:
    """Return the search in the models whose response `read_fraction` reads."""
    return {"size": 0, "query": within(since), "aggs": {"fraction": {"min": {"field": "points_fraction"}}}}


def read_fraction(answer: Mapping[str, Any]) -> float:
    """Return the smallest share of the points that was stored in the time range; 1 if no document has a share."""
    found = answer.get("aggregations", {}).get("fraction", {}).get("value")
    return 1.0 if found is None else float(found)


def newest(kind_fields: Iterable[str]) -> Query:
    """Return the search for the newest document's fields."""
    return {"size": 1, "sort": [{TIME: {"order": "desc", "unmapped_type": "date"}}], "_source": list(kind_fields)}


def metric(panel: Metric, since: str | None) -> Query:
    """Return the search whose response `read_metric` reads."""
    aggs = formula.aggregations(_formulas([panel.measure]))
    return {"size": 0, "query": within(since, panel.topic), "aggs": aggs}


def read_metric(panel: Metric, answer: Mapping[str, Any]) -> float | None:
    """Return the number; without documents, return 0 if the panel is `rare`, else None."""
    if "aggregations" not in answer or answer["hits"]["total"]["value"] == 0:
        return 0.0 if panel.rare else None
    (number,) = formula.values(_formulas([panel.measure]), answer["aggregations"])
    return number


def _formulas(measures: Sequence[Measure]) -> list[formula.Expression]:
    return [formula.parse(measure.formula) for measure in measures]


def interval(panel: Line, known: Extent) -> int:
    """Return a round width for at most BUCKETS buckets of a line, in seconds for time, else in units of the field."""
    if panel.across == TIME:
        span_s = (known.last_ms - known.first_ms) / 1000
        return next((step for step in STEPS_S if span_s / step < BUCKETS), STEPS_S[-1])
    longest = max((last for _, last in known.of(panel.topic or "").values()), default=0)
    shortest = min((first for first, _ in known.of(panel.topic or "").values()), default=0)
    power = int(10 ** math.floor(math.log10(max((longest - shortest) / BUCKETS, 1))))
    return next(step * power for step in (1, 2, 5, 10) if (longest - shortest) / (step * power) <= BUCKETS)


def line(panel: Line, since: str | None, known: Extent) -> Query:
    """Return the search whose response `read_line` reads."""
    step = interval(panel, known)
    buckets: Query = {"histogram": {"field": panel.across, "interval": step, "min_doc_count": 1}}
    if panel.across == TIME:
        buckets = {"date_histogram": {"field": TIME, "fixed_interval": f"{step}s", "min_doc_count": 1}}
    aggs = formula.aggregations(_formulas(panel.measures))
    if panel.per_second:
        aggs["began"] = {"min": {"field": TIME}}
    return {"size": 0, "query": within(since, panel.topic), "aggs": {"x": {**buckets, "aggs": aggs}}}


def read_line(panel: Line, answer: Mapping[str, Any]) -> list[Row]:
    """Return rows of x, series and value, in the order of x.

    A rate is the value of a bucket's micro-batches, divided by the seconds until the next bucket's first micro-batch
    began. So the last bucket has no rate yet.
    """
    buckets = answer.get("aggregations", {}).get("x", {}).get("buckets", [])
    seconds = [1.0] * len(buckets)
    if panel.per_second:
        began = [bucket["began"]["value"] / 1000 for bucket in buckets]
        seconds = [after - before for before, after in pairwise(began)]
    formulas = _formulas(panel.measures)
    return [
        {"x": bucket["key"], "series": measure.label, "value": number / duration}
        for bucket, duration in zip(buckets, seconds, strict=False)
        for measure, number in zip(panel.measures, formula.values(formulas, bucket), strict=True)
        if number is not None
    ]


def table(panel: Table, since: str | None) -> Query:
    """Return the search whose response `read_table` reads."""
    aggs: Query = {}
    for name, _ in reversed(panel.columns):
        terms = {"field": name, "size": panel.rows, "missing": "–"}  # a record that is invalid as a whole has no field
        aggs = {"group": {"terms": terms} | ({"aggs": aggs} if aggs else {})}
    query = within(since, panel.topic)
    if panel.without:
        query["bool"]["must_not"] = [{"exists": {"field": panel.without}}]
    return {"size": 0, "query": query, "aggs": aggs}


def read_table(panel: Table, answer: Mapping[str, Any]) -> list[list[str | int]]:
    """Return the table's rows: the fields' values and their count, the most frequent first."""

    def rows(group: Mapping[str, Any], before: list[str | int]) -> Iterable[list[str | int]]:
        for bucket in group.get("group", {}).get("buckets", []):
            row = [*before, bucket["key"]]
            if len(row) == len(panel.columns):
                yield [*row, bucket["doc_count"]]
            else:
                yield from rows(bucket, row)

    found = rows(answer.get("aggregations", {}), [])
    return sorted(found, key=lambda row: -int(row[-1]))[: panel.rows]


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
        "docvalue_fields": [f"x.{feature}", "y", "pred"],
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
    """Return a drawing's rows: x, y (None if unlabelled), pred; for residuals the histogram's start, end, count."""
    names = {f"x.{feature}": "x", "y": "y", "pred": "pred"}
    found = [
        {short: hit["fields"].get(name, [None])[0] for name, short in names.items()} for hit in answer["hits"]["hits"]
    ]
    found = [row for row in found if row["x"] is not None]  # the stream may have other features than the page
    if panel.drawing == "feature":
        # A category is a text. The field may be a number in another day's index, of a run before.
        return sorted(found, key=lambda row: (isinstance(row["x"], str), row["x"]))
    labelled = [row for row in found if row["y"] is not None]
    if panel.drawing == "diagonal":
        return sorted(({"y": row["y"], "pred": row["pred"]} for row in labelled), key=lambda row: float(row["y"]))
    residuals = [row["y"] - row["pred"] for row in labelled]
    return histogram([value for value in residuals if math.isfinite(value)])  # the difference may overflow float64


def histogram(values: list[float]) -> list[Row]:
    """Return start, end and count of at most BINS bins of a round width, including empty bins."""
    if not values:
        return []
    lowest, highest = min(values), max(values)
    raw = (highest - lowest) / (BINS - 2) or 1.0
    power = 10.0 ** math.floor(math.log10(raw))
    width = next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= raw)
    first = math.floor(lowest / width)
    counts = [0] * (math.floor(highest / width) - first + 1)
    for value in values:
        counts[math.floor(value / width) - first] += 1
    return [{"start": (first + i) * width, "end": (first + i + 1) * width, "count": n} for i, n in enumerate(counts)]
