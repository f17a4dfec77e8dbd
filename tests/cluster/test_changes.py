"""Upgrade, rollback, removal and reinstallation: the stream continues where it stopped, with the same model."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import yaml

from tests.cluster.sent import Sent, flights, synthetic, synthetic_settings
from tests.cluster.system import ROOT, System, version

ROWS = 20_000
RIDGE = 1_000_000_000
"""About as large as the flights' sums of squares, so that it changes the weights."""


def send(system: System, seed: int, ridge: float = 0.0) -> None:
    """Send one more run, and compare all documents with all records ever sent."""
    run = f"run-{seed}"
    system.job(run, COUNT=str(ROWS), RATE="0", RUN=run, **synthetic_settings(seed)).start().wait()
    system.sent.add(run, synthetic(ROWS, seed), system.partitions)
    system.check(ridge=ridge)


def driver(system: System) -> tuple[str, dict[str, str]]:
    """The driver's image and environment; empty while there is no driver."""
    for pod in system.cluster.pods(system.namespace, "spark-role=driver"):
        (container,) = pod.spec.containers
        return container.image, {variable.name: variable.value for variable in container.env}
    return "", {}


def passwords(system: System) -> list[bytes]:
    names = ("app-elasticsearch", "dashboards-elasticsearch", "viewer", "app", "producer")
    return [system.cluster.secret(system.namespace, f"{system.release}-{name}")["password"] for name in names]


def wait_for_driver(system: System, ridge: float) -> None:
    """Wait until a driver runs with this setting, and all pods are ready."""

    def missing() -> str:
        image, found = driver(system)
        if not image:
            return "there is no driver"
        value = float(found["RLS_RIDGE"])
        return "" if value == ridge else f"the driver's ridge is {value:g}, not {ridge:g}"

    system.wait(missing, 180)
    system.wait_ready()


def test_upgrade_with_more_partitions_and_a_new_image(system: System) -> None:
    before = passwords(system)
    tag = f"{version()}-next"
    subprocess.run(["docker", "tag", f"streaming-ml-spark:{version()}", f"streaming-ml-spark:{tag}"], check=True)
    system.cluster.kind.load_docker_image(f"streaming-ml-spark:{tag}")
    system.upgrade(f"--set=kafka.partitions={system.partitions + 1},image.spark.tag={tag}")
    system.partitions += 1

    def missing() -> str:
        image, _ = driver(system)
        topics = system.cluster.custom.list_namespaced_custom_object(
            "kafka.strimzi.io", "v1", system.namespace, "kafkatopics"
        )["items"]
        behind = [
            topic for topic in topics if topic["status"].get("observedGeneration") != topic["metadata"]["generation"]
        ]
        return "" if image.endswith(tag) and not behind else f"image {image}, {len(behind)} topics to change"

    system.wait(missing, 180)
    system.wait_ready()
    send(system, seed=2)
    assert passwords(system) == before


def test_upgrade_with_another_setting_of_the_learner_and_rollback(system: System) -> None:
    """The weights follow the setting in both directions, and all earlier rows still count."""
    system.upgrade("--reuse-values", f"--set=rls.ridge={RIDGE}")
    wait_for_driver(system, ridge=RIDGE)
    send(system, seed=3, ridge=RIDGE)
    assert not np.allclose(system.sent.lstsq(RIDGE), system.sent.lstsq(), rtol=0.01), "the setting changes nothing"
    system.cluster.helm("rollback", system.release, f"--namespace={system.namespace}", "--timeout=15m")
    wait_for_driver(system, ridge=0)
    send(system, seed=4)


def status(system: System) -> str:
    """The release's status in Helm, such as `deployed`."""
    shown = system.cluster.helm("status", system.release, f"--namespace={system.namespace}", "--output=json")
    return str(json.loads(shown)["info"]["status"])


def refused(system: System, *flags: str) -> str:
    """Upgrade with values that do not work; return what Helm prints."""
    chart = str(ROOT / "charts/streaming-ml")
    where = (f"--namespace={system.namespace}", "--reset-then-reuse-values")
    done = system.cluster.run(system.cluster.helm_path, "upgrade", system.release, chart, *where, *flags)
    assert done.returncode, done.stdout
    return done.stdout + done.stderr


def loaders(system: System) -> list[str]:
    """The Jobs that load dashboards."""
    jobs = system.cluster.batch.list_namespaced_job(
        system.namespace, label_selector="app.kubernetes.io/component=dashboards"
    )
    return [job.metadata.name for job in jobs.items]


