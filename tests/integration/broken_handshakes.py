"""A proxy in front of a broker that closes connections in the middle of a login, as a broker does that is killed."""

from __future__ import annotations

import socket
import socketserver
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import count

SASL_HANDSHAKE = 17
"""The API key, a request's first two bytes, of the request that names the SASL mechanism."""


@contextmanager
def broken_handshakes(bootstrap: str) -> Iterator[str]:
    """Yield the address of a proxy in front of a listener without TLS; it breaks every second login, also the first."""
    numbers = count()
    host, _, port = bootstrap.rpartition(":")

    class Connection(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            broken = next(numbers) % 2 == 0
            with socket.create_connection((host, int(port))) as broker, suppress(OSError):
                threading.Thread(target=self._return, args=[broker], daemon=True).start()
                while length := self.rfile.read(4):
                    request = self.rfile.read(*struct.unpack(">i", length))
                    if broken and struct.unpack(">h", request[:2]) == (SASL_HANDSHAKE,):
                        break
                    broker.sendall(length + request)

        def _return(self, broker: socket.socket) -> None:
            with suppress(OSError):
                while block := broker.recv(65_536):
                    self.request.sendall(block)

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Connection) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=[0.05]).start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
