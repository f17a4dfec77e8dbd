"""Access to the cluster: kubectl, helm, the API, and port-forwards from this machine to its Services."""

from __future__ import annotations

import base64
import json
import os
import re
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from kubernetes import client, config
from kubernetes.client import ApiException
from pytest_kind import KindCluster

from embedded.testing.waiting import wait_until


@dataclass
class Cluster:
    """A cluster started by kind, or by a program with kind's command line."""

    kind: KindCluster
    helm_path: str = "helm"
    forwards: list[Forward] = field(default_factory=list)

    def __post_init__(self) -> None:
        api = config.new_client_from_config(str(self.kind.kubeconfig_path))
        self.core: Any = client.CoreV1Api(api)
        self.batch: Any = client.BatchV1Api(api)
        self.custom: Any = client.CustomObjectsApi(api)

    @property
    def environment(self) -> dict[str, str]:
        return {**os.environ, "KUBECONFIG": str(self.kind.kubeconfig_path.absolute())}

    def run(self, *command: str, stdin: str | None = None, timeout_s: float = 900) -> subprocess.CompletedProcess[str]:
        """Run a program with an environment through which it finds the cluster."""
        return subprocess.run(
            command,
            input=stdin,
            capture_output=True,
            text=True,
            env=self.environment,
            timeout=timeout_s,
            check=False,
        )

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        return _output(self.run(str(self.kind.kubectl_path), *arguments, stdin=stdin))

    def helm(self, *arguments: str) -> str:
        return _output(self.run(self.helm_path, *arguments))

    def apply(self, namespace: str, *objects: dict[str, Any]) -> None:
        listed = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
        self.kubectl("apply", "--namespace", namespace, "--filename", "-", stdin=json.dumps(listed))

    def exists(self, *what: str) -> bool:
        return self.run(str(self.kind.kubectl_path), "get", *what).returncode == 0

    def pods(self, namespace: str, selector: str = "") -> list[Any]:
        return list(self.core.list_namespaced_pod(namespace, label_selector=selector).items)

    def secret(self, namespace: str, name: str) -> dict[str, bytes]:
        found = json.loads(self.kubectl("get", "secret", "--namespace", namespace, name, "--output", "json"))
        return {key: base64.b64decode(value) for key, value in found["data"].items()}

    def log(self, namespace: str, pod: str, lines: int = 30) -> str:
        """The end of a pod's log, even if the pod has ended; the error if there is no log."""
        try:
            return str(self.core.read_namespaced_pod_log(pod, namespace, tail_lines=lines))
        except ApiException as error:
            return f"(no log: {error.reason})"

    def delete_namespace(self, name: str, timeout_s: float = 240) -> None:
        if self.exists("namespace", name):
            self.core.delete_namespace(name)

        def missing() -> str:
            found = self.kubectl("get", "namespace", name, "--ignore-not-found", "--output", "json")
            if not found:
                return ""
            conditions = json.loads(found)["status"].get("conditions", [])
            reasons = [condition["message"] for condition in conditions if condition["status"] == "True"]
            return f"namespace {name} is still there: {reasons}"

        wait_until(missing, timeout_s, poll_s=1)

    def forward(self, namespace: str, service: str, port: int) -> Forward:
        way = Forward(self, namespace, service, port)
        self.forwards.append(way)
        return way

    def close(self) -> None:
        for way in self.forwards:
            way.close()


@dataclass
class Forward:
    """A port of this machine forwarded to a Service; it is opened again if it was closed or its pod is gone."""

    cluster: Cluster
    namespace: str
    service: str
    remote: int
    process: subprocess.Popen[str] | None = None
    local: int = 0

    @property
    def port(self) -> int:
        if self.process is None or self.process.poll() is not None:
            self._open()
        return self.local

    def _open(self) -> None:
        self.close()
        where = (f"--namespace={self.namespace}", f"service/{self.service}", f":{self.remote}")
        self.process = subprocess.Popen(
            [str(self.cluster.kind.kubectl_path), "port-forward", *where],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=self.cluster.environment,
        )
        assert self.process.stdout is not None
        said = self.process.stdout.readline()
        found = re.search(r"127\.0\.0\.1:(\d+)", said)
        if not found:
            raise ConnectionError(f"no way to {self.service}: {said}")
        self.local = int(found[1])

    def close(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


def patiently(ask: Callable[[], str], *errors: type[Exception]) -> Callable[[], str]:
    """Return `ask` as a condition for `wait_until`: these errors count as not yet fulfilled."""

    def missing() -> str:
        try:
            return ask()
        except errors as error:
            return f"{type(error).__name__}: {error}"

    return missing


def container_states(pods: Sequence[Any]) -> str:
    """The states of the pods' containers, one line per pod."""
    lines = []
    for pod in pods:
        states = [
            f"{status.name} {kind}"
            + (f" ({state.reason} {getattr(state, 'message', '') or ''})" if kind != "running" else "")
            + (f" exit code {state.exit_code}" if kind == "terminated" else "")
            for status in [*(pod.status.init_container_statuses or []), *(pod.status.container_statuses or [])]
            for kind in ("waiting", "running", "terminated")
            if (state := getattr(status.state, kind))
        ]
        lines.append(f"  {pod.metadata.name}: {pod.status.phase}; {', '.join(states)}")
    return "\n".join(lines)


def _output(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode == 0, f"{' '.join(done.args)}: exit code {done.returncode}\n{done.stdout}{done.stderr}"
    return done.stdout
