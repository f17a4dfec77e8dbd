"""The connection to Elasticsearch: login, retries while it is away or busy, and error messages."""

from __future__ import annotations

import logging
import random
import re
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from elastic_transport import ConnectionError as TransportConnectionError
from elastic_transport import ConnectionTimeout, TlsError, TransportError
from elasticsearch import ApiError, Elasticsearch, UnsupportedProductError

from streaming_regression import secret
from streaming_regression.errors import ConfigError, Refused, ServerUnavailable
from streaming_regression.sink import faults

log = logging.getLogger(__name__)
Result = TypeVar("Result")
Parameters = ParamSpec("Parameters")

BUSY = frozenset([408, 429])  # in addition to all of 5xx
MAX_REQUEST_BYTES = 8_000_000
"""Limit of one write request, because thousands of records of 1 MB may come. Elasticsearch's own limit is 100 MB."""
REQUEST_TIMEOUT_S = 60.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 10.0
SHOWN = 200  # characters of a response that is not an Elasticsearch error


@dataclass(frozen=True, slots=True)
class Connection:
    """Addresses and login of Elasticsearch. Executors get it too, so secrets stay in their files until `open`."""

    urls: tuple[str, ...]
    ca_file: Path | None = None
    user: str | None = None
    password_file: Path | None = None
    api_key_file: Path | None = None
    timeout_s: float = 600.0
    max_request_bytes: int = MAX_REQUEST_BYTES

    @property
    def where(self) -> str:
        """The cluster's name in messages."""
        return f"Elasticsearch at {','.join(self.urls)} (--elasticsearch-url / ELASTICSEARCH_URL)"

    @property
    def login(self) -> str:
        """The user's name in messages."""
        return f"user {self.user or '(API key)'}"

    def open(self) -> Elasticsearch:
        """Return a client that does not retry; `Patience` times the retries.

        The client has version 8, which works with Elasticsearch 8 and 9. A client of version 9 does not work with
        Elasticsearch 8.
        """
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
        """Return the result of `call`; repeat it while Elasticsearch is away or busy, for up to `timeout_s` seconds.

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
        """Return a description of an error that may pass; for any other, raise the error that ends the program."""
        where = self.where
        if isinstance(error, TlsError):
            return self._explain_tls(error)
        if isinstance(error, TransportError):
            kind = "does not answer in time" if isinstance(error, ConnectionTimeout) else "cannot be reached"
            if isinstance(error, (TransportConnectionError, ConnectionTimeout)):
                return f"{where} {kind}"
            raise Refused(f"{where} answered what is no answer of Elasticsearch: {error}") from error
        if isinstance(error, UnsupportedProductError):
            raise Refused(
                f"{where} is no Elasticsearch 8 or 9, whose answers have the header X-Elastic-Product (OpenSearch, an "
                f"older version, or the page of a proxy or a login?): it answered {_said(error)}"
            ) from error
        if error.status_code == 401:
            raise ConfigError(
                f"{where} refused the login: check --elasticsearch-user and --elasticsearch-password-file, "
                "or --elasticsearch-api-key-file"
            ) from error
        if error.status_code in BUSY or error.status_code >= 500:
            return f"{where} is busy: {_said(error)}"
        cause = error.body.get("error") if isinstance(error.body, dict) else None
        if error.meta.headers.get("x-elastic-product") != "Elasticsearch" and not isinstance(cause, Mapping):
            raise Refused(
                f"{where} is no Elasticsearch (the page of a proxy or a login, or a wrong path?): it answered "
                f"{_said(error)}"
            ) from error
        cause = cause if isinstance(cause, Mapping) else {"reason": cause}
        if "Accept version must be" in str(cause.get("reason")):
            raise Refused(f"{where} is of a version other than 8 and 9: {_said(error)}") from error
        # Status 403 without a type means missing rights; a cluster or index block also has status 403, but a type.
        if cause.get("type") == "security_exception" or (error.status_code == 403 and not cause.get("type")):
            raise Refused(
                f"{where} does not let {self.login} do this: {_said(error)}; its role needs the cluster rights monitor "
                "and manage_index_templates, and all rights on the prefix's indices"
            ) from error
        if error.status_code == 403 or cause.get("type") in faults.PASSING_TYPES:
            return f"{where} is busy: {_said(error)}"
        raise Refused(f"{where} refused a request: {_said(error)}") from error

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
    """Pauses between tries, longer each time, for up to `Connection.timeout_s` seconds."""

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


def wait(connection: Connection, client: Elasticsearch) -> None:
    """Wait until Elasticsearch answers and its health is not red."""
    patience = Patience(connection)
    asking = client.options(ignore_status=408)  # the status when `wait_for_status` times out
    while (
        connection.patiently(lambda: asking.cluster.health(wait_for_status="yellow", timeout="1s"))["status"] == "red"
    ):
        patience.wait(
            f"{connection.where} is red: some of its primary shards are not assigned (GET _cluster/allocation/explain "
            "says why)"
        )


def _trusting(ca_file: Path) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except OSError as error:  # includes ssl.SSLError
        raise ConfigError(
            f"--elasticsearch-ca-file / ELASTICSEARCH_CA_FILE: {ca_file} holds no certificate in PEM form that can be "
            "read"
        ) from error


def _said(error: ApiError) -> str:
    """Return the innermost reason of an error, or the text of a page, with the HTTP status."""
    body = error.body
    cause = body.get("error", body) if isinstance(body, dict) else body
    while isinstance(cause, dict) and isinstance(cause.get("caused_by"), dict):
        cause = cause["caused_by"]
    text = (cause.get("reason") or cause.get("type") or cause) if isinstance(cause, dict) else cause
    plain = " ".join(re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", str(text), flags=re.DOTALL).split())
    shown = plain if isinstance(body, dict) and "error" in body else plain[:SHOWN]
    return f"{shown or 'nothing'} (HTTP {error.status_code})"
