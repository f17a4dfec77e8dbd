"""The learners compared with independent references, and their properties; without Spark."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from embedded.testing.reference import conditions, exact, lstsq
from streaming_regression import learners
from streaming_regression.learners import (
    LIMIT,
    DivergedError,
    Floats,
    Learner,
    Model,
    Statistics,
    create,
)
from streaming_regression.learners.bayes import BayesianRegression
from streaming_regression.learners.model import LABEL
from streaming_regression.learners.rls import RecursiveLeastSquares
from streaming_regression.learners.sgd import GradientDescent
from tests.strategies import cuts, regressions, unscaled


def statistics(x: Floats, y: Floats) -> Statistics:
    return Statistics.empty(x.shape[1]).with_rows(x, y)


def solved(x: Floats, y: Floats, counts: Floats | None = None) -> Floats:
    """Least squares over all rows, intercept first."""
    return lstsq(np.column_stack([x, y]), counts=counts)


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
    BayesianRegression(np.zeros(3)),
    GradientDescent(),
    GradientDescent(intercept=True),
]


def test_every_learner_takes_the_tests_that_all_learners_must_pass() -> None:
    assert {type(learner) for learner in LEARNERS} == set(learners.LEARNERS.values())


@given(data=st.data(), regression=regressions())
def test_rls_equals_least_squares_for_any_split_into_batches(
    data: st.DataObject, regression: tuple[Floats, Floats]
) -> None:
    x, y = regression
    model = learned(RecursiveLeastSquares(np.zeros(x.shape[1] + 1)), x, y, data.draw(cuts(len(y))))
    assert model.rows_seen == len(y)
    if len(y):  # few rows do not determine the weights: then both take the smallest solution
        np.testing.assert_allclose(model.weights, solved(x, y), rtol=1e-9, atol=1e-9)


@given(data=st.data(), regression=unscaled(), half_life=st.sampled_from([None, 20.0, 200.0]))
def test_rls_predicts_as_exact_arithmetic_does_whatever_the_columns_magnitudes_and_offsets(
    data: st.DataObject, regression: tuple[Floats, Floats], half_life: float | None
) -> None:
    """Reference: normal equations in rational numbers. Tolerance: 1e-9 of the label's standard deviation, rounding."""
    x, y = regression
    d = x.shape[1]
    learner, model = RecursiveLeastSquares(np.zeros(d + 1), half_life), Model(np.zeros(d + 1))
    batches = data.draw(cuts(len(y)))
    for batch in batches:
        partitions = data.draw(cuts(batch.stop - batch.start, most=3))
        parts = [statistics(x[batch][partition], y[batch][partition]) for partition in partitions]
        model = learner.update(model, Statistics.total(parts, d))
    later = np.concatenate([np.full(batch.stop - batch.start, len(y) - batch.stop) for batch in batches])
    counts = 0.5 ** (later / half_life) if half_life else np.ones(len(y))
    want, rank = exact(x, y, counts)
    values = conditions(x, counts)
    assume(not rank or values[rank - 1] >= 1e-6 * values[0])
    error = [abs(float(Fraction(found) - right)) for found, right in zip(model.predict(x).tolist(), want, strict=True)]
    assert max(error) <= 1e-9 * y.std() + 4 * np.spacing(np.abs(y).max())


SECONDS = np.arange(5000) * 2.16
SENTINEL = np.random.default_rng(8).normal(size=5000)
SENTINEL[100] = 3.4e38


@pytest.mark.parametrize(
    ("other", "weight"),
    [
        pytest.param(1.7e9 + SECONDS, 0.001, id="epoch seconds"),
        pytest.param(1.7e12 + SECONDS * 5, 0.001, id="epoch milliseconds over a minute"),
        pytest.param(1.7e18 + SECONDS * 5e6, 1e-9, id="epoch nanoseconds over a minute"),
        pytest.param(1e15 + np.arange(5000.0), 0.001, id="a counter, 2e11 times its spread from 0"),
        pytest.param(8.9e15 + np.arange(5000) % 2, 0.0, id="an id"),
        pytest.param(SENTINEL, 0.0, id="one value of 3.4e38"),
        pytest.param(np.where(np.arange(5000) % 50, SECONDS, -9999.0), 0.0, id="a sentinel"),
    ],
)
@pytest.mark.parametrize("half_life", [None, 700.0])
def test_rls_learns_the_weights_beside_a_column_that_is_far_from_the_others(
    other: Floats, weight: float, half_life: float | None
) -> None:
    """The weight of a temperature is 2, whatever the other column contains; the noise of the label is 0.1."""
    rng = np.random.default_rng(9)
    temperature = rng.normal(15, 5, size=5000)
    y = 20 + 2 * temperature + weight * (other - other[0]) + rng.normal(size=5000) * 0.1
    x = np.column_stack([other, temperature])
    learner = RecursiveLeastSquares(np.zeros(3), half_life)
    model = learned(learner, x, y, [slice(start, start + 500) for start in range(0, 5000, 500)])
    assert abs(model.weights[2] - 2) < 0.01
    np.testing.assert_allclose(model.weights[1] * other.std(), weight * other.std(), atol=0.03)
    assert np.mean((model.predict(x[-500:]) - y[-500:]) ** 2) < 0.02
    counts = np.repeat(0.5 ** (np.arange(4500, -1, -500) / (half_life or np.inf)), 500)
    np.testing.assert_allclose(model.weights[1:], solved(x, y, counts)[1:], rtol=1e-7)


