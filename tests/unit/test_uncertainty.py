"""The standard errors of predictions: coverage on synthetic data, an independent reference, and what is not known."""

from __future__ import annotations

import json

import numpy as np
import pytest

from streaming_regression.learners import Floats, Model, Statistics
from streaming_regression.learners.bayes import BayesianRegression
from streaming_regression.learners.least_squares import LeastSquares
from streaming_regression.learners.rls import RecursiveLeastSquares
from streaming_regression.learners.sgd import GradientDescent

NORMAL_95 = 1.959964
T_95_AT_20 = 2.085963
"""Student's t with 20 degrees of freedom: the factor of the 95 % band."""


def learned(learner: LeastSquares, x: Floats, y: Floats) -> Model:
    return learner.update(Model(learner.initial), Statistics.empty(x.shape[1]).with_rows(x, y))


def standard_errors(learner: LeastSquares, model: Model, x: Floats) -> Floats:
    found = learner.uncertainty(model)
    assert found is not None
    return found.standard_errors(x)


def data(rng: np.random.Generator, rows: int, d: int) -> tuple[Floats, Floats]:
    """Features of different size, far from 0, and labels with noise of standard deviation 3."""
    x = rng.normal(size=(rows, d)) * np.geomspace(1e-3, 1e3, d) + 1e4
    return x, (x - 1e4) / np.geomspace(1e-3, 1e3, d) @ np.arange(1, d + 1) + 7 + rng.normal(size=rows) * 3


LARGE = pytest.param(1_000, 200, marks=pytest.mark.slow)


@pytest.mark.parametrize(("rows", "d"), [(40, 3), (100, 3), (1_000, 3), (10_000, 3), (200, 50), LARGE])
@pytest.mark.parametrize("kind", [RecursiveLeastSquares, BayesianRegression])
def test_95_percent_of_new_labels_are_in_the_band(kind: type[LeastSquares], rows: int, d: int) -> None:
    """Learned anew several times, because one model's noise is the same for all its predictions."""
    rng, inside = np.random.default_rng(rows + d), []
    for _ in range(60 if d == 3 else 10):
        x, y = data(rng, rows + 500, d)
        learner = kind(np.zeros(d + 1))
        model = learned(learner, x[:rows], y[:rows])
        error = np.abs(y[rows:] - model.predict(x[rows:]))
        inside.append(error <= NORMAL_95 * standard_errors(learner, model, x[rows:]))
    assert 0.93 <= np.mean(inside) <= 0.97


def test_with_few_rows_the_band_needs_students_factor() -> None:
    rng, inside = np.random.default_rng(1), []
    for _ in range(400):
        x, y = data(rng, 24 + 20, 3)
        learner = RecursiveLeastSquares(np.zeros(4))
        model = learned(learner, x[:24], y[:24])
        error = np.abs(y[24:] - model.predict(x[24:]))
        inside.append(error <= T_95_AT_20 * standard_errors(learner, model, x[24:]))
    assert 0.935 <= np.mean(inside) <= 0.965


@pytest.mark.parametrize("half_life", [None, 2_000.0])
def test_95_percent_are_in_the_band_of_the_model_before_their_micro_batch(half_life: float | None) -> None:
    """As in the app: micro-batches that grow, predicted before they are learned."""
    rng, d = np.random.default_rng(2), 5
    x, y = data(rng, 20_000, d)
    learner = RecursiveLeastSquares(np.zeros(d + 1), half_life)
    model, start, inside = learned(learner, x[:500], y[:500]), 500, []
    while start < len(y):
        part = slice(start, min(2 * start, len(y)))
        error = np.abs(y[part] - model.predict(x[part]))
        inside.append(error <= NORMAL_95 * standard_errors(learner, model, x[part]))
        model = learner.update(model, Statistics.empty(d).with_rows(x[part], y[part]))
        start = part.stop
    assert 0.94 <= np.concatenate(inside).mean() <= 0.96


def test_it_is_the_textbooks_formula() -> None:
    """Reference: the normal equations of [1 X], solved directly."""
    rng = np.random.default_rng(3)
    x, y, new = rng.normal(size=(30, 4)) + 2, rng.normal(size=30), rng.normal(size=(9, 4)) * 5
    a = np.column_stack([np.ones(30), x])
    weights, (squares,), *_ = np.linalg.lstsq(a, y)
    rows = np.column_stack([np.ones(9), new])
    want = np.sqrt(squares / 25 * (1 + np.einsum("ij,jk,ik->i", rows, np.linalg.inv(a.T @ a), rows)))
    learner = RecursiveLeastSquares(np.zeros(5))
    model = learned(learner, x, y)
    np.testing.assert_allclose(model.weights, weights, rtol=1e-9)
    np.testing.assert_allclose(standard_errors(learner, model, new), want, rtol=1e-9)


