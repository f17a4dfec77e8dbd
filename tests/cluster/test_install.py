"""The four commands of the README, from an empty cluster."""

from __future__ import annotations

import json
import re
import time
from typing import Any

import pytest
import urllib3
from kubernetes.utils.quantity import parse_quantity

from embedded.testing.waiting import wait_until
from tests.cluster.sent import flights
from tests.cluster.system import JOB, System


def test_the_flights_arrive_and_the_weights_are_right(system: System) -> None:
    """Over TLS and with the release's users, because there is no other access; each flight is there once, unchanged."""
    system.sent.add("flights", flights(), system.partitions)
    begun = time.monotonic()
    system.cluster.kubectl("apply", "--namespace", system.namespace, "--filename", str(JOB))
    system.wait(lambda: "" if system.count("points") else "no points yet", 300)
    system.figures["producer's Job to the first point"] = f"{time.monotonic() - begun:.0f} s"
    system.check()
    system.figures["producer's Job to all 336,776 flights"] = f"{time.monotonic() - begun:.0f} s"


def test_the_test_of_the_release_passes(system: System) -> None:
    system.cluster.helm("test", system.release, f"--namespace={system.namespace}", "--logs")


def test_the_dashboard_and_its_panels_are_in_kibana(system: System) -> None:
    """All objects that it refers to are there, too, and the user of the dashboard can see them."""
    way = system.cluster.forward(system.namespace, f"{system.release}-kb-http", 5601)
    login = system.cluster.secret(system.namespace, f"{system.release}-viewer")
    authority = system.folder / "kibana-ca.crt"
    authority.write_bytes(system.cluster.secret(system.namespace, f"{system.release}-kb-http-certs-public")["ca.crt"])
    host = f"{system.release}-kb-http.{system.namespace}.svc"
    headers = urllib3.make_headers(basic_auth=f"{login['username'].decode()}:{login['password'].decode()}")
    with urllib3.HTTPSConnectionPool(
        "127.0.0.1", way.port, ca_certs=str(authority), assert_hostname=host, headers=headers
    ) as kibana:

        def saved(kind: str, name: str) -> dict[str, Any]:
            response = kibana.request("GET", f"/api/saved_objects/{kind}/{name}")
            assert response.status == 200, f"{kind} {name}: HTTP {response.status} {response.data!r}"
            return dict(response.json())

        found: list[dict[str, Any]] = []

        def missing() -> str:
            response = kibana.request("GET", "/api/saved_objects/_find?type=dashboard&per_page=100")
            found[:] = response.json().get("saved_objects", [])
            return "" if found else f"no dashboard in Kibana: {response.data[:200]!r}"

        wait_until(missing, 300, poll_s=2)
        (dashboard,) = found
        assert len(dashboard["references"]) > 10
        for reference in dashboard["references"]:
            saved(reference["type"], reference["id"])


def test_every_pod_satisfies_restricted_and_has_no_token_that_it_does_not_need(system: System) -> None:
    """The namespace enforces `restricted`, so all its pods satisfy it. Driver and test need tokens for the API server.

    So do Strimzi's brokers, for their keys, and its entity operator; Strimzi sets their tokens.
    """
    namespace = system.cluster.core.read_namespace(system.namespace)
    assert namespace.metadata.labels["pod-security.kubernetes.io/enforce"] == "restricted"
    pods = system.cluster.pods(system.namespace)
    own = [pod for pod in pods if (pod.metadata.labels or {}).get("app.kubernetes.io/name") == "streaming-ml"]
    kinds = {pod.metadata.labels["app.kubernetes.io/component"] for pod in own}
    assert {"app", "elasticsearch", "kibana", "producer"} <= kinds  # the loader's pod has ended and is deleted
    strimzis = {f"{system.release}-{name}" for name in ("kafka", "entity-operator")}
    needing = {f"{system.release}-driver", f"{system.release}-test"} & {pod.metadata.name for pod in own}
    having = set()
    for pod in pods:
        if (pod.metadata.labels or {}).get("strimzi.io/name") in strimzis:
            continue
        containers = [*(pod.spec.init_containers or []), *pod.spec.containers]
        mounts = [mount.mount_path for container in containers for mount in container.volume_mounts or []]
        if "/var/run/secrets/kubernetes.io/serviceaccount" in mounts:
            having.add(pod.metadata.name)
    assert having == needing
    for pod in own:
        component = pod.metadata.labels["app.kubernetes.io/component"]
        if component in {"app", "dashboards", "producer", "test"}:
            for container in pod.spec.containers:
                assert container.security_context.read_only_root_filesystem, pod.metadata.name


