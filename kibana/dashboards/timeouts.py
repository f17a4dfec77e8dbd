"""HTTP connections that are closed when a client is too slow; uvicorn itself would wait for ever."""

from __future__ import annotations

from asyncio import TimerHandle, Transport
from typing import Any

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

REQUEST_WITHIN_S = 10.0
READ_WITHIN_S = 60.0


class ProtocolWithTimeouts(H11Protocol):
    """A connection that is closed when its client is too slow.

    A complete request must arrive within REQUEST_WITHIN_S seconds of the connection or of the last response. An unread
    body counts as part of the next request. If a response fills the buffers, the client must read on within
    READ_WITHIN_S seconds.
    """

    def __init__(self, *args: Any, **more: Any) -> None:  # noqa: ANN401 - uvicorn's own
        super().__init__(*args, **more)
        self._request_due: TimerHandle | None = None
        self._read_due: TimerHandle | None = None

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]
        """Start the timeout of the first request."""
        super().connection_made(transport)
        self._wait_for_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the timeout of the next request."""
        self._cancel_request()
        super().connection_lost(exc)

    def handle_events(self) -> None:
        """Handle received data; a complete request cancels the timeout."""
        super().handle_events()
        cycle: RequestResponseCycle | None = self.cycle  # None before the first request, despite uvicorn's type
        if cycle is not None and not cycle.response_complete:
            self._cancel_request()

    def on_response_complete(self) -> None:
        """Start the timeout of the next request."""
        self._wait_for_request()
        super().on_response_complete()

    def pause_writing(self) -> None:
        """Start the timeout for the client to read."""
        super().pause_writing()
        self._read_due = self._read_due or self.loop.call_later(READ_WITHIN_S, self.transport.abort)

    def resume_writing(self) -> None:
        """Cancel the timeout for the client to read."""
        super().resume_writing()
        if self._read_due is not None:
            self._read_due.cancel()
            self._read_due = None

    def shutdown(self) -> None:
        """Close the connection when the server stops; at once if the client does not read its response."""
        super().shutdown()
        if self._read_due is not None:
            self.transport.abort()

    def _wait_for_request(self) -> None:
        self._cancel_request()
        self._request_due = self.loop.call_later(REQUEST_WITHIN_S, self.transport.abort)

    def _cancel_request(self) -> None:
        if self._request_due is not None:
            self._request_due.cancel()
            self._request_due = None
