"""`helm test` reports faults: charts/streaming-ml/files/check.py with a table instead of a cluster."""

from __future__ import annotations

import json
import runpy
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from tests.charts.rendering import CHART, Object

CHECK = runpy.run_path(str(CHART / "files" / "check.py"))
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
        return [
            manifest
            for manifest in found
            if not wanted or wanted in str(manifest.get("metadata", {}).get("name") or manifest)
        ]

    def _find(self, path: str) -> Any:
        if path not in self.found:
            raise CHECK["Missing"]
        return self.found[path]


def thing(kind: str, name: str, **status: Any) -> Object:
    labels = {"app.kubernetes.io/instance": "r"}
    return {"kind": kind, "metadata": {"name": name, "labels": labels}, "status": status}


def ready(value: str = "True", **more: str) -> list[Object]:
    return [{"type": "Ready", "status": value, **more}]


def driver(seconds: float) -> Object:
    began = datetime.now(timezone.utc) - timedelta(seconds=seconds)
    state = {"running": {"startedAt": f"{began:%Y-%m-%dT%H:%M:%SZ}"}}
    return thing("Pod", "r-driver", phase="Running", containerStatuses=[{"ready": True, "state": state}])


@pytest.mark.parametrize("part", ["kafka", "elasticsearch", "kibana", "app"])
def test_an_object_that_no_operator_has_touched(part: str) -> None:
    names = {"kafka": "kafkas", "elasticsearch": "elasticsearches", "kibana": "kibanas", "app": "sparkapplications"}
    table = Table()
    assert "there is no" in CHECK[part](table, "r")
    table.found[f"{names[part]}/r"] = {"metadata": {"name": "r"}}
    said = CHECK[part](table, "r")
    assert "operator running, and does it watch namespace ml?" in said


def test_kafka_is_well_when_it_its_topics_and_users_are() -> None:
    table = Table(kafkas__r=thing("Kafka", "r", conditions=ready()), kafkatopics=[], kafkausers=[])
    assert CHECK["kafka"](table, "r") == ""
    table.found["kafkatopics"] = [
        thing("KafkaTopic", "r-train", conditions=ready("False", reason="NotSupported", message="fewer partitions"))
    ]
    assert CHECK["kafka"](table, "r") == "KafkaTopic r-train is not ready: NotSupported fewer partitions"
    trouble = {"type": "NotReady", "status": "True", "reason": "InvalidResourceException", "message": "bad version"}
    table.found["kafkas/r"] = thing("Kafka", "r", conditions=[trouble])
    assert CHECK["kafka"](table, "r") == "Kafka r is not ready: InvalidResourceException bad version"


def test_elasticsearch_is_well_when_green_or_yellow() -> None:
    for health, well in (("green", True), ("yellow", True), ("red", False), ("unknown", False)):
        table = Table(elasticsearches__r=thing("Elasticsearch", "r", health=health, phase="ApplyingChanges"))
        assert (CHECK["elasticsearch"](table, "r") == "") == well


def test_a_driver_that_keeps_failing_does_not_pass() -> None:
    """It runs for some seconds after each start, so its last message says more than its state."""
    table = Table(sparkapplications__r=thing("SparkApplication", "r", applicationState={"state": "RUNNING"}))
    table.found["pods"] = [driver(10)]
    assert "RUNNING: not up for 30 s yet" in CHECK["app"](table, "r")
    table.found["pods/r-driver/log"] = "INFO going\n2026-11-24T11:30:51.232Z ERROR checkpoint holds a model of x\n"
    assert CHECK["app"](table, "r").endswith("ERROR checkpoint holds a model of x")
    table.found["pods"] = [driver(31)]
    del table.found["pods/r-driver/log"]
    status = table.found["sparkapplications/r"]["status"]
    assert CHECK["app"](table, "r") == "no executor is running: there is none"
    status["executorState"] = {"one": "FAILED", "two": "PENDING"}
    assert CHECK["app"](table, "r") == "no executor is running: {'one': 'FAILED', 'two': 'PENDING'}"
    status["executorState"]["three"] = "RUNNING"
    assert CHECK["app"](table, "r") == ""
    status["applicationState"] = {"state": "FAILING", "errorMessage": "gone"}
    assert CHECK["app"](table, "r") == "SparkApplication r is FAILING: gone"


def test_the_dashboards_job_is_done_failed_or_gone() -> None:
    table = Table(jobs__j=thing("Job", "j"))
    assert "Job j is not done" in CHECK["dashboards"](table, "j")
    table.found["jobs/j"] = thing("Job", "j", conditions=[{"type": "Failed", "status": "True", "message": "too long"}])
    assert "Job j failed: too long" in CHECK["dashboards"](table, "j")
    assert "kubectl delete job -n ml j, then helm upgrade" in CHECK["dashboards"](table, "j")
    table.found["jobs/j"] = thing("Job", "j", conditions=[{"type": "Complete", "status": "True"}])
    assert CHECK["dashboards"](table, "j") == ""
    assert "there is no Job other" in CHECK["dashboards"](table, "other")


def test_the_diagnosis_names_missing_storage_classes_secrets_and_images() -> None:
    waiting = {"waiting": {"reason": "ImagePullBackOff", "message": "no such image"}}

    def warning(name: str, reason: str, message: str) -> Object:
        return {"involved": name, "type": "Warning", "reason": reason, "message": message}

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
    assert list(CHECK["diagnosis"](table, "r")) == [
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
