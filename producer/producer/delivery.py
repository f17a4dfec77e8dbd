"""Sends the records of a source, each once, in order within its partition."""

import logging
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import chain, islice
from typing import NamedTuple

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from producer.errors import Interrupted, Refused, ServerUnavailable, StreamError
from producer.formats import DoesNotFitError, Encode
from producer.kafka import Watch, connect, topic_failure
from producer.layout import Layout, Place
from producer.pacing import Pacer
from producer.progress import LINE_EVERY_S, every
from producer.resume import Headers, Mark, Written, digest_with, stamp
from producer.settings import Settings, setting
from producer.sources import MAX_RECORD_BYTES, Source
from producer.summary import Summary
from producer.topics import Topics

STOP_S = 20.0

_SERVE_EVERY = 512
_EARLY_S = 0.005
_UNSPECIFIC = {KafkaError._FATAL, KafkaError._PURGE_QUEUE, KafkaError._PURGE_INFLIGHT}

log = logging.getLogger(__name__)


class Record(NamedTuple):
    """A record of the source, with the digest of all values in its partition up to and including its own."""

    seq: int
    place: Place
    value: bytes
    digest: bytes


def deliver(
    settings: Settings, source: Source, topics: Topics, delivery: "Delivery", encode: Encode | None = None
) -> None:
    """Send the records that the run has not written yet, up to its `count`, and wait until all are acknowledged.

    Before anything is sent, the source is read from its beginning and compared with the records already written. A
    signal, a changed source or a record that the broker refuses ends the delivery early; records in flight are
    delivered first if possible.
    """
    limit = settings.count or sys.maxsize
    written = topics.written
    rows = source.rows(0)
    first = next(rows, None)  # loading the source may take long; `settle` then waits for a shorter time
    topics.settle()
    records = _numbered(chain([first], rows), encode, written.layout, delivery)
    missing = _missing(records, written, limit, delivery)
    delivery.summary.skipped = min(written.end, limit) - len(missing)
    headers = stamp(written.run, written.layout)
    names = (settings.kafka_train_topic, settings.kafka_test_topic)
    pacer = Pacer(settings.rate) if settings.rate else None
    if written.start < limit:
        log.info("sending from record %s", f"{written.start:,}")
    begun = time.monotonic()
    try:
        for seq, place, value, digest in chain(missing, islice(records, max(0, limit - written.end))):
            if pacer:
                delivery.wait_for(pacer)
            delivery.send(seq, names[place.test], place.partition, value, headers(seq, digest))
        delivery.flush()
    except ServerUnavailable:
        raise
    except (StreamError, Interrupted):
        delivery.drain()
        raise
    finally:
        delivery.summary.seconds = time.monotonic() - begun


def _numbered(
    rows: Iterable[bytes | None], encode: Encode | None, layout: Layout, delivery: "Delivery"
) -> Iterator[Record]:
    digests = dict.fromkeys(layout.places(), b"")
    seq = 0
    for row in rows:
        if row is None:
            delivery.serve()
            continue
        place = layout.locate(seq)[0]
        try:
            value = encode(row, place.test) if encode else row
        except DoesNotFitError as error:
            raise Refused(
                f"record {seq} of the source does not fit the schema: {error}; correct it, or the schema "
                f"({setting('value_schema_file')})"
            ) from None  # the error's cause contains the record's content
        digests[place] = digest_with(digests[place], value)
        yield Record(seq, place, value, digests[place])
        seq += 1


def _missing(records: Iterator[Record], written: Written, limit: int, delivery: "Delivery") -> list[Record]:
    """Read the source up to the last written record; return the records below `limit` that the topics lack.

    After a crash the partitions may have ended at different records. The missing records were in flight, so they are
    few enough to keep in memory; standard input could not be read again.

    Raises
    ------
    Refused
        If the run began with other records.
    """
    if not written.end:
        return []
    marks = {mark.seq: mark for mark in written.last.values()}
    start = written.start
    log_progress = every(
        LINE_EVERY_S, lambda count: log.info("compared %s records of the source with the run", f"{count:,}")
    )
    missing = []
    for record in records:
        if mark := marks.get(record.seq):
            _compare(record, mark)
        if record.seq >= start and record.seq < limit:
            last = written.last.get(record.place)
            if last is None or record.seq > last.seq:
                missing.append(record)
        if not record.seq % _SERVE_EVERY:
            delivery.serve()
            log_progress(record.seq)
        if record.seq == written.end - 1:
            if any(mark.digest is None for mark in marks.values()):
                log.warning(
                    "run %r was started by an older version of this program: only its last records were compared with "
                    "the source, not the records before them",
                    written.run,
                )
            return missing
    what = f"it has a record {written.end - 1}, but the source does not"
    raise Refused(_other_source(written.run, what))


