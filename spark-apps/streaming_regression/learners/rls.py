"""Recursive least squares: exact for all rows seen, however they were cut into micro-batches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from streaming_regression.learners.least_squares import LeastSquares
from streaming_regression.learners.model import option
from streaming_regression.learners.statistics import Floats, Statistics


@dataclass(frozen=True, slots=True)
class RecursiveLeastSquares(LeastSquares):
    """Least squares over all rows so far.

    Predictions equal those of least squares in exact arithmetic to about 1e-9 of the label's standard deviation,
    whatever the columns' magnitudes.

    While a feature is constant or a linear function of others, the rows do not determine its weight, and there are many
    solutions. This learner takes the solution closest to `initial`: it minimises Σⱼ (sⱼ·(wⱼ - initialⱼ))², where sⱼ is
    feature j's standard deviation, so a change of a weight counts by how far it moves the predictions. Two features
    that differ only in their unit explain one half each.

    Attributes
    ----------
    initial, half_life, features : see `LeastSquares`; `ridge` pulls towards the initial weights.
    ridge : λ >= 0, added to the sum of squared errors as λ·‖w - initial‖², in the features' own units; the intercept is
        free.

    References
    ----------
    Without half-life and ridge this is scikit-learn's LinearRegression on standardised columns.
    """

    name = "rls"
    summary = "recursive least squares, exact"

    ridge: float = option(0.0, "pull of the weights towards the initial weights (ridge regression)", ge=0)

    @property
    def remedy(self) -> str:
        """See `LeastSquares.remedy`."""
        return f"set --rls-ridge above {self.ridge:g}"

    def system(self, memory: Statistics) -> tuple[Floats, Floats]:
        """See `LeastSquares.system`; the rows of the ridge are added."""
        a, b = LeastSquares.system(self, memory)
        if not self.ridge:
            return a, b
        pull = np.sqrt(self.ridge)
        return np.vstack([a, pull * np.eye(a.shape[1])]), np.append(b, pull * self.initial[1:])


LEARNER = RecursiveLeastSquares
