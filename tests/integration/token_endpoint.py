"""The token endpoint of an OAuth server: it signs real tokens, and Kafka checks them with its public key."""

from __future__ import annotations

import base64
import json
import ssl
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs

import trustme
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from typing_extensions import Self

from embedded import free_port
from tests.http_server import HttpServer

ISSUER, AUDIENCE, KEY_ID = "https://login.test", "kafka", "key-1"


class TokenEndpoint:
    """`/token` gives client credentials a JWT (RFC 6749, section 4.4), and `/keys` the public key (RFC 7517).

    Attributes
    ----------
    requests : the scopes of the granted requests, by client id.

    Parameters
    ----------
    secrets
        The clients' secrets by client id; the client id is the token's subject.
    certificate
        The server's certificate, for https; None: http.
    key
        The key that signs the tokens; None: a new one.
    """

    def __init__(
        self,
        secrets: Mapping[str, str],
        certificate: trustme.LeafCert | None = None,
        key: rsa.RSAPrivateKey | None = None,
    ) -> None:
        self.requests: dict[str, list[str]] = {}
        self.key = key or rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.secrets = secrets
        self._port = free_port()
        self._certificate = certificate

    @property
    def url(self) -> str:
        """The address of the tokens."""
        return f"{'https' if self._certificate else 'http'}://localhost:{self._port}/token"

    @property
    def keys_url(self) -> str:
        """The address of the public key."""
        return self.url.replace("/token", "/keys")

    def token(self, client: str, lifetime_s: int = 300) -> str:
        """Return a signed token of a client."""
        now = int(time.time())
        claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": client, "iat": now, "exp": now + lifetime_s}
        signed = f"{_encoded({'alg': 'RS256', 'typ': 'JWT', 'kid': KEY_ID})}.{_encoded(claims)}"
        signature = self.key.sign(signed.encode(), padding.PKCS1v15(), SHA256())
        return f"{signed}.{_base64(signature)}"

    def keys(self) -> dict[str, Any]:
        """Return the public key as a JSON Web Key Set."""
        numbers = self.key.public_key().public_numbers()
        modulus, exponent = (
            _base64(number.to_bytes((number.bit_length() + 7) // 8, "big")) for number in (numbers.n, numbers.e)
        )
        return {"keys": [{"kty": "RSA", "kid": KEY_ID, "use": "sig", "alg": "RS256", "n": modulus, "e": exponent}]}

    def __enter__(self) -> Self:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if self._certificate else None
        if context and self._certificate:
            self._certificate.configure_cert(context)
        self._server = HttpServer(type("Handler", (_Handler,), {"endpoint": self}), self._port, context)
        self._server.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.__exit__(kind, error, trace)


class _Handler(BaseHTTPRequestHandler):
    endpoint: TokenEndpoint
    timeout = 60

    def do_GET(self) -> None:
        self._send(200, self.endpoint.keys())

    def do_POST(self) -> None:
        form = parse_qs(self.rfile.read(int(self.headers.get("Content-Length", 0))).decode())
        kind, _, credentials = self.headers.get("Authorization", "").partition(" ")
        client, _, secret = base64.b64decode(credentials).decode().partition(":") if kind == "Basic" else ("", "", "")
        if self.path != "/token":
            self._send(404, {"error": "not found"})
        elif form.get("grant_type") != ["client_credentials"]:
            self._send(400, {"error": "unsupported_grant_type"})
        elif secret and self.endpoint.secrets.get(client) == secret:
            self.endpoint.requests.setdefault(client, []).append(" ".join(form.get("scope", [])))
            self._send(200, {"access_token": self.endpoint.token(client), "token_type": "Bearer", "expires_in": 300})
        else:
            self._send(401, {"error": "invalid_client", "error_description": "client authentication failed"})

    def log_message(self, *_: Any) -> None:
        """Log nothing."""

    def _send(self, status: int, answer: Mapping[str, Any]) -> None:
        content = json.dumps(answer).encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


def _encoded(part: Mapping[str, Any]) -> str:
    return _base64(json.dumps(part).encode())


def _base64(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()
