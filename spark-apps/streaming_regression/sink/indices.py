"""The indices of a prefix: templates, the four of each day with the mappings that they must have, and retention."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from threading import Thread
from typing import Any

from elastic_transport import TransportError
from elasticsearch import ApiError, BadRequestError, Elasticsearch

from streaming_regression import documents
from streaming_regression.decode import Fields
from streaming_regression.documents import Origin
from streaming_regression.errors import Refused
from streaming_regression.sink.connection import Connection

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Indices:
    """The indices of one prefix, and what they must be."""

    prefix: str
    fields: Fields

    def mapping(self, name: str) -> Mapping[str, Any]:
        """Return the mapping of the index of that name."""
        return documents.mappings(self.fields)[documents.index_kind(name, self.prefix)]

    def install(self, connection: Connection, client: Elasticsearch, day: date) -> None:
        """Put the index templates in place, and see that they are what an index of `day` gets.

        Not before `claim`, because they are also those of another run's next day.

        Raises
        ------
        Refused
            Naming somebody else's template that wins over ours and has other mappings.
        """
        for name, template in documents.templates(self.prefix, self.fields).items():
            connection.patiently(client.indices.put_index_template, name=name, **template)
        for kind in documents.KINDS:
            name = documents.index_name(self.prefix, kind, day)
            answer = connection.patiently(client.indices.simulate_index_template, name=name)
            losers = {one["name"] for one in answer.get("overlapping", [])}
            own = f"{self.prefix}-{kind}"
            wrong = next(differences(answer["template"].get("mappings", {}), self.mapping(name)), "")
            if own in losers or wrong:
                winner, template = connection.patiently(_winner, client, name)
                wrong = f"have {wrong}" if wrong else ""
                if "data_stream" in template:
                    wrong = "be a data stream, which takes no documents that are written again"
                if wrong:
                    raise Refused(
                        f"index template {winner} (priority {template.get('priority', 0)}) wins over {own}, so "
                        f"{name} would {wrong}: lower its priority below that of {own}, leave "
                        f"{self.prefix}-{kind}-* out of its index_patterns, or take another --index-prefix"
                    )

    def prepare(self, connection: Connection, client: Elasticsearch, day: date) -> None:
        """Make the indices of `day` that are missing, and see that all four are as they must be.

        Dashboards read fields from indices, not from templates: an index that no document needs yet is made, too.
        """
        names = [documents.index_name(self.prefix, kind, day) for kind in documents.KINDS]
        found = connection.patiently(_get, client, names)
        missing = [name for name in names if _behind(name, found) is None]
        for name in missing:
            self.create(connection, client, name)
        self.check(connection, client, names)

    def create(self, connection: Connection, client: Elasticsearch, name: str) -> None:
        """Make an index, if nobody else has done so: it gets its template's settings, and our mapping in any case."""
        connection.patiently(make, client, name, self.mapping(name))

    def check(self, connection: Connection, client: Elasticsearch, names: Iterable[str]) -> None:
        """See that documents can be written under these names, as they are meant; fields that are missing are added.

        Raises
        ------
        Refused
            Naming what is there instead (an alias, a data stream, another mapping).
        """
        names = sorted(name for name in names if documents.index_date(name, self.prefix))
        found = connection.patiently(_get, client, names)
        for name in names:
            index = _behind(name, found)
            if index is None:  # deleted meanwhile: it is made when it is written to
                continue
            wanted, have = self.mapping(name), found[index].get("mappings", {})
            wrong = sorted(differences(have, wanted), key=lambda one: one.startswith("no field"))
            if wrong and wrong[0].startswith("no field"):  # nothing else is wrong: of an older version of this program
                connection.patiently(client.indices.put_mapping, index=index, properties=wanted["properties"])
                wrong = []
            if wrong:
                raise Refused(
                    f"index {index} has {wrong[0]}, so it does not hold what is written: delete it, or reindex it with "
                    f"the mapping of index template {name[: -len('-YYYY.MM.DD')]}, or take another --index-prefix"
                )
            _warn_of_pipelines(index, found[index].get("settings", {}).get("index", {}))

    def look_back(self, connection: Connection, client: Elasticsearch) -> None:
        """Warn of indices of other days in which a field is of another type: dashboards cannot read them."""
        found = connection.patiently(_mappings, client, self.prefix)
        for name, one in found.items():
            if documents.index_date(name, self.prefix):
                for wrong in differences(one.get("mappings", {}), self.mapping(name)):
                    if not wrong.startswith("no field"):
                        log.warning("index %s has %s: dashboards cannot show it; delete or reindex it", name, wrong)
                        break


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yield in what a mapping falls short of the one that is wanted; more fields than wanted do no harm."""
    if not path and found.get("_source", {}).get("enabled", True) in {False, "false"}:
        yield "no _source"
    if not path and found.get("_routing", {}).get("required", False) in {True, "true"}:
        yield "a _routing that is required"
    if path and "subobjects" in wanted and str(found.get("subobjects", True)).lower() != "false":
        yield f"subobjects in {path}, where names with dots are names"
        return
    fields = found.get("properties", {})
    for name, want in wanted["properties"].items():
        full, have = f"{path}{name}", fields.get(name)
        if have is None:
            yield f"no field {full}"
            continue
        kinds = [one.get("type", "object") for one in (have, want)]
        if kinds[0] != kinds[1]:
            yield f"field {full} of type {kinds[0]} instead of {kinds[1]}"
        elif "properties" in want:
            yield from differences(have, want, f"{full}.")
        else:
            for key in ("index", "doc_values"):
                is_set, must = (str(one.get(key, True)).lower() for one in (have, want))
                if is_set != must and want["type"] != "binary":
                    yield f"field {full} with {key} {is_set} instead of {must}"


def make(
    client: Elasticsearch, name: str, mappings: Mapping[str, Any], settings: Mapping[str, Any] | None = None
) -> None:
    """Make an index, if there is none (or alias) of that name."""
    try:
        client.indices.create(index=name, mappings=mappings, settings=settings)
    except BadRequestError as error:
        if "already exists" not in str(error.body):
            raise


def refresh(client: Elasticsearch, origin: Origin, last: Thread | None) -> Thread:
    """Ask that searches see at once what a micro-batch has written; by itself Elasticsearch takes a second or more.

    Nobody waits for the answer. A failure is logged and no more: the documents are safe. While the `last` one is not
    answered, none is asked.
    """

    def ask() -> None:
        try:
            client.indices.refresh(index=[origin.index(kind) for kind in documents.KINDS], ignore_unavailable=True)
        except (ApiError, TransportError, OSError) as error:
            log.log(logging.DEBUG if last else logging.WARNING, "searches see batch %d late: %s", origin.batch, error)

    if last and last.is_alive():
        return last
    thread = Thread(target=ask, daemon=True)
    thread.start()
    return thread


def expire(connection: Connection, client: Elasticsearch, prefix: str, today: date, retention_days: int) -> list[str]:
    """Delete the prefix's indices of more than `retention_days` days before `today`; return their names."""
    oldest = today - timedelta(days=retention_days)
    old = [name for name, day in connection.patiently(dated, client, prefix).items() if day < oldest]
    if old:
        connection.patiently(client.indices.delete, index=old, ignore_unavailable=True)
        log.info("deleted indices older than %d days: %s", retention_days, ", ".join(old))
    return old


