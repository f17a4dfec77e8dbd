"""Learning and prediction on real servers, compared with independent references."""

from __future__ import annotations

import json
import os
import sys
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Producer
from elasticsearch import Elasticsearch as Client
from pyspark import RDD, SparkConf, SparkContext
from pyspark.mllib.regression import LabeledPoint, StreamingLinearRegressionWithSGD
from pyspark.streaming import DStream

from embedded.testing.records import Value, flights, synthetic, table
from embedded.testing.reference import lstsq
from embedded.testing.stream import Stream
from embedded.testing.waiting import wait_until
from streaming_regression.records import Fields
from streaming_regression.schema import templates
from tests.slow import slow_except

SYNTHETIC = ("x0", "x1", "x2")


def batches(stream: Stream) -> dict[int, list[Value]]:
    """The train records of each micro-batch, from the offsets in its metrics documents."""
    cut: dict[int, list[Value]] = defaultdict(list)
    for document in sorted(
        stream.documents("metrics"), key=lambda document: (document["batch"], document["partition"])
    ):
        if document["topic"] == stream.train:
            mine = stream.produced[stream.train][document["partition"] :: stream.partitions]
            cut[document["batch"]] += mine[document["first_offset"] : document["last_offset"] + 1]
    return cut


@pytest.mark.slow
def test_rls_equals_least_squares_over_all_flights_and_every_record_is_a_point_or_invalid(stream: Stream) -> None:
    values = flights(336_776)
    stream.create_topics()
    stream.produce(train=[value for i, value in enumerate(values) if i % 5], test=values[::5])
    done = stream.run("--max-offsets-per-trigger", "70000")
    assert done.returncode == 0, done.stderr
    want = stream.lstsq()
    assert np.linalg.norm(stream.weights() - want) <= 1e-9 * np.linalg.norm(want)
    invalid = stream.documents("invalid")
    assert {(document["field"], document["reason"]) for document in invalid} == {
        ("dep_delay", "null"),
        ("air_time", "null"),
    }
    assert stream.count("points") + len(invalid) == 336_776
    metrics = stream.documents("metrics")
    assert sum(document["rows"] for document in metrics) == 336_776
    assert sum(document["invalid"] for document in metrics) == len(invalid)
    assert stream.last_model()["rows_seen"] == len(
        table(stream.produced[stream.train], [*stream.features, stream.label])
    )


@pytest.mark.parametrize(("partitions", "rows"), slow_except([(5, 3000)], [(1, 700), (5, 3000), (24, 4000)]))
def test_rls_equals_least_squares_for_any_split_and_predictions_come_from_the_model_before(
    stream: Stream, partitions: int, rows: int
) -> None:
    """Prequential: each prediction is recomputed from the documented weights of the previous micro-batch."""
    stream.partitions, stream.features, stream.label = partitions, SYNTHETIC, "y"
    stream.create_topics()
    values = synthetic(12_000, seed=partitions)
    stream.produce(train=values[2000:], test=values[:2000])
    done = stream.run(
        "--max-offsets-per-trigger", str(rows), "--initial-weights", "0.5,0,1", "--initial-intercept", "3"
    )
    assert done.returncode == 0, done.stderr
    want = stream.lstsq()
    assert np.linalg.norm(stream.weights() - want) <= 1e-9 * np.linalg.norm(want)

    before = {0: np.array([3.0, 0.5, 0.0, 1.0])}
    for model in stream.documents("models"):
        before[model["batch"] + 1] = np.array([model["intercept"], *(model["weights"][name] for name in SYNTHETIC)])
    points = stream.documents("points")
    assert len(points) == 12_000
    assert len({point["batch"] for point in points}) == len(before) - 1 >= 12_000 // rows
    x = np.array([[point["x"][name] for name in SYNTHETIC] for point in points])
    weights = np.array([before[point["batch"]] for point in points])
    pred = np.array([point["pred"] for point in points])
    np.testing.assert_allclose(pred, (x * weights[:, 1:]).sum(axis=1) + weights[:, 0], rtol=1e-9, atol=1e-9)
    y = np.array([point["y"] for point in points])
    np.testing.assert_allclose([point["squared_error"] for point in points], (y - pred) ** 2, rtol=1e-12)
    metrics = stream.documents("metrics")
    assert sum(document["rows"] for document in metrics) == 12_000
    assert {
        (document["topic"], document["partition"], document["first_offset"]) for document in metrics
    } <= stream.places()


