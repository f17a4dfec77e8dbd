"""Elasticsearch: acknowledged bulk writes that wait out its absence, index templates, one run per prefix, retention."""

from __future__ import annotations

import logging
import random
import re
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from threading import Thread
from typing import Any, ParamSpec, TypeVar

from elastic_transport import ConnectionError as TransportConnectionError
from elastic_transport import ConnectionTimeout, TlsError, TransportError
from elasticsearch import ApiError, Elasticsearch

from streaming_regression import documents, secret
from streaming_regression.decode import Fields
from streaming_regression.documents import Origin
from streaming_regression.errors import ConfigError, Refused, ServerUnavailable

log = logging.getLogger(__name__)
Result = TypeVar("Result")
Parameters = ParamSpec("Parameters")

BUSY = frozenset([408, 429])  # and whatever is the server's own fault: 5xx
MAX_REQUEST_BYTES = 8_000_000  # of records of 1 MB, thousands of which may come together; well below what it takes
REQUEST_TIMEOUT_S = 60.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 10.0


@dataclass(frozen=True, slots=True)
class Connection:
    """How to reach Elasticsearch; secrets stay in their files until a client is opened, also on executors."""

    urls: tuple[str, ...]
    ca_file: Path | None = None
    user: str | None = None
    password_file: Path | None = None
    api_key_file: Path | None = None
    timeout_s: float = 600.0

    @property
    def where(self) -> str:
        """What messages call it."""
        return f"Elasticsearch at {','.join(self.urls)} (--elasticsearch-url / ELASTICSEARCH_URL)"

    def open(self) -> Elasticsearch:
        """Return a client without retries of its own; `Patience` has ours."""
        options: dict[str, Any] = {}
        if self.ca_file:
            options["ssl_context"] = _trusting(self.ca_file)
        if self.api_key_file:
            options["api_key"] = secret.read(self.api_key_file, "elasticsearch_api_key_file")
        elif self.user and self.password_file:
            options["basic_auth"] = (self.user, secret.read(self.password_file, "elasticsearch_password_file"))
        return Elasticsearch(
            list(self.urls), request_timeout=REQUEST_TIMEOUT_S, max_retries=0, retry_on_timeout=False, **options
        )

    def patiently(
        self, call: Callable[Parameters, Result], *args: Parameters.args, **options: Parameters.kwargs
    ) -> Result:
        """Return what `call` does, called again while Elasticsearch is away or busy, for up to `timeout_s` seconds.

        Raises
        ------
        ServerUnavailable, ConfigError, Refused
            After that time; at once for a wrong certificate or login; at once for missing rights or a bad request.
        """
        patience = Patience(self)
        while True:
            try:
                return call(*args, **options)
            except (ApiError, TransportError) as error:  # noqa: PERF203
                patience.wait(self.explain(error))

    def explain(self, error: ApiError | TransportError) -> str:
        """Return what is wrong if it may pass, else raise the error that ends the program."""
        where = self.where
        if isinstance(error, TlsError):
            return self._explain_tls(error)
        if isinstance(error, TransportError):
            kind = "does not answer in time" if isinstance(error, ConnectionTimeout) else "cannot be reached"
            if isinstance(error, (TransportConnectionError, ConnectionTimeout)):
                return f"{where} {kind}"
            raise Refused(f"{where} answered what is no answer of Elasticsearch: {error}") from error
        if error.status_code == 401:
            raise ConfigError(
                f"{where} refused the login: check --elasticsearch-user and --elasticsearch-password-file, "
                "or --elasticsearch-api-key-file"
            ) from error
        if error.status_code == 403 and "cluster_block_exception" not in str(error.body):
            raise Refused(
                f"{where} does not let user {self.user or '(API key)'} do this: {_reason(error)}; its role needs "
                "the cluster rights monitor and manage_index_templates, and all rights on the prefix's indices"
            ) from error
        if error.status_code in BUSY or error.status_code == 403 or error.status_code >= 500:
            return f"{where} is busy: {_reason(error)}"
        raise Refused(f"{where} refused a request: {_reason(error)}") from error

    def _explain_tls(self, error: TlsError) -> str:
        text = re.sub(r"\.? \(_ssl\.c:\d+\)$", "", str(error.message))
        _, verified, reason = text.partition("certificate verify failed: ")
        if verified and "mismatch" in reason:
            raise ConfigError(f"{self.where}: {reason}: call it by a name that its certificate holds") from error
        if verified:
            raise ConfigError(
                f"--elasticsearch-ca-file / ELASTICSEARCH_CA_FILE: {self.ca_file or 'the system’s CA store'} does not "
                f"vouch for the certificate of {self.where} ({reason}): name the file with its CA"
            ) from error
        if "WRONG_VERSION_NUMBER" in text or "HTTP_REQUEST" in text:
            raise ConfigError(f"{self.where} does not speak https: is it http://?") from error
        return f"{self.where} breaks off the TLS handshake: {text}"


