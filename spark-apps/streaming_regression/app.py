"""The program: checks the servers, starts the streaming query, and keeps it going until it is told to stop."""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import datetime, timezone
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

from streaming_regression import logs
from streaming_regression.errors import BY_NAME, ConfigError, Refused, ServerUnavailable, StreamError, WorkerLate
from streaming_regression.kafka.admin import Topics
from streaming_regression.kafka.connection import Connection
from streaming_regression.kafka.ranges import KafkaRanges, Options
from streaming_regression.learners import GradientDescent, Learner, RecursiveLeastSquares
from streaming_regression.regression import Regression
from streaming_regression.settings import Settings, split
from streaming_regression.sink import connection as elasticsearch
from streaming_regression.sink.claim import claim
from streaming_regression.sink.indices import Indices
from streaming_regression.state import Identity, StateStore, in_use
from streaming_regression.stopping import Stop

log = logging.getLogger(__name__)

CLASSES = Path(pyspark.__file__).with_name("classes.jsa")  # made by spark-apps/archive.py, where it was
LOG4J = Path(__file__).with_name("log4j2.properties")
FILE_MANAGER = "spark.sql.streaming.checkpointFileManagerClass"
BY_FILE_SYSTEM = "org.apache.spark.sql.execution.streaming.checkpointing.FileSystemBasedCheckpointFileManager"
STATES_KEPT = 100  # as many as Spark keeps offsets of (spark.sql.streaming.minBatchesToRetain)
FINISH_WITHIN_S = 15.0  # of the 30 that Kubernetes gives; Spark needs up to 10 to stop
TASKS_PER_CORE = 1
"""Tasks of a micro-batch for each core (or, where it is set, of spark.default.parallelism). Each gets the same number
of offsets, so more of them would only add what a task costs whatever its records (10 ms and more)."""
RAISED = re.compile(rf"streaming_regression\.errors\.({'|'.join(BY_NAME)}): (.*)")
"""An error of the source, which Spark runs in another process, in the text that Spark makes of it."""


def run(settings: Settings, stop: Stop) -> None:
    """Stream until SIGTERM or SIGINT, or, with `available_now`, until all records are processed.

    Raises
    ------
    ConfigError, ServerUnavailable, Refused
        As soon as it is clear that the stream cannot go on.
    """
    connection = _connection(settings)
    kafka = _kafka(settings)
    gaps = settings.on_data_loss == "continue"
    with connection.open() as client:
        elasticsearch.wait(connection, client)
        topics = Topics(kafka)
        topics.check(settings.server_timeout_s)
        with _session(settings, stop) as spark:
            store = _store(spark, settings, topics)
            store.check()
            # Else Spark has programs, readlink and chmod, change its files on a local disk: 16 a micro-batch, 0.1 s.
            if store.local and spark.conf.get(FILE_MANAGER, None) is None:
                spark.conf.set(FILE_MANAGER, BY_FILE_SYSTEM)
            newest = store.prune()
            topics.check_held(store.position(), settings.server_timeout_s, gaps=gaps)
            run = store.begin()
            replace = settings.replace_run
            claim(connection, client, settings.index_prefix, run, replace=replace, new=newest is None)
            indices = Indices(settings.index_prefix, settings.fields)
            today = datetime.now(timezone.utc).date()
            indices.install(connection, client, today)
            indices.prepare(connection, client, today)  # now, not with the first record: Kibana reads fields from them
            indices.look_back(connection, client)
            if newest is None:
                log.info("a new run: 0 rows learned so far")
            else:
                log.info("going on with run %s: %d rows learned so far", run, newest.rows_seen)
            regression = Regression(settings, _learner(settings), connection, client, store, topics)
            cores = spark.sparkContext.defaultParallelism
            options = Options(kafka, settings.max_offsets_per_trigger, TASKS_PER_CORE * cores, gaps)
            while True:
                with stop.deferred(regression.stopping):
                    done = _stream(spark, settings, options, regression)
                if done or regression.stopping.is_set():
                    break
                topics.check(settings.server_timeout_s)
        if regression.stopping.is_set():  # only now: what Spark has to say of it comes before
            log.info("stopped, as told")


