"""Fields with categories, and more than a thousand features, from Kafka to Elasticsearch and the dashboards."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from elasticsearch import Elasticsearch as Client

from dashboards.page import Choice, Page
from dashboards.panels import SHOWN, Names
from embedded.testing.records import Value
from embedded.testing.reference import lstsq
from embedded.testing.stream import Stream

FEATURES = ("delay", "carrier[UA|AA|7]", "plane.origin[E|J]")
COLUMNS = ("delay", "carrier=UA", "carrier=AA", "carrier=7", "plane.origin=E", "plane.origin=J")
CARRIERS, ORIGINS = ("UA", "AA", "7"), ("E", "J")
UNKNOWN = "DL"


def flight(delay: float, carrier: object, origin: object, y: float | None) -> bytes:
    record: dict[str, Any] = {"delay": delay, "carrier": carrier, "plane": {"origin": origin}, "y": y}
    return json.dumps(record).encode()


def rows(count: int, seed: int, *, unknown: bool = False) -> tuple[list[Value], np.ndarray[Any, Any]]:
    """Records, and their columns, shape (n, 7), the label last."""
    rng = np.random.default_rng(seed)
    carriers = rng.choice(4, size=count, p=[0.5, 0.3, 0.15, 0.05] if unknown else [0.5, 0.3, 0.2, 0])
    origins = rng.integers(0, 2, size=count)
    delay = rng.normal(size=count)
    hot = np.column_stack([carriers[:, None] == range(3), origins[:, None] == range(2)])
    table = np.column_stack([delay, hot, np.zeros(count)])
    table[:, -1] = table @ [2, 10, -5, 1, 0, 3, 0] + rng.normal(size=count)
    texts: tuple[object, ...] = ("UA", "AA", 7, UNKNOWN)  # JSON may hold a category as a number
    values: list[Value] = [
        flight(row[0], texts[carrier], ORIGINS[origin], row[-1])
        for row, carrier, origin in zip(table.tolist(), carriers, origins, strict=True)
    ]
    return values, table


def weights(stream: Stream) -> np.ndarray[Any, Any]:
    model = stream.last_model()
    assert (*model["weights"],) == COLUMNS
    return np.array([model["intercept"], *model["weights"].values()])


def test_categories_are_learned_stored_and_shown_and_an_unknown_one_is_invalid(stream: Stream) -> None:
    stream.features, stream.label, stream.partitions = FEATURES, "y", 1
    stream.create_topics()
    values, table = rows(2000, 1)
    more, test = rows(500, 2)
    stream.produce(train=[*values, flight(1, UNKNOWN, "E", 1), flight(1, None, "E", 1)], test=more)
    done = stream.run("--max-offsets-per-trigger", "1000")
    assert done.returncode == 0, done.stderr
    assert "WARNING" not in done.stderr, "all columns of a field add up to 1, which is no fault"
    kept = {(document["offset"], document["field"], document["reason"]) for document in stream.documents("invalid")}
    assert kept == {(2000, "carrier", "not one of the declared categories"), (2001, "carrier", "null")}
    points = {(point["topic"], point["offset"]): point for point in stream.documents("points")}
    assert len(points) == 2500
    for topic, produced in ((stream.train, values), (stream.test, more)):
        for offset, value in enumerate(produced):
            record = json.loads(value or b"")
            assert points[topic, offset]["x"] == {
                "delay": record["delay"],
                "carrier": str(record["carrier"]),
                "plane.origin": record["plane"]["origin"],
            }

    found = weights(stream)
    reference = lstsq(np.delete(table, [1, 4], axis=1))  # the first category of each field is left out
    want = reference[0] + np.delete(test, [1, 4, 6], axis=1) @ reference[1:]
    np.testing.assert_allclose(found[0] + test[:, :-1] @ found[1:], want, rtol=1e-9, atol=1e-9)
    for columns in (slice(1, 4), slice(4, 6)):
        share = table[:, columns].mean(axis=0)
        assert abs(share * (1 - share) @ found[1:][columns]) < 1e-9, "a weight is the difference from an average record"

    names = Names(FEATURES, "y", stream.prefix, stream.train, stream.test)
    with Client(stream.search.url, request_timeout=60) as client:
        shown: dict[str, Any] = {
            field: Page(names, client).data(Choice.of({"feature": field}, names))["panels"] for field in names.fields
        }
    assert {row["x"] for row in shown["carrier"]["train-points"]} == {*CARRIERS}
    assert {row["x"] for row in shown["plane.origin"]["test-points"]} == {*ORIGINS}
    assert {row["series"] for row in shown["delay"]["model-weights"]} == {*COLUMNS}

    changed = stream.run("--features", "delay,carrier[UA|AA|7|DL],plane.origin[E|J]")
    assert changed.returncode == 4
    assert "holds a model with features delay,carrier[UA|AA|7],plane.origin[E|J], but --features is" in changed.stderr


@pytest.mark.slow
@pytest.mark.parametrize("learner", ["rls", "bayes", "sgd"])
def test_an_unknown_category_counts_as_none_with_every_learner_and_after_a_restart(
    stream: Stream, learner: str
) -> None:
    stream.features, stream.label = FEATURES, "y"
    stream.create_topics()
    values, table = rows(3000, 3, unknown=True)
    flags = ["--unknown-category", "zeros", "--learner", learner, "--max-offsets-per-trigger", "300"]
    flags += ["--initial-weights", "1,0,0,0,2,-2", *(["--sgd-step-size", "1"] if learner == "sgd" else [])]
    flags += ["--sgd-intercept"] if learner == "sgd" else []
    for part in (values[:1500], values[1500:]):
        stream.produce(train=part)
        done = stream.run(*flags)
        assert done.returncode == 0, done.stderr
    assert stream.documents("invalid") == []
    points = stream.documents("points")
    assert len(points) == 3000
    unknown = [point for point in points if point["x"]["carrier"] == UNKNOWN]
    assert len(unknown) == (table[:, 1:4].sum(axis=1) == 0).sum() > 0
    models = {model["batch"]: model for model in stream.documents("models")}
    for point in unknown:
        if point["batch"]:
            before = models[point["batch"] - 1]
            want = before["intercept"] + before["weights"]["delay"] * point["x"]["delay"]
            want += before["weights"][f"plane.origin={point['x']['plane.origin']}"]
            assert point["pred"] == pytest.approx(want, rel=1e-9, abs=1e-9)
    later = [point["squared_error"] for point in points if point["batch"] > 5]
    assert np.mean(later) < 1.2, "the noise has the variance 1"
    found = weights(stream)
    np.testing.assert_allclose([found[1], *(found[2:5] - found[2])], [2, 0, -15, -9], atol=0.5)
    if learner == "rls":  # the origin's columns add up to 1, and their initial weights differ by -4
        np.testing.assert_allclose(found[2:5], [10, -5, 1], atol=0.5)
        assert found[6] - found[5] == pytest.approx(3, abs=0.2)


@pytest.mark.slow
@pytest.mark.parametrize("columns", [1010, 1500])
def test_many_features_from_a_file_are_learned_stored_and_shown(stream: Stream, tmp_path: Path, columns: int) -> None:
    """Elasticsearch's own limit is 1,000 fields per index."""
    names = [f"sensor {number}.value" for number in range(columns - 2)]
    stream.features, stream.label, stream.partitions = (*names, "line[north|south]"), "y", 1
    file = tmp_path / "features.txt"
    file.write_text("\n".join(["# the machine's sensors", *stream.features]))
    rng = np.random.default_rng(4)
    x = rng.normal(size=(400, columns - 2)).round(3)
    north = rng.integers(0, 2, size=400)
    y = x[:, 0] - 2 * x[:, -1] + 5 * north
    values: list[Value] = [
        json.dumps({**dict(zip(names, row, strict=True)), "line": ["south", "north"][flag], "y": label}).encode()
        for row, flag, label in zip(x.tolist(), north.tolist(), y.tolist(), strict=True)
    ]
    stream.create_topics()
    for part in (values[:200], values[200:]):
        stream.produce(train=part, test=part[:20])
        done = stream.run("--features", f"@{file}", "--learner", "bayes")
        assert done.returncode == 0, done.stderr
    assert stream.documents("invalid") == []
    points = {(point["topic"], point["offset"]): point for point in stream.documents("points")}
    assert len(points) == 440
    assert [*points[stream.train, 0]["x"].values()] == [*x[0].tolist(), ["south", "north"][north[0]]]
    model = stream.last_model()
    assert (model["rows_seen"], len(model["weights"])) == (400, columns)
    largest = sorted(model["weights"], key=lambda name: -abs(float(model["weights"][name])))[:3]
    assert {*largest} == {"line=north", "line=south", names[-1]}

    shown = Names(tuple(stream.features), "y", stream.prefix, stream.train, stream.test)
    with Client(stream.search.url, request_timeout=60) as client:
        page = Page(shown, client)
        drawn = [page.data(Choice.of({"feature": field}, shown))["panels"] for field in (names[1000], "line")]
        assert [len(panels["train-points"]) for panels in drawn] == [400, 400]
        assert len({row["series"] for row in drawn[0]["model-weights"]}) == SHOWN
        (index,) = client.indices.get_settings(index=f"{stream.prefix}-points-*").values()
    assert int(index["settings"]["index"]["mapping"]["total_fields"]["limit"]) > columns
