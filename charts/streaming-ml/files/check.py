"""`helm test` runs this: it waits until the release works, or reports what is wrong and what to do.

It needs only the standard library. It asks the Kubernetes API (as the ServiceAccount of its pod) and Elasticsearch.
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import sys
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

Object = dict[str, Any]
LOGIN = Path("/etc/streaming-ml/elasticsearch")
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
CALL_S = 10
PAUSE_S = 3
LINES_OF_LOG = 8
STEADY_S = 30
"""Time that the driver must have been up. A driver that refuses its settings or its checkpoint ends earlier."""
SEND = "kubectl apply -n {NAMESPACE} -f producer/job.yaml"
FRESH_S = 300
"""Maximum age of the newest micro-batch while records wait."""


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


def kafka(cluster: Cluster, release: str) -> str:
    """Return what is wrong with Kafka, its topics and users; an empty text if nothing is."""
    api = "apis/kafka.strimzi.io/v1"
    try:
        servers = cluster.get(api, f"kafkas/{release}")
    except Missing:
        return gone("Kafka", release)
    if not servers.get("status"):
        return unwatched("Kafka", "Strimzi", cluster)
    found = [servers]
    for kind in ("kafkatopics", "kafkausers"):
        found += cluster.list(api, kind, labelSelector=f"strimzi.io/cluster={release}")
    for resource in found:
        known = conditions(resource)
        name = f"{resource['kind']} {resource['metadata']['name']}"
        if known.get("Ready", {}).get("status") == "True":
            continue
        trouble = known.get("NotReady") or known.get("Ready") or {}
        return f"{name} is not ready: {trouble.get('reason', 'new')} {trouble.get('message', '')}".rstrip()
    return ""


def elasticsearch(cluster: Cluster, release: str) -> str:
    """Return what is wrong with Elasticsearch's nodes."""
    return elastic(cluster, release, "Elasticsearch", "apis/elasticsearch.k8s.elastic.co/v1", {"green", "yellow"})


def kibana(cluster: Cluster, release: str) -> str:
    """Return what is wrong with Kibana."""
    return elastic(cluster, release, "Kibana", "apis/kibana.k8s.elastic.co/v1", {"green"})


def elastic(cluster: Cluster, release: str, kind: str, api: str, good: set[str]) -> str:
    """Return what is wrong with an object of ECK's."""
    plural = {"Elasticsearch": "elasticsearches", "Kibana": "kibanas"}[kind]
    try:
        status = cluster.get(api, f"{plural}/{release}").get("status", {})
    except Missing:
        return gone(kind, release)
    if not status:
        return unwatched(kind, "ECK", cluster)
    health = status.get("health", "unknown")
    return "" if health in good else f"{kind} {release} is {health} (phase {status.get('phase', 'unknown')})"


def gone(kind: str, name: str) -> str:
    """Return the message for an object that does not exist."""
    return f"there is no {kind} {name}, or no CRD for it any more: install charts/operators, then helm upgrade"


def unwatched(kind: str, operator: str, cluster: Cluster) -> str:
    """Return the message for an object that no operator has handled."""
    return (
        f"no operator looks after {kind}: is the {operator} operator running, and does it watch namespace "
        f"{cluster.namespace}? (charts/operators/README.md)"
    )


