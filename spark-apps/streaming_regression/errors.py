"""The errors that end the program with one sentence; anything else is a bug and keeps its traceback."""


class StreamError(Exception):
    """What went wrong and what to do about it, in one sentence; `exit_code` is the program's."""

    exit_code = 1


class ConfigError(StreamError):
    """Arguments or configuration are wrong."""

    exit_code = 2


class ServerUnavailable(StreamError):
    """A server is absent or too busy, after our own retries."""

    exit_code = 3


class KafkaUnavailable(ServerUnavailable):
    """Kafka is absent; the query is started again when it is back."""


class TopicMissing(ConfigError):
    """A topic does not exist, or not yet."""


class Refused(StreamError):
    """A server refused data or objects, or the stored state does not fit."""

    exit_code = 4


BY_NAME = {error.__name__: error for error in (ConfigError, ServerUnavailable, Refused, KafkaUnavailable, TopicMissing)}
"""The classes by name, for errors that come from another process as text."""
