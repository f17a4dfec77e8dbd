"""Writes documents like the stream's directly to Elasticsearch, and keeps their numbers for numpy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
from elasticsearch import Elasticsearch as Client
from elasticsearch.helpers import bulk
from numpy.typing import NDArray

from dashboards.panels import Names
from dashboards.templates import templates
from embedded import Elasticsearch

PARTITIONS = 2


def now() -> datetime:
    return datetime.now(timezone.utc).replace(microsecond=0)


@dataclass
class Batch:
    """The points of one partition in one micro-batch; y is NaN for a missing label."""

    topic: str
    partition: int
    first_offset: int
    time: datetime
    x: NDArray[np.float64]
    y: NDArray[np.float64]
    pred: NDArray[np.float64]

    @property
    def squared_errors(self) -> NDArray[np.float64]:
        errors: NDArray[np.float64] = (self.y - self.pred)[~np.isnan(self.y)]
        return errors**2


@dataclass
class Written:
    """All documents under one prefix."""

    names: Names
    search: Elasticsearch
    batches: list[Batch] = field(default_factory=list)
    models: list[dict[str, Any]] = field(default_factory=list)
    invalid: list[tuple[str, str | None, str]] = field(default_factory=list)  # reason, field, topic

    def __post_init__(self) -> None:
        with self._client() as client:
            for name, template in templates(self.names).items():
                client.indices.put_index_template(name=name, **template)

    def _client(self) -> Client:
        return Client(self.search.url, request_timeout=60)

    def allow(self, kind: str, **fields: Any) -> None:
        """Add fields to the mappings of a kind of documents, as a newer version of the streaming regression does."""
        name = f"{self.names.prefix}-{kind}"
        template = templates(self.names)[name]
        template["template"]["mappings"]["properties"] |= fields
        with self._client() as client:
            client.indices.put_index_template(name=name, **template)
            client.options(ignore_status=404).indices.put_mapping(index=f"{name}-*", properties=fields)

    def move(self, batch: Batch, row: int, x: float) -> None:
        """Change the first feature of a stored point."""
        name, offset = self.names.fields[0], batch.first_offset + row
        with self._client() as client:
            index, document = f"{self.names.prefix}-points-*", f"{batch.topic}-{batch.partition}-{offset}"
            (hit,) = client.search(index=index, query={"ids": {"values": [document]}})["hits"]["hits"]
            hit["_source"]["x"][name] = x
            client.index(index=hit["_index"], id=document, document=hit["_source"], refresh=True)

    def of(self, topic: str) -> list[Batch]:
        return [batch for batch in self.batches if batch.topic == topic]

    def write(
        self,
        rows: int,
        time: datetime | None = None,
        *,
        noise: float = 1.0,
        faults: Sequence[tuple[str, str | None]] = (),
        unlabelled: bool = False,
        lag: int = 0,
        gaps: Sequence[int] = (),
        fraction: float = 1.0,
        **more: Any,
    ) -> None:
        """Write a micro-batch: `rows` points for each partition of both topics, of which a `fraction` is stored; for
        train also invalid records, and gaps with these numbers of lost records. The model's document gets the fields
        of `more`.
        """
        number = len(self.models)
        rng = np.random.default_rng(number)
        time = time or now()
        made = []
        for topic in (self.names.train, self.names.test):
            for partition in range(PARTITIONS):
                before = [batch for batch in self.of(topic) if batch.partition == partition]
                first = before[-1].first_offset + len(before[-1].y) if before else 0
                x = rng.normal(size=(rows, len(self.names.features))) * 10
                y = x.sum(axis=1) + 2
                pred = y + rng.normal(size=rows) * noise
                if unlabelled and topic == self.names.test:
                    y = np.where(np.arange(rows) % 2, y, np.nan)
                made.append(Batch(topic, partition, first, time, x, y, pred))
        weights = dict(zip(self.names.columns, rng.normal(size=len(self.names.columns)).tolist(), strict=True))
        seen = sum(len(batch.y) for batch in [*self.batches, *made] if batch.topic == self.names.train)
        model = {"intercept": float(number), "weights": weights, "rows_seen": seen, "seconds": 1.5 + number, "lag": lag}
        model |= {"points_fraction": fraction, **more}
        self.models.append({**model, "time": time})
        self.batches += made
        self.invalid += [(reason, name, self.names.train) for reason, name in faults]
        documents = [*self._documents(number, time, made, model, faults), *self._gaps(number, time, gaps)]
        with self._client() as client:
            for last in (
                False,
                True,
            ):  # metrics last and together: a reader that sees them also finds the other documents
                bulk(
                    client,
                    [document for document in documents if ("-metrics-" in document["_index"]) == last],
                    refresh=True,
                )

    def _documents(
        self,
        number: int,
        time: datetime,
        made: list[Batch],
        model: dict[str, Any],
        faults: Sequence[tuple[str, str | None]],
    ) -> Iterator[dict[str, Any]]:
        def index(kind: str) -> str:
            return f"{self.names.prefix}-{kind}-{time:%Y.%m.%d}"

        common = {"run": "test", "@timestamp": time.isoformat()}
        for batch in made:
            place = {"topic": batch.topic, "partition": batch.partition}
            stored = np.random.default_rng(batch.first_offset).random(len(batch.y)) < model["points_fraction"]
            for i in np.flatnonzero(stored).tolist():
                offset = batch.first_offset + i
                label = {} if np.isnan(batch.y[i]) else {"y": batch.y[i]}
                error = {"squared_error": (batch.y[i] - batch.pred[i]) ** 2} if label else {}
                x = {
                    field: categories[int(value) % len(categories)] if categories else value
                    for (field, categories), value in zip(
                        self.names.categories.items(), batch.x[i].tolist(), strict=True
                    )
                }
                yield {
                    "_index": index("points"),
                    "_id": f"{batch.topic}-{batch.partition}-{offset}",
                    **common,
                    **place,
                    "offset": offset,
                    "batch": number,
                    "x": x,
                    "pred": batch.pred[i],
                    **label,
                    **error,
                }
            y = batch.y[~np.isnan(batch.y)]
            bad = len(faults) if batch.topic == self.names.train and batch.partition == 0 else 0
            yield {
                "_index": index("metrics"),
                "_id": f"{number}-{batch.topic}-{batch.partition}",
                **common,
                **place,
                "batch": number,
                "first_offset": batch.first_offset,
                "invalid": bad,
                "last_offset": batch.first_offset + len(batch.y) - 1,
                "rows": len(batch.y),
                "labelled": len(y),
                "sum_squared_error": batch.squared_errors.sum(),
                "sum_y": y.sum(),
                "sum_y_squared": (y**2).sum(),
                "sum_absolute_error": np.sqrt(batch.squared_errors).sum(),
            }
        yield {**common, "_index": index("models"), "_id": str(number), "batch": number, "learner": "rls", **model}
        for i, (reason, name) in enumerate(faults):
            offset = 10**9 + 1000 * number + i
            place = {"topic": self.names.train, "partition": 0, "offset": offset}
            document = {**common, **place, "field": name, "reason": reason, "value": "?"}
            yield {"_index": index("invalid"), "_id": f"{self.names.train}-0-{offset}", **document}

    def _gaps(self, number: int, time: datetime, gaps: Sequence[int]) -> Iterator[dict[str, Any]]:
        for i, lost in enumerate(gaps):
            offset = 2 * 10**9 + 10**6 * number + 1000 * i
            yield {
                "_index": f"{self.names.prefix}-invalid-{time:%Y.%m.%d}",
                "_id": f"{self.names.train}-0-{offset}-gap",
                "run": "test",
                "@timestamp": time.isoformat(),
                "topic": self.names.train,
                "partition": 0,
                "offset": offset,
                "last_offset": offset + lost - 1,
                "lost": lost,
                "reason": "lost: deleted from Kafka before it was read",
            }


def mse(batches: Sequence[Batch]) -> float:
    return float(np.concatenate([batch.squared_errors for batch in batches]).mean())


def mean_absolute_error(batches: Sequence[Batch]) -> float:
    return float(np.sqrt(np.concatenate([batch.squared_errors for batch in batches])).mean())


def variance(batches: Sequence[Batch]) -> float:
    """The mean squared error of a constant prediction, the mean of the labels."""
    y = np.concatenate([batch.y for batch in batches])
    return float(np.var(y[~np.isnan(y)]))


def r2(batches: Sequence[Batch]) -> float:
    y = np.concatenate([batch.y for batch in batches])
    residuals = y - np.concatenate([batch.pred for batch in batches])
    known = ~np.isnan(y)
    return float(1 - np.sum(residuals[known] ** 2) / np.sum((y[known] - y[known].mean()) ** 2))


def hours_ago(hours: float) -> datetime:
    return now() - timedelta(hours=hours)
