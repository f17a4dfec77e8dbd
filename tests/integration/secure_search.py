"""A proxy with TLS and users for a real Elasticsearch; the embedded one has none, as its security is not published."""

from __future__ import annotations

import base64
import json
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import trustme
from typing_extensions import Self

from tests.http_server import HttpServer

Allowed = Callable[[str, str], bool]
"""Returns whether a user may send a request with this method and path."""


def anything(_method: str, _path: str) -> bool:
    """The rights of a superuser."""
    return True


@dataclass(frozen=True)
class Accounts:
    """The users and their rights: passwords by user name, and API keys and bearer tokens as clients send them."""

    passwords: Mapping[str, str]
    api_keys: Mapping[str, str]
    rights: Mapping[str, Allowed]
    tokens: Mapping[str, str] = field(default_factory=dict)

    def user(self, authorization: str) -> str | None:
        """Return the user with this Authorization header, or None."""
        kind, _, credentials = authorization.partition(" ")
        if kind == "Basic":
            user, _, password = base64.b64decode(credentials).decode().partition(":")
            return user if self.passwords.get(user) == password else None
        keys = {"ApiKey": self.api_keys, "Bearer": self.tokens}.get(kind, {})
        return next((name for name, key in keys.items() if key == credentials), None)


class SecureSearch:
    """An HTTPS server that passes permitted requests on to the Elasticsearch at `backend`.

    It answers others with 401 or 403, as Elasticsearch does. With `client_authority` it requires a client certificate
    of that CA, as Elasticsearch with `xpack.security.http.ssl.client_authentication: required`.
    """

    def __init__(
        self,
        backend: str,
        certificate: trustme.LeafCert,
        accounts: Accounts,
        client_authority: trustme.CA | None = None,
    ) -> None:
        self.requests: dict[str, int] = {}
        """Number of requests passed on, by user."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        certificate.configure_cert(context)
        if client_authority:
            context.verify_mode = ssl.CERT_REQUIRED
            client_authority.configure_trust(context)
        handler = type("Handler", (_Handler,), {"backend": urlsplit(backend), "accounts": accounts, "owner": self})
        self._server = HttpServer(handler, context=context)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.__exit__(kind, error, trace)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    timeout = 60
    backend: Any
    accounts: Accounts
    owner: SecureSearch

    def setup(self) -> None:
        super().setup()
        self.connection.do_handshake()
        self._onward = HTTPConnection(self.backend.hostname, self.backend.port, timeout=60)

    def finish(self) -> None:
        self._onward.close()
        super().finish()

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        user = self.accounts.user(self.headers.get("Authorization", ""))
        if user is None:
            self._refuse(401, f"unable to authenticate user for REST request [{self.path}]")
        elif not self.accounts.rights[user](self.command, self.path):
            self._refuse(403, f"action [{self.command} {self.path}] is unauthorized for user [{user}]")
        else:
            self.owner.requests[user] = self.owner.requests.get(user, 0) + 1
            kept = {name: value for name, value in self.headers.items() if name.lower() != "authorization"}
            self._onward.request(self.command, self.path, body, kept)
            answer = self._onward.getresponse()
            content = answer.read()
            self._send(answer.status, dict(answer.getheaders()), content)

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = _answer  # noqa: N815

    def _refuse(self, status: int, reason: str) -> None:
        cause = {"type": "security_exception", "reason": reason}
        content = json.dumps({"error": {"root_cause": [cause], **cause}, "status": status}).encode()
        headers = {"X-elastic-product": "Elasticsearch", "Content-Type": "application/json"}
        self._send(status, headers, content)

    def _send(self, status: int, headers: Mapping[str, str], content: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in {"content-length", "transfer-encoding", "connection"}:
                self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
