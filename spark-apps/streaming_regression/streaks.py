"""Why records are invalid: counted on executors, and told by the driver when a topic has nothing else."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from streaming_regression.decode import Invalid
from streaming_regression.documents import Tally

log = logging.getLogger(__name__)

IN_A_ROW = 3
"""Micro-batches of invalid records alone before the first WARNING; the next comes after twice as many, and so on."""
KEPT = 8
"""Reasons that a range of offsets reports, the most frequent ones: enough for the one that is told."""


class Reason(NamedTuple):
    """What is wrong with a record: the field at fault, None for the whole record, and the reason."""

    field: str | None
    reason: str

    def __str__(self) -> str:
        return self.reason if self.field is None else f"{self.field}: {self.reason}"


def count(invalid: Iterable[Invalid]) -> Counter[Reason]:
    """Count faults by field and reason; both are bounded in number, and hold nothing of a record.

    Elasticsearch's own words may hold some of it: of them only the type of the error is kept.
    """
    return Counter(Reason(one.field, _without_content(one.reason)) for one in invalid)


def commonest(counts: Counter[Reason]) -> Counter[Reason]:
    """Return the most frequent faults."""
    return Counter(dict(counts.most_common(KEPT)))


class Streaks:
    """Tells when all records of a topic are invalid, in micro-batches one after the other, and when that is over."""

    def __init__(self, prefix: str, first: int = IN_A_ROW) -> None:
        self._prefix = prefix
        self._first = first
        self._batches: Counter[str] = Counter()
        self._told_after: dict[str, int] = {}
        self._records: Counter[str] = Counter()
        self._faults: dict[str, Counter[Reason]] = {}

    def note(self, batch: int, tallies: Sequence[Tally], faults: Mapping[str, Counter[Reason]]) -> None:
        """Take note of a micro-batch; a topic without records in it stays as it was."""
        for topic in dict.fromkeys(tally.topic for tally in tallies):
            rows = sum(tally.rows for tally in tallies if tally.topic == topic)
            invalid = sum(tally.invalid for tally in tallies if tally.topic == topic)
            if invalid < rows:
                self._end(batch, topic)
            elif rows:
                self._batches[topic] += 1
                self._records[topic] += rows
                self._faults.setdefault(topic, Counter()).update(faults.get(topic, {}))
                self._tell(batch, topic)

    def _tell(self, batch: int, topic: str) -> None:
        batches = self._batches[topic]
        told_after = self._told_after.get(topic)
        if batches < (2 * told_after if told_after else self._first):
            return
        self._told_after[topic] = batches
        records = self._records[topic]
        fault, times = (self._faults[topic].most_common(1) or [(Reason(None, "unknown"), records)])[0]
        log.warning(
            "batch %d: all records of topic %s are invalid, %d of them in %d micro-batches in a row; the most frequent "
            "reason, %d times: %s. Do --features and --label name what the records hold? %s-invalid-* has them all",
            *(batch, topic, records, batches, times, fault, self._prefix),
        )

    def _end(self, batch: int, topic: str) -> None:
        if self._told_after.pop(topic, None):
            log.info(
                "batch %d: topic %s has valid records again, after %d micro-batches of invalid ones alone",
                *(batch, topic, self._batches[topic]),
            )
        del self._batches[topic], self._records[topic]
        self._faults.pop(topic, None)


def _without_content(reason: str) -> str:
    """Return our own reasons as they are; of Elasticsearch's only whose it is and the type of the error."""
    _, ours, theirs = reason.partition("refused by Elasticsearch: ")
    return f"{ours}{theirs.partition(':')[0]}" if ours else reason
