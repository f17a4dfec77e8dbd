"""The Spark session: the JVM's options, its start and its end."""

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
from streaming_regression.kafka.connection import OPTION
from streaming_regression.settings import Settings
from streaming_regression.stopping import Stop

log = logging.getLogger(__name__)

CLASSES = Path(pyspark.__file__).with_name("classes.jsa")  # exists if spark-apps/archive.py was run
LOG4J = Path(__file__).parents[1] / "log4j2.properties"
FILE_MANAGER = "spark.sql.streaming.checkpointFileManagerClass"
BY_FILE_SYSTEM = "org.apache.spark.sql.execution.streaming.checkpointing.FileSystemBasedCheckpointFileManager"
BATCHES_KEPT = 100
"""Micro-batches whose offsets Spark keeps in the checkpoint."""
WARM_UP_WITHIN_S = 5.0
"""Limit for the job of `warm_up`; it takes longer only while no executor is running."""


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
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # otherwise the first python3 on the PATH
    if "PYSPARK_GATEWAY_PORT" not in os.environ:  # not started by spark-submit: Spark runs on this machine only
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    builder = SparkSession.builder
    for key, value in _options(settings).items():
        builder = builder.config(key, value)
    # Started in a thread of its own, because in the main thread Spark would install its own handler of SIGINT. A signal
    # does not interrupt the start: a JVM ends with this process once it is running, but never if its start was
    # interrupted.
    with logs.relayed(settings.log_format), ThreadPoolExecutor(1) as starting:
        try:
            spark = starting.submit(builder.getOrCreate).result()
        except PySparkRuntimeError as error:
            raise ConfigError(
                "Spark's JVM did not start (the lines before this one may name the cause): Spark needs Java 17 or "
                "newer, on the PATH or in the folder JAVA_HOME"
            ) from error
    spark.sparkContext.environment[OPTION] = os.environ.get(OPTION, "")  # of the Python processes on executors
    try:
        yield spark
    except (Py4JError, ConnectionError, PySparkException) as error:
        if not _java_ended():
            raise
        if stop.signalled:  # the signal was sent to all processes at once
            log.info(
                "stopped by a signal during a micro-batch, which will be replayed: the signal also ended Spark's JVM"
            )
            raise SystemExit(0) from error
        raise ServerUnavailable(
            "Spark's JVM ended unexpectedly (was it killed for its memory?): start the app again to replay the "
            "micro-batch"
        ) from error
    except StreamError:
        _stop(spark)
        raise
    # Not after SystemExit: it may have interrupted a call to the JVM, and the next call would read that call's answer.
    # The JVM shuts down in order when this process ends.
    _stop(spark)


@contextmanager
def warm_up(spark: SparkSession, function: Callable[[Iterable[object]], Iterable[object]]) -> Iterator[None]:
    """Start the Python workers in the background, by a Spark job that calls `function` in each.

    Without it the first micro-batch waits for their imports. The end of the block waits for the job, because Spark logs
    errors when it stops while a job runs.
    """
    context = spark.sparkContext
    cores = context.defaultParallelism

    def run() -> None:
        with suppress(Exception):  # the program may end meanwhile; the first micro-batch raises any other fault
            context.parallelize(range(cores), cores).mapPartitions(function).collect()

    job = threading.Thread(target=run, name="warm-up", daemon=True)
    job.start()
    try:
        yield
    finally:
        job.join(WARM_UP_WITHIN_S)


def _options(settings: Settings) -> dict[str, str]:
    java = f"{settings.java_options} -Dlog4j2.configurationFile={LOG4J} -Dform={settings.log_format}"
    if CLASSES.exists():
        java += f" -XX:SharedArchiveFile={CLASSES} -Xlog:disable -Xlog:all=error:stderr"  # silent if it does not match
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
        # Hadoop's default file system for a local disk runs `chmod` for each file: 4 processes a micro-batch. It also
        # writes checksum files, and a file and its checksum cannot be renamed in one step.
        "spark.hadoop.fs.file.impl": "org.apache.hadoop.fs.RawLocalFileSystem",
        # The rows of a micro-batch are a few ranges of offsets: compiling code for them costs more than it saves.
        "spark.sql.codegen.wholeStage": "false",
        "spark.sql.codegen.factoryMode": "NO_CODEGEN",
        # History of the UI: with the defaults the driver's memory grows for the first thousand micro-batches.
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
    """Whether the JVM has ended, or ends within 5 s."""
    process = SparkContext._gateway and SparkContext._gateway.proc
    if process is None:  # spark-submit started the JVM, not this process
        return False
    with suppress(TimeoutExpired):
        process.wait(5)
    return process.poll() is not None
