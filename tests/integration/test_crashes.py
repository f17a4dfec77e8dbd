"""If the driver is killed at any moment, no record is lost, repeated or learned twice."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from embedded.testing.records import synthetic
from embedded.testing.stream import Stream
from tests.integration.crashing import POINTS
from tests.integration.exactly_once import check_exactly_once

SEED = 20261124
RANDOM_KILLS = 20
FLAGS = ("--max-offsets-per-trigger", "2500", "--trigger-interval-s", "0", "--rls-half-life", "50000")


def test_sigkill_between_each_two_steps_loses_and_repeats_nothing_and_changes_no_weight(
    stream: Stream,
) -> None:
    """The driver is killed by a fault hook between each two steps of the protocol, each in its own life."""
    check_lives(stream, 40_000, [f"{point}:1" for point in POINTS])


@pytest.mark.slow
def test_sigkill_at_any_moment_loses_and_repeats_nothing_and_ends_with_the_same_weights(stream: Stream) -> None:
    """The driver is killed at random moments, and twice between each two steps of the protocol."""
    moments = random.Random(SEED)
    lives: list[str | float] = [moments.uniform(0.0, 3.0) for _ in range(RANDOM_KILLS)]
    lives += [f"{point}:{times}" for times in (1, 2) for point in POINTS]
    moments.shuffle(lives)
    check_lives(stream, 200_000, lives)


def check_lives(stream: Stream, rows: int, lives: Sequence[str | float]) -> None:
    """Kill the driver once in each of its lives, at a point of the protocol, or some seconds after its first batch.

    Then compare with a run that is not interrupted. All records are sent before, so that all runs have the same
    micro-batches. A half-life is set, so a micro-batch that is learned twice or left out would change the weights.
    """
    stream.features, stream.label = ("x0", "x1", "x2"), "y"
    stream.create_topics()
    values = synthetic(rows, seed=SEED)
    train = rows * 3 // 4
    stream.produce(train=values[:train], test=values[train:])
    for life in lives:
        if isinstance(life, str):
            program = (str(Path(__file__).with_name("crashing.py")), life)
            with stream.app(*FLAGS, program=program) as app:
                assert app.wait(120) == -9, app.log
        else:
            with stream.app(*FLAGS) as app:
                app.wait_for("rows learned so far")
                threading.Event().wait(life)  # the random moment, not a wait for a condition
                assert app.process.poll() is None, app.log
    assert 0 < stream.count("points") < rows, "the last kill came too late to interrupt anything"
    done = stream.run(*FLAGS)
    assert done.returncode == 0, done.stderr
    check_exactly_once(stream)

    whole = stream.again("whole")
    done = whole.run(*FLAGS)
    assert done.returncode == 0, done.stderr
    check_exactly_once(whole)
    np.testing.assert_allclose(stream.weights(), whole.weights(), rtol=1e-12, atol=0)
    state, expected = (json.loads(newest_state(run.folder).read_text()) for run in (stream, whole))
    assert state["rows_seen"] == expected["rows_seen"] == train


def newest_state(folder: Path) -> Path:
    return max((folder / "checkpoint" / "model").glob("*.json"), key=lambda path: int(path.stem))
