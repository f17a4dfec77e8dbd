"""Converts Kafka's errors to errors of this program."""

from __future__ import annotations

from collections.abc import Iterable

from confluent_kafka import KafkaError

from streaming_regression.errors import ConfigError, KafkaUnavailable, Refused, StreamError, TopicMissing
from streaming_regression.kafka.connection import Connection
from streaming_regression.kafka.login import BROKEN, certificate_failure, token_failure

LOGIN = frozenset(
    [KafkaError._AUTHENTICATION, KafkaError.SASL_AUTHENTICATION_FAILED, KafkaError.UNSUPPORTED_SASL_MECHANISM]
)
NO_TOPIC = frozenset([KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC, KafkaError._UNKNOWN_PARTITION])
WRONG_TLS = ("certificate verify failed", "wrong version number", "unsupported protocol", "unknown ca", "alert")
"""Parts of OpenSSL's messages about permanent faults; a handshake that fails otherwise may succeed next time."""


def permanent(errors: Iterable[KafkaError], connection: Connection, topic: str) -> StreamError | None:
    """Return the error that ends the program if one of `errors` is permanent, else None."""
    for error in errors:
        code, text = error.code(), error.str()
        if message := certificate_failure(text, connection.login):
            return ConfigError(f"{connection.where}: {message}")
        if token := token_failure(text, connection.login):
            message, passes = token
            if passes:
                continue
            return ConfigError(message)
        if code in LOGIN and BROKEN not in text:
            return _refused_login(connection)
        if code == KafkaError._SSL and any(reason in text for reason in WRONG_TLS):
            ca, protocol = connection.login.ca_file or "not set", connection.login.security_protocol
            return ConfigError(
                f"{connection.where}: the TLS handshake failed: check that --kafka-ca-file ({ca}) is the CA of the "
                f"broker's certificate and that the port uses {protocol} (--kafka-security-protocol)"
            )
        if code == KafkaError.TOPIC_AUTHORIZATION_FAILED:
            return no_right_to_read(connection, topic)
    return None


def _refused_login(connection: Connection) -> ConfigError:
    settings = "--kafka-user, --kafka-password-file and --kafka-sasl-mechanism"
    if connection.login.oauth:
        settings = "that the brokers trust the token endpoint's issuer and accept its tokens (audience, scope, subject)"
    return ConfigError(f"{connection.where} refused the login of {connection.user}: check {settings}")


def passing(errors: Iterable[KafkaError], connection: Connection, topic: str) -> StreamError:
    """Return the error for `errors` that may pass; its message is logged while the program waits."""
    if no_topic(errors):
        flag = "train" if topic == connection.train_topic else "test"
        return TopicMissing(
            f"{connection.where} has no topic {topic}: create it, or correct --kafka-{flag}-topic / "
            f"KAFKA_{flag.upper()}_TOPIC"
        )
    if tokens := [token for error in errors if (token := token_failure(error.str(), connection.login))]:
        return KafkaUnavailable(tokens[-1][0])
    return KafkaUnavailable(
        f"{connection.where} does not answer, or does not speak {connection.login.security_protocol} "
        "(--kafka-security-protocol)"
    )


def no_topic(errors: Iterable[KafkaError]) -> bool:
    """Return whether a broker says that it has no such topic."""
    return any(error.code() in NO_TOPIC for error in errors)


def no_right_to_read(connection: Connection, topic: str) -> Refused:
    """Return the error for a user that may not read `topic`."""
    return Refused(
        f"{connection.where} does not let {connection.user} read topic {topic}: give the user the ACL Read on it"
    )


def lost(topic: str, partition: int, first: int, end: int, wanted: int) -> Refused:
    """Return the error for records that were deleted before they were read.

    first, end : the offsets that the partition holds, first <= offset < end.    wanted : the next offset to read.
    """
    new_run = "start a new run with another --checkpoint and --index-prefix"
    remedy = f"use --on-data-loss continue to skip them and record the gap in a document, or {new_run}"
    if wanted > end:
        remedy = f"Kafka may give the missing offsets to other records, so the run cannot continue: {new_run}"
    return Refused(
        "records were deleted from Kafka before they were read (by retention, or because the topic was recreated): "
        f"{topic}-{partition} holds offsets {first} to {end}, but the next offset to read is {wanted}; {remedy}; and "
        "give the topics a longer retention.ms"
    )


def recreated(topics: str) -> Refused:
    """Return the error for topics that were deleted and recreated: their offsets now refer to other records."""
    return Refused(
        f"topic {topics} was deleted and recreated since the stream began: its offsets now refer to other records; "
        "start a new run with another --checkpoint and --index-prefix"
    )