def test_a_shape_that_kafka_cannot_take_is_refused_before_anything_changes(system: System) -> None:
    said = refused(system, f"--set=kafka.partitions={system.partitions - 1}")
    assert f"has {system.partitions} partitions, and Kafka cannot remove partitions" in said
    said = refused(system, "--set=kafka.nodes=3,kafka.replicationFactor=3")
    assert "the topic of KafkaTopic streaming-ml-train has 1, and Strimzi cannot change it" in said
    assert status(system) == "deployed"


def test_dashboards_that_cannot_be_loaded_fail_the_release_and_the_next_upgrade_repairs_it(system: System) -> None:
    said = refused(system, "--set=kibana.space=nowhere,test.timeoutSeconds=5", "--timeout=15m")
    reason = next(line for line in said.splitlines() if " ERROR " in line)  # of the loader's log, which Helm prints
    assert "space nowhere" in reason
    assert status(system) == "failed"
    assert loaders(system) == [f"{system.release}-dashboards"]
    where = f"--namespace={system.namespace}"
    tested = system.cluster.run(system.cluster.helm_path, "test", system.release, where, "--logs")
    assert tested.returncode
    last = tested.stdout.strip().splitlines()[-1]
    assert last.startswith("dashboards: the dashboards were not loaded"), tested.stdout
    assert "space nowhere" in last
    # The space changes the loader's rights, so Kibana refuses it at first, and the Job tries again.
    system.upgrade("--reset-then-reuse-values", "--set=kibana.space=,test.timeoutSeconds=270")
    assert status(system) == "deployed"
    assert loaders(system) == []


def test_when_helm_gives_up_the_job_goes_on_and_the_next_upgrade_repairs_the_release(system: System) -> None:
    refused(system, "--timeout=1s")
    assert status(system) == "failed"
    job = f"{system.release}-dashboards"

    def missing() -> str:
        found = system.cluster.batch.read_namespaced_job(job, system.namespace).status
        return "" if found.succeeded else f"the Job {job} has not loaded the dashboards: {found}"

    system.wait(missing, 120)
    system.cluster.helm("test", system.release, f"--namespace={system.namespace}")
    system.upgrade("--reset-then-reuse-values")
    assert status(system) == "deployed"
    assert loaders(system) == []


KEPT = {
    "kafkas": {"streaming-ml"},
    "kafkanodepools": {"streaming-ml-dual"},
    "kafkatopics": {"streaming-ml-train", "streaming-ml-test"},
    "persistentvolumeclaims": {
        "data-0-streaming-ml-streaming-ml-dual-0",
        "elasticsearch-data-streaming-ml-es-default-0",
        "streaming-ml-checkpoint",
    },
}
GONE = ("kafkausers", "elasticsearches", "kibanas.kibana.k8s.elastic.co", "sparkapplications")


def names(system: System, kind: str) -> set[str]:
    found = system.cluster.kubectl("get", kind, f"--namespace={system.namespace}", "--output=name").split()
    return {name.partition("/")[2] for name in found}


def uninstall(system: System) -> None:
    """Remove the release, wait until its pods are gone, and check that exactly the objects it keeps remain."""
    system.cluster.helm("uninstall", system.release, f"--namespace={system.namespace}")

    def missing() -> str:
        pods = {pod.metadata.name for pod in system.cluster.pods(system.namespace) if pod.status.phase == "Running"}
        left = {name for name in pods if "-dual-" not in name and "-entity-operator-" not in name}
        return f"still there: {left}" if left else ""

    system.wait(missing, 180)
    assert {kind: names(system, kind) for kind in KEPT} == KEPT
    assert {kind: names(system, kind) for kind in GONE} == {kind: set() for kind in GONE}


