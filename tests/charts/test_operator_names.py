"""No object of the chart has the name of an object that an operator creates.

An operator overwrites such an object. Then the next `helm upgrade` fails with a conflict of field managers, and an
installation after `helm uninstall` fails because the object belongs to nobody.

The names are those of Strimzi 1.2.0, ECK 3.5.0 and the Spark operator 2.5.2, from their public sources.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from tests.charts.rendering import CHART, Object, helm

pytestmark = pytest.mark.helm

NAMES: dict[str, dict[str, list[str]]] = {
    # strimzi/strimzi-kafka-operator, api/src/main/java/io/strimzi/api/kafka/model/kafka/KafkaResources.java,
    # …/kafka/cruisecontrol/CruiseControlResources.java, …/kafka/exporter/KafkaExporterResources.java; Roles in
    # cluster-operator/…/model/KafkaCluster.java and EntityOperator.java; nodes in …/model/KafkaPool.java
    "Kafka": {
        "NetworkPolicy": [
            *("{name}-network-policy-kafka", "{name}-entity-operator"),
            *("{name}-network-policy-cruise-control", "{name}-kafka-exporter"),
        ],
        "Secret": [
            *("{name}-cluster-ca", "{name}-cluster-ca-cert", "{name}-clients-ca", "{name}-clients-ca-cert"),
            *("{name}-cluster-operator-certs", "{name}-trustbundle", "{name}-kafka-jmx", "{name}-kafka-exporter-certs"),
            *("{name}-entity-(topic|user)-operator-certs", "{name}-entity-topic-operator-cc-api"),
            "{name}-cruise-control-(api|certs)",
        ],
        "ConfigMap": [
            *("{name}-kafka-config", "{name}-entity-(topic|user)-operator-config", "{name}-cruise-control-config"),
        ],
        "Service": ["{name}-kafka-.*", "{name}-cruise-control"],
        "ServiceAccount": ["{name}-kafka", "{name}-entity-operator", "{name}-cruise-control", "{name}-kafka-exporter"],
        "Role": ["{name}-kafka", "{name}-entity-operator"],
        "RoleBinding": ["{name}-kafka-role", "{name}-entity-(topic|user)-operator-role"],
        "PodDisruptionBudget": [
            *("{name}-kafka", "{name}-entity-operator", "{name}-cruise-control", "{name}-kafka-exporter"),
        ],
        "Deployment": ["{name}-entity-operator", "{name}-cruise-control", "{name}-kafka-exporter"],
        "KafkaRebalance": ["{name}-auto-rebalancing-.*"],
    },
    "KafkaNodePool": {
        "(Pod|Secret|ConfigMap|Service)": ["{cluster}-{name}-[0-9]+"],
        "PersistentVolumeClaim": ["data-[0-9]+-{cluster}-{name}-[0-9]+"],
        "StrimziPodSet": ["{cluster}-{name}"],
    },
    # user-operator/src/main/java/io/strimzi/operator/user/model/KafkaUserModel.java
    "KafkaUser": {"Secret": ["{name}"]},
    # elastic/cloud-on-k8s, pkg/apis/elasticsearch/v1/name.go and pkg/apis/kibana/v1/name.go: all names begin so
    "Elasticsearch": {".*": ["{name}-es-.*", "elasticsearch-data-{name}-es-.*"]},
    # pkg/controller/association/controller/kibana_es.go: the user of Kibana in Elasticsearch
    "Kibana": {".*": ["{name}-kb(-.*)?"], "Secret": [".*{name}-kibana-user"]},
    # kubeflow/spark-operator, pkg/util/sparkapplication.go and internal/controller/sparkapplication/driveringress.go;
    # Spark's own Service of the driver and ConfigMaps have the application's name and a random part
    "SparkApplication": {
        "Pod": ["{name}-driver", "{name}-.*-exec-[0-9]+"],
        "Service": ["{name}-ui-svc", "{name}-driver-[0-9]+", "{name}-[0-9a-f]+-driver-svc"],
        "Ingress": ["{name}-ui-ingress", "{name}-ing-[0-9]+"],
        "ConfigMap": ["{name}-prom-conf", "spark-(drv|exec)-[0-9a-f]+-conf-map"],
    },
}
"""For each of the chart's kinds, patterns of the names that its operator gives to objects, by kind of object."""


def taken(objects: list[Object]) -> list[str]:
    """Return the objects whose names belong to an operator."""
    patterns = []
    for owner in objects:
        name = re.escape(owner["metadata"]["name"])
        cluster = re.escape(owner["metadata"].get("labels", {}).get("strimzi.io/cluster", ""))
        for kind, names in NAMES.get(owner["kind"], {}).items():
            filled = [pattern.replace("{name}", name).replace("{cluster}", cluster) for pattern in names]
            patterns += [(owner, kind, pattern) for pattern in filled]
    return [
        f"{found['kind']} {found['metadata']['name']}"
        for found in objects
        for owner, kind, pattern in patterns
        if found is not owner and re.fullmatch(kind, found["kind"]) and re.fullmatch(pattern, found["metadata"]["name"])
    ]


def rendered(release: str, shape: Path) -> list[Object]:
    done = helm("template", release, CHART, "-n", "ml", "-f", shape)
    assert done.returncode == 0, done.stderr
    return [found for found in yaml.safe_load_all(done.stdout) if found]


@pytest.mark.parametrize("release", ["streaming-ml", "kafka", "app", "a", "x-es", "entity-operator"])
def test_no_object_has_a_name_that_an_operator_gives(release: str) -> None:
    for shape in (CHART / "ci" / "default-values.yaml", CHART / "values-production.yaml"):
        assert taken(rendered(release, shape)) == [], shape


def test_a_name_that_an_operator_gives_would_be_found() -> None:
    objects = rendered("r", CHART / "ci" / "default-values.yaml")
    wrong = {
        *("NetworkPolicy r-entity-operator", "Secret r-app", "Secret r-cluster-ca-cert", "ConfigMap r-es-scripts"),
        *("Secret ml-r-kibana-user", "Pod r-driver", "Service r-ui-svc", "Secret r-r-dual-0", "Deployment r-kb"),
    }
    more = [{"kind": kind, "metadata": {"name": name}} for kind, name in map(str.split, wrong)]
    assert {*taken([*objects, *more])} == wrong
