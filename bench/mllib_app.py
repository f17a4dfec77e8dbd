"""The straightforward port of the proof of concept: Spark, from_json, MLlib's learner, elasticsearch-py's bulk helper.

It takes the flags of our app. Its settings follow the projects' own advice: the micro-batch is cached, because MLlib
reads it once per iteration; features are scaled to about 1, because MLlib's gradient descent diverges otherwise; bulk
requests have 5,000 documents and use orjson. Spark's Kafka connector is downloaded once, from Maven Central. The update
is that of pyspark's StreamingLinearRegressionWithSGD.trainOn, whose DStreams can no longer read Kafka.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import datetime, timezone
from functools import partial
from typing import Any

import pyspark
from elasticsearch import Elasticsearch, OrjsonSerializer
from elasticsearch.helpers import bulk
from pyspark.mllib.regression import LabeledPoint, LinearRegressionWithSGD
from pyspark.sql import DataFrame, Row, SparkSession
from pyspark.sql.functions import col, from_json, lit, unix_millis
from pyspark.sql.types import DoubleType, StructField, StructType

from bench.harness import app_options, log_rows

SCALES = {"dep_delay": 60.0, "distance": 1000.0, "air_time": 150.0}


def write(rows: Iterable[Row], url: str, index: str, features: list[str], batch: int) -> None:
    """Write a partition's points; runs on executors."""

    def actions() -> Iterator[dict[str, Any]]:
        for row in rows:
            yield {
                "_index": index,
                "_id": f"{row.topic}-{row.partition}-{row.offset}",
                "run": "mllib",
                "batch": batch,
                "@timestamp": row.timestamp,
                "topic": row.topic,
                "partition": row.partition,
                "offset": row.offset,
                "x": {name: row[name] for name in features},
                "y": row.y,
                "pred": row.pred,
                "squared_error": row.squared_error,
            }

    with Elasticsearch(url, serializer=OrjsonSerializer(), request_timeout=60) as client:
        bulk(client, actions(), chunk_size=5_000)


def main() -> None:
    options = app_options(__doc__)
    features, label = options.features, options.label
    settings: dict[str, bool | float | int | str | None] = {
        "spark.ui.showConsoleProgress": "false",
        "spark.jars.packages": f"org.apache.spark:spark-sql-kafka-0-10_2.13:{pyspark.__version__}",
        "spark.jars.excludes": "org.slf4j:slf4j-api,org.apache.hadoop:hadoop-client-api,"
        "org.apache.hadoop:hadoop-client-runtime",  # pyspark has them
    }
    spark = SparkSession.builder.config(map=settings).getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    schema = StructType([StructField(name, DoubleType()) for name in [*features, label]])
    records = (
        spark.readStream.format("kafka")
        .option("kafka.bootstrap.servers", options.kafka_bootstrap)
        .option("subscribe", f"{options.kafka_train_topic},{options.kafka_test_topic}")
        .option("startingOffsets", "earliest")
        .option("maxOffsetsPerTrigger", options.max_offsets_per_trigger)
        .load()
        .withColumn("record", from_json(col("value").cast("string"), schema))
        .select("topic", "partition", "offset", unix_millis("timestamp").alias("timestamp"), "record.*")
        .withColumnRenamed(label, "y")
        .dropna()
    )
    scales = [SCALES.get(name, 1.0) for name in features]
    weights = [[0.0] * len(features)]
    index = f"{options.index_prefix}-points-{datetime.now(timezone.utc):%Y.%m.%d}"

    def process(batch: DataFrame, number: int) -> None:
        pred = lit(0.0)
        for name, weight, scale in zip(features, weights[0], scales, strict=True):
            pred += col(name) * (weight / scale)
        batch = batch.withColumn("pred", pred).withColumn("squared_error", (col("y") - col("pred")) ** 2).persist()
        about = {"url": options.elasticsearch_url, "index": index, "features": features, "batch": number}
        batch.foreachPartition(partial(write, **about))
        train = batch.where(col("topic") == options.kafka_train_topic).select("y", *features).rdd
        points = train.map(lambda row: LabeledPoint(row[0], [v / s for v, s in zip(row[1:], scales, strict=True)]))
        points = points.coalesce(spark.sparkContext.defaultParallelism)  # else: a task per partition and iteration
        if not points.isEmpty():
            model = LinearRegressionWithSGD.train(points, 50, 0.1, 1.0, weights[0], convergenceTol=0.001)
            weights[0] = model.weights.toArray().tolist()
        log_rows(batch.count())
        batch.unpersist()

    writer = records.writeStream.foreachBatch(process).option("checkpointLocation", options.checkpoint)
    if options.available_now:
        writer = writer.trigger(availableNow=True)  # otherwise a micro-batch begins when the previous one ends
    writer.start().awaitTermination()


if __name__ == "__main__":
    main()
