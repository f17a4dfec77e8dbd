"""The Kubernetes API as `helm test` needs it, and the reasons that it gives why a pod does not run."""

from __future__ import annotations

import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

Object = dict[str, Any]
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
CALL_S = 10
LINES_OF_LOG = 8
STEADY_S = 30
"""Time that a container must have been up. A program that crashes at each start ends earlier."""


class Missing(Exception):
    """The server answered that the object does not exist."""


class Cluster:
    """The Kubernetes API, in one namespace."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        host, port = environment["KUBERNETES_SERVICE_HOST"], environment["KUBERNETES_SERVICE_PORT"]
        self._base = f"https://{f'[{host}]' if ':' in host else host}:{port}"
        self._context = ssl.create_default_context(cafile=ACCOUNT / "ca.crt")
        self.namespace = environment["NAMESPACE"]

    def read(self, api: str, path: str, **query: str) -> str:
        """Return the API's answer. Raises Missing if the object does not exist, OSError for any other failure."""
        url = f"{self._base}/{api}/namespaces/{self.namespace}/{path}?{urllib.parse.urlencode(query)}"
        token = (ACCOUNT / "token").read_text()
        request = urllib.request.Request(url, headers={"Authorization": f"Bearer {token}"})  # noqa: S310
        return fetch(request, self._context)

    def get(self, api: str, path: str) -> Object:
        """Return an object."""
        found: Object = json.loads(self.read(api, path))
        return found

    def list(self, api: str, kind: str, **query: str) -> list[Object]:
        """Return objects."""
        found: list[Object] = json.loads(self.read(api, kind, **query))["items"]
        return found


def fetch(request: urllib.request.Request, context: ssl.SSLContext | None) -> str:
    """Return the body of a successful answer. Raises Missing for 404, OSError for any other failure."""
    try:
        with urllib.request.urlopen(request, timeout=CALL_S, context=context) as answer:  # noqa: S310
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        if error.code == 404:
            raise Missing from error
        raise OSError(f"HTTP {error.code}: {error.read().decode(errors='replace')[:200]}") from error


def conditions(found: Object) -> dict[str, Object]:
    """Return an object's conditions by type."""
    return {condition["type"]: condition for condition in found.get("status", {}).get("conditions", [])}


def seconds_since(time: str) -> float:
    """Return the age of one of Kubernetes' times, in seconds."""
    began = datetime.strptime(time, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
    return (datetime.now(timezone.utc) - began).total_seconds()


def wrong_with_pods(cluster: Cluster, what: str, selector: str, wanted: int) -> str:
    """Return why fewer than `wanted` pods run steadily; an empty text if enough do.

    The status of an operator's object can be old: Strimzi's stays `Ready` while no broker runs.
    """
    pods = [pod for pod in cluster.list("api/v1", "pods", labelSelector=selector) if not terminating(pod)]
    for pod in pods:
        if wrong := wrong_with_pod(cluster, pod):
            return f"{what}: {wrong}"
    return f"{what} has {len(pods)} of {wanted} pods" if len(pods) < wanted else ""


def wrong_with_pod(cluster: Cluster, pod: Object) -> str:
    """Return why a pod does not run steadily, in Kubernetes' words; an empty text if it does."""
    name, phase = pod["metadata"]["name"], pod["status"].get("phase")
    containers = pod["status"].get("containerStatuses", [])
    if phase == "Running" and all(container.get("ready") for container in containers):
        for container in containers:
            running = container.get("state", {}).get("running")
            if container.get("restartCount") and running and seconds_since(running["startedAt"]) < STEADY_S:
                last = container.get("lastState", {}).get("terminated", {})
                ended = f"exit code {last.get('exitCode', 'unknown')} {last.get('reason', '')}".rstrip()
                return f"Pod {name} has restarted {container['restartCount']} times, the last time just now ({ended})"
        return ""
    for claim in claims(cluster, pod):
        return claim
    details = [detail for state in states(pod) for detail in state.values() if "reason" in detail]
    words = [f"{detail['reason']} {detail.get('message', '')}".rstrip() for detail in details]
    return f"Pod {name} is {phase}: {'; '.join(words) or 'not ready'}; {last_event(cluster, name)}"


def claims(cluster: Cluster, pod: Object) -> Iterator[str]:
    """Yield the state of each PersistentVolumeClaim that the pod waits for."""
    sources = [volume.get("persistentVolumeClaim") for volume in pod.get("spec", {}).get("volumes", [])]
    names = {source["claimName"] for source in sources if source}
    if not names:
        return
    for claim in cluster.list("api/v1", "persistentvolumeclaims"):
        name, phase = claim["metadata"]["name"], claim["status"].get("phase")
        if name in names and phase != "Bound":
            yield f"PersistentVolumeClaim {name} is {phase}: {last_event(cluster, name)}"


def terminating(pod: Object) -> bool:
    """Return whether the pod is being deleted."""
    return "deletionTimestamp" in pod["metadata"]


def states(pod: Object) -> list[Object]:
    """Return the states of a pod's containers."""
    return [container.get("state", {}) for container in pod["status"].get("containerStatuses", [])]


def errors(cluster: Cluster, pod: str, lines: int) -> list[str]:
    """Return the ERROR lines at the end of a pod's log."""
    return [line for line in log_of(cluster, pod, lines) if "ERROR" in line]


def log_of(cluster: Cluster, pod: str, lines: int) -> list[str]:
    """Return the last lines of a pod's log; an empty list if there is no log."""
    try:
        return cluster.read("api/v1", f"pods/{pod}/log", tailLines=str(lines)).splitlines()
    except (OSError, Missing):
        return []


def last_event(cluster: Cluster, name: str) -> str:
    """Return the newest warning about an object, else its newest event."""
    events = cluster.list("api/v1", "events", fieldSelector=f"involvedObject.name={name}")
    events.sort(
        key=lambda event: (event.get("type") == "Warning", event.get("lastTimestamp") or event.get("eventTime") or "")
    )
    return f"{events[-1].get('reason')}: {events[-1].get('message')}" if events else "no event"


def diagnosis(cluster: Cluster, release: str, instance: str) -> Iterator[str]:
    """Yield the state of claims and pods that are not ready, and the end of the pods' logs.

    release : the name with which the objects' names begin.    instance : the release's name, a label of the pods.
    """
    for claim in cluster.list("api/v1", "persistentvolumeclaims"):
        name, phase = claim["metadata"]["name"], claim["status"].get("phase")
        if release in name and phase != "Bound":
            yield f"PersistentVolumeClaim {name} is {phase}: {last_event(cluster, name)}"
    for pod in cluster.list("api/v1", "pods"):
        name, labels = pod["metadata"]["name"], pod["metadata"].get("labels", {})
        own = labels.get("app.kubernetes.io/instance") == instance or labels.get("strimzi.io/cluster") == release
        if not own or name == f"{release}-test" or pod["status"].get("phase") == "Succeeded":
            continue
        if wrong := wrong_with_pod(cluster, pod):
            yield wrong
            yield from (f"  {name} | {line}" for line in log_of(cluster, name, LINES_OF_LOG))