class Patience:
    """Pauses between tries, longer each time, until `Connection.timeout_s` seconds have gone since the first."""

    def __init__(self, connection: Connection) -> None:
        self._timeout_s = connection.timeout_s
        self._start = time.monotonic()
        self._pause_s = FIRST_PAUSE_S

    def wait(self, reason: str) -> None:
        """Sleep, or raise ServerUnavailable with `reason` when the time is over."""
        waited = time.monotonic() - self._start
        if waited >= self._timeout_s:
            raise ServerUnavailable(f"{reason}; gave up after {waited:.0f} s (--server-timeout-s)")
        if self._pause_s > 1:
            log.warning("%s; waiting (%.0f of %.0f s)", reason, waited, self._timeout_s)
        time.sleep(min(self._pause_s * random.uniform(0.5, 1.0), max(self._timeout_s - waited, 0.01)))  # noqa: S311
        self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A document that Elasticsearch will never take: its place in what was written, and why."""

    position: int
    reason: str


def write(
    connection: Connection, client: Elasticsearch, lines: Sequence[str], index: str | None = None
) -> list[Refusal]:
    """Write documents (bulk lines) and return those that were refused; all others are acknowledged on return.

    Elasticsearch away, or too busy for some of the documents: those are written again, for up to
    `connection.timeout_s` seconds after the last success. Ids make that safe.
    """
    refusals: list[Refusal] = []
    waiting = deque(_requests(lines))
    patience = Patience(connection)
    while waiting:
        pending = waiting[0]
        body: Any = "".join([lines[position] for position in pending]).encode()
        try:
            answer = client.bulk(index=index, operations=body, filter_path="errors")
            if answer["errors"]:  # in which documents is asked only then, for it is work for both: ids make that safe
                answer = client.bulk(index=index, operations=body, filter_path="errors,items.*.status,items.*.error")
        except (ApiError, TransportError) as error:
            patience.wait(connection.explain(error))
            continue
        waiting.popleft()
        if not answer["errors"]:
            patience = Patience(connection)
            continue
        busy: list[int] = []
        reason = ""
        for position, item in zip(pending, answer["items"], strict=True):
            ((_, result),) = item.items()
            if result["status"] < 300:
                continue
            cause = result.get("error", {})
            text = f"{cause.get('type')}: {cause.get('caused_by', cause).get('reason')}"
            if result["status"] == 400:  # the document's own fault; all else may pass
                refusals.append(Refusal(position, f"refused by Elasticsearch: {text}"))
            elif result["status"] in {401, 403} and cause.get("type") != "cluster_block_exception":
                raise Refused(f"Elasticsearch does not let user {connection.user or '(API key)'} write: {text}")
            else:
                busy.append(position)
                reason = f"Elasticsearch is too busy or read-only: {text}"
        if len(busy) < len(pending):
            patience = Patience(connection)
        if busy:
            waiting.appendleft(busy)
            patience.wait(reason)
    return sorted(refusals, key=lambda refusal: refusal.position)


def _requests(lines: Sequence[str]) -> Iterator[list[int]]:
    """Yield the positions of the documents that go into one request each."""
    request: list[int] = []
    size = 0
    for position, line in enumerate(lines):
        if request and size + len(line) > MAX_REQUEST_BYTES:
            yield request
            request, size = [], 0
        request.append(position)
        size += len(line)
    if request:
        yield request


def write_all(connection: Connection, client: Elasticsearch, lines: Sequence[str], index: str | None = None) -> None:
    """Write documents of which none may be refused; Refused names the first that was."""
    for refusal in write(connection, client, lines, index):
        raise Refused(f"Elasticsearch refused a document that must be kept: {refusal.reason}")


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


def wait(connection: Connection, client: Elasticsearch) -> None:
    """Return when Elasticsearch is up and not red."""
    patience = Patience(connection)
    asking = client.options(ignore_status=408)  # what it answers while red
    while (
        connection.patiently(lambda: asking.cluster.health(wait_for_status="yellow", timeout="1s"))["status"] == "red"
    ):
        patience.wait(
            f"{connection.where} is red: some of its primary shards are not assigned (GET _cluster/allocation/explain "
            "says why)"
        )


def install(connection: Connection, client: Elasticsearch, prefix: str, fields: Fields) -> None:
    """Put the index templates in place; not before `claim`, because they are also those of another run's next day."""
    for name, template in documents.templates(prefix, fields).items():
        connection.patiently(client.indices.put_index_template, name=name, **template)


