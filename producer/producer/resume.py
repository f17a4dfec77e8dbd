"""What a run has already written, so that a restart goes on behind it: no record twice, none missing.

Within a partition the records of a run stand in order and without a gap (see `delivery`), so its last record there
tells all. After a crash the partitions are at different points, so each is gone on with for itself.

A partition is read backwards from its end. Where the records of another run stand there, two of them tell whether all
between them are of that run, too: their numbers differ by as much as their offsets. So a new run on a topic that holds
many others reads a few records of each. Only records from elsewhere, without our headers, are read one by one.

Each record carries a digest of its run's values in its partition, from the first to its own. A restart computes it
again from its source, so it finds any change in what it would skip, not only one in the last record. What is not
written yet may change: a record that the broker refused can be mended in the source.
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
DIGEST_BYTES = 8  # two different inputs have the same digest once in 2**64 cases

_GROWTH = 4

Headers = list[tuple[str, str | bytes | None]] | dict[str, str | bytes | None]
Range = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Mark:
    """A record of a run as it stands in a partition."""

    place: Place
    offset: int
    run: str
    seq: int
    layout: Layout
    value: bytes
    digest: bytes | None = None  # None: written by a version of this program that had no digests

    @property
    def fits(self) -> bool:
        """Whether it stands where its layout puts it."""
        return self.layout.locate(self.seq)[0] == self.place

    @property
    def index(self) -> int:
        """How many records of its run stand before it in its partition."""
        return self.layout.locate(self.seq)[1]


class Chunk(NamedTuple):
    """What was read of a range of offsets: its first record, if that is a run's, and the last of the own run."""

    first: Mark | None
    own: Mark | None


def stamp(run: str, layout: Layout) -> Callable[[int, bytes], Headers]:
    """Return what makes the headers of a record from its `seq` and digest; `read_mark` reads them."""
    first, last = ("run", run.encode()), ("layout", str(layout).encode())
    return lambda seq, digest: [first, ("seq", b"%d" % seq), last, ("digest", digest)]


def digest_with(before: bytes, value: bytes) -> bytes:
    """Return the digest of a partition's values up to `value`; `before` is that of the values before, at first b"".

    The digest before has a fixed length, so it also tells where one value ends and the next begins.
    """
    return hashlib.blake2b(before + value, digest_size=DIGEST_BYTES).digest()


def read_mark(place: Place, offset: int, headers: Headers, value: bytes) -> Mark | None:
    """Return the mark of a record, None for one that no run has written."""
    fields = {name: header for name, header in dict(headers).items() if isinstance(header, bytes)}
    try:
        run, seq, layout = (fields[name].decode() for name in ("run", "seq", "layout"))
        return Mark(place, offset, run, int(seq), Layout.parse(layout), value, fields.get("digest"))
    except (KeyError, ValueError):
        return None


def search(low: int, high: int) -> Generator[Range, Chunk, Mark | None]:
    """Find the last record of the own run among the offsets low <= offset < high, reading as little as possible.

    Yields the range that is to be read next, takes what was found there, returns the record or None.
    """
    size = FIRST_CHUNK
    while low < high:
        begin = max(low, high - size)
        chunk = yield begin, high
        if chunk.own:
            return chunk.own
        high, size = begin, size * _GROWTH
        if (other := chunk.first) and other.fits:
            # Where the other run's first record stands, if all before `other` is of that run.
            origin = max(low, other.offset - other.index)
            if origin < begin:
                probe = (yield origin, origin + 1).first
                if probe and _unbroken(probe, other):
                    high, size = origin, FIRST_CHUNK
    return None


def _unbroken(first: Mark, last: Mark) -> bool:
    """Tell whether all records between two are of the same run: as many as there are offsets."""
    return (
        first.fits
        and (first.run, first.layout) == (last.run, last.layout)
        and last.index - first.index == last.offset - first.offset
    )


@dataclass(slots=True)
class Written:
    """What a run has written, and how it spreads its records.

    Attributes
    ----------
    layout : Layout
        As it was when the run began; for a new run as the topics are now.
    last : dict[Place, Mark]
        The last record of the run in each partition that holds any.
    """

    run: str
    layout: Layout
    last: dict[Place, Mark] = field(default_factory=dict)

    @property
    def start(self) -> int:
        """The number of the record to begin with: all before it are written."""
        return min(
            self.last[place].seq if place in self.last else self.layout.seq(place, 0) for place in self.layout.places()
        )

    @property
    def end(self) -> int:
        """One more than the number of the last record that is written; 0 for a new run."""
        return max((mark.seq + 1 for mark in self.last.values()), default=0)

    @property
    def count(self) -> int:
        """How many records are written."""
        return sum(mark.index + 1 for mark in self.last.values())

    def adopt(self, found: Mapping[Place, Mark | None], share: Fraction, places: Collection[Place]) -> bool:
        """Take over what was found; tell whether it was anything.

        Parameters
        ----------
        found : Mapping[Place, Mark or None]
            The last record of the run in each partition that was searched.
        share : Fraction
            The share of records that shall go to the test topic.
        places : Collection[Place]
            The partitions that exist.

        Raises
        ------
        Refused
            If the run was begun in a way that the topics or the settings do not allow any more.
        """
        news = {place: mark for place, mark in found.items() if mark}
        for mark in news.values():
            if mark.layout.test != share:
                raise Refused(
                    f"run {self.run!r} was begun with {setting('test_fraction')} {mark.layout.test}, found {share}: "
                    f"keep it, or give this run another name ({setting('run')})"
                )
            if not mark.fits or not {*mark.layout.places()} <= {*places}:
                raise Refused(
                    f"run {self.run!r} was begun with other topics or with more partitions: "
                    f"give this run another name ({setting('run')})"
                )
            self.layout = mark.layout
        self.last.update(news)
        return bool(news)
