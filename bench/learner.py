"""Measures how long one model update takes, and how good the model is.

Time: one update per micro-batch of n rows with d features, each time of a new model, so that gradient descent does all
its steps. On Spark, MLlib's StreamingLinearRegressionWithSGD reads an RDD of labelled points that is cached in the JVM.
Ours reads the same rows in one job. They are cached as blocks of numbers, the form that they have in the app after
decoding. Without Spark, in one process and one thread, ours (the part that the app adds to its pass over the records)
is compared with other libraries. Their models and their input (dicts, frames, text) are made before the clock starts.
Libraries that take a single row at a time are timed on fewer rows, where their time per row is the same.

Quality: mean squared error on test rows after n rows, in micro-batches of 1,000. The data are the flights in their
order, and synthetic rows whose weights change half way. Each library gets the settings that its documentation
recommends: scaled features if it needs them, and a learning rate chosen from a grid. Ours has its defaults or a half-
life that is chosen in the same way. The chosen setting has the smallest prequential error on 10,000 rows: the first
flights, or other drifting rows with a drift of their own.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pyspark.mllib.common import _py2java, _to_java_object_rdd
from pyspark.mllib.linalg import Vectors
from pyspark.mllib.regression import LabeledPoint
from pyspark.sql import SparkSession
from river import linear_model, optim
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import StandardScaler
from threadpoolctl import threadpool_limits

from bench import measurements
from bench.candidates import BLOCK, Candidate, Maker, dicts_with_1, makers, ours, river, sklearn, vw
from bench.harness import whole_flights
from bench.measurements import shown, spread
from embedded.testing.records import FLIGHT_FIELDS, table
from embedded.testing.reference import lstsq
from streaming_regression.learners import Floats, Learner, Model, Statistics
from streaming_regression.learners.rls import RecursiveLeastSquares
from streaming_regression.learners.sgd import GradientDescent

with suppress(ImportError):  # some machines have no wheel
    pass

BUDGET_S, LEAST, MOST = 0.8, 3, 7  # 3 to 7 measurements of a number, as many as take BUDGET_S;
ENOUGH_S = 20.0  # fewer than 3 if they take ENOUGH_S
HEAD = 10_000  # rows on which settings are chosen
SIZES = {
    "full": ([1_000, 10_000, 100_000, 1_000_000], [3, 10, 30], 100_000),
    "quick": ([100_000], [3], 10_000),
    "tiny": ([1_000, 20_000], [3], 2_000),
}


def rows(block: int, count: int, features: int) -> tuple[Floats, Floats]:
    """Return `count` synthetic rows with standard normal features and noise; the same `block` gives the same rows."""
    rng = np.random.default_rng([7, block, features])
    x = rng.normal(size=(count, features))
    return x, x @ np.arange(1.0, features + 1) / features + rng.normal(size=count)


def table_of(count: int, features: int) -> tuple[Floats, Floats]:
    """Return the first `count` synthetic rows of consecutive blocks as one table."""
    x, y = zip(*(rows(block, min(BLOCK, count), features) for block in range(-(-count // BLOCK))), strict=True)
    return np.concatenate(x), np.concatenate(y)


def timed(makers: dict[str, Callable[[], Callable[[], object]]]) -> dict[str, list[float]]:
    """Time the functions that the makers return, in turn: once to warm up, then until their time is over."""
    times: dict[str, list[float]] = {name: [] for name in makers}
    for number in range(MOST + 1):
        for name, make in makers.items():
            if sum(times[name]) < (ENOUGH_S if len(times[name]) < LEAST else BUDGET_S):
                call = make()
                start = time.perf_counter()
                call()
                if number:
                    times[name].append(time.perf_counter() - start)
    return times


def on_spark(spark: SparkSession, count: int, features: int) -> dict[str, list[float]]:
    """Return the times of MLlib and of our learners on Spark, after checking that the weights are equal."""
    cores = spark.sparkContext.defaultParallelism
    numbers = list(range(-(-count // BLOCK)))
    size = min(BLOCK, count)

    def points(block: int) -> Iterator[LabeledPoint]:
        x, y = rows(block, size, features)
        return (LabeledPoint(label, row) for row, label in zip(x, y.tolist(), strict=True))

    def frames(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            for block in batch["id"].to_pylist():
                x, y = rows(block, size, features)
                yield pa.RecordBatch.from_arrays([pa.array([x.tobytes()]), pa.array([y.tobytes()])], names=["x", "y"])

    def factors(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        total = Statistics.empty(features)
        for batch in batches:
            for x, y in zip(*(map(np.frombuffer, column.to_pylist()) for column in batch.columns), strict=True):
                total = total.with_rows(x.reshape(-1, features), y)
        lists = [pa.array([numbers.ravel().tolist()]) for numbers in (total.factor, total.shift)]
        yield pa.RecordBatch.from_arrays([pa.array([total.rows]), *lists], names=["rows", "factor", "shift"])

    python = spark.sparkContext.parallelize(numbers, min(cores, len(numbers))).flatMap(points)
    cached = _to_java_object_rdd(python).rdd().cache()
    frame = spark.range(0, len(numbers), 1, min(cores, len(numbers)))
    frame = frame.mapInArrow(frames, "x binary, y binary").persist()
    assert cached.count() == frame.count() * size == count

    jvm: Any = spark._jvm
    zeros = _py2java(spark.sparkContext, Vectors.dense([0.0] * features))

    def mllib() -> Any:  # noqa: ANN401 - a vector of the JVM's
        learner = jvm.org.apache.spark.mllib.regression.StreamingLinearRegressionWithSGD()
        return learner.algorithm().run(cached, zeros).weights()

    def in_one_job(learner: Learner) -> Model:
        found = frame.mapInArrow(factors, "rows long, factor array<double>, shift array<double>").collect()
        parts = [
            Statistics(part.rows, np.array(part.factor).reshape(features + 2, -1), np.array(part.shift))
            for part in found
        ]
        return learner.update(Model(np.zeros(features + 1)), Statistics.total(parts, features))

    want = mllib().toArray()
    np.testing.assert_allclose(in_one_job(GradientDescent()).weights[1:], want, rtol=1e-9, atol=1e-12)
    rls = RecursiveLeastSquares(np.zeros(features + 1))
    x, y = table_of(count, features)
    exact = LinearRegression().fit(x, y)
    found = in_one_job(rls)
    np.testing.assert_allclose(found.weights, [exact.intercept_, *exact.coef_], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(found.weights, lstsq(np.column_stack([x, y])), rtol=1e-9, atol=1e-12)
    calls: dict[str, Callable[[], object]] = {
        "MLlib": mllib,
        "ours on Spark, sgd": partial(in_one_job, GradientDescent()),
        "ours on Spark, rls": partial(in_one_job, rls),
    }
    times = timed({name: partial(lambda found: found, call) for name, call in calls.items()})
    cached.unpersist(True)
    frame.unpersist(blocking=True)
    return times


def in_process(count: int, features: int) -> dict[str, tuple[list[float], int]]:
    """Return the times of each learner, and the number of rows that were timed."""
    x, y = table_of(count, features)
    candidates = makers(features)
    sizes = {name: min(count, limit) for name, (_, limit) in candidates.items()}
    prepared = {name: make().prepare(x[: sizes[name]], y[: sizes[name]]) for name, (make, _) in candidates.items()}

    def fresh(name: str) -> Callable[[], object]:
        make, _ = candidates[name]
        return partial(make().learn, prepared[name])

    makers_of: dict[str, Callable[[], Callable[[], object]]] = {name: partial(fresh, name) for name in candidates}
    with threadpool_limits(1):  # like Spark's workers
        times = timed(makers_of)
    return {name: (times[name], sizes[name]) for name in candidates}


def tuned(grid: dict[str, Maker], x: Floats, y: Floats) -> str:
    """Return the setting with the smallest prequential error over micro-batches of these rows."""

    def error(make: Maker) -> float:
        entry, total = make(), 0.0
        for start in range(0, len(y), 1000):
            part = slice(start, start + 1000)
            if start:
                total += float(np.square(entry.predict(x[part]) - y[part]).sum())
            entry.learn(entry.prepare(x[part], y[part]))
        return total if np.isfinite(total) else np.inf

    return min(grid, key=lambda setting: error(grid[setting]))


def unscaled(name: str) -> bool:
    """Whether a learner does not need features of about the same size."""
    return "rls" in name or "Bayesian" in name or "Wabbit" in name


def quality(data: str, limit: int) -> dict[str, Any]:
    """Return each learner's test MSE after n rows, and the chosen settings."""
    x, y, test, head, head_y = flights(limit) if data == "flights" else drifting(limit)
    d = x.shape[1]
    scaler = StandardScaler().fit(x[:1000])  # the same for all learners that need it
    rates = (0.001, 0.01, 0.1, 0.5)
    forgetful, bayes = "ours, rls with half-life", "River BayesianLinearRegression"

    def with_half_life(rows: int | None) -> Candidate:
        return ours(RecursiveLeastSquares(np.zeros(d + 1), half_life=rows), d)

    def with_rate(rate: float) -> Candidate:
        return river(linear_model.LinearRegression(optim.SGD(rate)))

    def with_smoothing(smoothing: float | None) -> Candidate:
        return river(linear_model.BayesianLinearRegression(smoothing=smoothing), dicts_with_1)

    grids: dict[str, dict[str, Maker]] = {
        forgetful: {f"half-life {h}": partial(with_half_life, h) for h in (500, 1_000, 2_000, 5_000, 20_000, None)},
        "River LinearRegression": {f"SGD({r})": partial(with_rate, r) for r in rates},
        bayes: {f"smoothing={s}": partial(with_smoothing, s) for s in (None, 0.99, 0.999, 0.9999)},
        "scikit-learn SGDRegressor": {
            f"{rule}, eta0={r}, average={a}": partial(sklearn, r, a, rule)
            for rule in ("invscaling", "constant")
            for r in rates
            for a in (False, True)
        },
        "Vowpal Wabbit": {
            f"-l {r} --power_t {p}": partial(vw, learning_rate=r, power_t=p)
            for r in (0.5, 5, 50, 500)
            for p in (0.5, 0.0)
        },
    }
    learners = {name: make for name, (make, _) in makers(d).items() if "learn_many" not in name}
    learners |= {
        forgetful: grids[forgetful]["half-life None"],
        "ours, sgd": lambda: ours(GradientDescent(intercept=True), d),
        "MLlib (= sgd without intercept)": lambda: ours(GradientDescent(), d),
    }
    chosen = {}
    for name in learners.keys() & grids.keys():
        chosen[name] = tuned(grids[name], head if unscaled(name) else scaler.transform(head), head_y)
        learners[name] = grids[name][chosen[name]]
    half = limit // 2
    marks = [n for n in (1_000, 10_000, half, half + 1_000, half + 10_000, len(y)) if n <= len(y)]
    found: dict[str, dict[int, float | str]] = {}
    for name, make in learners.items():
        entry, errors = make(), dict[int, float | str]()
        scale = np.asarray if unscaled(name) else scaler.transform
        for start in range(0, len(y), 1000):
            end = min(start + 1000, len(y))
            entry.learn(entry.prepare(scale(x[start:end]), y[start:end]))
            if end in marks:
                test_x, test_y = test(end)
                error = float(np.square(entry.predict(scale(test_x)) - test_y).mean())
                errors[end] = error if np.isfinite(error) else "not finite"
        found[name] = errors
    return {"mse": found, "chosen": dict(sorted(chosen.items()))}


