"""Finds the records that a run has already written, so that a restart repeats none and leaves none out.

The records of a run are in order and without gaps within a partition (see `delivery`), so its last record there is
enough to know. After a crash the partitions may have ended at different records, so each is resumed separately.

A partition is read backwards from its end. If its last records belong to another run, comparing two of them shows
whether all records between them belong to that run too: then their positions in the run differ by as much as their
offsets. So a new run on a topic with many other runs reads only a few records of each. Only records of other programs,
which lack our headers, are all read.

Each record carries a digest of its run's values in its partition, from the first to its own. A restart computes the
digest again from its source, so it detects a change in any record that it would skip, not only in the last one.
Records that are not written yet may change: a record that the broker refused can be corrected in the source.
"""

import hashlib
from collections.abc import Callable, Collection, Generator, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import NamedTuple

from producer.errors import Refused
from producer.layout import Layout, Place
from producer.settings import setting

FIRST_CHUNK = 100
DIGEST_BYTES = 8  # two different inputs have equal digests with probability 2**-64

_GROWTH = 4

Headers = list[tuple[str, str | bytes | None]] | dict[str, str | bytes | None]
Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Mark:
    """A record of a run, as stored in a partition."""

    place: Place
    offset: int
    run: str
    seq: int
    layout: Layout
    value: bytes
    digest: bytes | None = None  # None: written by a version of this program that had no digests

    @property
    def fits(self) -> bool:
        """Whether the record is in the partition that its layout assigns to it."""
        return self.layout.locate(self.seq)[0] == self.place

    @property
    def index(self) -> int:
        """The number of records of its run before it in its partition."""
        return self.layout.locate(self.seq)[1]


class Chunk(NamedTuple):
    """The result of reading a range of offsets: its first record, if it has a mark, and the last of our own run."""

    first: Mark | None
    own: Mark | None


def stamp(run: str, layout: Layout) -> Callable[[int, bytes], Headers]:
    """Return a function that makes a record's headers from its `seq` and digest; `read_mark` reads them."""
    first, last = ("run", run.encode()), ("layout", str(layout).encode())
    return lambda seq, digest: [first, ("seq", b"%d" % seq), last, ("digest", digest)]


def digest_with(before: bytes, value: bytes) -> bytes:
    """Return the digest of a partition's values up to `value`; `before` is that of the values before it, at first b"".

    A digest has a fixed length, so different divisions of the same bytes into values give different digests.
    """
    return hashlib.blake2b(before + value, digest_size=DIGEST_BYTES).digest()


def read_mark(place: Place, offset: int, headers: Headers, value: bytes) -> Mark | None:
    """Return the mark of a record, or None for a record that this program did not write."""
    fields = {name: header for name, header in dict(headers).items() if isinstance(header, bytes)}
    try:
        run, seq, layout = (fields[name].decode() for name in ("run", "seq", "layout"))
        return Mark(place, offset, run, int(seq), Layout.parse(layout), value, fields.get("digest"))
    except (KeyError, ValueError):
        return None


def search(low: int, high: int) -> Generator[Range, Chunk, Mark | None]:
    """Find the last record of our own run among the offsets low <= offset < high, reading as little as possible.

    Yields the next range to read, is sent the chunk read from it, and returns the record or None.
    """
    size = FIRST_CHUNK
    while low < high:
        begin = max(low, high - size)
        chunk = yield begin, high
        if chunk.own:
            return chunk.own
        high, size = begin, size * _GROWTH
        if (other := chunk.first) and other.fits:
            # The offset of the other run's first record, if all records before `other` belong to that run.
            origin = max(low, other.offset - other.index)
            if origin < begin:
                probe = (yield origin, origin + 1).first
                if probe and _unbroken(probe, other):
                    high, size = origin, FIRST_CHUNK
    return None


def _unbroken(first: Mark, last: Mark) -> bool:
    """Return whether all records between `first` and `last` are of the same run: as many records as offsets."""
    return (
        first.fits
        and (first.run, first.layout) == (last.run, last.layout)
        and last.index - first.index == last.offset - first.offset
    )


@dataclass(slots=True)
class Written:
    """The records that a run has written, and its layout.

    Attributes
    ----------
    layout : Layout
        The layout with which the run began; for a new run, that of the topics now.
    last : dict[Place, Mark]
        The last record of the run in each partition that holds any.
    """

    run: str
    layout: Layout
    last: dict[Place, Mark] = field(default_factory=dict)

    @property
    def start(self) -> int:
        """The number of the first record that may be missing: all before it are written."""
        return min(
            self.last[place].seq if place in self.last else self.layout.seq(place, 0) for place in self.layout.places()
        )

    @property
    def end(self) -> int:
        """One more than the highest number of a written record; 0 for a new run."""
        return max((mark.seq + 1 for mark in self.last.values()), default=0)

    @property
    def count(self) -> int:
        """The number of written records."""
        return sum(mark.index + 1 for mark in self.last.values())

    def adopt(self, found: Mapping[Place, Mark | None], share: Fraction, places: Collection[Place]) -> bool:
        """Store the records found; return whether there were any.

        Parameters
        ----------
        found : Mapping[Place, Mark or None]
            The last record of the run in each partition that was searched.
        share : Fraction
            The share of records that goes to the test topic, from the settings.
        places : Collection[Place]
            The partitions that exist.

        Raises
        ------
        Refused
            If the run began with another share, other topics or more partitions.
        """
        news = {place: mark for place, mark in found.items() if mark}
        for mark in news.values():
            if mark.layout.test != share:
                raise Refused(
                    f"run {self.run!r} was started with {setting('test_fraction')} {mark.layout.test}, not {share}: "
                    f"use the same fraction, or give this run another name ({setting('run')})"
                )
            if not mark.fits or not {*mark.layout.places()} <= {*places}:
                raise Refused(
                    f"run {self.run!r} was started with other topics or with more partitions: "
                    f"give this run another name ({setting('run')})"
                )
            self.layout = mark.layout
        self.last.update(news)
        return bool(news)
