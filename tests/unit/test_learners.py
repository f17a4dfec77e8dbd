"""The learners against independent references and by law; no Spark."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from streaming_regression.learners import (
    LIMIT,
    DivergedError,
    Floats,
    GradientDescent,
    Learner,
    Model,
    RecursiveLeastSquares,
    Statistics,
)
from tests.strategies import cuts, regressions


def statistics(x: Floats, y: Floats) -> Statistics:
    return Statistics.empty(x.shape[1]).with_rows(x, y)


def lstsq(x: Floats, y: Floats) -> Floats:
    """numpy's own solution over all rows, intercept first."""
    return np.linalg.lstsq(np.column_stack([np.ones(len(y)), x]), y, rcond=None)[0]


def learned(learner: Learner, x: Floats, y: Floats, batches: list[slice], model: Model | None = None) -> Model:
    model = model or Model(np.zeros(x.shape[1] + 1))
    for batch in batches:
        model = learner.update(model, statistics(x[batch], y[batch]))
    return model


def conditioned(condition: float, rows: int, seed: int) -> tuple[Floats, Floats]:
    """Rows of three features so that [1 X] has about the condition number `condition`."""
    rng = np.random.default_rng(seed)
    u, _ = np.linalg.qr(rng.normal(size=(rows, 3)))
    v, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    x = u * np.geomspace(1, 1 / condition, 3) @ v.T * np.sqrt(rows)
    return x, x @ np.array([1.0, -2.0, 3.0]) + 0.5 + rng.normal(size=rows) * 0.01


LEARNERS = [
    RecursiveLeastSquares(np.zeros(3)),
    RecursiveLeastSquares(np.array([1.0, 2.0, -1.0]), half_life=50.0, ridge=0.1),
    GradientDescent(),
    GradientDescent(intercept=True),
]


@given(data=st.data(), regression=regressions())
def test_rls_equals_lstsq_for_any_split_into_batches(data: st.DataObject, regression: tuple[Floats, Floats]) -> None:
    x, y = regression
    model = learned(RecursiveLeastSquares(np.zeros(x.shape[1] + 1)), x, y, data.draw(cuts(len(y))))
    assert model.rows_seen == len(y)
    if len(y):  # few rows leave the weights open: then both take the smallest
        np.testing.assert_allclose(model.weights, lstsq(x, y), rtol=1e-9, atol=1e-9)


