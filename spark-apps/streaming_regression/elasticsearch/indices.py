"""The indices of a prefix: templates, the four indices of each day and their mappings, and retention."""

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

from streaming_regression import schema
from streaming_regression.documents import Origin
from streaming_regression.elasticsearch.connection import Connection
from streaming_regression.errors import Refused
from streaming_regression.records import Fields

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Indices:
    """The indices of one prefix, and the mappings that they must have."""

    prefix: str
    fields: Fields
    storage: schema.Storage = schema.DEFAULT_STORAGE
    """How indices are stored that are created from now on."""

    def mapping(self, name: str) -> Mapping[str, Any]:
        """Return the mapping that the index `name` must have."""
        return schema.mappings(self.fields)[schema.index_kind(name, self.prefix)]

    def install(self, connection: Connection, client: Elasticsearch, day: date) -> None:
        """Install the index templates, and check that an index of `day` gets their mappings.

        Call it after `claim`: if another run held the prefix, its next day's indices would get these mappings.

        Raises
        ------
        Refused
            When another index template takes precedence and has other mappings; the message names it.
        """
        for name, template in schema.templates(self.prefix, self.fields, self.storage).items():
            connection.retrying(client.indices.put_index_template, name=name, **template)
        for kind in schema.KINDS:
            name = schema.index_name(self.prefix, kind, day)
            answer = connection.retrying(client.indices.simulate_index_template, name=name)
            overridden = {template["name"] for template in answer.get("overlapping", [])}
            own = f"{self.prefix}-{kind}"
            wrong = next(differences(answer["template"].get("mappings", {}), self.mapping(name)), "")
            if own in overridden or wrong:
                winner, template = connection.retrying(_winner, client, name)
                wrong = f"have {wrong}" if wrong else ""
                if "data_stream" in template:
                    wrong = "be a data stream, in which documents cannot be overwritten"
                if wrong:
                    raise Refused(
                        f"index template {winner} (priority {template.get('priority', 0)}) takes precedence over "
                        f"{own}, so {name} would {wrong}: lower its priority below that of {own}, exclude "
                        f"{self.prefix}-{kind}-* from its index_patterns, or use another --index-prefix"
                    )

    def prepare(self, connection: Connection, client: Elasticsearch, day: date) -> None:
        """Create the missing indices of `day`, and check all four.

        Dashboards read fields from indices, not from templates, so an index is created before it has a document.
        """
        names = [schema.index_name(self.prefix, kind, day) for kind in schema.KINDS]
        found = connection.retrying(_get, client, names)
        missing = [name for name in names if _write_index(name, found) is None]
        for name in missing:
            self.create(connection, client, name)
        self.check(connection, client, names)

    def create(self, connection: Connection, client: Elasticsearch, name: str) -> None:
        """Create an index if it is missing, with the settings of its template and, always, our mapping."""
        # The limit of fields is set here, too, because another template may have won with the same mapping.
        connection.retrying(create_index, client, name, self.mapping(name), schema.settings(self.fields) or None)

    def check(self, connection: Connection, client: Elasticsearch, names: Iterable[str]) -> list[str]:
        """Check that documents can be written under these names, with the right mapping; add missing fields.

        Returns
        -------
        list of str
            The ingest pipelines of these indices. They can spoil a document that was valid.

        Raises
        ------
        Refused
            For an alias without a write index, a data stream, or another mapping; the message names it.
        """
        names = sorted(name for name in names if schema.index_date(name, self.prefix))
        found = connection.retrying(_get, client, names)
        pipelines = []
        for name in names:
            index = _write_index(name, found)
            if index is None:  # deleted meanwhile: the next write creates it
                continue
            wanted, have = self.mapping(name), found[index].get("mappings", {})
            wrong = sorted(differences(have, wanted), key=lambda difference: difference.startswith("no field"))
            if wrong and wrong[0].startswith("no field"):  # only such: an older version made the index
                connection.retrying(client.indices.put_mapping, index=index, properties=wanted["properties"])
                wrong = []
            if wrong:
                raise Refused(
                    f"index {index} has {wrong[0]}, so it cannot store the documents correctly: delete it, reindex it "
                    f"with the mapping of index template {name[: -len('-YYYY.MM.DD')]}, or use another --index-prefix"
                )
            pipelines += _pipelines(index, found[index].get("settings", {}).get("index", {}))
        return pipelines

    def look_back(self, connection: Connection, client: Elasticsearch) -> None:
        """Warn of indices of other days in which a field has another type: dashboards cannot read them."""
        found = connection.retrying(_mappings, client, self.prefix)
        for name, index in found.items():
            if schema.index_date(name, self.prefix):
                for wrong in differences(index.get("mappings", {}), self.mapping(name)):
                    if not wrong.startswith("no field"):
                        log.warning("index %s has %s: dashboards cannot show it; delete or reindex it", name, wrong)
                        break


