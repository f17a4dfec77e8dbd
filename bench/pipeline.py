"""How fast and how lean is the stream? `python bench/pipeline.py`: about 3 minutes, on embedded servers.

Everything runs on this one machine: both servers, Spark, the app. It prints the records/s from Kafka to acknowledged in
Elasticsearch with 100,000 records a micro-batch and where the time goes, then the time of a micro-batch of 6 records,
and the memory of driver and Python workers over both; and writes them to bench/results/pipeline.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from datetime import datetime
from importlib.metadata import version
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil

from embedded import Elasticsearch, Kafka
from tests.integration.stream import Stream, flights

WARM_UP = 3  # micro-batches during which Java compiles
MB = 1e6


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--records", type=int, default=1_500_000, help="records of the first part (default: %(default)s)"
    )
    parser.add_argument("--batches", type=int, default=250, help="micro-batches of the second (default: %(default)s)")
    options = parser.parse_args()
    machine = {
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
        "python": platform.python_version(),
        "pyspark": version("pyspark"),
        "load_before": os.getloadavg()[0],
    }
    print("machine", json.dumps(machine))
    values = flights(336_776)
    values = (values * (options.records // len(values) + 1))[: options.records]
    with Kafka() as broker, Elasticsearch() as search, tempfile.TemporaryDirectory() as folder:
        large = run("large", broker, search, Path(folder), values, per_batch=100_000)
        small = run("small", broker, search, Path(folder), values[: options.batches * 6], per_batch=6)
    results = {"machine": machine, "large": large, "small": small}
    print(f"{large['records_per_second']:,.0f} records/s with 100,000 a micro-batch; the time of a task goes to:")
    for stage, share in large["shares"].items():
        print(f"  {stage:<12} {share:6.1%}")
    print(f"a micro-batch of 6 records takes {small['seconds_per_batch']:.3f} s (median)")
    for name, part in (("large", large), ("small", small)):
        for process, numbers in part["memory_mb"].items():
            print(f"{name}: {process} {numbers['middle']:.0f} MB in the middle, {numbers['end']:.0f} MB at the end")
    target = Path(__file__).parent / "results" / "pipeline.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(json.dumps(results, indent=2) + "\n")


def run(  # one part of the benchmark, on topics of its own
    name: str, broker: Kafka, search: Elasticsearch, folder: Path, values: list[bytes], per_batch: int
) -> dict[str, Any]:
    (folder / name).mkdir()
    stream = Stream(name, broker, search, folder / name)
    stream.create_topics()
    stream.produce(train=values[: len(values) * 4 // 5], test=values[len(values) * 4 // 5 :])
    flags = ("--available-now", "--max-offsets-per-trigger", str(per_batch), "--trigger-interval-s", "0")
    memory: list[dict[str, float]] = []
    with stream.app(*flags, "--log-format", "json") as app:
        watching = threading.Thread(target=watch, args=(app.process, memory))
        watching.start()
        code = app.wait(1200)
        watching.join()
    if code:
        raise SystemExit(app.log)
    events = [json.loads(line) for line in app.log.splitlines() if line.startswith("{")]
    batches = [event for event in events if "rows_per_second" in event]
    ends = [datetime.fromisoformat(event["time"].replace("Z", "+00:00")).timestamp() for event in batches]
    # A micro-batch's wall time is that from the end of the one before: with all that Spark does between them.
    walls = [end - start for start, end in pairwise(ends)][WARM_UP - 1 :]
    warm = batches[WARM_UP:]
    slots = (os.cpu_count() or 1) * sum(walls)
    spent = {stage: sum(event["stages"][stage] for event in warm) for stage in warm[0]["stages"]}
    shares = {stage: seconds / slots for stage, seconds in spent.items()}
    return {
        "micro_batches": len(batches),
        "records_per_second": sum(event["rows"] for event in warm[:-1]) / sum(walls[:-1]),
        "seconds_per_batch": statistics.median(walls),
        "seconds_per_batch_range": [min(walls), max(walls)],
        "shares": {**shares, "driver, idle": 1 - sum(shares.values())},
        "memory_mb": {
            process: {"middle": memory[len(memory) // 2][process], "end": memory[-1][process]} for process in memory[-1]
        },
    }


def watch(process: subprocess.Popen[bytes], memory: list[dict[str, float]]) -> None:
    """Note the resident memory of the driver's Python and Java, and of the largest Python worker, once a second."""
    driver = psutil.Process(process.pid)
    while process.poll() is None:
        sizes = {"driver Python": 0.0, "driver and executor Java": 0.0, "largest Python worker": 0.0}
        try:
            sizes["driver Python"] = driver.memory_info().rss / MB
            for child in driver.children(recursive=True):
                key = "driver and executor Java" if child.name() == "java" else "largest Python worker"
                sizes[key] = max(sizes[key], child.memory_info().rss / MB)
        except psutil.NoSuchProcess:
            continue
        if sizes["largest Python worker"]:
            memory.append(sizes)
        time.sleep(1)


if __name__ == "__main__":
    sys.exit(main())
