"""Runs Helm and returns the rendered objects of the charts."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "streaming-ml"
OPERATORS = ROOT / "charts" / "operators"
SHAPES = sorted([*CHART.glob("ci/*-values.yaml"), CHART / "values-production.yaml"])
RELEASE, NAMESPACE = "streaming-ml", "ml"
SPARK_UNITS = {"m": 1, "g": 1024}
Object = dict[str, Any]
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast where libyaml is there


def helm(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run Helm and return the ended process with its output."""
    program = shutil.which("helm")
    assert program, "no helm on the PATH (go install helm.sh/helm/v4/cmd/helm@v4.3.1)"
    return subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)


@lru_cache
def render(*values: Path, chart: Path = CHART) -> list[Object]:
    """Return the objects of a chart with files of values, in a release named like the chart; do not modify them."""
    done = helm("template", chart.name, chart, "-n", NAMESPACE, *[word for file in values for word in ("-f", file)])
    assert done.returncode == 0, done.stderr
    return [found for found in yaml.load_all(done.stdout, LOADER) if found]


def refusal(overrides: Object, chart: Path = CHART, release: str = RELEASE, namespace: str = NAMESPACE) -> str:
    """Return Helm's error for a chart with some values, or an empty string if it renders them."""
    words = [word for key, value in overrides.items() for word in ("--set-json", f"{key}={json.dumps(value)}")]
    done = helm("template", release, chart, "-n", namespace, *words)
    return done.stderr if done.returncode else ""


def find(objects: list[Object], kind: str, name: str | None = None) -> Object:
    """Return the only object of a kind (and name)."""
    (found,) = (
        manifest for manifest in objects if manifest["kind"] == kind and name in {None, manifest["metadata"]["name"]}
    )
    return found


def pods(objects: list[Object]) -> Iterator[tuple[str, Object]]:
    """Yield all pods that the objects define, each with Kubernetes' `metadata` and `spec`.

    Additions of the operators are missing, for example the securityContext of Elasticsearch.
    """
    for manifest in objects:
        spec, name = manifest.get("spec", {}), f"{manifest['kind']} {manifest['metadata']['name']}"
        if manifest["kind"] == "Pod":
            yield name, {"metadata": manifest["metadata"], "spec": spec}
        elif manifest["kind"] == "Job":
            yield name, spec["template"]
        elif manifest["kind"] == "Elasticsearch":
            yield from ((f"{name} {nodes['name']}", nodes["podTemplate"]) for nodes in spec["nodeSets"])
        elif manifest["kind"] == "Kibana":
            yield name, spec["podTemplate"]
        elif manifest["kind"] == "ConfigMap" and "job.yaml" in manifest["data"]:
            yield from pods([yaml.safe_load(manifest["data"]["job.yaml"])])
        elif manifest["kind"] == "KafkaNodePool":
            container = {**spec["template"]["kafkaContainer"], "resources": spec["resources"], "name": "kafka"}
            yield name, strimzi_pod(spec["template"]["pod"], [container])
        elif manifest["kind"] == "Kafka":
            operators = spec["entityOperator"]
            containers = [
                {**operators["template"][f"{part}Container"], "resources": operators[part]["resources"], "name": part}
                for part in ("topicOperator", "userOperator")
            ]
            yield f"{name} entityOperator", strimzi_pod(operators["template"]["pod"], containers)
        elif manifest["kind"] == "SparkApplication":
            yield from ((f"{name} {role}", spark_pod(spec, role)) for role in ("driver", "executor"))


def strimzi_pod(template: Object, containers: list[Object]) -> Object:
    """Return a pod like those that Strimzi creates from its template of a pod."""
    spec = {key: value for key, value in template.items() if key != "metadata"}
    return {"metadata": template.get("metadata", {}), "spec": {**spec, "containers": containers}}


def spark_pod(spec: Object, role: str) -> Object:
    """Return a pod like those that Spark and its operator create."""
    part = spec[role]
    mounted = {mount["name"] for mount in part["volumeMounts"]}
    memory = f"{sum(int(part[name][:-1]) * SPARK_UNITS[part[name][-1]] for name in ('memory', 'memoryOverhead'))}Mi"
    container = {
        **{key: part[key] for key in ("securityContext", "volumeMounts", "envFrom") if key in part},
        "name": role,
        "image": spec["image"],
        "env": part.get("env", []),
        "resources": {"requests": {"cpu": part["coreRequest"], "memory": memory}, "limits": {"memory": memory}},
    }
    scheduling = ("nodeSelector", "tolerations", "affinity", "priorityClassName")
    return {
        "metadata": {"labels": {**part["labels"], "spark-role": role}, "annotations": part.get("annotations", {})},
        "spec": {
            **{key: part[key] for key in scheduling if key in part},
            "imagePullSecrets": [{"name": name} for name in spec.get("imagePullSecrets", [])],
            "containers": [container],
            "securityContext": part["podSecurityContext"],
            "volumes": [volume for volume in spec["volumes"] if volume["name"] in mounted],
            "serviceAccountName": part["serviceAccount"],
        },
    }
