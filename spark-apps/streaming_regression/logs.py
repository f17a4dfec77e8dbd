"""One line an event on standard error, in UTC, as text or JSON; also what Java and the Python workers write there."""

from __future__ import annotations

import json
import logging
import os
import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

NOISE = b"WARNING: Using incubator modules"  # Java says so of Spark's own choice, and cannot be told not to


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
    """Pass on, line by line, what the processes that are started within will ever write to standard error.

    A line that is none of a log in this form becomes one; of Java's own, one that nobody needs is left out.
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
        for line in lines:
            if line.startswith(NOISE):
                continue
            text = line.decode(errors="replace").rstrip()
            if not logged.match(line):
                text = formatter.format(logging.LogRecord("process", logging.WARNING, "", 0, text, None, None))
            log.write(f"{text}\n".encode())


def _formatter(form: str) -> logging.Formatter:
    return _Json() if form == "json" else _Text()
