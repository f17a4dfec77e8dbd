"""The program: checks the servers, starts the streaming query, and keeps it going until it is told to stop."""

from __future__ import annotations

import logging
import os
import re
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from subprocess import TimeoutExpired

import numpy as np
import pyspark
from py4j.protocol import Py4JError, Py4JJavaError
from pyspark.core.context import SparkContext
from pyspark.errors import PySparkException, PySparkRuntimeError, StreamingQueryException
from pyspark.sql import SparkSession
from pyspark.sql.functions import current_timestamp
from pyspark.sql.streaming.query import StreamingQuery

from streaming_regression import kafka, logs, sink
from streaming_regression.errors import ConfigError, Refused, ServerUnavailable, StreamError
from streaming_regression.kafka import Brokers
from streaming_regression.learners import GradientDescent, Learner, RecursiveLeastSquares
from streaming_regression.regression import Regression
from streaming_regression.settings import Settings, split
from streaming_regression.state import Identity, StateStore, in_use
from streaming_regression.stopping import Stop

log = logging.getLogger(__name__)

CLASSES = Path(pyspark.__file__).with_name("classes.jsa")  # made by spark-apps/archive.py, where it was
LOG4J = Path(__file__).with_name("log4j2.properties")
FILE_MANAGER = "spark.sql.streaming.checkpointFileManagerClass"
BY_FILE_SYSTEM = "org.apache.spark.sql.execution.streaming.checkpointing.FileSystemBasedCheckpointFileManager"
STATES_KEPT = 100  # as many as Spark keeps offsets of (spark.sql.streaming.minBatchesToRetain)
FINISH_WITHIN_S = 15.0  # of the 30 that Kubernetes gives; Spark needs up to 10 to stop
POLL_RECORDS = 20_000  # or 1 MB as sent: after each poll Spark asks the broker twice for offsets (Kafka's default: 500)
FETCH_WAIT_MS = 10  # for which those questions wait at a topic's end: the fetch ahead has the connection (default: 500)
MAY_PASS = re.compile(
    r"\b(Timeout|Disconnect|Network|Retriable|BrokerNotAvailable|UnknownTopicOrPartition|LeaderNotAvailable"
    r"|NotLeaderOrFollower|CoordinatorNotAvailable)Exception\b"
)


def run(settings: Settings, stop: Stop) -> None:
    """Stream until SIGTERM or SIGINT, or, with `available_now`, until all records are processed.

    Raises
    ------
    ConfigError, ServerUnavailable, Refused
        As soon as it is clear that the stream cannot go on.
    """
    connection = _connection(settings)
    with connection.open() as client, tempfile.TemporaryDirectory(prefix="streaming-regression-") as private:
        password_file = kafka.readable_password(settings, Path(private))
        sink.wait(connection, client)
        with _session(settings, stop) as spark:
            if password_file != settings.kafka_password_file and not str(spark.sparkContext.master).startswith("local"):
                raise ConfigError(
                    f"--kafka-password-file / KAFKA_PASSWORD_FILE: {settings.kafka_password_file} must hold the "
                    "password alone, without a line break at its end, quotes or backslashes: executors read it too"
                )
            options = kafka.client_options(settings, password_file)
            brokers = Brokers(spark._jvm, options, settings)
            brokers.check()
            store = _store(spark, settings, brokers)
            store.check()
            # Else Spark has programs, readlink and chmod, change its files on a local disk: 16 a micro-batch, 0.1 s.
            if store.local and spark.conf.get(FILE_MANAGER, None) is None:
                spark.conf.set(FILE_MANAGER, BY_FILE_SYSTEM)
            newest = store.prune()
            brokers.check_held(store.position())
            run = store.run()
            sink.claim(connection, client, settings.index_prefix, run, replace=settings.replace_run)
            sink.install(connection, client, settings.index_prefix, settings.fields)
            if newest is None:
                log.info("a new run: 0 rows learned so far")
            else:
                log.info("going on with run %s: %d rows learned so far", run, newest.rows_seen)
            regression = Regression(settings, _learner(settings), connection, client, store, brokers)
            while True:
                with stop.deferred(regression.stopping):
                    done = _stream(spark, settings, options, regression)
                if done or regression.stopping.is_set():
                    break
                brokers.check()
        if regression.stopping.is_set():  # only now: what Spark has to say of it comes before
            log.info("stopped, as told")


def _stream(spark: SparkSession, settings: Settings, options: dict[str, str], regression: Regression) -> bool:
    """Run the query; return True when all is done, False when it ended by a fault of Kafka's that may pass."""
    query = _start(spark, settings, options, regression)
    try:
        while not query.awaitTermination(1):
            if query.status["message"].startswith("Waiting"):  # Kafka has answered, whether there was news or not
                regression.last_success = time.monotonic()
            if regression.stopping.is_set():
                _finish(query, regression)
                return True
    except StreamingQueryException as error:
        if regression.stopping.is_set():
            return True
        if regression.error is not None:
            raise regression.error from error
        _explain(error, settings, regression)
        return False
    return True


def _start(spark: SparkSession, settings: Settings, options: dict[str, str], regression: Regression) -> StreamingQuery:
    reader = spark.readStream.format("kafka").options(**{f"kafka.{key}": value for key, value in options.items()})
    records = (
        reader.option("subscribe", f"{settings.kafka_train_topic},{settings.kafka_test_topic}")
        .option("startingOffsets", "earliest")
        .option("failOnDataLoss", "true")
        .option("kafka.isolation.level", "read_committed")  # nothing is learned from a transaction that was aborted
        .option("kafka.max.poll.records", POLL_RECORDS)
        .option("kafka.fetch.max.wait.ms", FETCH_WAIT_MS)
        .option("maxOffsetsPerTrigger", settings.max_offsets_per_trigger)
        .load()
        .select("topic", "partition", "offset", "timestamp", "value")
        # Here, not in foreachBatch: Spark logs it with the offsets, so a replay gets the same.
        .withColumn("batch_time", current_timestamp())
    )
    writer = records.writeStream.foreachBatch(regression.process).option("checkpointLocation", settings.checkpoint)
    if settings.available_now:
        return writer.trigger(availableNow=True).start()
    return writer.trigger(processingTime=f"{round(settings.trigger_interval_s * 1000)} milliseconds").start()


