"""Limits the rate of records per second, without drift."""

import time
from collections.abc import Callable

CATCH_UP_S = 1.0


class Pacer:
    """Computes when the next record is due.

    Record n is due n / rate seconds after the start, so delays of wake-ups do not add up. A delay beyond `CATCH_UP_S`
    (a broker that was away) is not caught up: the rate is a limit, and a long burst would exceed it.

    Parameters
    ----------
    rate : float
        Records per second, more than 0.
    """

    def __init__(self, rate: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._interval_s = 1 / rate
        self._clock = clock
        self._start = clock()
        self._count = 0

    def delay_s(self) -> float:
        """Return the seconds until the next record is due; 0 or less if it is due already."""
        return self._start + self._count * self._interval_s - self._clock()

    def sent(self) -> None:
        """Count one record."""
        self._start += max(0.0, -self.delay_s() - CATCH_UP_S)
        self._count += 1
