"""The errors of Elasticsearch's requests: those that never pass, and the description of those that may."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from elastic_transport import ConnectionError as TransportConnectionError
from elastic_transport import ConnectionTimeout, TlsError, TransportError
from elasticsearch import ApiError, UnsupportedProductError

from streaming_regression.elasticsearch import faults
from streaming_regression.errors import ConfigError, Refused, StreamError

if TYPE_CHECKING:
    from streaming_regression.elasticsearch.connection import Connection

BUSY = frozenset([408, 429])  # in addition to all of 5xx
SHOWN = 200  # characters of a response that is not an Elasticsearch error
NO_PRODUCT = (
    "the responses lack the header X-Elastic-Product: is this OpenSearch, an older version, or the page of a proxy or "
    "a login?"
)


def permanent(error: ApiError | TransportError, connection: Connection) -> StreamError | None:
    """Return the error that ends the program, or None for an error that may pass."""
    if isinstance(error, TlsError):
        return _permanent_tls(error, connection)
    if isinstance(error, TransportError):
        if isinstance(error, (TransportConnectionError, ConnectionTimeout)):
            return None
        return Refused(f"{connection.where} sent a response that is not from Elasticsearch: {error}")
    if isinstance(error, UnsupportedProductError):
        return Refused(
            f"{connection.where} is not Elasticsearch 8 or 9 ({NO_PRODUCT}): it answered {_response_text(error)}"
        )
    if error.status_code in BUSY or error.status_code >= 500:
        return None
    return _permanent_answer(error, connection)


def _permanent_answer(error: ApiError, connection: Connection) -> StreamError | None:
    where = connection.where
    cause = error.body.get("error") if isinstance(error.body, dict) else None
    product = error.meta.headers.get("x-elastic-product") == "Elasticsearch" or isinstance(cause, Mapping)
    cause = cause if isinstance(cause, Mapping) else {"reason": cause}
    if error.status_code == 401:
        return ConfigError(
            f"{where} refused the login: check --elasticsearch-user and --elasticsearch-password-file, "
            "or --elasticsearch-api-key-file, or --elasticsearch-token-file"
        )
    if not product:
        text = f"{where} is not Elasticsearch (the page of a proxy or a login, or a wrong path?): it answered"
    elif "Accept version must be" in str(cause.get("reason")):
        text = f"{where} is neither version 8 nor 9:"
    # Status 403 without a type means missing rights; a cluster or index block also has status 403, but a type.
    elif cause.get("type") == "security_exception" or (error.status_code == 403 and not cause.get("type")):
        return Refused(
            f"{where} does not let {connection.login} do this: {_response_text(error)}; its role needs the cluster "
            "privileges monitor and manage_index_templates, and all privileges on the prefix's indices"
        )
    elif error.status_code == 403 or cause.get("type") in faults.PASSING_TYPES:
        return None
    else:
        text = f"{where} refused a request:"
    return Refused(f"{text} {_response_text(error)}")


def passing(error: ApiError | TransportError, connection: Connection) -> str:
    """Return the description of an error for which `permanent` returned None."""
    if isinstance(error, ApiError):
        return f"{connection.where} is busy: {_response_text(error)}"
    if isinstance(error, TlsError):
        hint = "" if connection.certificate_file else " (does it require a client certificate?)"
        return f"{connection.where} ended the TLS handshake early: {_tls_text(error)}{hint}"
    kind = "does not answer in time" if isinstance(error, ConnectionTimeout) else "cannot be reached"
    return f"{connection.where} {kind}"


def _permanent_tls(error: TlsError, connection: Connection) -> StreamError | None:
    text = _tls_text(error)
    _, verified, reason = text.partition("certificate verify failed: ")
    if verified and "mismatch" in reason:
        return ConfigError(f"{connection.where}: {reason}: use a host name that its certificate contains")
    if verified:
        return ConfigError(
            f"the certificate of {connection.where} is not signed by a CA in "
            f"{connection.ca_file or 'the system’s CA store'} ({reason}): name the file with its CA "
            "(--elasticsearch-ca-file / ELASTICSEARCH_CA_FILE)"
        )
    if "alert" in text and ("certificate" in text or "unknown ca" in text):
        if not connection.certificate_file:
            return ConfigError(
                f"{connection.where} requires a client certificate: set --elasticsearch-certificate-file and "
                "--elasticsearch-key-file"
            )
        return ConfigError(
            f"{connection.where} refused the client certificate {connection.certificate_file}: "
            "--elasticsearch-certificate-file must be signed by a CA that the nodes trust, and not have expired"
        )
    if "WRONG_VERSION_NUMBER" in text or "HTTP_REQUEST" in text:
        return ConfigError(f"{connection.where} does not speak https: is it http://?")
    return None


def _tls_text(error: TlsError) -> str:
    return re.sub(r"\.? \(_ssl\.c:\d+\)$", "", str(error.message))


def _response_text(error: ApiError) -> str:
    """Return the innermost reason of an error, or the text of a page, with the HTTP status."""
    body: Any = error.body
    cause = body.get("error", body) if isinstance(body, dict) else body
    while isinstance(cause, dict) and isinstance(cause.get("caused_by"), dict):
        cause = cause["caused_by"]
    text = (cause.get("reason") or cause.get("type") or cause) if isinstance(cause, dict) else cause
    plain = " ".join(re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", str(text), flags=re.DOTALL).split())
    shown = plain if isinstance(body, dict) and "error" in body else plain[:SHOWN]
    return f"{shown or 'nothing'} (HTTP {error.status_code})"