def _compare(record: Record, mark: Mark) -> None:
    if record.value != mark.value:
        what = f"its record {mark.seq} differs from the source"
    elif mark.digest is not None and record.digest != mark.digest:
        what = f"its record {mark.seq} is equal, but records before it were changed, added or removed in the source"
    else:
        return
    raise Refused(_other_source(mark.run, what))


def _other_source(run: str, what: str) -> str:
    return (
        f"the topics contain a run {run!r} of another source: {what}; nothing was sent; give this run another name "
        f"({setting('run')})"
    )


class Delivery:
    """An idempotent producer that sends nothing more after a record fails, so no partition ever has a gap."""

    def __init__(self, settings: Settings, watch: Watch, summary: Summary, progress: Callable[[int], None]) -> None:
        self.summary = summary
        self._settings = settings
        self._watch = watch
        self._progress = progress
        self._done = 0
        self._producer = connect(
            Producer,
            settings,
            watch,
            {
                "enable.idempotence": True,
                "acks": "all",
                "compression.type": "lz4",
                "linger.ms": 20,
                # librdkafka must not give up a record. `Watch` ends the program instead, and a restart leaves no gap.
                "message.timeout.ms": 0,
                "enable.gapless.guarantee": True,
                # The broker decides whether a record is too large. Batches stay well below its default limit of 1 MiB.
                "message.max.bytes": 2 * MAX_RECORD_BYTES,
                "batch.size": 256 * 1024,
                "queue.buffering.max.messages": 100_000,
                "queue.buffering.max.kbytes": 2 * MAX_RECORD_BYTES // 1024,
            },
        )

    def send(self, seq: int, topic: str, partition: int, value: bytes, headers: Headers) -> None:
        """Put a record into librdkafka's queue; wait while the queue is full."""
        while not self._enqueue(seq, topic, partition, value, headers):
            self.serve(0.1)
        self.summary.sent += 1
        if not self.summary.sent % _SERVE_EVERY:
            self.serve()

    def wait_for(self, pacer: Pacer) -> None:
        """Return when the next record is due, or a few milliseconds earlier, and count it."""
        if pacer.delay_s() > _EARLY_S:
            while (delay_s := pacer.delay_s()) > 0:
                self.serve(min(delay_s, 0.1))
        pacer.sent()

    def serve(self, wait_s: float = 0.0) -> None:
        """Handle the brokers' responses; raise the error that ends the delivery, if any."""
        try:
            self._producer.poll(wait_s)
        except KafkaException as error:
            self._broken(error.args[0])
        done = sum(self.summary.acknowledged.values())
        if done > self._done or not len(self._producer):
            self._done = done
            self._watch.alive()
        self._progress(done)
        self._watch.check()

    def flush(self) -> None:
        """Wait until all records are acknowledged."""
        while len(self._producer):
            self.serve(0.1)

    def drain(self) -> None:
        """Wait up to STOP_S seconds for the records in flight; a restart sends the rest."""
        deadline = time.monotonic() + STOP_S
        while len(self._producer) and not self._watch.failed and time.monotonic() < deadline:
            with suppress(KafkaException):
                self._producer.poll(0.1)

    def _enqueue(self, seq: int, topic: str, partition: int, value: bytes, headers: Headers) -> bool:
        report = partial(self._delivered, seq)
        try:
            self._producer.produce(topic, value, partition=partition, headers=headers, on_delivery=report)
        except BufferError:
            return False
        except KafkaException as error:
            if error.args[0].code() != KafkaError._FATAL:
                raise self._failure(seq, topic, len(value), error.args[0]) from error
            self._broken(error.args[0])
            return False
        return True

    def _delivered(self, seq: int, error: KafkaError | None, message: Message) -> None:
        topic = message.topic() or ""
        if error is None:
            self.summary.acknowledged[topic] += 1
        elif error.code() not in _UNSPECIFIC:
            self._watch.fail(self._failure(seq, topic, len(message.value() or b""), error))

    def _broken(self, error: KafkaError) -> None:
        """Fail after a fatal error, which ends sending; first poll for the reports that name the record at fault."""
        deadline = time.monotonic() + 0.5
        while time.monotonic() < deadline:
            try:
                self._producer.poll(0.1)
            except KafkaException as cause:
                error = cause.args[0]
            self._watch.on_error(error)
        self._producer.purge()
        self._watch.fail(
            ServerUnavailable(f"sending failed permanently: {error.str()}; start the program again to continue")
        )

    def _failure(self, seq: int, topic: str, size: int, error: KafkaError) -> StreamError:
        if error.code() in (KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG_SIZE):
            return Refused(
                f"record {seq} has {size:,} bytes and is, even compressed, larger than topic {topic!r} accepts: "
                "raise the topic's max.message.bytes or remove the record"
            )
        return topic_failure(self._settings, topic, error) or ServerUnavailable(
            f"record {seq} was not delivered to {topic!r}: {error.str()}; start the program again to continue"
        )
