"""The files that a release publishes, made by .github/release.sh, which .github/workflows/release.yml calls."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.charts.rendering import ROOT, find, pods, render

SCRIPT = ROOT / ".github" / "release.sh"
REGISTRY = "registry.example.com/project"
IMAGES = {
    f"streaming-ml-{part}": f"sha256:{digit * 64}"
    for part, digit in [("spark", "1"), ("producer", "2"), ("dashboards", "3")]
}


def release(*arguments: str | Path, script: Path = SCRIPT) -> subprocess.CompletedProcess[str]:
    return subprocess.run([script, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)


def version() -> str:
    return release("version").stdout.strip()


@pytest.mark.helm
def test_the_packaged_chart_and_job_name_the_released_images_by_digest(tmp_path: Path) -> None:
    (tmp_path / "digests").mkdir()
    for image, digest in IMAGES.items():
        (tmp_path / "digests" / image).write_text(digest + "\n")
    done = release("package", REGISTRY, tmp_path / "digests", tmp_path / "dist")
    assert done.returncode == 0, done.stderr
    job = yaml.safe_load((tmp_path / "dist" / "job.yaml").read_text())
    shutil.unpack_archive(tmp_path / "dist" / f"streaming-ml-{version()}.tgz", tmp_path)
    objects = render(chart=tmp_path / "streaming-ml")
    found = {
        container["image"]
        for name, pod in pods([*objects, job])
        if name.split()[0] in {"Job", "Pod", "SparkApplication"}
        for container in pod["spec"]["containers"]
    }
    assert found == {f"{REGISTRY}/{image}:{version()}@{digest}" for image, digest in IMAGES.items()}
    assert find(objects, "SparkApplication")["metadata"]["labels"]["helm.sh/chart"] == f"streaming-ml-{version()}"


@pytest.mark.helm
def test_an_image_without_a_digest_is_not_released(tmp_path: Path) -> None:
    (tmp_path / "streaming-ml-spark").write_text(IMAGES["streaming-ml-spark"])
    done = release("package", REGISTRY, tmp_path, tmp_path / "dist")
    assert done.returncode != 0
    assert "streaming-ml-dashboards" in done.stderr
    assert not (tmp_path / "dist").exists()


def test_the_version_is_that_of_the_project() -> None:
    assert re.search(rf'^version = "{re.escape(version())}"', (ROOT / "pyproject.toml").read_text(), re.MULTILINE)


def test_the_notes_are_the_versions_section_of_the_changelog(tmp_path: Path) -> None:
    (tmp_path / ".github").mkdir()
    script = tmp_path / ".github" / "release.sh"
    shutil.copy(SCRIPT, script)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    changelog = tmp_path / "CHANGELOG.md"
    changelog.write_text(
        f"# Changelog\n## {version()}0 (2027-01-01)\nnext\n## {version()} (2026-12-01)\n### Fixed\n- a\n## 0.0.1\nold\n"
    )
    assert release("notes", script=script).stdout == "### Fixed\n- a\n"
    changelog.write_text("# Changelog\n## Unreleased\n- a\n")
    done = release("notes", script=script)
    assert done.returncode == 2
    assert f'no section "## {version()} (DATE)"' in done.stderr
