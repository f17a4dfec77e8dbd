"""The common part of learners by least squares: statistics of all rows so far, forgetting, and scaled columns."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from streaming_regression.learners.model import LABEL, LIMIT, DivergedError, Learner, Model, names_at, option, usable
from streaming_regression.learners.statistics import Floats, Statistics, lengths
from streaming_regression.learners.uncertainty import Uncertainty

RANK_LIMIT = 1e-10
"""Singular values of the scaled columns count as 0 up to this share of the largest one. The rounding errors of a
micro-batch reach about 1e-15 of the largest one; those of ten million rows 1e-12. A condition number of 1e6 must still
be solved."""
NOISE = 1e-12
"""Share of the label's spread up to which a weight's effect on the predictions counts as rounding (see `_solve`)."""
UNLINKED = 1e-8
"""Entries of the null space's projection that count as 0: rounding errors, times an initial weight that may be huge."""
HOPELESS = 1e6
"""Errors larger than the spread of the labels by this factor are logged: a model that fits badly stays far below it."""
ROWS_PER_WEIGHT = 2  # needed for a WARNING: in fewer rows every feature is a linear function of others


class Decomposition(NamedTuple):
    """The singular value decomposition of a matrix of shape (m, k) and rank r: left · diag(singular) · right.

    Attributes
    ----------
    left, singular, right : float64, shapes (m, r), (r,) and (r, k), without the singular values that count as 0.
    free : float64, shape (k, k)
        The projection on the directions in which a weight can change without an effect on a·z. Entry i, j is not 0
        where a change of weight j can compensate for a change of weight i.
    """

    left: Floats
    singular: Floats
    right: Floats
    free: Floats

    @classmethod
    def of(cls, a: Floats) -> Decomposition:
        """Decompose `a`, shape (m, k); the cost is O(m·k²)."""
        left, singular, right = np.linalg.svd(a, full_matrices=False)
        known = singular > RANK_LIMIT * singular.max(initial=0.0)
        free = right[~known].T @ right[~known]
        free[np.abs(free) <= UNLINKED] = 0.0
        return cls(left[:, known], singular[known], right[known], free)


