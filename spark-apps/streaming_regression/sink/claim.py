"""One run per index prefix: a document that only one run can create."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime, timezone

from elasticsearch import ConflictError, Elasticsearch, NotFoundError

from streaming_regression.documents import KEYWORD
from streaming_regression.errors import Refused
from streaming_regression.sink import indices
from streaming_regression.sink.connection import Connection

log = logging.getLogger(__name__)

ID = "run"
WAYS_OUT = (
    "an index prefix belongs to one run: restore that run's checkpoint (--checkpoint), or take another "
    "--index-prefix, or have the old documents deleted with --replace-run"
)


def name(prefix: str) -> str:
    """Return the name of the index with the claim.

    It is hidden: no wildcard finds it, neither that of a dashboard nor that of another prefix. It has no date in its
    name, so retention leaves it.
    """
    return f"{prefix}-run"


@dataclass(frozen=True, slots=True)
class _Holder:
    """The run whose claim there is, and the version of the document."""

    run: str
    since: str
    seq_no: int
    primary_term: int


def claim(
    connection: Connection, client: Elasticsearch, prefix: str, run: str, *, replace: bool, new: bool = False
) -> None:
    """Make the prefix that of `run`, whose documents alone its indices hold from now on.

    Of two runs that claim it at the same moment one succeeds, because Elasticsearch creates a document only once. A run
    from before there were claims is known by its documents. With `replace`, another run's claim is taken over, and
    indices that hold other runs' documents only are deleted.

    Parameters
    ----------
    new
        Whether the run begins now; for the message.

    Raises
    ------
    Refused
        Naming another run found, and the ways out.
    """
    mine = "new" if new else f"run {run}"
    foreign = _foreign(connection, client, prefix, run)
    holder = connection.patiently(_holder, client, prefix)
    if foreign and not replace:
        place, other = next(iter(foreign.items()))
        raise Refused(f"{place} holds documents of run {other}, but this checkpoint is {mine}, and {WAYS_OUT}")
    if holder and holder.run != run and not replace:
        raise Refused(_taken(prefix, holder, mine))
    for index, other in foreign.items():
        if connection.patiently(client.count, index=index, query={"term": {"run": run}})["count"]:
            raise Refused(
                f"{index} holds documents of run {other} beside this run's own, so --replace-run would delete both: "
                "take another --index-prefix"
            )
    if holder is None:
        _make_index(connection, client, prefix)
    if holder is None or holder.run != run:
        won = connection.patiently(_write, client, prefix, run, holder)
        if not won:  # by this run, in a request whose answer was lost, or by another at the same moment
            winner = connection.patiently(_holder, client, prefix)
            if winner is None or winner.run != run:
                raise Refused(_taken(prefix, winner, mine))
        if holder:
            log.warning("--replace-run: the prefix %s was that of run %s", prefix, holder.run)
    if foreign:
        log.warning("--replace-run: deleting %s", ", ".join(foreign))
        connection.patiently(client.indices.delete, index=list(foreign), ignore_unavailable=True)


def _foreign(connection: Connection, client: Elasticsearch, prefix: str, run: str) -> dict[str, str]:
    """Return the prefix's indices that hold documents of other runs, and one such run for each."""
    foreign = {}
    for index in connection.patiently(indices.dated, client, prefix):
        query = {"bool": {"must_not": {"term": {"run": run}}}}
        found = connection.patiently(client.search, index=index, query=query, size=1)
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
    mappings = {"properties": {"run": KEYWORD, "@timestamp": {"type": "date"}}}
    settings = {"index.hidden": True, "number_of_shards": 1, "auto_expand_replicas": "0-1"}
    connection.patiently(indices.make, client, name(prefix), mappings, settings)


def _write(client: Elasticsearch, prefix: str, run: str, holder: _Holder | None) -> bool:
    """Write the claim, in the place of `holder`'s if there is one; return whether nobody else was quicker."""
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


def _taken(prefix: str, holder: _Holder | None, mine: str) -> str:
    other = f"is that of run {holder.run} since {holder.since}" if holder else "is being claimed by another run"
    return f"the index prefix {prefix} {other} (index {name(prefix)}), but this checkpoint is {mine}, and {WAYS_OUT}"
