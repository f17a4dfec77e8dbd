"""`podDefaults` and the values `pod` of the parts reach each pod, in the field that its operator has for them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.charts.rendering import CHART, ROOT, Object, find, pods, refusal, render

pytestmark = pytest.mark.helm

PARTS = {
    "app.driver.pod": "SparkApplication streaming-ml driver",
    "app.executor.pod": "SparkApplication streaming-ml executor",
    "kafka.pod": "KafkaNodePool streaming-ml-dual",
    "kafka.entityOperatorPod": "Kafka streaming-ml entityOperator",
    "elasticsearch.pod": "Elasticsearch streaming-ml default",
    "kibana.pod": "Kibana streaming-ml",
    "dashboards.pod": "Job streaming-ml-dashboards",
    "test.pod": "Pod streaming-ml-test",
    "producer.pod": "Job streaming-ml-producer",
}
"""The beginning of the name of each part's pod, as `pods` gives it."""
STRIMZI = ("kafka.pod", "kafka.entityOperatorPod")
SPARK = ("app.driver.pod", "app.executor.pod")
OPTIONS: dict[str, Any] = {
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "ml", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 3_000_000}],
    "affinity": {"podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": []}},
    "topologySpreadConstraints": [{"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}],
    "priorityClassName": "high",
    "labels": {"team": "yes"},
    "annotations": {"example.com/a": "1"},
    "env": [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"secretKeyRef": {"name": "s", "key": "b"}}}],
    "envFrom": [{"secretRef": {"name": "more"}}],
    "extraVolumes": [{"name": "ca", "configMap": {"name": "company"}}],
    "extraVolumeMounts": [{"name": "ca", "mountPath": "/mnt/ca", "readOnly": True}],
    "serviceAccountAnnotations": {"example.com/role": "reader"},
}
"""A value of each option."""
WITHOUT = {part: {"envFrom"} for part in STRIMZI} | {part: {"topologySpreadConstraints"} for part in SPARK}
"""Options that an operator has no field for."""


def rendered(folder: Path, values: Object) -> list[Object]:
    file = folder / "values.yaml"
    file.write_text(json.dumps(values))
    return render.__wrapped__(file)


def nested(path: str, value: object) -> Object:
    for name in reversed(path.split(".")):
        value = {name: value}
    assert isinstance(value, dict)
    return value


def pod_of(objects: list[Object], part: str) -> Object:
    (pod,) = (pod for name, pod in pods(objects) if name.startswith(PARTS[part]))
    return pod


def found(objects: list[Object], part: str, option: str) -> list[Any]:
    """Return all places in which an option must stand for the pod of a part."""
    pod = pod_of(objects, part)
    spec = pod["spec"]
    if option in {"env", "envFrom", "extraVolumeMounts"}:
        return [container.get(option.replace("extraV", "v"), []) for container in spec["containers"]]
    if option == "nodeSelector" and part in STRIMZI:
        required = (
            spec.get("affinity", {}).get("nodeAffinity", {}).get("requiredDuringSchedulingIgnoredDuringExecution", {})
        )
        return [
            {expression["key"]: expression["values"][0] for expression in term["matchExpressions"]}
            for term in required.get("nodeSelectorTerms", [{"matchExpressions": []}])
        ]
    places = {
        "labels": pod.get("metadata", {}).get("labels", {}),
        "annotations": pod.get("metadata", {}).get("annotations", {}),
        "topologySpreadConstraints": [
            {name: field for name, field in constraint.items() if name != "labelSelector"}
            for constraint in spec.get("topologySpreadConstraints", [])
        ],
        "extraVolumes": spec.get("volumes", []),
        "serviceAccountAnnotations": annotations_of_account(objects, part, spec),
    }
    return [places.get(option, spec.get(option, type(OPTIONS[option])()))]


def has(objects: list[Object], part: str, option: str, value: Any) -> bool:
    """Whether an option has reached the pod of a part."""
    return all(
        value.items() <= place.items()
        if isinstance(value, dict)
        else all(item in place for item in value)
        if isinstance(value, list)
        else value == place
        for place in found(objects, part, option)
    )


