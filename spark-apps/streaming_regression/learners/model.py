"""The model, and the interface of every learner."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from streaming_regression.learners.statistics import Floats, Statistics, lengths
from streaming_regression.learners.uncertainty import Uncertainty

LIMIT = 1e70
"""Largest magnitude of a feature, a label or a weight: a sum of (1e70 · 1e70)² over 1e26 rows still fits a float64."""
LABEL = -1
"""The label's position in `Learner.doubts`."""


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
    memory : what the learner keeps of the rows so far, beside the weights; None if it keeps nothing.
    centre : float64, shape (d,), in the features' units: predictions use x - centre; None for the origin. For data far
        from the origin x @ weights and the intercept are large and cancel, which loses digits. A centre within the data
        avoids this.
    level : prediction at `centre`, in label units; unused without a centre.
    warned : positions of the features that a WARNING has named, so that each is named once in a run; see `doubts`.
    """

    weights: Floats
    rows_seen: int = 0
    memory: Any = None
    centre: Floats | None = None
    level: float = 0.0
    warned: frozenset[int] = frozenset()

    @classmethod
    def around(cls, centre: Floats, level: float, weights: Floats, rows_seen: int, memory: object) -> Model:
        """Return the model that predicts `level` at `centre` and has `weights`, shape (d,)."""
        intercept = level - centre @ weights
        return cls(np.concatenate([[intercept], weights]), rows_seen, memory, centre, level)

    def predict(self, x: Floats) -> Floats:
        """Return predictions, shape (n,), for the rows `x`, shape (n, d)."""
        if self.centre is None:
            return np.asarray(x @ self.weights[1:] + self.weights[0], dtype=np.float64)
        return np.asarray((x - self.centre) @ self.weights[1:] + self.level, dtype=np.float64)

    def error(self, rows: Statistics) -> float:
        """Return the root of the sum of squared errors of the predictions for `rows`, in label units."""
        centre = np.zeros_like(self.weights[1:]) if self.centre is None else self.centre
        level = self.weights[0] if self.centre is None else self.level
        x, y = rows.shift[:-1], rows.shift[-1]
        constant = y - level - (x - centre) @ self.weights[1:]
        return float(lengths((rows.factor @ np.concatenate([[constant], -self.weights[1:], [1.0]]))[:, None])[0])


def option(default: float | bool | None, description: str, **limits: float) -> Any:  # noqa: ANN401 - as `field` does
    """Return a dataclass field that is also a setting of the program, `--LEARNER-FIELD`, and a value of the chart.

    Parameters
    ----------
    default, description
        The setting's default and help text.
    limits
        Limits of the value, with pydantic's names: gt, ge, lt, le.
    """
    return field(default=default, metadata={"description": description, "limits": limits})


class Learner(ABC):
    """Turns a model and a micro-batch into the next model.

    Each learner is one module of this package: a frozen dataclass, and `LEARNER`, which names it. It can have these
    fields: `initial`, the intercept and weights before any row, shape (d + 1,); `features`, their names, for messages;
    `sources`, the record's field of each feature; and an `option` for each of its settings. Nothing else in the program
    depends on the learner.
    """

    __slots__ = ()

    name: ClassVar[str]
    """The value of `--learner` that selects it, and the prefix of its settings."""
    summary: ClassVar[str]
    """The learner in a few words, for the help text of `--learner`."""

    @abstractmethod
    def update(self, model: Model, batch: Statistics) -> Model:
        """Return the model after a micro-batch with statistics `batch`; `model` is not changed.

        Raises
        ------
        DivergedError
            When the new weights are not finite or too large. The message names the rows, the features and the setting
            to change. `model` is still valid.
        """

    def doubts(self, model: Model, batch: Statistics) -> Mapping[int, str]:  # noqa: ARG002 - for those that override it
        """Return the reasons why weights cannot be learned, by the position of the feature, or LABEL; usually empty.

        `model` is what `update` returned for the micro-batch with statistics `batch`.
        """
        return {}

    def uncertainty(self, model: Model) -> Uncertainty | None:  # noqa: ARG002 - for those that override it
        """Return how uncertain the predictions of a model are; None if the learner does not know it, or not yet."""
        return None

    def memory_to_json(self, memory: Any) -> Any:  # noqa: ANN401, ARG002 - each learner has its own
        """Return `Model.memory` in a form that JSON can hold, for the checkpoint."""
        return None

    def memory_from_json(self, content: Any) -> Any:  # noqa: ANN401, ARG002
        """Return the `Model.memory` that `memory_to_json` converted.

        Raises
        ------
        ValueError, KeyError, TypeError
            When the content is damaged.
        """
        return None


def usable(weights: Floats) -> bool:
    """Return whether predictions with these weights are finite: none is NaN or beyond LIMIT."""
    return bool((np.abs(weights) <= LIMIT).all())


def names_at(features: Sequence[str], positions: Iterable[int]) -> str:
    """Return the names of the features at these positions, for a message; numbers if the names are unknown."""
    return ", ".join(features[i] if features else f"number {i + 1}" for i in positions)
