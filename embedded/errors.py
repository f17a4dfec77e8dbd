"""What goes wrong around embedded servers, each with the exit code its program ends with."""


class EmbeddedError(Exception):
    """One sentence for the user: what was found, and the remedy."""

    exit_code = 1


class ConfigError(EmbeddedError):
    """An argument or this machine must change: Java, a taken port, a full disk."""

    exit_code = 2


class ServerUnavailable(EmbeddedError):
    """The network, or a server that did not come up."""

    exit_code = 3
