"""Classifies Elasticsearch's errors: invalid document, fault that may pass, or fault that ends the program.

The tables cover versions 8 and 9. An error in no table counts as passing: waiting too long costs only time, while
giving up a valid record loses it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import Any


class Fault(Enum):
    """The cause of an error."""

    DOCUMENT = "the document: it cannot be parsed or does not fit the mapping"
    PASSING = "the index or the cluster, at present"
    LASTING = "the index or the cluster, permanently"
    MISSING = "the index does not exist: it must be created"
    TOO_LARGE = "the size of the request, or of the only document in it"


DOCUMENT_TYPES = frozenset(
    [
        "document_parsing_exception",  # since 8.8; a value that does not fit its field
        "mapper_parsing_exception",  # the same before 8.8
        "strict_dynamic_mapping_exception",  # a field that the mapping does not have
        "max_bytes_length_exceeded_exception",  # Lucene's: a term of more than 32,766 bytes
        # Invalid JSON, as reported by Elasticsearch's parser or by Jackson, which it uses:
        "x_content_parse_exception",
        "x_content_e_o_f_exception",
        "json_parse_exception",
        "json_e_o_f_exception",
        "input_coercion_exception",
        "stream_constraints_exception",  # a number or string that is too long for the parser
    ]
)
LASTING_TYPES = frozenset(
    [
        "security_exception",  # a role without the right; a wrong login has status 401
        "action_request_validation_exception",
        "invalid_index_name_exception",
        "invalid_alias_name_exception",
        "invalid_index_template_exception",
        "routing_missing_exception",  # the mapping requires a routing
        "media_type_header_exception",  # the server has another version
    ]
)
PASSING_TYPES = frozenset(
    [
        # The cluster is full or overloaded:
        "validation_exception",  # the shard limit
        "index_limit_exceeded_exception",
        "es_rejected_execution_exception",
        "circuit_breaking_exception",
        "cluster_block_exception",  # read-only, for example because the disk is full; or no master
        "process_cluster_event_timeout_exception",
        "timeout_exception",
        "receive_timeout_transport_exception",
        "too_many_scroll_contexts_exception",
        # A node starts, stops, or is no longer the master:
        "master_not_discovered_exception",
        "not_master_exception",
        "failed_to_commit_cluster_state_exception",
        "node_closed_exception",
        "node_not_connected_exception",
        "node_disconnected_exception",
        "connect_transport_exception",
        "send_request_transport_exception",
        "remote_transport_exception",
        "action_not_found_transport_exception",
        "task_cancelled_exception",
        # The index or a shard is closed, being moved, recovering, or damaged:
        "index_closed_exception",
        "index_primary_shard_not_allocated_exception",
        "unavailable_shards_exception",
        "no_shard_available_action_exception",
        "shard_not_found_exception",
        "shard_not_in_primary_mode_exception",
        "no_longer_primary_shard_exception",
        "shard_lock_obtain_failed_exception",
        "illegal_index_shard_state_exception",
        "index_shard_not_started_exception",
        "index_shard_not_recovering_exception",
        "index_shard_recovering_exception",
        "index_shard_relocated_exception",
        "index_shard_closed_exception",
        "index_creation_exception",
        "retry_on_primary_exception",
        "retry_on_replica_exception",
        "primary_missing_action_exception",
        "snapshot_in_progress_exception",
        "engine_exception",
        "engine_creation_failure_exception",
        "recovery_engine_exception",
        "refresh_failed_engine_exception",
        "flush_failed_engine_exception",
        "translog_exception",
        "translog_corrupted_exception",
        "already_closed_exception",
        "corrupt_index_exception",
        "i_o_exception",
        "no_such_file_exception",
        "file_system_exception",
        # Another client writes the same document or creates the same index:
        "version_conflict_engine_exception",
        "resource_already_exists_exception",
        "concurrent_snapshot_execution_exception",
        # A user's ingest pipeline fails; it can be corrected or removed:
        "ingest_processor_exception",
        "ingest_pipeline_exception",
        "fail_processor_exception",
        "script_exception",
        "graph_structure_exception",
        # Java exceptions, and errors without a more specific type:
        "exception",
        "illegal_state_exception",
        "null_pointer_exception",
        "index_out_of_bounds_exception",
        "array_index_out_of_bounds_exception",
        "unsupported_operation_exception",
        "uncategorized_execution_exception",
        "not_serializable_exception_wrapper",
        "resource_not_found_exception",
        "mapper_exception",
    ]
)
"""Errors that are known not to be a document's fault. `classify` treats unknown errors alike, so there the table only
records what was examined; `errors.permanent` retries the requests that fail with one of them."""

ARGUMENT = "illegal_argument_exception"
"""A type that Elasticsearch uses for every kind of fault; only its reason tells them apart."""
LASTING_REASONS = re.compile(
    r"no write index is defined for alias"
    r"|has more than one (?:index|indices) associated with it"
    r"|only write ops with an op_type of create are allowed in data streams"
    r"|creates data streams only"
    r"|matching patterns from existing (?:older )?templates"
    r"|cannot be changed from type|different \[\w+\]"  # two conflicting mappings
)
DOCUMENT_REASONS = re.compile(
    r"Document contains at least one immense term in field"
    r"|^DocValuesField .* is too large"
    r"|The number of nested documents has exceeded the allowed limit"
)


def classify(status: int, error: Mapping[str, Any]) -> Fault:
    """Return the cause of an error.

    Parameters
    ----------
    status
        The HTTP status of the response or, in a bulk request, of the document.
    error
        The error object: `type`, `reason` and, optionally, `caused_by`.
    """
    kind, reason = str(error.get("type")), str(error.get("reason"))
    if status == 413:
        return Fault.TOO_LARGE
    if kind == "index_not_found_exception":
        return Fault.MISSING
    if kind in LASTING_TYPES or status == 401 or (kind == ARGUMENT and LASTING_REASONS.search(reason)):
        return Fault.LASTING
    if kind in DOCUMENT_TYPES or (kind == ARGUMENT and DOCUMENT_REASONS.search(reason)):
        return Fault.DOCUMENT
    return Fault.PASSING


def description(error: Mapping[str, Any]) -> str:
    """Return an error's type, its reason, and the reason of its root cause.

    For a fault of the document, return only the root cause: the outer reasons may show the record's content.
    """
    kind, reason = error.get("type"), error.get("reason")
    inner = error
    while isinstance(inner.get("caused_by"), Mapping):
        inner = inner["caused_by"]
    cause = inner.get("reason")
    if kind in DOCUMENT_TYPES or not reason:
        return f"{kind}: {cause or reason}"
    return f"{kind}: {reason}" + (f" ({cause})" if cause and cause not in str(reason) else "")
