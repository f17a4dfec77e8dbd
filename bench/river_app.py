"""The program that a Python user would write: confluent-kafka, River, and elasticsearch-py's parallel_bulk.

It takes the flags of our app. Its settings follow the projects' own advice: River's StandardScaler before
LinearRegression; orjson, the client's faster serializer; and the fastest number of threads and of documents a bulk
request that bench/pipeline.py found. Several processes share the partitions, and each has its own model: River cannot
learn one model in two processes.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any

import orjson
from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, TopicPartition
from elasticsearch import Elasticsearch, OrjsonSerializer
from elasticsearch.helpers import BULK_FLUSH, expand_action, parallel_bulk
from river import linear_model, preprocessing

from bench.harness import app_options, log_rows

LOG_EVERY = 5_000


def actions(consumer: Consumer, places: list[TopicPartition], options: argparse.Namespace) -> Iterator[Any]:
    """Yield the points to write; ends at the end of the partitions `places` if `available_now`."""
    model = preprocessing.StandardScaler() | linear_model.LinearRegression()
    started = datetime.now(timezone.utc)
    common = {"run": "river", "batch": 0}
    index = f"{options.index_prefix}-points-{started:%Y.%m.%d}"
    ended: set[Any] = set()
    while not options.available_now or len(ended) < len(places):
        messages = consumer.consume(options.chunk, timeout=0.05)
        for message in messages:
            topic, partition = message.topic(), message.partition()
            if error := message.error():
                if error.code() != KafkaError._PARTITION_EOF:
                    raise SystemExit(str(error))
                ended.add((topic, partition))
                continue
            record = orjson.loads(message.value() or b"")
            x, y = {name: record[name] for name in options.features}, record[options.label]
            pred = model.predict_one(x)
            if topic == options.kafka_train_topic:
                model.learn_one(x, y)
            offset = message.offset()
            yield {
                "_index": index,
                "_id": f"{topic}-{partition}-{offset}",
                "@timestamp": message.timestamp()[1],
                "topic": topic,
                "partition": partition,
                "offset": offset,
                "x": x,
                "y": y,
                "pred": pred,
                "squared_error": (y - pred) ** 2,
                **common,
            }
        if len(messages) < options.chunk:  # no more records for now: do not wait for a full request
            yield BULK_FLUSH


def expand(action: Any) -> Any:  # noqa: ANN401
    """Return an action's lines. parallel_bulk's default function, unlike the rest of it, does not know BULK_FLUSH."""
    return (action, None) if action is BULK_FLUSH else expand_action(action)


def main() -> None:
    options = app_options(__doc__)
    consumer = Consumer(
        {"bootstrap.servers": options.kafka_bootstrap, "group.id": options.index_prefix, "enable.auto.commit": False}
        | {"enable.partition.eof": True}
    )
    partitions = [
        TopicPartition(topic, partition, OFFSET_BEGINNING)
        for topic in (options.kafka_train_topic, options.kafka_test_topic)
        for partition in consumer.list_topics(topic).topics[topic].partitions
    ]
    places = [place for place in partitions if place.partition % options.processes == options.process]
    consumer.assign(places)
    client = Elasticsearch(options.elasticsearch_url, serializer=OrjsonSerializer(), request_timeout=60)
    rows, positions = 0, {}
    try:
        for _, answer in parallel_bulk(
            client,
            actions(consumer, places, options),
            thread_count=options.threads,
            chunk_size=options.chunk,
            expand_action_callback=expand,
        ):
            topic, partition, offset = answer["index"]["_id"].rsplit("-", 2)
            positions[topic, int(partition)] = int(offset) + 1
            rows += 1
            if rows == LOG_EVERY:
                log_rows(rows)
                consumer.commit(offsets=[TopicPartition(*place, offset) for place, offset in positions.items()])
                rows = 0
        log_rows(rows)
    finally:
        consumer.close()


if __name__ == "__main__":
    main()