def dated(client: Elasticsearch, prefix: str) -> dict[str, date]:
    """Return the names of the prefix's indices, and their days."""
    names = client.indices.get(index=f"{prefix}-*", filter_path="*.settings.index.uuid", expand_wildcards="open")
    dates = {name: documents.index_date(name, prefix) for name in sorted(names)}
    return {name: day for name, day in dates.items() if day}


def _get(client: Elasticsearch, names: list[str]) -> dict[str, Any]:
    return dict(client.indices.get(index=names, ignore_unavailable=True, expand_wildcards="all"))


def _mappings(client: Elasticsearch, prefix: str) -> dict[str, Any]:
    return dict(client.indices.get_mapping(index=f"{prefix}-*", expand_wildcards="open"))


def _behind(name: str, found: Mapping[str, Any]) -> str | None:
    """Return the index that takes what is written under `name`: itself, or that of an alias; None if there is none."""
    if name in found:
        return name
    for index, one in found.items():
        if one.get("data_stream") == name:
            raise Refused(
                f"{name} is a data stream (with index {index}), which takes no documents that are written again: "
                "delete it and the index template that makes it one, or take another --index-prefix"
            )
    behind = {index: one["aliases"][name] for index, one in found.items() if name in one.get("aliases", {})}
    writable = [index for index, alias in behind.items() if alias.get("is_write_index", len(behind) == 1)]
    if behind and len(writable) != 1:
        raise Refused(
            f"{name} is an alias of {', '.join(sorted(behind))} without a write index: make one of them its write "
            "index, delete the alias, or take another --index-prefix"
        )
    return writable[0] if writable else None


def _winner(client: Elasticsearch, name: str) -> tuple[str, dict[str, Any]]:
    """Return the index template, by name, that an index of that name gets: the one of the highest priority."""
    found = client.indices.get_index_template()["index_templates"]
    matching = [one for one in found if any(_matches(name, one) for one in _patterns(one["index_template"]))]
    best = max(matching, key=lambda one: int(one["index_template"].get("priority", 0)))
    return best["name"], best["index_template"]


def _patterns(template: Mapping[str, Any]) -> list[str]:
    patterns = template["index_patterns"]
    return [patterns] if isinstance(patterns, str) else list(patterns)


def _matches(name: str, pattern: str) -> bool:
    return bool(re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name))


def _warn_of_pipelines(index: str, settings: Mapping[str, Any]) -> None:
    for key in ("default_pipeline", "final_pipeline"):
        if settings.get(key, "_none") != "_none":
            log.warning(
                "index %s sends what is written to it through the ingest pipeline %s (%s, from somebody's index "
                "template): what that drops or changes is not what this program wrote",
                *(index, settings[key], key),
            )