@pytest.mark.parametrize("ridge", [0.0, 4.0])
def test_with_a_ridge_it_is_the_posterior_of_bayesian_regression(ridge: float) -> None:
    rng = np.random.default_rng(4)
    x, y, new = rng.normal(size=(30, 2)), rng.normal(size=30), rng.normal(size=(5, 2)) * 3
    learner = RecursiveLeastSquares(np.zeros(3), ridge=ridge)
    model = learned(learner, x, y)
    centred, distance = x - x.mean(axis=0), new - x.mean(axis=0)
    leverage = np.einsum("ij,jk,ik->i", distance, np.linalg.inv(centred.T @ centred + ridge * np.eye(2)), distance)
    sigma = np.sqrt(((y - model.predict(x)) ** 2).sum() / 27)
    want = sigma * np.sqrt(1 + 1 / 30 + leverage)
    np.testing.assert_allclose(standard_errors(learner, model, new), want, rtol=1e-9)


def test_nothing_is_known_where_no_row_was() -> None:
    """A constant feature, and two that were equal: a row that differs there could have any label."""
    rng = np.random.default_rng(5)
    z = rng.normal(size=(100, 2))
    x = np.column_stack([z[:, 0], z[:, 0] * 1000, z[:, 1], np.full(100, 7.0)])
    learner = RecursiveLeastSquares(np.zeros(5))
    model = learned(learner, x, z @ np.array([1.0, 2.0]) + rng.normal(size=100))
    new = np.array([[1.0, 1000, 5, 7], [1.0, 2000, 5, 7], [1.0, 1000, 5, 8], [1e-3, 1, 0, 7]])
    assert np.isnan(standard_errors(learner, model, new)).tolist() == [False, True, True, False]


def test_categories_that_depend_on_one_another_have_errors_but_unknown_values_have_none() -> None:
    rng = np.random.default_rng(6)
    category = rng.integers(0, 3, size=200)
    x = np.column_stack([np.eye(3)[category], rng.normal(size=200)])
    learner = RecursiveLeastSquares(np.zeros(5))
    model = learned(learner, x, category + rng.normal(size=200))
    new = np.array([[1.0, 0, 0, 0.5], [0, 0, 1.0, -0.5], [0, 0, 0, 0.5]])
    assert np.isnan(standard_errors(learner, model, new)).tolist() == [False, False, True]


def test_bayes_knows_something_of_every_direction() -> None:
    rng = np.random.default_rng(7)
    z = rng.normal(size=100)
    x = np.column_stack([z, z])
    learner = BayesianRegression(np.zeros(3))
    model = learned(learner, x, z + rng.normal(size=100) * 0.1)
    near, far = standard_errors(learner, model, np.array([[1.0, 1.0], [1.0, -1.0]]))
    assert 0.05 < near < 0.2
    assert far > 3 * near


def test_bayes_knows_nothing_of_a_feature_that_was_constant() -> None:
    """Its column has no length, so in the feature's own unit the distribution of its weight has no limit."""
    rng = np.random.default_rng(11)
    x = np.column_stack([rng.normal(size=(60, 2)), np.full(60, 7.0)])
    learner = BayesianRegression(np.zeros(4))
    model = learned(learner, x, x[:, 0] + rng.normal(size=60))
    assert np.isnan(standard_errors(learner, model, np.array([[1.0, 1, 7], [1, 1, 8]]))).tolist() == [False, True]


def test_without_enough_rows_or_with_sgd_there_is_none() -> None:
    rng = np.random.default_rng(8)
    x, y = rng.normal(size=(4, 3)), rng.normal(size=4)
    learner = RecursiveLeastSquares(np.zeros(4))
    assert learner.uncertainty(Model(np.zeros(4))) is None
    assert learner.uncertainty(learned(learner, x, y)) is None
    assert GradientDescent().uncertainty(Model(np.zeros(4))) is None


def test_huge_numbers_give_no_error_instead_of_infinity() -> None:
    rng = np.random.default_rng(9)
    x, y = data(rng, 100, 3)
    learner = RecursiveLeastSquares(np.zeros(4))
    errors = standard_errors(learner, learned(learner, x, y), np.array([[1e70, 1e70, 1e70], x[0]]) * 1e100)
    assert np.isnan(errors).all() or np.isfinite(errors[~np.isnan(errors)]).all()
    infinite = standard_errors(learner, learned(learner, x, y), np.full((1, 3), 1e300))
    assert np.isnan(infinite).all()


@pytest.mark.parametrize("kind", [RecursiveLeastSquares, BayesianRegression])
def test_a_model_from_the_checkpoint_gives_the_same_numbers_to_the_last_bit(kind: type[LeastSquares]) -> None:
    rng = np.random.default_rng(10)
    x, y = data(rng, 100, 3)
    learner = kind(np.zeros(4))
    model = learned(learner, x, y)
    memory = learner.memory_from_json(json.loads(json.dumps(learner.memory_to_json(model.memory))))
    again = Model(model.weights, model.rows_seen, memory, model.centre, model.level)
    np.testing.assert_array_equal(standard_errors(learner, again, x), standard_errors(learner, model, x))
