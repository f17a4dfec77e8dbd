"""What the live page asks Elasticsearch, and how the answers become a panel's numbers. No scripts are needed."""

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
"""Ranges of offsets at most, in each of which some points are looked up where the stored points are a sample."""
BINS = 30


@dataclass(frozen=True, slots=True)
class Extent:
    """What there is in the time range: per topic the partitions' first and last offsets, and the first and last time.

    Times are milliseconds since 1970.
    """

    offsets: Mapping[str, Mapping[int, tuple[int, int]]] = field(default_factory=dict)
    first_ms: float = 0
    last_ms: float = 0

    def of(self, topic: str) -> Mapping[int, tuple[int, int]]:
        """Return the first and last offset of each partition of a topic."""
        return self.offsets.get(topic, {})


def within(since: str | None, topic: str | None = None) -> Query:
    """Return the query for the documents since a time, such as now-15m, of a topic."""
    filters: list[Query] = [{"term": {"topic": topic}}] if topic else []
    if since:
        filters.append({"range": {TIME: {"gte": since}}})
    return {"bool": {"filter": filters}}


def extent(names: Names, since: str | None) -> Query:
    """Return the search, in the metrics, that `read_extent` reads."""
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
    """Return what the answer to `extent` says; nothing, where there is no index yet."""
    found = answer.get("aggregations")
    if not found or found["first"]["value"] is None:
        return Extent()
    offsets = {
        topic["key"]: {
            int(one["key"]): (int(one["first"]["value"]), int(one["last"]["value"]))
            for one in topic["partition"]["buckets"]
        }
        for topic in found["topic"]["buckets"]
    }
    return Extent(offsets, found["first"]["value"], found["last"]["value"])


def fraction(since: str | None) -> Query:
    """Return the search, in the models, that `read_fraction` reads."""
    return {"size": 0, "query": within(since), "aggs": {"fraction": {"min": {"field": "points_fraction"}}}}


def read_fraction(answer: Mapping[str, Any]) -> float:
    """Return the smallest share of the points that was stored in the time range; 1 where no document tells."""
    found = answer.get("aggregations", {}).get("fraction", {}).get("value")
    return 1.0 if found is None else float(found)


def newest(kind_fields: Iterable[str]) -> Query:
    """Return the search for the newest document's fields."""
    return {"size": 1, "sort": [{TIME: {"order": "desc", "unmapped_type": "date"}}], "_source": list(kind_fields)}


def metric(panel: Metric, since: str | None) -> Query:
    """Return the search that `read_metric` reads."""
    aggs = formula.aggregations(_formulas([panel.measure]))
    return {"size": 0, "query": within(since, panel.topic), "aggs": aggs}


def read_metric(panel: Metric, answer: Mapping[str, Any]) -> float | None:
    """Return the number; where there are no documents it is 0 if the panel counts what is rare, else None."""
    if "aggregations" not in answer or answer["hits"]["total"]["value"] == 0:
        return 0.0 if panel.rare else None
    (number,) = formula.values(_formulas([panel.measure]), answer["aggregations"])
    return number


def _formulas(measures: Sequence[Measure]) -> list[formula.Expression]:
    return [formula.parse(measure.formula) for measure in measures]


def interval(panel: Line, known: Extent) -> int:
    """Return the width of a line's buckets, round and so that there are at most BUCKETS: seconds, or units."""
    if panel.across == TIME:
        span_s = (known.last_ms - known.first_ms) / 1000
        return next((step for step in STEPS_S if span_s / step < BUCKETS), STEPS_S[-1])
    longest = max((last for _, last in known.of(panel.topic or "").values()), default=0)
    shortest = min((first for first, _ in known.of(panel.topic or "").values()), default=0)
    power = int(10 ** math.floor(math.log10(max((longest - shortest) / BUCKETS, 1))))
    return next(step * power for step in (1, 2, 5, 10) if (longest - shortest) / (step * power) <= BUCKETS)


