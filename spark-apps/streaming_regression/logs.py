"""Logs one line per event to standard error, in UTC, as text or JSON; converts output of Java and Python workers."""

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
    # Java warns of an option that Spark sets. The warning cannot be switched off.
    rb"WARNING: Using incubator modules"
    # A Python worker prints this if its task ended first, for example without Kafka. The task's error is logged.
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
    """Log events of `level` and above; of libraries, only warnings."""
    handler = logging.StreamHandler()
    handler.setFormatter(_formatter(form))
    if level != "DEBUG":
        handler.addFilter(lambda record: "/py4j/" not in record.pathname)  # it logs each error that it raises
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    logging.getLogger(__package__).setLevel(level)
    if level != "DEBUG":
        logging.getLogger("elastic_transport").setLevel(logging.ERROR)  # it warns of each try; we log the waiting


@contextmanager
def relayed(form: str) -> Iterator[None]:
    """Relay standard error of the processes that are started within the block, for as long as they run.

    A line that is not a log line of this form is converted to one. A Python stack trace becomes one event. NOISE is
    dropped.
    """
    ours = os.dup(2)
    reading, writing = os.pipe()
    os.dup2(writing, 2)
    os.close(writing)
    # A daemon thread ends with this process, even if those processes keep running.
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
    """Yield each line as an event, and the lines of a Python stack trace as one."""
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
