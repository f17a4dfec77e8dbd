"""Missing objects of the cluster are reported before the installation: Helm with a simulated Kubernetes API."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
import yaml

from tests.charts.crds import KUBERNETES
from tests.charts.rendering import CHART, NAMESPACE, RELEASE, Object, helm

pytestmark = pytest.mark.helm

OPERATORS = {
    "kafka.strimzi.io/v1": ["Kafka", "KafkaNodePool", "KafkaTopic", "KafkaUser"],
    "elasticsearch.k8s.elastic.co/v1": ["Elasticsearch"],
    "kibana.k8s.elastic.co/v1": ["Kibana"],
    "sparkoperator.k8s.io/v1beta2": ["SparkApplication"],
}


class Api:
    """A simulated API server that knows some kinds, and Secrets by name with their keys."""

    def __init__(self, folder: Path) -> None:
        self.kinds = KUBERNETES | OPERATORS
        self.secrets: dict[str, list[str]] = {}
        self.kafka: dict[str, Object] = {}  # live objects of Strimzi by their path below the namespace
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = api.answer(self.path.partition("?")[0].strip("/"))
                body = json.dumps(found or {"kind": "Status", "apiVersion": "v1", "code": 404, "reason": "NotFound"})
                self.send_response(200 if found else 404)
                self.send_header("Content-Type", "application/json")
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        Thread(target=self.server.serve_forever, daemon=True).start()
        where = {"server": f"http://127.0.0.1:{self.server.server_port}"}
        context = {"cluster": "table", "user": "nobody"}
        self.config = folder / "kubeconfig"
        self.config.write_text(
            yaml.safe_dump(
                {"apiVersion": "v1", "kind": "Config", "current-context": "table"}
                | {"clusters": [{"name": "table", "cluster": where}], "users": [{"name": "nobody", "user": {}}]}
                | {"contexts": [{"name": "table", "context": context}]}
            )
        )

    def answer(self, path: str) -> Object | None:
        """Return the object at a path, or None."""
        secrets = {
            f"api/v1/namespaces/{NAMESPACE}/secrets/{name}": {"kind": "Secret", "apiVersion": "v1"}
            | {"metadata": {"name": name, "namespace": NAMESPACE}, "data": dict.fromkeys(keys, "eA==")}
            for name, keys in self.secrets.items()
        }
        versions = [(version, version.partition("/")) for version in self.kinds if version != "v1"]
        groups = [
            {"name": group, "versions": [{"groupVersion": version, "version": short}]}
            for version, (group, _, short) in versions
        ]
        accounts = {"kind": "ServiceAccountList", "apiVersion": "v1", "metadata": {}, "items": []}
        table: dict[str, Object] = {
            "version": {"major": "1", "minor": "35", "gitVersion": "v1.35.4"},
            "api": {"kind": "APIVersions", "versions": ["v1"]},
            "apis": {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups},
            "api/v1": self._resources("v1"),
            f"api/v1/namespaces/{NAMESPACE}/serviceaccounts": accounts,
            **{f"apis/{version}": self._resources(version) for version, _ in versions},
            **secrets,
            **{f"apis/kafka.strimzi.io/v1/namespaces/{NAMESPACE}/{name}": found for name, found in self.kafka.items()},
        }
        return table.get(path)

    def _resources(self, version: str) -> Object:
        listed = [
            {"name": f"{kind.lower()}s", "kind": kind, "namespaced": True, "verbs": ["get", "list"], "singularName": ""}
            for kind in self.kinds[version]
        ]
        return {"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": version, "resources": listed}

    def install(self, **values: object) -> subprocess.CompletedProcess[str]:
        """Return Helm's output for a dry run of an installation there."""
        words = [word for key, value in values.items() for word in ("--set-json", f"{key}={json.dumps(value)}")]
        flags = ("--dry-run=server", "--disable-openapi-validation", f"--kubeconfig={self.config}")
        return helm("template", RELEASE, CHART, "-n", NAMESPACE, *flags, *words)


@pytest.fixture
def api(tmp_path: Path) -> Iterator[Api]:
    """An API server with all operators and no Secret."""
    started = Api(tmp_path)
    yield started
    started.server.shutdown()
    started.server.server_close()


EXISTING = {
    "kafka": {"enabled": False, "bootstrap": "kafka:9093", "user": "app", "passwordSecret": "kafka", "caSecret": "ca"},
    "elasticsearch": {"enabled": False, "url": "https://search:9200", "caSecret": "ca"}
    | {"appSecret": "app", "dashboardsSecret": "load", "viewerSecret": "viewer"},
    "kibana": {"enabled": False, "url": "https://kibana:5601", "caSecret": "ca"},
}
SECRETS = {"kafka": ["password"], "ca": ["ca.crt"]}
SECRETS |= {name: ["username", "password"] for name in ("app", "load", "viewer")}
NAMED = {
    "kafka.passwordSecret": "password",
    "kafka.caSecret": "ca.crt",
    "elasticsearch.caSecret": "ca.crt",
    "elasticsearch.appSecret": "password",
    "elasticsearch.dashboardsSecret": "username",
    "elasticsearch.viewerSecret": "password",
    "kibana.caSecret": "ca.crt",
}
"""The values that name a Secret, each with a key that the Secret must have."""


