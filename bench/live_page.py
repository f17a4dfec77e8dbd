"""The live page's queries over 1 and 10 million points, indexed straight into the embedded Elasticsearch.

`.venv/bin/python bench/live_page.py [MILLIONS ...]` (default: 1 10; 10 takes about 10 minutes to index on two cores).
First the page's MSE must equal numpy's; then a full refresh (`Page.data`, all sections, all data) is timed.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from pathlib import Path

import numpy as np
from elasticsearch import Elasticsearch as Client

from dashboards.page import Choice, Page
from dashboards.panels import Names
from dashboards.templates import templates
from embedded import Elasticsearch
from embedded.jars import ELASTICSEARCH_VERSION

NAMES = Names()
ROWS, PARTITIONS, RUNS = 20_000, 3, 30  # rows per micro-batch; runs that are timed
START = datetime(2026, 11, 1, tzinfo=timezone.utc)


def batch(number: int) -> tuple[list[str], float, int]:
    """Return the bulk lines of a micro-batch, its train points' sum of squared errors, and their number."""
    rng = np.random.default_rng(number)
    time_ = f"{START + timedelta(seconds=2 * number):%Y-%m-%dT%H:%M:%SZ}"
    day = f"{START + timedelta(seconds=2 * number):%Y.%m.%d}"
    lines, total, trained = [], 0.0, 0
    for topic, share in (("train", 0.8), ("test", 0.2)):
        rows = int(ROWS * share) // PARTITIONS
        for partition in range(PARTITIONS):
            x = rng.normal(size=(rows, 3)).round(3)
            y = (x @ [1.0, 2.0, -1.0]).round(3)
            pred = (y + rng.normal(size=rows)).round(3)
            errors = (y - pred) ** 2
            first = number * rows
            common = f'"run":"b","batch":{number},"topic":"{topic}","partition":{partition},"@timestamp":"{time_}"'
            columns = zip(
                range(first, first + rows), *x.T.tolist(), y.tolist(), pred.tolist(), errors.tolist(), strict=True
            )
            lines += [
                f'{{"index":{{"_index":"spark-points-{day}","_id":"{topic}-{partition}-{offset}"}}}}\n'
                f'{{{common},"offset":{offset},"x":{{"dep_delay":{a},"distance":{b},"air_time":{c}}},'
                f'"y":{label},"pred":{guess},"squared_error":{error}}}\n'
                for offset, a, b, c, label, guess, error in columns
            ]
            sums = {
                "first_offset": first,
                "last_offset": first + rows - 1,
                "rows": rows,
                "labelled": rows,
                "invalid": 0,
                "sum_squared_error": errors.sum(),
                "sum_absolute_error": np.abs(y - pred).sum(),
                "sum_y": y.sum(),
                "sum_y_squared": (y**2).sum(),
            }
            lines.append(
                f'{{"index":{{"_index":"spark-metrics-{day}","_id":"{number}-{topic}-{partition}"}}}}\n'
                f"{{{common},{json.dumps(sums)[1:]}\n"
            )
            if topic == "train":
                total, trained = total + errors.sum(), trained + rows
    model = {
        "intercept": 0.1,
        "weights": dict.fromkeys(NAMES.features, 1.0),
        "rows_seen": number,
        "seconds": 1.5,
        "lag": 0,
    }
    lines.append(
        f'{{"index":{{"_index":"spark-models-{day}","_id":"{number}"}}}}\n'
        f'{{"run":"b","@timestamp":"{time_}","batch":{number},"learner":"rls",{json.dumps(model)[1:]}\n'
    )
    return lines, total, trained


def index(client: Client, numbers: range) -> tuple[float, int]:
    """Index micro-batches; return the train points' sum of squared errors and their number."""

    def one(number: int) -> tuple[float, int]:
        lines, total, trained = batch(number)
        for start in range(0, len(lines), 5000):
            answer = client.options(request_timeout=120).bulk(operations=lines[start : start + 5000])
            assert not answer["errors"], answer
        return total, trained

    with ThreadPoolExecutor(2) as pool:
        sums = list(pool.map(one, numbers))
    return sum(total for total, _ in sums), sum(trained for _, trained in sums)


def timed(page: Page, choice: Choice) -> Iterator[float]:
    for _ in range(RUNS):
        start = time.perf_counter()
        page.data(choice)
        yield (time.perf_counter() - start) * 1000


def main(millions: list[float]) -> None:
    results = []
    with Elasticsearch() as search, Client(search.url, request_timeout=120) as client:
        for name, template in templates(NAMES).items():
            client.indices.put_index_template(name=name, **template)
        page, choice = Page(NAMES, client), Choice.of({}, NAMES)
        done, total, trained = 0, 0.0, 0
        for million in millions:
            batches = round(million * 1e6 / ROWS)
            start = time.perf_counter()
            more = index(client, range(done, batches))
            total, trained, done = total + more[0], trained + more[1], batches
            client.indices.refresh(index="spark-*")
            while client.indices.stats(index="spark-*", metric="merge")["_all"]["total"]["merges"]["current"]:
                time.sleep(1)
            points = client.count(index="spark-points-*")["count"]
            print(f"{points:,} points ({time.perf_counter() - start:.0f} s to index)", flush=True)
            shown = page.data(choice)["panels"]
            np.testing.assert_allclose(shown["train-mse"], total / trained, rtol=1e-9)
            for _ in range(5):
                page.data(choice)
            times = sorted(timed(page, choice))
            median, slowest = statistics.median(times), times[-1]
            print(
                f"  full refresh: median {median:.0f} ms, {times[0]:.0f} to {slowest:.0f} ms, {RUNS} runs", flush=True
            )
            results.append({"points": points, "median_ms": median, "min_ms": times[0], "max_ms": slowest})
    ratio = results[-1]["median_ms"] / results[0]["median_ms"]
    machine = f"{platform.machine()}, {os.cpu_count()} cores"
    print(f"ratio {ratio:.2f}; {machine}, Elasticsearch {ELASTICSEARCH_VERSION}, Python {platform.python_version()}")
    target = Path(__file__).parent / "results" / "live_page.json"
    target.parent.mkdir(exist_ok=True)
    target.write_text(
        json.dumps({"machine": machine, "runs": RUNS, "results": results, "ratio": ratio}, indent=2) + "\n"
    )


if __name__ == "__main__":
    main([float(number) for number in sys.argv[1:]] or [1, 10])
