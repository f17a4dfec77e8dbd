"""What every learner takes and returns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from streaming_regression.learners.statistics import Floats, Statistics

__all__ = ["LIMIT", "DivergedError", "Floats", "Learner", "Model", "published"]

LIMIT = 1e70
"""Largest magnitude of a feature, a label or a weight: (1e70 · 1e70)² still sums up over 1e27 rows in a float64."""


class DivergedError(ValueError):
    """An update gave weights that are not finite, or so large that predictions would not be."""


@dataclass(frozen=True, slots=True)
class Model:
    """A linear model and what its learner needs to go on from it.

    Attributes
    ----------
    weights : float64, shape (d + 1,): the intercept in label units, then one weight per feature, in label units per
        feature unit.
    rows_seen : rows learned so far.
    memory : the statistics of all rows so far, for a learner that needs them (rls), else None.
    """

    weights: Floats
    rows_seen: int = 0
    memory: Statistics | None = None

    def predict(self, x: Floats) -> Floats:
        """Return predictions, shape (n,), for the rows `x`, shape (n, d)."""
        return np.asarray(x @ self.weights[1:] + self.weights[0], dtype=np.float64)


class Learner(Protocol):
    """Turns a model and a micro-batch into the next model. One module in this package implements one learner."""

    @property
    def name(self) -> str:
        """The word that `--learner` knows it by."""

    def update(self, model: Model, batch: Statistics) -> Model:
        """Return the model after a micro-batch with statistics `batch`; `model` stays as it is.

        Raises
        ------
        DivergedError
            Naming the rows and the setting to change, when the weights would be useless. `model` is still good.
        """


def published(weights: Floats, remedy: str) -> Floats:
    """Return `weights` if predictions with them are finite, else raise DivergedError with `remedy`."""
    if np.isfinite(weights).all() and np.abs(weights).max() <= LIMIT:
        return weights
    raise DivergedError(remedy)
