"""The algorithm of Spark MLlib's StreamingLinearRegressionWithSGD, in one pass instead of one pass per iteration."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from streaming_regression.learners.model import DivergedError, Learner, Model, names_at, option, usable
from streaming_regression.learners.statistics import Floats, Statistics, lengths

STUCK = 1e-3
"""A weight hardly moves if it covers less than this share of the way to its best value in one micro-batch."""

ENOUGH_ROWS = 10
"""Rows of a micro-batch from which they show the size of a feature."""


@dataclass(frozen=True, slots=True)
class GradientDescent(Learner):
    """Full-batch gradient descent on each micro-batch, starting from the weights before it.

    Every step uses all rows, so the gradient follows from XᵀX and Xᵀy, and no step needs the rows themselves.

    Attributes
    ----------
    step_size : iteration i = 1, 2, … uses step_size / √i.
    iterations : steps per micro-batch, at most.
    convergence_tolerance : stop once a step moves the weights by less than this, relative to max(‖w‖, 1).
    intercept : learn the intercept too. MLlib's streaming regression never does; it keeps the initial intercept.
    features : the features' names, for messages.

    References
    ----------
    Spark MLlib: GradientDescent.runMiniBatchSGD (miniBatchFraction 1), LeastSquaresGradient, SimpleUpdater.
    """

    name = "sgd"
    summary = "gradient descent as in Spark MLlib"

    step_size: float = option(0.1, "size of the first step; the size of step i is 1/√i of it", gt=0)
    iterations: int = option(50, "maximum number of steps per micro-batch", ge=1, le=1_000_000)
    convergence_tolerance: float = option(
        0.001, "stop when a step moves the weights by less than this, relative to their norm", ge=0, le=1
    )
    intercept: bool = option(False, "learn the intercept too (MLlib's streaming regression does not)")
    features: tuple[str, ...] = ()

    def update(self, model: Model, batch: Statistics) -> Model:
        """See `Learner.update`; the cost is O(iterations · d²), whatever the rows."""
        if not batch.rows:
            return model
        first = 0 if self.intercept else 1
        gram = batch.gram
        moved = self._descend(
            gram[first:-1, first:-1],
            # An intercept that is not learned is subtracted from the label.
            gram[first:-1, -1] - (0.0 if self.intercept else model.weights[0]) * gram[first:-1, 0],
            model.weights[first:],
            batch.rows,
        )
        weights = np.concatenate([model.weights[:first], moved])
        if not usable(weights):
            large, _ = self._too_large(batch)
            raise DivergedError(
                f"sgd diverged on a micro-batch of {batch.rows} rows: lower --sgd-step-size (now {self.step_size:g}), "
                f"scale {self._shown(large, _size(batch))} to about 1, or use --learner rls"
            )
        return Model(weights, model.rows_seen + batch.rows)

    def doubts(self, model: Model, batch: Statistics) -> Mapping[int, str]:
        """See `Learner.doubts`: features too large for the step size, or too small, often beside larger features.

        With features that are too large the weights grow from micro-batch to micro-batch, as in MLlib. Then the steps
        enlarge an error of the weights, and the model predicts the rows that it has just learned from worse than the
        constant prediction 0.
        """
        if not batch.rows:
            return {}
        size = _size(batch)
        large, growth = self._too_large(batch)
        if growth > 1 and model.error(batch) > lengths(batch.unshifted[:, -1:])[0]:
            text = (
                f"sgd diverges: a micro-batch of {batch.rows} rows multiplies an error of its weights by {growth:.3g}: "
                f"lower --sgd-step-size (now {self.step_size:g}), scale {self._shown(large, size)} to about 1, or use "
                "--learner rls"
            )
            return dict.fromkeys(large, text)
        way = 2 * np.sqrt(self.iterations) * self.step_size * size**2  # as Σ 1/√i is about 2·√iterations
        small = np.flatnonzero((size > 0) & (way < STUCK)).tolist() if batch.rows >= ENOUGH_ROWS else []
        text = (
            f"sgd hardly moves the weights of {self._shown(small, size)} with --sgd-step-size {self.step_size:g}: "
            "scale these features to about 1, or use --learner rls"
        )
        return dict.fromkeys(small, text)

    def _too_large(self, batch: Statistics) -> tuple[list[int], float]:
        """Return the features that are too large for the step size, and the factor by which an error grows in a batch.

        Along an eigenvector of XᵀX/n with eigenvalue λ, step i multiplies the error of the weights by
        1 - step_size / √i · λ.
        """
        first = 0 if self.intercept else 1
        columns = batch.unshifted[:, first:-1] / np.sqrt(batch.rows)
        _, singular, directions = np.linalg.svd(columns)
        steps = self.step_size / np.sqrt(np.arange(1, self.iterations + 1))
        with np.errstate(over="ignore", divide="ignore"):
            growth = float(np.exp(np.log(np.abs(1 - steps * singular[0] ** 2)).sum()))
        large = np.flatnonzero(self.step_size * _size(batch) ** 2 > 2)
        if not large.size:  # correlated features that are too large together only
            share = np.abs(directions[0][1 - first :])
            large = np.flatnonzero(share >= share.max() / 2)
        return large.tolist(), growth

    def _shown(self, positions: Iterable[int], size: Floats) -> str:
        return ", ".join(f"{names_at(self.features, [i])} (root mean square {size[i]:.3g})" for i in positions)

    def _descend(self, xtx: Floats, xty: Floats, start: Floats, rows: int) -> Floats:
        weights = start
        with np.errstate(over="ignore", invalid="ignore"):  # `update` raises DivergedError
            for i in range(1, self.iterations + 1):
                last, weights = weights, weights - self.step_size / np.sqrt(i) * (xtx @ weights - xty) / rows
                small = self.convergence_tolerance * max(float(np.linalg.norm(weights)), 1.0)
                # MLlib has no previous weights in the first step, so it tests convergence from the second step on.
                if i > 1 and np.linalg.norm(weights - last) < small:
                    break
        return weights


def _size(batch: Statistics) -> Floats:
    """Return the root mean square of each feature, shape (d,)."""
    return np.asarray(lengths(batch.unshifted[:, 1:-1]) / np.sqrt(batch.rows), dtype=np.float64)


LEARNER = GradientDescent
