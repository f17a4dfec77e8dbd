"""The standard error of predictions by least squares."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streaming_regression.learners.statistics import Floats

OUTSIDE = 1e-6
"""Share of a row's distance from the mean that may lie in unknown directions: rounding errors are far smaller."""


@dataclass(frozen=True, slots=True)
class Uncertainty:
    """How uncertain the predictions of a model are: d² numbers that executors need beside the model.

    For a row x the variance of label minus prediction is σ²·(1 + 1/n + (x - m)ᵀ(AᵀA)⁻¹(x - m)), where A are the centred
    rows so far, m is their mean, n their number, and σ² the variance of the residuals.

    Attributes
    ----------
    mean : float64, shape (d,): m, in the features' units.
    factor : float64, shape (d, k), in label units per feature unit: σ²·(AᵀA)⁻¹ = factor·factorᵀ.
    variance : σ²·(1 + 1/n), in label units squared.
    scale : float64, shape (d,): the length of each centred column, 0 for a constant one.
    unknown : float64, shape (d, d): the projection of a scaled row on the directions in which all rows so far are
        alike, so that nothing is known of other rows; None if there are no such directions.

    References
    ----------
    Seber, Lee: Linear Regression Analysis (2nd ed.), 5.3: prediction intervals. Hastie, Tibshirani, Friedman: The
    Elements of Statistical Learning (2nd ed.), 3.4.1, for the degrees of freedom with a pull.
    """

    mean: Floats
    factor: Floats
    variance: float
    scale: Floats
    unknown: Floats | None = None

    def standard_errors(self, x: Floats) -> Floats:
        """Return the standard errors, shape (n,), in label units, for the rows `x`, shape (n, d); NaN if unknown."""
        distance = x - self.mean
        with np.errstate(over="ignore", invalid="ignore"):
            moved = distance @ self.factor
            errors = np.sqrt(self.variance + np.einsum("ij,ij->i", moved, moved))
            if self.unknown is not None:
                errors[self._outside(distance)] = np.nan
        errors[~np.isfinite(errors)] = np.nan
        return np.asarray(errors, dtype=np.float64)

    def _outside(self, distance: Floats) -> NDArray[np.bool_]:
        constant = self.scale == 0
        scaled = distance / np.where(constant, 1.0, self.scale)
        differs = (scaled[:, constant] != 0).any(axis=1)
        scaled[:, constant] = 0.0
        outside = np.linalg.norm(scaled @ self.unknown, axis=1) > OUTSIDE * np.linalg.norm(scaled, axis=1)
        return np.asarray(differs | outside)
