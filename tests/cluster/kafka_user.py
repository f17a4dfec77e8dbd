"""Tests a user's rights in Kafka; run it in a pod: `python - USER ACTION TOPIC`. It writes `ok` or the error's name.

ACTION is `write`, `read`, or `join`, which reads as a member of the group TOPIC-group.
"""

import sys
import time
from pathlib import Path

from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

ANSWER_WITHIN_S = 20.0


def main(user: str, action: str, topic: str) -> str:
    config = {
        "bootstrap.servers": "streaming-ml-kafka-bootstrap:9093",
        "security.protocol": "SASL_SSL",
        "sasl.mechanism": "SCRAM-SHA-512",
        "sasl.username": user,
        "sasl.password": Path("/users", user, "password").read_text(),
        "ssl.ca.location": "/etc/kafka-ca/ca.crt",
        "log_level": 0,
    }
    return write(config, topic) if action == "write" else read(config, topic, join=action == "join")


def write(config: dict[str, object], topic: str) -> str:
    answers: list[KafkaError | None] = []
    producer = Producer(config)
    producer.produce(topic, b"{}", on_delivery=lambda error, _: answers.append(error))
    producer.flush(ANSWER_WITHIN_S)
    return said(*answers) if answers else "no answer"


def read(config: dict[str, object], topic: str, *, join: bool) -> str:
    own = {"group.id": f"{topic}-group", "enable.auto.commit": False, "auto.offset.reset": "earliest"}
    consumer = Consumer(config | own | {"enable.partition.eof": True})
    if join:
        consumer.subscribe([topic])
    elif error := consumer.list_topics(topic, timeout=ANSWER_WITHIN_S).topics[topic].error:
        return said(error)
    else:
        consumer.assign([TopicPartition(topic, 0, 0)])
    deadline = time.monotonic() + ANSWER_WITHIN_S
    try:
        while time.monotonic() < deadline:
            answer = said(message.error()) if (message := consumer.poll(1)) else ""
            if answer and (
                join or answer != "GROUP_AUTHORIZATION_FAILED"
            ):  # the client looks up its group even if it does not use it
                return answer
        return "no answer"
    finally:
        consumer.close()


def said(error: KafkaError | None) -> str:
    return "ok" if error is None or error.code() == KafkaError._PARTITION_EOF else error.name()


if __name__ == "__main__":
    sys.stdout.write(main(*sys.argv[1:]))
