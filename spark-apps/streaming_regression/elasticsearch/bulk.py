"""Acknowledged bulk writes: passing errors are retried, and only documents that are themselves invalid are returned."""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from threading import Lock
from typing import Any

from elastic_transport import ConnectionTimeout, TransportError
from elasticsearch import ApiError, Elasticsearch

from streaming_regression.elasticsearch import faults
from streaming_regression.elasticsearch.connection import Backoff, Connection
from streaming_regression.elasticsearch.faults import Fault
from streaming_regression.elasticsearch.indices import Indices
from streaming_regression.errors import Refused

log = logging.getLogger(__name__)

SMALLEST_BYTES = 64_000  # only HTTP 413 reduces the request size below this; a cut connection or a busy server does not
LARGE_BYTES = 4_000  # HTTP 413 for a smaller document is the fault of the server or proxy, not of the document
GROW_AFTER = 100  # successful requests in a row after which a size that `failed` reduced is doubled
UNREACHABLE = re.compile(r"Failed to establish a new connection|Name or service not known|NameResolutionError")
"""Messages of a server that is down, where a smaller request would fail too."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """A document that Elasticsearch will never accept: its position among the written documents, and the reason."""

    position: int
    reason: str


class RequestSize:
    """The largest request to send, in bytes: the setting, or a lower limit that this process found. Thread-safe."""

    def __init__(self, most: int) -> None:
        self.now = most
        self._most = most
        self._passed = 0
        self._lock = Lock()

    def refused(self, size: int) -> None:
        """Halve the size permanently: a request of `size` bytes is too large."""
        with self._lock:
            self._most = self.now = min(self.now, max(size // 2, 1))

    def failed(self, size: int) -> None:
        """Halve the size for a while: a request of `size` bytes failed repeatedly, and a smaller one may pass."""
        with self._lock:
            self.now = min(self.now, max(size // 2, SMALLEST_BYTES))
            self._passed = 0

    def passed(self) -> None:
        """Count a successful request; double a size that `failed` reduced after GROW_AFTER of them."""
        if self.now < self._most:
            with self._lock:
                self._passed += 1
                if self._passed >= GROW_AFTER:
                    self.now, self._passed = min(2 * self.now, self._most), 0


@cache
def request_size(connection: Connection) -> RequestSize:
    """Return this process's request size for the connection."""
    return RequestSize(connection.max_request_bytes)


