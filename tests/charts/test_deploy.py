"""charts/cluster.sh with stubs for Helm and kubectl: which commands it gives."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.charts.rendering import ROOT

HELM = """#!/usr/bin/env bash
echo "$*" >>"{log}"
case "$1 $2" in
  "get metadata") for line in "NAME: operators" "CHART: operators" "VERSION: 0.1.0" "STATUS: deployed"; do
      echo "$line"; sleep 0.1; done ;;
  "get values") printf 'namespaces:\\n- wear\\nstrimzi-kafka-operator:\\n  watchNamespaces:\\n  - other\\n' ;;
  "dependency list") for line in "strimzi-kafka-operator 1.2.0 missing" "eck-operator 3.5.0 ok" "spark 2.5.2 ok"; do
      echo "$line"; sleep 0.1; done ;;
esac
"""
"""A Helm that writes each line by itself, as the real one does, and slowly."""
KUBECTL = """#!/usr/bin/env bash
case "$*" in
  *current-context*) echo kind-of-nothing ;;
  *get\\ kafkas*) printf 'Kafka=True SparkApplication=RUNNING ' ;;
esac
"""


def deploy(folder: Path) -> list[str]:
    """Run `cluster.sh deploy` and return the commands that Helm got."""
    log = folder / "log"
    settings = {"KIND": "no-kind", "NAMESPACE": "ml"}
    for name, text in (("HELM", HELM.format(log=log)), ("KUBECTL", KUBECTL)):
        settings[name] = str(folder / name)
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    done = subprocess.run(
        ["bash", ROOT / "charts" / "cluster.sh", "deploy"],
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return log.read_text().splitlines()


def test_deploy_upgrades_the_operators_it_finds_and_keeps_their_namespaces(tmp_path: Path) -> None:
    commands = deploy(tmp_path)
    assert "dependency update charts/operators" in commands
    (upgrade,) = (command for command in commands if command.startswith("upgrade --install operators "))
    assert "--reset-then-reuse-values" in upgrade
    for name in (
        "namespaces",
        "strimzi-kafka-operator.watchNamespaces",
        "eck-operator.managedNamespaces",
        "spark-operator.spark.jobNamespaces",
    ):
        assert f'--set-json {name}=["ml","wear"] ' in upgrade
