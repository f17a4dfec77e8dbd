"""NetworkPolicies, on a cluster that enforces them (kind does): only the connections of the design are open."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import yaml

from tests.cluster.kube import Cluster
from tests.cluster.system import JOB, System

TRY = """
import socket, sys
try:
    socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=5).close()
except OSError as error:
    print("closed:", error)
else:
    print("open")
"""
SERVE = "import http.server; http.server.HTTPServer(('', 8080), http.server.SimpleHTTPRequestHandler).serve_forever()"


def pod(name: str, labels: dict[str, str], *command: str) -> dict[str, Any]:
    """A pod with Python in it."""
    template = copy.deepcopy(yaml.safe_load(JOB.read_text())["spec"]["template"])
    (container,) = template["spec"]["containers"]
    container |= {"command": list(command), "env": [], "volumeMounts": []}
    template["spec"]["volumes"] = []
    return {**template, "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}}


def ready(cluster: Cluster, namespace: str, *names: str) -> None:
    pods = [f"pod/{name}" for name in names]
    cluster.kubectl("wait", "--namespace", namespace, *pods, "--for=condition=Ready", "--timeout=120s")


def reached(cluster: Cluster, namespace: str, name: str, host: str, port: int) -> str:
    inside = ("exec", "--namespace", namespace, "--stdin", name, "--", "python", "-")
    return cluster.kubectl(*inside, host, str(port), stdin=TRY).strip()


@pytest.fixture(scope="module")
def enforced(system: System) -> None:
    """Skip the tests on a cluster where a policy that forbids all connections has no effect."""
    cluster, name = system.cluster, "network-probe"
    cluster.kubectl("create", "namespace", name)
    forbid = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "nothing"},
        "spec": {"podSelector": {"matchLabels": {"app": "server"}}, "policyTypes": ["Ingress"]},
    }
    server = pod("server", {"app": "server"}, "python", "-c", SERVE)
    cluster.apply(name, forbid, server, pod("client", {"app": "client"}, "sleep", "3600"))
    ready(cluster, name, "server", "client")
    (found,) = cluster.pods(name, "app=server")
    answer = reached(cluster, name, "client", found.status.pod_ip, 8080)
    cluster.kubectl("delete", "namespace", name, "--wait=false")
    if answer == "open":
        pytest.skip("NOT RUN: this cluster does not enforce NetworkPolicies")


@pytest.mark.usefixtures("enforced")
@pytest.mark.parametrize(
    ("component", "open_to"),
    [
        ("producer", {"kafka"}),
        ("app", {"kafka", "elasticsearch"}),
        ("dashboards", {"elasticsearch", "kibana"}),
        ("", set()),
    ],
)
def test_only_the_arrows_of_the_design_are_open(system: System, component: str, open_to: set[str]) -> None:
    """A pod with the labels of a component, or without labels, reaches these servers and no others."""
    release = system.release
    labels = {"app.kubernetes.io/name": "streaming-ml", "app.kubernetes.io/instance": release}
    labels |= {"app.kubernetes.io/component": component, "spark-role": "executor"} if component else {}
    servers = {
        "kafka": (f"{release}-kafka-bootstrap", 9093),
        "elasticsearch": (f"{release}-es-http", 9200),
        "kibana": (f"{release}-kb-http", 5601),
    }
    name = f"like-{component or 'nobody'}"
    system.cluster.apply(system.namespace, pod(name, labels if component else {"app": "nobody"}, "sleep", "3600"))
    try:
        ready(system.cluster, system.namespace, name)
        answers = {to: reached(system.cluster, system.namespace, name, *where) for to, where in servers.items()}
    finally:
        system.cluster.kubectl("delete", "pod", "--namespace", system.namespace, name, "--grace-period=1")
    assert {to for to, answer in answers.items() if answer == "open"} == open_to, answers