@pytest.mark.parametrize("role", ["driver", "executor"])
def test_java_takes_classes_from_the_archive_in_the_image(system: System, role: str) -> None:
    """Java uses the archive only with the same version and jars; otherwise it starts slowly, without a message."""
    pod = system.cluster.pods(system.namespace, f"spark-role={role}")[0].metadata.name
    maps = "cat /proc/[0-9]*/maps 2>/dev/null | grep -o '[^/]*/classes.jsa'"
    mapped = system.cluster.kubectl("exec", "--namespace", system.namespace, pod, "--", "sh", "-c", maps)
    assert set(mapped.split()) == {"lib/classes.jsa", "server/classes.jsa"}


def test_the_driver_serves_metrics_to_prometheus(system: System) -> None:
    """The driver's own and the stream's metrics, under the release's name, and those of the executors."""
    way = system.cluster.forward(system.namespace, f"{system.release}-ui-svc", 4040)
    for path, metric in (
        ("/metrics/prometheus", r"metrics_streaming_ml_driver_spark_streaming_\w*inputRate_total"),
        ("/metrics/executors/prometheus", r"metrics_executor_\w+\{"),
    ):
        response = urllib3.request("GET", f"http://127.0.0.1:{way.port}{path}")
        assert response.status == 200, path
        text = response.data.decode()
        assert re.search(f"^{metric}", text, re.MULTILINE), f"no {metric} at {path}: {text[:1000]}"


def test_the_driver_serves_the_models_metrics_at_a_port_that_a_podmonitor_finds(system: System) -> None:
    """The chart's PodMonitor is not tried, because the cluster has no Prometheus operator."""
    driver = system.cluster.pods(system.namespace, "spark-role=driver")[0]
    ports = {port.name: port.container_port for container in driver.spec.containers for port in container.ports or []}
    assert {"metrics": 9404, "spark-ui": 4040}.items() <= ports.items()
    ask = "import urllib.request as r; print(r.urlopen('http://localhost:9404/metrics', timeout=30).read().decode())"
    text = system.cluster.kubectl(
        "exec", "--namespace", system.namespace, driver.metadata.name, "--", "python3", "-c", ask
    )
    assert re.search(r'^streaming_regression_records_total\{role="train",topic="train"\} [1-9]', text, re.MULTILINE), (
        text
    )


def test_all_fits_two_cores_and_8_gib(system: System) -> None:
    """By requests and limits, and by the kubelet's measurements."""
    running = [pod for pod in system.cluster.pods(system.namespace) if pod.status.phase == "Running"]
    containers = [container for pod in running for container in pod.spec.containers]
    cpu = sum(parse_quantity((container.resources.requests or {}).get("cpu", "0")) for container in containers)
    memory = sum(parse_quantity((container.resources.limits or {}).get("memory", "0")) for container in containers)
    used = {}
    for node in system.cluster.core.list_node().items:
        path = f"/api/v1/nodes/{node.metadata.name}/proxy/stats/summary"
        for pod in json.loads(system.cluster.kubectl("get", "--raw", path))["pods"]:
            if pod["podRef"]["namespace"] == system.namespace and "workingSetBytes" in pod.get("memory", {}):
                used[pod["podRef"]["name"]] = pod["memory"]["workingSetBytes"] / 2**20
    for name, value in sorted(used.items()):
        system.figures[f"memory of {name}"] = f"{value:.0f} MiB"
    system.figures["memory of all"] = f"{sum(used.values()):.0f} MiB, limits {float(memory) / 2**20:.0f} MiB"
    system.figures["CPU requests of all"] = f"{float(cpu):.2f}"
    assert cpu <= 2
    assert memory <= 8 * 2**30
    assert 0 < sum(used.values()) < 8 * 2**10
