"""Rules for all objects and pods, in every shape."""

from __future__ import annotations

import re

import pytest

from tests.charts.rendering import CHART, NAMESPACE, ROOT, Object, find, helm, pods, render

pytestmark = pytest.mark.helm

OURS = ("Job", "Pod", "SparkApplication")
"""Kinds whose pods this chart defines completely; the operators complete the pods of other kinds."""
LABELS_GO_TO_PODS = ("Kafka", "KafkaNodePool")
"""Strimzi copies the labels of these kinds to its pods, except app.kubernetes.io/ labels other than part-of."""
ZONES = ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
LABELS_OF_VALUES = {"cost-center"}
VARIABLES_OF_VALUES = {"HTTPS_PROXY"}
"""Labels and variables of pods in ci/pods-values.yaml."""


def of_ours(objects: list[Object]) -> list[tuple[str, Object]]:
    return [(name, pod) for name, pod in pods(objects) if name.startswith(OURS)]


def test_all_have_the_labels_and_no_other_namespace(objects: list[Object]) -> None:
    for manifest in objects:
        name = f"{manifest['kind']} {manifest['metadata']['name']}"
        labels = {
            key.removeprefix("app.kubernetes.io/"): value for key, value in manifest["metadata"]["labels"].items()
        }
        assert labels["name"] == labels["part-of"] == labels["instance"] == "streaming-ml", name
        assert labels["managed-by"] == "Helm", name
        assert {"component", "version"} <= labels.keys(), name
        assert ("helm.sh/chart" in labels) == (manifest["kind"] not in LABELS_GO_TO_PODS), name
        assert manifest["metadata"]["name"].startswith("streaming-ml"), name
        assert manifest["metadata"].get("namespace", NAMESPACE) == NAMESPACE, name


def test_pods_have_only_labels_that_no_new_version_of_the_chart_changes(objects: list[Object]) -> None:
    """Otherwise an upgrade of only the chart would restart all pods."""
    for name, pod in pods(objects):
        if name.startswith(("Pod", "Kafka")):  # recreated each time, or labelled by Strimzi
            continue
        labels = pod["metadata"]["labels"].keys() - {"spark-role"} - LABELS_OF_VALUES
        assert labels == {f"app.kubernetes.io/{key}" for key in ("name", "instance", "component")}, name
    for manifest in (manifest for manifest in objects if manifest["kind"] in LABELS_GO_TO_PODS):
        copied = {key for key in manifest["metadata"]["labels"] if not key.startswith("app.kubernetes.io/")}
        assert copied <= {"strimzi.io/cluster"}, manifest["kind"]


