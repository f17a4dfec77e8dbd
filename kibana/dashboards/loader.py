"""`python -m dashboards load`: waits for Kibana, creates missing templates and indices, imports the dashboards."""

from __future__ import annotations

import json
import logging
import time
from base64 import b64encode
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote

import urllib3
from elastic_transport import TransportError
from elasticsearch import ApiError, Elasticsearch
from urllib3.exceptions import HTTPError, SSLError

from dashboards import search
from dashboards.dashboard import ndjson
from dashboards.errors import ConfigError, Refused, ServerUnavailable
from dashboards.panels import TIME
from dashboards.saved_objects import INDICES
from dashboards.settings import Load
from dashboards.templates import templates

log = logging.getLogger(__name__)

PAUSE_S = 2.0
BUSY = frozenset([408, 429, 502, 503, 504])
SHOWN = 300  # characters shown of an unexpected response


def load(settings: Load) -> None:
    """Install templates, empty indices and dashboards.

    Existing index templates and indices are kept, existing saved objects are overwritten.
    """
    content = _content(settings)
    kibana = Kibana(settings)
    kibana.wait()
    with search.client(settings, settings.request_timeout_s) as client:
        _install_templates(settings, client)
        _create_indices(settings, client)
    if settings.dry_run:
        for saved in map(json.loads, content.rstrip("\n").split("\n")):
            log.info("would import %s %s: %s", saved["type"], saved["id"], saved["attributes"].get("title", ""))
        log.info("dry run: nothing was changed")
        return
    imported = kibana.import_objects(content)
    log.info("imported %d objects into %s", len(imported), kibana.where)
    for saved in imported:
        if saved["type"] == "dashboard":  # Kibana may have given it another id
            found = quote(saved.get("destinationId", saved["id"]), safe="~")
            log.info("the dashboard is at %s/app/dashboards#/view/%s", kibana.base, found)


def _content(settings: Load) -> str:
    if settings.dashboards_file is None:
        return ndjson(settings.names, settings.kibana_space)
    return read_saved_objects(settings.dashboards_file)


def read_saved_objects(path: Path) -> str:
    """Return the file's saved objects. Check each line; leave out blank ones and the summary that Kibana appends."""
    where = f"--dashboards-file / DASHBOARDS_FILE: {path}"
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise ConfigError(f"{where} cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where} is not NDJSON: it is not valid UTF-8 text") from error
    lines = []
    for number, line in enumerate(text.split("\n"), 1):  # not splitlines: JSON may contain other line separators
        if not line.strip():
            continue
        try:
            found = json.loads(line)
        except ValueError as error:
            raise ConfigError(f"{where} is not NDJSON: line {number} is not JSON ({error})") from error
        if isinstance(found, dict) and "exportedCount" in found:
            continue
        if not (
            isinstance(found, dict) and {"type", "id"} <= found.keys() and isinstance(found.get("attributes"), dict)
        ):
            raise ConfigError(f"{where} is not a file of saved objects: line {number} lacks type, id or attributes")
        lines.append(line)
    if not lines:
        raise ConfigError(f"{where} is empty")
    return "\n".join(lines) + "\n"


def _retrying(settings: Load, attempt: Callable[[], Any]) -> Any:  # noqa: ANN401 - any result of the attempt
    """Return the result of `attempt`; repeat it while a server is not ready, for up to `server_timeout_s` seconds."""
    deadline = time.monotonic() + settings.server_timeout_s
    logged = ""
    while True:
        try:
            return attempt()
        except ServerUnavailable as error:  # noqa: PERF203
            left = deadline - time.monotonic()
            if left <= 0:
                raise ServerUnavailable(
                    f"{error}; waited {settings.server_timeout_s:g} s (--server-timeout-s / SERVER_TIMEOUT_S)"
                ) from error
            if str(error) != logged:
                logged = str(error)
                log.info("waiting up to %.0f s: %s", left, logged)
            time.sleep(min(PAUSE_S, left))


def _install_templates(settings: Load, client: Elasticsearch) -> None:
    for name, wanted in templates(settings.names).items():
        if _retrying(settings, partial(_install, settings, client, name, wanted)):
            log.info("%s index template %s", "would install" if settings.dry_run else "installed", name)