@given(
    units=st.lists(st.integers(-90, 90), min_size=3, max_size=3),
    offsets=st.lists(st.integers(-(2**40), 2**40), min_size=3, max_size=3),
    half_life=st.sampled_from([None, 100.0]),
)
def test_rls_weights_do_not_depend_on_a_features_unit_or_offset(
    units: list[int], offsets: list[int], half_life: float | None
) -> None:
    rng = np.random.default_rng(10)
    x, unit = rng.integers(-1000, 1000, size=(300, 3)).astype(float), 2.0 ** np.array(units)
    y = x @ [0.1, -0.02, 3.0] + rng.normal(size=300)
    batches = [slice(0, 120), slice(120, 121), slice(121, 300)]
    start = np.array([1.0, 2.0, 0.0, 1.0])
    plain = learned(RecursiveLeastSquares(start, half_life), x, y, batches)
    moved = (x + offsets) * unit  # exact, without rounding
    other = learned(RecursiveLeastSquares(start / [1, *unit], half_life), moved, y, batches)
    np.testing.assert_allclose(other.weights[1:] * unit, plain.weights[1:], rtol=1e-9)
    np.testing.assert_allclose(other.predict(moved), plain.predict(x), rtol=1e-9, atol=1e-9)


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
def test_rls_equals_least_squares_on_ill_conditioned_rows(condition: float, tolerance: float, batches: int) -> None:
    x, y = conditioned(condition, 20_000, seed=7)
    edges = np.linspace(0, len(y), batches + 1).astype(int)
    split = [slice(start, end) for start, end in pairwise(edges)]
    model = learned(RecursiveLeastSquares(np.zeros(4)), x, y, split)
    want = solved(x, y)
    assert np.linalg.norm(model.weights - want) <= tolerance * np.linalg.norm(want)


def test_rls_takes_the_solution_closest_to_the_initial_weights_where_rows_leave_them_open() -> None:
    """A constant feature keeps its weight; two features that differ only in their unit explain one half each."""
    rng = np.random.default_rng(3)
    a = np.round(rng.normal(size=500), 3)
    x = np.column_stack([a, 1024 * a + 7, np.full(500, 4.1)])
    y = 3 * a + 1 + rng.normal(size=500) * 0.1
    slope = solved(x[:, :1], y)[1]
    batches = [slice(0, 2), slice(2, 100), slice(100, 500)]
    from_zero = learned(RecursiveLeastSquares(np.zeros(4)), x, y, batches)
    np.testing.assert_allclose(from_zero.weights[1:], [slope / 2, slope / 2048, 0], rtol=1e-9)
    np.testing.assert_allclose(from_zero.weights, solved(x, y), rtol=1e-9)
    initial = np.array([5.0, 2.0, 1 / 1024, -1.0])
    near = learned(RecursiveLeastSquares(initial), x, y, batches)
    change = (slope - 3) / 2  # the initial weights' slope is 2 + 1
    np.testing.assert_allclose(near.weights[1:], initial[1:] + np.array([change, change / 1024, 0]), rtol=1e-9)
    np.testing.assert_allclose(near.predict(x), from_zero.predict(x), rtol=1e-9)


def test_one_row_moves_the_intercept_alone() -> None:
    model = learned(RecursiveLeastSquares(np.array([1.0, 2.0])), np.array([[3.0]]), np.array([10.0]), [slice(0, 1)])
    np.testing.assert_allclose(model.weights, [4.0, 2.0])