def app(cluster: Cluster, release: str) -> str:
    """Return what is wrong with the SparkApplication. A driver that ends again and again counts as wrong."""
    try:
        status = cluster.get("apis/sparkoperator.k8s.io/v1beta2", f"sparkapplications/{release}").get("status", {})
    except Missing:
        return gone("SparkApplication", release)
    state = status.get("applicationState", {})
    if not state.get("state"):
        return unwatched("SparkApplication", "Spark", cluster)
    driver = f"{release}-driver"
    pods = cluster.list("api/v1", "pods", fieldSelector=f"metadata.name={driver}")
    running = [state["running"] for pod in pods for state in states(pod) if "running" in state]
    if running:
        began = datetime.strptime(running[0]["startedAt"], "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=timezone.utc)
        up = (datetime.now(timezone.utc) - began).total_seconds()
        if up >= STEADY_S and state["state"] == "RUNNING":
            executors = status.get("executorState", {})
            if "RUNNING" in executors.values():
                return ""
            return f"no executor is running: {executors or 'there is none'}"
    errors = [line for line in log_of(cluster, driver, 50) if "ERROR" in line]
    if errors:
        return f"the driver's log says: {errors[-1]}"
    reason = state.get("errorMessage") or f"not up for {STEADY_S} s yet"
    return f"SparkApplication {release} is {state['state']}: {reason}"


def dashboards(cluster: Cluster, job: str) -> str:
    """Return what is wrong with the dashboards' Job."""
    try:
        known = conditions(cluster.get("apis/batch/v1", f"jobs/{job}"))
    except Missing:
        return f"there is no Job {job}: `helm upgrade` creates it again"
    if known.get("Complete", {}).get("status") == "True":
        return ""
    failed = known.get("Failed")
    if not failed:
        return f"the dashboards were not loaded: Job {job} is not done"
    remedy = f"kubectl delete job -n {cluster.namespace} {job}, then helm upgrade, which creates it again"
    return f"the dashboards were not loaded: Job {job} failed: {failed['message']}. To try again: {remedy}"


def points(environment: Mapping[str, str], seen: dict[str, int]) -> str:
    """Return why no points are written; `seen` keeps values for the next call."""
    url = environment["ELASTICSEARCH_URL"].split(",")[0].strip().rstrip("/")
    prefix = environment["INDEX_PREFIX"]

    def search(index: str, body: Object) -> Object:
        headers = {"Authorization": authorization(), "Content-Type": "application/json"}
        ca = environment.get("ELASTICSEARCH_CA_FILE")
        context = ssl.create_default_context(cafile=ca) if url.startswith("https:") else None
        if context and (certificate := environment.get("ELASTICSEARCH_CERTIFICATE_FILE")):
            context.load_cert_chain(certificate, environment["ELASTICSEARCH_KEY_FILE"])
        request = urllib.request.Request(f"{url}/{index}/_search", json.dumps(body).encode(), headers)  # noqa: S310
        hits: Object = json.loads(fetch(request, context))["hits"]
        return hits

    models = search(f"{prefix}-models-*", {"size": 1, "sort": [{"batch": {"order": "desc", "unmapped_type": "long"}}]})
    if not models["hits"]:
        return (
            f"the app has learned nothing yet: no document in {prefix}-models-*. If no program sends records yet: "
            f"{SEND.format(**environment)}"
        )
    model = models["hits"][0]["_source"]
    # When points are a sample, a micro-batch may add no point. It always adds metrics documents, so these are counted.
    kind, found = ("points", "points") if model.get("points_fraction", 1) >= 1 else ("metrics", "metrics documents")
    count = search(f"{prefix}-{kind}-*", {"size": 0, "track_total_hits": True})["total"]["value"]
    if not count:
        return f"{prefix}-{kind}-* is empty: are all records invalid? {prefix}-invalid-* says why"
    time_of_batch = datetime.fromisoformat(model["@timestamp"].replace("Z", "+00:00"))
    age_s = (datetime.now(timezone.utc) - time_of_batch).total_seconds()
    lag = model.get("lag")
    if age_s > FRESH_S and lag:
        return f"no points flow: the newest micro-batch is {age_s:.0f} s old, though {lag} records waited after it"
    if age_s > FRESH_S and "quiet" not in seen:
        seen["quiet"] = 1
        sends = f"either no program sends records ({SEND.format(**environment)})"
        say(f"no records since {model['@timestamp']}: {sends}, or the driver waits for Kafka (its log says so)")
    before = seen.setdefault("points", count)
    return f"{count} {found} and no more yet, though {lag} records wait in Kafka" if lag and count <= before else ""


def authorization() -> str:
    """Return the header of the login: a token if the Secret has one, else user and password."""
    if (LOGIN / "token").exists():
        return f"Bearer {(LOGIN / 'token').read_text().strip()}"
    user, password = ((LOGIN / key).read_text().rstrip("\r\n") for key in ("username", "password"))
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def diagnosis(cluster: Cluster, release: str) -> Iterator[str]:
    """Yield the state of claims and pods that are not ready, and the end of the pods' logs."""
    for claim in cluster.list("api/v1", "persistentvolumeclaims"):
        name, status = claim["metadata"]["name"], claim["status"].get("phase")
        if release in name and status != "Bound":
            yield f"PersistentVolumeClaim {name} is {status}: {last_event(cluster, name)}"
    for pod in cluster.list("api/v1", "pods"):
        name, status = pod["metadata"]["name"], pod["status"]
        own = pod["metadata"].get("labels", {}).get("app.kubernetes.io/instance") == release
        if not own or name == f"{release}-test" or status.get("phase") == "Succeeded":
            continue
        ready = all(container.get("ready") for container in status.get("containerStatuses", [{}]))
        if status.get("phase") == "Running" and ready:
            continue
        details = [detail for state in states(pod) for detail in state.values() if "reason" in detail]
        words = [f"{detail['reason']} {detail.get('message', '')}" for detail in details]
        yield f"Pod {name} is {status.get('phase')}: {'; '.join(words) or 'not ready'}; {last_event(cluster, name)}"
        yield from (f"  {name} | {line}" for line in log_of(cluster, name, LINES_OF_LOG))


def states(pod: Object) -> list[Object]:
    """Return the states of a pod's containers."""
    return [container.get("state", {}) for container in pod["status"].get("containerStatuses", [])]


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


def say(text: str) -> None:
    """Print a line without buffering."""
    print(text, flush=True)  # noqa: T201


def main(environment: Mapping[str, str]) -> int:
    """Return 0 when all checks have passed, 1 when the time has run out."""
    cluster, release = Cluster(environment), environment["RELEASE"]
    checks: dict[str, Callable[[], str]] = {
        "Kafka": lambda: kafka(cluster, release),
        "Elasticsearch": lambda: elasticsearch(cluster, release),
        "Kibana": lambda: kibana(cluster, release),
    }
    checks = {name: check for name, check in checks.items() if environment[name.upper()] == "true"}
    checks["app"] = lambda: app(cluster, release)
    if "DASHBOARDS_JOB" in environment:
        checks["dashboards"] = lambda: dashboards(cluster, environment["DASHBOARDS_JOB"])
    seen: dict[str, int] = {}
    checks["points"] = lambda: points(environment, seen)
    deadline = time.monotonic() + float(environment["TIMEOUT_S"])
    said: dict[str, str] = {}
    while True:
        for name, check in checks.items():
            try:
                trouble = check()
            except (OSError, Missing) as error:
                trouble = f"no answer: {error or 'not there'}"
            if said.get(name) != trouble:
                say(f"{name}: {trouble or 'ok'}")
            said[name] = trouble
        wrong = [name for name in checks if said[name]]
        if not wrong:
            say("all is well")
            return 0
        if time.monotonic() > deadline:
            say(f"\nStill not ready after {environment['TIMEOUT_S']} s:")
            for line in [f"{name}: {said[name]}" for name in wrong] + list(diagnosis(cluster, release)):
                say(line)
            return 1
        time.sleep(PAUSE_S)


if __name__ == "__main__":
    sys.exit(main(os.environ))
