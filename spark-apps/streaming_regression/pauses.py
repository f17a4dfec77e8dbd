"""Pauses between tries while a server is away or busy."""

from __future__ import annotations

import logging
import random
import time

from streaming_regression.errors import ServerUnavailable

log = logging.getLogger(__name__)

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.2, 10.0


class Pauses:
    """Pauses between tries, longer each time, for up to `timeout_s` seconds."""

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._start = time.monotonic()
        self._pause_s = FIRST_PAUSE_S

    def wait(self, reason: str) -> None:
        """Sleep, or raise ServerUnavailable with `reason` when the time is over."""
        waited = time.monotonic() - self._start
        if waited >= self._timeout_s:
            raise ServerUnavailable(f"{reason}; gave up after {waited:.0f} s (--server-timeout-s)")
        if self._pause_s > 1:
            log.warning("%s; waiting (%.0f of %.0f s)", reason, waited, self._timeout_s)
        time.sleep(min(self._pause_s * random.uniform(0.5, 1.0), max(self._timeout_s - waited, 0.01)))  # noqa: S311
        self._pause_s = min(self._pause_s * 2, LONGEST_PAUSE_S)
