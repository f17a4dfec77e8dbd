"""The program: checks the servers, prepares checkpoint and indices, and runs the streaming query."""

from __future__ import annotations

import logging
import os
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timezone
from functools import partial

import numpy as np
from pyspark.sql import DataFrame, SparkSession

from streaming_regression import learners, registry, scoring
from streaming_regression.elasticsearch import connection as elasticsearch
from streaming_regression.elasticsearch.claim import claim
from streaming_regression.elasticsearch.indices import Indices
from streaming_regression.files import Files
from streaming_regression.kafka import consumer
from streaming_regression.kafka.admin import Topics
from streaming_regression.kafka.connection import OPTION, Connection
from streaming_regression.kafka.login import login
from streaming_regression.kafka.ranges import KafkaRanges, Options
from streaming_regression.learners import Learner
from streaming_regression.micro_batch import TASKS_PER_CORE, MicroBatches
from streaming_regression.prometheus import serving
from streaming_regression.settings import Settings, split
from streaming_regression.spark.query import Query
from streaming_regression.spark.session import BATCHES_KEPT, BY_FILE_SYSTEM, FILE_MANAGER, session, warm_up
from streaming_regression.state import Identity, StateStore
from streaming_regression.stopping import Stop

log = logging.getLogger(__name__)

STATES_BYTES = 200_000_000
"""Space for old model states in the checkpoint; the chart's volume for it has 1 GiB."""


def run(settings: Settings, stop: Stop) -> None:
    """Stream until SIGTERM or SIGINT, or, with `available_now`, until all records are processed.

    Raises
    ------
    ConfigError, ServerUnavailable, Refused
        As soon as it is known that the stream cannot continue.
    """
    connection = _connection(settings)
    kafka = _kafka(settings)
    os.environ[OPTION] = settings.kafka_option or ""
    consumer.check_settings(kafka)
    gaps = settings.on_data_loss == "continue"
    with serving(settings.metrics_port) as metrics, connection.open() as client:
        elasticsearch.wait(connection, client)
        topics = Topics(kafka)
        topics.check(settings.server_timeout_s)
        if settings.format.registry:
            registry.wait(settings.format.registry)
        with session(settings, stop) as spark, ThreadPoolExecutor(1) as background:
            learner = _learner(settings)
            store = _store(spark, settings, topics, learner)
            store.check()
            # Spark's default manager runs readlink and chmod for files on a local disk: 16 runs, 0.1 s, a micro-batch.
            if store.files.local and spark.conf.get(FILE_MANAGER, None) is None:
                spark.conf.set(FILE_MANAGER, BY_FILE_SYSTEM)
            newest = store.prune()
            tasks = TASKS_PER_CORE * spark.sparkContext.defaultParallelism
            beginning = store.beginning(partial(topics.beginning, settings.server_timeout_s))
            options = Options(kafka, beginning, settings.max_offsets_per_trigger, tasks, gaps)
            ranges = background.submit(_ranges, spark, options)  # takes a second: Spark starts Python for it
            topics.check_held(store.position(), settings.server_timeout_s, gaps=gaps)
            run = store.begin()
            replace = settings.replace_run
            claim(connection, client, settings.index_prefix, run, replace=replace, new=newest is None)
            indices = Indices(settings.index_prefix, settings.fields, settings.storage)
            today = datetime.now(timezone.utc).date()
            indices.install(connection, client, today)
            indices.prepare(connection, client, today)  # before any record: Kibana reads fields from indices
            indices.look_back(connection, client)
            if newest is None:
                log.info("a new run: 0 rows learned so far")
            else:
                log.info("continuing run %s: %d rows learned so far", run, newest.model.rows_seen)
            micro_batches = MicroBatches(settings, learner, connection, client, store, topics, options=options)
            if newest is not None:
                micro_batches.metrics.restore(newest.model, newest.health)
            metrics.register(micro_batches.metrics)
            query = Query(ranges.result(), settings, micro_batches.process, micro_batches.metrics.succeeded)
            with warm_up(spark, partial(scoring.warm_up, kafka=kafka)):
                while True:
                    with stop.deferred(query.stopping):
                        done = query.run()
                    if done or query.stopping.is_set():
                        break
                    topics.check(settings.server_timeout_s)
        if query.stopping.is_set():  # logged here, after Spark's own messages
            log.info("stopped by a signal")


def _ranges(spark: SparkSession, options: Options) -> DataFrame:
    spark.dataSource.register(KafkaRanges)
    return spark.readStream.format(KafkaRanges.name()).option("options", options.to_json()).load()


def states_kept(columns: int) -> int:
    """Return the number of model states to keep in the checkpoint: as many as Spark's offsets, or STATES_BYTES.

    A replay needs two. A state has about 20 bytes for each of the (d + 2)² statistics: 20 MB for 1,000 columns.
    """
    return max(3, min(BATCHES_KEPT, STATES_BYTES // (20 * (columns + 2) ** 2)))


def _store(spark: SparkSession, settings: Settings, kafka_topics: Topics, learner: Learner) -> StateStore:
    topics = (settings.kafka_train_topic, settings.kafka_test_topic)
    identity = Identity(settings.fields, learner, topics, kafka_topics.ids)
    files = Files(spark._jvm, spark.sparkContext._jsc.hadoopConfiguration(), settings.checkpoint)
    return StateStore(files, identity, states_kept(len(settings.fields.layout.columns)))


def _learner(settings: Settings) -> Learner:
    layout, initial = settings.fields.layout, np.array(settings.initial)
    return learners.create(settings.learner, initial, layout.columns, settings.learner_options, layout.sources)


def _connection(settings: Settings) -> elasticsearch.Connection:
    return elasticsearch.Connection(
        urls=split(settings.elasticsearch_url),
        ca_file=settings.elasticsearch_ca_file,
        user=settings.elasticsearch_user,
        password_file=settings.elasticsearch_password_file,
        api_key_file=settings.elasticsearch_api_key_file,
        token_file=settings.elasticsearch_token_file,
        certificate_file=settings.elasticsearch_certificate_file,
        key_file=settings.elasticsearch_key_file,
        key_password_file=settings.elasticsearch_key_password_file,
        timeout_s=settings.server_timeout_s,
        max_request_bytes=settings.elasticsearch_max_request_bytes,
    )


def _kafka(settings: Settings) -> Connection:
    return Connection(settings.kafka_bootstrap, settings.kafka_train_topic, settings.kafka_test_topic, login(settings))
