"""`python -m streaming_regression`: see `--help`."""

from __future__ import annotations

import logging
import os
import re
import sys
from collections.abc import Sequence

from streaming_regression import logs
from streaming_regression.errors import StreamError
from streaming_regression.stopping import Stop

log = logging.getLogger("streaming_regression")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code (0 done or stopped by a signal, 1 a bug, else see `errors`)."""
    stop = Stop()  # before the imports below, which are slow
    argv = sys.argv[1:] if argv is None else argv
    logs.set_up("INFO", _log_format(argv))
    debug = False
    try:
        from streaming_regression.settings import load  # noqa: PLC0415

        settings = load(argv)
        logs.set_up(settings.log_level, settings.log_format)
        debug = settings.log_level == "DEBUG"
        from streaming_regression import app  # noqa: PLC0415 - importing Spark takes a second; --help needs none

        app.run(settings, stop)
    except StreamError as error:
        log.error("%s", error, exc_info=error if debug else None)
        return error.exit_code
    except Exception:
        log.exception("this is a bug, please report it")
        return 1
    return 0


def _log_format(argv: Sequence[str]) -> str:
    """Return the requested log format, for messages that come before the settings are validated."""
    flags = re.findall(r"--log-format[= ](\w+)", " ".join(argv))
    return flags[-1] if flags else os.environ.get("LOG_FORMAT", "text").strip()


if __name__ == "__main__":
    sys.exit(main())
