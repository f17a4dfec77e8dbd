"""The app with a fault hook: SIGKILL of the driver when it reaches a point of the micro-batch protocol the n-th time.

`python crashing.py POINT:N FLAG…`; the product itself has no such hook.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from typing import Any

from streaming_regression import files, micro_batch, scoring, state
from streaming_regression.__main__ import main
from streaming_regression.kafka import ranges


def crash() -> None:
    os.kill(int(os.environ["CRASHING_DRIVER"]), signal.SIGKILL)


def score_and_crash(batches: Iterable[Any], task: scoring.Task) -> Iterator[Any]:
    """On an executor: write one partition, then kill the driver; the other partitions are in progress or not begun."""
    yield from list(scoring.score(batches, task))
    crash()


def crash_on_executor() -> None:
    crashing = type("Crashing", (), {**vars(scoring), "score": staticmethod(score_and_crash)})
    setattr(micro_batch, "scoring", crashing)  # noqa: B010 - mypy knows no attribute that a module imports


POINTS: dict[str, tuple[Any, str, Callable[[], None]]] = {
    "some-points-written": (micro_batch.MicroBatches, "_before", crash_on_executor),
    "all-points-written": (micro_batch.MicroBatches, "_score", crash),
    "metrics-and-model-written": (micro_batch.MicroBatches, "_publish", crash),
    "state-without-its-name": (files.Files, "write_aside", crash),
    "state-written-but-not-committed": (state.StateStore, "save", crash),
}


def install(point: str, times: int) -> None:
    """Install the hook: it kills the driver at the end of the `times`-th call of the function that `point` names."""
    owner, name, act = POINTS[point]
    call = getattr(owner, name)
    ranges.LEAST_PER_TASK = 100  # otherwise these small micro-batches would have a single task
    left = [times]

    @wraps(call)
    def hooked(*arguments: Any, **options: Any) -> Any:
        result = call(*arguments, **options)
        left[0] -= 1
        if left[0] == 0:
            act()
        return result

    setattr(owner, name, hooked)


if __name__ == "__main__":
    os.environ["CRASHING_DRIVER"] = str(os.getpid())
    point, _, times = sys.argv[1].partition(":")
    install(point, int(times))
    sys.exit(main(sys.argv[2:]))
