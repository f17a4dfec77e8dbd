"""charts/operators, with stubs for the three charts that it depends on, which need the internet.

A stub renders the values that it gets. The real charts were not tried with them.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from tests.charts.rendering import OPERATORS, Object, find, helm, refusal

DEPENDENCIES = yaml.safe_load((OPERATORS / "Chart.yaml").read_text())["dependencies"]
NAMES = [dependency["name"] for dependency in DEPENDENCIES]
SHOW = """
apiVersion: v1
kind: ConfigMap
metadata: {name: {{ .Chart.Name }}}
data: {{- .Values | toYaml | nindent 2 }}
"""


@pytest.fixture(scope="module")
def operators(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The chart with its stubs."""
    folder = tmp_path_factory.mktemp("charts") / "operators"
    shutil.copytree(OPERATORS, folder, ignore=shutil.ignore_patterns("charts"))
    for dependency in DEPENDENCIES:
        stub = folder / "charts" / dependency["name"]
        (stub / "templates").mkdir(parents=True)
        (stub / "Chart.yaml").write_text(
            yaml.safe_dump({"apiVersion": "v2", "name": dependency["name"], "version": dependency["version"]})
        )
        (stub / "templates" / "show.yaml").write_text(SHOW)
    return folder


def rendered(chart: Path, *words: str) -> list[Object]:
    done = helm("template", "operators", chart, "-n", "operators", *words)
    assert done.returncode == 0, done.stderr
    return [manifest for manifest in yaml.safe_load_all(done.stdout) if manifest]


def test_the_operators_are_those_that_the_project_was_made_for() -> None:
    assert {dependency["name"]: (dependency["version"], dependency["condition"]) for dependency in DEPENDENCIES} == {
        "strimzi-kafka-operator": ("1.2.0", "strimzi-kafka-operator.enabled"),
        "eck-operator": ("3.5.0", "eck-operator.enabled"),
        "spark-operator": ("2.5.2", "spark-operator.enabled"),
    }


@pytest.mark.helm
def test_the_chart_is_linted(operators: Path) -> None:
    done = helm("lint", "--strict", operators, "-n", "operators")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.helm
def test_each_operator_watches_only_the_namespaces_named_which_are_restricted(operators: Path) -> None:
    objects = rendered(operators)
    namespace = find(objects, "Namespace")
    assert namespace["metadata"]["name"] == "ml"
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    assert namespace["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    strimzi, eck, spark = (find(objects, "ConfigMap", name)["data"] for name in NAMES)
    assert strimzi["watchNamespaces"] == eck["managedNamespaces"] == spark["spark"]["jobNamespaces"] == ["ml"]


@pytest.mark.helm
def test_strimzi_makes_no_network_policies(operators: Path) -> None:
    """Strimzi's chart sets STRIMZI_NETWORK_POLICY_GENERATION from this value, which is true by default."""
    assert find(rendered(operators), "ConfigMap", "strimzi-kafka-operator")["data"]["generateNetworkPolicy"] is False


@pytest.mark.helm
@pytest.mark.parametrize("name", NAMES)
def test_an_operator_that_the_cluster_has_can_be_left_out(operators: Path, name: str) -> None:
    maps = {manifest["metadata"]["name"] for manifest in rendered(operators, "--set", f"{name}.enabled=false")}
    assert maps == {"ml", *NAMES} - {name}


@pytest.mark.helm
def test_values_of_a_dependency_may_be_any_ours_may_not(operators: Path) -> None:
    rendered(operators, "--set", "eck-operator.replicaCount=2")
    assert "'namespace' not allowed" in refusal({"namespace": ["ml"]}, operators, "operators", "operators")


@pytest.mark.helm
def test_all_must_name_the_same_namespaces(operators: Path) -> None:
    more = {"namespaces": ["ml", "more"]}
    assert 'Namespaces is ["ml"]' in refusal(more, operators, "operators", "operators")
    lists = [
        "strimzi-kafka-operator.watchNamespaces",
        "eck-operator.managedNamespaces",
        "spark-operator.spark.jobNamespaces",
    ]
    same = more | {name: ["more", "ml"] for name in lists}
    assert refusal(same, operators, "operators", "operators") == ""
    absent = {"spark-operator.enabled": False, "spark-operator.spark.jobNamespaces": ["else"]}
    assert refusal(absent, operators, "operators", "operators") == ""


@pytest.mark.helm
@pytest.mark.parametrize(
    ("names", "more", "words"),
    [
        ([], {}, "at '/namespaces'"),
        ([""], {}, "at '/namespaces/0'"),
        (["ml"], {"strimzi-kafka-operator.watchAnyNamespace": True}, "strimzi-kafka-operator.watchAnyNamespace"),
    ],
)
def test_no_operator_watches_all_namespaces(operators: Path, names: list[str], more: Object, words: str) -> None:
    """An empty list, or an empty name in it, would mean all namespaces."""
    lists = ("namespaces", "strimzi-kafka-operator.watchNamespaces", "eck-operator.managedNamespaces")
    all_lists = dict.fromkeys([*lists, "spark-operator.spark.jobNamespaces"], names)
    assert words in refusal(all_lists | more, operators, "operators", "operators")


@pytest.mark.helm
def test_the_operators_have_a_namespace_of_their_own(operators: Path) -> None:
    assert "give them a namespace of their own" in refusal({}, operators, "operators", "ml")