def line(panel: Line, since: str | None, known: Extent) -> Query:
    """Return the search that `read_line` reads."""
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

    A rate is what a bucket's micro-batches hold, per second until the next bucket's first one began; so there is none
    yet for the last bucket.
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
    """Return the search that `read_table` reads."""
    aggs: Query = {}
    for name, _ in reversed(panel.columns):
        terms = {"field": name, "size": panel.rows, "missing": "–"}  # a record that is wrong as a whole has no field
        aggs = {"group": {"terms": terms} | ({"aggs": aggs} if aggs else {})}
    query = within(since, panel.topic)
    if panel.without:
        query["bool"]["must_not"] = [{"exists": {"field": panel.without}}]
    return {"size": 0, "query": query, "aggs": aggs}


def read_table(panel: Table, answer: Mapping[str, Any]) -> list[list[str | int]]:
    """Return the table's rows: the fields' values and their number, the most frequent first."""

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

    Where all points are stored, one offset stands for each block of a power of two: as the stream goes on the same
    points stay in the sample and new ones come in, until the blocks double, so the drawing does not jump. And they are
    looked up in the index of offsets (an `ids` query would look into every segment for every id), and read from
    columns: the cost hardly depends on the number of points.

    Parameters
    ----------
    stored
        The share of the points that is stored. Below 1 nearly no single offset would be found, so it is ranges of
        offsets that stand for the blocks, as long as it takes to find as many points.
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
    # More than SAMPLE may match, by chance or because more were stored before. A hash of the offset chooses evenly.
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
    return [{"bool": {"should": [{"range": {"offset": {"gte": one, "lt": one + length}}} for one in begins]}}]


def _blocks(ranges: Mapping[int, tuple[int, int]], level: int) -> set[int]:
    return {block for first, last in ranges.values() for block in range(first >> level, (last >> level) + 1)}


def sample_level(ranges: Mapping[int, tuple[int, int]], most: int) -> int:
    """Return the lowest power of two by which offsets are cut into at most `most` blocks, all ranges taken together.

    With more ranges than that it is the one where each is a single block.
    """
    highest = max((last for _, last in ranges.values()), default=0)
    level = 0
    while highest >> level and sum((last >> level) - (first >> level) + 1 for first, last in ranges.values()) > most:
        level += 1
    return level


def representative(block: int, level: int) -> int:
    """Return the offset that stands for the offsets from `block` * 2^level on: that of one of the block's two halves.

    Which half is a matter of chance, but always the same: else it might always be one of those offsets that hold a mark
    of a transaction.
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
    found = [row for row in found if row["x"] is not None]  # the stream's features may be others than the page's
    if panel.drawing == "feature":
        return sorted(found, key=lambda row: float(row["x"]))
    labelled = [row for row in found if row["y"] is not None]
    if panel.drawing == "diagonal":
        return sorted(({"y": row["y"], "pred": row["pred"]} for row in labelled), key=lambda row: float(row["y"]))
    residuals = [row["y"] - row["pred"] for row in labelled]
    return histogram([one for one in residuals if math.isfinite(one)])  # the difference may exceed float64's range


def histogram(values: list[float]) -> list[Row]:
    """Return start, end and count of at most BINS bins of a round width, empty ones included."""
    if not values:
        return []
    lowest, highest = min(values), max(values)
    raw = (highest - lowest) / (BINS - 2) or 1.0
    power = 10.0 ** math.floor(math.log10(raw))
    width = next(step * power for step in (1, 2, 2.5, 5, 10) if step * power >= raw)
    first = math.floor(lowest / width)
    counts = [0] * (math.floor(highest / width) - first + 1)
    for one in values:
        counts[math.floor(one / width) - first] += 1
    return [{"start": (first + i) * width, "end": (first + i + 1) * width, "count": n} for i, n in enumerate(counts)]
