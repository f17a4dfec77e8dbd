"""Elasticsearch: a client that logs in with the secrets in files, and messages for its errors."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from elastic_transport import ConnectionTimeout, TlsError, TransportError
from elasticsearch import ApiError, Elasticsearch, UnsupportedProductError

from dashboards.errors import ConfigError, DashboardsError, Refused, ServerUnavailable
from dashboards.settings import WithElasticsearch

BUSY = frozenset([408, 429, 502, 503, 504])
SHOWN = 200  # characters shown of a response that is not from Elasticsearch


def secret(path: Path, setting: str) -> str:
    """Return a file's content without the line break at its end; errors name the file, never its content."""
    flag = f"--{setting.replace('_', '-')} / {setting.upper()}: {path}"
    try:
        text = path.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise ConfigError(f"{flag} cannot be read ({error.strerror}): allow this user to read it") from error
    except UnicodeDecodeError:
        raise ConfigError(f"{flag} is not valid UTF-8 text") from None
    if not text:
        raise ConfigError(f"{flag} is empty: it must contain the secret and nothing else")
    return text


@contextmanager
def client(settings: WithElasticsearch, timeout_s: float) -> Iterator[Elasticsearch]:
    """Yield a client that does not retry. It has version 8, which works with Elasticsearch 8 and 9."""
    options: dict[str, Any] = {}
    if settings.elasticsearch_certificate_file:
        options["ssl_context"] = _ssl_context(settings)
    elif settings.elasticsearch_ca_file:
        options["ca_certs"] = str(settings.elasticsearch_ca_file)
    if settings.elasticsearch_api_key_file:
        options["api_key"] = secret(settings.elasticsearch_api_key_file, "elasticsearch_api_key_file")
    elif settings.elasticsearch_token_file:
        options["bearer_auth"] = secret(settings.elasticsearch_token_file, "elasticsearch_token_file")
    elif settings.elasticsearch_user and settings.elasticsearch_password_file:
        password = secret(settings.elasticsearch_password_file, "elasticsearch_password_file")
        options["basic_auth"] = (settings.elasticsearch_user, password)
    urls = [url.strip() for url in settings.elasticsearch_url.split(",")]
    opened = Elasticsearch(urls, request_timeout=timeout_s, max_retries=0, retry_on_timeout=False, **options)
    try:
        yield opened
    finally:
        opened.close()


def _ssl_context(settings: WithElasticsearch) -> ssl.SSLContext:
    certificate, key = settings.elasticsearch_certificate_file, settings.elasticsearch_key_file
    assert certificate is not None  # noqa: S101 - the caller has checked it
    password = ""  # without one, OpenSSL would ask for it on the terminal
    if settings.elasticsearch_key_password_file:
        password = secret(settings.elasticsearch_key_password_file, "elasticsearch_key_password_file")
    try:
        context = ssl.create_default_context(cafile=settings.elasticsearch_ca_file)
        context.load_cert_chain(certificate, key, password)
    except OSError as error:  # includes ssl.SSLError
        raise ConfigError(
            f"--elasticsearch-certificate-file / ELASTICSEARCH_CERTIFICATE_FILE: {certificate} is not a certificate in "
            f"PEM format with the private key {key} (--elasticsearch-key-file), --elasticsearch-key-password-file is "
            "not the key's password, or --elasticsearch-ca-file is not a certificate in PEM format"
        ) from error
    return context


def translated(error: ApiError | TransportError, settings: WithElasticsearch) -> DashboardsError:
    """Return the error to raise for an error of the client: ServerUnavailable if it may pass."""
    where = f"Elasticsearch at {settings.elasticsearch_url} (--elasticsearch-url / ELASTICSEARCH_URL)"
    if "CERTIFICATE_VERIFY_FAILED" in str(error):
        return ConfigError(
            f"the certificate of {where} is not signed by a CA in "
            f"{settings.elasticsearch_ca_file or 'the system’s CA store'}: name the file with its CA "
            "(--elasticsearch-ca-file / ELASTICSEARCH_CA_FILE)"
        )
    if isinstance(error, TransportError):
        how = "does not answer in time" if isinstance(error, ConnectionTimeout) else "cannot be reached"
        if isinstance(error, TlsError):
            certificate = settings.elasticsearch_certificate_file or "not set"
            how = f"failed in the TLS handshake (does it accept --elasticsearch-certificate-file, {certificate}?)"
        return ServerUnavailable(f"{where} {how}")
    if error.status_code == 401:
        return ConfigError(
            f"{where} refused the login: check --elasticsearch-user and --elasticsearch-password-file, "
            "or --elasticsearch-api-key-file, or --elasticsearch-token-file"
        )
    if error.status_code in BUSY:
        return ServerUnavailable(f"{where} is not ready (HTTP {error.status_code})")
    if _is_not_elasticsearch(error):
        return Refused(
            f"{where} is not Elasticsearch 8 or 9 (OpenSearch, an older version, or the page of a proxy or a login?): "
            f"it answered {reason(error.body)} (HTTP {error.status_code})"
        )
    what = "does not let this user do this" if error.status_code == 403 else "refused a request"
    return Refused(f"{where} {what}: {reason(error.body)}")


def _is_not_elasticsearch(error: ApiError) -> bool:
    """Whether the response is not from Elasticsearch, whose responses all have the header X-Elastic-Product."""
    if isinstance(error, UnsupportedProductError):
        return True
    named = error.meta.headers.get("x-elastic-product") == "Elasticsearch"
    return not (named or (isinstance(error.body, dict) and "error" in error.body))


def reason(body: object) -> str:
    """Return the reason in the body of an error, or the beginning of a page's text."""
    if not isinstance(body, dict):
        page = re.sub(r"<(script|style).*?</\1>|<[^>]*>", " ", str(body), flags=re.DOTALL)
        return " ".join(page.split())[:SHOWN] or "nothing"
    error = body.get("error", body)
    return str(error.get("reason", error) if isinstance(error, dict) else error)