def test_rls_with_a_half_life_recovers_from_placeholders_for_missing_values() -> None:
    """3.4e38 fades by 2 ** -0.5 per half-life; once it is small compared with the spread, both weights are right."""
    rng = np.random.default_rng(12)
    x = rng.normal(size=(40_000, 2))
    y = x @ [1.0, 2.0] + rng.normal(size=40_000) * 0.01
    x[0, 0] = 3.4e38
    batches = [slice(start, start + 100) for start in range(0, 40_000, 100)]
    model = learned(RecursiveLeastSquares(np.zeros(3), half_life=100.0), x, y, batches)
    np.testing.assert_allclose(model.weights, [0, 1, 2], atol=0.01)


@pytest.mark.parametrize("value", [-9999.0, 1e15, 1e20, 3.4e38])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(
    "learner",
    [
        RecursiveLeastSquares(np.array([0.0, 0.1, 1.9])),
        RecursiveLeastSquares(np.array([5.0, -3.0, 7.0]), ridge=1.0),
        RecursiveLeastSquares(np.array([0.0, 0.1, 1.9]), half_life=500.0),
        BayesianRegression(np.array([0.0, 0.1, 1.9])),
    ],
    ids=["rls", "ridge", "half-life", "bayes"],
)
def test_one_value_that_stands_for_none_leaves_the_other_weight_alone_with_initial_weights(
    value: float, first: bool, learner: Learner
) -> None:
    rng = np.random.default_rng(34)
    temperature, other = rng.normal(20, 5, size=4000), rng.normal(size=4000)
    y = 2 * temperature + 20 + rng.normal(size=4000) * 0.1
    other[101] = value
    columns = [other, temperature] if first else [temperature, other]
    batches = [slice(start, start + 200) for start in range(0, 4000, 200)]
    if not first:
        learner = replace(learner, initial=learner.initial[[0, 2, 1]])  # type: ignore[attr-defined, type-var]
    model = learned(learner, np.column_stack(columns), y, batches)
    assert abs(model.weights[2 if first else 1] - 2) < 0.01
    assert np.abs(model.predict(np.column_stack(columns)[-500:]) - y[-500:]).max() < 0.5


@pytest.mark.parametrize("kind", [RecursiveLeastSquares, BayesianRegression])
@pytest.mark.parametrize(
    ("magnitude", "offset", "initial"),
    [(1e-30, 0.0, [0.0, 5.0, 7.0]), (1.0, 1.7e18, [0.0, 1.0, 1.0]), (1e30, 0.0, [0.0, 1e-9, 3.0])],
)
def test_initial_weights_of_another_magnitude_than_the_datas_do_no_harm(
    kind: type[RecursiveLeastSquares] | type[BayesianRegression], magnitude: float, offset: float, initial: list[float]
) -> None:
    rng = np.random.default_rng(35)
    x = rng.normal(size=(2000, 2)) + np.array([0.0, 3.0])
    y = (x @ [3.0, 2.0] + rng.normal(size=2000) * 0.1) * magnitude
    far = np.column_stack([offset + np.round(x[:, 0] * 2**30) if offset else x[:, 0], x[:, 1]])
    model = learned(kind(np.array(initial)), far, y, [slice(0, 700), slice(700, 2000)])
    near = np.column_stack([(far[:, 0] - offset) / (2**30 if offset else 1), x[:, 1]])
    want = lstsq(np.column_stack([near, y]))
    np.testing.assert_allclose(
        model.predict(far),
        near @ want[1:] + want[0],
        rtol=0,
        atol=(1e-9 if kind is RecursiveLeastSquares else 1e-3) * y.std(),
    )


@pytest.mark.parametrize("value", [0.0, 0.3, 1.7e18])
def test_rls_with_a_half_life_stays_good_while_a_feature_is_constant_for_long(value: float) -> None:
    """The feature's part of the memory fades to 0, not to a rounding error divided by nearly 0 (1e53 was seen).

    The fault needs a feature before and one after it: their rotations in the QR mix the rounding errors of other rows
    into the faded row.
    """
    rng = np.random.default_rng(13)
    x = rng.normal(size=(60_000, 3))
    x[:, 1] = np.where(np.arange(60_000) < 500, 256 * np.round(x[:, 1] * 16), 0.0)
    y = x @ [1.0, 0.01, 1.0] + rng.normal(size=60_000) * 0.01
    x[:, 1] += value
    learner, model = RecursiveLeastSquares(np.zeros(4), half_life=100.0), Model(np.zeros(4))
    for start in range(0, 60_000, 100):
        batch = slice(start, start + 100)
        model = learner.update(model, statistics(x[batch], y[batch]))
        assert abs(model.weights[2]) < 0.011
        assert start == 0 or np.abs(model.predict(x[batch]) - y[batch]).max() < 0.1
    assert model.weights[2] == 0
    assert "constant" in learner.doubts(model, model.memory or Statistics.empty(3))[1]


