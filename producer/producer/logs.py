"""Logs to standard error: one line per event, in UTC, as text or JSON."""

import json
import logging
import sys
from datetime import datetime, timezone


def configure(level: str, form: str) -> None:
    """Log events of `level` and above, in the form text or json."""
    handler = _Stderr()
    handler.setFormatter(_Json() if form == "json" else _Text())
    logging.basicConfig(level=level, handlers=[handler], force=True)


class _Stderr(logging.Handler):
    """Looks up sys.stderr for each line, because a progress bar replaces it to keep the lines above itself."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(self.format(record) + "\n")
        sys.stderr.flush()


class _Text(logging.Formatter):
    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802 - logging's
        time = datetime.fromtimestamp(record.created, timezone.utc)
        return time.strftime("%Y-%m-%dT%H:%M:%S.") + f"{time.microsecond // 1000:03d}Z"


class _Json(_Text):
    def format(self, record: logging.LogRecord) -> str:
        line = {"time": self.formatTime(record), "level": record.levelname, "message": record.getMessage()}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)
