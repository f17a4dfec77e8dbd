"""One run per index prefix, ensured by a claim: a document that only one run can create."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timezone

from elasticsearch import ConflictError, Elasticsearch, NotFoundError

from streaming_regression.elasticsearch import indices
from streaming_regression.elasticsearch.connection import Connection
from streaming_regression.errors import Refused
from streaming_regression.schema import KEYWORD

log = logging.getLogger(__name__)

ID = "run"
WAYS_OUT = (
    "an index prefix belongs to one run: restore that run's checkpoint (--checkpoint), use another --index-prefix, or "
    "delete the old documents with --replace-run"
)


def name(prefix: str) -> str:
    """Return the name of the index with the claim.

    The index is hidden, so wildcards of dashboards and of other prefixes do not match it. Its name has no date, so
    retention does not delete it.
    """
    return f"{prefix}-run"


@dataclass(frozen=True, slots=True)
class _Holder:
    """The run that holds the claim, and the version of the claim document."""

    run: str
    since: str
    seq_no: int
    primary_term: int


def claim(
    connection: Connection, client: Elasticsearch, prefix: str, run: str, *, replace: bool, new: bool = False
) -> None:
    """Claim the prefix for `run`: from now on its indices hold documents of this run only.

    If two runs claim it at the same moment, one succeeds, because Elasticsearch creates a document only once. A run
    that is older than claims is recognised by its documents. With `replace`, another run's claim is taken over, and
    indices that hold only other runs' documents are deleted.

    Parameters
    ----------
    new
        Whether the run begins now; used in the error message only.

    Raises
    ------
    Refused
        If another run holds the prefix; the message names that run and the ways out.
    """
    mine = "is new" if new else f"belongs to run {run}"
    foreign = _other_runs(connection, client, prefix, run)
    holder = connection.retrying(_holder, client, prefix)
    if foreign and not replace:
        place, other = next(iter(foreign.items()))
        raise Refused(f"{place} holds documents of run {other}, but this checkpoint {mine}, and {WAYS_OUT}")
    if holder and holder.run != run and not replace:
        raise Refused(_prefix_in_use(prefix, holder, mine))
    for index, other in foreign.items():
        if connection.retrying(client.count, index=index, query={"term": {"run": run}})["count"]:
            raise Refused(
                f"{index} holds documents of run {other} and of this run, so --replace-run would delete both: use "
                "another --index-prefix"
            )
    if holder is None:
        _make_index(connection, client, prefix)
    if holder is None or holder.run != run:
        won = connection.retrying(_write, client, prefix, run, holder)
        if not won:  # this run's own claim, whose answer was lost, or another run's
            winner = connection.retrying(_holder, client, prefix)
            if winner is None or winner.run != run:
                raise Refused(_prefix_in_use(prefix, winner, mine))
        if holder:
            log.warning("--replace-run: the index prefix %s belonged to run %s before", prefix, holder.run)
    if foreign:
        log.warning("--replace-run: deleting %s", ", ".join(foreign))
        connection.retrying(client.indices.delete, index=list(foreign), ignore_unavailable=True)


def _other_runs(connection: Connection, client: Elasticsearch, prefix: str, run: str) -> dict[str, str]:
    """Return the prefix's indices that hold documents of other runs, each with one of those runs."""
    foreign = {}
    for index in connection.retrying(indices.index_dates, client, prefix):
        query = {"bool": {"must_not": {"term": {"run": run}}}}
        found = connection.retrying(client.search, index=index, query=query, size=1)
        for hit in found["hits"]["hits"]:
            foreign[index] = str(hit["_source"].get("run", "(none)"))
    return foreign


def _holder(client: Elasticsearch, prefix: str) -> _Holder | None:
    try:
        found = client.get(index=name(prefix), id=ID)
    except NotFoundError:
        return None
    source = found["_source"]
    return _Holder(str(source["run"]), str(source["@timestamp"]), found["_seq_no"], found["_primary_term"])


def _make_index(connection: Connection, client: Elasticsearch, prefix: str) -> None:
    indices.check_not_a_data_stream(connection, client, name(prefix), prefix)
    mappings = {"properties": {"run": KEYWORD, "@timestamp": {"type": "date"}}}
    settings = {"index.hidden": True, "number_of_shards": 1, "auto_expand_replicas": "0-1"}
    connection.retrying(indices.create_index, client, name(prefix), mappings, settings)


def _write(client: Elasticsearch, prefix: str, run: str, holder: _Holder | None) -> bool:
    """Write the claim, replacing that of `holder` if given; return False if the document changed meanwhile."""
    document = {"run": run, "@timestamp": datetime.now(timezone.utc).isoformat(timespec="milliseconds")}
    try:
        if holder is None:
            client.create(index=name(prefix), id=ID, document=document)
        else:
            term, number = holder.primary_term, holder.seq_no
            client.index(index=name(prefix), id=ID, document=document, if_seq_no=number, if_primary_term=term)
    except ConflictError:
        return False
    return True


def _prefix_in_use(prefix: str, holder: _Holder | None, mine: str) -> str:
    other = f"has belonged to run {holder.run} since {holder.since}" if holder else "is being claimed by another run"
    return f"the index prefix {prefix} {other} (index {name(prefix)}), but this checkpoint {mine}, and {WAYS_OUT}"