def check_not_a_data_stream(connection: Connection, client: Elasticsearch, name: str, prefix: str) -> None:
    """Raise Refused if an index template would make `name` a data stream; the message names the template."""
    winner, template = connection.retrying(_winner, client, name)
    if "data_stream" in template:
        raise Refused(
            f"index template {winner} (priority {template.get('priority', 0)}) would make {name} a data stream, in "
            f"which documents cannot be overwritten: exclude {prefix}-* from its index_patterns, or use another "
            "--index-prefix"
        )


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any], path: str = "") -> Iterator[str]:
    """Yield each difference of a mapping from the wanted one; additional fields are accepted."""
    if not path and found.get("_source", {}).get("enabled", True) in {False, "false"}:
        yield "no _source"
    if not path and found.get("_routing", {}).get("required", False) in {True, "true"}:
        yield "_routing set to required"
    if path and "subobjects" in wanted and str(found.get("subobjects", True)).lower() != "false":
        yield f"subobjects enabled in {path}, although field names may contain dots"
        return
    fields = found.get("properties", {})
    for name, want in wanted["properties"].items():
        full, have = f"{path}{name}", fields.get(name)
        if have is None:
            yield f"no field {full}"
            continue
        kinds = [field.get("type", "object") for field in (have, want)]
        if kinds[0] != kinds[1]:
            yield f"field {full} of type {kinds[0]} instead of {kinds[1]}"
        elif "properties" in want:
            yield from differences(have, want, f"{full}.")
        else:
            for key in ("index", "doc_values"):
                is_set, must = (str(field.get(key, True)).lower() for field in (have, want))
                if is_set != must and want["type"] != "binary":
                    yield f"field {full} with {key} {is_set} instead of {must}"


def create_index(
    client: Elasticsearch, name: str, mappings: Mapping[str, Any], settings: Mapping[str, Any] | None = None
) -> None:
    """Create an index, unless there is an index or alias of that name."""
    try:
        client.indices.create(index=name, mappings=mappings, settings=settings)
    except BadRequestError as error:
        if "already exists" not in str(error.body):
            raise


def refresh(client: Elasticsearch, origin: Origin, last: Thread | None) -> Thread:
    """Refresh the micro-batch's indices so that searches see it at once; Elasticsearch's own refresh takes a second.

    The request runs in a thread that nothing waits for. A failure is only logged, because the documents are safe. No
    request is sent while the `last` one is unanswered.
    """

    def ask() -> None:
        try:
            client.indices.refresh(index=[origin.index(kind) for kind in schema.KINDS], ignore_unavailable=True)
        except (ApiError, TransportError, OSError) as error:
            log.log(
                logging.DEBUG if last else logging.WARNING,
                "searches will find batch %d late, because the refresh failed: %s",
                origin.batch,
                error,
            )

    if last and last.is_alive():
        return last
    thread = Thread(target=ask, daemon=True)
    thread.start()
    return thread


def expire(connection: Connection, client: Elasticsearch, prefix: str, today: date, retention_days: int) -> list[str]:
    """Delete the prefix's indices that are more than `retention_days` days older than `today`; return their names."""
    oldest = today - timedelta(days=retention_days)
    old = [name for name, day in connection.retrying(index_dates, client, prefix).items() if day < oldest]
    if old:
        connection.retrying(client.indices.delete, index=old, ignore_unavailable=True)
        log.info("deleted indices older than %d days: %s", retention_days, ", ".join(old))
    return old


def index_dates(client: Elasticsearch, prefix: str) -> dict[str, date]:
    """Return the days of the prefix's indices, by the index's name."""
    names = client.indices.get(index=f"{prefix}-*", filter_path="*.settings.index.uuid", expand_wildcards="open")
    dates = {name: schema.index_date(name, prefix) for name in sorted(names)}
    return {name: day for name, day in dates.items() if day}


def _get(client: Elasticsearch, names: list[str]) -> dict[str, Any]:
    return dict(client.indices.get(index=names, ignore_unavailable=True, expand_wildcards="all"))


def _mappings(client: Elasticsearch, prefix: str) -> dict[str, Any]:
    return dict(client.indices.get_mapping(index=f"{prefix}-*", expand_wildcards="open"))


def _write_index(name: str, found: Mapping[str, Any]) -> str | None:
    """Return the index that receives writes to `name`: that index, or an alias's write index; None if missing."""
    if name in found:
        return name
    for index, details in found.items():
        if details.get("data_stream") == name:
            raise Refused(
                f"{name} is a data stream (with index {index}), in which documents cannot be overwritten: delete it "
                "and the index template that creates it, or use another --index-prefix"
            )
    aliased = {
        index: details["aliases"][name] for index, details in found.items() if name in details.get("aliases", {})
    }
    writable = [index for index, alias in aliased.items() if alias.get("is_write_index", len(aliased) == 1)]
    if aliased and len(writable) != 1:
        raise Refused(
            f"{name} is an alias of {', '.join(sorted(aliased))} without a write index: make one of them its write "
            "index, delete the alias, or use another --index-prefix"
        )
    return writable[0] if writable else None


def _winner(client: Elasticsearch, name: str) -> tuple[str, dict[str, Any]]:
    """Return the name and content of the index template for index `name`, the matching one of highest priority.

    Both are empty if no template matches.
    """
    found = client.indices.get_index_template()["index_templates"]
    matching = [
        candidate
        for candidate in found
        if any(_matches(name, pattern) for pattern in _patterns(candidate["index_template"]))
    ]
    best = max(matching, key=lambda template: int(template["index_template"].get("priority", 0)), default=None)
    return (best["name"], best["index_template"]) if best else ("", {})


def _patterns(template: Mapping[str, Any]) -> list[str]:
    patterns = template["index_patterns"]
    return [patterns] if isinstance(patterns, str) else list(patterns)


def _matches(name: str, pattern: str) -> bool:
    return bool(re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name))


def _pipelines(index: str, settings: Mapping[str, Any]) -> list[str]:
    """Return the ingest pipelines of an index, and warn of them."""
    found = [key for key in ("default_pipeline", "final_pipeline") if settings.get(key, "_none") != "_none"]
    for key in found:
        log.warning(
            "index %s passes each document through the ingest pipeline %s (%s, set by another index template), which "
            "may drop or change documents of this program",
            *(index, settings[key], key),
        )
    return [str(settings[key]) for key in found]
