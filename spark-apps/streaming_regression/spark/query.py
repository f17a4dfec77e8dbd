"""The streaming query: its start, its orderly stop, and its restart after a fault that may pass."""

from __future__ import annotations

import logging
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from py4j.protocol import Py4JJavaError
from pyspark.errors import PySparkException, StreamingQueryException
from pyspark.sql import DataFrame
from pyspark.sql.streaming.query import StreamingQuery

from streaming_regression.errors import BY_NAME, Refused, StreamError, WorkerLate
from streaming_regression.settings import Settings
from streaming_regression.state import in_use

log = logging.getLogger(__name__)

FINISH_WITHIN_S = 15.0  # of the 30 that Kubernetes gives; Spark needs up to 10 to stop
RAISED = re.compile(rf"streaming_regression\.errors\.({'|'.join(BY_NAME)}): (.*)")
"""Finds an error of the source, which runs in another process, in the text of Spark's exception."""


class Stopping(Exception):
    """Raised so that Spark does not commit a micro-batch that was not finished, or not begun, because of a stop."""


class Query:
    """Runs micro-batches until all records are processed or `stopping` is set.

    Spark calls `process` in a thread of its own. Call the methods in the main thread. `succeeded` is called while no
    record waits; `process` notes its own success.
    """

    def __init__(
        self,
        ranges: DataFrame,
        settings: Settings,
        process: Callable[[DataFrame, int], None],
        succeeded: Callable[[], None],
    ) -> None:
        self.stopping = threading.Event()
        self._ranges = ranges
        self._settings = settings
        self._process = process
        self._succeeded = succeeded
        self._busy = threading.Lock()
        self._error: StreamError | None = None
        self._last_success = time.monotonic()

    def run(self) -> bool:
        """Run the query; return True when it is done or was stopped, False when it ended by a fault that may pass.

        Raises
        ------
        StreamError
            When the fault cannot pass, or has lasted for `server_timeout_s` seconds.
        """
        query = self._start()
        try:
            while not query.awaitTermination(1):
                if query.status["message"].startswith("Waiting"):  # Kafka has answered, with or without records
                    self._last_success = time.monotonic()
                    self._succeeded()
                if self.stopping.is_set():
                    self._finish(query)
                    return True
        except StreamingQueryException as error:
            if self.stopping.is_set():
                return True
            fault, self._error = self._error or cause(error, self._settings.checkpoint), None
            since_s = time.monotonic() - self._last_success
            check_passing(fault, since_s, self._settings.server_timeout_s)
            return False
        return True

    def _start(self) -> StreamingQuery:
        writer = self._ranges.writeStream.foreachBatch(self._guarded)
        writer = writer.option("checkpointLocation", self._settings.checkpoint)
        if self._settings.available_now:
            return writer.trigger(availableNow=True).start()
        interval_ms = round(self._settings.trigger_interval_s * 1000)
        return writer.trigger(processingTime=f"{interval_ms} milliseconds").start()

    def _guarded(self, frame: DataFrame, batch: int) -> None:
        """Process micro-batch `batch`; foreachBatch calls this, and calls it again after a crash."""
        with self._busy:
            if self.stopping.is_set():
                raise Stopping
            try:
                self._process(frame, batch)
            except Exception as error:
                if self.stopping.is_set():  # Spark's regular expression overflows its stack on long messages
                    raise Stopping from None
                if isinstance(error, StreamError):
                    self._error = error
                raise
            self._last_success = time.monotonic()

    def _finish(self, query: StreamingQuery) -> None:
        """Stop the query after the micro-batch, or during one that takes too long, which will be replayed."""
        log.info("a signal to stop has arrived: finishing the micro-batch")
        free = self._busy.acquire(timeout=FINISH_WITHIN_S)
        if free:
            self._busy.release()
        else:
            log.warning("the micro-batch is not finished after %.0f s; it will be replayed", FINISH_WITHIN_S)
        # If the query does not stop within stopTimeout, for example while Kafka is away, it ends with the JVM.
        with suppress(PySparkException, Py4JJavaError):
            query.stop()


def cause(error: StreamingQueryException, checkpoint: str) -> Exception:
    """Return the error that ended the query: our own error, restored from Spark's text, or Spark's error."""
    text = str(error)  # includes the JVM's stack trace: spark.sql.pyspark.jvmStacktrace.enabled is set
    if "CONCURRENT_STREAM_LOG_UPDATE" in text or "Multiple streaming queries are concurrently using" in text:
        return Refused(in_use(checkpoint))
    if raised := RAISED.search(text):
        return BY_NAME[raised[1]](raised[2])
    if "Python worker failed to connect back" in text:
        return WorkerLate("Spark's Python worker did not start within 10 s: the machine is too busy")
    return error


def check_passing(fault: Exception, since_s: float, timeout_s: float) -> None:
    """Raise `fault`, unless it may pass and the last success was less than `timeout_s` seconds ago."""
    if not isinstance(fault, StreamError) or not fault.may_pass:
        raise fault
    if since_s > timeout_s:
        raise type(fault)(f"{fault}; gave up after {since_s:.0f} s (--server-timeout-s)") from fault
    log.warning("%s; retrying", fault)
