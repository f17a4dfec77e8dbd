"""`helm test` runs this: it waits until the release works, or reports what is wrong and what to do.

It needs only the standard library. It asks the Kubernetes API (as the ServiceAccount of its pod) and Elasticsearch.
The last line of its output is the reason that comes first: a server before the programs that need it.
"""

from __future__ import annotations

import base64
import json
import os
import ssl
import sys
import time
import urllib.request
from collections.abc import Callable, Mapping
from datetime import datetime, timezone
from pathlib import Path

from kube import (
    STEADY_S,
    Cluster,
    Missing,
    Object,
    conditions,
    diagnosis,
    errors,
    fetch,
    seconds_since,
    states,
    terminating,
    wrong_with_pod,
    wrong_with_pods,
)

LOGIN = Path("/etc/streaming-ml/elasticsearch")
PAUSE_S = 3
SEND = (
    "kubectl get configmap -n {NAMESPACE} {RELEASE}-producer -o go-template='{{{{index .data \"job.yaml\"}}}}' "
    "| kubectl apply -n {NAMESPACE} -f -"
)
FRESH_S = 300
"""Maximum age of the newest micro-batch while records wait."""


def kafka(cluster: Cluster, release: str) -> str:
    """Return what is wrong with Kafka, its pods, topics and users; an empty text if nothing is."""
    api, own = "apis/kafka.strimzi.io/v1", f"strimzi.io/cluster={release}"
    try:
        servers = cluster.get(api, f"kafkas/{release}")
    except Missing:
        return gone("Kafka", release)
    if not servers.get("status"):
        return unwatched("Kafka", "Strimzi", cluster)
    nodes = sum(pool["spec"]["replicas"] for pool in cluster.list(api, "kafkanodepools", labelSelector=own))
    pods = wrong_with_pods(cluster, "Kafka", f"{own},strimzi.io/name={release}-kafka", nodes)
    if wrong := not_ready(servers):
        return f"{wrong}; {pods}".removesuffix("; ")
    operators = f"{own},strimzi.io/name={release}-entity-operator"
    pods = pods or wrong_with_pods(cluster, "Strimzi's topic and user operator", operators, 1)
    if pods:
        return pods
    for kind in ("kafkatopics", "kafkausers"):
        for resource in cluster.list(api, kind, labelSelector=own):
            if wrong := not_ready(resource):
                return wrong
    return ""


def not_ready(resource: Object) -> str:
    """Return why Strimzi says that an object is not ready; an empty text if it is."""
    known = conditions(resource)
    if known.get("Ready", {}).get("status") == "True":
        return ""
    trouble = known.get("NotReady") or known.get("Ready") or {}
    name = f"{resource['kind']} {resource['metadata']['name']}"
    return f"{name} is not ready: {trouble.get('reason', 'new')} {trouble.get('message', '')}".rstrip()


def elasticsearch(cluster: Cluster, release: str) -> str:
    """Return what is wrong with Elasticsearch's nodes."""
    api, own = "apis/elasticsearch.k8s.elastic.co/v1", f"elasticsearch.k8s.elastic.co/cluster-name={release}"
    return elastic(cluster, release, "Elasticsearch", f"{api}/elasticsearches", own, {"green", "yellow"})


def kibana(cluster: Cluster, release: str) -> str:
    """Return what is wrong with Kibana."""
    api, own = "apis/kibana.k8s.elastic.co/v1", f"kibana.k8s.elastic.co/name={release}"
    return elastic(cluster, release, "Kibana", f"{api}/kibanas", own, {"green"})


def elastic(cluster: Cluster, release: str, kind: str, path: str, own: str, good: set[str]) -> str:
    """Return what is wrong with an object of ECK's and its pods, which have the labels `own`."""
    api, _, plural = path.rpartition("/")
    try:
        found = cluster.get(api, f"{plural}/{release}")
    except Missing:
        return gone(kind, release)
    status = found.get("status", {})
    if not status:
        return unwatched(kind, "ECK", cluster)
    spec = found["spec"]
    wanted = spec.get("count", 0) + sum(nodes["count"] for nodes in spec.get("nodeSets", []))
    pods = wrong_with_pods(cluster, kind, own, wanted)
    health = status.get("health", "unknown")
    if health in good:
        return pods
    return f"{kind} {release} is {health} (phase {status.get('phase', 'unknown')}); {pods}".removesuffix("; ")


def gone(kind: str, name: str) -> str:
    """Return the message for an object that does not exist."""
    return f"there is no {kind} {name}, or no CRD for it any more: install charts/operators, then helm upgrade"


def unwatched(kind: str, operator: str, cluster: Cluster) -> str:
    """Return the message for an object that no operator has handled."""
    return (
        f"no operator looks after {kind}: is the {operator} operator running, does it watch namespace "
        f"{cluster.namespace}, and does it have rights there? The rights are Roles in this namespace, so they are "
        "deleted with it. `helm upgrade operators charts/operators -n operators --wait` creates them again"
    )


