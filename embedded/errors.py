"""The errors of embedded servers; each class has the exit code of the program."""


class EmbeddedError(Exception):
    """The fault and its remedy, in one sentence for the user."""

    exit_code = 1


class ConfigError(EmbeddedError):
    """An argument is wrong, or this machine is not ready: no Java, a port in use, a full disk."""

    exit_code = 2


class ServerUnavailable(EmbeddedError):
    """The network failed, or a server did not start."""

    exit_code = 3
