"""One line an event on standard error, in UTC, as text or JSON."""

from __future__ import annotations

import json
import logging
import time


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
    handler.setFormatter(_Json() if form == "json" else _Text())
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    logging.getLogger(__package__).setLevel(level)
    if level != "DEBUG":
        logging.getLogger("elastic_transport").setLevel(logging.ERROR)  # it warns of each try, we of the waiting
        logging.getLogger("py4j").setLevel(logging.CRITICAL)
