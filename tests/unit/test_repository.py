"""Pages for contributors name files and targets that exist; workflows cover the Pythons that the project supports."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
GITHUB = ROOT / ".github"
PAGES = sorted([*GITHUB.glob("*.md"), *GITHUB.glob("ISSUE_TEMPLATE/*.yml")])
RUNS_MAKE = [*PAGES, ROOT / ".pre-commit-config.yaml", *sorted(GITHUB.glob("**/*.yml"))]
TARGETS = set(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_the_page_of_licences_is_not_stale() -> None:
    generator = runpy.run_path(str(ROOT / "docs" / "licences.py"))
    assert generator["TARGET"].read_text() == generator["page"](), "run `make generate`"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_files_that_a_page_names_exist(page: Path) -> None:
    text = page.read_text()
    named = re.findall(r"`((?:[\w.-]+/)+[\w.-]*|\w+\.(?:md|toml))`", text)
    linked = re.findall(r"\]\(([^):#]+)\)", text)
    missing = [name for name in named if not (ROOT / name).exists()]
    missing += [link for link in linked if not (page.parent / link).exists()]
    assert not missing


@pytest.mark.parametrize("file", RUNS_MAKE, ids=lambda file: file.name)
def test_targets_of_make_exist(file: Path) -> None:
    called = set(re.findall(r"(?:`|run: |entry: |^)make ([a-z][a-z-]*)", file.read_text(), re.MULTILINE))
    assert called <= TARGETS


def test_the_expressions_above_find_what_they_look_for() -> None:
    contributing = (GITHUB / "CONTRIBUTING.md").read_text()
    assert "`kibana/dashboards/panels.py`" in contributing
    assert {"lint", "test", "test-cluster", "generate"} <= TARGETS & set(re.findall(r"`make ([a-z-]+)", contributing))


def test_the_workflow_tests_every_python_that_the_project_supports() -> None:
    found = re.search(r'^requires-python = ">=3\.(\d+),<3\.(\d+)"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert found
    workflow = yaml.safe_load((GITHUB / "workflows" / "test.yml").read_text())
    tested = workflow["jobs"]["test"]["strategy"]["matrix"]["python"]
    assert tested == [f"3.{minor}" for minor in range(int(found[1]), int(found[2]))]


def test_one_version_of_helm_is_named_everywhere() -> None:
    places = [ROOT / "Makefile", ROOT / ".ci" / "run", ROOT / "tests" / "charts" / "rendering.py"]
    versions = {place.name: re.findall(r"cmd/helm@(v[\d.]+\d)", place.read_text()) for place in places}
    assert all(versions.values()), versions
    assert len({version for found in versions.values() for version in found}) == 1, versions
