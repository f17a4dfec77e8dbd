"""The live page's searches in Elasticsearch, without scripts, and how their responses become a panel's numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from dashboards import measures
from dashboards.panels import BUCKETS, REASONS, TIME, Event, Line, Metric, Names, Newest, Table

Query = dict[str, Any]
Row = dict[str, Any]
STEPS_S = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14_400, 21_600, 43_200, 86_400, 604_800)
PARTITIONS = 10_000
EVENT_FIELDS = [TIME, "drift", "lost", "topic", "partition", "batch"]
EVENTS = 200
"""Limit of the vertical lines of a kind of event in a chart."""


@dataclass(frozen=True, slots=True)
class Extent:
    """The extent of the data in the time range: first and last offset of each partition, by topic; time; micro-batch.

    Times are milliseconds since 1970.
    """

    offsets: Mapping[str, Mapping[int, tuple[int, int]]] = field(default_factory=dict)
    first_ms: float = 0
    last_ms: float = 0
    first_batch: int = 0
    last_batch: int = 0

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
            "first_batch": {"min": {"field": "batch"}},
            "last_batch": {"max": {"field": "batch"}},
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
    batches = (int(found[name]["value"]) for name in ("first_batch", "last_batch"))
    return Extent(offsets, found["first"]["value"], found["last"]["value"], *batches)


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


def newest_of(panel: Newest) -> Query:
    """Return the search whose response `read_newest` reads."""
    return newest([TIME, *(name for name, _ in panel.fields)])


def read_newest(panel: Newest, answer: Mapping[str, Any]) -> Row | None:
    """Return the newest document's time, as text, and its fields' values in their order; None without a document."""
    for hit in answer["hits"]["hits"]:
        return {"time": hit["_source"][TIME], "values": [hit["_source"].get(name) for name, _ in panel.fields]}
    return None


def metric(panel: Metric, since: str | None) -> Query:
    """Return the search whose response `read_metric` reads."""
    return {"size": 0, "query": within(since, panel.topic), "aggs": measures.aggregations([panel.measure])}


def read_metric(panel: Metric, answer: Mapping[str, Any]) -> float | None:
    """Return the number; without documents, return 0 if the panel is `rare`, else None."""
    if "aggregations" not in answer or answer["hits"]["total"]["value"] == 0:
        return 0.0 if panel.rare else None
    (number,) = measures.values([panel.measure], answer["aggregations"])
    return number


def interval(panel: Line, known: Extent) -> int:
    """Return a round width for at most BUCKETS buckets of a line, in seconds for time, else in units of the field."""
    if panel.across == TIME:
        span_s = (known.last_ms - known.first_ms) / 1000
        return next((step for step in STEPS_S if span_s / step < BUCKETS), STEPS_S[-1])
    if panel.across == "batch":
        length = known.last_batch - known.first_batch
    else:
        longest = max((last for _, last in known.of(panel.topic or "").values()), default=0)
        shortest = min((first for first, _ in known.of(panel.topic or "").values()), default=0)
        length = longest - shortest
    power = int(10 ** math.floor(math.log10(max(length / BUCKETS, 1))))
    return next(step * power for step in (1, 2, 5, 10) if length / (step * power) <= BUCKETS)


def line(panel: Line, since: str | None, known: Extent) -> Query:
    """Return the search whose response `read_line` reads."""
    step = interval(panel, known)
    buckets: Query = {"histogram": {"field": panel.across, "interval": step, "min_doc_count": 1}}
    if panel.across == TIME:
        buckets = {"date_histogram": {"field": TIME, "fixed_interval": f"{step}s", "min_doc_count": 1}}
    return {"size": 0, "query": within(since, panel.topic), "aggs": {"x": {**buckets, "aggs": line_aggs(panel)}}}


def line_aggs(panel: Line) -> Query:
    """Return the aggregations in each bucket of a line; Kibana's chart over time has the same."""
    began = {"began": {"min": {"field": TIME}}} if panel.per_second else {}
    return {**measures.aggregations(panel.measures), **began}


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
    return [
        {"x": bucket["key"], "series": measure.label, "value": number / duration}
        for bucket, duration in zip(buckets, seconds, strict=False)
        for measure, number in zip(panel.measures, measures.values(panel.measures, bucket), strict=True)
        if number is not None
    ]


def event(kind: Event, since: str | None) -> Query:
    """Return the search for the newest EVENTS documents of a kind of event; `read_events` reads its response."""
    query = within(since)
    any_of = [{"exists": {"field": name}} if value is None else {"term": {name: value}} for name, value in kind.fields]
    query["bool"] |= {"should": any_of, "minimum_should_match": 1}
    return {
        "size": EVENTS,
        "sort": [{TIME: {"order": "desc", "unmapped_type": "date"}}],
        "_source": EVENT_FIELDS,
        "query": query,
    }


def read_events(kind: Event, answer: Mapping[str, Any]) -> list[Row]:
    """Return the documents as Vega's rows, each with the label of its kind."""
    return [{"label": kind.label, "_source": hit["_source"]} for hit in answer["hits"]["hits"]]


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
            known = REASONS if panel.columns[len(before)][0] == "reason" else {}
            row = [*before, known.get(bucket["key"], bucket["key"])]
            if len(row) == len(panel.columns):
                yield [*row, bucket["doc_count"]]
            else:
                yield from rows(bucket, row)

    found = rows(answer.get("aggregations", {}), [])
    return sorted(found, key=lambda row: -int(row[-1]))[: panel.rows]