def test_a_shift_alters_the_first_row_of_the_factor_only_and_follows_the_data() -> None:
    rng = np.random.default_rng(14)
    x, y = rng.normal(size=(50, 2)) + np.array([1e12, 5.0]), rng.normal(size=50)
    whole = statistics(x, y)
    other = whole.shifted(np.array([1e12 + 3, -5.0, 1.0]))
    np.testing.assert_array_equal(other.centred, whole.centred)
    np.testing.assert_allclose(other.shift + other.mean, whole.shift + whole.mean, rtol=1e-15)
    later = statistics(x + np.array([1e15, 0]), y)
    followed = Statistics.total([whole.decayed(1e-30), later], 2)
    np.testing.assert_allclose(followed.shift, later.shift + later.mean, rtol=1e-15, atol=1e-12)
    assert (np.abs(followed.mean) <= np.spacing(np.abs(followed.shift)) + 1e-15).all(), "the mean, but for rounding"


def test_sums_keep_a_constant_column_constant() -> None:
    x = np.column_stack([np.full(3000, 0.1), np.arange(3000.0)])
    parts = [statistics(x[part], x[part, 1]) for part in (slice(0, 7), slice(7, 2500), slice(2500, 3000))]
    total = Statistics.total([Statistics.total(parts, 2).decayed(0.3), *parts], 2)
    assert total.shift[0] == 0.1
    assert not total.factor[:, 1].any()


@pytest.mark.parametrize("magnitude", [1e-200, 1e-70, 1.0, LIMIT])
def test_a_column_of_any_magnitude_leaves_the_others_alone(magnitude: float) -> None:
    rng = np.random.default_rng(15)
    x = rng.uniform(-1, 1, size=(200, 2)) * [magnitude, 1]
    y = 2 * x[:, 1] + rng.normal(size=200) * 0.01
    model = learned(RecursiveLeastSquares(np.zeros(3)), x, y, [slice(0, 90), slice(90, 200)])
    assert abs(model.weights[2] - 2) < 0.01
    assert np.isfinite(model.weights).all()


def test_rls_names_the_features_whose_weights_no_prediction_could_use() -> None:
    """Two features that are nearly the same and tiny: to use their difference, weights of 1e75 would be needed."""
    rng = np.random.default_rng(21)
    a, b, y = rng.normal(size=(3, 100))
    learner = RecursiveLeastSquares(np.zeros(4), features=("one", "other", "fine"))
    model = Model(np.zeros(4))
    with pytest.raises(DivergedError, match=r"after 100 rows \(features one, other\): set --rls-ridge above 0"):
        learner.update(model, statistics(np.column_stack([a * 1e-67, (a + b * 1e-8) * 1e-67, b * y]), y))


def test_rls_says_which_weights_the_rows_leave_open() -> None:
    rng = np.random.default_rng(16)
    a, b = rng.normal(size=(2, 200))
    x = np.column_stack([a, np.full(200, 8.9e15), b, 1000 * a + 3, rng.normal(size=200), a - b])
    learner = RecursiveLeastSquares(np.zeros(7), features=("a", "id", "b", "a2", "fine", "minus"))
    found = learner.doubts(learned(learner, x, a, [slice(0, 200)]), statistics(x, a))
    together = (
        "features a, b, a2, minus depend linearly on one another in the rows so far, so their weights are not "
        "determined (those closest to the initial ones are taken): leave one out, or filter out records with values so "
        "large that they hide all others (such as 3.4e38 for a missing value)"
    )
    assert found == {
        1: "feature id is constant in the rows so far: its weight stays 0",
        **dict.fromkeys([0, 2, 3, 5], together),
    }
    few = learned(learner, x, a, [slice(0, 6)])
    assert learner.doubts(few, statistics(x[:6], a[:6])) == {}, "too early to say"
    fine = RecursiveLeastSquares(np.zeros(4))
    assert fine.doubts(learned(fine, x[:, [0, 2, 4]], a, [slice(0, 200)]), statistics(x[:, [0, 2, 4]], a)) == {}


def one_hot(codes: NDArray[np.int64], categories: int) -> Floats:
    """The columns of a field with categories; a code of -1 is an unknown value."""
    return np.asarray(codes[:, None] == np.arange(categories), np.float64)


CARRIER, ORIGIN = ("delay", *["carrier"] * 4), tuple(["origin"] * 3)


