"""Sufficient statistics of a linear regression: d² numbers, whatever the number of rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
CHUNK = 1_000  # rows of one QR: with more, the processor's cache no longer holds them


@dataclass(frozen=True, slots=True)
class Statistics:
    """What n rows of d features and their labels tell a linear regression.

    Attributes
    ----------
    rows : the number n of rows.
    factor : float64, shape (d + 2, d + 2), upper triangular R with RᵀR = AᵀA for A = [1 X y]. It keeps twice the
        digits of AᵀA itself: the solution's error grows with A's condition number, not with its square.

    References
    ----------
    Golub, Van Loan: Matrix Computations (4th ed.), 5.3 (least squares by QR) and 6.5.3 (appending rows to a QR).
    """

    rows: int
    factor: Floats

    @classmethod
    def empty(cls, features: int) -> Statistics:
        """Return the statistics of no rows."""
        return cls(0, np.zeros((features + 2, features + 2)))

    def with_rows(self, x: Floats, y: Floats) -> Statistics:
        """Return these statistics and those of the rows `x`, shape (n, d), with labels `y`, shape (n,), together."""
        factor, size = self.factor, len(self.factor)
        columns = np.empty((size, size + min(len(y), CHUNK)))  # LAPACK works by columns: each lies in one piece
        for start in range(0, len(y), CHUNK):
            part = slice(start, start + CHUNK)
            used = columns[:, : size + len(y[part])]
            used[:, :size] = factor.T
            used[0, size:] = 1
            used[1:-1, size:] = x[part].T
            used[-1, size:] = y[part]
            factor = _triangle(used.T)
        return Statistics(self.rows + len(y), factor)

    @classmethod
    def total(cls, parts: Iterable[Statistics], features: int) -> Statistics:
        """Return the statistics of all `parts`' rows; the order of the parts decides the last bit, nothing else."""
        known = [cls.empty(features), *parts]
        return cls(sum(part.rows for part in known), _triangle(np.vstack([part.factor for part in known])))

    def decayed(self, weight: float) -> Statistics:
        """Return these statistics with each row counting `weight` (0 to 1) times as much; `rows` stays a count."""
        return Statistics(self.rows, self.factor * np.sqrt(weight))

    @property
    def gram(self) -> Floats:
        """AᵀA for A = [1 X y], shape (d + 2, d + 2)."""
        return self.factor.T @ self.factor


def _triangle(rows: Floats) -> Floats:
    return np.asarray(np.linalg.qr(rows, mode="r"), dtype=np.float64)