Test = Callable[[int], tuple[Floats, Floats]]  # returns the test rows after n rows
Data = tuple[Floats, Floats, Test, Floats, Floats]  # x and y to learn, test rows, x and y to choose settings


def flights(limit: int) -> Data:
    """Flights in the file's order; every fifth flight is for the test."""
    known = table(whole_flights(limit), FLIGHT_FIELDS)
    held = np.arange(len(known)) % 5 == 4
    test, rows = known[held][::10], known[~held]
    return rows[:, :-1], rows[:, -1], lambda _: (test[:, :-1], test[:, -1]), rows[:HEAD, :-1], rows[:HEAD, -1]


def drifting(limit: int) -> Data:
    """Rows whose weights change half way; the test rows have the weights of the moment."""
    rng = np.random.default_rng(5)

    def drawn(count: int, after: npt.NDArray[np.bool_] | bool) -> tuple[Floats, Floats]:
        x = rng.normal(size=(count, 3))
        w = np.where(np.reshape(after, (-1, 1)), [-1.0, 3.0, 0.5], [2.0, -1.0, 0.5])
        return x, (x * w).sum(axis=1) + 4 + rng.normal(size=count)

    x, y = drawn(limit, np.arange(limit) >= limit // 2)
    tests = [drawn(5_000, False), drawn(5_000, True)]
    return x, y, lambda n: tests[n > limit // 2], *drawn(HEAD, np.arange(HEAD) >= HEAD // 2)


def main() -> None:
    with measurements.results("learner", __doc__) as (given, _, results):
        counts, dimensions, limit = SIZES[given]
        config = {"driver.memory": "4g", "ui.enabled": "false", "ui.showConsoleProgress": "false"}
        config["python.daemon.module"] = "streaming_regression.spark.daemon"  # as in the app
        builder = SparkSession.builder.master("local[*]")
        spark = builder.config(map={f"spark.{key}": value for key, value in config.items()}).getOrCreate()
        spark.sparkContext.setLogLevel("ERROR")
        results["times"] = []
        for d, count in [(d, count) for d in dimensions for count in counts]:
            both = {name: (times, count) for name, times in on_spark(spark, count, d).items()}
            for name, (times, timed_rows) in (both | in_process(count, d)).items():
                found = spread(seconds * count / timed_rows for seconds in times)
                about = {"learner": name, "rows": count, "features": d, "rows timed": timed_rows}
                results["times"].append({**about, "seconds": found})
                print(f"{count:>9,} rows, {d:>2} features: {name:<36} {shown(found)} s", flush=True)
        spark.stop()
        results["quality"] = {data: quality(data, limit) for data in ("flights", "drift")}


if __name__ == "__main__":
    main()
