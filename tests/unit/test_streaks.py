"""A topic with only invalid records is logged, with the most frequent reason, but not in every micro-batch."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterable

import pytest

from streaming_regression.documents import PartitionMetrics
from streaming_regression.records import Fields, Invalid, decode
from streaming_regression.streaks import KEPT, Reason, Streaks, count, most_frequent

MISSING, NULL = Reason("y", "missing"), Reason("x", "null")


@pytest.fixture(autouse=True)
def log(caplog: pytest.LogCaptureFixture) -> pytest.LogCaptureFixture:
    caplog.set_level(logging.INFO)
    return caplog


def metrics(rows: int, invalid: int, topic: str = "train", partition: int = 0) -> PartitionMetrics:
    return PartitionMetrics(topic, partition, 0, 9, rows, rows - invalid, invalid, 0.0, 0.0, 0.0, 0.0)


def logged(
    log: pytest.LogCaptureFixture, streaks: Streaks, batches: Iterable[PartitionMetrics]
) -> list[tuple[int, str]]:
    """Count micro-batches of one partition each; return number and level of those that were logged."""
    found = []
    for batch, batch_rows in enumerate(batches):
        log.clear()
        streaks.note(batch, [batch_rows], {batch_rows.topic: Counter({MISSING: batch_rows.invalid})})
        found += [(batch, record.levelname) for record in log.records]
    return found


def test_the_third_in_a_row_is_told_of_and_then_at_growing_intervals(log: pytest.LogCaptureFixture) -> None:
    at = [2, 5, 11, 23, 47, 95]
    assert logged(log, Streaks("spark"), [metrics(10, 10)] * 100) == [(batch, "WARNING") for batch in at]


def test_with_the_first_good_record_it_is_over_and_said_so_once(log: pytest.LogCaptureFixture) -> None:
    bad, good = [metrics(10, 10)], [metrics(10, 9)]
    streaks = [*bad * 2, *good, *bad * 2, *good, *bad * 4, *good * 2, *bad * 3]
    assert logged(log, Streaks("spark"), streaks) == [(8, "WARNING"), (10, "INFO"), (14, "WARNING")]


def test_micro_batches_without_records_do_not_count(log: pytest.LogCaptureFixture) -> None:
    bad, none = [metrics(10, 10)], [metrics(0, 0)]
    assert logged(log, Streaks("spark"), [*bad * 2, *none * 5, *bad]) == [(7, "WARNING")]
    assert logged(log, Streaks("spark", first=1), bad) == [(0, "WARNING")]


def test_each_topic_counts_for_itself_over_its_partitions(log: pytest.LogCaptureFixture) -> None:
    """Valid test records must not hide that the train topic has no labels."""
    streaks = Streaks("wear")
    reasons = {"train": Counter({MISSING: 5, NULL: 2}), "test": Counter({NULL: 3})}
    for batch in range(3):
        streaks.note(batch, [metrics(3, 3), metrics(4, 4, partition=1), metrics(9, 3, "test")], reasons)
    (record,) = log.records
    assert record.getMessage() == (
        "batch 2: all records of topic train are invalid: 21 records in 3 micro-batches in a row; the most frequent "
        "reason, 15 times: y: missing. Check that the records have the fields named by --features and --label; "
        "wear-invalid-* contains all invalid records"
    )


def test_only_the_most_frequent_faults_are_sent() -> None:
    values: list[bytes | None] = [b"{}", b'{"x":1}', b'{"x":null}', b"?", None, b'{"x":1}']
    counts = count(decode(values, Fields(("x",), "y"), label_needed=True).invalid)
    assert counts == {
        Reason("x", "missing"): 1,
        Reason("y", "missing"): 2,
        NULL: 1,
        Reason(None, "not JSON: unexpected character, expected a JSON value"): 1,
        Reason(None, "tombstone: no value"): 1,
    }
    assert most_frequent(counts) == counts
    many = count(Invalid(number, f"x{number}", "null") for number in range(1000))
    assert len(most_frequent(many)) == KEPT


def test_only_the_type_of_elasticsearchs_error_is_kept() -> None:
    """Elasticsearch's messages may contain parts of the record."""
    reason = "refused by Elasticsearch: document_parsing_exception: failed to parse field [x.a], value 'hunter2': 3"
    assert count([Invalid(0, None, reason)] * 2) == {
        Reason(None, "refused by Elasticsearch: document_parsing_exception"): 2
    }
