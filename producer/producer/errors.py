"""The expected errors; each class has the exit code of the program."""

from typing import ClassVar


class StreamError(Exception):
    """A failure explained in one sentence, which names the setting to change, if there is one."""

    exit_code: ClassVar[int] = 1


class ConfigError(StreamError):
    """An argument or a setting is wrong: a retry does not help."""

    exit_code = 2


class ServerUnavailable(StreamError):
    """A server is absent or too busy, after our own retries: a later retry may help."""

    exit_code = 3


class Refused(StreamError):
    """A server refused data, or the stored records do not fit the run: a retry does not help."""

    exit_code = 4


class Interrupted(Exception):
    """SIGTERM or SIGINT has come; the exit code is 128 + signal, as in a shell."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.exit_code = 128 + signum
