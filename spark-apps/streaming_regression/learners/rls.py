"""Recursive least squares: exact for all rows seen, however they were cut into micro-batches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streaming_regression.learners.model import Floats, Model, published
from streaming_regression.learners.statistics import Statistics


@dataclass(frozen=True, slots=True)
class RecursiveLeastSquares:
    """Least squares over all rows so far.

    Attributes
    ----------
    initial : float64, shape (d + 1,): the weights before any row, towards which `ridge` pulls, and the closest to which
        are taken while the rows do not determine the weights.
    half_life : rows after which a row counts half, or None. The age is counted in micro-batches' rows: all rows of one
        micro-batch have the same age, so use micro-batches (--max-offsets-per-trigger) well below the half-life.
    ridge : λ >= 0, added to the sum of squared errors as λ·‖w - initial‖²; the intercept is free.

    References
    ----------
    Without half-life and ridge this is numpy.linalg.lstsq over all rows, its rank rule included. Exponential
    forgetting: Haykin, Adaptive Filter Theory (5th ed.), 10.1; in square-root form: 15.4 (QR-RLS).
    """

    initial: Floats
    half_life: float | None = None
    ridge: float = 0.0

    @property
    def name(self) -> str:
        """`rls`."""
        return "rls"

    def update(self, model: Model, batch: Statistics) -> Model:
        """See `Learner.update`; the cost is O(d³), whatever the rows."""
        if not batch.rows:
            return model
        d = len(self.initial) - 1
        memory = model.memory or Statistics.empty(d)
        if self.half_life is not None:
            memory = memory.decayed(0.5 ** (batch.rows / self.half_life))
        memory = Statistics.total([memory, batch], d)
        remedy = f"rls found no finite weights after {memory.rows} rows: set --rls-ridge above {self.ridge:g}"
        return Model(published(self._solve(memory), remedy), model.rows_seen + batch.rows, memory)

    def _solve(self, memory: Statistics) -> Floats:
        d = len(self.initial) - 1
        a, b = memory.factor[:, : d + 1], memory.factor[:, d + 1]
        if self.ridge:
            a = np.vstack([a, np.sqrt(self.ridge) * np.eye(d, d + 1, k=1)])
            b = np.concatenate([b, np.sqrt(self.ridge) * self.initial[1:]])
        # lstsq's own limit for A's rank, which it derives from the number of rows: R has fewer than A had. It must not
        # grow for ever, or an ill-conditioned model would lose a direction after some billion rows.
        rcond = float(np.finfo(np.float64).eps) * min(max(memory.rows, d + 1), 10**7)
        step, *_ = np.linalg.lstsq(a, b - a @ self.initial, rcond=rcond)
        return np.asarray(self.initial + step, dtype=np.float64)
