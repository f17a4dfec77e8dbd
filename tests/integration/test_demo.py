"""The program of `make demo`, run as a user runs it, with its own servers."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import numpy as np
import psutil
import pytest

from embedded.testing.records import FLIGHT_FIELDS
from embedded.testing.reference import lstsq
from embedded.testing.waiting import wait_until
from producer.sources import Flights

DEMO = [sys.executable, "-m", "demo"]


@pytest.mark.slow
def test_it_ends_by_itself_with_a_true_summary(tmp_path: Path) -> None:
    """Its numbers must follow from the flights that the producer sends first, in scheduled order."""
    file = tmp_path / "summary.json"
    done = subprocess.run(
        [*DEMO, "--rows", "20000", "--rate", "0", "--exit", "--summary", file],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    summary = json.loads(file.read_text())
    assert set(summary) == {
        *("rows", "points", "invalid", "missing", "duplicates"),
        *("mse", "weights", "intercept", "rows_per_second"),
    }
    assert (summary["rows"], summary["missing"], summary["duplicates"]) == (20_000, 0, 0)
    assert summary["points"] + summary["invalid"] == 20_000

    train = [
        json.loads(value or b"") for seq, value in zip(range(20_000), Flights().rows(0), strict=False) if seq % 5 != 4
    ]
    rows = [[record[name] for name in FLIGHT_FIELDS] for record in train]
    want = lstsq(np.array([row for row in rows if None not in row], float))
    found = [summary["intercept"], *(summary["weights"][name] for name in FLIGHT_FIELDS[:-1])]
    np.testing.assert_allclose(found, want, rtol=1e-9)
    assert set(summary["mse"]) == {"train", "test"}


@pytest.mark.slow
def test_ctrl_c_ends_everything_and_the_addresses_are_true(tmp_path: Path) -> None:
    log = tmp_path / "log"
    with log.open("wb") as file:
        demo = subprocess.Popen([*DEMO, "--rows", "5000"], stdout=file, stderr=file, start_new_session=True)
    try:
        wait_until(lambda: "" if "batch 0" in log.read_text() else f"no micro-batch:\n{log.read_text()}", 120)
        text = log.read_text()
        page = re.search(r"^Live page +(\S+)", text, re.MULTILINE)
        search = re.search(r"^Elasticsearch +(\S+)", text, re.MULTILINE)
        assert page and search, text
        for address in (page[1], f"{search[1]}/_cluster/health"):
            with urllib.request.urlopen(address, timeout=30) as answer:
                assert answer.status == 200
        processes = psutil.Process(demo.pid).children(recursive=True)
        assert len(processes) >= 5
        os.killpg(demo.pid, signal.SIGINT)
        assert demo.wait(60) == 0, log.read_text()
        assert "Traceback" not in log.read_text()
        wait_until(lambda: " ".join(str(process) for process in processes if process.is_running()), 20)
    finally:
        demo.kill()
        demo.wait()


@pytest.mark.slow
def test_it_goes_on_without_the_live_page_and_says_so(tmp_path: Path) -> None:
    """The page's web server cannot be imported, as in a damaged environment."""
    (tmp_path / "uvicorn.py").write_text("raise ImportError('no web server')")
    done = subprocess.run(
        [*DEMO, "--rows", "300", "--rate", "0", "--exit"],
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "the demo goes on without it: ImportError: no web server" in done.stdout


@pytest.mark.parametrize(
    "arguments", [["--rows", "0"], ["--rate", "-1"], ["--summary", "x"], ["--exit", "--summary", "/no/x"]]
)
def test_wrong_arguments_are_one_sentence(arguments: list[str]) -> None:
    done = subprocess.run([*DEMO, *arguments], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()[-1]) < 200
    assert "Traceback" not in done.stderr
