"""The reasons of invalid records: counted on executors, logged by the driver if all records of a topic are invalid."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from streaming_regression.documents import PartitionMetrics
from streaming_regression.records import Invalid

log = logging.getLogger(__name__)

IN_A_ROW = 3
"""Micro-batches in a row with only invalid records until the first WARNING; each further one needs twice as many."""
KEPT = 8
"""Number of reasons, the most frequent ones, that a range of offsets reports; a WARNING shows only one."""


class Reason(NamedTuple):
    """The fault of a record: the field (None for the whole record) and the reason."""

    field: str | None
    reason: str

    def __str__(self) -> str:
        return self.reason if self.field is None else f"{self.field}: {self.reason}"


def count(invalid: Iterable[Invalid]) -> Counter[Reason]:
    """Count faults by field and reason; both have few different values and contain nothing of a record's content.

    Elasticsearch's messages may contain content, so only the type of its error is kept.
    """
    return Counter(Reason(fault.field, _without_content(fault.reason)) for fault in invalid)


def most_frequent(counts: Counter[Reason]) -> Counter[Reason]:
    """Return the most frequent faults."""
    return Counter(dict(counts.most_common(KEPT)))


class Streaks:
    """Logs when all records of a topic are invalid for several micro-batches in a row, and when this ends."""

    def __init__(self, prefix: str, first: int = IN_A_ROW) -> None:
        self._prefix = prefix
        self._first = first
        self._batches: Counter[str] = Counter()
        self._warned_after: dict[str, int] = {}
        self._records: Counter[str] = Counter()
        self._faults: dict[str, Counter[Reason]] = {}

    def note(self, batch: int, partitions: Sequence[PartitionMetrics], faults: Mapping[str, Counter[Reason]]) -> None:
        """Count a micro-batch; log a long streak or its end. A topic without records in it is unchanged."""
        for topic in dict.fromkeys(partition.topic for partition in partitions):
            rows = sum(partition.rows for partition in partitions if partition.topic == topic)
            invalid = sum(partition.invalid for partition in partitions if partition.topic == topic)
            if invalid < rows:
                self._end(batch, topic)
            elif rows:
                self._batches[topic] += 1
                self._records[topic] += rows
                self._faults.setdefault(topic, Counter()).update(faults.get(topic, {}))
                self._warn_if_due(batch, topic)

    def _warn_if_due(self, batch: int, topic: str) -> None:
        batches = self._batches[topic]
        warned_after = self._warned_after.get(topic)
        if batches < (2 * warned_after if warned_after else self._first):
            return
        self._warned_after[topic] = batches
        records = self._records[topic]
        fault, times = (self._faults[topic].most_common(1) or [(Reason(None, "unknown"), records)])[0]
        log.warning(
            "batch %d: all records of topic %s are invalid: %d records in %d micro-batches in a row; the most frequent "
            "reason, %d times: %s. Check that the records have the fields named by --features and --label; "
            "%s-invalid-* contains all invalid records",
            *(batch, topic, records, batches, times, fault, self._prefix),
        )

    def _end(self, batch: int, topic: str) -> None:
        if self._warned_after.pop(topic, None):
            log.info(
                "batch %d: topic %s has valid records again, after %d micro-batches with invalid records only",
                *(batch, topic, self._batches[topic]),
            )
        del self._batches[topic], self._records[topic]
        self._faults.pop(topic, None)


def _without_content(reason: str) -> str:
    """Return our own reasons unchanged; reduce Elasticsearch's to "refused by Elasticsearch" and the error's type."""
    _, ours, theirs = reason.partition("refused by Elasticsearch: ")
    return f"{ours}{theirs.partition(':')[0]}" if ours else reason
