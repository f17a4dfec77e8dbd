"""The errors that end the program with one sentence; anything else is a bug and keeps its traceback."""


class StreamError(Exception):
    """The fault and its remedy, in one sentence.

    Attributes
    ----------
    exit_code : the exit code of the program.
    may_pass : whether the query is restarted, for up to `server_timeout_s` seconds after the last success.
    """

    exit_code = 1
    may_pass = False


class ConfigError(StreamError):
    """Arguments or configuration are wrong."""

    exit_code = 2


class ServerUnavailable(StreamError):
    """A server is absent or too busy, after our own retries."""

    exit_code = 3


class KafkaUnavailable(ServerUnavailable):
    """Kafka is absent or too busy."""

    may_pass = True


class WorkerLate(ServerUnavailable):
    """A Python worker of Spark did not start in time, because the machine is too busy."""

    may_pass = True


class TopicMissing(ConfigError):
    """A topic does not exist; it may still be created."""

    may_pass = True


class Refused(StreamError):
    """A server refused data or objects, or the stored state does not fit."""

    exit_code = 4


BY_NAME = {error.__name__: error for error in (ConfigError, ServerUnavailable, Refused, KafkaUnavailable, TopicMissing)}
"""The classes by name, for errors that come from another process as text."""