def app(cluster: Cluster, release: str, seen: dict[str, str]) -> str:
    """Return what is wrong with the SparkApplication. A driver that ends again and again counts as wrong.

    `seen` keeps the last ERROR line of an earlier driver, because the log ends with its pod.
    """
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
    if running and seconds_since(running[0]["startedAt"]) >= STEADY_S and state["state"] == "RUNNING":
        seen.pop("error", None)
        return executors(cluster, release)
    if found := errors(cluster, driver, 50):
        seen["error"] = found[-1]
    if "error" in seen:
        return f"the driver's log says: {seen['error']}"
    wrong = [words for pod in pods if (words := wrong_with_pod(cluster, pod))]
    reason = state.get("errorMessage") or (wrong or [f"not up for {STEADY_S} s yet"])[0]
    return f"SparkApplication {release} is {state['state']}: {reason}"


def executors(cluster: Cluster, release: str) -> str:
    """Return why no executor runs; an empty text if one does."""
    own = f"sparkoperator.k8s.io/app-name={release},spark-role=executor"
    pods = [pod for pod in cluster.list("api/v1", "pods", labelSelector=own) if not terminating(pod)]
    if any(not wrong_with_pod(cluster, pod) for pod in pods):
        return ""
    left = [wrong_with_pod(cluster, pod) for pod in pods if pod["status"].get("phase") != "Succeeded"]
    return f"no executor is running: {left[0] if left else 'there is none'}"


def dashboards(cluster: Cluster, instance: str) -> str:
    """Return why the dashboards were not loaded. Helm deletes the Job when it has loaded them, so no Job is fine."""
    own = f"app.kubernetes.io/instance={instance},app.kubernetes.io/component=dashboards"
    jobs = cluster.list("apis/batch/v1", "jobs", labelSelector=own)
    if not jobs:
        return ""
    job = max(jobs, key=lambda job: str(job["metadata"].get("creationTimestamp", "")))
    name, known = job["metadata"]["name"], conditions(job)
    if known.get("Complete", {}).get("status") == "True":
        return ""
    failed = known.get("Failed")
    if not failed:
        return f"the dashboards are not loaded yet: Job {name} is not done"
    pods = cluster.list("api/v1", "pods", labelSelector=f"job-name={name}")
    found = [line for pod in pods for line in errors(cluster, pod["metadata"]["name"], 50)]
    reason = found[-1] if found else failed.get("message", "")
    return f"the dashboards were not loaded: Job {name} failed: {reason}. To try again: helm upgrade"


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
            f"{how_to_send(environment)}"
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
        sends = f"either no program sends records ({how_to_send(environment)})"
        say(f"no records since {model['@timestamp']}: {sends}, or the driver waits for Kafka (its log says so)")
    before = seen.setdefault("points", count)
    return f"{count} {found} and no more yet, though {lag} records wait in Kafka" if lag and count <= before else ""


def authorization() -> str:
    """Return the header of the login: a token if the Secret has one, else user and password."""
    if (LOGIN / "token").exists():
        return f"Bearer {(LOGIN / 'token').read_text().strip()}"
    user, password = ((LOGIN / key).read_text().rstrip("\r\n") for key in ("username", "password"))
    return f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"


def how_to_send(environment: Mapping[str, str]) -> str:
    """Return the command that sends records; the release has no Job for a Kafka that it did not install."""
    return SEND.format(**environment) if environment["KAFKA"] == "true" else "start the program that sends them"


def say(text: str) -> None:
    """Print a line without buffering."""
    print(text, flush=True)  # noqa: T201


def main(environment: Mapping[str, str]) -> int:
    """Return 0 when all checks have passed, 1 when the time has run out."""
    cluster, release, instance = Cluster(environment), environment["RELEASE"], environment["INSTANCE"]
    checks: dict[str, Callable[[], str]] = {
        "Kafka": lambda: kafka(cluster, release),
        "Elasticsearch": lambda: elasticsearch(cluster, release),
        "Kibana": lambda: kibana(cluster, release),
    }
    checks = {name: check for name, check in checks.items() if environment[name.upper()] == "true"}
    logged: dict[str, str] = {}
    checks["app"] = lambda: app(cluster, release, logged)
    if environment["DASHBOARDS"] == "true":
        checks["dashboards"] = lambda: dashboards(cluster, instance)
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
            for line in diagnosis(cluster, release, instance):
                say(line)
            say(f"\nStill not ready after {environment['TIMEOUT_S']} s:")
            for name in reversed(wrong):  # the first is the cause of the others, and the last line is what people read
                say(f"{name}: {said[name]}")
            return 1
        time.sleep(PAUSE_S)


if __name__ == "__main__":
    sys.exit(main(os.environ))