def test_the_weights_of_categories_are_their_differences_from_an_average_row() -> None:
    """All columns of a field add up to 1, so the rows do not determine their weights."""
    rng = np.random.default_rng(21)
    carrier = rng.choice(4, size=900, p=[0.6, 0.2, 0.15, 0.05])
    origin = rng.integers(0, 3, size=900)
    x = np.column_stack([rng.normal(size=900), one_hot(carrier, 4), one_hot(origin, 3)])
    y = 2 * x[:, 0] + np.array([0.0, 5, -3, 20])[carrier] + np.array([1.0, 0, -1])[origin] + rng.normal(size=900) / 10
    names = tuple("abcdefgh")
    learner = RecursiveLeastSquares(np.zeros(9), features=names, sources=(*CARRIER, *ORIGIN))
    model = learned(learner, x, y, [slice(start, start + 300) for start in range(0, 900, 300)])
    assert learner.doubts(model, statistics(x, y)) == {}, "this is no fault of the features"

    reference = solved(np.delete(x, [1, 5], axis=1), y)  # the first category of each field is left out
    want = reference[0] + np.delete(x, [1, 5], axis=1) @ reference[1:]
    np.testing.assert_allclose(model.predict(x), want, rtol=1e-9, atol=1e-9)
    for columns in (slice(1, 5), slice(5, 8)):
        share = x[:, columns].mean(axis=0)
        assert abs(share * (1 - share) @ model.weights[1:][columns]) < 1e-9
    np.testing.assert_allclose(np.diff(model.weights[2:6]), [5, -8, 23], atol=0.1)

    unknown = np.array([[0.0, 0, 0, 0, 0, 1, 0, 0]])
    known = np.vstack([np.append(np.append(0.0, row), [1, 0, 0]) for row in np.eye(4)])
    share = x[:, 1:5].mean(axis=0)
    average = (share * (1 - share)) @ model.predict(known) / (share * (1 - share)).sum()
    np.testing.assert_allclose(model.predict(unknown), average, rtol=1e-9)


def test_categories_that_depend_on_another_feature_or_never_occur_are_named() -> None:
    rng = np.random.default_rng(22)
    carrier = rng.integers(0, 3, size=400)  # the fourth never occurs
    x = np.column_stack([(carrier == 1) * 7.0 + 1, one_hot(carrier, 4)])
    learner = RecursiveLeastSquares(np.zeros(6), features=("delay", "c=A", "c=B", "c=C", "c=D"), sources=CARRIER)
    found = learner.doubts(learned(learner, x, x[:, 1], [slice(0, 400)]), statistics(x, x[:, 1]))
    assert found[4] == "feature c=D is constant in the rows so far: its weight stays 0"
    assert found[0].startswith("features delay, c=A, c=B, c=C depend linearly on one another")
    assert found.keys() == {0, 1, 2, 3, 4}


@pytest.mark.parametrize("unknown", [False, True])
@pytest.mark.parametrize("name", ["rls", "bayes", "sgd"])
def test_every_learner_learns_from_categories(name: str, unknown: bool) -> None:
    rng = np.random.default_rng(23)
    carrier = rng.integers(-1 if unknown else 0, 3, size=3000)
    x = np.column_stack([rng.normal(size=3000), one_hot(carrier, 3)])
    y = 4 + x @ [2.0, -3, 0, 5] + rng.normal(size=3000) / 10
    sources = ("delay", *["carrier"] * 3)
    options = {"step_size": 1.0, "intercept": True, "convergence_tolerance": 0.0} if name == "sgd" else {}
    learner = create(name, np.zeros(5), ("delay", "c=A", "c=B", "c=C"), options, sources)
    model = learned(learner, x, y, [slice(start, start + 300) for start in range(0, 3000, 300)])
    assert learner.doubts(model, statistics(x, y)) == {}
    assert np.mean((model.predict(x) - y) ** 2) < 0.011
    if unknown:
        np.testing.assert_allclose(model.weights, [4, 2, -3, 0, 5], atol=0.05)


@pytest.mark.parametrize("kind", [RecursiveLeastSquares, BayesianRegression])
@pytest.mark.parametrize(("feature", "label"), [(1.0, 3.4e38), (3.4e38, 3.4e38), (1.0, -9999.0)])
def test_least_squares_says_that_one_label_has_spoilt_the_model(
    kind: type[RecursiveLeastSquares] | type[BayesianRegression], feature: float, label: float
) -> None:
    rng = np.random.default_rng(40)
    x = rng.normal(size=(3000, 2))
    y = x @ [1.0, 2.0] + rng.normal(size=3000) * 0.1
    x[200, 0], y[200] = feature, label
    learner = kind(np.zeros(3))
    batches = [slice(0, 1000), slice(1000, 3000)]
    model = learned(learner, x, y, batches)
    found = learner.doubts(model, statistics(x[batches[1]], y[batches[1]]))
    if abs(label) > 1e30:
        assert (
            "after 2000 rows the predictions of these rows are wrong by more than 1,000,000 times the spread"
            in found[LABEL]
        )
    else:
        assert found == {}


