"""A restart finds the records that its run has written and sends the rest: no record twice, none missing.

The topics are simulated: a list of records per partition, as the brokers store it.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator
from fractions import Fraction
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer import topics as kafka_topics
from producer.delivery import Delivery, deliver
from producer.errors import Interrupted, Refused
from producer.layout import Layout, Place
from producer.resume import Chunk, Mark, Written, read_mark, search, stamp
from producer.settings import load
from producer.sources import Source
from producer.summary import Summary

LAYOUT = Layout(Fraction(1, 5), 3, 2)
PLACE = Place(False, 1)
Stored = tuple[Any, bytes]
"""The headers and the value of a record."""


class Partition:
    """The records of a partition by offset; None is a record that this program did not write."""

    def __init__(self, records: Iterable[tuple[str | None, int | None]] = (), place: Place = PLACE) -> None:
        self.place = place
        self.records: dict[int, Stored | None] = {}
        self.reads = 0
        for run, seq in records:
            self.append(run, seq)

    def append(self, run: str | None, seq: int | None) -> None:
        self.put(None if run is None or seq is None else (stamp(run, LAYOUT)(seq, b""), b""))

    def put(self, record: Stored | None) -> None:
        self.records[len(self.records)] = record

    def read(self, run: str, begin: int, end: int) -> Chunk:
        """Return the chunk for a range of offsets, as `Topics` does."""
        self.reads += end - begin
        marks = [
            read_mark(self.place, offset, *record) if (record := self.records[offset]) else None
            for offset in range(begin, end)
            if offset in self.records
        ]
        own = [mark for mark in marks if mark and mark.run == run]
        return Chunk(marks[0] if marks else None, own[-1] if own else None)

    def offset(self, run: str) -> int | None:
        """Search the partition for a run, and return the offset of its last record."""
        mark = self.find(run)
        return None if mark is None else mark.offset

    def find(self, run: str) -> Mark | None:
        """Search the partition for a run."""
        steps = search(min(self.records, default=0), max(self.records, default=-1) + 1)
        try:
            wanted = next(steps)
            while True:
                wanted = steps.send(self.read(run, *wanted))
        except StopIteration as end:
            found: Mark | None = end.value
            return found


def seqs() -> Iterator[int]:
    """Return the numbers of the records that a run writes to `PLACE`, in order."""
    return (LAYOUT.seq(PLACE, index) for index in itertools.count())


@st.composite
def partitions(draw: st.DrawFn) -> Partition:
    """A partition to which several runs and other programs have written in turns; its beginning may be deleted."""
    runs = {run: seqs() for run in ("a", "b", "c")}
    partition = Partition()
    turns = st.tuples(st.sampled_from(["a", "b", "c", None]), st.sampled_from([1, 2, 99, 100, 101, 150, 700]))
    for run, count in draw(st.lists(turns, max_size=12)):
        for _ in range(count):
            partition.append(run, next(runs[run]) if run else None)
    for offset in range(draw(st.just(0) | st.integers(0, len(partition.records)))):
        del partition.records[offset]
    holes = draw(st.sets(st.sampled_from(sorted(partition.records)), max_size=5)) if partition.records else set()
    for offset in holes - {max(partition.records, default=None)}:
        del partition.records[offset]
    return partition


@given(partitions(), st.sampled_from(["a", "b", "c", "new"]))
@settings(max_examples=150)
def test_search_finds_the_last_record_of_the_run_whatever_else_is_there(partition: Partition, run: str) -> None:
    marks = [read_mark(PLACE, offset, *record) for offset, record in sorted(partition.records.items()) if record]
    own = [mark for mark in marks if mark and mark.run == run]
    assert partition.find(run) == (own[-1] if own else None)


def test_search_does_not_jump_over_the_run_between_two_parts_of_another() -> None:
    other = seqs()
    first, second = list(itertools.islice(other, 500)), list(itertools.islice(other, 500))
    partition = Partition([*[("other", seq) for seq in first], ("own", 1), *[("other", seq) for seq in second]])
    assert partition.offset("own") == 500


def test_search_for_a_new_run_reads_little_of_each_run_that_is_there() -> None:
    runs = [(f"run {number}", seq) for number in range(20) for seq in itertools.islice(seqs(), 10_000)]
    partition = Partition(runs)
    assert partition.find("new") is None
    assert partition.reads <= 20 * 101


def test_search_reads_little_where_the_run_is_the_last() -> None:
    partition = Partition([("own", seq) for seq in itertools.islice(seqs(), 100_000)])
    assert partition.offset("own") == 99_999
    assert partition.reads == 100


def test_search_reads_all_records_from_elsewhere() -> None:
    partition = Partition([("own", 1), *[(None, None)] * 5000])
    assert partition.offset("own") == 0


@given(st.dictionaries(st.sampled_from(["run", "seq", "layout", "digest", "x"]), st.none() | st.text() | st.binary()))
def test_any_headers_are_a_mark_or_none(headers: dict[str, str | bytes | None]) -> None:
    mark = read_mark(PLACE, 0, headers, b"")
    assert mark is None or isinstance(mark.fits, bool)


@given(st.text(min_size=1), st.integers(0, 10**15), st.binary())
def test_read_mark_inverts_stamp(run: str, seq: int, digest: bytes) -> None:
    mark = read_mark(PLACE, 5, stamp(run, LAYOUT)(seq, digest), b"v")
    assert mark == Mark(PLACE, 5, run, seq, LAYOUT, b"v", digest)


class Killed(Exception):
    pass


class Topics:
    """All partitions, and a simulated Kafka producer, which appends in order and may be killed.

    After a kill each partition has only the first of its records in flight; the others are lost.
    """

    def __init__(self) -> None:
        self.partitions = {place: Partition(place=place) for place in LAYOUT.places()}
        self.under_way: list[tuple[Place, Stored]] = []

    def look(self, run: str) -> None:
        self.written = Written(run, LAYOUT)
        found = {place: partition.find(run) for place, partition in self.partitions.items()}
        self.written.adopt(found, LAYOUT.test, LAYOUT.places())

    def settle(self) -> None:
        pass

    def send(self, _seq: int, topic: str, partition: int, value: bytes, headers: dict[str, str | bytes | None]) -> None:
        self.under_way.append((Place(topic == "test", partition), (headers, value)))
        if self.kill_at is not None and len(self.under_way) > self.kill_at:
            raise Killed
        self.summary.sent += 1

    def flush(self) -> None:
        self.land(self.under_way)

    drain = flush

    def serve(self) -> None:
        pass

    def land(self, records: list[tuple[Place, Stored]]) -> None:
        for place, record in records:
            self.partitions[place].put(record)
        self.under_way = []

    def crash(self, kept: dict[Place, int]) -> None:
        """Keep the first `kept[place]` records in flight of each partition, and lose the others."""
        under_way = self.under_way
        for place in self.partitions:
            self.land([record for record in under_way if record[0] == place][: kept[place]])

    def deliver(self, source: SimpleNamespace, *options: str) -> None:
        """Run the program's loop on these topics, which stand for its consumer and its producer."""
        deliver(load(options), cast(Source, source), cast(kafka_topics.Topics, self), cast(Delivery, self))

    def program(
        self, rows: list[bytes], *, run: str = "own", count: int | None = None, kill_at: int | None = None
    ) -> Summary:
        """Run the program once; return its summary."""
        self.look(run)
        self.kill_at = kill_at
        self.summary = Summary(run, {"train": 0, "test": 0})
        options = ["--source", "flights", *(["--count", str(count)] if count else [])]
        source = SimpleNamespace(rows=lambda start: iter(rows[start:]))
        self.deliver(source, *options)
        return self.summary

    def missing_and_repeated(self, rows: list[bytes], run: str = "own") -> list[Any]:
        """Return the partitions whose records are not all there exactly once, in order and unchanged."""
        wrong = []
        for place, partition in self.partitions.items():
            should = [(seq, row) for seq, row in enumerate(rows) if LAYOUT.locate(seq)[0] == place]
            marks = [read_mark(place, offset, *record) for offset, record in partition.records.items() if record]
            found = [(mark.seq, mark.value) for mark in marks if mark and mark.run == run]
            if found != should:
                wrong.append((place, found, should))
        return wrong


