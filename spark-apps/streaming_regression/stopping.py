"""SIGTERM and SIGINT: at once while no micro-batch can be under way, else after it; a second one at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Stop:
    """What the signals do from now on: they raise SystemExit(0), in the main thread, but while they are deferred.

    `told` is whether there was one.
    """

    def __init__(self) -> None:
        self.told = False
        self._requested: threading.Event | None = None
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)

    @contextmanager
    def deferred(self, requested: threading.Event) -> Iterator[None]:
        """Within, the first signal only sets `requested`."""
        self._requested = requested
        try:
            yield
        finally:
            self._requested = None

    def _handle(self, _number: int, _frame: FrameType | None) -> None:
        self.told = True
        if self._requested is None or self._requested.is_set():
            raise SystemExit(0)
        self._requested.set()
