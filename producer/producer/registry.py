"""The schema registry: registers the schema of each topic's values, and waits while the registry is away or busy.

Confluent's client and its packages are imported only by `register`, because JSON without a registry needs neither.
"""

import logging
import re
import ssl
import time
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

from producer import secret
from producer.errors import ConfigError, Interrupted, Refused, ServerUnavailable, StreamError
from producer.kafka import Stop
from producer.settings import Settings, setting

REQUEST_TIMEOUT_S = 10.0
PAUSE_S = 1.0

_BUSY = frozenset([408, 425, 429])  # in addition to all of 5xx
_SHOWN = 200  # characters of a response
_LOG_EVERY_S = 5.0

log = logging.getLogger(__name__)


def register(settings: Settings, stop: Stop, topics: Iterable[str], kind: str, schema: str) -> dict[str, int]:
    """Register a schema of `kind` (AVRO or JSON) for the values of each topic; return its id by topic.

    A schema that is registered already keeps its id.

    Raises
    ------
    ServerUnavailable
        When the registry does not answer for `server_timeout_s` seconds.
    ConfigError, Refused
        For a wrong certificate or login; for missing rights, or a schema that the registry does not accept.
    """
    from confluent_kafka.schema_registry import Schema, SchemaRegistryClient  # noqa: PLC0415

    logging.getLogger("httpx2").setLevel(logging.WARNING)  # it logs each request
    ids = {}
    try:
        client = SchemaRegistryClient(_config(settings))
    except ssl.SSLError as error:
        raise ConfigError(
            f"{setting('schema_registry_ca_file')}: {settings.schema_registry_ca_file} contains no readable "
            "certificate in PEM format"
        ) from error
    with client:
        for topic in topics:
            subject = f"{topic}-value"
            ids[topic] = _asked(settings, stop, partial(client.register_schema, subject, Schema(schema, kind)))
            log.info("the schema of %s has id %d", subject, ids[topic])
    return ids


def _config(settings: Settings) -> dict[str, Any]:
    config: dict[str, Any] = {
        "url": settings.schema_registry_url,
        "timeout": REQUEST_TIMEOUT_S,
        "max.retries": 0,
    }
    if settings.schema_registry_ca_file:
        config["ssl.ca.location"] = str(settings.schema_registry_ca_file)
    if settings.schema_registry_token_file:
        config |= {
            "bearer.auth.credentials.source": "STATIC_TOKEN",
            "bearer.auth.token": secret.read(settings.schema_registry_token_file, "schema_registry_token_file"),
            "bearer.auth.logical.cluster": "",  # the client requires it; only Confluent Cloud uses it
        }
    elif settings.schema_registry_password_file:
        password = secret.read(settings.schema_registry_password_file, "schema_registry_password_file")
        config["basic.auth.user.info"] = f"{settings.schema_registry_user}:{password}"
    return config


def _asked(settings: Settings, stop: Stop, call: Callable[[], int]) -> int:
    """Return the result of `call`; repeat it while the registry is away or busy."""
    from confluent_kafka.schema_registry import SchemaRegistryError  # noqa: PLC0415
    from httpx2 import TransportError  # noqa: PLC0415

    where = f"the schema registry at {settings.schema_registry_url} ({setting('schema_registry_url')})"
    begun = logged = time.monotonic()
    while True:
        if stop.signum is not None:
            raise Interrupted(stop.signum)
        try:
            return call()
        except SchemaRegistryError as error:
            status, text = error.http_status_code, _plain(error.error_message)
            if permanent := _permanent(where, status, text):
                raise permanent from error
            reason = f"it is busy: {text} (HTTP {status})"
        except TransportError as error:
            if permanent := _permanent_tls(where, settings, str(error)):
                raise permanent from error
            reason = "it cannot be reached"
        except (ValueError, LookupError, TypeError, AttributeError) as error:  # the client cannot read the response
            raise Refused(f"{where} sent a response that is not from a schema registry") from error
        now = time.monotonic()
        if now - begun > settings.server_timeout_s:
            raise ServerUnavailable(
                f"{where} has not answered for {settings.server_timeout_s:g} s ({setting('server_timeout_s')}): "
                f"{reason}"
            )
        if now - logged > _LOG_EVERY_S:
            logged = now
            log.warning(
                "%s has not answered for %.0f s, giving up after %g s: %s",
                *(where, now - begun, settings.server_timeout_s, reason),
            )
        time.sleep(PAUSE_S)


def _permanent(where: str, status: int, text: str) -> StreamError | None:
    """Return the failure for an answer, or None if it may pass."""
    if status in _BUSY or status >= 500:
        return None
    if status == 401:
        fields = ", ".join(map(setting, ("schema_registry_user", "schema_registry_password_file")))
        return ConfigError(f"{fields}: {where} refused this login (or {setting('schema_registry_token_file')})")
    if status == 403:
        return Refused(f"{setting('schema_registry_user')}: {where} does not let this user register schemas: {text}")
    if status == 404:
        return Refused(f"{where} has no such page (HTTP 404): Apicurio's address ends with /apis/ccompat/v7")
    return Refused(f"{where} did not accept the schema: {text} (HTTP {status})")


def _permanent_tls(where: str, settings: Settings, text: str) -> StreamError | None:
    if "certificate verify failed" in text:
        ca = settings.schema_registry_ca_file or "the list of public CAs"
        return ConfigError(
            f"{setting('schema_registry_ca_file')}: the certificate of {where} is not signed by a CA in {ca}, or is "
            f"not issued for its address: {text}"
        )
    if "WRONG_VERSION_NUMBER" in text or "HTTP_REQUEST" in text:
        return ConfigError(f"{where} does not speak https: is it http://?")
    return None


def _plain(message: object) -> str:
    """Return the text of an error, or of a page without its HTML."""
    page = re.sub(r"^Unknown Schema Registry Error: b.(.*).$", r"\1", str(message or ""), flags=re.DOTALL)
    plain = re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", page, flags=re.DOTALL)
    return " ".join(plain.split())[:_SHOWN] or "no reason given"
