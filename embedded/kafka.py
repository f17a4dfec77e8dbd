"""A real Kafka broker for tests and demos: one node, which is its own controller."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]

from embedded import jars
from embedded.jvm import Jvm, machine_java
from embedded.server import HOST, Server, free_port

TOPICS = ("train", "test")
PARTITIONS = 3
CLUSTER_ID = "c3RyZWFtaW5nLW1sLWxvYw"
MAX_MESSAGE_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Tls:
    """Certificate chain and key of a TLS listener, as PEM texts; the key is PKCS #8 (`BEGIN PRIVATE KEY`)."""

    certificate_chain_pem: str
    key_pem: str


class Kafka(Server):
    """A real Kafka in a JVM that ends with this process: one broker, which is its own controller (KRaft).

    Use it as a context manager, or call `start` and, at the end, `close`. After `stop` or `kill`, another `start` uses
    the same ports and data.

    Parameters
    ----------
    port, data, heap, timeout_s
        As for every `Server`; `port` is that of the plaintext listener.
    properties
        Broker properties in addition to the defaults, as in server.properties. For ACLs: `authorizer.class.name`
        `org.apache.kafka.metadata.authorizer.StandardAuthorizer` and `super.users` `User:ANONYMOUS` (the plaintext
        listener's only user).
    tls
        Adds a listener with TLS, at `secure_bootstrap`.
    scram_users
        Passwords, without commas, by user name; the TLS listener then requires SASL with SCRAM-SHA-512. They are
        stored only in a new data folder.
    """

    name = "kafka"

    def __init__(
        self,
        *,
        port: int = 0,
        data: str | os.PathLike[str] | None = None,
        heap: str = "512m",
        properties: Mapping[str, str] | None = None,
        tls: Tls | None = None,
        scram_users: Mapping[str, str] | None = None,
        timeout_s: float = 120,
    ) -> None:
        super().__init__(port=port, data=data, heap=heap, timeout_s=timeout_s)
        self._properties = dict(properties or {})
        self._tls = tls
        self._tls_port = free_port() if tls else 0
        self._scram_users = dict(scram_users or {})

    @property
    def bootstrap(self) -> str:
        """The address of the plaintext listener."""
        return f"{HOST}:{self.port}"

    @property
    def secure_bootstrap(self) -> str:
        """The address of the TLS listener."""
        return f"{HOST}:{self._tls_port}"

    def create_topics(self, names: Iterable[str] = TOPICS, *, partitions: int = PARTITIONS) -> None:
        """Create topics and return when they are ready; existing topics are not changed."""
        admin = self._admin()
        existing = admin.list_topics(timeout=self.timeout_s).topics
        new = [name for name in names if name not in existing]
        if new:
            created = admin.create_topics([NewTopic(name, num_partitions=partitions) for name in new])
            for future in created.values():
                future.result()
            self._wait_until(lambda: self._not_ready(new))

    def _admin(self) -> Any:  # noqa: ANN401 (confluent_kafka has no types)
        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})

    def _launch(self, lock: int) -> Jvm:
        (folder,) = jars.fetch(jars.KAFKA)
        options = [
            f"-Xms{self.heap}",
            f"-Xmx{self.heap}",
            f"-Dlog4j2.configurationFile={self.data / 'config' / 'log4j2.properties'}",
            "-Dlog4j.shutdownHookEnabled=false",
        ]
        return Jvm(machine_java(), sorted(folder.iterdir()), options, log=self.log, inherit=[lock])

    def _boot(self, jvm: Jvm, view: Any) -> tuple[Any, str]:  # noqa: ANN401
        properties = view.java.util.Properties()
        properties.putAll(self._broker_properties())
        config = view.kafka.server.KafkaConfig.fromProps(properties)
        arguments = ["format", "--cluster-id", CLUSTER_ID, "--ignore-formatted", "--config", "none, it is given below"]
        for user, password in self._scram_users.items():
            arguments += ["--add-scram", f"SCRAM-SHA-512=[name={user},password={password}]"]
        tool = view.kafka.tools.StorageTool
        tool.runFormatCommand(tool.parseArguments(jvm.array(*arguments)), config, view.System.err)
        broker = view.kafka.server.KafkaRaftServer(config, view.org.apache.kafka.common.utils.Time.SYSTEM)
        broker.startup()
        return broker, "shutdown"

    def _broker_properties(self) -> dict[str, str]:
        controller = f"{HOST}:{free_port()}"
        properties = {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@{controller}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SSL:SSL,SASL_SSL:SASL_SSL",
            "listeners": f"PLAINTEXT://{self.bootstrap},CONTROLLER://{controller}",
            "log.dirs": str(self.data / "data"),
            "log.retention.ms": "-1",  # else records with timestamps of 2013 would be deleted at once
            "message.max.bytes": str(MAX_MESSAGE_BYTES),
            "auto.create.topics.enable": "false",
            "group.initial.rebalance.delay.ms": "0",
        }
        for topic in ("offsets.topic", "transaction.state.log", "share.coordinator.state.topic"):
            properties[f"{topic}.replication.factor"] = properties[f"{topic}.num.partitions"] = "1"
        for topic in ("transaction.state.log", "share.coordinator.state.topic"):
            properties[f"{topic}.min.isr"] = "1"
        if self._tls:
            listener = "SASL_SSL" if self._scram_users else "SSL"
            properties |= {
                "listeners": f"{properties['listeners']},{listener}://{self.secure_bootstrap}",
                "ssl.keystore.type": "PEM",
                "ssl.keystore.certificate.chain": self._tls.certificate_chain_pem,
                "ssl.keystore.key": self._tls.key_pem,
                "sasl.enabled.mechanisms": "SCRAM-SHA-512",
                "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": (
                    "org.apache.kafka.common.security.scram.ScramLoginModule required;"
                ),
            }
        return properties | self._properties

    def _missing(self) -> str:
        return self._not_ready([])

    def _not_ready(self, names: Iterable[str]) -> str:
        """Return a message with the `names` that the broker does not know yet and all topics without a leader."""
        try:
            topics = self._admin().list_topics(timeout=10).topics
        except KafkaException as error:
            return f"the request for its topics failed ({error.args[0].str()})"
        unknown = [name for name in names if name not in topics]
        unled = [name for name, topic in topics.items() if any(p.leader < 0 for p in topic.partitions.values())]
        return f"no leader yet for {', '.join(unknown + unled)}" if unknown or unled else ""
