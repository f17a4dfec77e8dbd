"""The connection: the clients' configuration, the meaning of their errors, and the wait for a broker."""

import logging
import re
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from confluent_kafka import Consumer, KafkaError, KafkaException

from producer.errors import ConfigError, Interrupted, Refused, ServerUnavailable, StreamError
from producer.login import BROKEN, Login, certificate_failure, client_config, login, token_failure, wrong_config
from producer.settings import Settings, setting

CALL_S = 1.0

_LOG_EVERY_S = 5.0

_T = TypeVar("_T")

log = logging.getLogger(__name__)


class Stop:
    """Remembers the first SIGTERM or SIGINT; a handler for `signal.signal`."""

    def __init__(self) -> None:
        self.signum: int | None = None

    def __call__(self, signum: int, _frame: object) -> None:
        """Store the signal; the same signal again ends the program at once."""
        self.signum = signum
        signal.signal(signum, signal.SIG_DFL)


class Watch:
    """Waits for a broker that is away, for up to `server_timeout_s`, and detects permanent errors."""

    def __init__(self, settings: Settings, stop: Stop, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._stop = stop
        self._clock = clock
        self._failure: StreamError | None = None
        self._reason = ""
        self._since = self._logged = clock()

    def log(self, _level: int, _form: str, *args: object) -> None:
        """Log librdkafka's messages at level DEBUG; librdkafka calls this like `logging.Logger.log`.

        The client's name is left out, because a user may have set it by an option.
        """
        log.debug("%s %s", args[0], args[-1])
        if args[0] == "FAIL":
            self._reason = _plain(str(args[-1]))

    def on_error(self, error: KafkaError) -> None:
        """Store an error that a client reports through librdkafka's error_cb, or that a call has raised."""
        self._reason = self._reason or _plain(error.str())
        self._failure = self._failure or self._permanent(error)

    def fail(self, failure: StreamError) -> None:
        """Make the next `check` raise `failure`, unless there is an earlier failure."""
        self._failure = self._failure or failure

    @property
    def failed(self) -> bool:
        """Whether `check` raises a permanent error."""
        return self._failure is not None

    def alive(self) -> None:
        """Restart the timeout: the broker has answered, or no answer is awaited."""
        now = self._clock()
        if self._logged > self._since:
            log.info("Kafka answers again after %.0f s", now - self._since)
        self._since = self._logged = now
        self._reason = ""

    def check(self) -> None:
        """Raise the reason to stop, if any: a signal, a permanent error, a broker that is away for too long."""
        if self._stop.signum is not None:
            raise Interrupted(self._stop.signum)
        if self._failure:
            raise self._failure
        now = self._clock()
        where, timeout_s = self._settings.kafka_bootstrap, self._settings.server_timeout_s
        reason = self._reason or "no error was reported"
        if "Disconnected" in reason:
            protocol = self._settings.kafka_security_protocol
            reason += f" (is {protocol} the right {setting('kafka_security_protocol')}?)"
        if now - self._since > timeout_s:
            raise ServerUnavailable(
                f"Kafka at {where} ({setting('kafka_bootstrap')}) has not answered for {timeout_s:g} s "
                f"({setting('server_timeout_s')}): {reason}"
            )
        if now - self._logged > _LOG_EVERY_S:
            self._logged = now
            log.warning(
                "Kafka at %s has not answered for %.0f s, giving up after %g s: %s",
                where,
                now - self._since,
                timeout_s,
                reason,
            )

    def _permanent(self, error: KafkaError) -> StreamError | None:
        code, text = error.code(), _plain(error.str())
        given = login(self._settings)
        if token := token_failure(text, given):
            self._reason, passes = token
            return None if passes else ConfigError(self._reason)
        if failure := _tls_failure(text, given):
            return failure
        if code in (KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED) and BROKEN not in text:
            return _refused_login(text, given)
        if code == KafkaError.CLUSTER_AUTHORIZATION_FAILED:
            return Refused(f"{setting('kafka_user')}: the user needs the ACL Write on both topics: {text}")
        return None


def _tls_failure(text: str, given: Login) -> ConfigError | None:
    if "certificate verify failed" in text:
        ca = given.ca_file or "the system’s CA store"
        return ConfigError(
            f"{setting('kafka_ca_file')}: the brokers' certificate is not signed by a CA in {ca}, or is not issued "
            f"for their address: {text}"
        )
    message = certificate_failure(text, given)
    return ConfigError(f"{setting('kafka_bootstrap')}: {message}") if message else None


def _refused_login(text: str, given: Login) -> ConfigError:
    if "nsupported" in text:
        return ConfigError(f"{setting('kafka_sasl_mechanism')}: the broker does not support it: {text}")
    if given.oauth:
        return ConfigError(
            f"{setting('kafka_oauth_token_url')}: the brokers refused the token of {given.oauth_client_id}: they must "
            "trust its issuer, and accept its audience, scope and subject"
        )
    fields = f"{setting('kafka_user')}, {setting('kafka_password_file')}"
    return ConfigError(f"{fields}: the broker refused this user or password: {text}")


def topic_failure(settings: Settings, topic: str, error: KafkaError) -> StreamError | None:
    """Return the failure for an error about a topic, or None if the error may pass."""
    field = setting("kafka_test_topic" if topic == settings.kafka_test_topic else "kafka_train_topic")
    code = error.code()
    if code in (KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC):
        return ConfigError(f"{field}: the cluster has no topic {topic!r}: create it or use another topic")
    if code == KafkaError.TOPIC_AUTHORIZATION_FAILED:
        return Refused(f"{field}: the user needs the ACLs Describe, Read and Write on topic {topic!r}")
    return None


def _plain(text: str) -> str:
    """Return an error's text without librdkafka's thread name before it and its state after it."""
    return re.sub(r"^\[thrd:[^\]]*\]: | \(after \d+ms in state \w+\)", "", text)


def connect(kind: Callable[[dict[str, Any]], _T], settings: Settings, watch: Watch, options: Mapping[str, Any]) -> _T:
    """Return a consumer or producer with `options`; ConfigError when librdkafka cannot use a setting."""
    given = client_config(login(settings), settings.kafka_option or "")
    config: dict[str, Any] = {
        "bootstrap.servers": settings.kafka_bootstrap,
        "client.id": "producer",
        "reconnect.backoff.max.ms": 1000,  # a broker that comes back is found within about a second
        "socket.keepalive.enable": True,
        "error_cb": watch.on_error,
        "logger": watch,
    }
    try:
        return kind({**config, **options, **given})
    except KafkaException as error:
        raise wrong_config(error.args[0].str(), login(settings), given) from None  # its text may contain a secret


def ask(consumer: Consumer, watch: Watch, call: Callable[[], _T]) -> _T:
    """Return the result of `call`, a request to the brokers; repeat it until they answer."""
    while True:
        try:
            answer = call()
        except KafkaException as error:
            refusal = error.args[0]
        else:
            watch.alive()
            return answer
        consumer.poll(0.1)  # calls error_cb, which gets more details
        watch.on_error(refusal)
        watch.check()


def partitions(consumer: Consumer, watch: Watch, settings: Settings, topic: str) -> int:
    """Return the number of partitions of a topic."""

    def call() -> int:
        metadata = consumer.list_topics(topic, timeout=CALL_S).topics[topic]
        if metadata.error is None:
            return len(metadata.partitions)
        if failure := topic_failure(settings, topic, metadata.error):
            raise failure
        raise KafkaException(metadata.error)

    return ask(consumer, watch, call)
