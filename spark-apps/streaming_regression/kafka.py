"""Kafka: the options of Spark's source, a check before the start that says what is wrong, and the consumer lag."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TypeVar

from py4j.java_gateway import JavaObject, JVMView
from py4j.protocol import Py4JError, Py4JJavaError

from streaming_regression import secret
from streaming_regression.errors import ConfigError, Refused, ServerUnavailable, StreamError
from streaming_regression.settings import Settings

log = logging.getLogger(__name__)
Result = TypeVar("Result")

LOGIN_MODULES = {
    "PLAIN": "org.apache.kafka.common.security.plain.PlainLoginModule",
    "SCRAM-SHA-256": "org.apache.kafka.common.security.scram.ScramLoginModule",
    "SCRAM-SHA-512": "org.apache.kafka.common.security.scram.ScramLoginModule",
}
LOGIN_ERRORS = frozenset(
    ["SaslAuthenticationException", "UnsupportedSaslMechanismException", "IllegalSaslStateException"]
)
ANSWER_WITHIN_MS = 5_000
PAUSE_S = 1.0


def readable_password(settings: Settings, private_folder: Path) -> Path | None:
    """Return a file from which Kafka's clients can take the password as it is; None without SASL.

    That is the setting's own, or, where they could not (a line break at the end, a quote or backslash within, a path
    that a reference cannot hold), a new one in `private_folder`, which only this user on this machine can read.

    Raises
    ------
    ConfigError
        For a file that cannot be read or is empty.
    """
    file = settings.kafka_password_file
    if file is None or not settings.kafka_security_protocol.startswith("SASL"):
        return None
    password = secret.read(file, "kafka_password_file")
    if file.stat().st_size == len(password.encode()) and not re.search(r'["\\]', password) and _referable(file):
        return file
    private = private_folder / "kafka-password"
    private.touch(mode=0o600)
    private.write_text(_quoted(password), encoding="utf-8")
    return private


def client_options(settings: Settings, password_file: Path | None) -> dict[str, str]:
    """Return the Kafka clients' options, with a reference to the file where the password stands, not the password.

    Kafka's clients resolve the reference on the driver and on executors, so the password is in no plan and no log.
    """
    options = {"bootstrap.servers": settings.kafka_bootstrap, "security.protocol": settings.kafka_security_protocol}
    if settings.kafka_ca_file:
        options |= {"ssl.truststore.type": "PEM", "ssl.truststore.location": str(settings.kafka_ca_file.absolute())}
    if password_file:
        assert settings.kafka_user  # noqa: S101 - Settings has seen to it
        file = password_file.absolute()
        options |= {
            "sasl.mechanism": settings.kafka_sasl_mechanism,
            "sasl.jaas.config": f"{LOGIN_MODULES[settings.kafka_sasl_mechanism]} required "
            f'username="{_quoted(settings.kafka_user)}" password="${{dir:{file.parent}:{file.name}}}";',
            "config.providers": "dir",
            "config.providers.dir.class": "org.apache.kafka.common.config.provider.DirectoryConfigProvider",
        }
    return options


Position = Mapping[str, Mapping[str, int]]
"""Topic → partition → offset of the next record, as in Spark's offset log."""