def annotations_of_account(objects: list[Object], part: str, spec: Object) -> Object:
    """Return the annotations of the ServiceAccount that a pod uses; Strimzi creates those of its pods."""
    kafka = find(objects, "Kafka")["spec"]
    if part in STRIMZI:
        template = kafka["kafka" if part == "kafka.pod" else "entityOperator"].get("template", {})
        found: Object = template.get("serviceAccount", {}).get("metadata", {}).get("annotations", {})
        return found
    accounts = {
        manifest["metadata"]["name"]: manifest["metadata"].get("annotations", {})
        for manifest in objects
        if manifest["kind"] == "ServiceAccount"
    }
    own: Object = accounts.get(spec.get("serviceAccountName"), {})
    return own


@pytest.mark.parametrize("part", PARTS)
def test_each_option_of_a_part_reaches_its_pods_and_no_others(part: str, tmp_path: Path) -> None:
    options = {name: value for name, value in OPTIONS.items() if name not in WITHOUT.get(part, set())}
    objects = rendered(tmp_path, nested(part, options))
    assert [name for name, value in options.items() if not has(objects, part, name, value)] == []
    for other in PARTS.keys() - {part}:
        assert [name for name, value in options.items() if has(objects, other, name, value)] == [], other


@pytest.mark.parametrize("part", PARTS)
def test_each_default_reaches_the_pods_of_each_part(part: str, tmp_path: Path) -> None:
    objects = rendered(tmp_path, {"podDefaults": OPTIONS})
    missing = {name for name, value in OPTIONS.items() if not has(objects, part, name, value)}
    assert missing == WITHOUT.get(part, set())


@pytest.mark.parametrize("part", WITHOUT)
def test_an_option_that_an_operator_has_no_field_for_is_refused(part: str) -> None:
    (option,) = WITHOUT[part]
    assert f"'{option}' not allowed" in refusal({part: {option: OPTIONS[option]}})


@pytest.mark.parametrize("part", PARTS)
def test_a_parts_own_options_replace_the_defaults_and_maps_are_merged(part: str, tmp_path: Path) -> None:
    own = {
        "tolerations": [],
        "priorityClassName": "low",
        "env": [{"name": "C", "value": "3"}],
        "labels": {"team": "no", "more": "1"},
        "nodeSelector": {"pool": "a"},
    }
    values = {"podDefaults": OPTIONS} | nested(part, own)
    pod = pod_of(rendered(tmp_path, values), part)
    spec = pod["spec"]
    assert "tolerations" not in spec
    assert spec["priorityClassName"] == "low"
    names = {variable["name"] for variable in spec["containers"][0]["env"]}
    assert "C" in names
    assert not {"A", "B"} & names
    assert {"team": "no", "more": "1"}.items() <= pod["metadata"]["labels"].items()
    if part not in STRIMZI:
        assert spec["nodeSelector"] == {"disk": "ssd", "pool": "a"}


def test_a_constraint_is_about_the_pods_of_its_part(tmp_path: Path) -> None:
    objects = rendered(tmp_path, {"podDefaults": {"topologySpreadConstraints": OPTIONS["topologySpreadConstraints"]}})
    for part in PARTS.keys() - {*SPARK}:
        (constraint,) = pod_of(objects, part)["spec"]["topologySpreadConstraints"]
        selector = constraint["labelSelector"]["matchLabels"]
        if part in STRIMZI:
            kind = "kafka" if part == "kafka.pod" else "entity-operator"
            assert selector == {"strimzi.io/cluster": "streaming-ml", "strimzi.io/name": f"streaming-ml-{kind}"}
        elif part in {"elasticsearch.pod", "kibana.pod"}:
            assert "streaming-ml" in selector.values()
        else:
            assert selector.items() <= pod_of(objects, part)["metadata"]["labels"].items()
    given = [{**OPTIONS["topologySpreadConstraints"][0], "labelSelector": {"matchLabels": {"a": "b"}}}]
    spec = pod_of(rendered(tmp_path, nested("kibana.pod", {"topologySpreadConstraints": given})), "kibana.pod")["spec"]
    assert spec["topologySpreadConstraints"] == given