def write(
    connection: Connection, client: Elasticsearch, lines: Sequence[str], indices: Indices, index: str | None = None
) -> list[Refusal]:
    """Write documents (bulk lines) and return those that were refused; all others are acknowledged on return.

    An error that is not a document's fault is retried, for up to `connection.timeout_s` seconds after the last success.
    Writing a document again is safe, because its id stays the same. A request that is too large is divided. A missing
    index is created.

    Raises
    ------
    ServerUnavailable, ConfigError, Refused
        After that time, or at once for an error that will not pass: see `faults`.
    """
    refusals: list[Refusal] = []
    size = request_size(connection)
    waiting = deque(requests(lines, range(len(lines)), size.now))
    backoff = Backoff(connection)
    failures = 0
    created: set[str] = set()
    while waiting:
        pending = waiting.popleft()
        body = "".join([lines[position] for position in pending]).encode()
        if len(body) > size.now and len(pending) > 1:  # the size was reduced meanwhile
            pending, *rest = requests(lines, pending, size.now)
            if rest:
                waiting.extendleft(reversed([pending, *rest]))
                continue
        try:
            items = _send(connection, client, body, index)
        except (ApiError, TransportError) as error:
            if isinstance(error, ApiError) and error.status_code == 413 and len(pending) > 1:
                size.refused(len(body))
                _warn_of_size(connection, len(body), size.now)
                waiting.extendleft([pending[len(pending) // 2 :], pending[: len(pending) // 2]])
                continue
            if isinstance(error, ApiError) and error.status_code == 413:
                if len(body) <= LARGE_BYTES:
                    raise Refused(
                        f"{connection.where}, or a proxy in front of it, refuses a request of {len(body)} bytes "
                        "(HTTP 413), but a single document needs that many: raise the limit (in nginx "
                        "client_max_body_size)"
                    ) from error
                refusals.append(Refusal(pending[0], _too_large(len(body))))
                continue
            failures += 1
            if failures > 1 and _may_be_too_large(error) and len(body) > SMALLEST_BYTES:
                size.failed(len(body))
            waiting.appendleft(pending)
            backoff.after(error)
            continue
        failures = 0
        size.passed()
        outcome = _classified(connection, pending, items, index, lines)
        if outcome.suspects:
            outcome.settle(indices.check(connection, client, outcome.indices))  # raises if the mapping is at fault
            refusals += outcome.suspects
        refusals += outcome.too_large
        for name in outcome.missing:
            indices.create(connection, client, name)
        progress = len(outcome.retry) < len(pending) or bool(outcome.missing - created)
        created |= outcome.missing
        if progress:
            backoff = Backoff(connection)
        if outcome.retry:
            waiting.appendleft(outcome.retry)
            backoff.wait(outcome.reason)
    return sorted(refusals, key=lambda refusal: refusal.position)


def write_all(
    connection: Connection, client: Elasticsearch, lines: Sequence[str], indices: Indices, index: str | None = None
) -> None:
    """Write documents that must all be accepted; raise Refused with the reason of the first refusal."""
    for refusal in write(connection, client, lines, indices, index):
        raise Refused(f"Elasticsearch refused a document that the run needs: {refusal.reason}")


def requests(lines: Sequence[str], positions: Iterable[int], most: int) -> Iterator[list[int]]:
    """Yield the positions of the documents of each request; a request has about `most` bytes."""
    request: list[int] = []
    size = 0
    for position in positions:
        length = len(lines[position])
        if request and size + length > most:
            yield request
            request, size = [], 0
        request.append(position)
        size += length
    if request:
        yield request


def _send(connection: Connection, client: Elasticsearch, body: bytes, index: str | None) -> list[Mapping[str, Any]]:
    """Return the result of each document, or an empty list if all were written."""
    operations: Any = body
    answer = client.bulk(index=index, operations=operations, filter_path="errors")
    if _has_errors(connection, answer.body):
        # Send the documents again to get the result of each. The first answer lacks them, because they cost time.
        asked = "errors,items.*.status,items.*.error,items.*._index"
        answer = client.bulk(index=index, operations=operations, filter_path=asked)
    return list(answer["items"]) if _has_errors(connection, answer.body) else []


def _has_errors(connection: Connection, body: object) -> bool:
    if not isinstance(body, dict) or "errors" not in body:  # for example a proxy's error page
        raise Refused(f"{connection.where} answered a write request with a response that is not from Elasticsearch")
    return bool(body["errors"])


@dataclass(slots=True)
class _Outcome:
    """The documents of a request that were not written, by what to do next."""

    retry: list[int]
    suspects: list[Refusal]
    too_large: list[Refusal]
    missing: set[str]
    indices: set[str]
    reason: str = ""

    def settle(self, pipelines: Sequence[str]) -> None:
        """Retry the suspects if their index has ingest pipelines: a pipeline may be at fault, not the documents."""
        if pipelines:
            self.retry += [suspect.position for suspect in self.suspects]
            self.reason = (
                f"the ingest pipeline {', '.join(pipelines)} may have spoilt documents for "
                f"{', '.join(sorted(self.indices))}: {self.suspects[0].reason}; remove the pipeline from the index's "
                "settings and from the index template that sets it"
            )
            self.suspects = []


def _classified(
    connection: Connection,
    pending: Sequence[int],
    items: Sequence[Mapping[str, Any]],
    index: str | None,
    lines: Sequence[str],
) -> _Outcome:
    outcome = _Outcome([], [], [], set(), set())
    for position, item in zip(pending, items, strict=False):
        ((_, result),) = item.items()
        if result["status"] < 300:
            continue
        error, name = result.get("error", {}), index or str(result.get("_index"))  # _index may be an alias's index
        text = faults.description(error)
        match faults.classify(result["status"], error):
            case Fault.DOCUMENT:
                outcome.suspects.append(Refusal(position, f"refused by Elasticsearch: {text}"))
                outcome.indices.add(name)
            case Fault.TOO_LARGE if len(lines[position]) > LARGE_BYTES:
                outcome.too_large.append(Refusal(position, f"refused by Elasticsearch: {text}"))
            case Fault.LASTING if result["status"] in {401, 403}:
                raise Refused(f"Elasticsearch does not let {connection.login} write: {text}")
            case Fault.LASTING:
                raise Refused(f"Elasticsearch does not accept documents for {name}, and a retry cannot help: {text}")
            case Fault.MISSING:
                outcome.retry.append(position)
                outcome.missing.add(name)
                outcome.reason = f"Elasticsearch has no index {name}: {text}"
            case Fault.PASSING | Fault.TOO_LARGE:
                outcome.retry.append(position)
                outcome.reason = f"Elasticsearch does not accept documents for {name} at present: {text}"
    return outcome


def _may_be_too_large(error: ApiError | TransportError) -> bool:
    """Whether a smaller request might succeed: the request was cut off, timed out, or needed too much memory."""
    if isinstance(error, ApiError):
        return error.status_code in {408, 429} or error.status_code >= 500
    return isinstance(error, ConnectionTimeout) or not UNREACHABLE.search(str(error))


def _too_large(size: int) -> str:
    return f"too large: Elasticsearch or a proxy in front of it refuses a request of {size} bytes (HTTP 413)"


def _warn_of_size(connection: Connection, refused: int, now: int) -> None:
    log.warning(
        "%s, or a proxy in front of it, refused a request of %d bytes (HTTP 413): requests are now limited to %d bytes"
        "; set --elasticsearch-max-request-bytes %d to avoid refused requests",
        *(connection.where, refused, now, now),
    )