@pytest.mark.slow
def test_features_of_any_magnitude_are_learned_and_undetermined_ones_are_named_once(stream: Stream) -> None:
    """Epoch nanoseconds, an id, a copy in another unit and a single 3.4e38 beside a temperature, with a restart."""
    stream.features, stream.label = ("ns", "temp", "site", "kelvin", "noise"), "y"
    rng = np.random.default_rng(20)
    temp = np.round(rng.normal(15, 5, size=4000) * 1024) / 1024
    rows = [
        {
            "ns": 1_700_000_000_000_000_000 + i * 15_000_000,
            "temp": degrees,
            "site": 8.9e15,
            "kelvin": degrees + 273,
            "noise": a,
        }
        for i, (degrees, a) in enumerate(zip(temp.tolist(), rng.normal(size=4000).tolist(), strict=True))
    ]
    rows[100]["noise"] = 3.4e38
    label = 20 + 2 * temp + 15e-3 * np.arange(4000) + rng.normal(size=4000) * 0.1
    values = [json.dumps({**row, "y": y}).encode() for row, y in zip(rows, label.tolist(), strict=True)]
    stream.create_topics()
    logs = ""
    for part in (values[:2000], values[2000:]):
        stream.produce(train=part)
        done = stream.run("--max-offsets-per-trigger", "500")
        assert done.returncode == 0, done.stderr
        logs += done.stderr
    weights = dict(zip(stream.features, stream.weights()[1:].tolist(), strict=True))
    assert weights.pop("ns") == pytest.approx(1e-9, rel=1e-2)
    want = {"temp": 1, "site": 0, "kelvin": 1, "noise": 0}
    assert weights == pytest.approx(want, abs=1e-2), "temp and kelvin share the temperature's weight, 2"
    later = [point["squared_error"] for point in stream.documents("points") if point["batch"] > 0]
    assert np.median(later) < 0.01
    assert max(point for point in later) < 1, "with the noise 0.1; predictions are those of the model before"
    warnings = [
        line.partition("features ")[2] or line.partition("feature ")[2]
        for line in logs.splitlines()
        if "WARNING" in line
    ]
    assert [text.split(" in the rows")[0] for text in warnings if text] == [
        "site is constant",
        "temp, kelvin depend linearly on one another",
    ]


@pytest.mark.slow
def test_points_can_be_searched_when_their_micro_batch_is_done(stream: Stream) -> None:
    """Even if Elasticsearch's own refresh is switched off."""
    stream.features, stream.label = SYNTHETIC, "y"
    stream.create_topics()
    stream.produce(train=synthetic(300, seed=8))
    name = f"{stream.prefix}-points"
    template = templates(stream.prefix, Fields(tuple(SYNTHETIC), "y"))[name]
    template["template"]["settings"]["refresh_interval"] = "-1"
    with Client(stream.search.url) as client:
        client.indices.put_index_template(name=f"{name}-never", **{**template, "priority": 600})
        with stream.app() as app:
            app.wait_for("batch 0: 300 rows")
            wait_until(lambda: "" if client.count(index=f"{name}-*")["count"] == 300 else "no points are found", 10)
            assert app.terminate(30) == 0, app.log
        settings = client.indices.get_settings(index=f"{name}-*", name="index.refresh_interval", flat_settings=True)
        assert [index["settings"] for index in settings.values()] == [{"index.refresh_interval": "-1"}]
        client.indices.delete_index_template(name=f"{name}-never")


