"""`make demo`: the whole system on this machine learns from real flights; the terminal shows its progress."""

from __future__ import annotations

import argparse
import json
import logging
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from types import FrameType

from rich.console import Console
from rich.live import Live

from demo.display import print_new, shown
from demo.programs import Program, running
from demo.watching import Progress, Watcher
from embedded import jars
from embedded.elasticsearch import Elasticsearch
from embedded.errors import EmbeddedError
from embedded.flags import check_once
from embedded.kafka import TOPICS, Kafka
from embedded.server import free_port, start_together

FLIGHTS = 336_776
MAX_RATE = 1e9  # the producer's limit
REFRESH_S = 1.0

console = Console(highlight=False, soft_wrap=True)


class Interrupted(BaseException):
    """Ctrl-C or SIGTERM."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; return its exit code: 0 also after Ctrl-C, 1 if records are missing or duplicated at the end."""
    logging.getLogger().addHandler(logging.NullHandler())  # else Py4J prints tracebacks when a JVM ends
    parser = _parser()
    check_once(parser, sys.argv[1:] if argv is None else argv)
    options = parser.parse_args(argv)
    if options.summary and not options.exit:
        parser.error("--summary needs --exit: without it the demo does not end and has no result")
    if options.summary and not options.summary.absolute().parent.is_dir():
        parser.error(f"--summary: there is no folder {options.summary.absolute().parent}")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    try:
        return _demo(options)
    except EmbeddedError as error:
        console.print(str(error), style="red", markup=False)
        return error.exit_code
    except Interrupted:
        console.print("stopped: all programs have ended, and topics, indices and model are deleted")
        return 0


def _demo(options: argparse.Namespace) -> int:
    folders = jars.fetch()
    console.print(f"kept for the next demo: .venv, and the servers' programs in {folders[0].parent}")
    console.print("new each time: Kafka and Elasticsearch, their topics and indices, the model (in a temporary folder)")
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="streaming-ml-demo-")))
        kafka, search = Kafka(), Elasticsearch()
        stack.callback(search.close)
        stack.callback(kafka.close)
        with console.status("starting Kafka and Elasticsearch"):
            start_together(kafka, search)
            kafka.create_topics()
        console.print(f"Kafka          {kafka.bootstrap}  topics {' and '.join(TOPICS)}")
        console.print(f"Elasticsearch  {search.url}  try {search.url}/spark-points-*/_search?q=topic:test")
        servers = ("--kafka-bootstrap", kafka.bootstrap)
        port = free_port()
        page = stack.enter_context(
            running("dashboards", folder, "serve", "--elasticsearch-url", search.url, "--page-port", str(port))
        )
        app = stack.enter_context(
            running(
                "streaming_regression",
                folder,
                *(*servers, "--elasticsearch-url", search.url, "--checkpoint", str(folder / "checkpoint")),
                *("--max-offsets-per-trigger", "20000"),  # about one new line per second in the table
            )
        )
        producer = stack.enter_context(
            running(
                "producer",
                folder,
                *(*servers, "--source", "flights", "--count", str(options.rows), "--rate", str(options.rate)),
            )
        )
        console.print(f"Live page      {page.address(port)}")
        watcher = stack.enter_context(Watcher.of(kafka.bootstrap, search.url))
        stack.callback(_ignore_signals)  # runs first at the end: signals must not interrupt the shutdown
        return _watch(options, watcher, app, producer)


def _watch(options: argparse.Namespace, watcher: Watcher, app: Program, producer: Program) -> int:
    """Show the progress until all records are processed, with --exit, or until Ctrl-C."""
    progress = Progress(rows=options.rows)
    sent, printed = False, -1
    with ExitStack() as stack:
        live = Live(shown(progress, console.width), console=console, auto_refresh=False)
        if console.is_terminal:
            stack.enter_context(live)
        while not (options.exit and sent and progress.processed >= options.rows):
            app.check()
            sent = producer.check(may_end=True)
            watcher.update(progress)
            if console.is_terminal:
                live.update(shown(progress, console.width), refresh=True)
            else:
                printed = print_new(console, progress, printed)
            time.sleep(REFRESH_S)
    summary = watcher.summary()
    if options.summary:
        options.summary.write_text(json.dumps(summary, indent=2) + "\n")
    console.print_json(data=summary)
    good = summary["missing"] == summary["duplicates"] == 0 and summary["rows"] == options.rows
    return 0 if good else 1


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise Interrupted


def _ignore_signals() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="make demo ARGS=…",
        allow_abbrev=False,
        description="Real Kafka, Elasticsearch and Spark on this machine: a linear model learns the arrival delay of "
        "flights from departure delay, distance and air time, and you watch its error fall. Ctrl-C ends everything.",
    )
    add = parser.add_argument
    add(
        "--rows",
        type=flights,
        default=FLIGHTS,
        metavar="N",
        help="flights to send, 1 to 336776 (default: %(default)s, all of 2013)",
    )
    add("--rate", type=rate, default=5000, metavar="R", help="flights per second; 0: no limit (default: %(default)g)")
    add("--exit", action="store_true", help="end when all flights are processed (default: stay until Ctrl-C)")
    add("--summary", type=Path, metavar="FILE", help="with --exit: write the result there as JSON")
    return parser


def flights(text: str) -> int:
    """Parse a number of flights; the name shows in argparse's message."""
    if not 1 <= int(text) <= FLIGHTS:
        raise ValueError
    return int(text)


def rate(text: str) -> float:
    """Parse a rate; the name shows in argparse's message."""
    if not 0 <= float(text) <= MAX_RATE:  # false for nan, too
        raise ValueError
    return float(text)


if __name__ == "__main__":
    sys.exit(main())