def _stream(spark: SparkSession, settings: Settings, options: Options, regression: Regression) -> bool:
    """Run the query; return True when all is done, False when it ended by a fault that may pass."""
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
        cause, regression.error = regression.error or _cause(error, settings), None
        _check_passing(cause, settings, regression)
        return False
    return True


def _start(spark: SparkSession, settings: Settings, options: Options, regression: Regression) -> StreamingQuery:
    spark.dataSource.register(KafkaRanges)
    ranges = (
        spark.readStream.format(KafkaRanges.name())
        .option("options", options.to_json())
        .load()
        # Here, not in foreachBatch: Spark logs it with the offsets, so a replay gets the same.
        .withColumn("batch_time", current_timestamp())
    )
    writer = ranges.writeStream.foreachBatch(regression.process).option("checkpointLocation", settings.checkpoint)
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


def _cause(error: StreamingQueryException, settings: Settings) -> Exception:
    """Return what has ended the query, where Spark has only its text: our own error, or else Spark's as it is."""
    text = str(error)  # with the JVM's stack trace, by spark.sql.pyspark.jvmStacktrace.enabled
    if "CONCURRENT_STREAM_LOG_UPDATE" in text or "Multiple streaming queries are concurrently using" in text:
        return Refused(in_use(settings.checkpoint))
    if raised := RAISED.search(text):
        return BY_NAME[raised[1]](raised[2])
    if "Python worker failed to connect back" in text:
        return WorkerLate("Spark's Python worker did not start within 10 s: the machine is too busy")
    return error


def _check_passing(cause: Exception, settings: Settings, regression: Regression) -> None:
    """Raise `cause`, unless it may pass and has not lasted too long."""
    if not isinstance(cause, StreamError) or not cause.may_pass:
        raise cause
    away = time.monotonic() - regression.last_success
    if away > settings.server_timeout_s:
        raise type(cause)(f"{cause}; gave up after {away:.0f} s (--server-timeout-s)") from cause
    log.warning("%s; trying again", cause)


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


def _store(spark: SparkSession, settings: Settings, kafka_topics: Topics) -> StateStore:
    topics = (settings.kafka_train_topic, settings.kafka_test_topic)
    identity = Identity(settings.fields, settings.learner, topics, kafka_topics.ids)
    hadoop = spark.sparkContext._jsc.hadoopConfiguration()
    return StateStore(spark._jvm, hadoop, settings.checkpoint, identity, STATES_KEPT)


def _learner(settings: Settings) -> Learner:
    features = settings.fields.features
    if settings.learner == "rls":
        return RecursiveLeastSquares(np.array(settings.initial), settings.rls_half_life, settings.rls_ridge, features)
    return GradientDescent(
        settings.sgd_step_size,
        settings.sgd_iterations,
        settings.sgd_convergence_tolerance,
        settings.sgd_intercept,
        features,
    )


def _connection(settings: Settings) -> elasticsearch.Connection:
    return elasticsearch.Connection(
        urls=split(settings.elasticsearch_url),
        ca_file=settings.elasticsearch_ca_file,
        user=settings.elasticsearch_user,
        password_file=settings.elasticsearch_password_file,
        api_key_file=settings.elasticsearch_api_key_file,
        timeout_s=settings.server_timeout_s,
        max_request_bytes=settings.elasticsearch_max_request_bytes,
    )


def _kafka(settings: Settings) -> Connection:
    return Connection(
        bootstrap=settings.kafka_bootstrap,
        train_topic=settings.kafka_train_topic,
        test_topic=settings.kafka_test_topic,
        security_protocol=settings.kafka_security_protocol,
        sasl_mechanism=settings.kafka_sasl_mechanism,
        user=settings.kafka_user,
        password_file=settings.kafka_password_file,
        ca_file=settings.kafka_ca_file,
    )
