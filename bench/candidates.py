"""The learners that `bench/learner.py` compares: ours, and those of other libraries."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from river import linear_model
from sklearn.linear_model import SGDRegressor

from streaming_regression.learners import Floats, Learner, Model, Statistics
from streaming_regression.learners.rls import RecursiveLeastSquares
from streaming_regression.learners.sgd import GradientDescent

with suppress(ImportError):  # some machines have no wheel
    import vowpalwabbit

BLOCK = 10_000  # rows that the app decodes and learns at once


@dataclass(frozen=True)
class Candidate:
    """A learner under test: `prepare` converts x and y to the input of `learn`, and only `learn` is timed."""

    learn: Callable[[Any], object]
    predict: Callable[[Floats], Floats]
    prepare: Callable[[Floats, Floats], Any] = lambda x, y: (x, y)


def ours(learner: Learner, features: int) -> Candidate:
    models = [Model(np.zeros(features + 1))]

    def learn(given: tuple[Floats, Floats]) -> None:
        models[0] = learner.update(models[0], summed(*given))

    return Candidate(learn, lambda x: models[0].predict(x))  # noqa: PLW0108 - models[0] changes


def sklearn(eta0: float = 0.01, average: bool = False, rule: str = "invscaling") -> Candidate:
    model = SGDRegressor(penalty=None, eta0=eta0, average=average, learning_rate=rule, random_state=0)
    return Candidate(lambda given: model.partial_fit(*given), model.predict)


def dicts(x: Floats, y: Floats) -> list[tuple[dict[int, float], float]]:
    return [(dict(enumerate(row)), label) for row, label in zip(x.tolist(), y.tolist(), strict=True)]


def dicts_with_1(x: Floats, y: Floats) -> list[tuple[dict[int, float], float]]:
    return dicts(np.column_stack([x, np.ones(len(x))]), y)


def river(model: Any, prepare: Callable[[Floats, Floats], Any] = dicts) -> Candidate:  # noqa: ANN401
    """River, row by row; `prepare` is `dicts_with_1` for a model without an intercept."""

    def learn(rows: list[tuple[dict[int, float], float]]) -> None:
        for x, y in rows:
            model.learn_one(x, y)

    def predict(x: Floats) -> Floats:
        return np.array([model.predict_one(row) for row, _ in prepare(x, np.zeros(len(x)))])

    return Candidate(learn, predict, prepare)


def river_many() -> Candidate:
    """River's mini-batches: one gradient step per micro-batch."""
    model = linear_model.LinearRegression()
    return Candidate(
        lambda given: model.learn_many(*given),
        lambda x: np.asarray(model.predict_many(pd.DataFrame(x))),
        lambda x, y: (pd.DataFrame(x), pd.Series(y)),
    )


def vw(**settings: float) -> Candidate:
    """Vowpal Wabbit's adaptive, normalized, invariant updates, which need no scaling."""
    model = vowpalwabbit.Workspace(quiet=True, **settings)

    def texts(x: Floats) -> list[str]:
        return ["| " + " ".join(f"f{i}:{value}" for i, value in enumerate(row)) for row in x.tolist()]

    def learn(lines: list[str]) -> None:
        for line in lines:
            model.learn(line)

    return Candidate(
        learn,
        lambda x: np.array([model.predict(line) for line in texts(x)]),
        lambda x, y: [f"{label} {text}" for label, text in zip(y.tolist(), texts(x), strict=True)],
    )


Maker = Callable[[], Candidate]


def summed(x: Floats, y: Floats) -> Statistics:
    """Return the rows' statistics as the app sums them: block by block."""
    total = Statistics.empty(x.shape[1])
    for start in range(0, len(y), BLOCK):
        total = total.with_rows(x[start : start + BLOCK], y[start : start + BLOCK])
    return total


def makers(d: int) -> dict[str, tuple[Maker, int]]:
    """Return, for each learner that runs in one process, a function that makes it and its maximum number of rows."""
    found: dict[str, tuple[Maker, int]] = {
        "ours, rls": (lambda: ours(RecursiveLeastSquares(np.zeros(d + 1)), d), 10**7),
        "ours, sgd": (lambda: ours(GradientDescent(), d), 10**7),
        "scikit-learn SGDRegressor": (sklearn, 10**7),
        "River LinearRegression": (lambda: river(linear_model.LinearRegression()), 10_000),
        "River LinearRegression, learn_many": (river_many, 10**7),
        "River BayesianLinearRegression": (lambda: river(linear_model.BayesianLinearRegression(), dicts_with_1), 1_000),
    }
    if "vowpalwabbit" in globals():
        found["Vowpal Wabbit"] = (vw, 10_000)
    return found