def test_the_error_of_a_model_is_that_of_its_predictions() -> None:
    rng = np.random.default_rng(41)
    x = rng.normal(size=(300, 2)) + np.array([1e6, 0.0])
    y = x @ [1.0, 2.0] + rng.normal(size=300)
    for learner in LEARNERS[:3]:
        model = learned(learner, x, y, [slice(0, 300)])
        want = np.linalg.norm(y - model.predict(x))
        np.testing.assert_allclose(model.error(statistics(x, y)), want, rtol=1e-9)
        np.testing.assert_allclose(Model(model.weights).error(statistics(x, y)), want, rtol=1e-6)


@pytest.mark.parametrize("rows", [10, 25])
def test_rls_says_so_after_few_rows(rows: int) -> None:
    rng = np.random.default_rng(36)
    a, b = rng.normal(size=(2, rows))
    for other, words in ((np.full(rows, 0.3), "feature o is constant"), (3 * a, "features a, o depend linearly")):
        x = np.column_stack([a, other, b])
        learner = RecursiveLeastSquares(np.zeros(4), features=("a", "o", "b"))
        assert words in learner.doubts(learned(learner, x, a, [slice(0, rows)]), statistics(x, a))[1]


def test_rls_with_a_half_life_says_that_a_feature_has_been_constant_for_long() -> None:
    rng = np.random.default_rng(37)
    x = rng.normal(size=(4000, 2))
    x[300:, 0] = 1.5
    y = x @ [1.0, 2.0] + rng.normal(size=4000) * 0.1
    learner = RecursiveLeastSquares(np.array([0.0, 0.25, 0.0]), half_life=10.0, features=("a", "b"))
    batches = [slice(start, start + 20) for start in range(0, 4000, 20)]
    model = learned(learner, x, y, batches)
    assert model.weights[1] == 0.25
    assert learner.doubts(model, statistics(x[-20:], y[-20:])) == {
        0: "feature a is constant in the rows so far: its weight stays 0.25"
    }


def test_rls_forgets_by_the_half_life() -> None:
    """A batch that is k rows old has the weight 0.5 ** (k / half_life). Reference: weighted least squares."""
    rng = np.random.default_rng(5)
    x, half_life = rng.normal(size=(300, 2)), 80.0
    y = x @ [2.0, -1.0] + rng.normal(size=300)
    batches = [slice(0, 100), slice(100, 250), slice(250, 300)]
    model = learned(RecursiveLeastSquares(np.zeros(3), half_life=half_life), x, y, batches)
    weight = np.repeat(0.5 ** (np.array([200, 50, 0]) / half_life), [100, 150, 50])
    np.testing.assert_allclose(model.weights, solved(x, y, weight), rtol=1e-9)


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
    assert np.abs(never.weights[1:] - after).max() > 0.5  # without forgetting the weights differ


def test_rls_ridge_pulls_towards_the_initial_weights_and_leaves_the_intercept_free() -> None:
    rng = np.random.default_rng(2)
    x, initial = rng.normal(size=(50, 2)), np.array([9.0, 1.0, -1.0])
    y = x @ [4.0, 4.0] + 100.0
    model = learned(RecursiveLeastSquares(initial, ridge=10.0), x, y, [slice(0, 20), slice(20, 50)])
    a = np.column_stack([np.ones(50), x])
    penalty = 10.0 * np.diag([0.0, 1.0, 1.0])
    want = np.linalg.solve(a.T @ a + penalty, a.T @ y + penalty @ initial)
    np.testing.assert_allclose(model.weights, want, rtol=1e-9)


def evidence(x: Floats, y: Floats, ratio: float) -> float:
    """Log of the probability of the labels, less a constant, for standardised columns and the best noise variance.

    The labels are normal with covariance σ²·(I + Z Zᵀ / ratio); the intercept takes one row (Bishop, 3.5, integrated).
    """
    z = (x - x.mean(axis=0)) / np.linalg.norm(x - x.mean(axis=0), axis=0)
    n, centred = len(y), y - y.mean()
    basis = np.linalg.qr(np.column_stack([np.ones(n), np.eye(n)[:, 1:]]))[0][:, 1:]  # of the rows less their mean
    covariance = basis.T @ (np.eye(n) + z @ z.T / ratio) @ basis
    label = basis.T @ centred
    return float(
        -(n - 1) / 2 * np.log(label @ np.linalg.solve(covariance, label)) - np.linalg.slogdet(covariance)[1] / 2
    )


