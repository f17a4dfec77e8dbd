"""Uses what a stream uses of Java, so that Java can keep those classes, parsed and verified, in an archive (CDS).

To be run in a JVM with -XX:ArchiveClassesAtExit=FILE, for .venv and for the image; one with -XX:SharedArchiveFile=FILE
is at work in two thirds of the time. A JVM of another version, or with other jars, ignores that file. Needs no server.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress

import pyarrow as pa
from py4j.protocol import Py4JJavaError
from pyspark.errors import StreamingQueryException
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.functions import col, current_timestamp, lit

NOBODY = "127.0.0.1:9"
COLUMNS = ("topic", "partition", "offset", "timestamp", "value")  # of Kafka's source


def main() -> None:
    """Process a micro-batch, and ask for Kafka and Kubernetes where neither is."""
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    spark = SparkSession.builder.config("spark.ui.showConsoleProgress", "false").getOrCreate()
    spark.sparkContext.setLogLevel("OFF")
    ticks = spark.readStream.format("rate-micro-batch").option("rowsPerBatch", 10).load()
    named = {"topic": lit("train"), "partition": lit(0), "offset": col("value"), "value": lit(b"{}")}
    stream(ticks.withColumns(named))
    quick = {"request.timeout.ms": "500", "default.api.timeout.ms": "500", "bootstrap.servers": NOBODY}
    kafka = spark.readStream.format("kafka").options(**{f"kafka.{key}": value for key, value in quick.items()})
    with suppress(StreamingQueryException):
        stream(kafka.option("fetchOffset.numRetries", 1).option("subscribe", "train").load())
    jvm = spark._jvm
    assert jvm is not None  # noqa: S101 - it is there, as the stream was
    values = {"key.deserializer": "org.apache.kafka.common.serialization.ByteArrayDeserializer"}
    values["value.deserializer"] = values["key.deserializer"]
    consumer = jvm.org.apache.kafka.clients.consumer.KafkaConsumer(quick | values)
    with suppress(Py4JJavaError):
        consumer.listTopics()
    consumer.close()
    client = jvm.io.fabric8.kubernetes.client
    config = client.ConfigBuilder().withMasterUrl(f"https://{NOBODY}").withRequestRetryBackoffLimit(0).build()
    kubernetes = client.KubernetesClientBuilder().withConfig(config).build()
    with suppress(Py4JJavaError):
        kubernetes.pods().inNamespace("default").list()
    kubernetes.close()
    spark.stop()
    gateway = spark.sparkContext._gateway
    if gateway and gateway.proc:  # Java is this program's child, as it is not in the image, and writes at its end
        gateway.proc.communicate()


def stream(records: DataFrame) -> None:
    """Run a query over `records` to its end."""
    with tempfile.TemporaryDirectory() as folder:
        writer = records.select(*COLUMNS).withColumn("batch_time", current_timestamp()).writeStream
        writer = writer.foreachBatch(process).option("checkpointLocation", folder).trigger(availableNow=True)
        writer.start().awaitTermination()


def process(frame: DataFrame, _: int) -> None:
    """Collect what Python workers return."""
    frame.coalesce(4).mapInArrow(rows, "rows long, factor array<double>").collect()


def rows(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """Yield one row per batch."""
    for batch in batches:
        yield pa.RecordBatch.from_pydict({"rows": [batch.num_rows], "factor": [[1.0]]})


if __name__ == "__main__":
    main()
