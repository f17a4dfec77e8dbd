"""The test for drift: it finds errors that have grown, and nothing else, whatever their distribution."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, replace

import numpy as np
import pytest

from embedded.testing.records import FLIGHT_FIELDS, flights, table
from streaming_regression import drift
from streaming_regression.documents import PartitionMetrics
from streaming_regression.drift import Baseline, DriftDetector, Labels, Scores, scores
from streaming_regression.health import Health
from streaming_regression.learners import Floats, Model, Statistics
from streaming_regression.learners.rls import RecursiveLeastSquares

Draw = Callable[[np.random.Generator, int], Floats]
DEFAULT = 1.5
ERRORS: dict[str, Draw] = {
    "normal": lambda rng, n: rng.normal(size=n),
    "no variance": lambda rng, n: rng.standard_t(1.5, n),
    "no mean": lambda rng, n: rng.standard_cauchy(n),
    "no mean of the root": lambda rng, n: rng.standard_t(0.5, n),
    "skewed": lambda rng, n: np.exp(2 * rng.normal(size=n)),
    "one of 1,000 is 1e30": lambda rng, n: rng.normal(size=n) * np.where(rng.random(n) < 1e-3, 1e30, 1),
    "19 of 20 are 0": lambda rng, n: rng.normal(size=n) * (rng.random(n) < 0.05),
    "whole numbers": lambda rng, n: np.round(rng.normal(size=n)),
}


def sizes(rows: int, most: int) -> Iterator[int]:
    """Sizes of micro-batches like those of the app: 500 first, then as many as all before."""
    done = 0
    while done < rows:
        size = min(max(500, done), most, rows - done)
        done += size
        yield size


def alarms(batches: Iterator[Floats] | Sequence[Floats], growth: float = DEFAULT) -> list[int]:
    """The numbers of rows after which the detector finds drift; the labels are about 1."""
    detector, baseline, rows, found = DriftDetector(growth), None, 0, []
    for errors in batches:
        rows += len(errors)
        labels = Labels(len(errors), float(np.abs(errors).sum()), 0.0, float(len(errors)))
        scored = scores(errors, baseline.scale, growth) if baseline else Scores()
        baseline, drifted = detector.after(baseline, scored, labels)
        if drifted:
            found.append(rows)
    return found


@pytest.mark.parametrize("most", [2_000, 200_000])
@pytest.mark.parametrize("name", ERRORS)
def test_ten_million_rows_without_drift_give_no_false_alarm(name: str, most: int) -> None:
    """Each case has 625,000 rows, 10 million together; the limit allows about one false alarm in exp(25) rows."""
    rng = np.random.default_rng(len(name))
    assert alarms(ERRORS[name](rng, size) for size in sizes(625_000, most)) == []


@pytest.mark.parametrize("share", [0.1, 0.02, 0.001])
def test_rare_labels_in_the_smallest_micro_batches_give_no_false_alarm(share: float) -> None:
    """The label is 1 in few records, else 0. Three of them close together are chance, although scores vary little."""
    rng = np.random.default_rng(7)
    batches: list[Floats] = [(rng.random(size) < share) - share for size in rng.integers(1, 6, 20_000)]
    assert alarms(batches) == []


def test_false_alarms_are_as_rare_as_the_evidence_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """With less evidence there are some, and fewer than the bound: a test without any could have a broken statistic."""
    monkeypatch.setattr(drift, "EVIDENCE", 4.0)
    monkeypatch.setattr(drift, "FEW", 0.0)
    monkeypatch.setattr(drift, "UNCERTAINTY", 0.0)
    rng = np.random.default_rng(1)
    found = alarms(rng.normal(size=50) for _ in range(5_000))
    shift, variance = 0.06, 0.09  # of scores of normal errors with growth 1.5
    assert 1 <= len(found) <= 250_000 * np.exp(-4.0) * 2 * shift**2 / variance


@pytest.mark.parametrize(
    ("growth", "true", "within"),
    [(1.25, 1.5, 2_000), (1.5, 2, 2_000), (1.5, 3, 1_000), (2.0, 3, 1_000)],
)
@pytest.mark.parametrize("name", ["normal", "no variance", "no mean", "one of 1,000 is 1e30"])
def test_drift_is_found_within_rows(name: str, growth: float, true: float, within: int) -> None:
    """After 100,000 rows, in micro-batches of at most 200 rows: no alarm before the drift, one soon after it."""
    rng, k = np.random.default_rng(2), 100_000
    rows = ERRORS[name](rng, k + within)
    rows[k:] *= true
    found = alarms(np.array_split(rows, len(rows) // 200), growth)
    assert found, f"not within {within} rows"
    assert found[0] > k


@pytest.mark.parametrize("name", ["normal", "no mean"])
def test_drift_is_found_in_its_first_large_micro_batch(name: str) -> None:
    rng = np.random.default_rng(3)
    batches = [ERRORS[name](rng, size) for size in sizes(2_000_000, 200_000)]
    assert alarms([*batches, 2 * ERRORS[name](rng, 200_000)]) == [2_200_000]


@pytest.mark.parametrize("batches", [3, 20, 200])
def test_a_model_that_learns_gives_no_alarm_and_is_compared_with_its_best(batches: int) -> None:
    """The error falls by a factor of 1,000 over some micro-batches, and 50 micro-batches later it doubles."""
    rng = np.random.default_rng(4)
    learning = [rng.normal(size=500) * size for size in np.append(np.geomspace(1000, 1, batches), np.ones(50))]
    assert alarms(learning) == []
    drifted = [rng.normal(size=500) * 2 for _ in range(4)]
    (found,) = alarms([*learning, *drifted])
    assert found > len(np.concatenate(learning))


def test_one_day_of_other_errors_is_no_drift_where_every_day_is_other() -> None:
    """The errors of a day of 1,000 rows are alike: they grow and shrink by up to a half from day to day."""
    rng = np.random.default_rng(5)
    days = [rng.normal(size=1000) * np.exp(0.3 * rng.normal()) for _ in range(1000)]
    for size in (250, 1000, 20_000):
        assert alarms(np.array_split(np.concatenate(days), 1_000_000 // size)) == []


def test_noise_after_predictions_that_were_exact_is_drift() -> None:
    rng = np.random.default_rng(6)
    exact = [np.zeros(500), *(rng.normal(size=500) * 1e-15 for _ in range(20))]
    assert alarms(exact) == []
    assert alarms([*exact, rng.normal(size=500) * 1e-3]) == [11_000]


def test_predictions_that_stay_exact_give_no_alarm_whatever_their_rounding() -> None:
    rng = np.random.default_rng(7)
    assert alarms(rng.normal(size=500) * 10.0 ** rng.uniform(-17, -11) for _ in range(100)) == []


def test_labels_and_errors_that_are_exactly_0_leave_a_test_that_works() -> None:
    """An initial model is wrong at first. Then labels are 0 and predictions exact, and rounding has no size."""
    rng, health = np.random.default_rng(11), Health()
    alarmed: list[int] = []
    for number in range(400):
        errors: Floats = np.zeros(300) if number else np.ones(300)
        if number >= 300:
            errors = rng.normal(size=300) * (1 if number < 350 else 5)
        y = 0.0 if number < 300 else 1.0
        numbers = [replace(part, sum_y=300 * y, sum_y_squared=300 * y) for part in partitions(errors, "t")]
        scored = {"t": scores(errors, health.scales["t"], DEFAULT)} if health.scales else {}
        health, drifted = health.after(number, numbers, scored, DEFAULT)
        alarmed += [number] * len(drifted)
    assert alarmed == [300, 350]


def prequential_flights() -> tuple[Floats, Floats, Floats]:
    """The features, the labels and the errors of `rls` in micro-batches of 4,500, for the flights of the year."""
    rows = table(flights(400_000), FLIGHT_FIELDS)
    x, y = rows[:, :-1], rows[:, -1]
    return x, y, learned_errors(x, y)


def learned_errors(x: Floats, y: Floats) -> Floats:
    learner, model, errors, start = RecursiveLeastSquares(np.zeros(4)), Model(np.zeros(4)), [], 0
    for size in sizes(len(y), 4_500):
        part = slice(start, start + size)
        errors.append(y[part] - model.predict(x[part]))
        model = learner.update(model, Statistics.empty(3).with_rows(x[part], y[part]))
        start += size
    return np.concatenate(errors)


def test_a_year_of_flights_has_no_drift_until_their_delays_change() -> None:
    """Errors differ from day to day and are larger in summer. From one day on, all flights arrive 30 minutes later."""
    x, y, errors = prequential_flights()
    starts = np.cumsum(list(sizes(len(y), 4_500)))[:-1]
    for growth in (1.25, DEFAULT, 2.0):
        assert alarms(np.split(errors, starts), growth) == []
    k = 250_000
    later = learned_errors(x, y + np.where(np.arange(len(y)) < k, 0, 30))
    found = alarms(np.split(later, starts))
    assert k < found[0] <= k + 10_000


def partitions(errors: Floats, topic: str) -> list[PartitionMetrics]:
    size, square, absolute = len(errors), float(errors @ errors), float(np.abs(errors).sum())
    return [PartitionMetrics(topic, 0, 0, size - 1, size, size, 0, square, absolute, 0.0, 1.0 * size)]


def test_a_restart_between_any_two_micro_batches_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """The state is written as JSON and read again; the results are equal to the last bit, also for drift."""
    rng = np.random.default_rng(8)
    batches = [rng.normal(size=300) * (1 if number < 30 else 5) for number in range(40)]
    whole, restarted, seen = Health(), Health(), []
    for number, errors in enumerate(batches):
        states = []
        for health in (whole, Health.from_json(json.loads(json.dumps(restarted.to_json())))):
            scored = {"t": scores(errors, health.scales["t"], DEFAULT)} if health.scales else {}
            states.append(health.after(number, partitions(errors, "t"), scored, DEFAULT))
        assert states[0] == states[1]
        (whole, drifted), (restarted, _) = states
        seen += [number] * len(drifted)
    assert seen == [30]
    assert whole.totals["t"].drifts == 1
    assert whole.totals["t"].rows == 12_000
    text = caplog.messages[0]
    assert text.startswith("batch 30: drift in topic t: a typical error of its predictions was about 0.")
    assert "see docs/health.md" in text


def test_another_growth_begins_anew_and_none_keeps_only_totals() -> None:
    rng = np.random.default_rng(9)
    health = Health()
    for growth, want in ((1.5, True), (1.5, True), (2.0, True), (0, False)):
        errors = rng.normal(size=300)
        scored = {"t": scores(errors, health.scales["t"], growth)} if health.scales and growth else {}
        health, drifted = health.after(0, partitions(errors, "t"), scored, growth)
        assert not drifted
        assert bool(health.baselines) == want
        if growth == 2.0:
            assert health.baselines["t"].seen == Scores()
    assert health.totals["t"].rows == 1200


def test_topics_have_baselines_of_their_own_and_one_without_labels_has_none() -> None:
    rng = np.random.default_rng(10)
    none = PartitionMetrics("test", 0, 0, 99, 100, 0, 3, 0.0, 0.0, 0.0, 0.0)
    health, _ = Health().after(0, [*partitions(rng.normal(size=300), "train"), none], {}, DEFAULT)
    assert health.baselines.keys() == {"train"}
    assert (health.totals["test"].rows, health.totals["test"].invalid) == (100, 3)


def test_scores_add_up_and_no_error_is_too_large() -> None:
    errors = np.array([0.0, 1.0, -2.0, 1e200, -1e-200])
    found = scores(errors, 2.0, 1.5)
    want = (5, 0.2 + 0.5 + 1, 0.2**2 + 0.5**2 + 1, 0.36 + 2.25 / 3.25 + 1)
    assert astuple(found) == pytest.approx(want)
    assert astuple(scores(errors[:2], 2.0, 1.5) + scores(errors[2:], 2.0, 1.5)) == pytest.approx(want)


def test_a_typical_error_has_the_size_of_the_errors() -> None:
    found = scores(np.array([3.0, -3.0]), 40.0, 1.5)
    assert Baseline(40.0, 1.5, found).typical == pytest.approx(3.0)