@pytest.mark.slow
def test_with_a_half_life_it_follows_a_drift_and_recovers(stream: Stream) -> None:
    """Reference: least squares over all rows, each with the weight 0.5 ** (rows in later micro-batches / half-life)."""
    stream.features, stream.label = SYNTHETIC, "y"
    stream.create_topics()
    turned = [json.dumps({**record, "y": -record["y"]}).encode() for record in map(json.loads, synthetic(9000, seed=6))]
    stream.produce(train=[*synthetic(9000, seed=5), *turned])
    done = stream.run("--rls-half-life", "1000", "--max-offsets-per-trigger", "600")
    assert done.returncode == 0, done.stderr

    cut = [rows for _, rows in sorted(batches(stream).items())]
    later = np.cumsum([len(rows) for rows in cut[::-1]])[::-1] - [len(rows) for rows in cut]
    counts = np.repeat(0.5 ** (later / 1000), [len(rows) for rows in cut])
    want = lstsq(table([value for part in cut for value in part], [*SYNTHETIC, "y"]), counts=counts)
    assert np.linalg.norm(stream.weights() - want) <= 1e-9 * np.linalg.norm(want)
    np.testing.assert_allclose(stream.weights(), [0.5, -1, -2, -3], atol=0.1)

    errors: dict[int, Any] = defaultdict(lambda: np.zeros(2))
    for document in stream.documents("metrics"):
        errors[document["batch"]] += [document["sum_squared_error"], document["labelled"]]
    mse = np.array([total / labelled for _, (total, labelled) in sorted(errors.items())])
    assert np.all(mse[1:15] < 2), "before the drift the noise is left, whose variance is 1"
    assert mse[15] > 100
    assert np.all(mse[-3:] < 2), "it has recovered"


@pytest.mark.slow
def test_nothing_is_learned_from_a_transaction_that_was_aborted(stream: Stream) -> None:
    """Transaction markers have their own offsets, without a record."""
    stream.features, stream.label, stream.partitions = SYNTHETIC, "y", 1
    stream.create_topics()
    values = synthetic(90, seed=7)
    producer = Producer({"bootstrap.servers": stream.broker.bootstrap, "transactional.id": stream.name})
    producer.init_transactions()
    for start, end in (
        (0, producer.commit_transaction),
        (30, producer.abort_transaction),
        (60, producer.commit_transaction),
    ):
        producer.begin_transaction()
        for value in values[start : start + 30]:
            producer.produce(stream.train, value)
        producer.flush()
        end()
    done = stream.run("--max-offsets-per-trigger", "20")
    assert done.returncode == 0, done.stderr
    assert {point["offset"] for point in stream.documents("points")} == {*range(30), *range(62, 92)}
    assert stream.documents("invalid") == []
    stream.produced[stream.train] = [*values[:30], *values[60:]]
    want = stream.lstsq()
    assert np.linalg.norm(stream.weights() - want) <= 1e-9 * np.linalg.norm(want)


def test_metrics_documents_equal_the_sums_over_the_points(stream: Stream) -> None:
    stream.features, stream.label = SYNTHETIC, "y"
    stream.create_topics()
    values = synthetic(3000, seed=1)
    unlabelled = [json.dumps(dict.fromkeys(SYNTHETIC, 1)).encode()] * 100
    stream.produce(train=[*values[:2000], b"?"], test=[*values[2000:], *unlabelled, b"?", b"??"])
    done = stream.run("--max-offsets-per-trigger", "900")
    assert done.returncode == 0, done.stderr
    sums: dict[tuple[int, str, int], Any] = defaultdict(lambda: np.zeros(6))
    for point in stream.documents("points"):
        y, pred = point.get("y"), point["pred"]
        labelled = [] if y is None else [1, (y - pred) ** 2, abs(y - pred), y, y**2]
        sums[point["batch"], point["topic"], point["partition"]] += [1, *(labelled or [0] * 5)]
    metrics = stream.documents("metrics")
    names = ("labelled", "sum_squared_error", "sum_absolute_error", "sum_y", "sum_y_squared")
    assert sum(document["invalid"] for document in metrics) == 3
    assert sum(document["labelled"] for document in metrics) == 3000
    assert {document["_id"] for document in metrics} == {
        f"{batch}-{topic}-{partition}" for batch, topic, partition in sums
    }
    for document in metrics:
        found = [document["rows"] - document["invalid"], *(document[name] for name in names)]
        np.testing.assert_allclose(
            found, sums[document["batch"], document["topic"], document["partition"]], rtol=1e-9, atol=1e-9
        )
        assert document["last_offset"] - document["first_offset"] + 1 == document["rows"]


