"""The model, and the interface of every learner."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from streaming_regression.learners.statistics import Floats, Statistics

__all__ = ["LIMIT", "DivergedError", "Floats", "Learner", "Model", "called", "published"]

LIMIT = 1e70
"""Largest magnitude of a feature, a label or a weight: a sum of (1e70 · 1e70)² over 1e26 rows still fits a float64."""


class DivergedError(ValueError):
    """An update gave weights that are not finite, or so large that predictions would not be."""


@dataclass(frozen=True, slots=True)
class Model:
    """A linear model and the state that its learner needs for the next update.

    Attributes
    ----------
    weights : float64, shape (d + 1,): the intercept in label units, then one weight per feature, in label units per
        feature unit.
    rows_seen : rows learned so far.
    memory : the statistics of all rows so far, for a learner that needs them, else None.
    centre : float64, shape (d,), in the features' units: predictions use x - centre; None for the origin. For data far
        from the origin x @ weights and the intercept are large and cancel, which loses digits. A centre within the data
        avoids this.
    level : prediction at `centre`, in label units; unused without a centre.
    warned : positions of the features that a WARNING has named, so that each is named once in a run.
    """

    weights: Floats
    rows_seen: int = 0
    memory: Statistics | None = None
    centre: Floats | None = None
    level: float = 0.0
    warned: frozenset[int] = frozenset()

    @classmethod
    def around(cls, centre: Floats, level: float, weights: Floats, rows_seen: int, memory: Statistics) -> Model:
        """Return the model that predicts `level` at `centre` and has `weights`, shape (d,)."""
        intercept = level - centre @ weights
        return cls(np.concatenate([[intercept], weights]), rows_seen, memory, centre, level)

    def predict(self, x: Floats) -> Floats:
        """Return predictions, shape (n,), for the rows `x`, shape (n, d)."""
        if self.centre is None:
            return np.asarray(x @ self.weights[1:] + self.weights[0], dtype=np.float64)
        return np.asarray((x - self.centre) @ self.weights[1:] + self.level, dtype=np.float64)


class Learner(Protocol):
    """Turns a model and a micro-batch into the next model. One module in this package implements one learner."""

    @property
    def name(self) -> str:
        """The value of `--learner` that selects it."""

    def update(self, model: Model, batch: Statistics) -> Model:
        """Return the model after a micro-batch with statistics `batch`; `model` is not changed.

        Raises
        ------
        DivergedError
            When the new weights are not finite or too large. The message names the rows, the features and the setting
            to change. `model` is still valid.
        """

    def doubts(self, model: Model, batch: Statistics) -> Mapping[int, str]:
        """Return the reasons why weights cannot be learned, by the feature's position; usually empty.

        `model` is what `update` returned for the micro-batch with statistics `batch`.
        """


def published(weights: Floats, remedy: str) -> Floats:
    """Return `weights` if predictions with them are finite, else raise DivergedError with `remedy`."""
    if np.isfinite(weights).all() and np.abs(weights).max(initial=0.0) <= LIMIT:
        return weights
    raise DivergedError(remedy)


def called(features: Sequence[str], positions: Iterable[int]) -> str:
    """Return the names of the features at these positions, for a message; numbers if the names are unknown."""
    return ", ".join(features[i] if features else f"number {i + 1}" for i in positions)