def test_with_all_operators_the_chart_installs(api: Api) -> None:
    done = api.install()
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("group", OPERATORS)
def test_a_missing_operator_is_named(api: Api, group: str) -> None:
    kinds = api.kinds.pop(group)
    done = api.install()
    assert done.returncode
    assert f"the cluster does not know {group}/{kinds[0]}, so its operator is missing: install it first" in done.stderr
    assert done.stderr.count("\n  - ") == 1


def test_an_operator_that_is_not_needed_may_be_missing(api: Api) -> None:
    api.kinds = {name: kinds for name, kinds in api.kinds.items() if "Spark" in str(kinds) or name in KUBERNETES}
    api.secrets = dict(SECRETS)
    done = api.install(**EXISTING)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("value", NAMED)
def test_a_secret_that_is_missing_or_lacks_a_key_is_named(api: Api, value: str) -> None:
    group, name = value.split(".")
    api.secrets = SECRETS | {"other": ["else"]}
    for secret, words in (
        ("nobody", f"{value}: there is no Secret nobody in namespace ml"),
        ("other", f"{value}: Secret other has no key {NAMED[value]}"),
    ):
        done = api.install(**EXISTING | {group: {**EXISTING[group], name: secret}})
        assert done.returncode
        assert words in done.stderr


def test_the_secret_for_eck_must_tell_where_elasticsearch_is(api: Api) -> None:
    api.secrets = SECRETS | {"other": ["else"]}
    done = api.install(**EXISTING | {"kibana": {"enabled": True, "elasticsearchSecret": "other"}})
    assert "kibana.elasticsearchSecret: Secret other has no key url" in done.stderr


def test_a_user_of_the_charts_own_elasticsearch_must_have_roles(api: Api) -> None:
    """ECK accepts a user without roles, but the user has no rights: the app would be refused for ever."""
    api.secrets = {"app": ["username", "password"]}
    done = api.install(elasticsearch={"appSecret": "app"})
    assert "elasticsearch.appSecret: Secret app has no key roles" in done.stderr
    api.secrets["app"].append("roles")
    done = api.install(elasticsearch={"appSecret": "app"})
    assert done.returncode == 0, done.stderr


def live(kind: str, name: str, ready: str = "True", **spec: int) -> Object:
    status = {"conditions": [{"type": "Ready", "status": ready}]}
    owner = {"meta.helm.sh/release-name": RELEASE, "meta.helm.sh/release-namespace": NAMESPACE}
    metadata = {"name": name, "namespace": NAMESPACE, "annotations": owner}
    metadata |= {"labels": {"app.kubernetes.io/managed-by": "Helm"}}
    return {"apiVersion": "kafka.strimzi.io/v1", "kind": kind, "metadata": metadata, "spec": spec, "status": status}


@pytest.fixture
def kafka(api: Api) -> Api:
    """A release whose Kafka has three nodes, and topics with six partitions and three copies."""
    pool = live("KafkaNodePool", "streaming-ml-dual", replicas=3)
    topics = [live("KafkaTopic", f"streaming-ml-{name}", partitions=6, replicas=3) for name in ("train", "test")]
    api.kafka = {f"{found['kind'].lower()}s/{found['metadata']['name']}": found for found in (pool, *topics)}
    return api


SHAPE = {"nodes": 3, "partitions": 6, "replicationFactor": 3}


@pytest.mark.parametrize("change", [{}, {"nodes": 5}, {"partitions": 7}, {"minInsyncReplicas": 2}])
def test_kafka_may_keep_its_shape_or_grow(kafka: Api, change: Object) -> None:
    done = kafka.install(kafka=SHAPE | change)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (
            {"nodes": 1, "replicationFactor": 1},
            [
                "kafka.nodes 1: this Kafka has 3 nodes",
                "Set kafka.nodes to 3; for a smaller Kafka, install another release",
            ],
        ),
        (
            {"partitions": 5},
            ["KafkaTopic streaming-ml-train has 6 partitions, and Kafka cannot remove", "Set kafka.partitions to 6"],
        ),
        (
            {"replicationFactor": 1},
            [
                "kafka.replicationFactor 1: the topic of KafkaTopic streaming-ml-test has 3, and Strimzi cannot",
                "set kafka.trainTopic, kafka.testTopic and indexPrefix to new names",
            ],
        ),
    ],
)
def test_a_shape_that_kafka_cannot_take_is_refused_with_the_way_out(
    kafka: Api, change: Object, words: list[str]
) -> None:
    done = kafka.install(kafka=SHAPE | change)
    assert done.returncode
    for word in words:
        assert word in done.stderr


def test_new_topics_may_have_another_shape(kafka: Api) -> None:
    done = kafka.install(kafka=SHAPE | {"replicationFactor": 1, "partitions": 1, "trainTopic": "a", "testTopic": "b"})
    assert done.returncode == 0, done.stderr


def test_values_that_did_not_work_can_be_set_back(kafka: Api) -> None:
    """A KafkaTopic that is not ready shows a wish, which Kafka has not fulfilled."""
    for name in ("train", "test"):
        kafka.kafka[f"kafkatopics/streaming-ml-{name}"] = live(
            "KafkaTopic", f"streaming-ml-{name}", ready="False", partitions=9, replicas=1
        )
    done = kafka.install(kafka=SHAPE)
    assert done.returncode == 0, done.stderr
