"""Faults of the configuration are reported at installation or by `helm test`, and nothing hangs.

tests/charts/test_cluster.py tests a missing operator, and each Secret that a value can name.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.cluster.kube import Cluster
from tests.cluster.system import ROOT, System

CHART = str(ROOT / "charts/streaming-ml")


@pytest.fixture(scope="module")
def namespace(system: System) -> Iterator[str]:
    """A separate namespace, removed with all its objects; the operators may not watch it."""
    name = "refused"
    system.cluster.kubectl("create", "namespace", name)
    system.cluster.kubectl("create", "secret", "generic", "other", f"--namespace={name}", "--from-literal=else=x")
    yield name
    kubectl, where = system.cluster.kubectl, f"--namespace={name}"
    system.cluster.run(system.cluster.helm_path, "uninstall", name, where)
    kubectl("delete", "kafkatopics,kafkausers,kafkas,kafkanodepools", where, "--all", "--wait=false")
    for topic in kubectl("get", "kafkatopics", where, "--output=name").split():  # this Kafka has never started
        free = ("patch", topic, where, "--type=merge", "--patch", '{"metadata": {"finalizers": null}}')
        system.cluster.run(str(system.cluster.kind.kubectl_path), *free)  # it may be gone
    system.cluster.delete_namespace(name)


def install(cluster: Cluster, namespace: str, *flags: str) -> subprocess.CompletedProcess[str]:
    return cluster.run(cluster.helm_path, "install", namespace, CHART, f"--namespace={namespace}", *flags)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--set=lerner=sgd"], ["lerner"]),
        (["--set=learner=sdg"], ["learner", "rls", "sgd"]),
        (["--set=label=distance"], ["label distance is also one of the features"]),
        (
            ["--set=elasticsearch.appSecret=nobody"],
            ["elasticsearch.appSecret", "no Secret nobody in namespace refused"],
        ),
        (
            ["--set=elasticsearch.viewerSecret=other"],
            [f"elasticsearch.viewerSecret: Secret other has no key {key}" for key in ("username", "password", "roles")],
        ),
        (
            ["--set=kafka.enabled=false,kafka.bootstrap=a:1,kafka.user=b,kafka.passwordSecret=nobody"],
            ["kafka.passwordSecret: there is no Secret nobody in namespace refused"],
        ),
        (["--set=kafka.enabled=false"], ["kafka.bootstrap"]),
    ],
)
def test_values_that_are_refused_at_once(system: System, namespace: str, flags: list[str], words: list[str]) -> None:
    done = install(system.cluster, namespace, *flags)
    assert done.returncode
    assert not [word for word in words if word not in done.stderr], done.stderr
    assert not system.cluster.pods(namespace)


def test_a_missing_storage_class_is_named_by_helm_test(system: System, namespace: str) -> None:
    """No pod can start without volumes; `helm test` reports this when its time is over."""
    less = ["--set=kibana.enabled=false,dashboards.enabled=false,test.timeoutSeconds=20"]
    classes = ["kafka.storage", "elasticsearch.storage", "app.checkpoint"]
    done = install(system.cluster, namespace, *less, *[f"--set={part}.storageClass=nowhere" for part in classes])
    assert done.returncode == 0, done.stderr
    tested = system.cluster.run(system.cluster.helm_path, "test", namespace, f"--namespace={namespace}", "--logs")
    assert tested.returncode
    assert "Still not ready after 20 s" in tested.stdout
    last = tested.stdout.strip().splitlines()[-1]
    assert last.startswith("Kafka: "), tested.stdout
    assert 'storageclass.storage.k8s.io "nowhere" not found' in last
