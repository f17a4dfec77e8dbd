"""`python -m dashboards build|load|serve`: see `--help` of each."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Sequence

from dashboards import settings
from dashboards.errors import ConfigError, DashboardsError

log = logging.getLogger("dashboards")
USAGE = """\
usage: python -m dashboards COMMAND [--help]

  build   write the dashboards as a file that Kibana imports
  load    create missing index templates and indices, and import the dashboards into Kibana; it is safe to run again
  serve   serve the dashboards as a live page
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and return the exit code (0 done or stopped by a signal, 1 a bug, else see `errors`)."""
    logging.Formatter.converter = time.gmtime
    logging.Formatter.default_time_format, logging.Formatter.default_msec_format = "%Y-%m-%dT%H:%M:%S", "%s.%03dZ"
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    for chatty in ("elastic_transport", "uvicorn", "urllib3"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    command, *arguments = (sys.argv[1:] if argv is None else argv) or ["--help"]
    try:
        return _run(command, arguments)
    except DashboardsError as error:
        log.error("%s", error)
        return error.exit_code
    except KeyboardInterrupt:
        return 130


def _run(command: str, arguments: Sequence[str]) -> int:
    # Each command imports only its own modules: the page's libraries take a second, and the loader does not need them.
    if command == "build":
        from dashboards.dashboard import ndjson  # noqa: PLC0415

        build = settings.load(settings.Build, arguments)
        text = ndjson(build.names)
        if str(build.dashboards_file) == "-":
            sys.stdout.write(text)
        else:
            try:
                build.dashboards_file.write_text(text, encoding="utf-8")
            except OSError as error:
                raise ConfigError(
                    f"--dashboards-file / DASHBOARDS_FILE: {build.dashboards_file} cannot be written ({error.strerror})"
                ) from error
    elif command == "load":
        from dashboards.loader import load  # noqa: PLC0415

        load(settings.load(settings.Load, arguments))
    elif command == "serve":
        from dashboards.server import serve  # noqa: PLC0415

        serve(settings.load(settings.Serve, arguments))
    elif command in {"-h", "--help"}:
        sys.stdout.write(USAGE)
    else:
        raise ConfigError(f"{command!r} is not a command: use build, load or serve (see --help)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