class Brokers:
    """Kafka as an administrator sees it, by the Java client that Spark has already."""

    def __init__(self, jvm: JVMView, options: Mapping[str, str], settings: Settings) -> None:
        self._jvm = jvm  # a name's first use searches all jars, so those that each micro-batch needs are kept
        self._offset_spec = jvm.org.apache.kafka.clients.admin.OffsetSpec
        self._topic_partition = jvm.org.apache.kafka.common.TopicPartition
        self._hash_map = jvm.java.util.HashMap
        self._options = options
        self._settings = settings
        self._client: JavaObject | None = None
        self._ids: dict[str, str] = {}

    @property
    def topic_ids(self) -> tuple[str, ...]:
        """Kafka's ids of both topics, after a `check`: a topic that is deleted and made anew has another."""
        return tuple(self._ids.values())

    def check(self) -> None:
        """Wait until both topics can be seen, up to `server_timeout_s` seconds for what may pass.

        Raises
        ------
        ServerUnavailable, ConfigError, Refused
            After that time; for a missing topic after that time, for a wrong CA or login at once; for missing rights,
            and for a topic that was made anew since the last check.
        """
        for topic in (self._settings.kafka_train_topic, self._settings.kafka_test_topic):
            identity, may_read = self._patiently(partial(self._describe, topic), topic)
            if self._ids.setdefault(topic, identity) != identity:
                raise Refused(made_anew(topic))
            if not may_read:
                raise explain({"TopicAuthorizationException": ""}, self._settings, topic)

    def check_held(self, position: Position) -> None:
        """See that Kafka still holds all records from `position` on.

        Raises
        ------
        Refused
            When some are gone, or there were never as many.
        """
        topics = ",".join(position)
        first = self._patiently(partial(self._offsets, position, "earliest"), topics)
        end = self._patiently(partial(self._offsets, position, "latest"), topics)
        for topic, offsets in position.items():
            for partition, offset in offsets.items():
                place = (topic, int(partition))
                if not first[place] <= offset <= end[place]:
                    held = f"{topic}-{partition} holds offsets {first[place]} to {end[place]}"
                    raise Refused(lost(f"{held}, but {offset} is the next to read"))

    def lag(self, position: Position) -> int | None:
        """Return the number of records that Kafka holds beyond `position`; None without an answer."""
        try:
            ends = self._offsets(position, "latest")
        except Py4JError as error:
            log.debug("no consumer lag: %s", error)
            return None
        return sum(ends.values()) - sum(sum(offsets.values()) for offsets in position.values())

    def _offsets(self, position: Position, which: str) -> dict[tuple[str, int], int]:
        asked = self._hash_map()
        spec = getattr(self._offset_spec, which)()
        places = [(topic, int(partition)) for topic, offsets in position.items() for partition in offsets]
        keys = [self._topic_partition(*place) for place in places]
        for key in keys:
            asked.put(key, spec)
        answers = self._admin().listOffsets(asked).all().get()
        return {place: int(answers.get(key).offset()) for place, key in zip(places, keys, strict=True)}

    def _admin(self) -> JavaObject:
        if self._client is None:
            properties = self._jvm.java.util.Properties()
            for key, value in self._options.items():
                properties.setProperty(key, value)
            for key in ("request.timeout.ms", "default.api.timeout.ms"):
                properties.setProperty(key, str(ANSWER_WITHIN_MS))
            self._client = self._jvm.org.apache.kafka.clients.admin.AdminClient.create(properties)
        return self._client

    def _describe(self, topic: str) -> tuple[str, bool]:
        """Return the topic's id, and whether this user may read it."""
        names = self._jvm.java.util.Collections.singletonList(topic)
        options = self._jvm.org.apache.kafka.clients.admin.DescribeTopicsOptions().includeAuthorizedOperations(True)
        described = self._admin().describeTopics(names, options).allTopicNames().get().get(topic)
        rights = described.authorizedOperations()  # null where brokers do not tell
        read = self._jvm.org.apache.kafka.common.acl.AclOperation.READ
        return str(described.topicId().toString()), rights is None or bool(rights.contains(read))

    def _patiently(self, call: Callable[[], Result], topic: str) -> Result:
        """Return what `call` does, called again while what is wrong may pass, for up to `server_timeout_s` seconds."""
        start = time.monotonic()
        logged = 0.0
        while True:
            try:
                return call()
            except Py4JJavaError as error:
                trouble = explain(_causes(error), self._settings, topic)
            waited = time.monotonic() - start
            if waited >= self._settings.server_timeout_s:
                raise type(trouble)(f"{trouble}; gave up after {waited:.0f} s (--server-timeout-s)")
            if waited >= logged:
                log.warning("%s; waiting (%.0f of %.0f s)", trouble, waited, self._settings.server_timeout_s)
                logged = max(2 * waited, 5.0)
            time.sleep(PAUSE_S)


def lost(found: str) -> str:
    """Return what is wrong when records are gone that were not read."""
    return (
        "records that were not yet read are gone from Kafka (deleted by retention, or the topic was made anew): "
        f"{found}; going on would lose them silently; to go on without them start anew with another --checkpoint and "
        "--index-prefix, and give the topics a longer retention.ms"
    )


def made_anew(topics: str) -> str:
    """Return what is wrong with topics whose records are no longer those that were read before."""
    return (
        f"topic {topics} was deleted and made anew since the stream began: its offsets mean other records now; start "
        "anew, too, with another --checkpoint and --index-prefix"
    )


def explain(causes: Mapping[str, str], settings: Settings, topic: str) -> StreamError:
    """Return the error for a failure's `causes` (class name → message) if it may pass, else raise it."""
    where = f"Kafka at {settings.kafka_bootstrap} (--kafka-bootstrap / KAFKA_BOOTSTRAP)"
    if not causes.keys().isdisjoint(LOGIN_ERRORS):
        raise ConfigError(
            f"{where} refused the login of user {settings.kafka_user}: check --kafka-user, --kafka-password-file and "
            "--kafka-sasl-mechanism"
        )
    if "SslAuthenticationException" in causes:
        raise ConfigError(
            f"{where}: the TLS handshake failed: check that --kafka-ca-file ({settings.kafka_ca_file or 'not set'}) is "
            f"the CA of the broker's certificate and that the port speaks {settings.kafka_security_protocol} "
            "(--kafka-security-protocol)"
        )
    user = settings.kafka_user or "(anonymous)"
    if "GroupAuthorizationException" in causes:
        raise Refused(f"{where} does not let user {user} use groups: it needs the ACL Read on spark-kafka-source-*")
    if any("AuthorizationException" in name for name in causes):
        raise Refused(f"{where} does not let user {user} read topic {topic}: it needs the ACL Read on it")
    if "UnknownTopicOrPartitionException" in causes:
        flag = "train" if topic == settings.kafka_train_topic else "test"
        return ConfigError(
            f"{where} has no topic {topic}: create it, or correct --kafka-{flag}-topic / KAFKA_{flag.upper()}_TOPIC"
        )
    if "ConfigException" in causes and "resolvable" not in causes["ConfigException"]:
        raise ConfigError(f"{where}: {causes['ConfigException']}")
    if "InvalidConfigurationException" in causes:
        raise ConfigError(f"--kafka-ca-file / KAFKA_CA_FILE: {causes['InvalidConfigurationException']}")
    protocol = settings.kafka_security_protocol
    return ServerUnavailable(f"{where} does not answer, or does not speak {protocol} (--kafka-security-protocol)")


def _causes(error: Py4JJavaError) -> dict[str, str]:
    causes: dict[str, str] = {}
    throwable = error.java_exception
    while throwable is not None and len(causes) < 10:
        causes[throwable.getClass().getSimpleName()] = str(throwable.getMessage())
        throwable = throwable.getCause()
    return causes


def _referable(file: Path) -> bool:
    return not re.search(r'[:{}"\\]', str(file.absolute()))


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
