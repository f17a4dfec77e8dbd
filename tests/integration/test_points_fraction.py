"""With `--points-fraction` only a share of the points is stored, but every record is counted."""

from __future__ import annotations

import json
from collections import Counter
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
import pytest
from elasticsearch import Elasticsearch as Client

from embedded.testing.reference import lstsq
from embedded.testing.stream import Stream
from streaming_regression.records import Fields
from streaming_regression.sampling import chosen
from streaming_regression.schema import mappings

FLAGS = ("--max-offsets-per-trigger", "4000", "--trigger-interval-s", "0")
REFUSED = 200.0
MANY, FEW = 0.2, 0.1
CRASHED = 3
"""The micro-batch whose points are written when the driver is killed."""


def make_indices_that_refuse(stream: Stream) -> None:
    """Create the day's index of points so that it copies a feature to a byte field, which cannot hold 200."""
    mapping = mappings(Fields(("a", "b"), "y"))["points"]
    mapping["properties"]["x"]["properties"] = {
        "a": {"type": "double", "copy_to": "narrow"},
        "b": {"type": "double"},
    }
    mapping["properties"]["narrow"] = {"type": "byte"}
    with Client(stream.search.url) as client:
        for days in (0, 1):  # the test may run at midnight
            day = datetime.now(timezone.utc) + timedelta(days=days)
            client.indices.create(index=f"{stream.prefix}-points-{day:%Y.%m.%d}", mappings=mapping)


def records(number: int) -> list[bytes]:
    """Every 97th record lacks a feature, and the point of every 50th is refused by those indices."""
    rng = np.random.default_rng(14)
    rows = rng.normal(size=(number, 2))
    rows[::50, 0] = REFUSED
    label = rows @ [3.0, 1.0] + 0.5 + rng.normal(size=number)
    return [
        json.dumps({"a": None if i % 97 == 5 else a, "b": b, "y": y}).encode()
        for i, ((a, b), y) in enumerate(zip(rows.tolist(), label.tolist(), strict=True))
    ]


@pytest.mark.slow
def test_stored_points_are_those_of_the_hash_and_all_records_count_also_over_a_crash_and_a_change(
    stream: Stream,
) -> None:
    """The app is killed after it has written the points of a micro-batch, and restarted with a smaller fraction.

    So the micro-batch is replayed with another sample, a subset of the first. Some of the records lack a feature
    (invalid), and Elasticsearch refuses the points of some others if they are in the sample.
    """
    stream.features, stream.label = ("a", "b"), "y"
    stream.create_topics()
    values = records(15_000)
    stream.produce(train=values[:12_000], test=values[12_000:])
    make_indices_that_refuse(stream)

    program = (str(Path(__file__).with_name("crashing.py")), f"all-points-written:{CRASHED + 1}")
    with stream.app(*FLAGS, "--points-fraction", str(MANY), program=program) as app:
        assert app.wait(120) == -9, app.log
    done = stream.run(*FLAGS, "--points-fraction", str(FEW))
    assert done.returncode == 0, done.stderr

    metrics = stream.documents("metrics")
    models = {model["batch"]: model for model in stream.documents("models")}
    assert sorted(models) == [*range(len(models))]
    assert len(models) > CRASHED + 2
    assert all(model["points_fraction"] == (MANY if number < CRASHED else FEW) for number, model in models.items())
    weights = {number + 1: [model["weights"]["a"], model["weights"]["b"]] for number, model in models.items()}
    intercepts = {number + 1: model["intercept"] for number, model in models.items()}
    weights[0], intercepts[0] = [0.0, 0.0], 0.0

    points: set[str] = set()
    invalid: set[str] = set()
    learned = []
    for document in metrics:
        batch, topic, partition = document["batch"], document["topic"], document["partition"]
        offsets = np.arange(document["first_offset"], document["last_offset"] + 1)
        mine = [json.loads(stream.produced[topic][offset * stream.partitions + partition] or b"") for offset in offsets]
        known = np.array([record["a"] is not None for record in mine])
        table = np.array([[record["a"] or 0, record["b"], record["y"]] for record in mine])
        refusable = known & (table[:, 0] == REFUSED)
        by_many, by_few = (chosen(topic, partition, offsets, fraction) for fraction in (MANY, FEW))
        last = by_many if batch < CRASHED else by_few
        ever = by_many if batch <= CRASHED else by_few
        names = np.array([f"{topic}-{partition}-{offset}" for offset in offsets])
        points.update(names[ever & known & ~refusable])
        invalid.update(names[~known | (ever & refusable)])

        counted = known & ~(last & refusable)
        x, y = table[counted, :2], table[counted, 2]
        error = y - x @ weights[batch] - intercepts[batch]
        want = [len(mine), (~counted).sum(), len(y), error @ error, np.abs(error).sum(), y.sum(), y @ y]
        have = [document[name] for name in ("rows", "invalid", "labelled", "sum_squared_error", "sum_absolute_error")]
        np.testing.assert_allclose([*have, document["sum_y"], document["sum_y_squared"]], want, rtol=1e-9, atol=1e-9)
        if topic == stream.train:
            learned.append(table[counted])
    assert sum(document["rows"] for document in metrics) == len(values)
    assert Counter(document["_id"] for document in stream.documents("points")) == Counter(points)
    assert Counter(document["_id"] for document in stream.documents("invalid")) == Counter(invalid)
    assert sum("out of range" in document["reason"] for document in stream.documents("invalid")) > 10
    solution = lstsq(np.concatenate(learned))
    assert np.linalg.norm(stream.weights() - solution) <= 1e-9 * np.linalg.norm(solution)
    assert stream.last_model()["rows_seen"] == sum(map(len, learned))