@given(st.data())
@settings(max_examples=100)
def test_killed_anywhere_a_run_ends_with_every_record_once(data: st.DataObject) -> None:
    """Another run may write between the crashes."""
    rows = [b"row %d" % number for number in range(data.draw(st.integers(0, 300)))]
    others = [b"other %d" % number for number in range(200)]
    topics = Topics()
    for kill_at in data.draw(st.lists(st.integers(0, 100), max_size=5)):
        try:
            topics.program(rows, kill_at=kill_at)
        except Killed:
            topics.crash({place: data.draw(st.integers(0, 40)) for place in topics.partitions})
        if data.draw(st.booleans()):
            topics.program(others, run="other", count=data.draw(st.integers(1, 200)))
    before = sum(len(topics.partitions[place].records) for place in topics.partitions)
    topics.look("own")
    written = topics.written.count
    summary = topics.program(rows)
    assert topics.missing_and_repeated(rows) == []
    assert (summary.skipped, summary.sent) == (written, len(rows) - written)
    assert sum(len(partition.records) for partition in topics.partitions.values()) == before + summary.sent


def test_a_run_can_be_made_longer_and_a_shorter_one_sends_nothing() -> None:
    rows = [b"%d" % number for number in range(100)]
    topics = Topics()
    assert topics.program(rows, count=40).sent == 40
    assert topics.missing_and_repeated(rows[:40]) == []
    assert topics.program(rows, count=30).sent == 0
    assert topics.summary.skipped == 30
    assert topics.program(rows, count=70).sent == 30
    assert topics.program(rows).sent == 30
    assert topics.missing_and_repeated(rows) == []


