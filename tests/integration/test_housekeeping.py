"""The app deletes old model states and old indices, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from elasticsearch import Elasticsearch as Client
from py4j.java_gateway import JavaGateway
from pyspark.java_gateway import launch_gateway

from embedded.testing.records import synthetic
from embedded.testing.reference import lstsq
from embedded.testing.stream import Stream
from streaming_regression.drift import Baseline, Scores
from streaming_regression.errors import ConfigError
from streaming_regression.files import Files
from streaming_regression.health import Health, Totals
from streaming_regression.learners import Model, Statistics
from streaming_regression.learners.rls import RecursiveLeastSquares
from streaming_regression.records import Fields
from streaming_regression.state import Identity, State, StateStore

IDENTITY = Identity(Fields(("a", "b"), "y"), RecursiveLeastSquares(np.zeros(3)), ("train", "test"), ("id-1", "id-2"))


@pytest.fixture(scope="module")
def gateway() -> Iterator[JavaGateway]:
    """A JVM with Hadoop's classes, without Spark started."""
    gateway = launch_gateway()  # type: ignore[no-untyped-call]
    yield gateway
    gateway.shutdown()
    gateway.proc.stdin.close()
    gateway.proc.wait(30)


def store(gateway: JavaGateway, folder: Path) -> StateStore:
    hadoop = gateway.jvm.org.apache.hadoop.conf.Configuration()
    return StateStore(Files(gateway.jvm, hadoop, str(folder)), IDENTITY, keep=100)


def model(rows: int) -> Model:
    """A model as saved by `rls`, with a shift, a centre and a feature with a warning."""
    rng = np.random.default_rng(rows)
    memory = Statistics.empty(2).with_rows(rng.normal(size=(9, 2)) + 1.7e18, rng.normal(size=9))
    around = Model.around(memory.shift[:-1], rng.normal(), rng.normal(size=2), rows, memory)
    return replace(around, warned=frozenset([1]))


def state(rows: int) -> State:
    return State(model(rows), Health())


@pytest.mark.slow
def test_a_state_comes_back_to_the_last_bit(gateway: JavaGateway, tmp_path: Path) -> None:
    saved = model(7)
    seen = Scores(3, 0.1 + 0.2, 1 / 3, 0.7)
    baseline = Baseline(1 / 3, 1.5, seen, seen, seen, 2, 0.3, calibrated=True, rise=0.4)
    health = Health({"train": Totals(3, 2, 1, 0.1, 0.2, 4)}, {"train": baseline})
    store(gateway, tmp_path).save(0, State(saved, health))
    state = store(gateway, tmp_path).load(0)
    assert state is not None
    assert state.health == health
    loaded = state.model
    assert loaded.memory is not None
    assert saved.memory is not None
    np.testing.assert_array_equal(loaded.weights, saved.weights)
    np.testing.assert_array_equal(loaded.memory.factor, saved.memory.factor)
    np.testing.assert_array_equal(loaded.memory.shift, saved.memory.shift)
    np.testing.assert_array_equal(loaded.centre, saved.centre)
    assert (loaded.level, loaded.warned) == (saved.level, frozenset({1}))
    assert (loaded.rows_seen, loaded.memory.rows) == (7, 9)
    assert store(gateway, tmp_path).load(1) is None


@pytest.mark.parametrize("remembers", [True, False], ids=["rls", "sgd"])
def test_a_state_of_format_1_is_taken_over(gateway: JavaGateway, tmp_path: Path, remembers: bool) -> None:
    """Format 1 has statistics of the raw columns, that is, with a shift of 0."""
    rng = np.random.default_rng(4)
    x, y = rng.normal(size=(9, 2)) + np.array([1e3, 5]), rng.normal(size=9)
    factor = np.asarray(np.linalg.qr(np.column_stack([np.ones(9), x, y]), mode="r"))
    states = store(gateway, tmp_path)
    states.save(0, state(0))
    file = tmp_path / "model" / "0.json"
    content = json.loads(file.read_text())
    for key in ("centre", "level", "warned", "health"):
        del content[key]
    content |= {"format": 1, "weights": [3.0, 1.0, 2.0], "rows_seen": 9, "memory": None}
    if remembers:
        content["memory"] = {"rows": 9, "factor": factor.tolist()}
    file.write_text(json.dumps(content))

    found = states.load(0)
    assert found is not None
    assert found.health == Health()
    loaded = found.model
    assert (loaded.rows_seen, loaded.warned) == (9, frozenset())
    np.testing.assert_allclose(loaded.predict(np.array([[1.0, 1.0]])), [6.0])
    if remembers:
        more = Statistics.empty(2).with_rows(-x, y)
        after = RecursiveLeastSquares(np.zeros(3)).update(loaded, more)
        want = lstsq(np.column_stack([np.concatenate([x, -x]), np.concatenate([y, y])]))
        np.testing.assert_allclose(after.weights, want, rtol=1e-9, atol=1e-9)
        states.save(1, State(after, Health()))
        assert json.loads((tmp_path / "model" / "1.json").read_text())["format"] == 2


