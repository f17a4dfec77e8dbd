"""An HTTP server for tests, with or without TLS."""

from __future__ import annotations

import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from typing_extensions import Self


class HttpServer(ThreadingHTTPServer):
    """A server on this machine. Its thread runs until the `with` block ends.

    Parameters
    ----------
    port
        0: a free one; `server_port` has its number.
    context
        The server's TLS; None: plain HTTP.
    """

    def __init__(
        self, handler: type[BaseHTTPRequestHandler], port: int = 0, context: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(("127.0.0.1", port), handler)
        self._tls = context is not None
        if context:
            # Each connection has its handshake in its own thread: a client that never begins it must not block others.
            self.socket = context.wrap_socket(self.socket, server_side=True, do_handshake_on_connect=False)

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.05})
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()
        self._thread.join()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """With TLS, log nothing: clients that refuse the certificate or hang up are part of the tests."""
        if not self._tls:
            super().handle_error(request, client_address)
