"""Reading a real broker without Spark: the offsets of a micro-batch, and the records of ranges of offsets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import KafkaError, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewPartitions, NewTopic  # type: ignore[attr-defined]
from pyspark.sql.streaming.datasource import ReadAllAvailable, ReadMaxRows

from embedded import Kafka
from embedded.testing.waiting import wait_until
from streaming_regression.documents import Gap, Records
from streaming_regression.errors import KafkaUnavailable, Refused, ServerUnavailable
from streaming_regression.kafka import consumer
from streaming_regression.kafka.admin import Topics
from streaming_regression.kafka.connection import Connection, Range
from streaming_regression.kafka.consumer import Reader
from streaming_regression.kafka.ranges import KafkaRanges, Options, RangeReader, limited

CODECS = ("none", "gzip", "snappy", "lz4", "zstd")


class Topic:
    """The topic of a test, and a second, empty topic, because the source reads two."""

    def __init__(self, name: str, broker: Kafka, partitions: int = 1, config: dict[str, str] | None = None) -> None:
        self.name = name
        self.admin = AdminClient({"bootstrap.servers": broker.bootstrap, "log_level": 0})
        wanted = [NewTopic(name, partitions, 1, config=config or {}), NewTopic(f"{name}-test", 1, 1)]
        for created in self.admin.create_topics(wanted).values():
            created.result()
        self.connection = Connection(broker.bootstrap, name, f"{name}-test")

    def send(self, values: Sequence[bytes | None], partition: int = 0, options: dict[str, Any] | None = None) -> None:
        producer = Producer(
            {"bootstrap.servers": self.connection.bootstrap, "log_level": 0, "linger.ms": 5, **(options or {})}
        )
        for number, value in enumerate(values):
            producer.produce(self.name, value, key=b"%d" % number, partition=partition)
        assert producer.flush(60) == 0

    def transactional(self) -> Producer:
        options = {"bootstrap.servers": self.connection.bootstrap, "transactional.id": self.name, "log_level": 0}
        return Producer(options)

    def transaction(self, values: Sequence[bytes], *, commit: bool) -> None:
        producer = self.transactional()
        producer.init_transactions(30)
        producer.begin_transaction()
        for value in values:
            producer.produce(self.name, value, partition=0)
        producer.flush(30)
        (producer.commit_transaction if commit else producer.abort_transaction)(30)

    def create_again(self) -> str:
        """Return why it is not created yet: its deletion may not have ended."""
        (created,) = self.admin.create_topics([NewTopic(self.name, 1, 1)]).values()
        try:
            created.result()
        except KafkaException as error:
            return str(error)
        return ""

    def delete_before(self, offset: int, partition: int = 0) -> None:
        (deleted,) = self.admin.delete_records([TopicPartition(self.name, partition, offset)]).values()
        deleted.result()

    def source(self, *, gaps: bool = False, most: int = 100, tasks: int = 2) -> RangeReader:
        options = Options(self.connection, Topics(self.connection).beginning(10), most, tasks, gaps)
        reader = KafkaRanges({"options": options.to_json()}).streamReader(None)  # type: ignore[arg-type]
        assert isinstance(reader, RangeReader)
        return reader

    def read(self, start: int, end: int, *, gaps: bool = False) -> tuple[dict[int, bytes | None], list[Gap]]:
        values: dict[int, bytes | None] = {}
        missing: list[Gap] = []
        for _, found in Reader(self.connection).read([Range(self.name, 0, start, end)], gaps=gaps):
            if isinstance(found, Records):
                assert not values.keys() & set(found.offsets.tolist())
                values.update(zip(found.offsets.tolist(), found.values, strict=True))
            else:
                missing.append(found)
        return values, missing


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return re.sub("[^a-z0-9]+", "-", request.node.name.lower()).strip("-")


@pytest.fixture
def topic(name: str, broker: Kafka) -> Topic:
    return Topic(name, broker)


def test_a_range_gives_its_records_and_no_other(topic: Topic) -> None:
    values = [b"%d" % number for number in range(100)]
    topic.send(values)
    for start, end in ((0, 100), (0, 1), (99, 100), (30, 70)):
        assert topic.read(start, end) == ({offset: values[offset] for offset in range(start, end)}, [])


@pytest.mark.parametrize("codec", CODECS)
def test_every_codec_null_values_and_a_timestamp_of_the_broker_are_read(name: str, broker: Kafka, codec: str) -> None:
    topic = Topic(name, broker, config={"message.timestamp.type": "LogAppendTime"})
    values = [b"x" * 1000, None, b"", b"y"]
    topic.send(values, options={"compression.type": codec})
    assert topic.read(0, 4) == (dict(enumerate(values)), [])
    ((_, records),) = Reader(topic.connection).read([Range(name, 0, 0, 4)], gaps=False)
    assert isinstance(records, Records)
    assert (records.times > 1_600_000_000_000).all()


def test_large_records_are_read_whole(name: str, broker: Kafka) -> None:
    """Records of 9 MB, together more than the client prefetches."""
    topic = Topic(name, broker, config={"max.message.bytes": "10000000"})
    values = [bytes([65 + number]) * 9_000_000 for number in range(6)]
    topic.send(values, options={"message.max.bytes": 10_000_000})
    assert topic.read(0, 6) == (dict(enumerate(values)), [])


def test_records_of_an_aborted_transaction_and_marks_of_transactions_are_passed_over(topic: Topic) -> None:
    topic.transaction([b"a", b"b"], commit=True)  # and a marker at 2
    topic.transaction([b"lost"] * 3, commit=False)  # 3, 4, 5 and a marker at 6
    topic.send([b"c"])  # 7
    topic.transaction([b"d"], commit=True)  # 8 and a marker at 9
    assert topic.source().latestOffset({topic.name: {"0": 0}}, ReadAllAvailable())[topic.name] == {"0": 10}
    assert topic.read(0, 10) == ({0: b"a", 1: b"b", 7: b"c", 8: b"d"}, [])
    assert topic.read(2, 7) == ({}, [])
    assert topic.read(9, 10) == ({}, [])


def test_records_of_an_open_transaction_wait_for_its_end(topic: Topic) -> None:
    topic.send([b"a"])
    producer = topic.transactional()
    producer.init_transactions(30)
    producer.begin_transaction()
    producer.produce(topic.name, b"b", partition=0)
    producer.flush(30)
    source = topic.source()
    assert source.latestOffset({topic.name: {"0": 0}}, ReadAllAvailable())[topic.name] == {"0": 1}
    producer.commit_transaction(30)
    start = {topic.name: {"0": 1}}
    wait_until(lambda: "" if source.latestOffset(start, ReadAllAvailable())[topic.name] == {"0": 3} else "no mark", 30)
    assert topic.read(1, 3) == ({1: b"b"}, [])


def test_compacted_records_are_passed_over(name: str, broker: Kafka) -> None:
    eager = {"cleanup.policy": "compact", "segment.bytes": "1048576", "min.cleanable.dirty.ratio": "0.001"}
    topic = Topic(name, broker, config={**eager, "segment.ms": "100", "max.compaction.lag.ms": "100"})
    for _ in range(3):
        topic.send([b"x" * 200_000] * 4)  # the same four keys again, in separate segments

    def compacted() -> str:
        topic.send([b"end"])
        values, _ = topic.read(0, topic.source().latestOffset({name: {"0": 0}}, ReadAllAvailable())[name]["0"])
        return "" if sum(value == b"x" * 200_000 for value in values.values()) < 12 else "nothing is compacted yet"

    wait_until(compacted, 120, poll_s=1)


def test_deleted_records_end_the_run_or_make_a_gap(topic: Topic) -> None:
    topic.send([b"%d" % number for number in range(20)])
    topic.delete_before(15)
    start = {topic.name: {"0": 10}}
    expected = f"{topic.name}-0 holds offsets 15 to 20, but the next offset to read is 10"
    with pytest.raises(Refused, match=expected):
        topic.source().latestOffset(start, ReadAllAvailable())
    with pytest.raises(Refused, match=expected):
        topic.read(10, 20)
    assert topic.source(gaps=True).latestOffset(start, ReadAllAvailable())[topic.name] == {"0": 20}
    kept = {offset: b"%d" % offset for offset in range(15, 20)}
    assert topic.read(10, 20, gaps=True) == (kept, [Gap(topic.name, 0, 10, 14)])
    assert topic.read(5, 12, gaps=True) == ({}, [Gap(topic.name, 0, 5, 11)])
    topic.delete_before(20)
    assert topic.read(10, 20, gaps=True) == ({}, [Gap(topic.name, 0, 10, 19)])


def test_records_that_are_deleted_while_a_range_is_read_make_a_gap(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "RECORDS", 10)
    values = [bytes([number]) * 100_000 for number in range(250)]  # more than the client prefetches in one request
    topic.send(values, options={"batch.size": 200_000})
    found = Reader(topic.connection).read([Range(topic.name, 0, 0, 250)], gaps=True)
    _, first = next(found)
    assert isinstance(first, Records)
    topic.delete_before(240)
    rest = [part for _, part in found]
    read = [*first.offsets, *(offset for part in rest if isinstance(part, Records) for offset in part.offsets)]
    gone = [offset for part in rest if isinstance(part, Gap) for offset in range(part.first, part.last + 1)]
    assert sorted([*read, *gone]) == list(range(250))


@pytest.mark.parametrize("gaps", [False, True])
def test_an_offset_beyond_the_end_ends_the_run(topic: Topic, gaps: bool) -> None:
    topic.send([b"a"])
    for attempt in (
        lambda: topic.source(gaps=gaps).latestOffset({topic.name: {"0": 5}}, ReadAllAvailable()),
        lambda: topic.read(5, 9, gaps=gaps),
    ):
        with pytest.raises(Refused, match=f"{topic.name}-0 holds offsets 0 to 1, but the next offset to read is 5"):
            attempt()


def test_micro_batches_hold_at_most_their_limit_and_all_records_once(name: str, broker: Kafka) -> None:
    topic = Topic(name, broker, partitions=3)
    counts = {0: 250, 1: 7, 2: 0}
    for partition, count in counts.items():
        topic.send([b"x"] * count, partition)
    source = topic.source(most=100)
    begin = position = source.initialOffset()
    assert begin == {name: {"0": 0, "1": 0, "2": 0}, f"{name}-test": {"0": 0}}
    sizes = []
    while True:
        until = source.latestOffset(position, ReadMaxRows(100))
        shares = source.partitions(position, until)
        sizes.append(sum(end - start for share in shares for *_, start, end in source.read(share)))
        if until == position:
            break
        position = until
    assert sizes == [100, 100, 57, 0]
    assert position[name] == {str(partition): count for partition, count in counts.items()}


def test_ranges_of_many_partitions_are_read_together_completely_and_in_order(
    name: str, broker: Kafka, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One partition has lost its first records, another is empty, and one range ends before its partition."""
    monkeypatch.setattr(consumer, "RECORDS", 40)
    monkeypatch.setattr(consumer, "GROUP", 40)
    topic = Topic(name, broker, partitions=12)
    for partition in range(11):
        topic.send([b"%d-%d" % (partition, offset) for offset in range(30)], partition)
    topic.delete_before(4, partition=3)
    topic.transaction([b"aborted"], commit=False)
    share = [Range(name, partition, 1, 12 + partition) for partition in range(11)]
    share += [Range(f"{name}-test", 0, 0, 0), Range(name, 11, 0, 0)]
    reader = Reader(topic.connection)
    for _ in range(2):  # records read or skipped by the first call must not be missing from the next
        values: dict[Range, list[bytes | None]] = {wanted: [] for wanted in share}
        missing = []
        for wanted, found in reader.read(share, gaps=True):
            if isinstance(found, Gap):
                missing.append(found)
                continue
            assert (found.topic, found.partition) == wanted[:2]
            assert found.offsets.tolist() == [int((value or b"").split(b"-")[1]) for value in found.values]
            values[wanted] += found.values
        assert missing == [Gap(name, 3, 1, 3)]
        for wanted, read in values.items():
            start = 4 if wanted.partition == 3 else wanted.start
            assert read == [b"%d-%d" % (wanted.partition, offset) for offset in range(start, wanted.end)]