def _install(settings: Load, client: Elasticsearch, name: str, wanted: Mapping[str, Any]) -> bool:
    """Install a template if it is missing; return whether it was missing."""
    try:
        if client.indices.exists_index_template(name=name):
            (found,) = client.indices.get_index_template(name=name)["index_templates"]
            if not _covers(found["index_template"].get("template", {}).get("mappings", {}), wanted):
                log.warning(
                    "index template %s exists, but lacks fields of --features %s: it is not changed; the streaming "
                    "regression updates it when it is started with the same --features",
                    *(name, settings.names.summary),
                )
            return False
        if not settings.dry_run:
            client.indices.put_index_template(name=name, **wanted)
    except (ApiError, TransportError) as error:
        raise search.translated(error, settings) from error
    return True


def _create_indices(settings: Load, client: Elasticsearch) -> None:
    """Create an empty index of each kind that has none.

    Kibana knows the fields of indices, not those of templates. Without an index its panels show errors, and some keep
    them until the user loads the page again.
    """
    day = datetime.now(timezone.utc)
    for kind in INDICES:
        name = f"{settings.names.prefix}-{kind}-{day:%Y.%m.%d}"
        if _retrying(settings, partial(_create_index, settings, client, settings.names.pattern(kind), name)):
            log.info("%s index %s", "would create" if settings.dry_run else "created", name)


def _create_index(settings: Load, client: Elasticsearch, pattern: str, name: str) -> bool:
    """Create an index from its template if no index matches the pattern; return whether none did."""
    try:
        if client.field_caps(index=pattern, fields=TIME)["indices"]:
            return False
        if not settings.dry_run:
            client.indices.create(index=name)
    except (ApiError, TransportError) as error:
        if isinstance(error, ApiError) and error.status_code == 403:
            log.warning(
                "no index matches %s, and this user may not create %s: until the first data come, Kibana's panels show "
                "errors, and some need a reload then; grant read and create_index on %s-*, or start the streaming "
                "regression first",
                *(pattern, name, settings.names.prefix),
            )
            return False
        if isinstance(error, ApiError) and "already exists" in str(error.body):
            return False  # the streaming regression has created it meanwhile
        raise search.translated(error, settings) from error
    return True


