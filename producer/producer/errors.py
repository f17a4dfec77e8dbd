"""What can go wrong that is no bug: each class has the exit code of the program."""

from typing import ClassVar


class StreamError(Exception):
    """A failure that one sentence explains; the sentence names the setting to change, if there is one."""

    exit_code: ClassVar[int] = 1


class ConfigError(StreamError):
    """An argument or a setting is wrong: trying again does not help."""

    exit_code = 2


class ServerUnavailable(StreamError):
    """A server is absent or too busy, after our own retries: trying again later may help."""

    exit_code = 3


class Refused(StreamError):
    """A server refused data, or what is stored does not fit: trying again does not help."""

    exit_code = 4


class Interrupted(Exception):
    """SIGTERM or SIGINT came; the shell's convention for the exit code is 128 + signal."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.exit_code = 128 + signum
