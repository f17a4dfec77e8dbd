"""The demo's output in the terminal: a live table of the newest micro-batches, or a line for each of them."""

from __future__ import annotations

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from demo.watching import Batch, Progress
from embedded.kafka import TOPICS

WIDE = 116  # terminal columns needed to show all weights of the flights' model


def print_new(console: Console, progress: Progress, printed: int) -> int:
    """Print a line for each micro-batch after number `printed`, and return the last number; used without a terminal."""
    for batch in progress.batches:
        if batch.number > printed:
            cells = _cells(batch) | _model_cells(batch)
            console.print("  ".join(f"{name} {text}" for name, text in cells.items()))
            printed = batch.number
    return printed


def shown(progress: Progress, width: int) -> Group:
    """Return the live table; on a narrow terminal the newest model is shown below it instead of in its columns."""
    table = Table(expand=False)
    lines = []
    for batch in progress.batches:
        cells, model = _cells(batch), _model_cells(batch)
        if width >= WIDE:
            cells |= model
        lines = [] if width >= WIDE else [Text(", ".join(f"{name} {text}" for name, text in model.items()))]
        if not table.columns:
            for name in cells:
                table.add_column(name, justify="right", no_wrap=True)
        table.add_row(*cells.values())
    if not progress.batches:
        table.add_column("waiting for Spark's first micro-batch (about 15 s)")
    mse = ", ".join(f"{topic} {_number(value)}" for topic, value in progress.mse.items())
    lines.append(Text(f"{progress.processed:,} of {progress.rows:,} records processed; MSE over all: {mse or '-'}"))
    return Group(table, *lines)


def _cells(batch: Batch) -> dict[str, str]:
    return {
        "batch": str(batch.number),
        "rows": f"{batch.rows:,}",
        **{f"MSE {topic}": _number(batch.mse[topic]) for topic in TOPICS},
        "R²": _number(batch.r2),
        "rows/s": f"{batch.rows_per_second:,.0f}",
        "lag": "-" if batch.lag is None else f"{batch.lag:,}",
    }


def _model_cells(batch: Batch) -> dict[str, str]:
    return {"intercept": _number(batch.intercept)} | {name: _number(weight) for name, weight in batch.weights.items()}


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
