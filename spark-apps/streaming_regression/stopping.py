"""SIGTERM and SIGINT end the program at once or, during the query, after the micro-batch; a second signal at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """Handles both signals from now on: raises SystemExit(0) in the main thread, unless they are deferred.

    `signalled` is whether a signal has arrived.
    """

    def __init__(self) -> None:
        self.signalled = False
        self._requested: threading.Event | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    @contextmanager
    def deferred(self, requested: threading.Event) -> Iterator[None]:
        """Within the block, the first signal only sets `requested`."""
        self._requested = requested
        try:
            yield
        finally:
            self._requested = None

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self.signalled = True
        if self._requested is None or self._requested.is_set():
            raise SystemExit(0)
        self._requested.set()
