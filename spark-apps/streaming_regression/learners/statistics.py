"""Sufficient statistics of a linear regression: d² numbers, whatever the number of rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
CHUNK = 1_000  # rows per QR: more do not fit the processor's cache


@dataclass(frozen=True, slots=True)
class Statistics:
    """Sufficient statistics of n rows of d features and their labels.

    A shift near the data is subtracted from all values, so that a spread that is small compared to the values (epoch
    nanoseconds, counters, ids) keeps all its digits. The shift affects only the first row of R: the rows below it are
    the triangular factor of the centred columns, whatever the shift.

    Attributes
    ----------
    rows : the number n of rows.
    factor : float64, shape (d + 2, d + 2), upper triangular R with RᵀR = AᵀA for A = [1 X-s y-t]. It keeps twice the
        digits of AᵀA itself: the solution's error grows with A's condition number, not with its square.
    shift : float64, shape (d + 1,): s, in the features' units, and t, in the label's.

    References
    ----------
    Golub, Van Loan: Matrix Computations (4th ed.), 5.3 (least squares by QR) and 6.5.3 (appending rows to a QR).
    Higham: Accuracy and Stability of Numerical Algorithms (2nd ed.), 19.3: the error of a QR is small for each column
    by itself, so columns may differ in magnitude.
    """

    rows: int
    factor: Floats
    shift: Floats

    @classmethod
    def empty(cls, features: int) -> Statistics:
        """Return the statistics of no rows."""
        return cls(0, np.zeros((features + 2, features + 2)), np.zeros(features + 1))

    def with_rows(self, x: Floats, y: Floats) -> Statistics:
        """Return these statistics with the rows `x`, shape (n, d), and their labels `y`, shape (n,), added."""
        if not len(y):
            return self
        shift = self.shift if self.rows else _near(x[:CHUNK], y[:CHUNK])
        factor, size, shifted = self.factor, len(self.factor), bool(shift.any())
        columns = np.empty((size, size + min(len(y), CHUNK)))  # transposed: LAPACK needs contiguous columns
        for start in range(0, len(y), CHUNK):
            part = slice(start, start + CHUNK)
            used = columns[:, : size + len(y[part])]
            used[:, :size] = factor.T
            used[0, size:] = 1
            used[1:-1, size:] = x[part].T
            used[-1, size:] = y[part]
            if shifted:
                used[1:, size:] -= shift[:, None]
            factor = _triangle(used.T)
        return Statistics(self.rows + len(y), factor, shift)

    @classmethod
    def total(cls, parts: Iterable[Statistics], features: int) -> Statistics:
        """Return the statistics of the rows of all `parts`; the order of the parts affects only the last bits.

        The new shift is the weighted mean of all rows, so it follows the data as a half-life reduces old rows' weight.
        """
        known = [part for part in parts if part.factor[0, 0]]
        if not known:
            return cls.empty(features)
        weights = np.array([part.factor[0, 0] ** 2 for part in known])
        # Relative to the heaviest part's shift: for a constant column the offset is 0, and the shift stays exact.
        base = known[int(weights.argmax())].shift
        offsets = np.array([part.shift - base + part.factor[0, 1:] / part.factor[0, 0] for part in known])
        shift = base + (weights / weights.sum()) @ offsets
        factor = _triangle(np.vstack([part.shifted(shift).factor for part in known]))
        return cls(sum(part.rows for part in known), factor, shift)

    def shifted(self, shift: Floats) -> Statistics:
        """Return these statistics with another shift, shape (d + 1,)."""
        factor = self.factor.copy()
        factor[0, 1:] += factor[0, 0] * (self.shift - shift)
        return Statistics(self.rows, factor, shift)

    def decayed(self, weight: float) -> Statistics:
        """Return these statistics with each row counting `weight` (0 to 1) times as much; `rows` stays a count."""
        return Statistics(self.rows, self.factor * np.sqrt(weight), self.shift)

    def to_json(self) -> dict[str, Any]:
        """Return these statistics in a form that JSON can hold."""
        return {"rows": self.rows, "factor": self.factor.tolist(), "shift": self.shift.tolist()}

    @classmethod
    def from_json(cls, content: dict[str, Any], features: int) -> Statistics:
        """Return the statistics that `to_json` converted; ValueError, KeyError or TypeError for damaged content.

        The first format had no shift: it is 0.
        """
        factor = np.array(content["factor"], np.float64).reshape(features + 2, features + 2)
        shift = np.array(content.get("shift", [0.0] * (features + 1)), np.float64).reshape(features + 1)
        return cls(int(content["rows"]), factor, shift)

    @property
    def weight(self) -> float:
        """The sum of the rows' weights: `rows` without a half-life."""
        return float(self.factor[0, 0]) ** 2

    @property
    def centred(self) -> Floats:
        """Triangular factor of the columns of X and y, each less its mean; shape (d + 1, d + 1)."""
        return self.factor[1:, 1:]

    @property
    def mean(self) -> Floats:
        """Mean of the features and of the label, less `shift`; shape (d + 1,); needs at least one row."""
        return np.asarray(self.factor[0, 1:] / self.factor[0, 0], dtype=np.float64)

    @property
    def unshifted(self) -> Floats:
        """The factor R of [1 X y], without a shift; shape (d + 2, d + 2)."""
        return self.shifted(np.zeros_like(self.shift)).factor

    @property
    def gram(self) -> Floats:
        """AᵀA for A = [1 X y], without a shift; shape (d + 2, d + 2)."""
        factor = self.unshifted
        return factor.T @ factor


def lengths(columns: Floats) -> Floats:
    """Return the length of each column, shape (n,) for a matrix (m, n), even if its square overflows or underflows."""
    largest = np.abs(columns).max(axis=0, initial=0.0)
    return np.asarray(largest * np.linalg.norm(columns / np.where(largest, largest, 1.0), axis=0), dtype=np.float64)


def _near(x: Floats, y: Floats) -> Floats:
    """Return a shift from the first rows: each column's mean, or 0 where the mean is within 10 standard deviations.

    A shift of 0 costs at most one digit, and rows without any shift are processed up to a fifth faster. A constant
    column's shift is exactly its value, so its shifted values are exactly 0.
    """
    first = np.column_stack([x, y])
    mean = np.clip(first.mean(axis=0), first.min(axis=0), first.max(axis=0))
    return np.where(np.abs(mean) > 10 * first.std(axis=0), mean, 0.0)


def _triangle(rows: Floats) -> Floats:
    return np.asarray(np.linalg.qr(rows, mode="r"), dtype=np.float64)