def _covers(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    def missing(have: Mapping[str, Any], want: Mapping[str, Any]) -> bool:
        return any(
            name not in have or missing(have[name].get("properties", {}), field.get("properties", {}))
            for name, field in want.items()
        )

    return not missing(found.get("properties", {}), wanted["template"]["mappings"]["properties"])


class Kibana:
    """The part of Kibana's HTTP API that the loader needs."""

    def __init__(self, settings: Load) -> None:
        self._settings = settings
        self.base = settings.kibana_url + (f"/s/{settings.kibana_space}" if settings.kibana_space else "")
        self.where = f"Kibana at {settings.kibana_url} (--kibana-url / KIBANA_URL)"
        if settings.kibana_space:
            self.where += f", space {settings.kibana_space}"
        self.version = "unknown version"
        headers = {"kbn-xsrf": "dashboards"}
        keys = {"ApiKey": "kibana_api_key_file", "Bearer": "kibana_token_file"}
        for scheme, name in keys.items():
            if file := getattr(settings, name):
                key = search.secret(file, name)
                if not key.isascii():
                    raise ConfigError(
                        f"--{name.replace('_', '-')} / {name.upper()}: {file} is not an API key or token: it "
                        "contains characters that are not ASCII"
                    )
                headers["Authorization"] = f"{scheme} {key}"
        if settings.kibana_user and settings.kibana_password_file:
            password = search.secret(settings.kibana_password_file, "kibana_password_file")
            headers["Authorization"] = f"Basic {b64encode(f'{settings.kibana_user}:{password}'.encode()).decode()}"
        self._headers = headers
        self._pool = urllib3.PoolManager(
            ca_certs=str(settings.kibana_ca_file) if settings.kibana_ca_file else None,
            retries=False,
            timeout=settings.request_timeout_s,
        )

    def wait(self) -> None:
        """Wait until Kibana reports that it is ready."""
        _retrying(self._settings, self._status)

    def import_objects(self, content: str) -> list[dict[str, Any]]:
        """Import the objects, overwriting existing ones; return Kibana's result for each.

        Raises
        ------
        Refused
            With every error of every object. Kibana's status is 200 also in this case.
        """
        answer: dict[str, Any] = _retrying(self._settings, lambda: self._import(content))
        if answer.get("success") is not True:
            errors = [_fault(fault) for fault in answer.get("errors", [])] or [json.dumps(answer)[:SHOWN]]
            raise Refused(f"{self.where} did not import all objects:\n" + "\n".join(f"  {line}" for line in errors))
        found: list[dict[str, Any]] = answer.get("successResults", [])
        return found

    def _status(self) -> None:
        status, answer = self._request("GET", "/api/status")
        version = answer.get("version")
        number = version.get("number") if isinstance(version, dict) else None
        self.version = f"version {number}" if number else self.version
        if status != 200 or "status" not in answer:
            raise ConfigError(f"{self.where} is not Kibana (HTTP {status}): check host, port and base path")
        if space := self._settings.kibana_space:  # Kibana imports even into a space that does not exist
            status, _ = self._request("GET", f"/api/spaces/space/{space}")
            if status != 200:
                raise ConfigError(
                    f"{self.where}: there is no such space (--kibana-space / KIBANA_SPACE; HTTP {status})"
                )

    def _import(self, content: str) -> dict[str, Any]:
        file = ("dashboards.ndjson", content.encode(), "application/ndjson")
        status, answer = self._request("POST", "/api/saved_objects/_import?overwrite=true", fields={"file": file})
        if status == 422:
            raise Refused(
                f"{self.where} ({self.version}) is too old for these dashboards, which need 8.12: {_message(answer)}"
            )
        if status != 200:
            raise Refused(f"{self.where} refused the import (HTTP {status}): {_message(answer)}")
        return answer

    def _request(self, method: str, path: str, **options: Any) -> tuple[int, dict[str, Any]]:  # noqa: ANN401
        """Return status and response; raise the errors that do not depend on the request."""
        try:
            response = self._pool.request(method, self.base + path, headers=self._headers, redirect=False, **options)
        except SSLError as error:
            if "CERTIFICATE_VERIFY_FAILED" not in str(error):
                raise ServerUnavailable(f"{self.where} failed in the TLS handshake ({_cause(error)})") from error
            ca = self._settings.kibana_ca_file or "the system’s CA store"
            raise ConfigError(
                f"the certificate of {self.where} is not signed by a CA in {ca}: name the file with its CA "
                f"(--kibana-ca-file / KIBANA_CA_FILE; it differs from Elasticsearch's CA): {error}"
            ) from error
        except HTTPError as error:
            raise ServerUnavailable(f"{self.where} cannot be reached ({_cause(error)})") from error
        try:
            answer = json.loads(response.data)
        except ValueError:
            answer = {"message": response.data.decode(errors="replace")[:SHOWN].strip()}
        answer = answer if isinstance(answer, dict) else {"message": str(answer)[:SHOWN]}
        if response.status in BUSY:
            raise ServerUnavailable(f"{self.where} is not ready (HTTP {response.status})")
        if response.status == 401:
            raise ConfigError(
                f"{self.where} refused the login: check --kibana-user and --kibana-password-file, "
                "or --kibana-api-key-file, or --kibana-token-file"
            )
        if response.status == 403:
            raise Refused(
                f"{self.where} does not let this user install saved objects: its role needs the feature privilege "
                f"Saved Objects Management (all) in the space: {_message(answer)}"
            )
        return response.status, answer


def _fault(fault: Mapping[str, Any]) -> str:
    """Return the message for an import error."""
    error = fault.get("error", {})
    missing = ", ".join(f"{ref.get('type')} {ref.get('id')}" for ref in error.get("references", []))
    details = [
        str(error.get("type", "unknown")).replace("_", " "),
        *([f"it refers to {missing}, which does not exist"] if missing else []),
        *([str(error["message"])] if error.get("message") else []),
        *([f"HTTP {error['statusCode']}"] if error.get("statusCode") else []),
    ]
    return f"{fault.get('type')} {fault.get('id')}: {'; '.join(details)}"


def _message(answer: Mapping[str, Any]) -> str:
    return str(answer.get("message") or answer.get("error") or json.dumps(answer)[:SHOWN])


def _cause(error: BaseException) -> str:
    return f"{type(error).__name__}: {str(error).rpartition(': ')[2]}"
