"""The app reports drift, and the standard errors of its predictions, and does so in the same way after a crash."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from embedded.testing.records import synthetic
from embedded.testing.stream import Stream
from tests.integration.test_crashes import FLAGS

INTERVALS = "--prediction-intervals"
CRASHING = (str(Path(__file__).with_name("crashing.py")), "metrics-and-model-written:7")


@pytest.mark.slow
def test_drift_at_a_record_is_reported_once_and_a_crash_changes_nothing(stream: Stream) -> None:
    """From record 15,000 of 20,000 on, labels of the train topic have ten times the noise; the test topic is calm.

    Micro-batches hold 500, 500, 1,000, 2,000 and then at most 2,500 records. One run is killed after it has written the
    documents of its seventh micro-batch, which is then replayed.
    """
    stream.features, stream.label = ("x0", "x1", "x2"), "y"
    stream.create_topics()
    rng = np.random.default_rng(3)
    values: list[bytes | None] = []
    for number, value in enumerate(synthetic(20_000, seed=1)):
        record = json.loads(value)
        record["y"] += float(rng.normal() * 10) if number >= 15_000 else 0.0
        values.append(json.dumps(record).encode())
    stream.produce(train=values, test=synthetic(2_000, seed=2))
    calm, killed = stream.again("calm"), stream.again("killed")
    done = calm.run(*FLAGS, INTERVALS)
    assert done.returncode == 0, done.stderr
    with killed.app("--available-now", *FLAGS, INTERVALS, program=CRASHING) as app:
        assert app.wait(240) == -9, app.log
    done_again = killed.run(*FLAGS, INTERVALS)
    assert done_again.returncode == 0, done_again.stderr
    assert reported(killed) == reported(calm)
    (batch,) = reported(calm)
    assert reported(calm)[batch] == {"train": True, "test": False}
    points = [point["offset"] for point in calm.documents("points") if point["batch"] == batch]
    assert 3 * max(points) >= 15_000
    assert done.stderr.count(f"WARNING batch {batch}: drift in topic {stream.train}: a typical error") == 1
    assert done.stderr.count(": drift in topic") == 1
    have, want = (dict(numbers(health(stream))) for stream in (killed, calm))
    assert have == pytest.approx(want, rel=1e-9)  # the last bits differ, because the fault hook cuts tasks differently
    check_standard_errors(calm, killed)
    totals = health(calm)["totals"]
    assert {topic: numbers["rows"] for topic, numbers in totals.items()} == {stream.train: 20_000, stream.test: 2_000}
    assert totals[stream.train]["drifts"] == 1


def check_standard_errors(calm: Stream, killed: Stream) -> None:
    """Both runs have the same standard errors, the first micro-batch none; 95 % of the calm errors are in the band."""
    have, want = ({point["_id"]: point for point in stream.documents("points")} for stream in (killed, calm))
    assert have.keys() == want.keys()
    for name, point in want.items():
        assert have[name].get("standard_error", -1) == pytest.approx(point.get("standard_error", -1), rel=1e-9)
        assert ("standard_error" in point) == (point["batch"] > 0)
    test = [point for point in want.values() if point["topic"] == calm.test and point["batch"] > 1]
    inside = [abs(point["y"] - point["pred"]) <= 1.96 * point["standard_error"] for point in test]
    assert len(inside) > 1_000
    assert 0.93 <= np.mean(inside) <= 0.97


def numbers(content: Any, path: str = "") -> Iterator[tuple[str, float]]:
    """Yield each number in nested JSON objects, with its path."""
    if isinstance(content, dict):
        for name, inner in content.items():
            yield from numbers(inner, f"{path}/{name}")
    else:
        yield path, float(content)


def reported(stream: Stream) -> dict[int, Any]:
    """The field `drift` by micro-batch, where it is present."""
    return {model["batch"]: model["drift"] for model in stream.documents("models") if "drift" in model}


def health(stream: Stream) -> dict[str, Any]:
    """The health in the newest state of the checkpoint."""
    newest = max((stream.folder / "checkpoint" / "model").glob("*.json"), key=lambda path: int(path.stem))
    content: dict[str, Any] = json.loads(newest.read_text())["health"]
    return content