@dataclass(frozen=True, slots=True)
class LeastSquares(Learner):
    """A learner whose weights depend on the statistics of all rows so far, however they were cut into micro-batches.

    The columns are centred, and each is divided by its length, before they are solved. So the fit does not depend on
    the unit or the offset of any feature. The intercept always fits the mean of the rows. A constant feature keeps its
    initial weight.

    Attributes
    ----------
    initial : float64, shape (d + 1,): the intercept and weights before any row.
    half_life : rows after which a row counts half, or None. All rows of one micro-batch have the same age, so use
        micro-batches (--max-offsets-per-trigger) well below the half-life.
    features : the features' names, for messages.
    sources : the record's field of each feature; features of the same field are its categories. Exactly one of them is
        1 in a row without an unknown category, so they depend linearly on one another. That is not reported: the
        weights closest to the initial ones say how each category differs from an average row.

    References
    ----------
    Scaling and rank: Golub, Van Loan, Matrix Computations (4th ed.), 5.3.7 and 5.5.5. Exponential
    forgetting: Haykin, Adaptive Filter Theory (5th ed.), 10.1; in square-root form: 15.4 (QR-RLS).
    """

    initial: Floats
    half_life: float | None = option(
        None,
        "number of records after which a record counts half; all records of a micro-batch have the same age; none: "
        "records count for ever",
        gt=0,
    )
    features: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()

    @property
    @abstractmethod
    def remedy(self) -> str:
        """What to change when no finite weights are found, for the message."""

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
        if not usable(np.append(weights, level)):
            wrong = [i for i, weight in enumerate(weights) if not abs(weight) <= LIMIT]
            raise DivergedError(
                f"{self.name} found no finite weights after {memory.rows} rows "
                f"(features {names_at(self.features, wrong)}): {self.remedy}"
            )
        return Model.around(memory.shift[:-1], level, weights, model.rows_seen + batch.rows, memory)

    def doubts(self, model: Model, batch: Statistics) -> Mapping[int, str]:
        """See `Learner.doubts`: features whose weights the rows so far do not determine, and useless predictions."""
        memory = model.memory
        if memory is None or memory.rows < ROWS_PER_WEIGHT * len(self.initial):
            return {}
        a, b = memory.centred[:, :-1], memory.centred[:, -1]
        varies, scaled, _ = scaled_columns(a, b)
        if self.half_life is not None and b.any():
            varies &= model.weights[1:] != self.initial[1:]  # see `_solve`: the feature has been constant for long
            scaled = scaled_columns(a[:, varies], b)[1]
        why = "in the rows so far"
        found = {
            int(i): f"feature {names_at(self.features, [i])} is constant {why}: "
            f"its weight stays {self.initial[1 + i]:g}"
            for i in np.flatnonzero(~varies)
        }
        linked = Decomposition.of(scaled).free != 0
        positions = np.flatnonzero(varies)
        for i in np.flatnonzero(linked.diagonal()):
            group = positions[linked[i]].tolist()
            if self.sources and len({self.sources[position] for position in group}) == 1:
                continue
            found[int(positions[i])] = (
                f"features {names_at(self.features, group)} depend linearly on one another {why}, so their weights are "
                "not determined (those closest to the initial ones are taken): leave one out, or filter out records "
                "with values so large that they hide all others (such as 3.4e38 for a missing value)"
            )
        spread = lengths(batch.centred[:, -1:])[0]
        if batch.rows and spread and model.error(batch) > HOPELESS * spread:
            found[LABEL] = (
                f"after {batch.rows} rows the predictions of these rows are wrong by more than {HOPELESS:,.0f} times "
                "the spread of the label: a record with an extreme label or feature (such as 3.4e38 for a missing "
                "value) may have spoilt the model; filter out such records, and start a new run or set "
                f"--{self.name}-half-life"
            )
        return found

    def system(self, memory: Statistics) -> tuple[Floats, Floats]:
        """Return A, shape (m, d), and b, shape (m,): the weights w shall minimise ‖A·w - b‖."""
        return memory.centred[:, :-1], memory.centred[:, -1]

    def fit(self, a: Floats, b: Floats, start: Floats, rows: float) -> Floats:  # noqa: ARG002 - for those that override
        """Return z, shape (k,), that minimises ‖a·z - b‖; among several the one closest to `start`.

        Parameters
        ----------
        a : float64, shape (m, k), columns of length 1
        b : float64, shape (m,)
        start : float64, shape (k,)
            The initial weights, in the same scale as z.
        rows
            The number of rows that a and b stand for; with a half-life the sum of their weights.
        """
        left, singular, right, free = Decomposition.of(a)
        return np.asarray(right.T @ (left.T @ b / singular) + free @ start, dtype=np.float64)

    def pull(self, parts: Decomposition, b: Floats, start: Floats, rows: float) -> float:  # noqa: ARG002 - for `bayes`
        """Return λ >= 0: `fit` minimises ‖a·z - b‖² + λ·‖z - start‖². `parts` are those of a; the rest as in `fit`."""
        return 0.0

    def uncertainty(self, model: Model) -> Uncertainty | None:
        """See `Learner.uncertainty`; the cost is O(d³). With a half-life, the rows count by their weights.

        A pull counts as knowledge of the weights, as in Bayesian regression: it makes the standard errors smaller.
        """
        memory: Statistics | None = model.memory
        if memory is None or not memory.rows:
            return None
        a, b = self.system(memory)
        varies, scaled, scale = scaled_columns(a, b)
        parts = Decomposition.of(scaled)
        pull = self.pull(parts, b, self.initial[1:][varies] * scale, memory.weight)
        _, singular, right, free = parts
        eigenvalues = singular**2 + pull
        freedom = memory.weight - 1 - float((singular**2 / eigenvalues).sum())
        residuals = memory.centred[:, -1] - memory.centred[:, :-1] @ model.weights[1:]
        if freedom < 1 or np.isinf(pull):
            return None
        sigma = float(lengths(residuals[:, None])[0]) / np.sqrt(freedom)
        within = right.T / np.sqrt(eigenvalues)
        if pull:  # the rows say nothing of these directions, but the pull does
            within = np.column_stack([within, free / np.sqrt(pull)])
        unknown = None
        if not varies.all() or (free.any() and not pull):  # the pull says nothing of a column without a length
            unknown = np.zeros((len(varies), len(varies)))
            if not pull:
                unknown[np.ix_(varies, varies)] = free
        factor, lengths_ = np.zeros((len(varies), within.shape[1])), np.zeros(len(varies))
        lengths_[varies] = scale
        with np.errstate(over="ignore", under="ignore"):
            factor[varies] = sigma * within / scale[:, None]
            variance = sigma * sigma * (1 + 1 / memory.weight)
        return Uncertainty(memory.shift[:-1] + memory.mean[:-1], factor, float(variance), lengths_, unknown)

    def _solve(self, memory: Statistics) -> Floats:
        """Return the weights, shape (d,).

        The initial weights are never multiplied by A: the product of a huge column and a weight would hide all other
        digits of b.
        """
        weights = self.initial[1:].copy()
        a, b = self.system(memory)
        varies, scaled, scale = scaled_columns(a, b)
        start = weights[varies] * scale
        part = self.fit(scaled, b, start, memory.weight)
        if self.half_life is not None:
            # When a feature has been constant for 80 to 100 half-lives, its column is only a rounding error, and so is
            # its part of the solution. Divided by the column's length it would give an unbounded weight.
            faded = np.abs(part - start) <= NOISE * lengths(b[:, None])[0]
            varies[varies], part, scale = ~faded, part[~faded], scale[~faded]
        with np.errstate(over="ignore"):  # `update` raises DivergedError
            weights[varies] = part / scale
        return np.asarray(weights, dtype=np.float64)

    def memory_to_json(self, memory: Statistics | None) -> dict[str, Any] | None:
        """See `Learner.memory_to_json`."""
        return memory.to_json() if memory else None

    def memory_from_json(self, content: dict[str, Any] | None) -> Statistics | None:
        """See `Learner.memory_from_json`."""
        return Statistics.from_json(content, len(self.initial) - 1) if content else None


def scaled_columns(a: Floats, b: Floats) -> tuple[NDArray[np.bool_], Floats, Floats]:
    """Return which columns of `a` vary, those columns scaled to length 1, and their original lengths.

    A column so short that its weight would exceed LIMIT, for the label `b`, counts as constant.
    """
    scale = lengths(a)
    varies = scale > lengths(b[:, None])[0] / LIMIT
    return varies, a[:, varies] / scale[varies], scale[varies]
