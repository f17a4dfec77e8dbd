"""The live page's server when Elasticsearch or a client does not respond. The tests need only a silent server."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import pytest
import urllib3

from dashboards.answers import CHOICES, WAITING
from dashboards.timeouts import REQUEST_WITHIN_S
from embedded import free_port
from embedded.testing.waiting import wait_until

FILES = ("/", "/static/page.js", "/static/page.css", "/vega.js", "/api/layout")
AT_ONCE_S = 5.0
"""Limit for responses from memory; responses that wait for Elasticsearch take longer."""
FEATURES = tuple(f"x{i}" for i in range(CHOICES + 8))


@dataclass
class Silent:
    """The page's process with an Elasticsearch that accepts connections and never answers."""

    process: subprocess.Popen[str]
    port: int
    answers: list[tuple[int, str]] = field(default_factory=list)

    def get(self, path: str, timeout_s: float = AT_ONCE_S) -> tuple[int, str]:
        answer = urllib3.request(
            "GET", f"http://127.0.0.1:{self.port}{path}", timeout=timeout_s, retries=False, preload_content=True
        )
        return answer.status, answer.data.decode()

    def ask_for_data(self, count: int, query: str = "") -> list[threading.Thread]:
        """Send requests from this many browsers; their responses are appended to `answers`."""

        def ask() -> None:
            self.answers.append(self.get(f"/api/data{query}", 60))

        threads = [threading.Thread(target=ask, daemon=True) for _ in range(count)]
        for thread in threads:
            thread.start()
        return threads

    def connect(self, sent: bytes = b"") -> socket.socket:
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=4 * REQUEST_WITHIN_S)
        connection.sendall(sent)
        return connection


@pytest.fixture
def silent() -> Iterator[Silent]:
    with socket.create_server(("127.0.0.1", 0), backlog=500) as elasticsearch:
        port = free_port()
        url = f"http://127.0.0.1:{elasticsearch.getsockname()[1]}"
        flags = ["--elasticsearch-url", url, "--page-port", str(port), "--features", ",".join(FEATURES)]
        process = subprocess.Popen(
            [sys.executable, "-m", "dashboards", "serve", *flags], stderr=subprocess.PIPE, text=True
        )
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            assert "the live page is at" in line, line + process.stderr.read()
            yield Silent(process, port)
        finally:
            process.kill()
            process.communicate()


@pytest.mark.slow
def test_own_files_come_while_more_browsers_wait_than_there_is_room_for(silent: Silent) -> None:
    """Refused requests get a sentence, and so do the others when their search fails."""
    waiting = silent.ask_for_data(WAITING + 20)
    wait_until(lambda: "" if len(silent.answers) >= 20 else f"{len(silent.answers)} are refused", 60)
    for path in FILES:
        status, _ = silent.get(path)
        assert status == 200, path
    for i, name in enumerate(FEATURES):  # each is a separate search
        waiting += silent.ask_for_data(1, f"?feature={name}") if i else []
    for thread in waiting:
        thread.join(60)
    assert {status for status, _ in silent.answers} == {503}
    words = {json.loads(body)["error"] for _, body in silent.answers}
    assert any(f"{WAITING} requests are already waiting for it" in text for text in words), words
    assert any("has not answered within" in text or "does not answer in time" in text for text in words), words


@pytest.mark.slow
def test_it_stops_although_searches_hang_and_clients_do_not_read(silent: Silent) -> None:
    waiting = silent.ask_for_data(3)
    deaf = silent.connect(b"GET /vega.js HTTP/1.1\r\nHost: localhost\r\n\r\n" * 20)
    half = silent.connect(b"GET / HTTP/1.1\r\nHost: loc")
    wait_until(lambda: "" if deaf.recv(1) else "no byte of the answer", 20)
    silent.process.terminate()
    assert silent.process.wait(AT_ONCE_S) == 0
    assert silent.process.stderr is not None
    assert silent.process.stderr.read() == ""
    for thread in waiting:
        thread.join(20)
    assert len(silent.answers) == 3
    assert {status for status, _ in silent.answers} == {503}
    deaf.close()
    half.close()


@pytest.mark.slow
def test_client_that_sends_no_complete_request_is_disconnected(silent: Silent) -> None:
    """Clients that send nothing, or only part of a request, or a body that does not end after its response."""
    whole = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
    body = b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\nx"
    connections = [
        silent.connect(sent) for sent in (b"", b"G", whole[:-1], whole + whole[:10], body, b"\r\n", whole + body)
    ]

    stop = threading.Event()

    def trickle() -> None:
        while not stop.wait(1):
            for connection in connections[-3:]:
                with suppress(OSError):  # it is closed, as it should be
                    connection.sendall(b"x")

    threading.Thread(target=trickle, daemon=True).start()
    for connection in connections:
        with connection, suppress(ConnectionError):
            while connection.recv(65536):  # until it is closed; a timeout fails the test
                pass
    stop.set()
    assert silent.get("/")[0] == 200