def test_another_source_under_the_same_name_is_refused() -> None:
    rows = [b"%d" % number for number in range(100)]
    topics = Topics()
    topics.program(rows)
    with pytest.raises(Refused, match=r"run 'own' of another source: its record 9\d differs.*--run / RUN"):
        topics.program([b"x" + row for row in rows])
    with pytest.raises(Refused, match="it has a record 99, but the source does not; nothing was sent"):
        topics.program(rows[:50])
    assert topics.missing_and_repeated(rows) == []


@st.composite
def changed(draw: st.DrawFn, rows: list[bytes]) -> list[bytes]:
    """Rows with one row changed, left out, repeated, split, joined with the next, or moved; the last row is kept."""
    at = draw(st.integers(0, len(rows) - 2))
    row, after = rows[at], rows[at + 1 :]
    parts = draw(
        st.sampled_from(
            [
                [row + b"x"],
                [row[:-1]],
                [],
                [row, row],
                [b"", row],
                [row[:1], row[1:]],
                [row + after[0]] if len(after) > 1 else [b"?"],
                [after[0], row] if len(after) > 1 else [b"?"],
            ]
        )
    )
    swallowed = len(after) > 1 and parts in ([row + after[0]], [after[0], row])
    return [*rows[:at], *parts, *after[swallowed:]]


@given(st.data())
@settings(max_examples=150)
def test_a_change_in_any_skipped_record_is_found_before_anything_is_sent(data: st.DataObject) -> None:
    """For any content of the partitions after a crash and any --count, even if the last records are the same."""
    rows = [b"row %d" % number for number in range(data.draw(st.integers(2, 120)))]
    more = [b"more %d" % number for number in range(data.draw(st.sampled_from([0, 1, 50])))]
    topics = Topics()
    try:
        topics.program(rows, kill_at=data.draw(st.integers(1, 150)))
    except Killed:
        topics.crash({place: data.draw(st.integers(0, 40)) for place in topics.partitions})
    topics.look("own")
    other = [*data.draw(changed(rows)), *more]
    size = sum(len(partition.records) for partition in topics.partitions.values())
    count = data.draw(st.sampled_from([None, 1, 60]))
    last = {place: mark.seq for place, mark in topics.written.last.items()}
    written = [seq for seq in range(len(rows)) if seq <= last.get(LAYOUT.locate(seq)[0], -1)]
    if all(other[seq : seq + 1] == [rows[seq]] for seq in written):  # only records that are not written yet changed
        topics.program(other, count=count)
        return
    with pytest.raises(
        Refused, match=r"of another source: .*; nothing was sent; give this run another name \(--run / RUN\)"
    ):
        topics.program(other, count=count)
    assert sum(len(partition.records) for partition in topics.partitions.values()) == size
    assert topics.under_way == []
    assert topics.summary.sent == 0