@pytest.mark.parametrize("noise", [0.1, 3.0, 30.0])
def test_bayes_chooses_the_pull_under_which_the_labels_are_most_probable(noise: float) -> None:
    rng = np.random.default_rng(31)
    x = rng.normal(size=(60, 5)) * [1, 1, 1000, 1, 1] + [0, 5, 0, 0, 1e6]
    y = x @ [1, 0.5, 0.001, -1, 0] + rng.normal(size=60) * noise
    model = learned(BayesianRegression(np.zeros(6)), x, y, [slice(0, 25), slice(25, 60)])
    ratios = np.geomspace(1e-6, 1e4, 2001)
    best = ratios[np.argmax([evidence(x, y, ratio) for ratio in ratios])]
    z, scale = x - x.mean(axis=0), np.linalg.norm(x - x.mean(axis=0), axis=0)
    z = z / scale

    def ridge(ratio: float) -> Floats:
        return np.asarray(np.linalg.solve(z.T @ z / ratio + np.eye(5), z.T @ (y - y.mean()) / ratio) / scale)

    assert (best == ratios[-1]) == (noise == 30.0), (
        "with so much noise the labels say nothing against the initial weights"
    )
    lower, upper = ridge(best * 1.012 if best < ratios[-1] else np.inf), ridge(best / 1.012)  # a step of the grid
    assert (np.minimum(lower, upper) - 1e-9 <= model.weights[1:]).all()
    assert (model.weights[1:] <= np.maximum(lower, upper) + 1e-9).all()


def test_bayes_predicts_better_with_few_rows_and_the_same_with_many() -> None:
    rng = np.random.default_rng(32)
    weights = rng.normal(size=40)
    x = rng.normal(size=(100_000, 40))
    y = x @ weights + rng.normal(size=100_000) * 5
    few, many = [slice(0, 50)], [slice(0, 50), slice(50, 90_000)]
    test = slice(90_000, 100_000)

    def error(learner: Learner, batches: list[slice]) -> float:
        return float(np.mean((learned(learner, x, y, batches).predict(x[test]) - y[test]) ** 2))

    rls, bayes = RecursiveLeastSquares(np.zeros(41)), BayesianRegression(np.zeros(41))
    assert error(bayes, few) < 0.5 * error(rls, few)
    np.testing.assert_allclose(error(bayes, many), error(rls, many), rtol=1e-4)


def test_bayes_keeps_initial_weights_that_the_rows_do_not_contradict() -> None:
    rng = np.random.default_rng(33)
    x = rng.normal(size=(30, 3))
    initial = np.array([7.0, 1.0, -2.0, 3.0])
    y = x @ initial[1:] + 100 + rng.normal(size=30)
    near = learned(BayesianRegression(initial), x, y, [slice(0, 30)])
    far = learned(RecursiveLeastSquares(initial), x, y, [slice(0, 30)])
    assert np.linalg.norm(near.weights[1:] - initial[1:]) < 0.5 * np.linalg.norm(far.weights[1:] - initial[1:])
    np.testing.assert_allclose(near.predict(x).mean(), y.mean(), rtol=1e-12)


@given(data=st.data(), regression=unscaled(), half_life=st.sampled_from([None, 200.0]))
def test_bayes_gives_the_same_weights_however_the_rows_are_cut_into_partitions(
    data: st.DataObject, regression: tuple[Floats, Floats], half_life: float | None
) -> None:
    x, y = regression
    learner, d = BayesianRegression(np.zeros(x.shape[1] + 1), half_life), x.shape[1]
    whole = learned(learner, x, y, [slice(0, len(y))])
    parts = [statistics(x[part], y[part]) for part in data.draw(cuts(len(y)))]
    split = learner.update(Model(np.zeros(d + 1)), Statistics.total(parts, d))
    np.testing.assert_allclose(split.predict(x), whole.predict(x), rtol=1e-6, atol=1e-6 * (np.abs(y).max() or 1))


def mllib(x: Floats, y: Floats, start: Floats, step: float, iterations: int, tolerance: float) -> Floats:
    """GradientDescent.runMiniBatchSGD row by row, translated from Scala; tests/integration compares with MLlib."""
    weights = start
    previous: Floats | None = None
    for i in range(1, iterations + 1):
        gradient = sum(((row @ weights - label) * row for row, label in zip(x, y, strict=True)), np.zeros(x.shape[1]))
        weights = weights - step / np.sqrt(i) * gradient / len(y)
        if previous is not None and np.linalg.norm(weights - previous) < tolerance * max(
            float(np.linalg.norm(weights)), 1.0
        ):
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


