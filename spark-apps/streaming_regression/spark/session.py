"""The Spark session: the JVM's options, its start, and what its end means."""

from __future__ import annotations

import logging
import os
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import TimeoutExpired

import pyspark
from py4j.protocol import Py4JError
from pyspark.core.context import SparkContext
from pyspark.errors import PySparkException, PySparkRuntimeError
from pyspark.sql import SparkSession

from streaming_regression import logs
from streaming_regression.errors import ConfigError, ServerUnavailable, StreamError
from streaming_regression.settings import Settings
from streaming_regression.stopping import Stop

log = logging.getLogger(__name__)

CLASSES = Path(pyspark.__file__).with_name("classes.jsa")  # made by spark-apps/archive.py, where it was
LOG4J = Path(__file__).parents[1] / "log4j2.properties"
FILE_MANAGER = "spark.sql.streaming.checkpointFileManagerClass"
BY_FILE_SYSTEM = "org.apache.spark.sql.execution.streaming.checkpointing.FileSystemBasedCheckpointFileManager"
BATCHES_KEPT = 100
"""Micro-batches whose offsets Spark keeps in the checkpoint."""


@contextmanager
def session(settings: Settings, stop: Stop) -> Iterator[SparkSession]:
    """Yield a Spark session; it is stopped at the end of the block.

    Raises
    ------
    ConfigError
        When the JVM does not start.
    ServerUnavailable
        When the JVM ends within the block.
    """
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # else the workers take the first python3 of the path
    if "PYSPARK_GATEWAY_PORT" not in os.environ:  # no spark-submit around this: Spark is on this machine alone
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    builder = SparkSession.builder
    for key, value in _options(settings).items():
        builder = builder.config(key, value)
    # In a thread of its own: in the main one Spark would answer SIGINT from now on, in its way. To its end, whatever
    # signal comes: a JVM that is up ends when this process does, one whose start was broken off stays for ever.
    with logs.relayed(settings.log_format), ThreadPoolExecutor(1) as starting:
        try:
            spark = starting.submit(builder.getOrCreate).result()
        except PySparkRuntimeError as error:
            raise ConfigError(
                "Spark's Java did not start (the lines before may say why): it needs Java 17 or newer on the PATH, or "
                "where JAVA_HOME points to"
            ) from error
    try:
        yield spark
    except (Py4JError, ConnectionError, PySparkException) as error:
        if not _java_ended():
            raise
        if stop.told:  # with a signal to all processes at once
            log.info("stopped, as told, within a micro-batch, which will be replayed: Spark's Java was told, too")
            raise SystemExit(0) from error
        raise ServerUnavailable(
            "Spark's Java ended (killed for its memory, or by someone?): start again, which replays the micro-batch"
        ) from error
    except StreamError:
        _stop(spark)
        raise
    # Not after SystemExit, which may come out of a call to the JVM: the next call would take its answer for its own.
    # The JVM stops in order when this process ends.
    _stop(spark)


def warm_up(spark: SparkSession, function: Callable[[Iterable[object]], Iterable[object]]) -> None:
    """Start the Python workers in the background, by a Spark job that calls `function` in each.

    The driver prepares the query meanwhile. Without it the first micro-batch waits for their imports.
    """
    context = spark.sparkContext
    cores = context.defaultParallelism

    def run() -> None:
        with suppress(Exception):  # if the program ends meanwhile; any other fault the first micro-batch tells
            context.parallelize(range(cores), cores).mapPartitions(function).collect()

    threading.Thread(target=run, name="warm-up", daemon=True).start()


def _options(settings: Settings) -> dict[str, str]:
    # Java's second compiler costs Spark here more than it brings, above all in the first minute.
    java = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m "  # as large as with both
    java += f"-Dlog4j2.configurationFile={LOG4J} -Dform={settings.log_format}"
    if CLASSES.exists():
        java += f" -XX:SharedArchiveFile={CLASSES} -Xlog:disable -Xlog:all=error:stderr"  # no word if it does not fit
    if settings.log_level == "DEBUG":
        java += " -Dstack=full -Dstreaming=warn"
    return {
        "spark.app.name": "streaming-regression",
        "spark.driver.extraJavaOptions": java,
        "spark.ui.showConsoleProgress": "false",
        "spark.python.daemon.module": "streaming_regression.spark.daemon",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.pyspark.jvmStacktrace.enabled": "true",
        "spark.sql.streaming.minBatchesToRetain": str(BATCHES_KEPT),
        "spark.sql.streaming.stopTimeout": "5s",
        # Hadoop's other file system for a local disk starts `chmod` for each file: 4 processes a micro-batch. It also
        # writes checksums beside the files, and a file and its checksum cannot be renamed in one step.
        "spark.hadoop.fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
        # The rows of a micro-batch are a few ranges of offsets: compiling code for them costs more than it saves.
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        # What the UI remembers: else the driver grows for the first thousand micro-batches.
        "spark.ui.retainedJobs": "100",
        "spark.ui.retainedStages": "100",
        "spark.ui.retainedTasks": "1000",
        "spark.sql.ui.retainedExecutions": "50",
        "spark.sql.streaming.ui.retainedQueries": "5",
    }


def _stop(spark: SparkSession) -> None:
    with suppress(Py4JError, ConnectionError):  # Java has ended already
        spark.stop()


def _java_ended() -> bool:
    """Whether the JVM has ended, or does so now."""
    process = SparkContext._gateway and SparkContext._gateway.proc
    if process is None:  # it is not ours: spark-submit is around this
        return False
    with suppress(TimeoutExpired):
        process.wait(5)
    return process.poll() is not None
