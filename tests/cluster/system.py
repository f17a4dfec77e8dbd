"""The release `streaming-ml`, installed by the README's four commands, and its documents for the records sent."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from elastic_transport import TransportError
from elasticsearch import ApiError, Elasticsearch
from elasticsearch.helpers import scan
from kubernetes.client import ApiException

from embedded.testing.waiting import wait_until
from tests.cluster.kube import Cluster, Forward, container_states, patiently
from tests.cluster.sent import FEATURES, NAMES, Sent

ROOT = Path(__file__).parents[2]
JOB = ROOT / "producer" / "job.yaml"
CHARTS = {
    "kafkas.kafka.strimzi.io": "strimzi-kafka-operator",
    "elasticsearches.elasticsearch.k8s.elastic.co": "eck-operator",
    "sparkapplications.sparkoperator.k8s.io": "spark-operator",
}
"""A custom resource of each operator, and the operator's chart."""
PARTS: dict[str, Callable[[Any], object]] = {
    "kafkas.kafka.strimzi.io": lambda status: _condition(status, "Ready"),
    "elasticsearches.elasticsearch.k8s.elastic.co": lambda status: status.get("health") in {"green", "yellow"},
    "kibanas.kibana.k8s.elastic.co": lambda status: status.get("health") == "green",
    "sparkapplications.sparkoperator.k8s.io": lambda status: _state(status) == "RUNNING",
}
AWAY = (ApiError, TransportError, ConnectionError, ApiException)
EXACT = 1e-7
"""Relative difference of weights due to rounding: the flights' condition number is about 1e4."""


def version() -> str:
    """The images' tag."""
    (line,) = (row for row in (ROOT / "pyproject.toml").read_text().splitlines() if row.startswith("version = "))
    return line.split('"')[1]


def _condition(status: dict[str, Any], kind: str) -> bool:
    return any(
        condition["type"] == kind and condition["status"] == "True" for condition in status.get("conditions", [])
    )


def _state(status: dict[str, Any]) -> str:
    return str(status.get("applicationState", {}).get("state", ""))


