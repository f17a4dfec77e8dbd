"""The data that the demo shows, read from Kafka and Elasticsearch, not from the programs that write to them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from confluent_kafka import Consumer, TopicPartition
from elasticsearch import ApiError, TransportError
from elasticsearch import Elasticsearch as Client
from elasticsearch.helpers import scan

from embedded.kafka import TOPICS

LINES = 12
Place = tuple[str, int, int]


@dataclass(frozen=True)
class Batch:
    """One micro-batch, from its metrics and model documents; `mse` and `r2` are None without labelled records."""

    number: int
    rows: int
    mse: dict[str, float | None]
    r2: float | None
    intercept: float
    weights: dict[str, float]
    rows_per_second: float
    lag: int | None


@dataclass
class Progress:
    """The data on display; `rows` is the number of records that the demo sends."""

    rows: int
    processed: int = 0
    mse: dict[str, float | None] = field(default_factory=dict)
    batches: list[Batch] = field(default_factory=list)


@dataclass(frozen=True)
class Watcher:
    """Reads the flights' topics and the indices with prefix `spark`."""

    bootstrap: str
    client: Client

    @classmethod
    @contextmanager
    def of(cls, bootstrap: str, url: str) -> Iterator[Watcher]:
        """Yield a watcher of these servers."""
        with Client(url, request_timeout=30) as client:
            yield cls(bootstrap, client)

    def update(self, progress: Progress) -> None:
        """Update `progress`; leave it unchanged while Elasticsearch does not answer."""
        try:
            totals = self._sums({"match_all": {}}, ["topic"])
            models = self._search("models", size=LINES, sort=[{"batch": "desc"}])["hits"]["hits"]
            newest = [hit["_source"] for hit in reversed(models)]
            sums = self._sums({"terms": {"batch": [model["batch"] for model in newest]}}, ["batch", "topic"])
        except (ApiError, TransportError):
            return
        progress.processed = sum(int(total["rows"]) for total in totals.values())
        progress.mse = {topic: _mse(totals.get((topic,))) for topic in TOPICS}
        progress.batches = [_batch(model, sums) for model in newest]

    def summary(self) -> dict[str, Any]:
        """Compare the records in Kafka with the documents in Elasticsearch, one by one; add errors and model."""
        self.client.indices.refresh(index="spark-*")
        records = self._records()
        found: dict[Place, int] = defaultdict(int)
        counts = {}
        for kind in ("points", "invalid"):
            places = list(self._places(kind))
            counts[kind] = len(places)
            for place in places:
                found[place] += 1
        averages = self._search(
            "points",
            size=0,
            aggs={"topic": {"terms": {"field": "topic"}, "aggs": {"mse": {"avg": {"field": "squared_error"}}}}},
        )
        span = {"first": {"min": {"field": "@timestamp"}}, "last": {"max": {"field": "@timestamp"}}}
        newest = self._search("models", size=1, sort=[{"batch": "desc"}], aggs=span)
        model = newest["hits"]["hits"][0]["_source"]
        times = newest["aggregations"]
        seconds = (times["last"]["value"] - times["first"]["value"]) / 1000 + model["seconds"]
        return {
            "rows": len(records),
            **counts,
            "missing": len(records - found.keys()),
            "duplicates": sum(found.values()) - len(found),
            "mse": {topic["key"]: topic["mse"]["value"] for topic in averages["aggregations"]["topic"]["buckets"]},
            "weights": model["weights"],
            "intercept": model["intercept"],
            "rows_per_second": round(len(records) / seconds, 1),
        }

    def _search(self, kind: str, **body: Any) -> Any:  # noqa: ANN401 - Elasticsearch's answer
        return self.client.search(index=f"spark-{kind}-*", **body)

    def _sums(self, query: dict[str, Any], by: list[str]) -> dict[tuple[Any, ...], dict[str, float]]:
        """Return sums over the metrics documents that match `query`, grouped by the fields `by`."""
        names = ("rows", "labelled", "sum_squared_error", "sum_y", "sum_y_squared")
        sources = [{name: {"terms": {"field": name}}} for name in by]
        groups = {
            "composite": {"size": 100, "sources": sources},
            "aggs": {name: {"sum": {"field": name}} for name in names},
        }
        found = self._search("metrics", size=0, query=query, aggs={"groups": groups})
        if "aggregations" not in found:  # no index yet
            return {}
        return {
            tuple(group["key"][name] for name in by): {name: group[name]["value"] for name in names}
            for group in found["aggregations"]["groups"]["buckets"]
        }

    def _places(self, kind: str) -> Iterator[Place]:
        fields = ["topic", "partition", "offset"]
        query = {"_source": False, "docvalue_fields": fields}
        for hit in scan(self.client, index=f"spark-{kind}-*", query=query, size=10_000):
            topic, partition, offset = (hit["fields"][name][0] for name in fields)
            yield topic, partition, offset

    def _records(self) -> set[Place]:
        """Return topic, partition and offset of all records in Kafka."""
        options = {"bootstrap.servers": self.bootstrap, "group.id": "demo-summary", "log_level": 0}
        consumer = Consumer({**options, "enable.auto.commit": False, "enable.partition.eof": True})
        try:
            topics = consumer.list_topics(timeout=30).topics
            open_ends = {(topic, number) for topic in TOPICS for number in topics[topic].partitions}
            consumer.assign([TopicPartition(topic, number, 0) for topic, number in open_ends])
            records: set[Place] = set()
            while open_ends:
                for message in consumer.consume(10_000, timeout=10):
                    topic, partition = str(message.topic()), int(message.partition() or 0)
                    if message.error():  # the end of a partition
                        open_ends.discard((topic, partition))
                    else:
                        records.add((topic, partition, int(message.offset() or 0)))
            return records
        finally:
            consumer.close()


def _batch(model: dict[str, Any], sums: dict[tuple[Any, ...], dict[str, float]]) -> Batch:
    mine = {topic: sums.get((model["batch"], topic)) for topic in TOPICS}
    rows = sum(int(found["rows"]) for found in mine.values() if found)
    mse = {topic: _mse(found) for topic, found in mine.items()}
    speed = rows / model["seconds"]
    return Batch(
        model["batch"], rows, mse, _r2(mine[TOPICS[0]]), model["intercept"], model["weights"], speed, model["lag"]
    )


def _mse(sums: dict[str, float] | None) -> float | None:
    return sums["sum_squared_error"] / sums["labelled"] if sums and sums["labelled"] else None


def _r2(sums: dict[str, float] | None) -> float | None:
    """Return 1 - SSE / SST of the train records, which were predicted before they were learned."""
    if not sums or not sums["labelled"]:
        return None
    total = sums["sum_y_squared"] - sums["sum_y"] ** 2 / sums["labelled"]
    return 1 - sums["sum_squared_error"] / total if total > 0 else None