@pytest.mark.slow
def test_after_50_000_batches_the_model_folder_is_small(gateway: JavaGateway, tmp_path: Path) -> None:
    """The states are those of a program that never deleted any: a start deletes the old ones, and so does each save."""
    states = store(gateway, tmp_path)
    states.save(0, state(0))
    folder = tmp_path / "model"
    text = (folder / "0.json").read_text()
    for batch in range(50_000):
        (folder / f"{batch}.json").write_text(text)
    (folder / ".50000.json.tmp").write_text(text[: len(text) // 2])  # a crash while writing
    newest = states.prune()
    assert newest is not None
    assert sorted(int(path.stem) for path in folder.iterdir()) == list(range(49_900, 50_000))
    for batch in range(50_000, 50_250):
        states.save(batch, state(batch))
    assert sorted(int(path.stem) for path in folder.iterdir()) == list(range(50_150, 50_250))
    assert sum(path.stat().st_size for path in folder.iterdir()) < 200_000


def test_a_checkpoint_on_a_host_that_does_not_exist_is_refused_with_its_setting(gateway: JavaGateway) -> None:
    """Java raises an IllegalArgumentException, which PySpark converts into its own exception."""
    hadoop = gateway.jvm.org.apache.hadoop.conf.Configuration()
    with pytest.raises(ConfigError, match=r"--checkpoint / CHECKPOINT: hdfs://no-such-host.invalid:8020/x cannot"):
        Files(gateway.jvm, hadoop, "hdfs://no-such-host.invalid:8020/x")


@pytest.mark.slow
def test_indices_go_after_retention_days_and_no_others(stream: Stream) -> None:
    stream.features, stream.label = ("x0", "x1", "x2"), "y"
    stream.create_topics()
    stream.produce(train=synthetic(10, seed=0))
    today = datetime.now(timezone.utc)
    old = [f"{kind}-{today - timedelta(days=days):%Y.%m.%d}" for kind in ("points", "invalid") for days in (7, 400)]
    young = [f"points-{today - timedelta(days=days):%Y.%m.%d}" for days in (1, 2)]
    foreign = ["points-2020.01.01-kept", "other-2020.01.01", "x-points-2020.01.01"]
    with Client(stream.search.url) as client:
        for name in [*old, *young, *foreign]:
            client.indices.create(
                index=f"{stream.prefix}-{name}", mappings={"properties": {"run": {"type": "keyword"}}}
            )
        done = stream.run("--retention-days", "3")
        assert done.returncode == 0, done.stderr
        left = {name.removeprefix(f"{stream.prefix}-") for name in client.indices.get(index=f"{stream.prefix}-*")}
    days = {
        f"{kind}-{today + timedelta(days=day):%Y.%m.%d}"
        for kind in ("points", "metrics", "models", "invalid")
        for day in (0, 1)
    }
    assert left - days == {*young, *foreign}
    assert len(left & days) == 4, "the day's four indices, whether a document needs them or not"


def test_the_days_four_indices_are_there_before_the_first_record(stream: Stream) -> None:
    """Kibana reads fields from indices, not from templates: without indices its panels show errors until a reload."""
    stream.create_topics()
    done = stream.run()
    assert done.returncode == 0, done.stderr
    assert "batch" not in done.stderr
    with Client(stream.search.url) as client:
        found = client.indices.get(index=f"{stream.prefix}-*")
    kinds = {name.removeprefix(f"{stream.prefix}-").partition("-")[0] for name in found}
    assert kinds == {"points", "metrics", "models", "invalid"}
    points = next(index for name, index in found.items() if "-points-" in name)
    assert points["mappings"]["properties"]["topic"] == {"type": "keyword"}


def test_searches_find_documents_after_the_refresh_interval_only(stream: Stream) -> None:
    """By default the app asks for a refresh at the end of each micro-batch, whatever the index's own interval is."""
    stream.features, stream.label = ("x0", "x1", "x2"), "y"
    stream.create_topics()
    stream.produce(train=synthetic(10, seed=0))
    done = stream.run("--index-refresh-interval-s", "3600")
    assert done.returncode == 0, done.stderr
    with Client(stream.search.url) as client:
        assert client.count(index=f"{stream.prefix}-points-*")["count"] == 0
        client.indices.refresh(index=f"{stream.prefix}-points-*")
        assert client.count(index=f"{stream.prefix}-points-*")["count"] == 10