@pytest.mark.parametrize("part", PARTS)
def test_options_change_neither_security_nor_the_labels_by_which_pods_are_found(part: str) -> None:
    default, changed = pod_of(render(), part), pod_of(render(CHART / "ci" / "pods-values.yaml"), part)
    assert default["spec"].get("securityContext") == changed["spec"].get("securityContext")
    for before, after in zip(default["spec"]["containers"], changed["spec"]["containers"], strict=True):
        assert before.get("securityContext") == after.get("securityContext")
    labels = default.get("metadata", {}).get("labels", {})
    assert labels.items() <= changed["metadata"]["labels"].items()
    assert ("automountServiceAccountToken" in default["spec"]) == ("automountServiceAccountToken" in changed["spec"])


@pytest.mark.parametrize(
    "label",
    [
        "app.kubernetes.io/name",
        "app.kubernetes.io/instance",
        "app.kubernetes.io/component",
        "spark-role",
        "strimzi.io/cluster",
        "elasticsearch.k8s.elastic.co/cluster-name",
        "common.k8s.elastic.co/type",
        "sparkoperator.k8s.io/app-name",
    ],
)
def test_labels_of_the_chart_and_of_operators_are_refused(label: str) -> None:
    for part in ("podDefaults", *PARTS):
        assert f"{part}.labels has {label}, which" in refusal({part: {"labels": {label: "x"}}})


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"podDefaults.env": [{"name": "KAFKA_BOOTSTRAP", "value": "x"}]}, "has KAFKA_BOOTSTRAP, which the chart sets"),
        ({"dashboards.pod": {"env": [{"name": "FEATURES", "value": "x"}]}}, "dashboards.pod.env has FEATURES"),
        ({"test.pod": {"env": [{"name": "A", "value": "1"}] * 2}}, "test.pod.env has A twice"),
        ({"producer.pod": {"env": [{"name": "KAFKA_USER", "value": "1"}]}}, "producer.pod.env has KAFKA_USER"),
        ({"app.driver.pod": {"extraVolumes": [{"name": "tmp", "emptyDir": {}}]}}, "extraVolumes has tmp, which"),
        ({"podDefaults.env": [{"name": "A", "valueFrom": {"fieldRef": {}}}]}, "fieldRef"),
        ({"podDefaults.extraVolumes": [{"name": "a", "hostPath": {"path": "/"}}]}, "hostPath"),
        ({"podDefaults.extraVolumes": [{"name": "a"}]}, "/podDefaults/extraVolumes/0"),
        ({"kafka.pod": {"extraVolumes": [{"name": "a", "projected": {}}]}}, "volume a is of the kind projected, which"),
        ({"podDefaults.extraVolumeMounts": [{"name": "a", "mountPath": "/etc/a"}]}, "below /mnt only, not at /etc/a"),
        ({"kibana.pod": {"securityContext": {}}}, "'securityContext' not allowed"),
        ({"kibana.pod": {"annotations": {"helm.sh/hook": "x"}}}, "kibana.pod.annotations has helm.sh/hook, which"),
        (
            {"podDefaults.tolerations": [{"keys": "x"}]},
            "at '/podDefaults/tolerations/0': additional properties 'keys' not allowed",
        ),
        ({"podDefaults.affinity": {"nodeAffinty": {}}}, "'nodeAffinty' not allowed"),
        ({"podDefaults.nodeSelector": {"a": 1}}, "want string"),
    ],
)
def test_wrong_options_are_refused_by_name(values: Object, words: str) -> None:
    assert words in refusal(values)


def test_driver_and_executors_share_a_volume_of_the_defaults(tmp_path: Path) -> None:
    volumes = find(rendered(tmp_path, {"podDefaults": OPTIONS}), "SparkApplication")["spec"]["volumes"]
    assert [volume for volume in volumes if volume["name"] == "ca"] == OPTIONS["extraVolumes"]


