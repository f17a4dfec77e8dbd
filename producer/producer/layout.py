"""Assigns records to topics and partitions, by their number `seq` alone."""

import re
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple


class Place(NamedTuple):
    """A partition of the train or of the test topic."""

    test: bool
    partition: int


@dataclass(frozen=True, slots=True)
class Layout:
    """How a run distributes its records.

    The fraction `test` of the records 0, 1, 2, … goes to the test topic, evenly spaced: with 1/5 every fifth record,
    that is 4, 9, 14, …. Within its topic the r-th record (r = 0, 1, …) goes to partition r mod the number of
    partitions. Each record carries the layout as a header, so that a resumed run keeps its layout even if partitions
    have been added to a topic.
    """

    test: Fraction
    train_partitions: int
    test_partitions: int

    def __post_init__(self) -> None:
        if not 0 <= self.test <= 1:
            raise ValueError(f"{self.test} is not a fraction from 0 to 1")
        if (self.test < 1 and self.train_partitions < 1) or (self.test > 0 and self.test_partitions < 1):
            raise ValueError("a topic that receives records needs a partition")

    def __str__(self) -> str:
        return f"{self.test},{self.train_partitions},{self.test_partitions}"

    @classmethod
    def parse(cls, text: str) -> "Layout":
        """Return the layout from the text that `str` wrote; ValueError for any other text."""
        if not (found := re.fullmatch(r"(\d{1,10})(?:/([1-9]\d{0,9}))?,(\d{1,9}),(\d{1,9})", text, re.ASCII)):
            raise ValueError(f"{text!r} is not a layout")
        part, whole, train_partitions, test_partitions = (int(number or 1) for number in found.groups())
        return cls(Fraction(part, whole), train_partitions, test_partitions)

    def places(self) -> list[Place]:
        """Return all partitions that this run writes to."""
        return [Place(False, n) for n in range(self.train_partitions)] + [
            Place(True, n) for n in range(self.test_partitions)
        ]

    def locate(self, seq: int) -> tuple[Place, int]:
        """Return the partition of record `seq`, and the number of records of the run before it there."""
        part, whole = self.test.numerator, self.test.denominator
        tests_before = seq * part // whole
        if (seq + 1) * part // whole > tests_before:
            index, partition = divmod(tests_before, self.test_partitions)
            return Place(True, partition), index
        index, partition = divmod(seq - tests_before, self.train_partitions)
        return Place(False, partition), index

    def seq(self, place: Place, index: int) -> int:
        """Return the number of the record that `locate` assigns to `place` with `index` records before it."""
        part, whole = self.test.numerator, self.test.denominator
        if place.test:
            rank = index * self.test_partitions + place.partition
            return -(-(rank + 1) * whole // part) - 1
        rank = index * self.train_partitions + place.partition
        return rank * whole // (whole - part)
