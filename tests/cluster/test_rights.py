"""Each program has the rights that it needs, and no others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from elasticsearch import ApiError, Elasticsearch

from tests.cluster.system import JOB, System

KAFKA_USER = Path(__file__).with_name("kafka_user.py").read_text()
Ask = Callable[[str, str, str], str]


@pytest.fixture(scope="module")
def kafka(system: System) -> Iterator[Ask]:
    """Send requests to Kafka as a user, from a pod with the producer's labels; there is also a topic `other`."""
    users = ("streaming-ml-app", "streaming-ml-producer")
    pod = yaml.safe_load(JOB.read_text())["spec"]["template"]
    pod |= {"apiVersion": "v1", "kind": "Pod"}
    pod["metadata"]["name"] = "kafka-user"
    (container,) = pod["spec"]["containers"]
    container |= {"command": ["tini", "--", "sleep", "3600"], "env": []}
    container["volumeMounts"] += [{"name": user, "mountPath": f"/users/{user}"} for user in users]
    pod["spec"]["volumes"] += [{"name": user, "secret": {"secretName": user}} for user in users]
    topic = {
        "apiVersion": "kafka.strimzi.io/v1",
        "kind": "KafkaTopic",
        "metadata": {"name": "other", "labels": {"strimzi.io/cluster": system.release}},
        "spec": {"partitions": 1, "replicas": 1},
    }
    system.cluster.apply(system.namespace, pod, topic)
    kubectl = system.cluster.kubectl
    for client, what in (("pod/kafka-user", "Ready"), ("kafkatopic/other", "Ready")):
        kubectl("wait", "--namespace", system.namespace, client, f"--for=condition={what}", "--timeout=120s")

    def ask(user: str, action: str, name: str) -> str:
        inside = ("exec", "--namespace", system.namespace, "--stdin", "kafka-user", "--", "python", "-", user)
        return kubectl(*inside, action, name, stdin=KAFKA_USER).strip()

    yield ask
    kubectl("delete", "--namespace", system.namespace, "kafkatopic/other", "pod/kafka-user", "--grace-period=1")


@pytest.mark.parametrize(
    ("user", "action", "topic", "answer"),
    [
        ("app", "read", "train", "ok"),
        ("app", "write", "train", "TOPIC_AUTHORIZATION_FAILED"),
        ("app", "write", "test", "TOPIC_AUTHORIZATION_FAILED"),
        ("app", "read", "other", "TOPIC_AUTHORIZATION_FAILED"),
        ("app", "join", "train", "GROUP_AUTHORIZATION_FAILED"),
        ("producer", "read", "train", "ok"),  # to find, after a restart, the records that it has sent
        ("producer", "write", "other", "TOPIC_AUTHORIZATION_FAILED"),
        ("producer", "read", "other", "TOPIC_AUTHORIZATION_FAILED"),
        ("producer", "join", "train", "GROUP_AUTHORIZATION_FAILED"),
    ],
)
def test_kafka_user(kafka: Ask, user: str, action: str, topic: str, answer: str) -> None:
    assert kafka(f"streaming-ml-{user}", action, topic) == answer


Call = Callable[[Elasticsearch], Any]
CALLS: dict[str, Call] = {
    "read a point": lambda client: client.search(index="spark-points-*", size=1),
    "write a point": lambda client: client.index(index="spark-points-1970.01.01", document={}),
    "read another index": lambda client: client.search(index="other", size=1),
    "write another index": lambda client: client.index(index="other", document={"a": 1}),
    "make another index": lambda client: client.indices.create(index="another"),
    "delete another index": lambda client: client.indices.delete(index="other"),
    "refresh points": lambda client: client.indices.refresh(index="spark-points-*"),
    "make a day's index": lambda client: client.indices.create(index="spark-points-1970.01.01"),
    "claim a prefix": lambda client: client.create(index="spark-run", id="run", document={"run": "x"}),
    "see what an index would get": lambda client: client.indices.simulate_index_template(
        name="spark-points-1970.01.01"
    ),
    "delete points": lambda client: client.indices.delete(index="spark-points-1970.01.01"),
    "change the cluster": lambda client: client.cluster.put_settings(persistent={"cluster.max_shards_per_node": 999}),
    "install a template": lambda client: client.indices.put_index_template(
        name="spark-x", index_patterns=["spark-x-*"]
    ),
}
ALLOWED = {
    "app-elasticsearch": {
        *("read a point", "refresh points", "delete points", "install a template"),
        *("make a day's index", "claim a prefix", "see what an index would get"),
    },
    "dashboards-elasticsearch": {"install a template", "see what an index would get", "make a day's index"},
    "viewer": {"read a point"},
}


@pytest.mark.parametrize("user", ALLOWED)
def test_elasticsearch_user(system: System, user: str) -> None:
    """Requests beyond the rights get 403; the app does not `write a point`, because that would add a document.

    The prefix is already claimed, so a user who has the right to claim it gets 409.
    """
    with system.search() as client:
        client.index(index="other", document={"a": 1}, refresh=True)
    login = system.cluster.secret(system.namespace, f"{system.release}-{user}")
    answers = {}
    with system.search(login["username"].decode(), login["password"].decode()) as client:
        for name, call in CALLS.items():
            if user.startswith("app") and name == "write a point":
                continue
            try:
                call(client)
            except ApiError as error:
                answers[name] = error.status_code
            else:
                answers[name] = 200
    allowed = {name for name, status in answers.items() if status != 403}
    with system.search() as client:
        client.indices.delete(index="other")
        client.options(ignore_status=404).indices.delete_index_template(name="spark-x")
    assert allowed == ALLOWED[user], answers


def test_a_wrong_password_is_refused(system: System) -> None:
    with pytest.raises(ApiError, match="401"), system.search("elastic", "wrong") as client:
        client.info()
