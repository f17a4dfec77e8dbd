"""`helm test` reports faults: charts/streaming-ml/files/check.py with a table instead of a cluster."""

from __future__ import annotations

import json
import runpy
import sys
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from tests.charts.rendering import CHART, Object

sys.path.insert(0, str(CHART / "files"))  # as PYTHONPATH in the test's pod
CHECK = runpy.run_path(str(CHART / "files" / "check.py"))
sys.path.remove(str(CHART / "files"))
KAFKA, ELASTIC = "apis/kafka.strimzi.io/v1", "apis/elasticsearch.k8s.elastic.co/v1"
SPARK = "apis/sparkoperator.k8s.io/v1beta2"


class Table:
    """Answers like the Kubernetes API, from `found`: path → object, list or text."""

    namespace = "ml"

    def __init__(self, **found: Any) -> None:
        self.found = {name.replace("__", "/"): value for name, value in found.items()}

    def read(self, api: str, path: str, **query: str) -> str:  # noqa: ARG002
        return str(self._find(path))

    def get(self, api: str, path: str) -> Object:  # noqa: ARG002
        found: Object = self._find(path)
        return found

    def list(self, api: str, kind: str, **query: str) -> list[Object]:  # noqa: ARG002
        found: list[Object] = self.found.get(kind, [])
        wanted = query.get("fieldSelector", "").rpartition("=")[2]
        labels = dict(pair.split("=") for pair in query.get("labelSelector", "").split(",") if pair)
        return [
            manifest
            for manifest in found
            if (not wanted or wanted in str(manifest.get("metadata", {}).get("name") or manifest))
            and labels.items() <= manifest["metadata"].get("labels", labels).items()
        ]

    def _find(self, path: str) -> Any:
        if path not in self.found:
            raise CHECK["Missing"]
        return self.found[path]


def thing(kind: str, name: str, **status: Any) -> Object:
    labels = {"app.kubernetes.io/instance": "r"}
    return {"kind": kind, "metadata": {"name": name, "labels": labels}, "status": status}


def pod(name: str, labels: Object, up_s: float = 60, **status: Any) -> Object:
    """A pod whose only container has been up for some seconds, unless `status` says something else."""
    container = {"ready": True, "restartCount": 0, "state": {"running": {"startedAt": ago(up_s)}}}
    running = {"phase": "Running", "containerStatuses": [container | status.pop("container", {})]}
    return {"kind": "Pod", "metadata": {"name": name, "labels": labels}, "status": running | status}


def ago(seconds: float) -> str:
    return f"{datetime.now(timezone.utc) - timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%SZ}"


def ready(value: str = "True", **more: str) -> list[Object]:
    return [{"type": "Ready", "status": value, **more}]


def driver(seconds: float) -> Object:
    return pod("r-driver", {"app.kubernetes.io/instance": "r"}, seconds)


BROKER = {"strimzi.io/cluster": "r", "strimzi.io/name": "r-kafka"}
ENTITY_OPERATOR = {"strimzi.io/cluster": "r", "strimzi.io/name": "r-entity-operator"}
EXECUTOR = {"sparkoperator.k8s.io/app-name": "r", "spark-role": "executor"}


def well_kafka() -> Table:
    """A Kafka with one broker, whose pods run."""
    pools = [{"metadata": {"name": "r-dual"}, "spec": {"replicas": 1}}]
    pods = [pod("r-dual-0", BROKER), pod("r-entity-operator-1", ENTITY_OPERATOR)]
    table = Table(kafkas__r=thing("Kafka", "r", conditions=ready()), kafkanodepools=pools, pods=pods)
    assert CHECK["kafka"](table, "r") == ""
    return table


def check(part: str, table: Table) -> str:
    """Return what the check of a part says."""
    said: str = CHECK[part](table, "r", {}) if part == "app" else CHECK[part](table, "r")
    return said


@pytest.mark.parametrize("part", ["kafka", "elasticsearch", "kibana", "app"])
def test_an_object_that_no_operator_has_touched(part: str) -> None:
    names = {"kafka": "kafkas", "elasticsearch": "elasticsearches", "kibana": "kibanas", "app": "sparkapplications"}
    table = Table()
    assert "there is no" in check(part, table)
    table.found[f"{names[part]}/r"] = {"metadata": {"name": "r"}}
    said = check(part, table)
    assert "operator running, does it watch namespace ml, and does it have rights there?" in said
    assert "helm upgrade operators charts/operators -n operators --wait" in said


