"""The documentation is correct."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

from bench import report
from streaming_regression.settings import Complete

ROOT = Path(__file__).parents[2]


def test_the_configuration_page_is_not_stale() -> None:
    generator = runpy.run_path(str(ROOT / "docs" / "configuration.py"))
    assert generator["TARGET"].read_text() == generator["page"](), "run `make generate`"


def test_the_readme_shows_the_benchmarks_results() -> None:
    readme = (ROOT / "README.md").read_text()
    assert report.in_readme(report.read(ROOT / "bench" / "results"), readme) == readme, "run bench/report.py"


def test_the_readme_names_targets_files_and_flags_that_exist() -> None:
    readme = (ROOT / "README.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    for target in " ".join(re.findall(r"\bmake ([a-z][a-z -]*[a-z])[`\n]", readme)).split():
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"
    for link in re.findall(r"\]\(([^)#]+)\)", readme):
        assert (ROOT / link).exists(), link
    sources = "".join(
        path.read_text()
        for part in ("spark-apps", "producer", "embedded", "demo", "kibana", "bench")
        for path in (ROOT / part).rglob("*.py")
    )
    known = {name.replace("_", "-") for name in re.findall(r"\b[a-z][a-z_]+\b", sources)} | set(
        re.findall(r"--([a-z-]+)", sources)
    )
    known |= {name.replace("_", "-") for name in Complete.model_fields}
    ours = re.sub(r"^(helm|kubectl) .*$", "", readme, flags=re.MULTILINE)
    for flag in re.findall(r"--([a-z][a-z-]+)", ours):
        assert flag in known, f"--{flag}"
