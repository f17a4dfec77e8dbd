"""Servers between the app and Elasticsearch, or in its place: a proxy with a size limit, or another server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler
from typing import Literal
from urllib.parse import urlsplit

from tests.http_server import HttpServer

Limit = Literal["413", "502", "cut"]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 60

    def log_message(self, *_: object) -> None:
        """Log nothing: the refused requests are what is tested."""

    def send(self, status: int, headers: dict[str, str], content: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))


@contextmanager
def limited(backend: str, most_bytes: int, how: Limit = "413") -> Iterator[tuple[str, list[int]]]:
    """Yield the address of a proxy, and the lengths of the requests that it refused.

    It answers them with status 413 and a page, as nginx does, or 502, or closes the connection.
    """
    refused: list[int] = []
    place = urlsplit(backend)

    class Proxy(_Handler):
        def answer(self) -> None:
            body = self.body()
            if len(body) > most_bytes:
                refused.append(len(body))
                if how == "cut":
                    self.close_connection = True
                    return
                self.send(int(how), {"Content-Type": "text/html"}, b"<html><h1>The proxy's own page</h1></html>")
                return
            onward = HTTPConnection(str(place.hostname), int(place.port or 0), timeout=60)
            kept = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
            onward.request(self.command, self.path, body, kept)
            answer = onward.getresponse()
            content = answer.read()
            names = ("content-type", "x-elastic-product", "warning")
            self.send(answer.status, {name: text for name in names if (text := answer.getheader(name))}, content)
            onward.close()

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815

    with HttpServer(Proxy) as server:
        yield f"http://127.0.0.1:{server.server_port}", refused


@contextmanager
def answering(status: int, headers: dict[str, str], content: bytes) -> Iterator[str]:
    """Yield the address of a server that gives the same answer to every request."""

    class Same(_Handler):
        def answer(self) -> None:
            self.body()
            self.send(status, headers, content)

        do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = answer  # noqa: N815

    with HttpServer(Same) as server:
        yield f"http://127.0.0.1:{server.server_port}"