@given(data=st.data(), regression=regressions())
def test_statistics_add_up_however_the_rows_are_cut_into_partitions(
    data: st.DataObject, regression: tuple[Floats, Floats]
) -> None:
    x, y = regression
    parts = [statistics(x[part], y[part]) for part in data.draw(cuts(len(y)))]
    total = Statistics.total(parts, x.shape[1])
    rows = np.column_stack([np.ones(len(y)), x, y])
    assert total.rows == len(y)
    np.testing.assert_allclose(total.gram, rows.T @ rows, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize(("condition", "tolerance"), [(1e3, 1e-9), (1e6, 1e-6)])
@pytest.mark.parametrize("batches", [1, 7, 500])
def test_rls_equals_lstsq_on_ill_conditioned_rows(condition: float, tolerance: float, batches: int) -> None:
    x, y = conditioned(condition, 20_000, seed=7)
    edges = np.linspace(0, len(y), batches + 1).astype(int)
    split = [slice(start, end) for start, end in pairwise(edges)]
    model = learned(RecursiveLeastSquares(np.zeros(4)), x, y, split)
    want = lstsq(x, y)
    assert np.linalg.norm(model.weights - want) <= tolerance * np.linalg.norm(want)


def test_rls_takes_the_smallest_weights_where_rows_leave_them_open() -> None:
    """A feature that never changes, and one that is another twice over: lstsq's answer is the one of least norm."""
    rng = np.random.default_rng(3)
    a = rng.normal(size=500)
    x = np.column_stack([a, 2 * a, np.full(500, 4.0)])
    y = 3 * a + 1 + rng.normal(size=500) * 0.1
    model = learned(RecursiveLeastSquares(np.zeros(4)), x, y, [slice(0, 2), slice(2, 100), slice(100, 500)])
    np.testing.assert_allclose(model.weights, lstsq(x, y), rtol=1e-9, atol=1e-9)


def test_rls_forgets_by_the_half_life() -> None:
    """A batch that is k rows old weighs 0.5 ** (k / half_life): compared with weighted least squares."""
    rng = np.random.default_rng(5)
    x, half_life = rng.normal(size=(300, 2)), 80.0
    y = x @ [2.0, -1.0] + rng.normal(size=300)
    batches = [slice(0, 100), slice(100, 250), slice(250, 300)]
    model = learned(RecursiveLeastSquares(np.zeros(3), half_life=half_life), x, y, batches)
    weight = np.repeat(0.5 ** (np.array([200, 50, 0]) / half_life), [100, 150, 50])
    root = np.sqrt(weight)[:, None]
    want = np.linalg.lstsq(root * np.column_stack([np.ones(300), x]), root[:, 0] * y, rcond=None)[0]
    np.testing.assert_allclose(model.weights, want, rtol=1e-9)


def test_rls_with_a_half_life_follows_a_drift_and_recovers() -> None:
    rng = np.random.default_rng(11)
    x = rng.normal(size=(20_000, 3))
    before, after = np.array([1.0, 2.0, 3.0]), np.array([-1.0, 0.0, 5.0])
    y = np.concatenate([x[:10_000] @ before, x[10_000:] @ after]) + rng.normal(size=20_000) * 0.01
    batches = [slice(start, start + 100) for start in range(0, 20_000, 100)]
    forgetting = RecursiveLeastSquares(np.zeros(4), half_life=300.0)
    halfway = learned(forgetting, x, y, batches[:100])
    np.testing.assert_allclose(halfway.weights[1:], before, atol=0.01)
    end = learned(forgetting, x, y, batches[100:], halfway)
    np.testing.assert_allclose(end.weights[1:], after, atol=0.01)
    never = learned(RecursiveLeastSquares(np.zeros(4)), x, y, batches)
    assert np.abs(never.weights[1:] - after).max() > 0.5  # it takes the forgetting


def test_rls_ridge_pulls_towards_the_initial_weights_and_leaves_the_intercept_free() -> None:
    rng = np.random.default_rng(2)
    x, initial = rng.normal(size=(50, 2)), np.array([9.0, 1.0, -1.0])
    y = x @ [4.0, 4.0] + 100.0
    model = learned(RecursiveLeastSquares(initial, ridge=10.0), x, y, [slice(0, 20), slice(20, 50)])
    a = np.column_stack([np.ones(50), x])
    penalty = 10.0 * np.diag([0.0, 1.0, 1.0])
    want = np.linalg.solve(a.T @ a + penalty, a.T @ y + penalty @ initial)
    np.testing.assert_allclose(model.weights, want, rtol=1e-9)


def mllib(x: Floats, y: Floats, start: Floats, step: float, iterations: int, tolerance: float) -> Floats:
    """GradientDescent.runMiniBatchSGD row by row, as Scala has it; against MLlib itself: tests/integration."""
    weights, previous = start, None
    for i in range(1, iterations + 1):
        gradient = sum(((row @ weights - label) * row for row, label in zip(x, y, strict=True)), np.zeros(x.shape[1]))
        weights = weights - step / np.sqrt(i) * gradient / len(y)
        if previous is not None and np.linalg.norm(weights - previous) < tolerance * max(np.linalg.norm(weights), 1.0):
            break
        previous = weights
    return weights


@given(regression=regressions(max_features=3), step=st.sampled_from([0.01, 0.1]), tolerance=st.sampled_from([0, 0.01]))
def test_sgd_equals_gradient_descent_row_by_row(
    regression: tuple[Floats, Floats], step: float, tolerance: float
) -> None:
    x, y = regression
    x = x / np.maximum(np.abs(x).max(axis=0, initial=1.0), 1.0)
    half = len(y) // 2
    learner = GradientDescent(step_size=step, convergence_tolerance=tolerance)
    model = learned(learner, x, y, [slice(0, half), slice(half, len(y))])
    want = np.zeros(x.shape[1])
    for part in (slice(0, half), slice(half, len(y))):
        if len(y[part]):
            want = mllib(x[part], y[part], want, step, 50, tolerance)
    np.testing.assert_allclose(model.weights, [0.0, *want], rtol=1e-9, atol=1e-12)


def test_sgd_learns_the_intercept_when_told_to() -> None:
    rng = np.random.default_rng(1)
    x = rng.uniform(-1, 1, size=(1000, 1))
    batches = [slice(start, start + 100) for start in range(0, 1000, 100)]
    y = 3.0 * x[:, 0] + 5.0
    learner = GradientDescent(step_size=1.0, convergence_tolerance=0.0, intercept=True)
    np.testing.assert_allclose(learned(learner, x, y, batches).weights, [5.0, 3.0], atol=0.01)
    fixed = learned(replace(learner, intercept=False), x, y, batches, Model(np.array([5.0, 0.0])))
    np.testing.assert_allclose(fixed.weights, [5.0, 3.0], atol=0.01)


def test_a_diverging_sgd_says_which_setting_to_change() -> None:
    x = np.full((10, 1), 1e4)
    with pytest.raises(DivergedError, match=r"10 rows: lower --sgd-step-size \(now 0.1\)"):
        GradientDescent().update(Model(np.zeros(2)), statistics(x, x[:, 0]))


@pytest.mark.parametrize("learner", LEARNERS, ids=lambda learner: learner.name)
def test_an_empty_batch_changes_nothing_and_arguments_stay_unchanged(learner: Learner) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(40, 2)), rng.normal(size=40)
    model = learner.update(Model(np.array([0.5, 0.0, 0.0])), statistics(x, y))
    kept = model.weights.copy()
    assert learner.update(model, Statistics.empty(2)) is model
    learner.update(model, statistics(x, y))
    np.testing.assert_array_equal(model.weights, kept)


@pytest.mark.parametrize("learner", LEARNERS, ids=lambda learner: learner.name)
def test_features_may_be_permuted(learner: Learner) -> None:
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(40, 2)), rng.normal(size=40)
    weights = learner.update(Model(np.zeros(3)), statistics(x, y)).weights
    if isinstance(learner, RecursiveLeastSquares):
        learner = replace(learner, initial=learner.initial[[0, 2, 1]])
    swapped = learner.update(Model(np.zeros(3)), statistics(x[:, ::-1], y)).weights
    np.testing.assert_allclose(swapped, weights[[0, 2, 1]], rtol=1e-9)


def test_predictions_and_sums_stay_finite_up_to_the_limit() -> None:
    x = np.full((1, 3), LIMIT)
    pred = Model(np.full(4, LIMIT)).predict(x)
    assert np.isfinite(1e20 * np.square(pred + LIMIT)).all()
