"""Names of objects: unchanged for short names of releases, valid for long ones, also where operators add to them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.charts.rendering import CHART, LOADER, NAMESPACE, Object, find, helm, refusal

pytestmark = pytest.mark.helm

LABEL = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?")
"""The name of a Service (RFC 1035), which is also valid for each other kind, and as the value of a label."""
LONG = "a-very-long-name-of-an-argo-cd-application-in-env-prod"[:53]
"""Helm allows 53 characters."""
OF_WEAR = {
    "ConfigMap": {"wear-producer", "wear-test"},
    "Elasticsearch": {"wear"},
    "Kafka": {"wear"},
    "KafkaNodePool": {"wear-dual"},
    "KafkaTopic": {"wear-test", "wear-train"},
    "KafkaUser": {"wear-app", "wear-producer"},
    "Kibana": {"wear"},
    "PersistentVolumeClaim": {"wear-checkpoint"},
    "Pod": {"wear-test"},
    "Role": {"wear-driver", "wear-test"},
    "RoleBinding": {"wear-driver", "wear-test"},
    "Secret": {"wear-app-elasticsearch", "wear-dashboards-elasticsearch", "wear-elasticsearch-roles", "wear-viewer"},
    "ServiceAccount": {"wear-driver", "wear-executor", "wear-test"},
    "SparkApplication": {"wear"},
}
"""Names of a release `wear`. A change would lose its data, or restart its parts."""


def rendered(release: str, *words: str | Path) -> list[Object]:
    done = helm("template", release, CHART, "-n", NAMESPACE, *words)
    assert done.returncode == 0, done.stderr
    return [found for found in yaml.load_all(done.stdout, LOADER) if found]


def begin(objects: list[Object]) -> str:
    """Return the name with which all names of the release begin."""
    return str(find(objects, "SparkApplication")["metadata"]["name"])


def derived(manifest: Object) -> Iterator[str]:
    """Yield the names that operators and Spark derive from that of an object, as their sources say."""
    name, spec = manifest["metadata"]["name"], manifest.get("spec", {})
    if manifest["kind"] == "Kafka":
        yield from (f"{name}-kafka-bootstrap", f"{name}-kafka-brokers", f"{name}-entity-operator")
        yield from (f"{name}-cluster-ca-cert", f"{name}-network-policy-kafka")
    elif manifest["kind"] == "KafkaNodePool":
        pods = f"{manifest['metadata']['labels']['strimzi.io/cluster']}-{name}"
        yield from (pods, f"{pods}-{spec['replicas'] - 1}", f"data-0-{pods}-{spec['replicas'] - 1}")
    elif manifest["kind"] == "Elasticsearch":
        nodes = f"{name}-es-{spec['nodeSets'][0]['name']}"
        yield from (f"{name}-es-http", f"{name}-es-internal-http", f"{name}-es-transport")
        yield from (
            f"{nodes}-es-transport-certs",
            f"{nodes}-{spec['nodeSets'][0]['count'] - 1}",
            f"elasticsearch-data-{nodes}-0",
        )
    elif manifest["kind"] == "Kibana":
        yield from (f"{name}-kb-http", f"{name}-kb-0123456789-abcde")
    elif manifest["kind"] == "SparkApplication":
        resources = f"{name}-{'0' * 16}"  # Spark: name of the application, and a number
        yield from (f"{name}-driver", f"{name}-ui-svc", f"{resources}-driver-svc", f"{resources}-exec-1234567890")


@pytest.mark.parametrize("release", ["wear", "a" * 24, "a" * 25, LONG])
def test_names_are_valid_also_those_that_operators_derive(release: str, shape: Path) -> None:
    names = {
        name
        for found in rendered(release, "-f", shape)
        for name in [found["metadata"]["name"], *derived(found)]
        if not (found["kind"] == "KafkaTopic" and shape.stem.startswith("own-model"))  # a topic with a dot
    }
    assert sorted(name for name in names if not LABEL.fullmatch(name)) == []


def test_names_are_those_of_earlier_versions() -> None:
    found: dict[str, set[str]] = {}
    for manifest in rendered("wear"):
        found.setdefault(manifest["kind"], set()).add(manifest["metadata"]["name"])
    assert {kind: found[kind] for kind in OF_WEAR} == OF_WEAR
    assert begin(rendered("a" * 24)) == "a" * 24


def test_a_long_name_is_shortened_to_a_name_of_its_own() -> None:
    """Two applications of Argo CD often differ only at their ends."""
    objects, others = rendered(LONG), rendered(f"{LONG[:-1]}x")
    name = begin(objects)
    assert re.fullmatch(f"{LONG[:15].rstrip('-')}-[0-9a-f]{{8}}", name)
    assert name == begin(rendered(LONG)) != begin(others)
    for manifest in objects:
        assert manifest["metadata"]["name"].startswith(name)
        assert manifest["metadata"]["labels"]["app.kubernetes.io/instance"] == LONG


def test_the_parts_find_each_other_by_the_shortened_name() -> None:
    objects = rendered(LONG)
    name = begin(objects)
    assert find(objects, "KafkaNodePool")["metadata"]["labels"]["strimzi.io/cluster"] == name
    assert find(objects, "Kibana")["spec"]["elasticsearchRef"]["name"] == name
    text = yaml.safe_dump(find(objects, "SparkApplication"))
    for address in (f"{name}-kafka-bootstrap:9093", f"https://{name}-es-http:9200", f"claimName: {name}-checkpoint"):
        assert address in text
    without = [
        {key: value for key, value in manifest.items() if key != "metadata"}
        for manifest in objects
        if manifest["kind"] in {"Kafka", "KafkaTopic", "KafkaUser", "Elasticsearch", "Role", "Secret"}
    ]
    labels = f"app.kubernetes.io/instance: {LONG}"
    assert LONG not in yaml.safe_dump(without).replace(labels, "")


@pytest.mark.parametrize(
    ("values", "name", "label"),
    [
        ({"nameOverride": "ml"}, "wear-ml", "ml"),
        ({"nameOverride": "wea"}, "wear", "wea"),  # the release's name contains it
        ({"fullnameOverride": "other"}, "other", "streaming-ml"),
        ({"fullnameOverride": "other", "nameOverride": "ml"}, "other", "ml"),
    ],
)
def test_names_can_be_chosen(values: dict[str, str], name: str, label: str) -> None:
    objects = rendered("wear", *(word for key, value in values.items() for word in ("--set", f"{key}={value}")))
    for manifest in objects:
        assert manifest["metadata"]["name"].startswith(name)
        assert manifest["metadata"]["labels"]["app.kubernetes.io/name"] == label
        assert manifest["metadata"]["labels"]["app.kubernetes.io/instance"] == "wear"


@pytest.mark.parametrize("release", ["1st", "has.dot"])
def test_a_name_that_no_service_may_have_is_refused_with_the_way_out(release: str) -> None:
    assert f"the release's name {release}" in refusal({}, release=release)
    assert "set fullnameOverride" in refusal({}, release=release)
    assert refusal({"fullnameOverride": "first"}, release=release) == ""