def test_a_node_selector_is_added_to_each_alternative_of_an_affinity(tmp_path: Path) -> None:
    """Kubernetes needs one of the terms: the selector must be part of each."""
    terms: list[Object] = [{"matchExpressions": [{"key": key, "operator": "Exists"}]} for key in ("a", "b")]
    terms.append({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n"]}]})
    required = {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": terms}}
    options = {"nodeSelector": {"disk": "ssd"}, "affinity": {"nodeAffinity": required}}
    spec = pod_of(rendered(tmp_path, nested("kafka.pod", options)), "kafka.pod")["spec"]
    found = spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]["nodeSelectorTerms"]
    wanted = {"key": "disk", "operator": "In", "values": ["ssd"]}
    assert found == [{**term, "matchExpressions": [wanted, *term.get("matchExpressions", [])]} for term in terms]


def test_the_driver_may_hide_its_metrics() -> None:
    annotations = find(render(CHART / "ci" / "pods-values.yaml"), "SparkApplication")["spec"]["driver"]["annotations"]
    assert annotations["prometheus.io/scrape"] == "false"
    assert annotations["prometheus.io/port"] == "4040"


def test_pull_secrets_reach_all_pods_also_those_of_the_operators() -> None:
    for part in PARTS:
        found = pod_of(render(CHART / "ci" / "pods-values.yaml"), part)["spec"]["imagePullSecrets"]
        assert found == [{"name": "mirror-login"}, {"name": "other-login"}], part
        assert not pod_of(render(), part)["spec"].get("imagePullSecrets"), part


def test_images_come_from_the_mirror(tmp_path: Path) -> None:
    objects = render(CHART / "ci" / "pods-values.yaml")
    version = yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"]
    for part, image in (
        ("app.driver.pod", "spark"),
        ("app.executor.pod", "spark"),
        ("dashboards.pod", "dashboards"),
        ("test.pod", "dashboards"),
        ("producer.pod", "producer"),
    ):
        (container,) = pod_of(objects, part)["spec"]["containers"]
        assert container["image"] == f"mirror.example.com/ml/streaming-ml-{image}:{version}"
    assert find(objects, "Kafka")["spec"]["kafka"]["image"].startswith("mirror.example.com/strimzi/kafka:")
    for kind in ("Elasticsearch", "Kibana"):
        assert find(objects, kind)["spec"]["image"].startswith(f"mirror.example.com/{kind.lower()}/")
    for repository in ("registry.example.com/a/spark", "localhost:5000/a/spark", "localhost/a/spark", "a/spark"):
        values = {
            "global": {"imageRegistry": "mirror:5000"},
            "image": {"spark": {"repository": repository, "tag": "1"}},
        }
        assert find(rendered(tmp_path, values), "SparkApplication")["spec"]["image"] == "mirror:5000/a/spark:1"


def test_the_producers_job_in_the_release_is_that_of_the_project() -> None:
    """So the project's file works without the chart, and the chart's without the project."""
    job = yaml.safe_load((ROOT / "producer" / "job.yaml").read_text())
    found = yaml.safe_load(find(render(), "ConfigMap", "streaming-ml-producer")["data"]["job.yaml"])
    assert found["metadata"].pop("name") == "streaming-ml-producer"
    assert job["metadata"].pop("name") == "producer"
    assert found == job


def test_the_producers_job_logs_in_as_the_release_wants_it() -> None:
    job = yaml.safe_load(
        find(render(CHART / "ci" / "own-kafka-tls-values.yaml"), "ConfigMap", "streaming-ml-producer")["data"][
            "job.yaml"
        ]
    )
    spec = job["spec"]["template"]["spec"]
    names = {variable["name"]: variable.get("value") for variable in spec["containers"][0]["env"]}
    assert names["KAFKA_SECURITY_PROTOCOL"] == "SSL"
    assert "KAFKA_USER" not in names
    paths = {f"/etc/kafka-user/{item['path']}" for item in spec["volumes"][0]["secret"]["items"]}
    assert paths == {names["KAFKA_CERTIFICATE_FILE"], names["KAFKA_KEY_FILE"]}
    text = find(render(CHART / "ci" / "own-model-values.yaml"), "ConfigMap", "streaming-ml-producer")["data"][
        "job.yaml"
    ]
    assert '{name: KAFKA_TRAIN_TOPIC, value: "machines_train"}' in text
    assert '{name: KAFKA_TEST_TOPIC, value: "machines.Test"}' in text
    existing = render(CHART / "ci" / "existing-servers-values.yaml")
    assert not [
        manifest
        for manifest in existing
        if manifest["metadata"]["name"] == "streaming-ml-producer" and manifest["kind"] == "ConfigMap"
    ]