@pytest.mark.parametrize("size", [10.0, 25.0])
def test_sgd_says_so_when_its_weights_are_worse_than_none_though_they_are_finite(size: float) -> None:
    rng = np.random.default_rng(1)
    x = rng.normal(size=(1000, 2)) * [size, 1.0]
    batch = Statistics.empty(2).with_rows(x, x @ [2.0, 1.0])
    learner = GradientDescent(features=("large", "fitting"))
    after = learner.update(Model(np.zeros(3)), batch)
    assert abs(after.weights[1]) > 100
    (text,) = {*learner.doubts(after, batch).values()}
    assert re.match(
        r"sgd diverges: a micro-batch of 1000 rows multiplies an error of its weights by [1-9]\S*: lower", text
    )
    assert "scale large (root mean square" in text
    assert "fitting" not in text


def test_sgd_names_correlated_features_that_are_too_large_together() -> None:
    rng = np.random.default_rng(38)
    x = rng.normal(size=(1000, 1)) * 4 + rng.normal(size=(1000, 11)) * 0.1
    x[:, 10] = rng.normal(size=1000)
    y = x @ np.array([1.0, -1.0] * 5 + [1.0])
    learner = GradientDescent(features=(*"abcdefghij", "fine"))
    after = learned(learner, x, y, [slice(0, 1000)] * 3)
    batch = statistics(x, y)
    (text,) = {*learner.doubts(after, batch).values()}
    assert " j (root mean square " in text
    assert "fine" not in text


@pytest.mark.parametrize(
    ("learner", "rows", "offset"),
    [
        pytest.param(GradientDescent(step_size=0.001), 500, 0.0, id="slow"),
        pytest.param(GradientDescent(), 5, None, id="labels are noise"),
        pytest.param(GradientDescent(), 1, 0.0, id="one row"),
        pytest.param(GradientDescent(), 500, 1e6, id="large labels, without an intercept"),
    ],
)
def test_sgd_does_not_say_that_it_diverges_where_it_does_not(
    learner: GradientDescent, rows: int, offset: float | None
) -> None:
    rng = np.random.default_rng(39)
    x = rng.normal(size=(500, 2))
    y = rng.normal(size=500) if offset is None else x @ [1.0, 0.5] + offset + rng.normal(size=500) * 0.1
    model = Model(np.array([0.0, 10.0, 10.0]))
    for start in range(0, 500, rows):
        batch = statistics(x[start : start + rows], y[start : start + rows])
        model = learner.update(model, batch)
        assert learner.doubts(model, batch) == {}


def test_sgd_names_the_features_whose_size_does_not_fit() -> None:
    rng = np.random.default_rng(17)
    x = rng.normal(size=(50, 3)) * [1e4, 1.0, 1e-3] + [0, 0, 1e-3]
    y = x[:, 1]
    learner = GradientDescent(features=("large", "fine", "small"))
    with pytest.raises(DivergedError, match=r"scale large \(root mean square 9.82e\+03\) to about 1, or use"):
        learner.update(Model(np.zeros(4)), statistics(x, y))
    slow = replace(learner, step_size=1e-9)
    found = slow.doubts(slow.update(Model(np.zeros(4)), statistics(x, y)), statistics(x, y))
    assert found.keys() == {1, 2}
    assert "hardly moves the weights of fine (root mean square" in found[1]
    assert learner.doubts(Model(np.zeros(4)), statistics(x, y)).keys() == {2}
    assert learner.doubts(Model(np.zeros(4)), Statistics.empty(3)) == {}


def test_sgd_sees_the_columns_without_the_shift() -> None:
    """MLlib has no shift: its gradient is that of the raw columns."""
    rng = np.random.default_rng(18)
    x = rng.normal(size=(3000, 2)) * 1e-3 + [1.0, -0.5]
    y = x @ [1.0, 2.0] + 7
    assert statistics(x, y).shift.all()
    rows = np.column_stack([np.ones(3000), x, y])
    np.testing.assert_allclose(statistics(x, y).gram, rows.T @ rows, rtol=1e-12)
    want = mllib(x, y, np.zeros(2), 0.1, 50, 0.001)
    np.testing.assert_allclose(learned(GradientDescent(), x, y, [slice(0, 3000)]).weights[1:], want, rtol=1e-9)


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
    for centre in (None, np.full(3, -LIMIT)):
        pred = Model(np.full(4, LIMIT), centre=centre, level=LIMIT).predict(x)
        assert np.isfinite(1e20 * np.square(pred + LIMIT)).all()
