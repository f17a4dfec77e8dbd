"""Shows the progress of a run: a bar on a terminal, otherwise a log line every few seconds."""

import logging
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

LINE_EVERY_S = 5.0

log = logging.getLogger(__name__)

Report = Callable[[int], None]


@contextmanager
def progress(before: int, total: int | None) -> Iterator[Report]:
    """Yield a function to call, as often as wanted, with the number of records that this program has delivered.

    Parameters
    ----------
    before : int
        Records that an earlier program of the same run has delivered.
    total : int or None
        Length of the run, if it is known.
    """
    if sys.stderr.isatty():
        with _bar(before, total) as report:
            yield report
    else:
        yield every(LINE_EVERY_S, _Lines(before, total))


def every(seconds: float, report: Report, clock: Callable[[], float] = time.monotonic) -> Report:
    """Return a function that passes its argument to `report`, at most once in `seconds`."""
    last = clock()

    def maybe(done: int) -> None:
        nonlocal last
        if (now := clock()) - last >= seconds:
            last = now
            report(done)

    return maybe


class _Lines:
    def __init__(self, before: int, total: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._before = before
        self._of = f" of {total:,}" if total else ""
        self._clock = clock
        self._last = (clock(), 0)

    def __call__(self, done: int) -> None:
        now = self._clock()
        then, before = self._last
        self._last = (now, done)
        rate = (done - before) / (now - then)
        log.info("%s", f"{self._before + done:,}{self._of} records written, {rate:,.0f}/s")


@contextmanager
def _bar(before: int, total: int | None) -> Iterator[Report]:
    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("", total=total, completed=before, rate="")
        begun = time.monotonic()

        def report(done: int) -> None:
            bar.update(task, completed=before + done, rate=f"{done / (time.monotonic() - begun):,.0f}/s")

        yield report
