"""One cluster and one release for the session; measurements are printed at the end."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.kube import Cluster
from tests.cluster.system import System, version

ORDER = [
    "test_install",
    "test_rights",
    "test_refusals",
    "test_networks",
    "test_second_release",
    "test_faults",
    "test_changes",
]
"""Modules that need the release unchanged come first; those that change it come last."""
IMAGES = ("streaming-ml-spark", "streaming-ml-producer", "streaming-ml-dashboards")
FIGURES = pytest.StashKey[dict[str, str]]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: ORDER.index(item.path.stem) if item.path.stem in ORDER else -1)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    terminalreporter.section("measured")
    for name, value in config.stash.get(FIGURES, {}).items():
        terminalreporter.line(f"{name}: {value}")


@pytest.fixture(scope="session")
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    """A Kubernetes cluster made by kind, with this project's images."""
    helm = os.environ.get("HELM", "helm")
    for flag, name in (("kind_bin", "kind"), ("kind_kubectl_bin", "kubectl")):
        path = request.config.getoption(flag)
        if not path or not Path(path).exists():
            pytest.fail(f"{name} is needed: install it, or pass --{flag.replace('_', '-')} FILE (found {path!r})")
    if not shutil.which(helm):
        pytest.fail("helm is needed: install it, or set HELM=/path/to/helm")
    kind = request.getfixturevalue("kind_cluster")
    for image in IMAGES:
        kind.load_docker_image(f"{image}:{version()}")
    started = Cluster(kind, helm)
    yield started
    started.close()


@pytest.fixture(scope="session")
def system(request: pytest.FixtureRequest, cluster: Cluster, tmp_path_factory: pytest.TempPathFactory) -> System:
    """The release, installed into a namespace that enforces `restricted`."""
    installed = System(cluster, tmp_path_factory.mktemp("system"))
    request.config.stash[FIGURES] = installed.figures
    begun = time.monotonic()
    installed.install()
    installed.wait_ready()
    installed.figures["helm install to all Ready"] = f"{time.monotonic() - begun:.0f} s"
    return installed
