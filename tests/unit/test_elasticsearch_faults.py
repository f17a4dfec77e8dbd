"""Classification of Elasticsearch's errors: only a fault of the document makes a record invalid."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming_regression.elasticsearch import faults
from streaming_regression.elasticsearch.faults import Fault

ALIAS = "no write index is defined for alias [spark-points-2026.11.28]. The write index may be explicitly disabled"
TABLE: list[tuple[int, str, str, Fault]] = [
    (400, "document_parsing_exception", "[1:57] failed to parse field [y] of type [double]", Fault.DOCUMENT),
    (400, "mapper_parsing_exception", "failed to parse field [y] of type [double]", Fault.DOCUMENT),
    (400, "strict_dynamic_mapping_exception", "mapping set to strict, dynamic introduction of [z]", Fault.DOCUMENT),
    (400, "illegal_argument_exception", 'Document contains at least one immense term in field="a"', Fault.DOCUMENT),
    (400, "illegal_argument_exception", ALIAS, Fault.LASTING),
    (
        400,
        "illegal_argument_exception",
        "alias [a] has more than one index associated with it [[b, c]], can't execute a single index op",
        Fault.LASTING,
    ),
    (400, "illegal_argument_exception", "only write ops with an op_type of create are allowed in data", Fault.PASSING),
    (
        400,
        "illegal_argument_exception",
        "only write ops with an op_type of create are allowed in data streams",
        Fault.LASTING,
    ),
    (400, "illegal_argument_exception", "pipeline with id [gone] does not exist", Fault.PASSING),
    (400, "illegal_argument_exception", "Limit of total fields [1000] has been exceeded", Fault.PASSING),
    (400, "validation_exception", "this action would add [2] shards, but this cluster has [1]/[1]", Fault.PASSING),
    (400, "index_closed_exception", "closed", Fault.PASSING),
    (403, "cluster_block_exception", "index [a] blocked by: [FORBIDDEN/8/index write (api)]", Fault.PASSING),
    (429, "cluster_block_exception", "disk usage exceeded flood-stage watermark", Fault.PASSING),
    (429, "es_rejected_execution_exception", "rejected execution of coordinating operation", Fault.PASSING),
    (429, "circuit_breaking_exception", "[parent] Data too large", Fault.PASSING),
    (503, "unavailable_shards_exception", "primary shard is not active", Fault.PASSING),
    (503, "process_cluster_event_timeout_exception", "failed to process cluster event (put-mapping)", Fault.PASSING),
    (409, "version_conflict_engine_exception", "version conflict", Fault.PASSING),
    (400, "of_tomorrow_exception", "?", Fault.PASSING),
    (404, "index_not_found_exception", "no such index [a]", Fault.MISSING),
    (403, "security_exception", "action is unauthorized for user [a]", Fault.LASTING),
    (400, "invalid_index_name_exception", "Invalid index name [a], must be lowercase", Fault.LASTING),
    (400, "routing_missing_exception", "routing is required", Fault.LASTING),
    (413, "es_rejected_execution_exception", "more than the largest operation", Fault.TOO_LARGE),
]


@pytest.mark.parametrize(("status", "kind", "reason", "fault"), TABLE)
def test_table(status: int, kind: str, reason: str, fault: Fault) -> None:
    assert faults.classify(status, {"type": kind, "reason": reason}) == fault


@given(status=st.integers(400, 599), kind=st.text() | st.none(), reason=st.text())
def test_an_unknown_type_never_makes_a_record_invalid(status: int, kind: str | None, reason: str) -> None:
    assert faults.classify(status, {"type": kind, "reason": reason}) is not Fault.DOCUMENT
    assert faults.classify(status, {}) is not Fault.DOCUMENT


def test_the_kinds_exclude_each_other() -> None:
    assert not faults.DOCUMENT_TYPES & (faults.LASTING_TYPES | faults.PASSING_TYPES)
    assert not faults.LASTING_TYPES & faults.PASSING_TYPES


def test_words_are_elasticsearchs_own_without_what_may_show_a_record() -> None:
    inner = {"type": "number_format_exception", "reason": 'For input string: "x"'}
    document = {"type": "document_parsing_exception", "reason": "Preview of field's value: 'secret'"}
    assert faults.description(document | {"caused_by": inner}) == 'document_parsing_exception: For input string: "x"'
    closed = {"type": "index_closed_exception", "reason": "closed"}
    assert faults.description(closed) == "index_closed_exception: closed"
    outer = {"type": "exception", "reason": "it failed", "caused_by": closed}
    assert faults.description(outer) == "exception: it failed (closed)"
    assert faults.description({}) == "None: None"
