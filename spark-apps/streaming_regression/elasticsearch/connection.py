"""The connection to Elasticsearch: the login, and retries while it is away or busy."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

from elastic_transport import TransportError
from elasticsearch import ApiError, Elasticsearch

from streaming_regression import secret
from streaming_regression.elasticsearch import errors
from streaming_regression.errors import ConfigError
from streaming_regression.pauses import Pauses

Result = TypeVar("Result")
Parameters = ParamSpec("Parameters")

MAX_REQUEST_BYTES = 8_000_000
"""Limit of one write request, because thousands of records of 1 MB may come. Elasticsearch's own limit is 100 MB."""
REQUEST_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True)
class Connection:
    """Addresses and login of Elasticsearch. Executors get it too, so secrets stay in their files until `open`."""

    urls: tuple[str, ...]
    ca_file: Path | None = None
    user: str | None = None
    password_file: Path | None = None
    api_key_file: Path | None = None
    token_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None
    key_password_file: Path | None = None
    timeout_s: float = 600.0
    max_request_bytes: int = MAX_REQUEST_BYTES

    @property
    def where(self) -> str:
        """The cluster's name in messages."""
        return f"Elasticsearch at {','.join(self.urls)} (--elasticsearch-url / ELASTICSEARCH_URL)"

    @property
    def login(self) -> str:
        """The user's name in messages."""
        others = {"API key": self.api_key_file, "token": self.token_file, "certificate": self.certificate_file}
        return f"user {self.user or next((f'({name})' for name, file in others.items() if file), '(anonymous)')}"

    def open(self) -> Elasticsearch:
        """Return a client that does not retry; `Backoff` times the retries.

        The client has version 8, which works with Elasticsearch 8 and 9. A client of version 9 does not work with
        Elasticsearch 8.
        """
        options: dict[str, Any] = {}
        if self.ca_file or self.certificate_file:
            options["ssl_context"] = self._ssl_context()
        if file := self.api_key_file or self.token_file:
            kind = "api_key" if self.api_key_file else "token"
            key = secret.read(file, f"elasticsearch_{kind}_file")
            if not key.isascii():
                raise ConfigError(
                    f"--elasticsearch-{kind.replace('_', '-')}-file / ELASTICSEARCH_{kind.upper()}_FILE: {file} is not "
                    "an API key or token: it contains characters that are not ASCII"
                )
            options["api_key" if self.api_key_file else "bearer_auth"] = key
        elif self.user and self.password_file:
            options["basic_auth"] = (self.user, secret.read(self.password_file, "elasticsearch_password_file"))
        return Elasticsearch(
            list(self.urls), request_timeout=REQUEST_TIMEOUT_S, max_retries=0, retry_on_timeout=False, **options
        )

    def _ssl_context(self) -> ssl.SSLContext:
        try:
            context = ssl.create_default_context(cafile=self.ca_file)
        except OSError as error:  # includes ssl.SSLError
            raise ConfigError(
                f"--elasticsearch-ca-file / ELASTICSEARCH_CA_FILE: {self.ca_file} contains no readable certificate in "
                "PEM format"
            ) from error
        if self.certificate_file:
            password = ""  # without one, OpenSSL would ask for it on the terminal
            if self.key_password_file:
                password = secret.read(self.key_password_file, "elasticsearch_key_password_file")
            try:
                context.load_cert_chain(self.certificate_file, self.key_file, password)
            except OSError as error:
                raise ConfigError(
                    f"--elasticsearch-certificate-file / ELASTICSEARCH_CERTIFICATE_FILE: {self.certificate_file} is "
                    f"not a certificate in PEM format with the private key {self.key_file} (--elasticsearch-key-file), "
                    "or --elasticsearch-key-password-file is not the key's password"
                ) from error
        return context

    def retrying(
        self, call: Callable[Parameters, Result], *args: Parameters.args, **options: Parameters.kwargs
    ) -> Result:
        """Return the result of `call`; repeat it while Elasticsearch is away or busy, for up to `timeout_s` seconds.

        Raises
        ------
        ServerUnavailable, ConfigError, Refused
            After that time; at once for a wrong certificate or login; at once for missing rights or a bad request.
        """
        backoff = Backoff(self)
        while True:
            try:
                return call(*args, **options)
            except (ApiError, TransportError) as error:  # noqa: PERF203
                backoff.after(error)


class Backoff(Pauses):
    """Pauses between tries, longer each time, for up to `Connection.timeout_s` seconds."""

    def __init__(self, connection: Connection) -> None:
        super().__init__(connection.timeout_s)
        self._connection = connection

    def after(self, error: ApiError | TransportError) -> None:
        """Sleep after an error that may pass.

        Raises
        ------
        ServerUnavailable, ConfigError, Refused
            As `retrying` says.
        """
        if permanent := errors.permanent(error, self._connection):
            raise permanent from error
        self.wait(errors.passing(error, self._connection))


def wait(connection: Connection, client: Elasticsearch) -> None:
    """Wait until Elasticsearch answers and its health is not red."""
    backoff = Backoff(connection)
    asking = client.options(ignore_status=408)  # the status when `wait_for_status` times out
    while connection.retrying(lambda: asking.cluster.health(wait_for_status="yellow", timeout="1s"))["status"] == "red":
        backoff.wait(
            f"{connection.where} is red: some of its primary shards are not assigned (GET _cluster/allocation/explain "
            "says why)"
        )
