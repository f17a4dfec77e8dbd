"""Reads the topics to find the records that a run has written.

A killed producer may have left requests in the network, which the brokers handle after its successor has read the
topics. So the successor reads them again every `SETTLE_S` seconds, until no more records of its run arrive. This also
makes it wait for another process that is still sending the same run.

Three cases are not covered: two processes that start within SETTLE_S of each other; a process that was cut off from the
brokers for longer, had requests in flight, and reconnects; and records that a follower takes longer to replicate, which
are invisible until then. Only transactions could exclude these cases. But transactions leave offsets without a record,
and records of aborted transactions for every reader that does not set read_committed, so every reader would pay.
"""

import logging
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import suppress

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from producer.errors import ServerUnavailable
from producer.kafka import CALL_S, Watch, ask, connect, partitions, topic_failure
from producer.layout import Layout, Place
from producer.progress import LINE_EVERY_S, every
from producer.resume import Chunk, Mark, Range, Written, read_mark, search
from producer.settings import Settings, setting

SETTLE_S = 1.0

log = logging.getLogger(__name__)


class Topics:
    """The train and the test topic.

    Attributes
    ----------
    written : Written
        The records that the run has written to them.
    """

    def __init__(self, settings: Settings, watch: Watch, run: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._watch = watch
        self._clock = clock
        self._consumer = connect(
            Consumer,
            settings,
            watch,
            {
                "group.id": "producer",  # required by the client; no group is joined
                "enable.auto.commit": False,
                "enable.partition.eof": True,
                "auto.offset.reset": "earliest",
                "queued.max.messages.kbytes": 16 * 1024,
                # The defaults, 1 s and 0.5 s, would delay many short reads.
                "fetch.queue.backoff.ms": 10,
                "fetch.wait.max.ms": 10,
            },
        )
        share = settings.test_fraction
        layout = Layout(
            share,
            partitions(self._consumer, watch, settings, settings.kafka_train_topic) if share < 1 else 0,
            partitions(self._consumer, watch, settings, settings.kafka_test_topic) if share > 0 else 0,
        )
        self._places = layout.places()
        self._ends: dict[Place, int] = {}
        self._read_at = 0.0
        self.written = Written(run, layout)
        self._find_written()

    def settle(self) -> None:
        """Wait until no record of the run has arrived for `SETTLE_S` seconds; then close the connection."""
        run, timeout_s = self.written.run, self._settings.server_timeout_s
        deadline = self._clock() + timeout_s
        logged = False
        while True:
            while self._clock() < self._read_at + SETTLE_S:
                self._consumer.poll(0.1)
                self._watch.alive()
                self._watch.check()
            before = self._ends
            self._ends = {place: self._watermarks(place)[1] for place in self._places}
            chunks = self._read(
                {place: (before[place], end) for place, end in self._ends.items() if before[place] < end}
            )
            self._read_at = self._clock()
            if not self._adopt({place: chunk.own for place, chunk in chunks.items()}):
                break
            if not logged:
                log.info(
                    "records of run %r are still arriving, from a process that was killed or is still running: waiting",
                    run,
                )
                logged = True
            if self._clock() > deadline:
                raise ServerUnavailable(
                    f"another process has been sending run {run!r} for {timeout_s:g} s: stop it, or give this run "
                    f"another name ({setting('run')})"
                )
        self._consumer.close()

    def _find_written(self) -> None:
        offsets = {place: self._watermarks(place) for place in self._places}
        self._ends = {place: high for place, (_, high) in offsets.items()}
        found: dict[Place, Mark | None] = {}

        def steps(place: Place) -> Generator[Range, Chunk, None]:
            found[place] = yield from search(*offsets[place])

        searches = {place: steps(place) for place in self._places}
        wanted = dict[Place, Range]()
        for place in self._places:
            with suppress(StopIteration):
                wanted[place] = next(searches[place])
        while wanted:
            chunks = self._read(wanted)
            wanted = {}
            for place, chunk in chunks.items():
                with suppress(StopIteration):
                    wanted[place] = searches[place].send(chunk)
        self._read_at = self._clock()
        self._adopt(found)

    def _adopt(self, found: Mapping[Place, Mark | None]) -> bool:
        return self.written.adopt(found, self._settings.test_fraction, self._places)

    def _partition(self, place: Place, offset: int = 0) -> TopicPartition:
        topic = self._settings.kafka_test_topic if place.test else self._settings.kafka_train_topic
        return TopicPartition(topic, place.partition, offset)

    def _watermarks(self, place: Place) -> Range:
        def call() -> Range:
            offsets = self._consumer.get_watermark_offsets(self._partition(place), timeout=CALL_S)
            if offsets is None:
                raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
            return offsets

        return ask(self._consumer, self._watch, call)

    def _read(self, ranges: Mapping[Place, Range]) -> dict[Place, Chunk]:
        first: dict[Place, Mark | None] = {}
        own: dict[Place, Mark] = {}
        left = {place: end for place, (_, end) in ranges.items()}
        mine = ("run", self.written.run.encode())
        log_progress = every(
            LINE_EVERY_S, lambda count: log.info("searched %s records for records of this run", f"{count:,}")
        )
        count = 0
        self._consumer.assign([self._partition(place, begin) for place, (begin, _) in ranges.items()])
        while left:
            for message in self._consumer.consume(500, timeout=0.01):
                topic = message.topic() or ""
                place = Place(topic == self._settings.kafka_test_topic, message.partition() or 0)
                if error := message.error():
                    if error.code() == KafkaError._PARTITION_EOF:
                        left.pop(place, None)
                    elif failure := topic_failure(self._settings, topic, error):
                        raise failure
                    else:
                        self._watch.on_error(error)
                    continue
                self._watch.alive()
                if place not in left:
                    continue
                count += 1
                offset = message.offset() or 0
                headers = message.headers() or []
                if offset < left[place] and (mine in headers or place not in first):
                    mark = read_mark(place, offset, headers, message.value() or b"")
                    first.setdefault(place, mark)
                    if mark and mark.run == self.written.run:
                        own[place] = mark
                if offset >= left[place] - 1:
                    del left[place]
                    self._consumer.incremental_unassign([self._partition(place)])
            log_progress(count)
            self._watch.check()
        self._consumer.unassign()
        return {place: Chunk(first.get(place), own.get(place)) for place in ranges}