def test_a_run_begins_with_small_micro_batches_and_an_interrupted_one_goes_on_alike(topic: Topic) -> None:
    topic.send([b"x"] * 10_010)
    topic.delete_before(10)

    def ends(source: RangeReader, start: int) -> list[int]:
        found = [start]
        while found[-1] < 10_010:
            begin = {topic.name: {"0": found[-1]}, f"{topic.name}-test": {"0": 0}}
            found.append(source.latestOffset(begin, ReadMaxRows(3_000))[topic.name]["0"])
        return found[1:]

    whole = [510, 1_010, 2_010, 4_010, 7_010, 10_010]
    assert ends(topic.source(most=3_000), 10) == whole
    assert ends(topic.source(most=3_000), 1_010) == whole[2:]
    assert ends(topic.source(most=200), 10)[:2] == [210, 410]


def test_a_partition_that_is_added_is_read_from_its_beginning(topic: Topic) -> None:
    topic.send([b"a"] * 5)
    source = topic.source()
    position = source.latestOffset(source.initialOffset(), ReadAllAvailable())
    (added,) = topic.admin.create_partitions([NewPartitions(topic.name, 2)]).values()
    added.result()
    topic.send([b"b"] * 3, partition=1)

    def unseen() -> str:
        return "" if source.latestOffset(position, ReadAllAvailable())[topic.name] == {"0": 5, "1": 3} else "not seen"

    wait_until(unseen, 30)
    end = source.latestOffset(position, ReadAllAvailable())
    (share,) = source.partitions(position, end)
    assert list(source.read(share)) == [(topic.name, 1, 0, 3)]


