"""The API server accepts each object: no unknown field, no missing field, and each field has its type."""

from __future__ import annotations

import os
import shutil
from copy import deepcopy
from typing import Any

import jsonschema
import pytest
from kubernetes import client

from tests.charts import crds
from tests.charts.rendering import CHART, Object, pods, render

pytestmark = pytest.mark.helm


@pytest.fixture(scope="session")
def schemas() -> dict[crds.Kind, Any]:
    """The validator of each kind of objects."""
    found = crds.kubernetes() | crds.strimzi() | crds.spark()
    if shutil.which("go") or os.environ.get("CI"):  # these schemas need Go
        found |= crds.eck() | crds.prometheus()
    return {kind: jsonschema.Draft202012Validator(schema) for kind, schema in found.items()}


def wrong(manifest: Object, schemas: dict[crds.Kind, Any]) -> list[str]:
    """Return the faults of an object."""
    kind = manifest["apiVersion"], manifest["kind"]
    if kind not in schemas and manifest["apiVersion"].endswith(("k8s.elastic.co/v1", "monitoring.coreos.com/v1")):
        pytest.skip("NOT RUN: objects of ECK and of the Prometheus operator, because Go is missing")
    return [f"{error.json_path}: {error.message}" for error in schemas[kind].iter_errors(manifest)]


def test_every_object_is_valid(objects: list[Object], schemas: dict[crds.Kind, Any]) -> None:
    for manifest in objects:
        assert wrong(manifest, schemas) == [], f"{manifest['kind']} {manifest['metadata']['name']}"


def test_every_pod_in_an_operators_object_is_valid(objects: list[Object]) -> None:
    """ECK and Strimzi pass the pods on to Kubernetes."""
    validator = jsonschema.Draft202012Validator(crds.of_model(client.V1PodTemplateSpec))
    for name, pod in pods(objects):
        assert [error.message for error in validator.iter_errors({"metadata": {}, **pod})] == [], name


def test_objects_have_names_of_their_own(objects: list[Object]) -> None:
    names = [(manifest["kind"], manifest["metadata"]["name"]) for manifest in objects]
    assert len({*names}) == len(names)


@pytest.mark.parametrize(
    ("kind", "path", "value"),
    [
        ("Kafka", ["spec", "kafka", "listeners", 0, "tsl"], True),
        ("Kafka", ["spec", "kafka", "listeners", 0, "port"], "9093"),
        ("KafkaNodePool", ["spec", "storage", "volumes", 0, "deleteClaims"], False),
        ("KafkaTopic", ["spec", "partition"], 3),
        ("KafkaUser", ["spec", "authorization", "acls", 0, "operations"], ["Eat"]),
        ("Elasticsearch", ["spec", "nodeSet"], []),
        ("Elasticsearch", ["spec", "nodeSets", 0, "volumeClaimTemplates", 0, "spec", "acessModes"], []),
        ("Elasticsearch", ["spec", "nodeSets", 0, "podTemplate", "spec", "container"], []),
        ("Kibana", ["spec", "counts"], 1),
        ("Kibana", ["spec", "podTemplate", "spec", "securityContext", "runAsUser"], "1000"),
        ("SparkApplication", ["spec", "driver", "lifecyle"], {}),
        ("SparkApplication", ["spec", "driver", "cores"], "one"),
        ("SparkApplication", ["spec", "driver", "ports", 0, "port"], 1),
        ("PodMonitor", ["spec", "podMetricsEndpoints", 0, "pth"], "/metrics"),
        ("PrometheusRule", ["spec", "groups", 0, "rules", 0, "fro"], "5m"),
        ("Job", ["spec", "template", "spec", "container"], []),
        ("Job", ["spec", "activeDeadlineSeconds"], "1800"),
        ("Pod", ["spec", "containers"], None),
        ("NetworkPolicy", ["spec", "egres"], []),
    ],
)
def test_a_wrong_field_would_be_found(kind: str, path: list[Any], value: object, schemas: dict[crds.Kind, Any]) -> None:
    objects = [*render(), *render(CHART / "ci" / "monitoring-values.yaml")]
    spoilt = deepcopy(next(found for found in objects if found["kind"] == kind))
    *parents, last = path
    part = spoilt
    for name in parents:
        part = part[name]
    part[last] = value
    assert wrong(spoilt, schemas)
