"""One line an event on standard error, in UTC, as text or JSON; also what Java and the Python workers write there."""

from __future__ import annotations

import json
import logging
import os
import re
import threading
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress

NOISE = re.compile(
    # Java says so of Spark's own choice, and cannot be told not to.
    rb"WARNING: Using incubator modules"
    # A Python worker says so when its task has ended before it, as when Kafka goes away; the task's own fault is told.
    rb"|Traceback .*pyspark/daemon\.py.*\n(BrokenPipe|ConnectionReset)Error: [^\n]*\n\Z",
    re.DOTALL,
)


class _Text(logging.Formatter):
    converter = staticmethod(time.gmtime)
    default_msec_format = "%s.%03dZ"

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")
        self.default_time_format = "%Y-%m-%dT%H:%M:%S"


class _Json(_Text):
    def format(self, record: logging.LogRecord) -> str:
        event = {"time": self.formatTime(record), "level": record.levelname, "logger": record.name}
        event |= {"message": record.getMessage(), **getattr(record, "values", {})}
        if record.exc_info:
            event["exception"] = self.formatException(record.exc_info)
        return json.dumps(event)


def set_up(level: str, form: str) -> None:
    """Log from `level` on; of libraries, warnings only."""
    handler = logging.StreamHandler()
    handler.setFormatter(_formatter(form))
    if level != "DEBUG":
        handler.addFilter(lambda record: "/py4j/" not in record.pathname)  # it logs, with stack traces, what it raises
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    logging.getLogger(__package__).setLevel(level)
    if level != "DEBUG":
        logging.getLogger("elastic_transport").setLevel(logging.ERROR)  # it warns of each try, we of the waiting


@contextmanager
def relayed(form: str) -> Iterator[None]:
    """Pass on what the processes that are started within will ever write to standard error.

    A line that is none of a log in this form becomes one, a stack trace of Python becomes one event; what nobody needs
    is left out.
    """
    ours = os.dup(2)
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    os.close(writing)
    # A daemon: it ends with this process, even if those processes do not.
    threading.Thread(target=_relay, args=(reading, os.dup(ours), form), name="stderr", daemon=True).start()
    try:
        yield
    finally:
        os.dup2(ours, 2)
        os.close(ours)


def _relay(source: int, sink: int, form: str) -> None:
    logged = re.compile(rb"\{" if form == "json" else rb"\d{4}-\d\d-\d\dT")
    formatter = _formatter(form)
    with suppress(OSError), open(source, "rb") as lines, open(sink, "wb", buffering=0) as log:
        for event in _events(lines):
            if NOISE.match(event):
                continue
            text = event.decode(errors="replace").rstrip()
            if not logged.match(event):
                text = formatter.format(logging.LogRecord("process", logging.WARNING, "", 0, text, None, None))
            log.write(f"{text}\n".encode())


def _events(lines: Iterable[bytes]) -> Iterator[bytes]:
    """Put the lines of each stack trace of Python together."""
    trace = b""
    for line in lines:
        if trace or line.startswith(b"Traceback "):
            trace += line
            if line.startswith((b"Traceback ", b" ")):
                continue
        yield trace or line
        trace = b""
    if trace:
        yield trace


def _formatter(form: str) -> logging.Formatter:
    return _Json() if form == "json" else _Text()
