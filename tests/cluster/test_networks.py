"""NetworkPolicies, on a cluster that enforces them (kind does): only the connections of the design are open."""

from __future__ import annotations

import copy
import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import yaml

from tests.cluster.kube import Cluster
from tests.cluster.system import JOB, System

TRY = """
import json, socket, sys
from concurrent.futures import ThreadPoolExecutor
def reach(target):
    host, _, port = target.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=6).close()
    except ConnectionRefusedError:  # the packets came through, but no program listens
        return "open"
    except OSError as error:
        return f"closed: {error}"
    return "open"
targets = sys.argv[1:]
with ThreadPoolExecutor(len(targets)) as pool:
    print(json.dumps(dict(zip(targets, pool.map(reach, targets)))))
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


def reached(cluster: Cluster, namespace: str, name: str, targets: list[str]) -> dict[str, str]:
    """Try to connect from a pod to each host:port; return `open`, or `closed` with the error."""
    inside = ("exec", "--namespace", namespace, "--stdin", name, "--", "python", "-")
    answers: dict[str, str] = json.loads(cluster.kubectl(*inside, *targets, stdin=TRY))
    return answers


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
    (answer,) = reached(cluster, name, "client", [f"{found.status.pod_ip}:8080"]).values()
    cluster.kubectl("delete", "namespace", name, "--wait=false")
    if answer == "open":
        pytest.skip("NOT RUN: this cluster does not enforce NetworkPolicies")


SERVERS = {
    "kafka": ("strimzi.io/name={release}-kafka", (8443, 9090, 9091, 9093)),
    "entity-operator": ("strimzi.io/name={release}-entity-operator", (8080, 8081)),
    "elasticsearch": ("elasticsearch.k8s.elastic.co/cluster-name={release}", (9200, 9300)),
    "kibana": ("kibana.k8s.elastic.co/name={release}", (5601,)),
    "driver": ("spark-role=driver", (4040, 7078, 7079)),
    "executor": ("spark-role=executor", (7079,)),
}
"""The pods that answer, by label, and their ports."""
INSIDE = {"kafka:8443", "kafka:9090", "kafka:9091"}
CLIENTS: dict[str, tuple[dict[str, str], set[str]]] = {
    "producer": ({}, {"kafka:9093"}),
    "app": (
        {"spark-role": "executor"},
        {"kafka:9093", "elasticsearch:9200", "driver:7078", "driver:7079", "executor:7079"},
    ),
    "dashboards": ({}, {"elasticsearch:9200", "kibana:5601"}),
    "test": ({}, {"elasticsearch:9200"}),
}
"""Components with more labels of their pods, and what they must reach."""
STRANGERS: dict[str, dict[str, str]] = {
    "stranger": {"app": "stranger"},
    "like-strimzi": {"strimzi.io/kind": "cluster-operator"},
    "like-producer": {"app.kubernetes.io/component": "producer"},
}
"""Pods that must reach nothing: here the first, in another namespace all."""


def strimzis(system: System, labels: dict[str, str]) -> set[str]:
    """Return what Strimzi's own policies let in, where Strimzi makes them (charts/operators forbids it)."""
    policy = f"{system.release}-network-policy-kafka"
    if not system.cluster.exists("networkpolicy", policy, f"--namespace={system.namespace}"):
        return set()
    health = {"entity-operator:8080", "entity-operator:8081"}
    return health | INSIDE if labels.get("strimzi.io/kind") == "cluster-operator" else health


@pytest.mark.usefixtures("enforced")
def test_only_the_arrows_of_the_design_are_open(system: System) -> None:
    """From a pod of each component, from a stranger here, and from pods outside that copy others' labels."""
    cluster, here, elsewhere = system.cluster, system.namespace, "elsewhere"
    own = {"app.kubernetes.io/name": "streaming-ml", "app.kubernetes.io/instance": system.release}
    clients = {
        (here, f"like-{name}"): ({**own, "app.kubernetes.io/component": name, **labels}, needed)
        for name, (labels, needed) in CLIENTS.items()
    }
    clients |= {(here, "stranger"): (STRANGERS["stranger"], set())}
    clients |= {(elsewhere, name): ({**own, **labels}, set()) for name, labels in STRANGERS.items()}
    targets: dict[str, str] = {}
    for server, (selector, ports) in SERVERS.items():
        pods = cluster.pods(here, f"{selector.format(release=system.release)},!like")
        (address, *_) = [found.status.pod_ip for found in pods if found.status.phase == "Running"]
        targets |= {f"{address}:{port}": f"{server}:{port}" for port in ports}
    cluster.kubectl("create", "namespace", elsewhere)
    try:
        for (namespace, name), (labels, _) in clients.items():
            cluster.apply(namespace, pod(name, {**labels, "like": name}, "tini", "--", "sleep", "3600"))
        for namespace in (here, elsewhere):
            ready(cluster, namespace, *[name for where, name in clients if where == namespace])
        with ThreadPoolExecutor(len(clients)) as pool:
            answers = pool.map(lambda client: reached(cluster, client[0], client[1], list(targets)), clients)
        found = {
            client: {targets[target] for target, answer in answer.items() if answer == "open"}
            for client, answer in zip(clients, answers, strict=True)
        }
    finally:
        names = [name for where, name in clients if where == here]
        cluster.kubectl("delete", "pod", f"--namespace={here}", *names, "--grace-period=1", "--wait=false")
        cluster.kubectl("delete", "namespace", elsewhere, "--wait=false")
    for client, (labels, needed) in clients.items():
        allowed = strimzis(system, labels)
        if client[1] in {f"like-{name}" for name in CLIENTS} and client[0] == here:
            allowed = set()  # their own policies limit what they may ask for
        assert found[client] - allowed == needed, f"{client}: {found[client]}"