def test_first_lines_that_changed_are_told_apart_from_a_last_record_that_is_another() -> None:
    rows = [b"%d" % number for number in range(100)]
    topics = Topics()
    topics.program(rows)
    message = "its record 97 is equal, but records before it were changed, added or removed in the source"
    with pytest.raises(Refused, match=message):
        topics.program([b"-1", b"-2", *rows[2:], *rows])


def test_a_run_of_a_version_without_digests_goes_on_with_a_warning_and_gets_them(
    caplog: pytest.LogCaptureFixture,
) -> None:
    rows = [b"%d" % number for number in range(300)]
    topics = Topics()
    topics.program(rows, count=100)
    for partition in topics.partitions.values():
        for offset, record in partition.records.items():
            assert record is not None
            headers, value = record
            partition.records[offset] = ([header for header in headers if header[0] != "digest"], value)
    assert topics.program([b"-1", *rows[1:]], count=100).sent == 0
    assert "run 'own' was started by an older version of this program" in caplog.text
    with pytest.raises(Refused, match="its record 94 differs from the source"):
        topics.program([b"x" + row for row in rows])
    assert topics.program(rows, count=200).sent == 100
    caplog.clear()
    assert topics.program(rows).sent == 100
    assert not [record for record in caplog.records if record.levelname == "WARNING"]
    assert topics.missing_and_repeated(rows) == []
    with pytest.raises(Refused, match="records before it were changed"):
        topics.program([b"-1", *rows[1:]])


def test_the_source_is_not_read_beyond_the_count() -> None:
    """Standard input may stay open after the last record to send."""
    rows = [b"%d" % number for number in range(100)]

    def source(start: int) -> Iterator[bytes]:
        yield from rows[start:40]
        raise AssertionError

    topics = Topics()
    for _ in range(2):
        topics.look("own")
        topics.kill_at, topics.summary = None, Summary("own", {"train": 0, "test": 0})
        topics.deliver(SimpleNamespace(rows=source), "--source", "flights", "--count", "40")
    assert topics.missing_and_repeated(rows[:40]) == []


def test_a_signal_delivers_what_is_under_way() -> None:
    rows = [b"%d" % number for number in range(100)]
    topics = Topics()

    def interrupted(_: int) -> Iterator[bytes]:
        yield from rows[:60]
        raise Interrupted(15)

    topics.look("own")
    topics.kill_at, topics.summary = None, Summary("own", {"train": 0, "test": 0})
    with pytest.raises(Interrupted):
        topics.deliver(SimpleNamespace(rows=interrupted), "--source", "flights")
    assert topics.missing_and_repeated(rows[:60]) == []


def adopt(layout: Layout, *, seq: int = 0, share: Fraction = LAYOUT.test, place: Place | None = None) -> Written:
    written = Written("own", LAYOUT)
    mark = Mark(place or layout.locate(seq)[0], 0, "own", seq, layout, b"")
    assert written.adopt({mark.place: mark}, share, Layout(Fraction(1, 5), 4, 4).places())
    return written


def test_a_run_keeps_its_partitions_when_the_topics_have_more_now() -> None:
    assert adopt(LAYOUT).layout == LAYOUT


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"layout": LAYOUT, "share": Fraction(1, 3)}, "started with --test-fraction / TEST_FRACTION 1/5, not 1/3"),
        ({"layout": Layout(Fraction(1, 5), 5, 2)}, "started with other topics or with more partitions"),
        ({"layout": LAYOUT, "place": Place(True, 0)}, "started with other topics or with more partitions"),
    ],
)
def test_a_run_that_was_begun_otherwise_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(Refused, match=message):
        adopt(**arguments)
