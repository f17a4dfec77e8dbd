"""The connection to Kafka, and ranges of offsets; used on the driver and on the executors."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

from confluent_kafka import KafkaError, KafkaException

from streaming_regression.kafka.login import Login, client_config, wrong_config

Client = TypeVar("Client")


Place = tuple[str, int]
"""Topic and partition."""


class Range(NamedTuple):
    """The offsets start <= offset < end of one partition."""

    topic: str
    partition: int
    start: int
    end: int


NO_LOGIN = Login()
OPTION = "STREAMING_REGRESSION_KAFKA_OPTION"
"""Variable by which all processes of the app get --kafka-option, because Spark shows neither variables nor closures."""


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the brokers are and how to log in.

    The object travels to executors and is shown in Spark's plans. It names the files with secrets, never the secrets:
    each process reads the files when it opens a client.
    """

    bootstrap: str
    train_topic: str
    test_topic: str
    login: Login = NO_LOGIN

    @property
    def where(self) -> str:
        """The brokers' name in messages."""
        return f"Kafka at {self.bootstrap} (--kafka-bootstrap / KAFKA_BOOTSTRAP)"

    @property
    def user(self) -> str:
        """The user's name in messages."""
        login = self.login
        if login.oauth:
            return f"client {login.oauth_client_id}"
        if login.password:
            return f"user {login.user}"
        return "the user of the certificate" if login.certificate_file else "user (anonymous)"

    def open(
        self,
        kind: Callable[[dict[str, Any]], Client],
        on_error: Callable[[KafkaError], None],
        options: dict[str, Any],
    ) -> Client:
        """Return a client of `kind` with `options`; librdkafka reports broken connections to `on_error`.

        Raises
        ------
        ConfigError
            When a file with a secret cannot be read, or librdkafka cannot use a setting.
        """
        given = client_config(self.login, os.environ.get(OPTION, ""))
        config: dict[str, Any] = {
            "bootstrap.servers": self.bootstrap,
            "client.id": "streaming-regression",
            "reconnect.backoff.max.ms": 1000,  # a broker that comes back is found within about a second
            "socket.keepalive.enable": True,
            "log_level": 0,  # librdkafka reports the same to `on_error`
            "error_cb": on_error,
        }
        try:
            return kind(config | options | given)
        except KafkaException as error:
            raise wrong_config(error.args[0].str(), self.login, given) from None  # its text may contain a secret