def claim(connection: Connection, client: Elasticsearch, prefix: str, run: str | None, *, replace: bool) -> None:
    """See that the prefix's indices hold no documents of another run than `run` (None: of any run).

    With `replace`, indices that hold other runs' documents only are deleted.

    Raises
    ------
    Refused
        Naming another run found, and the ways out.
    """
    own = {"term": {"run": run or ""}}
    foreign: dict[str, str] = {}
    for name in connection.patiently(_indices, client, prefix):
        found = connection.patiently(client.search, index=name, query={"bool": {"must_not": own}}, size=1)
        for hit in found["hits"]["hits"]:
            foreign[name] = hit["_source"].get("run", "(none)")
    if not foreign:
        return
    place, other = next(iter(foreign.items()))
    if not replace:
        raise Refused(
            f"{place} holds documents of run {other}, but this checkpoint is {f'run {run}' if run else 'new'}, and an "
            "index prefix belongs to one run: restore that run's checkpoint (--checkpoint), or take another "
            "--index-prefix, or have the old documents deleted with --replace-run"
        )
    for name in foreign:
        if connection.patiently(client.count, index=name, query=own)["count"]:
            raise Refused(
                f"{name} holds documents of run {other} beside this run's own, so --replace-run would delete both: "
                "take another --index-prefix"
            )
    log.warning("--replace-run: deleting %s", ", ".join(foreign))
    connection.patiently(client.indices.delete, index=list(foreign), ignore_unavailable=True)


def expire(connection: Connection, client: Elasticsearch, prefix: str, today: date, retention_days: int) -> list[str]:
    """Delete the prefix's indices of more than `retention_days` days before `today`; return their names."""
    oldest = today - timedelta(days=retention_days)
    old = [name for name, day in connection.patiently(_indices, client, prefix).items() if day < oldest]
    if old:
        connection.patiently(client.indices.delete, index=old, ignore_unavailable=True)
        log.info("deleted indices older than %d days: %s", retention_days, ", ".join(old))
    return old


def _indices(client: Elasticsearch, prefix: str) -> dict[str, date]:
    names = client.indices.get(index=f"{prefix}-*", filter_path="*.settings.index.uuid", expand_wildcards="open")
    dates = {name: documents.index_date(name, prefix) for name in sorted(names)}
    return {name: day for name, day in dates.items() if day}


def _trusting(ca_file: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # that of SSL, too
        raise ConfigError(
            f"--elasticsearch-ca-file / ELASTICSEARCH_CA_FILE: {ca_file} holds no certificate in PEM form that can be "
            "read"
        ) from error


def _reason(error: ApiError) -> str:
    body = error.body
    cause = body.get("error", body) if isinstance(body, dict) else body
    while isinstance(cause, dict) and isinstance(cause.get("caused_by"), dict):
        cause = cause["caused_by"]
    text = (cause.get("reason") or cause.get("type") or cause) if isinstance(cause, dict) else cause
    return f"{text} (HTTP {error.status_code})"