def _finish(query: StreamingQuery, regression: Regression) -> None:
    """Stop the query between two micro-batches, or within one that takes too long: it will be replayed."""
    log.info("told to stop: finishing the micro-batch")
    free = regression.busy.acquire(timeout=FINISH_WITHIN_S)
    if free:
        regression.busy.release()
    else:
        log.warning("the micro-batch is not finished after %.0f s; it will be replayed", FINISH_WITHIN_S)
    with suppress(PySparkException, Py4JJavaError):  # not within stopTimeout, as while Kafka is away: it ends with Java
        query.stop()


def _explain(error: StreamingQueryException, settings: Settings, regression: Regression) -> None:
    """Return if the query's end may be a passing fault of Kafka's, else raise what is wrong."""
    text = str(error)  # with the JVM's stack trace, by spark.sql.pyspark.jvmStacktrace.enabled
    if "KAFKA_DATA_LOSS" in text or "OffsetOutOfRange" in text:
        found = re.search(r"\[KAFKA_DATA_LOSS\.\w+\] (.*)|OffsetOutOfRangeException: (.*)", text)
        raise Refused(kafka.lost((found[1] or found[2]).rstrip(".") if found else "no more is known")) from error
    if "CONCURRENT_STREAM_LOG_UPDATE" in text or "Multiple streaming queries are concurrently using" in text:
        raise Refused(in_use(settings.checkpoint)) from error
    topics = f"{settings.kafka_train_topic},{settings.kafka_test_topic}"
    causes = dict(re.findall(r"\.(\w+(?:Exception|Error))(?:: (.*))?", text))
    kafka_error = kafka.explain(causes, settings, topics)
    if not MAY_PASS.search(text):
        raise error
    away = time.monotonic() - regression.last_success
    if away > settings.server_timeout_s:
        raise ServerUnavailable(f"{kafka_error}; gave up after {away:.0f} s (--server-timeout-s)") from error
    log.warning("%s; going on as soon as it does", kafka_error)


@contextmanager
def _session(settings: Settings, stop: Stop) -> Iterator[SparkSession]:
    os.environ.setdefault("PYSPARK_PYTHON", sys.executable)  # else the workers take the first python3 of the path
    if "PYSPARK_GATEWAY_PORT" not in os.environ:  # no spark-submit around this: Spark is on this machine alone
        os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    # Java's second compiler costs Spark here more than it brings, above all in the first minute.
    java = "-XX:TieredStopAtLevel=1 -XX:ReservedCodeCacheSize=240m "  # as large as with both
    java += f"-Dlog4j2.configurationFile={LOG4J} -Dform={settings.log_format}"
    if CLASSES.exists():
        java += f" -XX:SharedArchiveFile={CLASSES} -Xlog:disable -Xlog:all=error:stderr"  # no word if it does not fit
    if settings.log_level == "DEBUG":
        java += " -Dstack=full -Dstreaming=warn"
    options = {
        "spark.app.name": "streaming-regression",
        "spark.driver.extraJavaOptions": java,
        "spark.ui.showConsoleProgress": "false",
        "spark.sql.session.timeZone": "UTC",
        "spark.sql.pyspark.jvmStacktrace.enabled": "true",
        "spark.sql.streaming.minBatchesToRetain": str(STATES_KEPT),
        "spark.sql.streaming.stopTimeout": "5s",
        # Rows that a Python worker gets at once: enough to be quick, little enough for records of 1 MB.
        "spark.sql.execution.arrow.maxRecordsPerBatch": "10000",
        "spark.sql.execution.arrow.maxBytesPerBatch": str(16 * 2**20),
        # What the UI remembers: else the driver grows for the first thousand micro-batches.
        "spark.ui.retainedJobs": "100",
        "spark.ui.retainedStages": "100",
        "spark.ui.retainedTasks": "1000",
        "spark.sql.ui.retainedExecutions": "50",
        "spark.sql.streaming.ui.retainedQueries": "5",
    }
    builder = SparkSession.builder
    for key, value in options.items():
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


def _store(spark: SparkSession, settings: Settings, brokers: Brokers) -> StateStore:
    topics = (settings.kafka_train_topic, settings.kafka_test_topic)
    identity = Identity(settings.fields, settings.learner, topics, brokers.topic_ids)
    hadoop = spark.sparkContext._jsc.hadoopConfiguration()
    return StateStore(spark._jvm, hadoop, settings.checkpoint, identity, STATES_KEPT)


def _learner(settings: Settings) -> Learner:
    if settings.learner == "rls":
        return RecursiveLeastSquares(np.array(settings.initial), settings.rls_half_life, settings.rls_ridge)
    return GradientDescent(
        settings.sgd_step_size, settings.sgd_iterations, settings.sgd_convergence_tolerance, settings.sgd_intercept
    )


def _connection(settings: Settings) -> sink.Connection:
    return sink.Connection(
        urls=split(settings.elasticsearch_url),
        ca_file=settings.elasticsearch_ca_file,
        user=settings.elasticsearch_user,
        password_file=settings.elasticsearch_password_file,
        api_key_file=settings.elasticsearch_api_key_file,
        timeout_s=settings.server_timeout_s,
    )
