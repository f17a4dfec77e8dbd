"""The arguments, the description of the machine, the files of results, and the numbers in them."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from embedded.jars import ELASTICSEARCH_VERSION, KAFKA_VERSION

ROOT = Path(__file__).parents[1]
WRITTEN = ("bench/results", "docs/bench-*.svg", "README.md")  # by the benchmarks, so not measured
PACKAGES = ("pyspark", "numpy", "elasticsearch", "confluent-kafka", "scikit-learn", "river", "vowpalwabbit")
KEPT_UP = "kept up"  # the verdict on a rate
LATENCIES = (("p50", 1.0), ("p99", 0.8))  # goals in seconds, at 5,000 records a second
PARTS = ("driver Python", "Java", "Python workers")

Results = dict[str, Any]
Row = dict[str, Any]
Spread = dict[str, Any]
"""`median`, `min`, `max`, and `values` in the order in which they were measured."""


def options(description: str | None) -> argparse.Namespace:
    """Return the arguments that all benchmarks have: `size` and `results`, the folder to write to."""
    os.environ["PYSPARK_PYTHON"] = sys.executable  # for Spark's workers, here and in child processes
    os.environ.setdefault("SPARK_LOCAL_IP", "127.0.0.1")
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=["full", "quick", "tiny"], default="full", help="default: %(default)s")
    parser.add_argument("--results", type=Path, help="folder; default: bench/results for full, else .local/bench/SIZE")
    found = parser.parse_args()
    found.results = found.results or ROOT / ("bench/results" if found.size == "full" else f".local/bench/{found.size}")
    return found


def git(*words: str) -> str:
    """Return the output of git for this repository; an empty text if there is no repository."""
    command = ["git", "-C", str(ROOT), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def machine() -> dict[str, Any]:
    """Return the date, the commit, this machine's hardware, and the versions of the programs."""
    about = Path("/proc/cpuinfo")
    found = re.search(r"model name\s*: (.*)", about.read_text() if about.exists() else "")
    java = subprocess.run(["java", "-version"], capture_output=True, text=True, check=False).stderr
    commit = git("rev-parse", "--short", "HEAD")
    if git("status", "--porcelain", "--untracked-files=no", "--", ".", *(f":!{path}" for path in WRITTEN)):
        commit += ", dirty"
    versions = {"Java": java.split('"')[1] if '"' in java else "?", "Python": platform.python_version()}
    versions |= {"Kafka": KAFKA_VERSION, "Elasticsearch": ELASTICSEARCH_VERSION}
    for package in PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            versions[package] = version(package)
    return {
        "date": f"{datetime.now(timezone.utc):%Y-%m-%d}",
        "commit": commit or "?",
        "cpu": found[1] if found else platform.processor(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "versions": versions,
        "load_before": round(os.getloadavg()[0], 2),
    }


@contextlib.contextmanager
def results(name: str, description: str | None) -> Iterator[tuple[str, Path, dict[str, Any]]]:
    """Yield the requested size, the results' folder and a dict for the results, which is written if nothing fails.

    SIGTERM ends the `with` blocks, as Ctrl-C does, so that all programs started here are stopped.
    """
    given, start = options(description), time.monotonic()
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    found: dict[str, Any] = {"machine": machine()}
    print("machine", json.dumps(found["machine"]), flush=True)
    yield given.size, given.results, found
    found["minutes"] = round((time.monotonic() - start) / 60, 1)
    given.results.mkdir(parents=True, exist_ok=True)
    (given.results / f"{name}.json").write_text(json.dumps(found, indent=1, allow_nan=False) + "\n")
    print(f"written: {given.results / name}.json", flush=True)


def spread(values: Iterable[float]) -> Spread:
    """Return repeated measurements with their median and range."""
    known = list(values)
    return {"median": statistics.median(known), "min": min(known), "max": max(known), "values": known}


def ratio(above: Spread, below: Spread) -> Spread:
    """Return the ratios of two measurements that were taken in turn, pair by pair."""
    return spread(a / b for a, b in zip(above["values"], below["values"], strict=False))


def over(rounds: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the results of several rounds as one result, with a `spread` for each number."""
    found = {}
    for key, value in rounds[0].items():
        values = [result.get(key, 0.0) for result in rounds]
        found[key] = over(values) if isinstance(value, dict) else spread(values)
    return found


def number(value: float) -> str:
    """Return a number as text: three significant digits, or all digits before the decimal point."""
    return f"{value:,.0f}" if float(value).is_integer() or abs(value) >= 100 else f"{value:.3g}"


def shown(found: Spread) -> str:
    """Return a `spread` as text."""
    text = number(found["median"])
    return text if len(found["values"]) == 1 else f"{text} ({number(found['min'])} to {number(found['max'])})"


def kept_up(entry: Row) -> bool:
    """Whether a program kept up with a rate."""
    return bool(entry["verdict"] == KEPT_UP)
