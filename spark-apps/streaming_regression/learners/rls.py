"""Recursive least squares: exact for all rows seen, however they were cut into micro-batches."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from streaming_regression.learners.model import LIMIT, Floats, Model, called, published
from streaming_regression.learners.statistics import Statistics, lengths

RANK_LIMIT = 1e-10
"""Singular values of the scaled columns count as 0 up to this share of the largest. Rounding errors reach about 1e-15
of it in one micro-batch and 1e-12 after ten million; a condition number of 1e6 must still be solved."""
NOISE = 1e-12
"""Share of the label's spread up to which a weight's effect on the predictions counts as rounding (see `_solve`)."""
ROWS_PER_WEIGHT = 10  # needed for a WARNING: in a run's first few rows nearly every feature is constant or dependent


@dataclass(frozen=True, slots=True)
class RecursiveLeastSquares:
    """Least squares over all rows so far.

    The columns are centred, and each is divided by its length, before they are solved. So the fit does not depend on
    the unit or the offset of any feature. Predictions equal those of least squares in exact arithmetic to about 1e-9 of
    the label's standard deviation, whatever the columns' magnitudes.

    While a feature is constant or a linear function of others, the rows do not determine its weight, and there are many
    solutions. This learner takes the solution closest to `initial`: it minimises Σⱼ (sⱼ·(wⱼ - initialⱼ))², where sⱼ is
    feature j's standard deviation, so a change of a weight counts by how far it moves the predictions. A constant
    feature keeps its initial weight; two features that differ only in their unit explain one half each. The intercept
    always fits the mean of the rows.

    Attributes
    ----------
    initial : float64, shape (d + 1,): the intercept and weights before any row; `ridge` pulls towards these weights.
    half_life : rows after which a row counts half, or None. All rows of one micro-batch have the same age, so use
        micro-batches (--max-offsets-per-trigger) well below the half-life.
    ridge : λ >= 0, added to the sum of squared errors as λ·‖w - initial‖², in the features' own units; the intercept is
        free.
    features : the features' names, for messages.

    References
    ----------
    Without half-life and ridge this is scikit-learn's LinearRegression on standardised columns. Scaling and rank:
    Golub, Van Loan, Matrix Computations (4th ed.), 5.3.7 and 5.5.5. Exponential forgetting: Haykin, Adaptive Filter
    Theory (5th ed.), 10.1; in square-root form: 15.4 (QR-RLS).
    """

    initial: Floats
    half_life: float | None = None
    ridge: float = 0.0
    features: tuple[str, ...] = ()

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
        weights = self._solve(memory)
        level = float(memory.shift[-1] + memory.mean[-1] - memory.mean[:-1] @ weights)
        wrong = [i for i, weight in enumerate(weights) if not abs(weight) <= LIMIT]
        published(
            np.append(weights, level),
            f"rls found no finite weights after {memory.rows} rows (features {called(self.features, wrong)}): "
            f"set --rls-ridge above {self.ridge:g}",
        )
        return Model.around(memory.shift[:-1], level, weights, model.rows_seen + batch.rows, memory)

    def doubts(self, model: Model, batch: Statistics) -> Mapping[int, str]:  # noqa: ARG002 - the memory holds the batch
        """See `Learner.doubts`: the features whose weights the rows so far do not determine."""
        memory = model.memory
        if memory is None or memory.rows < ROWS_PER_WEIGHT * len(self.initial):
            return {}
        varies, scaled = _scaled(memory.centred[:, :-1], memory.centred[:, -1])[:2]
        why = "in the rows so far"
        found = {
            int(i): f"feature {called(self.features, [i])} is constant {why}: its weight stays {self.initial[1 + i]:g}"
            for i in np.flatnonzero(~varies)
        }
        _, singular, directions = np.linalg.svd(scaled, full_matrices=False)
        free = directions[singular <= RANK_LIMIT * singular.max(initial=0.0)]
        # Entry i, j of this projection is not 0 where a change of weight j can compensate for a change of weight i.
        linked = np.abs(free.T @ free) > 1e-8
        positions = np.flatnonzero(varies)
        for i in np.flatnonzero(linked.diagonal()):
            group = positions[linked[i]].tolist()
            found[int(positions[i])] = (
                f"features {called(self.features, group)} depend linearly on one another {why}, so their weights are "
                "not determined (those closest to the initial ones are taken): leave one out, or filter out records "
                "with values so large that they hide all others (3.4e38 for none, say)"
            )
        return found

    def _solve(self, memory: Statistics) -> Floats:
        """Return the weights, shape (d,)."""
        start, d = self.initial[1:], len(self.initial) - 1
        a, b = memory.centred[:, :-1], memory.centred[:, -1] - memory.centred[:, :-1] @ self.initial[1:]
        if self.ridge:
            a, b = np.vstack([a, np.sqrt(self.ridge) * np.eye(d)]), np.append(b, np.zeros(d))
        varies, scaled, scale = _scaled(a, b)
        step = np.zeros(d)
        part, *_ = np.linalg.lstsq(scaled, b, rcond=RANK_LIMIT)
        if self.half_life is not None:
            # When a feature has been constant for 80 to 100 half-lives, its contribution to the memory is only a
            # rounding error. Divided by a column length that keeps shrinking, it would give an unbounded weight.
            part[np.abs(part) <= NOISE * (lengths(b[:, None])[0] + lengths(a) @ np.abs(start))] = 0.0
        with np.errstate(over="ignore"):  # `published` raises DivergedError
            step[varies] = part / scale
        return np.asarray(start + step, dtype=np.float64)


def _scaled(a: Floats, b: Floats) -> tuple[NDArray[np.bool_], Floats, Floats]:
    """Return which columns of `a` vary, those columns scaled to length 1, and their original lengths.

    A column so short that its weight would exceed LIMIT, for the label `b`, counts as constant.
    """
    scale = lengths(a)
    varies = scale > lengths(b[:, None])[0] / LIMIT
    return varies, a[:, varies] / scale[varies], scale[varies]
