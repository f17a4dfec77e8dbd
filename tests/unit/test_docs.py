"""The documentation is correct."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

from pydantic_settings import BaseSettings

import dashboards.settings as dashboards
import producer.settings as producer
from bench import drawings, report
from dashboards.panels import Names
from dashboards.sections import sections
from streaming_regression.settings import Complete

ROOT = Path(__file__).parents[2]


def test_the_configuration_page_is_not_stale() -> None:
    generator = runpy.run_path(str(ROOT / "docs" / "configuration.py"))
    assert generator["TARGET"].read_text() == generator["page"](), "run `make generate`"


def test_the_readme_shows_the_benchmarks_results() -> None:
    readme = (ROOT / "README.md").read_text()
    assert report.in_readme(report.read(ROOT / "bench" / "results"), readme) == readme, "run bench/report.py"


def test_the_page_of_results_and_the_drawings_are_made_from_the_results(tmp_path: Path) -> None:
    results = report.read(ROOT / "bench" / "results")
    assert (ROOT / "bench" / "results" / "README.md").read_text() == report.everything(results), "run bench/report.py"
    drawings.draw(results, tmp_path)
    drawn = sorted(tmp_path.iterdir())
    assert drawn
    for drawing in drawn:
        assert (ROOT / "docs" / drawing.name).read_text() == drawing.read_text(), f"{drawing.name}: run bench/report.py"


def test_the_architecture_page_names_every_panel_of_the_dashboards() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text().lower()
    table = page.split("| panel | reads | with a sample |")[1].split("\n\n")[0]
    titles = [panel.title for section in sections(Names()) for panel in section.panels]
    assert [title for title in titles if title.lower() not in table] == []


def argparse_flags(*folders: str) -> set[str]:
    """The flags of the programs in these folders that use argparse."""
    texts = [path.read_text() for folder in folders for path in sorted((ROOT / folder).glob("*.py"))]
    return {flag for text in texts for flag in re.findall(r'\badd(?:_argument)?\(\s*"(--[a-z-]+)"', text)}


def setting_flags(*settings: type[BaseSettings]) -> set[str]:
    """The flags of programs that use pydantic-settings."""
    return {f"--{name.replace('_', '-')}" for kind in settings for name in kind.model_fields}


FLAGS = {
    "python -m streaming_regression": setting_flags(Complete),
    "python -m producer": setting_flags(producer.Settings),
    "python -m dashboards build": setting_flags(dashboards.Build),
    "python -m dashboards load": setting_flags(dashboards.Load),
    "python -m dashboards serve": setting_flags(dashboards.Serve),
    "make demo": argparse_flags("embedded", "demo") | {"--help"},
}
"""The flags of each program that the README may name, by the beginning of its command."""


def wrong_flags(text: str) -> list[str]:
    """The flags in a text that the program of their line does not have.

    A line without a program may name a flag of any program, or of helm and kubectl as used elsewhere in the text.
    """
    flag = re.compile(r"(?<![\w-])--[a-z][a-z-]*")
    others: set[str] = set()
    wrong = []
    for line in sorted(text.replace("\\\n", " ").splitlines(), key=lambda line: not re.match("(helm|kubectl) ", line)):
        if re.match("(helm|kubectl) ", line):
            others.update(flag.findall(line))
            continue
        known = [flags for command, flags in FLAGS.items() if command in line] or [*FLAGS.values(), others]
        wrong += [found for found in flag.findall(line) if found not in set().union(*known)]
    return wrong


def test_a_wrong_flag_is_found() -> None:
    text = (
        "python -m producer \\\n --checkpoint x --rate 5\nhelm install --wait\nSet `--features`, `--weight`, `--wait`."
    )
    assert wrong_flags(text) == ["--checkpoint", "--weight"]


def test_the_readme_names_targets_files_and_flags_that_exist() -> None:
    readme = (ROOT / "README.md").read_text()
    makefile = (ROOT / "Makefile").read_text()
    targets = " ".join(re.findall(r"\bmake ([a-z][a-z -]*[a-z])[`\n]", readme)).split()
    assert "demo" in targets
    for target in targets:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), f"make {target}"
    links = re.findall(r"\]\(([^)#]+)\)", readme)
    assert links
    for link in links:
        assert (ROOT / link).exists(), link
    assert wrong_flags(readme) == []
