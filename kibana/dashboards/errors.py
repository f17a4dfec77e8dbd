"""The errors that end the program with one sentence; anything else is a bug and keeps its traceback."""


class DashboardsError(Exception):
    """The fault and its remedy, in one sentence; `exit_code` is the exit code of the program."""

    exit_code = 1


class ConfigError(DashboardsError):
    """Arguments or configuration are wrong."""

    exit_code = 2


class ServerUnavailable(DashboardsError):
    """A server is absent or too busy, after our own retries."""

    exit_code = 3


class Refused(DashboardsError):
    """A server refused objects or rights."""

    exit_code = 4
