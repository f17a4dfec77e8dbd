"""Loads the Java classes of a stream, so that the JVM can store them, parsed and verified, in a CDS archive.

Run it in a JVM with -XX:ArchiveClassesAtExit=FILE, for .venv and for the image. A JVM with -XX:SharedArchiveFile=FILE
then starts in two thirds of the time. A JVM of another version or with other jars ignores the file. It needs no server.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress

from py4j.protocol import Py4JJavaError
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql.datasource import DataSource, DataSourceStreamReader, InputPartition
from pyspark.sql.streaming.datasource import ReadLimit, SupportsTriggerAvailableNow
from pyspark.sql.types import StructType

NOBODY = "127.0.0.1:9"


class Range(InputPartition):
    """The range that a task reads."""


class Ranges(DataSource):
    """A Python data source like the app's."""

    @classmethod
    def name(cls) -> str:
        """Return the name of the source."""
        return "archived-ranges"

    def schema(self) -> str:
        """Return the columns."""
        return "topic string, partition int, start bigint, end bigint"

    def streamReader(self, schema: StructType) -> DataSourceStreamReader:  # noqa: ARG002, N802 - Spark's signature
        """Return the reader."""
        return Reader()


class Reader(DataSourceStreamReader, SupportsTriggerAvailableNow):
    """Reads one range, once."""

    def initialOffset(self) -> dict[str, dict[str, int]]:  # noqa: N802
        """Return the first offset."""
        return {"train": {"0": 0}}

    def prepareForTriggerAvailableNow(self) -> None:  # noqa: N802
        """Do nothing: the end is always the same."""

    def latestOffset(self, start: object, limit: ReadLimit) -> dict[str, dict[str, int]]:  # noqa: ARG002, N802
        """Return the end."""
        return {"train": {"0": 1}}

    def partitions(self, start: object, end: object) -> list[Range]:  # noqa: ARG002
        """Return the tasks."""
        return [Range(0)]

    def read(self, partition: InputPartition) -> Iterator[tuple[str, int, int, int]]:  # noqa: ARG002
        """Yield the ranges of a task."""
        yield "train", 0, 0, 1


def main() -> None:
    """Process micro-batches, and call a Kubernetes API that is not there, to load the classes of both."""
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
    spark = SparkSession.builder.config("spark.ui.showConsoleProgress", "false").getOrCreate()
    spark.sparkContext.setLogLevel("OFF")
    spark.dataSource.register(Ranges)
    stream(spark.readStream.format(Ranges.name()).load())
    jvm = spark._jvm
    assert jvm is not None  # noqa: S101 - the stream has started it
    client = jvm.io.fabric8.kubernetes.client
    config = client.ConfigBuilder().withMasterUrl(f"https://{NOBODY}").withRequestRetryBackoffLimit(0).build()
    kubernetes = client.KubernetesClientBuilder().withConfig(config).build()
    with suppress(Py4JJavaError):
        kubernetes.pods().inNamespace("default").list()
    kubernetes.close()
    spark.stop()
    gateway = spark.sparkContext._gateway
    if gateway and gateway.proc:  # the JVM writes the archive when it ends; in the image it is not a child process
        gateway.proc.communicate()


def stream(ranges: DataFrame) -> None:
    """Run a query over `ranges` to its end."""
    with tempfile.TemporaryDirectory() as folder:
        writer = (
            ranges.writeStream.foreachBatch(process).option("checkpointLocation", folder).trigger(availableNow=True)
        )
        writer.start().awaitTermination()


def process(frame: DataFrame, _: int) -> None:
    """Collect what Python workers return."""
    frame.sparkSession.sparkContext.parallelize([[1]], 1).mapPartitions(list).collect()


if __name__ == "__main__":
    main()