def test_kafka_is_well_when_its_topics_and_users_are() -> None:
    table = well_kafka()
    topic = thing("KafkaTopic", "r-train", conditions=ready("False", reason="NotSupported", message="fewer partitions"))
    topic["metadata"]["labels"] = {"strimzi.io/cluster": "r"}
    table.found["kafkatopics"] = [topic]
    assert CHECK["kafka"](table, "r") == "KafkaTopic r-train is not ready: NotSupported fewer partitions"
    trouble = {"type": "NotReady", "status": "True", "reason": "InvalidResourceException", "message": "bad version"}
    table.found["kafkas/r"] = thing("Kafka", "r", conditions=[trouble])
    assert CHECK["kafka"](table, "r") == "Kafka r is not ready: InvalidResourceException bad version"


def test_kafka_is_not_well_without_its_pods_whatever_its_old_status_says() -> None:
    """Strimzi does not change the condition `Ready` when the brokers are gone or the entity operator crashes."""
    broker, operators = well_kafka().found["pods"]
    table = well_kafka()
    table.found["pods"] = [operators]
    assert CHECK["kafka"](table, "r") == "Kafka has 0 of 1 pods"
    table.found["pods"] = [{**broker, "metadata": {**broker["metadata"], "deletionTimestamp": ago(1)}}, operators]
    assert CHECK["kafka"](table, "r") == "Kafka has 0 of 1 pods"
    table.found["pods"] = [broker]
    assert CHECK["kafka"](table, "r") == "Strimzi's topic and user operator has 0 of 1 pods"
    looping = {"ready": False, "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}}}
    table.found["pods"] = [broker, pod("r-entity-operator-1", ENTITY_OPERATOR, container=looping)]
    assert "Pod r-entity-operator-1 is Running: CrashLoopBackOff back-off 40s" in CHECK["kafka"](table, "r")
    again = {"restartCount": 3, "lastState": {"terminated": {"exitCode": 1, "reason": "Error"}}}
    table.found["pods"] = [broker, pod("r-entity-operator-1", ENTITY_OPERATOR, 5, container=again)]
    assert "has restarted 3 times, the last time just now (exit code 1 Error)" in CHECK["kafka"](table, "r")
    table.found["pods"] = [broker, pod("r-entity-operator-1", ENTITY_OPERATOR, 31, container=again)]
    assert CHECK["kafka"](table, "r") == ""


def test_a_kafka_that_never_starts_is_explained_by_its_claim() -> None:
    table = well_kafka()
    waiting = pod("r-dual-0", BROKER, phase="Pending", containerStatuses=[])
    waiting["spec"] = {"volumes": [{"persistentVolumeClaim": {"claimName": "data-0-r-dual-0"}}, {"emptyDir": {}}]}
    table.found["pods"] = [waiting]
    table.found["persistentvolumeclaims"] = [thing("PVC", "data-0-r-dual-0", phase="Pending")]
    event = {"metadata": {"name": "data-0-r-dual-0"}, "reason": "ProvisioningFailed", "message": 'class "x" not found'}
    table.found["events"] = [event]
    creating = [{"type": "NotReady", "status": "True", "reason": "Creating", "message": "Kafka cluster"}]
    table.found["kafkas/r"] = thing("Kafka", "r", conditions=creating)
    assert CHECK["kafka"](table, "r") == (
        "Kafka r is not ready: Creating Kafka cluster; Kafka: PersistentVolumeClaim data-0-r-dual-0 is Pending: "
        'ProvisioningFailed: class "x" not found'
    )


def test_elasticsearch_is_well_when_green_or_yellow_and_its_pods_run() -> None:
    nodes = [pod("r-es-default-0", {"elasticsearch.k8s.elastic.co/cluster-name": "r"})]
    for health, well in (("green", True), ("yellow", True), ("red", False), ("unknown", False)):
        found = thing("Elasticsearch", "r", health=health, phase="ApplyingChanges")
        table = Table(elasticsearches__r=found | {"spec": {"nodeSets": [{"count": 1}]}}, pods=nodes)
        assert (CHECK["elasticsearch"](table, "r") == "") == well
    table = Table(
        elasticsearches__r=thing("Elasticsearch", "r", health="green") | {"spec": {"nodeSets": [{"count": 1}]}}
    )
    assert CHECK["elasticsearch"](table, "r") == "Elasticsearch has 0 of 1 pods"
    table = Table(kibanas__r=thing("Kibana", "r", health="red", phase="x") | {"spec": {"count": 2}})
    assert CHECK["kibana"](table, "r") == "Kibana r is red (phase x); Kibana has 0 of 2 pods"


def test_a_driver_that_keeps_failing_does_not_pass() -> None:
    """It runs for some seconds after each start, so its last message says more than its state."""
    table = Table(sparkapplications__r=thing("SparkApplication", "r", applicationState={"state": "RUNNING"}))
    table.found["pods"] = [driver(10)]
    seen: dict[str, str] = {}
    assert "RUNNING: not up for 30 s yet" in CHECK["app"](table, "r", seen)
    table.found["pods/r-driver/log"] = "INFO going\n2026-11-24T11:30:51.232Z ERROR checkpoint holds a model of x\n"
    assert CHECK["app"](table, "r", seen).endswith("ERROR checkpoint holds a model of x")
    table.found["pods/r-driver/log"] = "INFO going\n"  # the next driver, which has not failed yet
    assert CHECK["app"](table, "r", seen).endswith("ERROR checkpoint holds a model of x")
    table.found["pods"] = [driver(31)]
    assert CHECK["app"](table, "r", seen) == "no executor is running: there is none"
    assert not seen
    table.found["pods"] = [driver(31), pod("x-exec-1", EXECUTOR, phase="Succeeded")]
    assert CHECK["app"](table, "r", seen) == "no executor is running: there is none"
    table.found["pods"] += [pod("x-exec-2", EXECUTOR, phase="Pending", container={"ready": False, "state": {}})]
    assert "no executor is running: Pod x-exec-2 is Pending: not ready" in CHECK["app"](table, "r", seen)
    table.found["pods"] += [pod("x-exec-3", EXECUTOR)]
    assert CHECK["app"](table, "r", seen) == ""
    status = table.found["sparkapplications/r"]["status"]
    status["applicationState"] = {"state": "FAILING", "errorMessage": "gone"}
    assert CHECK["app"](table, "r", seen) == "SparkApplication r is FAILING: gone"


def test_the_dashboards_are_loaded_when_their_job_is_gone_or_complete() -> None:
    """Helm deletes the Job of its hook when it has succeeded; `kubectl apply` leaves it."""
    component = {"app.kubernetes.io/component": "dashboards"}

    def job(name: str, age_s: float, **condition: str) -> Object:
        found = thing("Job", name, conditions=[{"status": "True", **condition}] if condition else [])
        found["metadata"] |= {"creationTimestamp": ago(age_s)}
        found["metadata"]["labels"] |= component
        return found

    table = Table(jobs=[])
    assert CHECK["dashboards"](table, "r") == ""
    table.found["jobs"] = [job("j", 9)]
    assert "Job j is not done" in CHECK["dashboards"](table, "r")
    table.found["jobs"] = [job("j", 9, type="Failed", message="too long")]
    assert "Job j failed: too long. To try again: helm upgrade" in CHECK["dashboards"](table, "r")
    table.found["pods"] = [pod("j-1", {"job-name": "j"}, phase="Failed")]
    table.found["pods/j-1/log"] = "INFO waiting\n2026 ERROR Kibana refused the login\n"
    assert "Job j failed: 2026 ERROR Kibana refused the login. To" in CHECK["dashboards"](table, "r")
    table.found["jobs"].append(job("k", 1, type="Complete"))
    assert CHECK["dashboards"](table, "r") == ""


def test_the_last_line_is_the_reason_that_comes_first(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    table = Table(sparkapplications__r=thing("SparkApplication", "r", applicationState={"state": "FAILING"}))
    table.found["pods"] = [driver(5)]
    table.found["pods/r-driver/log"] = "INFO going\nERROR indexPrefix spark belongs to another run\n"
    functions = CHECK["main"].__globals__
    monkeypatch.setitem(functions, "Cluster", lambda _: table)
    monkeypatch.setitem(functions, "points", lambda *_: "no points")
    environment = dict.fromkeys(("KAFKA", "ELASTICSEARCH", "KIBANA"), "false")
    assert CHECK["main"](environment | {"RELEASE": "r", "INSTANCE": "r", "TIMEOUT_S": "-1", "DASHBOARDS": "true"}) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "app: the driver's log says: ERROR indexPrefix spark belongs to another run"
    assert lines[-2] == "points: no points"


def test_the_diagnosis_names_missing_storage_classes_secrets_and_images() -> None:
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}

    def warning(name: str, reason: str, message: str) -> Object:
        return {"metadata": {"name": name}, "type": "Warning", "reason": reason, "message": message}

    table = Table(
        persistentvolumeclaims=[thing("PVC", "r-checkpoint", phase="Pending"), thing("PVC", "data", phase="Pending")],
        pods=[
            thing("Pod", "model-exec-1", phase="Pending", containerStatuses=[{"ready": False, "state": waiting}]),
            thing("Pod", "r-kb-1", phase="Pending"),
            driver(40),
            {"metadata": {"name": "another"}, "status": {"phase": "Pending"}},
            thing("Pod", "r-test", phase="Running"),
        ],
        events=[
            warning("r-checkpoint", "ProvisioningFailed", 'class "x" not found'),
            warning("r-kb-1", "FailedMount", 'secret "y" not found'),
        ],
    )
    table.found["pods/model-exec-1/log"] = "one\ntwo"
    assert list(CHECK["diagnosis"](table, "r", "r")) == [
        'PersistentVolumeClaim r-checkpoint is Pending: ProvisioningFailed: class "x" not found',
        "Pod model-exec-1 is Pending: ImagePullBackOff no such image; no event",
        "  model-exec-1 | one",
        "  model-exec-1 | two",
        'Pod r-kb-1 is Pending: not ready; FailedMount: secret "y" not found',
    ]


@pytest.mark.parametrize(
    ("models", "age_s", "points", "words"),
    [
        ([], 0, 0, "the app has learned nothing yet"),
        ([{"batch": 1, "lag": 0}], 9, 0, "spark-points-* is empty: are all records invalid?"),
        ([{"batch": 1, "lag": 0}], 9, 7, ""),
        ([{"batch": 1, "lag": None}], 9, 7, ""),
        ([{"batch": 1, "lag": 5}], 9, 7, "7 points and no more yet, though 5 records wait in Kafka"),
        ([{"batch": 1, "lag": 5, "points_fraction": 1}], 9, 7, "7 points and no more yet"),
        ([{"batch": 1, "lag": 5, "points_fraction": 0.01}], 9, 7, "7 metrics documents and no more yet, though 5"),
        ([{"batch": 1, "lag": 0}], 400, 7, ""),
        ([{"batch": 1, "lag": 5}], 400, 7, "no points flow: the newest micro-batch is 40"),
    ],
)
def test_points_flow_when_there_are_some_and_they_grow_or_none_wait(
    models: list[Object], age_s: float, points: int, words: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    for key in ("username", "password"):
        (tmp_path / key).write_text(f"{key}\n")
    asked = []
    time = (datetime.now(timezone.utc) - timedelta(seconds=age_s)).isoformat(timespec="milliseconds")

    def fetch(request: Any, context: object) -> str:
        asked.append((request.full_url, request.headers["Authorization"], context))
        hits = {
            "hits": [{"_source": {**model, "@timestamp": time.replace("+00:00", "Z")}} for model in models],
            "total": {"value": points},
        }
        return json.dumps({"hits": hits})

    functions = CHECK["points"].__globals__
    monkeypatch.setitem(functions, "fetch", fetch)
    monkeypatch.setitem(functions, "LOGIN", tmp_path)
    environment = {"ELASTICSEARCH_URL": "http://a:9200, http://b:9200", "INDEX_PREFIX": "spark", "NAMESPACE": "ml"}
    environment |= {"RELEASE": "r", "KAFKA": "true"}
    seen: dict[str, int] = {}
    assert CHECK["points"](environment, seen).startswith(words)
    assert (CHECK["points"](environment, seen) == "") == (words == "")
    assert asked[0] == ("http://a:9200/spark-models-*/_search", "Basic dXNlcm5hbWU6cGFzc3dvcmQ=", None)
    if models:
        kind = "metrics" if models[0].get("points_fraction", 1) < 1 else "points"
        assert asked[1][0] == f"http://a:9200/spark-{kind}-*/_search"
    if words.startswith("7"):
        points += 1
        assert CHECK["points"](environment, seen) == ""


def test_a_token_is_the_login_if_the_secret_has_one(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    monkeypatch.setitem(CHECK["authorization"].__globals__, "LOGIN", tmp_path)
    (tmp_path / "token").write_text("abc\n")
    assert CHECK["authorization"]() == "Bearer abc"
