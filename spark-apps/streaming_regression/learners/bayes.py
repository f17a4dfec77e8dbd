"""Bayesian linear regression: least squares with a pull towards the initial weights that is chosen from the data."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streaming_regression.learners.least_squares import Decomposition, LeastSquares
from streaming_regression.learners.statistics import Floats

STEPS = 300
TOLERANCE = 1e-8
"""Relative change of the ratio of the two variances below which the iteration ends."""
INFINITE = 1e12
"""A ratio from which the weights equal the initial ones to 12 digits of their distance."""


@dataclass(frozen=True, slots=True)
class BayesianRegression(LeastSquares):
    """Least squares in which weights that the rows hardly determine stay close to the initial weights.

    The noise of the labels is normal with variance σ². The distance of each scaled weight from its initial weight is
    normal, too, with variance τ². Both variances are those under which the rows so far are most probable; then the
    weights are the mean of their distribution. With few rows for many features, or with features that depend on one
    another, the predictions are better than those of `rls`; with many rows they are the same.

    Attributes
    ----------
    initial, half_life, features : see `LeastSquares`.

    References
    ----------
    MacKay, Bayesian Interpolation, Neural Computation 4 (1992), equations 4.5 and 4.9 to 4.11: the evidence, and the
    iteration that maximises it. It is scikit-learn's BayesianRidge on standardised columns with flat priors.
    """

    name = "bayes"
    summary = "least squares that keeps weights close to the initial ones until the records determine them"

    @property
    def remedy(self) -> str:
        """See `LeastSquares.remedy`."""
        return "leave out one of the features that hardly differ"

    def fit(self, a: Floats, b: Floats, start: Floats, rows: float) -> Floats:
        """See `LeastSquares.fit`: the mean of the weights' distribution. The cost is O(k³) once, then O(k) a step."""
        parts = Decomposition.of(a)
        ratio = self.pull(parts, b, start, rows)
        size, seen, expected = _coordinates(parts, b, start)
        _, singular, right, free = parts
        known = expected if np.isinf(ratio) else (singular * seen + ratio * expected) / (singular**2 + ratio)
        return np.asarray(right.T @ known * size + free @ start, dtype=np.float64)

    def pull(self, parts: Decomposition, b: Floats, start: Floats, rows: float) -> float:
        """See `LeastSquares.pull`: the ratio σ²/τ² of the two variances; infinity keeps the initial weights."""
        size, seen, expected = _coordinates(parts, b, start)
        unseen = max(float((b / size) @ (b / size) - seen @ seen), 0.0)
        power = (seen - parts.singular * expected) ** 2
        return _variance_ratio(parts.singular**2, power, unseen, rows - 1)


def _coordinates(parts: Decomposition, b: Floats, start: Floats) -> tuple[float, Floats, Floats]:
    """Return the largest number in `b` and `start`, and their coordinates along the singular vectors, divided by it.

    Squares of numbers up to LIMIT, or as small as 1e-200, do not fit a float64.
    """
    size = max(float(np.abs(b).max(initial=0.0)), float(np.abs(start).max(initial=0.0))) or 1.0
    return size, parts.left.T @ (b / size), parts.right @ (start / size)


def _variance_ratio(eigenvalues: Floats, power: Floats, unseen: float, rows: float) -> float:
    """Return σ²/τ² by MacKay's iteration; infinity keeps the initial weights.

    Parameters
    ----------
    eigenvalues : float64, shape (k,)
        Those of AᵀA that are not 0.
    power : float64, shape (k,)
        Squares of the label's coordinates along A's left singular vectors, less those of the initial prediction.
    unseen
        The square of the part of the label that no weights can explain.
    rows
        The number of independent rows: one less than the rows, because the mean was subtracted.
    """
    ratio = 1e-3  # A's columns have length 1
    for _ in range(STEPS):
        shrunk = eigenvalues + ratio
        determined = float((eigenvalues / shrunk).sum())  # number of weights that the rows determine, γ
        weights = float((eigenvalues * power / shrunk**2).sum())
        errors = unseen + float((power * (ratio / shrunk) ** 2).sum())
        if not weights or ratio > INFINITE:
            return np.inf
        last, ratio = ratio, (determined / weights) * errors / max(rows - determined, 1e-9)
        if abs(ratio - last) <= TOLERANCE * last:
            break
    return ratio


LEARNER = BayesianRegression