def test_pods_meet_the_restricted_level(objects: list[Object]) -> None:
    for name, pod in pods(objects):
        if name.startswith("Elasticsearch"):  # ECK sets all of this
            continue
        security = pod["spec"]["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["runAsUser"] > 0, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        for container in pod["spec"]["containers"]:
            if name.startswith("Kibana"):  # ECK sets this, too
                continue
            own = container["securityContext"]
            assert own["allowPrivilegeEscalation"] is False, name
            assert own["capabilities"] == {"drop": ["ALL"]}, name
            assert own["readOnlyRootFilesystem"] is True, name
            assert own.get("runAsUser", 1) > 0, name


def test_containers_request_cpu_and_memory_and_have_a_limit_of_memory(objects: list[Object]) -> None:
    for name, pod in pods(objects):
        for container in pod["spec"]["containers"]:
            resources = container["resources"]
            assert {"cpu", "memory"} <= resources["requests"].keys(), name
            assert "memory" in resources["limits"], name


def test_images_have_a_tag_which_is_not_latest(objects: list[Object]) -> None:
    for name, pod in of_ours(objects):
        for container in pod["spec"]["containers"]:
            assert re.search(r":(?!latest$)[\w.-]+$", container["image"]), name


def test_only_the_driver_and_the_test_have_a_token(objects: list[Object]) -> None:
    accounts = {manifest["metadata"]["name"]: manifest for manifest in objects if manifest["kind"] == "ServiceAccount"}
    having = set()
    for name, pod in of_ours(objects):
        account = accounts.get(pod["spec"].get("serviceAccountName"), {})
        if pod["spec"].get("automountServiceAccountToken", account.get("automountServiceAccountToken", True)):
            having.add(name)
    assert having == {"SparkApplication streaming-ml driver", "Pod streaming-ml-test"}
    for name, pod in pods(objects):
        if name.startswith(("Elasticsearch", "Kibana")):
            assert pod["spec"]["automountServiceAccountToken"] is False, name


def test_roles_give_no_right_to_read_secrets_and_name_all_they_give(objects: list[Object]) -> None:
    for role in (manifest for manifest in objects if manifest["kind"] == "Role"):
        for rule in role["rules"]:
            assert "secrets" not in rule["resources"]
            assert "*" not in rule["resources"] + rule["verbs"] + rule["apiGroups"]


def test_every_mounted_volume_is_there_and_every_volume_is_mounted(objects: list[Object]) -> None:
    for name, pod in of_ours(objects):
        mounted = {mount["name"] for container in pod["spec"]["containers"] for mount in container["volumeMounts"]}
        assert mounted == {volume["name"] for volume in pod["spec"]["volumes"]}, name


def test_no_password_stands_anywhere_but_in_a_secret(objects: list[Object]) -> None:
    for name, pod in of_ours(objects):
        for container in pod["spec"]["containers"]:
            for variable in container.get("env", []):
                if "PASSWORD" in variable["name"]:
                    assert variable["name"].endswith("_FILE"), name
                key = variable.get("valueFrom", {}).get("secretKeyRef", {}).get("key", "username")
                assert key == "username" or variable["name"] in VARIABLES_OF_VALUES, name
                assert variable.get("value") != "", f"{name}: {variable['name']}"


def test_only_the_dashboards_and_helm_test_are_hooks(objects: list[Object]) -> None:
    """Helm waits for a hook: an installation ends when the dashboards are loaded."""
    hooks = {
        manifest["kind"]: manifest["metadata"]["annotations"]["helm.sh/hook"]
        for manifest in objects
        if "helm.sh/hook" in manifest["metadata"].get("annotations", {})
    }
    loading = {"Job": "post-install,post-upgrade,post-rollback"}
    jobs = any(manifest["kind"] == "Job" for manifest in objects)
    assert hooks == {"Pod": "test"} | (loading if jobs else {})


def test_all_that_the_hook_needs_are_objects_that_exist_before_it(objects: list[Object]) -> None:
    """Helm and Argo CD create hooks last, so no Secret, policy or account of the Job may be a hook."""
    jobs = [manifest for manifest in objects if manifest["kind"] == "Job"]
    normal = {
        (manifest["kind"], manifest["metadata"]["name"])
        for manifest in objects
        if "helm.sh/hook" not in manifest["metadata"].get("annotations", {})
    }
    for job in jobs:
        spec = job["spec"]["template"]["spec"]
        if account := spec.get("serviceAccountName"):
            assert ("ServiceAccount", account) in normal
        needed = {volume["secret"]["secretName"] for volume in spec["volumes"] if "secret" in volume}
        made = {name for kind, name in normal if kind == "Secret"}
        created = {name for name in needed if name.endswith("-dashboards-elasticsearch")}
        assert created <= made
        if any(kind == "NetworkPolicy" for kind, _ in normal):
            assert ("NetworkPolicy", "streaming-ml-dashboards") in normal


def test_the_loader_gives_up_before_the_deadline_of_its_job_and_that_before_helm() -> None:
    """Kubernetes deletes a running pod and its log at the deadline; Helm waits for 15 minutes, as README.md says."""
    job = find(render(), "Job")["spec"]
    (container,) = job["template"]["spec"]["containers"]
    (waits_s,) = (int(variable["value"]) for variable in container["env"] if variable["name"] == "SERVER_TIMEOUT_S")
    assert waits_s + 180 <= job["activeDeadlineSeconds"] < 15 * 60
    fails = [rule["onExitCodes"]["values"] for rule in job["podFailurePolicy"]["rules"] if "onExitCodes" in rule]
    assert fails == [[2, 3]]  # 4, refused: Elasticsearch may not know the loader's new rights yet


def test_each_documented_command_gives_helm_more_time_than_the_job_has() -> None:
    pages = [ROOT / "README.md", CHART / "README.md", ROOT / "docs" / "your-own-topic.md"]
    text = "\n".join(page.read_text() for page in pages).replace("\\\n", " ")
    commands = re.findall(r"^ *helm (?:install|upgrade) .*charts/streaming-ml.*$", text, re.MULTILINE)
    assert len(commands) >= 7
    assert [command for command in commands if "--timeout 15m" not in command] == []


def test_what_holds_data_stays_when_the_release_is_removed() -> None:
    kept = {
        (manifest["kind"], manifest["metadata"]["name"])
        for manifest in render()
        if manifest["metadata"].get("annotations", {}).get("helm.sh/resource-policy") == "keep"
    }
    assert kept == {
        ("Kafka", "streaming-ml"),  # its status holds the cluster id that is stored on the volumes
        ("KafkaNodePool", "streaming-ml-dual"),
        ("KafkaTopic", "streaming-ml-train"),
        ("KafkaTopic", "streaming-ml-test"),
        ("PersistentVolumeClaim", "streaming-ml-checkpoint"),
    }
    assert find(render(), "Elasticsearch")["spec"]["volumeClaimDeletePolicy"] == "DeleteOnScaledownOnly"
    (volume,) = find(render(), "KafkaNodePool")["spec"]["storage"]["volumes"]
    assert volume["deleteClaim"] is False


def test_the_default_fits_two_cores_and_eight_gibibytes() -> None:
    """Including operators (charts/operators), producer, dashboards' loader and `helm test`; 1 GiB is left."""
    others = {"cpu": 0.15 + 0.05, "memory": 320 + 150 + 160 + 64 + 128}
    requested = {"cpu": 0.0, "memory": 0.0}
    for _, pod in pods(render()):
        for container in pod["spec"]["containers"]:
            for key in requested:
                requested[key] += _number(container["resources"]["requests"][key])
    assert requested["cpu"] + others["cpu"] <= 1.2
    assert requested["memory"] + others["memory"] <= 7 * 1024


def _number(quantity: str) -> float:
    """Return a quantity in cores, or in MiB."""
    units = {"m": 0.001, "Mi": 1.0, "Gi": 1024.0, "": 1.0}
    found = re.fullmatch(r"([\d.]+)(\w*)", quantity)
    assert found
    return float(found[1]) * units[found[2]]


def test_the_driver_comes_back_always_and_at_once() -> None:
    """The operator waits for the interval times the number of starts; after 10 kills that must be at most 10 s."""
    spec = find(render(), "SparkApplication")["spec"]
    assert spec["restartPolicy"]["type"] == "Always"
    assert spec["restartPolicy"]["onFailureRetryInterval"] * 10 <= 10
    assert spec["restartPolicy"]["onSubmissionFailureRetryInterval"] >= 1
    assert spec["driver"]["lifecycle"]["preStop"]["exec"]["command"] == ["/opt/streaming-ml/stop-python.sh"]
    assert spec["driver"]["terminationGracePeriodSeconds"] >= 30


def test_dynamic_allocation_is_told_to_spark_instead_of_a_number_of_executors() -> None:
    """Spark's behaviour with this setting was not tried."""
    spec = find(render(CHART / "ci" / "own-model-values.yaml"), "SparkApplication")["spec"]
    expected = {"enabled": True, "initialExecutors": 2, "minExecutors": 2, "maxExecutors": 4}
    assert spec["dynamicAllocation"] == expected
    assert "instances" not in spec["executor"]
    default = find(render(), "SparkApplication")["spec"]
    assert "dynamicAllocation" not in default
    assert default["executor"]["instances"] == 1


def test_production_has_three_of_each_and_budgets_for_disruptions() -> None:
    objects = render(CHART / "values-production.yaml")
    assert find(objects, "KafkaNodePool")["spec"]["replicas"] == 3
    assert find(objects, "KafkaTopic", "streaming-ml-train")["spec"]["replicas"] == 3
    assert find(objects, "Elasticsearch")["spec"]["nodeSets"][0]["count"] == 3
    assert find(objects, "Kibana")["spec"]["count"] == 3
    assert find(objects, "SparkApplication")["spec"]["executor"]["instances"] == 3
    broker = find(objects, "KafkaNodePool")["spec"]["template"]["pod"]
    kibana = find(objects, "Kibana")["spec"]["podTemplate"]["spec"]
    nodes = find(objects, "Elasticsearch")["spec"]["nodeSets"][0]["podTemplate"]["spec"]
    of_nodes = (nodes, "elasticsearch.k8s.elastic.co/cluster-name")
    for pod, label in ((broker, "strimzi.io/name"), (kibana, "kibana.k8s.elastic.co/name"), of_nodes):
        spreads = pod["topologySpreadConstraints"]
        assert [spread["topologyKey"] for spread in spreads] == [
            "kubernetes.io/hostname",
            "topology.kubernetes.io/zone",
        ]
        for spread in spreads:
            assert spread["whenUnsatisfiable"] == "ScheduleAnyway"
            assert label in spread["labelSelector"]["matchLabels"]
    executor = find(objects, "SparkApplication")["spec"]["executor"]
    (apart,) = executor["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    labels = executor["labels"] | {"spark-role": "executor"}
    assert apart["podAffinityTerm"]["labelSelector"]["matchLabels"].items() <= labels.items()
    budgets = {
        manifest["metadata"]["name"]: manifest["spec"]
        for manifest in objects
        if manifest["kind"] == "PodDisruptionBudget"
    }
    assert budgets.keys() == {"streaming-ml-kibana", "streaming-ml-executor"}  # Strimzi and ECK make their own


def test_kafka_and_kibana_spread_over_the_nodes_by_default() -> None:
    """As Elasticsearch does, by ECK."""
    broker = find(render(), "KafkaNodePool")["spec"]["template"]["pod"]
    kibana = find(render(), "Kibana")["spec"]["podTemplate"]["spec"]
    for pod, label in ((broker, "strimzi.io/name"), (kibana, "kibana.k8s.elastic.co/name")):
        (spread,) = pod["topologySpreadConstraints"]
        assert (spread["topologyKey"], spread["whenUnsatisfiable"]) == ("kubernetes.io/hostname", "ScheduleAnyway")
        assert label in spread["labelSelector"]["matchLabels"]


def test_rendering_twice_gives_the_same_with_existing_secrets_only() -> None:
    """So a GitOps tool sees no change. Upgrades on a cluster keep the passwords that Helm generates."""
    gitops = CHART / "ci" / "gitops-values.yaml"
    assert render.__wrapped__(gitops) == render.__wrapped__(gitops)
    assert not [
        manifest
        for manifest in render(gitops)
        if manifest["kind"] == "Secret" and "password" in manifest.get("data", {})
    ]
    passwords = [
        manifest["data"]["password"] for manifest in render() if manifest["kind"] == "Secret" and "data" in manifest
    ]
    assert len({*passwords}) == 3
    assert all(len(password) == 44 for password in passwords)  # 32 characters in base64


def test_passwords_of_a_rendering_without_a_cluster_cannot_replace_others() -> None:
    """The API server refuses other data for an immutable Secret."""
    users = [manifest for manifest in render() if manifest["kind"] == "Secret" and "data" in manifest]
    assert [manifest["immutable"] for manifest in users] == [True] * 3


def test_a_rendering_for_a_cluster_that_cannot_be_read_needs_existing_secrets() -> None:
    """Argo CD names the APIs of the cluster. Each of its synchronizations would change the passwords."""
    command = ("template", "streaming-ml", CHART, "--api-versions", "elasticsearch.k8s.elastic.co/v1")
    done = helm(*command)
    for name in ("appSecret", "dashboardsSecret", "viewerSecret"):
        assert f"elasticsearch.{name}: this rendering is for a cluster, but cannot read it" in done.stderr
    done = helm(*command, "-f", CHART / "ci" / "gitops-values.yaml")
    assert done.returncode == 0, done.stderr
