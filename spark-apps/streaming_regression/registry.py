"""The schema registry: the login, the meaning of its errors, and retries while it is away or busy.

Confluent's client and its packages are imported only by `open`, because most topics need no registry.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from streaming_regression import secret
from streaming_regression.errors import ConfigError, Refused, StreamError
from streaming_regression.pauses import Pauses

if TYPE_CHECKING:
    from confluent_kafka.schema_registry import SchemaRegistryClient

Result = TypeVar("Result")

REQUEST_TIMEOUT_S = 10.0
BUSY = frozenset([408, 425, 429])  # in addition to all of 5xx
NOT_FOUND = frozenset([40401, 40402, 40403])  # error codes: no such subject, version or schema
SHOWN = 200  # characters of a response
SPEAKS = "the registry must have Confluent's API; Apicurio's address ends with /apis/ccompat/v7"


class NotFoundError(Exception):
    """The registry answers, but has no such schema."""


@dataclass(frozen=True, slots=True)
class Connection:
    """Address and login of a registry. Executors get it too, so secrets stay in their files until `open`."""

    url: str
    ca_file: Path | None = None
    user: str | None = None
    password_file: Path | None = None
    token_file: Path | None = None
    timeout_s: float = 600.0

    @property
    def where(self) -> str:
        """The registry's name in messages."""
        return f"the schema registry at {self.url} (--schema-registry-url / SCHEMA_REGISTRY_URL)"

    @property
    def login(self) -> str:
        """The user's name in messages."""
        return f"user {self.user or ('(token)' if self.token_file else '(anonymous)')}"

    def open(self) -> SchemaRegistryClient:
        """Return a client that does not retry; `retrying` does.

        Raises
        ------
        ConfigError
            When a file of the login cannot be used.
        """
        from confluent_kafka.schema_registry import SchemaRegistryClient  # noqa: PLC0415

        config: dict[str, Any] = {"url": self.url, "timeout": REQUEST_TIMEOUT_S, "max.retries": 0}
        if self.ca_file:
            config["ssl.ca.location"] = str(self.ca_file)
        if self.token_file:
            config |= {
                "bearer.auth.credentials.source": "STATIC_TOKEN",
                "bearer.auth.token": secret.read(self.token_file, "schema_registry_token_file"),
                "bearer.auth.logical.cluster": "",  # the client requires it; only Confluent Cloud uses it
            }
        elif self.user and self.password_file:
            password = secret.read(self.password_file, "schema_registry_password_file")
            config["basic.auth.user.info"] = f"{self.user}:{password}"
        try:
            return SchemaRegistryClient(config)
        except ssl.SSLError as error:
            raise ConfigError(
                f"--schema-registry-ca-file / SCHEMA_REGISTRY_CA_FILE: {self.ca_file} contains no readable certificate "
                "in PEM format"
            ) from error

    def retrying(self, call: Callable[[], Result]) -> Result:
        """Return the result of `call`; repeat it while the registry is away or busy, for up to `timeout_s` seconds.

        Raises
        ------
        NotFoundError
            When the registry has no such schema.
        ServerUnavailable, ConfigError, Refused
            After that time; at once for a wrong certificate or login; at once for missing rights, or if the server is
            no registry.
        """
        from confluent_kafka.schema_registry import SchemaRegistryError  # noqa: PLC0415
        from httpx2 import TransportError  # noqa: PLC0415

        pauses = Pauses(self.timeout_s)
        while True:
            try:
                return call()
            except SchemaRegistryError as error:
                if error.error_code in NOT_FOUND:
                    raise NotFoundError(str(error)) from error
                if permanent := _permanent(error.http_status_code, _text(error.error_message), self):
                    raise permanent from error
                reason = f"{self.where} is busy: {_text(error.error_message)} (HTTP {error.http_status_code})"
            except TransportError as error:
                if permanent := _permanent_tls(str(error), self):
                    raise permanent from error
                reason = f"{self.where} cannot be reached"
            except (ValueError, LookupError, TypeError, AttributeError) as error:  # the client cannot read the response
                raise Refused(f"{self.where} sent a response that is not from a schema registry: {SPEAKS}") from error
            pauses.wait(reason)


def wait(connection: Connection) -> None:
    """Wait until the registry answers, and check that it is one and that the login is right."""
    with connection.open() as client:
        try:
            connection.retrying(client.get_schema_types)
        except NotFoundError as error:
            raise Refused(f"{connection.where} has no schema types: {SPEAKS}") from error


def _permanent(status: int, text: str, connection: Connection) -> StreamError | None:
    """Return the error that ends the program, or None for an error that may pass."""
    if status in BUSY or status >= 500:
        return None
    if status == 401:
        return ConfigError(
            f"{connection.where} refused the login: check --schema-registry-user and --schema-registry-password-file, "
            "or --schema-registry-token-file"
        )
    if status == 403:
        return Refused(
            f"{connection.where} does not let {connection.login} read schemas: {text}; give this user the right to "
            "read, or use another login (--schema-registry-user, --schema-registry-token-file)"
        )
    if status == 404:
        return Refused(f"{connection.where} has no such page (HTTP 404): {SPEAKS}")
    return Refused(f"{connection.where} refused a request: {text} (HTTP {status}); {SPEAKS}")


def _permanent_tls(text: str, connection: Connection) -> StreamError | None:
    text = re.sub(r"\.? \(_ssl\.c:\d+\)$", "", text)
    _, verified, reason = text.partition("certificate verify failed: ")
    if verified and "mismatch" in reason:
        return ConfigError(f"{connection.where}: {reason}: use a host name that its certificate contains")
    if verified:
        return ConfigError(
            f"the certificate of {connection.where} is not signed by a CA in "
            f"{connection.ca_file or 'the list of public CAs'} ({reason}): name the file with its CA "
            "(--schema-registry-ca-file / SCHEMA_REGISTRY_CA_FILE)"
        )
    if "WRONG_VERSION_NUMBER" in text or "HTTP_REQUEST" in text:
        return ConfigError(f"{connection.where} does not speak https: is it http://?")
    return None


def _text(message: object) -> str:
    """Return the text of an error, or of a page without its HTML."""
    page = re.sub(r"^Unknown Schema Registry Error: b.(.*).$", r"\1", str(message or ""), flags=re.DOTALL)
    plain = re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", page, flags=re.DOTALL)
    return " ".join(plain.split())[:SHOWN] or "no reason given"