def test_available_now_ends_at_the_ends_seen_at_its_start(topic: Topic) -> None:
    topic.send([b"a"] * 5)
    source = topic.source()
    start = source.initialOffset()
    source.prepareForTriggerAvailableNow()
    topic.send([b"b"] * 5)
    assert source.latestOffset(start, ReadMaxRows(100))[topic.name] == {"0": 5}


def test_chunks_depend_on_the_records_not_on_their_arrival(topic: Topic, monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise a replay would sum the statistics in another order, and the last bits of the weights would differ."""
    monkeypatch.setattr(consumer, "RECORDS", 40)
    monkeypatch.setattr(consumer, "GROUP", 40)
    monkeypatch.setattr(consumer, "BYTES", 3_000)
    topic.send([b"x" * (number % 300) for number in range(500)])

    def sizes() -> list[int]:
        found = Reader(topic.connection).read([Range(topic.name, 0, 0, 500)], gaps=False)
        return [len(records.values) for _, records in found if isinstance(records, Records)]

    expected = sizes()
    assert max(expected) == 40
    assert min(expected[:-1]) < 40
    whole = Reader._consume
    for most in (1, 7):
        monkeypatch.setattr(Reader, "_consume", lambda self, room, most=most: whole(self, min(room, most)))
        assert sizes() == expected


def test_brokers_that_are_away_are_given_up_soon_so_that_the_driver_can_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(consumer, "AWAY_S", 1.0)
    nobody = Connection("127.0.0.1:9", "train", "test")
    with pytest.raises(KafkaUnavailable, match="does not answer"):
        list(Reader(nobody).read([Range("train", 0, 0, 1)], gaps=False))


def test_records_that_cannot_be_read_do_not_keep_the_task_waiting_for_ever(
    topic: Topic, monkeypatch: pytest.MonkeyPatch
) -> None:
    """librdkafka reports a damaged batch repeatedly; here the error is simulated, because no broker accepts one."""
    monkeypatch.setattr(consumer, "AWAY_S", 0.5)
    damaged = SimpleNamespace(error=lambda: KafkaError(KafkaError._BAD_MSG, "CRC32 failed"), topic=lambda: None)
    monkeypatch.setattr(Reader, "_consume", lambda *_: ([], [damaged]))
    with pytest.raises(ServerUnavailable, match=f"only unreadable data of topic {topic.name} for . s: CRC32 failed"):
        list(Reader(topic.connection).read([Range(topic.name, 0, 0, 1)], gaps=False))


def test_an_error_of_one_topic_does_not_name_the_other(topic: Topic, monkeypatch: pytest.MonkeyPatch) -> None:
    """Both topics are read together; the right to read the second one is withdrawn, which is simulated."""
    error = KafkaError(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    refused = SimpleNamespace(error=lambda: error, topic=lambda: "second")
    monkeypatch.setattr(Reader, "_consume", lambda *_: ([], [refused]))
    with pytest.raises(Refused, match="read topic second"):
        list(Reader(topic.connection).read([Range(topic.name, 0, 0, 1), Range("second", 0, 0, 1)], gaps=False))


def test_a_topic_that_is_recreated_while_the_app_reads_it_is_refused(topic: Topic) -> None:
    """Otherwise the source would continue at the old offset of the new topic once it has as many records."""
    topic.send([b"1"] * 5)
    source = topic.source()
    start = source.latestOffset({}, ReadAllAvailable())
    (deleted,) = topic.admin.delete_topics([topic.name]).values()
    deleted.result()
    wait_until(topic.create_again, 30)
    topic.send([b"2"] * 9)
    with pytest.raises(Refused, match=f"topic {topic.name} was deleted and recreated"):
        source.latestOffset(start, ReadAllAvailable())


def test_a_small_partition_does_not_wait_behind_a_large_one() -> None:
    begins = {("a", 0): 0, ("b", 0): 0, ("b", 1): 5}
    assert limited(begins, {("a", 0): 7, ("b", 0): 50_000_000, ("b", 1): 5}, 1000) == {
        ("a", 0): 1,
        ("b", 0): 1000,
        ("b", 1): 5,
    }