class Batches(DStream[LabeledPoint]):
    """Micro-batches without a pause between them, instead of one per interval of a StreamingContext."""

    def __init__(self, batches: Iterable[RDD[LabeledPoint]]) -> None:
        self._batches = batches

    def foreachRDD(self, func: Any) -> None:  # noqa: N802 - Spark's name
        for batch in self._batches:
            func(batch)


@pytest.fixture(scope="module")
def context() -> Iterator[SparkContext]:
    """A Spark context in this process, for MLlib."""
    os.environ["PYSPARK_PYTHON"] = sys.executable
    conf = SparkConf().setMaster("local[2]").set("spark.ui.enabled", "false").set("spark.log.level", "ERROR")
    with SparkContext(conf=conf) as context:
        yield context


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Deprecated in 2.0.0:FutureWarning")
def test_sgd_equals_mllib_on_the_same_batches(stream: Stream, context: SparkContext) -> None:
    """Reference: MLlib's StreamingLinearRegressionWithSGD, trained on the app's micro-batches."""
    stream.features, stream.label = SYNTHETIC, "y"
    stream.create_topics()
    stream.produce(train=synthetic(6000, seed=3))
    done = stream.run(
        *("--learner", "sgd", "--max-offsets-per-trigger", "1500", "--initial-weights", "1,1,1"),
        *("--sgd-step-size", "0.05", "--sgd-iterations", "20", "--sgd-convergence-tolerance", "0.01"),
    )
    assert done.returncode == 0, done.stderr

    learner = StreamingLinearRegressionWithSGD(stepSize=0.05, numIterations=20, convergenceTol=0.01)
    learner.setInitialWeights([1.0, 1.0, 1.0])
    cut = batches(stream)
    assert [len(cut[batch]) for batch in sorted(cut)] == [500, 500, 1000, 1500, 1500, 1000]
    learner.trainOn(
        Batches(
            context.parallelize([LabeledPoint(row[-1], row[:-1]) for row in table(cut[batch], [*SYNTHETIC, "y"])], 3)
            for batch in sorted(cut)
        )
    )
    model = learner.latestModel()
    assert model is not None
    want = model.weights.toArray()

    np.testing.assert_allclose(stream.weights()[1:], want, rtol=1e-9)
    assert stream.weights()[0] == 0


COUNTING = """
import json, sys
from pyspark.sql import SparkSession
from streaming_regression.__main__ import main
from streaming_regression.spark.query import Query

start = Query._start

def counted(self):
    query = start(self)
    query.awaitTermination()
    tracker = SparkSession.active().sparkContext.statusTracker()
    jobs = tracker.getJobIdsForGroup(str(query.runId))
    stages = [stage for job in jobs for stage in tracker.getJobInfo(job).stageIds]
    other = tracker.getJobIdsForGroup(None)
    print("jobs", json.dumps([len(jobs), len(stages), len(other)]), file=sys.stderr)
    return query

Query._start = counted
sys.exit(main())
"""


@pytest.mark.slow
def test_a_micro_batch_is_one_spark_job_of_one_stage(stream: Stream) -> None:
    stream.features, stream.label = SYNTHETIC, "y"
    stream.create_topics()
    stream.produce(train=synthetic(2000, seed=3), test=synthetic(1000, seed=4))
    flags = ("--available-now", "--max-offsets-per-trigger", "500")
    with stream.app(*flags, program=("-c", COUNTING)) as app:
        assert app.wait(180) == 0, app.log
    done = len({document["batch"] for document in stream.documents("metrics")})
    (counted,) = [line for line in app.log.splitlines() if line.startswith("jobs ")]
    assert done >= 6
    assert json.loads(counted.removeprefix("jobs ")) == [done, done, 1]  # the last is `warm_up`