@dataclass
class System:
    """A release in a namespace, and all records sent to it."""

    cluster: Cluster
    folder: Path
    namespace: str = "ml"
    release: str = "streaming-ml"
    partitions: int = 3
    sent: Sent = field(default_factory=Sent)
    figures: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._search: Forward | None = None

    # --- installing

    def install(self, *flags: str) -> None:
        """The first two commands of the README, in a namespace that enforces `restricted`."""
        missing = {crd: chart for crd, chart in CHARTS.items() if not self.cluster.exists("crd", crd)}
        if missing:
            present = [f"--set={chart}.enabled=false" for crd, chart in CHARTS.items() if crd not in missing]
            chart = str(ROOT / "charts/operators")
            self.cluster.helm("dependency", "update", chart)
            waiting = ("--namespace=operators", "--create-namespace", "--wait", "--timeout=10m")
            self.cluster.helm("install", "operators", chart, *waiting, *present)
        if not self.cluster.exists("namespace", self.namespace):  # charts/operators created it with the label
            self.cluster.kubectl("create", "namespace", self.namespace)
        level = "pod-security.kubernetes.io/enforce=restricted"
        self.cluster.kubectl("label", "--overwrite", "namespace", self.namespace, level)
        chart = str(ROOT / "charts/streaming-ml")
        there = (f"--namespace={self.namespace}", "--create-namespace", "--timeout=15m")
        self.cluster.helm("install", self.release, chart, *there, *flags)

    def upgrade(self, *flags: str) -> None:
        """Upgrade the release to another version or other values."""
        chart = str(ROOT / "charts/streaming-ml")
        self.cluster.helm("upgrade", self.release, chart, f"--namespace={self.namespace}", "--timeout=15m", *flags)

    def wait_ready(self, timeout_s: float = 600) -> None:
        self.wait(lambda: ", ".join(self.not_ready()), timeout_s)

    def not_ready(self) -> Iterator[str]:
        for crd, ready in PARTS.items():
            plural, _, group = crd.partition(".")
            version = "v1beta2" if plural == "sparkapplications" else "v1"
            found = self.cluster.custom.get_namespaced_custom_object(
                group, version, self.namespace, plural, self.release
            )
            status = found.get("status", {})
            if not ready(status):
                yield f"{plural} {self.release} is not ready: {status or 'no status'}"

    # --- sending

    def job(self, name: str, text: str | None = None, **environment: str) -> Job:
        """The Job in `text`, by default that of producer/job.yaml, with another name and other settings."""
        job = yaml.safe_load(text or JOB.read_text())
        job["metadata"]["name"] = name
        (container,) = job["spec"]["template"]["spec"]["containers"]
        kept = [variable for variable in container["env"] if variable["name"] not in environment]
        container["env"] = kept + [{"name": key, "value": value} for key, value in environment.items()]
        return Job(self, name, job)

    # --- checking the results

    @contextmanager
    def search(self, user: str = "elastic", password: str = "") -> Iterator[Elasticsearch]:
        """A client of Elasticsearch, through a port-forward."""
        if self._search is None:
            self._search = self.cluster.forward(self.namespace, f"{self.release}-es-http", 9200)
        if not password:
            password = self.cluster.secret(self.namespace, f"{self.release}-es-elastic-user")["elastic"].decode()
        authority = self.folder / "elasticsearch-ca.crt"
        authority.write_bytes(self.cluster.secret(self.namespace, f"{self.release}-es-http-certs-public")["ca.crt"])
        try:
            with Elasticsearch(
                f"https://127.0.0.1:{self._search.port}",
                basic_auth=(user, password),
                ca_certs=str(authority),
                ssl_assert_hostname=f"{self.release}-es-http.{self.namespace}.svc",
                request_timeout=60,
                max_retries=0,
            ) as client:
                yield client
        except (TransportError, ConnectionError):
            self._search.close()  # the pod behind it may be gone
            raise

    def count(self, *kinds: str) -> int:
        with self.search() as client:
            indices = ",".join(f"spark-{kind}-*" for kind in kinds)
            return int(client.count(index=indices, ignore_unavailable=True)["count"])

    def newest_batch(self) -> int:
        """The number of the newest micro-batch, -1 before the first."""
        with self.search() as client:
            found = client.search(index="spark-models-*", size=0, aggs={"batch": {"max": {"field": "batch"}}})
            newest = found["aggregations"]["batch"]["value"] if found["hits"]["total"]["value"] else None
            return -1 if newest is None else int(newest)

    def documents(self, kind: str, *fields: str) -> list[dict[str, Any]]:
        """All documents of a kind, their ids among the fields."""
        with self.search() as client:
            client.indices.refresh(index=f"spark-{kind}-*")
            hits = scan(client, index=f"spark-{kind}-*", size=5000, source_includes=list(fields) or None)
            return [{**hit["_source"], "_id": hit["_id"]} for hit in hits]

    def check(self, *, ridge: float = 0.0, tolerance: float = EXACT, timeout_s: float = 400) -> None:
        """Wait until all sent records are processed, then compare every document and the weights with them."""
        total = len(self.sent.rows)

        def missing() -> str:
            count = self.count("points", "invalid")
            assert count <= total, f"{count} documents for {total} records"
            return f"{count} of {total} records are processed" if count < total else ""

        self.wait(missing, timeout_s)
        self.wait(
            lambda: (
                "" if sum(document["rows"] for document in self.documents("metrics", "rows")) == total else "metrics"
            ),
            60,
        )
        points = self.documents("points", "x", "y")
        found = {document["_id"]: (*(document["x"][name] for name in FEATURES), document["y"]) for document in points}
        expected = self.sent.points
        assert len(points) == len(found), "a point is there twice, in two indices"
        assert not expected.keys() - found.keys(), f"lost: {sorted(expected.keys() - found.keys())[:10]}"
        assert not found.keys() - expected.keys(), f"too many: {sorted(found.keys() - expected.keys())[:10]}"
        assert not [key for key, row in expected.items() if found[key] != row], "points are not what was sent"
        invalid = [document["_id"] for document in self.documents("invalid", "reason")]
        assert sorted(invalid) == sorted(self.sent.rows.keys() - expected.keys())
        model = max(self.documents("models"), key=lambda document: int(document["batch"]))
        weights = [model["intercept"], *(model["weights"][name] for name in NAMES[:-1])]
        assert model["rows_seen"] == len(self.sent.learned)
        np.testing.assert_allclose(weights, self.sent.lstsq(ridge), rtol=tolerance, atol=0)

    # --- waiting

    def wait(self, missing: Callable[[], str], timeout_s: float) -> None:
        """Wait like `wait_until`, even while a server is away; a failure shows the pods and the driver's log."""
        try:
            wait_until(patiently(missing, *AWAY), timeout_s, poll_s=0.5)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.state()}") from None

    def state(self) -> str:
        """The states of all pods, and the ends of the logs of the driver and of the pods that failed."""
        pods = self.cluster.pods(self.namespace)
        driver = f"{self.release}-driver"
        names = [pod.metadata.name for pod in pods if pod.status.phase == "Failed" and pod.metadata.name != driver]
        logs = [f"the log of {name} ends:\n{self.cluster.log(self.namespace, name)}" for name in [*names, driver]]
        return "\n".join([container_states(pods), *logs])

    def works_again(self, timeout_s: float = 180) -> None:
        """Wait until a micro-batch that begins after this call is finished; one in progress does not count."""
        first: list[int] = []

        def missing() -> str:
            newest = self.newest_batch()
            first[:] = first or [newest]
            return "" if newest > first[0] + 1 else f"batch {newest}, not beyond {first[0] + 1}"

        self.wait(missing, timeout_s)


@dataclass
class Job:
    """A producer's Job."""

    system: System
    name: str
    manifest: dict[str, Any]

    def start(self) -> Job:
        self.system.cluster.apply(self.system.namespace, self.manifest)
        return self

    def wait(self, timeout_s: float = 300) -> None:
        """Wait until the Job has sent all records."""
        system = self.system

        def missing() -> str:
            status = system.cluster.batch.read_namespaced_job(self.name, system.namespace).status
            conditions = {condition.type for condition in status.conditions or [] if condition.status == "True"}
            assert "Failed" not in conditions, f"the Job failed: {self.log()}"
            return (
                "" if "Complete" in conditions else f"the Job {self.name} is not complete; its log ends: {self.log()}"
            )

        system.wait(missing, timeout_s)

    def pods(self) -> list[Any]:
        return self.system.cluster.pods(self.system.namespace, f"job-name={self.name}")

    def log(self) -> str:
        logs = [self.system.cluster.log(self.system.namespace, pod.metadata.name, 10) for pod in self.pods()]
        return "\n".join(logs)

    def delete(self) -> None:
        """Remove the Job and wait until its pods are gone."""
        self.system.cluster.kubectl(
            "delete", "job", "--namespace", self.system.namespace, self.name, "--cascade=foreground", "--wait"
        )