def test_reinstalled_release_continues_where_it_stopped(system: System) -> None:
    """After removal the objects named in the notes remain; `make deploy` and `make produce` restore the rest."""
    uninstall(system)
    flags = f"--set kafka.partitions={system.partitions}"
    tools = [f"KIND={system.cluster.kind.kind_path}", f"KUBECTL={system.cluster.kind.kubectl_path}"]
    make = ["make", "-C", str(ROOT), f"NAMESPACE={system.namespace}", *tools]
    deployed = system.cluster.run(*make, "deploy", f"ARGS={flags}")
    assert deployed.returncode == 0, deployed.stderr
    assert "SparkApplication=RUNNING" in deployed.stderr
    assert loaders(system) == []  # Helm has deleted the hook's Job, because it has succeeded
    produced = system.cluster.run(*make, "produce")
    assert produced.returncode == 0, produced.stderr
    system.sent.add("flights", flights(), system.partitions)
    send(system, seed=5)
    shown = system.cluster.run("timeout", "45", *make, "dashboard", "PORT=0")  # it forwards to Kibana until stopped
    assert "/app/dashboards#/view/spark-streaming-ml" in shown.stderr
    login = system.cluster.secret(system.namespace, f"{system.release}-viewer")
    assert f"{login['username'].decode()} / {login['password'].decode()}" in shown.stderr
    assert "Forwarding from 127.0.0.1:" in shown.stdout


def test_removed_for_good_its_namespace_can_be_deleted(system: System) -> None:
    """With the literal commands of the chart's README."""
    uninstall(system)
    readme = (ROOT / "charts/streaming-ml/README.md").read_text()
    *commands, last = readme.partition("To remove the data, too")[2].split("```")[1].strip().splitlines()
    for command in commands:
        program, *arguments = command.split()
        assert program == "kubectl"
        system.cluster.kubectl(*arguments)
    assert {kind: names(system, kind) for kind in KEPT} == {kind: set() for kind in KEPT}
    assert last == f"kubectl delete namespace {system.namespace}"
    system.cluster.delete_namespace(system.namespace)


WATCHED = {
    "strimzi-kafka-operator": ".Values.watchNamespaces",
    "eck-operator": ".Values.managedNamespaces",
    "spark-operator": ".Values.spark.jobNamespaces",
}
RIGHTS = """
{{{{- range {0} }}}}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {{name: {{{{ $.Chart.Name }}}}, namespace: {{{{ . }}}}}}
rules: [{{apiGroups: [""], resources: [pods], verbs: [get]}}]
{{{{- end }}}}
"""
"""The part of an operator's chart that matters here: a Role in each namespace that the operator watches."""


@pytest.fixture
def copy(system: System, tmp_path: Path) -> Iterator[Path]:
    """A copy of the charts, with the release `operators` installed from them before the namespace was deleted.

    The operators' own charts cannot be downloaded everywhere, so stubs with their Roles stand in for them.
    """
    ignored = shutil.ignore_patterns("*.tgz", "Chart.lock")
    shutil.copytree(ROOT / "charts", tmp_path / "charts", ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    operators = tmp_path / "charts" / "operators"
    for dependency in yaml.safe_load((operators / "Chart.yaml").read_text())["dependencies"]:
        stub = operators / "charts" / dependency["name"]
        (stub / "templates").mkdir(parents=True, exist_ok=True)
        named = {"apiVersion": "v2", "name": dependency["name"], "version": dependency["version"]}
        (stub / "Chart.yaml").write_text(yaml.safe_dump(named))
        (stub / "templates" / "role.yaml").write_text(RIGHTS.format(WATCHED[dependency["name"]]))
    where = ("--namespace=operators", "--create-namespace", "--wait")
    system.cluster.helm("install", "operators", str(operators), *where)
    assert names(system, "roles") == {*WATCHED}
    system.cluster.delete_namespace(system.namespace)
    yield tmp_path
    system.cluster.helm("uninstall", "operators", "--namespace=operators")
    system.cluster.delete_namespace("operators")


def test_deploy_after_the_whole_removal_starts_anew(system: System, copy: Path) -> None:
    """`make deploy` gives the operators their rights in the new namespace, and nothing of the old release is left."""
    system.sent, system.partitions = Sent(), 3
    tools = {"KIND": system.cluster.kind.kind_path, "KUBECTL": system.cluster.kind.kubectl_path}
    tools |= {"HELM": system.cluster.helm_path, "NAMESPACE": system.namespace}
    settings = [f"{name}={value}" for name, value in tools.items()]
    deployed = system.cluster.run("env", *settings, "bash", str(copy / "charts" / "cluster.sh"), "deploy")
    assert deployed.returncode == 0, deployed.stdout + deployed.stderr
    assert {*WATCHED} <= names(system, "roles")
    namespace = system.cluster.core.read_namespace(system.namespace)
    assert namespace.metadata.labels["pod-security.kubernetes.io/enforce"] == "restricted"
    send(system, seed=6)
