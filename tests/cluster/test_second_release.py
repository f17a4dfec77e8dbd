"""A second release in the namespace of the first, with a long name as Argo CD gives."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.cluster.sent import synthetic, synthetic_settings
from tests.cluster.system import ROOT, Job, System

LONG = "streaming-ml-of-the-second-team-in-the-test-region"
ROWS = 2000


@pytest.fixture
def second(system: System, tmp_path: Path) -> Iterator[System]:
    """The release LONG; the names of its objects begin with the 15 first characters and a hash."""
    shortened = f"{LONG[:15].rstrip('-')}-{hashlib.sha256(LONG.encode()).hexdigest()[:8]}"
    installed = System(system.cluster, tmp_path, system.namespace, shortened)
    where = f"--namespace={system.namespace}"
    chart = str(ROOT / "charts" / "streaming-ml")
    try:
        system.cluster.helm(
            "install", LONG, chart, where, "--timeout=15m", f"--set=kafka.partitions={system.partitions}"
        )
        installed.wait_ready()
        yield installed
    finally:
        system.cluster.run(system.cluster.helm_path, "uninstall", LONG, where)
        for kinds, label in (
            ("kafkatopics", f"app.kubernetes.io/instance={LONG}"),
            ("kafkas,kafkanodepools,persistentvolumeclaims", f"app.kubernetes.io/instance={LONG}"),
            ("persistentvolumeclaims", f"strimzi.io/cluster={shortened}"),
            ("persistentvolumeclaims", f"elasticsearch.k8s.elastic.co/cluster-name={shortened}"),
        ):
            system.cluster.kubectl("delete", kinds, where, "--selector", label)


def test_a_second_release_with_a_long_name_shares_nothing_with_the_first(system: System, second: System) -> None:
    assert len(LONG) == 50
    before = system.count("points", "invalid")
    text = system.cluster.kubectl(
        "get",
        "configmap",
        f"{second.release}-producer",
        f"--namespace={system.namespace}",
        '--output=go-template={{index .data "job.yaml"}}',
    )
    manifest = yaml.safe_load(text)
    (container,) = manifest["spec"]["template"]["spec"]["containers"]
    settings = {"COUNT": str(ROWS), "RATE": "0", "RUN": "second", **synthetic_settings(seed=9)}
    container["env"] = [variable for variable in container["env"] if variable["name"] not in settings]
    container["env"] += [{"name": name, "value": value} for name, value in settings.items()]
    Job(second, manifest["metadata"]["name"], manifest).start().wait()
    second.sent.add("second", synthetic(ROWS, seed=9), second.partitions)
    second.check()
    system.cluster.helm("test", LONG, f"--namespace={system.namespace}", "--logs")
    assert system.count("points", "invalid") == before
