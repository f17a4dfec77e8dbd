"""Pods are killed while records come in: no record is lost or duplicated, and the weights are those of all rows."""

from __future__ import annotations

import re
import time
from typing import Any

import pytest

from tests.cluster.sent import synthetic, synthetic_settings
from tests.cluster.system import Job, System

RATE, COUNT = 150, 200_000
"""Records per second during the kills, up to 22 minutes; the rest of the run is then sent at full speed."""
BACK_AT_WORK_S = 60
KILLS = 10
END_CONTAINER = "kill -9 -1; kill 1"
"""Kills all processes of a container except process 1, which only the node can kill; sends SIGTERM to that one."""


@pytest.fixture(scope="module")
def load(system: System) -> Job:
    """A Job that sends records during the kills."""
    job = run(system, RATE).start()
    system.works_again()
    return job


def run(system: System, rate: int) -> Job:
    return system.job("load", RUN="faults", COUNT=str(COUNT), RATE=str(rate), **synthetic_settings(seed=1))


def kill(system: System, selector: str) -> list[Any]:
    """Kill pods without grace, and return them."""
    pods = [pod for pod in system.cluster.pods(system.namespace, selector) if pod.status.phase == "Running"]
    assert pods, f"nothing to kill: {selector}\n{system.state()}"
    for pod in pods:
        system.cluster.core.delete_namespaced_pod(pod.metadata.name, system.namespace, grace_period_seconds=0)
    return pods


def killed_and_back(system: System, selector: str, timeout_s: float = 180) -> float:
    """Kill pods; return the seconds until a micro-batch that began after the kill is finished."""
    begun = time.monotonic()
    killed = {pod.metadata.uid for pod in kill(system, selector)}

    def missing() -> str:
        pods = system.cluster.pods(system.namespace, selector)
        return f"{selector} is still there" if killed & {pod.metadata.uid for pod in pods} else ""

    system.wait(missing, 60)
    system.works_again(timeout_s)
    return time.monotonic() - begun


@pytest.mark.usefixtures("load")
def test_driver_killed_ten_times_in_a_row(system: System) -> None:
    """The operator creates a new pod each time; the checkpoint is on a separate volume."""
    driver = "spark-role=driver"
    seconds = [killed_and_back(system, driver) for _ in range(KILLS)]
    system.figures["driver killed to back at work"] = f"{', '.join(f'{duration:.0f}' for duration in seconds)} s"
    assert max(seconds) <= BACK_AT_WORK_S
    executors = system.cluster.pods(system.namespace, "spark-role=executor")
    ended = [pod.metadata.name for pod in executors if pod.status.phase in {"Succeeded", "Failed"}]
    assert len(ended) <= 1, "a new driver removes the pods of earlier executors"  # the last may have ended after that


@pytest.mark.usefixtures("load")
def test_driver_told_to_stop_finishes_its_micro_batch(system: System) -> None:
    """Kubernetes runs the preStop hook, which signals Python, then sends SIGTERM: no micro-batch is replayed."""
    (pod,) = system.cluster.pods(system.namespace, "spark-role=driver")
    system.cluster.core.delete_namespaced_pod(pod.metadata.name, system.namespace)
    log = system.cluster.kubectl("logs", "--namespace", system.namespace, "--follow", pod.metadata.name)
    assert "stopped by a signal" in log
    last = [line for line in log.splitlines() if " batch " in line][-1]
    number = int(last.partition(" batch ")[2].partition(":")[0])
    system.works_again()
    again = system.cluster.log(system.namespace, pod.metadata.name, 1000)
    assert f" batch {number + 1}:" in again
    assert not re.search(rf" batch {number}: \d", again)


@pytest.mark.usefixtures("load")
@pytest.mark.parametrize(
    ("part", "selector"),
    [
        ("executor", "spark-role=executor"),
        ("broker", "strimzi.io/kind=Kafka,strimzi.io/pool-name"),
        ("elasticsearch", "common.k8s.elastic.co/type=elasticsearch"),
        ("producer", "job-name=load"),
        ("everything at once", ""),
    ],
)
def test_killed_and_back_at_work(system: System, part: str, selector: str) -> None:
    system.figures[f"{part} killed to back at work"] = f"{killed_and_back(system, selector):.0f} s"


@pytest.mark.usefixtures("load")
def test_a_drained_node_is_back_at_work_when_it_takes_pods_again(system: System) -> None:
    """As before the maintenance of a node: each pod is evicted; Spark's pods have no controller, hence --force."""
    begun = time.monotonic()
    (node,) = system.cluster.core.list_node().items
    try:
        system.cluster.kubectl("drain", node.metadata.name, "--force", "--delete-emptydir-data", "--timeout=180s")
    finally:
        system.cluster.kubectl("uncordon", node.metadata.name)
    system.works_again()
    system.figures["node drained and uncordoned to back at work"] = f"{time.monotonic() - begun:.0f} s"


@pytest.mark.usefixtures("load")
def test_containers_killed_in_their_pods(system: System) -> None:
    """As if the node restarted its containers: servers restart in their pods, driver and executor in new pods."""
    selectors = ["spark-role=executor", "spark-role=driver", "common.k8s.elastic.co/type=elasticsearch"]
    selectors.append("strimzi.io/kind=Kafka,strimzi.io/pool-name")
    found = [system.cluster.pods(system.namespace, selector) for selector in selectors]
    assert all(found), f"no pod for one of {selectors}\n{system.state()}"
    killed = {pod.metadata.uid: pod for pods in found for pod in pods if pod.status.phase == "Running"}
    begun = time.monotonic()
    for pod in killed.values():  # exec fails as its container ends; an executor may be gone with its driver
        inside = ("exec", "--namespace", system.namespace, pod.metadata.name, "-c", pod.spec.containers[0].name)
        system.cluster.run(str(system.cluster.kind.kubectl_path), *inside, "--", "sh", "-c", END_CONTAINER)

    def missing() -> str:
        pods = system.cluster.pods(system.namespace)
        untouched = {
            pod.metadata.name
            for pod in pods
            if pod.status.phase == "Running"
            and pod.metadata.uid in killed
            and restarts(pod) == restarts(killed[pod.metadata.uid])
        }
        return f"not ended: {untouched}" if untouched else ""

    system.wait(missing, 90)
    system.works_again()
    system.figures["containers killed in place to back at work"] = f"{time.monotonic() - begun:.0f} s"


def restarts(pod: Any) -> int:
    return sum(status.restart_count for status in pod.status.container_statuses or [])


def test_after_all_kills_nothing_is_lost_or_repeated(system: System, load: Job) -> None:
    """All records of the run are processed, and the weights are numpy's solution for all rows."""
    system.sent.add("faults", synthetic(COUNT, seed=1), system.partitions)
    load.delete()
    run(system, rate=0).start().wait()
    system.check()
