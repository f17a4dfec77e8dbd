"""`python -m streaming_regression`: see `--help`."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence

from streaming_regression import logs
from streaming_regression.errors import StreamError
from streaming_regression.settings import load

log = logging.getLogger("streaming_regression")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the program and return its exit code (0 done or told to stop, 1 a bug, else see `errors`)."""
    logs.set_up("INFO", "text")
    debug = False
    try:
        settings = load(sys.argv[1:] if argv is None else argv)
        logs.set_up(settings.log_level, settings.log_format)
        debug = settings.log_level == "DEBUG"
        from streaming_regression import app  # noqa: PLC0415 - Spark takes a second to import, --help should not

        app.run(settings)
    except StreamError as error:
        log.error("%s", error, exc_info=error if debug else None)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
