"""The connection to Kafka, and ranges of offsets; used on the driver and on the executors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from confluent_kafka import KafkaError, KafkaException

from streaming_regression import secret
from streaming_regression.errors import ConfigError

Client = TypeVar("Client")


Place = tuple[str, int]
"""Topic and partition."""


class Range(NamedTuple):
    """The offsets start <= offset < end of one partition."""

    topic: str
    partition: int
    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Connection:
    """Where the brokers are and how to log in.

    The object travels to executors. It names the file with the password, never the password: each process reads the
    file when it opens a client.
    """

    bootstrap: str
    train_topic: str
    test_topic: str
    security_protocol: str = "PLAINTEXT"
    sasl_mechanism: str = "SCRAM-SHA-512"
    user: str | None = None
    password_file: Path | None = None
    ca_file: Path | None = None

    @property
    def where(self) -> str:
        """The brokers' name in messages."""
        return f"Kafka at {self.bootstrap} (--kafka-bootstrap / KAFKA_BOOTSTRAP)"

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
            When the password file cannot be read, or librdkafka cannot use a setting.
        """
        config: dict[str, Any] = {
            "bootstrap.servers": self.bootstrap,
            "client.id": "streaming-regression",
            "security.protocol": self.security_protocol,
            "reconnect.backoff.max.ms": 1000,  # a broker that comes back is found within about a second
            "socket.keepalive.enable": True,
            "log_level": 0,  # librdkafka reports the same to `on_error`
            "error_cb": on_error,
        }
        if self.ca_file:
            config["ssl.ca.location"] = str(self.ca_file)
        if self.password_file and self.security_protocol.startswith("SASL"):
            config["sasl.mechanism"] = self.sasl_mechanism
            config["sasl.username"] = self.user
            config["sasl.password"] = secret.read(self.password_file, "kafka_password_file")
        try:
            return kind(config | options)
        except KafkaException as error:
            text = error.args[0].str()
            if "ssl.ca.location" in text:
                raise ConfigError(
                    f"--kafka-ca-file / KAFKA_CA_FILE: {self.ca_file} contains no readable certificate in PEM format"
                ) from error
            raise ConfigError(f"{self.where}: {text}") from error
