"""Writes tables and drawings from the results of the benchmarks.

Reads the folder of results and writes all tables to the README.md in that folder. For the full size it also writes
docs/bench-*.svg and a short table of at most five rows, between two markers in the project's README. A benchmark
without results is left out.
"""

from __future__ import annotations

import ast
import json
import re
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np

from bench.decoding import FLAT, LEAST
from bench.drawings import draw
from bench.harness import ALWAYS
from bench.measurements import (
    LATENCIES,
    PARTS,
    ROOT,
    Results,
    Row,
    Spread,
    kept_up,
    number,
    options,
    ratio,
    shown,
    spread,
)

QUESTIONS = ("learner", "pipeline", "latency", "growth")
MARKS = re.compile(r"(?<=<!-- bench -->\n).*(?=<!-- /bench -->)", re.DOTALL)


def goal(what: str, found: Spread | str, wanted: str, met: bool) -> Row:
    return {"goal": what, "measured": found, "wanted": wanted, "met": "yes" if met else "**no**"}


def at_least(what: str, found: Spread, limit: float) -> Row:
    return goal(what, found, f"≥ {limit:,g}", found["median"] >= limit)


def at_most(what: str, found: Spread, limit: float) -> Row:
    return goal(what, found, f"≤ {limit:,g}", found["median"] <= limit)


def learner_goals(results: Results) -> list[Row]:
    of = {
        (entry["learner"], entry["features"]): entry["seconds"]
        for entry in results["times"]
        if entry["rows"] == 100_000
    }
    goals = []
    for d in sorted({features for _, features in of}):
        spark = ratio(of["MLlib", d], of["ours on Spark, sgd", d])
        sklearn = ratio(of["scikit-learn SGDRegressor", d], of["ours, rls", d])
        what = f"update with 100,000 rows, {d} features, seconds: "
        goals.append(at_least(f"{what}MLlib, all its steps / ours on Spark (equal weights)", spark, 20))
        goals.append(at_least(f"{what}scikit-learn's partial_fit / ours (rls)", sklearn, 1))
    return goals


def pipeline_goals(results: Results) -> list[Row]:
    rates = {name: measured["records_per_second"] for name, measured in results["programs"].items()}
    wanted = [(name, limit) for name, limit in (("raw", 0.75), ("river", 2.2), ("mllib", 3.0)) if name in rates]
    goals = [at_least(f"records/s: ours / {name}", ratio(rates["ours"], rates[name]), limit) for name, limit in wanted]
    goals += [at_most("CPU µs a record, all processes but Elasticsearch and bench", other_cpu(results), 5.5)]
    if "small" in results:
        goals += [at_most("a micro-batch of 6 records, s", results["small"], 0.2)]
    if times := results.get("decoding"):
        goals += [at_most(f"CPU time to decode a flat record / {LEAST}", ratio(times[FLAT], times[LEAST]), 1.1)]
    return goals


def other_cpu(results: Results) -> Spread:
    """Return the CPU µs a record (CPU s a million records) of our app and Kafka, without Elasticsearch and bench."""
    spent = {role: measured["values"] for role, measured in results["programs"]["ours"]["cpu_s_per_million"].items()}
    every = zip(spent["all"], spent["Elasticsearch"], spent["bench"], strict=True)
    return spread(total - sum(others) for total, *others in every)


def latency_goals(results: Results) -> list[Row]:
    goals = []
    for entry in results["programs"]["ours"]:
        for q, limit in LATENCIES if entry["rate"] == 5_000 else ():
            what = f"latency at 5,000 records/s, {q}, s"
            goals.append(
                at_most(what, entry[q], limit) if kept_up(entry) else goal(what, entry["verdict"], f"≤ {limit}", False)
            )
    return goals


def growth_goals(results: Results) -> list[Row]:
    steps = results["stored"]["steps"]
    rates = [step["records_per_second"] for step in steps]
    kept = ratio(spread(rates[-3:]), spread(rates[:3]))
    memory = [sum(step["memory_mb"].get(part, 0.0) for part in PARTS) for step in steps]
    grown = spread([memory[-1] / memory[len(memory) // 5 - 1]])
    low, high = [entry for entry in results["varied"] if entry["varied"] == "features"][-2:]
    exponents = {}
    for stage in ("read", "decode", "encode", "write", "statistics"):
        spent = [entry["shares"][stage] / entry["records_per_second"] for entry in (low, high)]
        exponents[stage] = np.log(spent[1] / spent[0]) / np.log(high["value"] / low["value"])
    learning = exponents.pop("statistics")
    worst = max(exponents, key=lambda stage: exponents[stage])
    what = (
        f"time a record grows as d to the power of …, {low['value']} to {high['value']} features, {low['rows']:,} rows"
    )
    start, restart = (results["restarts"][name] for name in ("start_s", "restart_s"))
    goals = [at_most("start of a new run to the first point that a search finds, s", start, 6)]
    goals += [goal("restart after SIGKILL to the first new point, s", restart, "≤ 20", restart["max"] <= 20)]
    if "sampled" in results:
        sampled = spread(step["records_per_second"] for step in results["sampled"]["steps"])
        goals += [at_least("records/s with --points-fraction 0.01", sampled, 250_000)]
    by_partitions = defaultdict(list)
    for entry in results["varied"]:
        if entry["varied"] == "partitions":
            by_partitions[entry["value"]].append(entry["records_per_second"])
    if by_partitions:
        (few, some), (many, others) = sorted(by_partitions.items())
        equal = ratio(spread(some), spread(others))
        near = 0.9 <= equal["median"] <= 1 / 0.9
        goals += [goal(f"records/s: {few} partition a topic / {many}", equal, "0.9 to 1.11", near)]
    return [
        *goals,
        at_least(
            f"records/s: to {steps[-1]['points']:,} points stored / from {results['stored']['warm_up']:,}", kept, 0.9
        ),
        at_most("memory of driver, Java and a worker: end / after a fifth", grown, 1.1),
        at_most(f"{what}: learning", spread([learning]), 2),
        at_most(f"{what}: the worst other stage ({worst})", spread([exponents[worst]]), 1),
    ]


def cell(value: Any) -> str:  # noqa: ANN401
    """Return a number, a `Spread` or a text in the form for a table."""
    if isinstance(value, dict):
        return shown(value)
    return value if isinstance(value, str) else number(value)


def table(rows: list[Row]) -> str:
    """Return a Markdown table with a column for each key."""
    head = list(dict.fromkeys(key for row in rows for key in row))
    cells = [head, ["---"] * len(head), *([cell(row.get(key, "–")) for key in head] for row in rows)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def headline(results: dict[str, Results]) -> list[str]:
    """Return the table of the project's README: the machine, and at most five figures that matter to a user."""
    if not results:
        return ["Not measured yet: `make bench`."]
    about = next(iter(results.values()))["machine"]
    rows: list[Row] = []

    def add(question: str, found: Spread | str, compared: str) -> None:
        rows.append({"figure": question, "this project": found, "for comparison": compared})

    if "pipeline" in results:
        rates = {name: program["records_per_second"] for name, program in results["pipeline"]["programs"].items()}
        names = {"raw": "Elasticsearch alone", "river": "Python with River", "mllib": "Spark with MLlib"}
        others = [f"{title}: {number(rates[name]['median'])}" for name, title in names.items() if name in rates]
        add("records per second, from Kafka to Elasticsearch", rates["ours"], "; ".join(others))
    if "latency" in results:
        programs = results["latency"]["programs"]
        for quantile, percent in (("p50", "50 %"), ("p99", "99 %")):
            at_5000 = {
                name: shown(at[quantile]) if kept_up(at) else at["verdict"]
                for name, rates_tried in programs.items()
                for at in rates_tried
                if at["rate"] == 5_000
            }
            titles = (("river", "Python with River"), ("mllib", "Spark with MLlib"))
            others = [f"{title}: {at_5000[name]}" for name, title in titles if name in at_5000]
            question = f"seconds until a search finds a point, {percent} of the points, at 5,000 records per second"
            add(question, at_5000.get("ours", "–"), "; ".join(others) or "–")
    if "growth" in results:
        restart = results["growth"]["restarts"]["restart_s"]
        add("seconds from a restart after SIGKILL to the first new point", restart, "–")
    if "learner" in results:
        seconds = {
            timed["learner"]: timed["seconds"]
            for timed in results["learner"]["times"]
            if timed["rows"] == 100_000 and timed["features"] == 3
        }
        if {"ours on Spark, rls", "MLlib"} <= seconds.keys():
            question = "seconds for a model update on Spark, 100,000 rows, 3 features"
            add(question, seconds["ours on Spark, rls"], f"MLlib: {shown(seconds['MLlib'])}")
    found = f"Measured on {about['date']} on {about['cores']} cores, which Kafka, Spark and Elasticsearch share."
    return [f"{found} Medians; the ranges are in brackets.", table(rows)]


def summary(results: dict[str, Results]) -> list[str]:
    """Return the first part of the whole report: the machine, the goals, and the programs side by side."""
    if not results:
        return ["Not measured yet: `make bench`."]
    machines = [{**measured["machine"], "load_before": None} for measured in results.values()]
    about, load = machines[0], next(iter(results.values()))["machine"]["load_before"]
    minutes = sum(measured.get("minutes", 0) for measured in results.values())
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    found = [
        f"{about['date']}, commit {about['commit']}; {about['cores']} cores ({about['cpu']}), {about['memory_gb']} GB; "
        f"{versions}; load before {load}; {minutes:.0f} minutes. Medians (ranges); ratios are those of each round."
    ]
    if any(entry != about for entry in machines):
        found += [
            f"**The results differ in day, commit or machine; the line above describes `{next(iter(results))}`.**"
        ]
    makers = (learner_goals, pipeline_goals, latency_goals, growth_goals)
    goals = [find(results[name]) for name, find in zip(QUESTIONS, makers, strict=True) if name in results]
    found += [table([row for rows in goals for row in rows])]
    programs, rows = results.get("pipeline", {}).get("programs", {}), []
    for name, measured in programs.items():
        rate, at_5000 = measured["records_per_second"], "–"
        latencies = results.get("latency", {}).get("programs", {}).get(name, [])
        for at in latencies:
            if at["rate"] == 5_000:
                at_5000 = " / ".join(number(at[q]["median"]) for q in ("p50", "p99")) if kept_up(at) else at["verdict"]
        rows += [
            {
                "program": name,
                "records/s": rate,
                "ours / this": ratio(programs["ours"]["records_per_second"], rate),
                "CPU s a million records": measured["cpu_s_per_million"]["all"],
                "latency at 5,000/s, p50 / p99, s": at_5000,
                "highest rate sustained, records/s": max((at["rate"] for at in latencies if kept_up(at)), default="–"),
            }
        ]
    return found + ([table(rows)] if rows else [])


def pipeline(results: Results) -> list[str]:
    programs, found = results["programs"], []
    for what in ("cpu_s_per_million", "memory_mb"):
        found += [f"{what}:", table([{"program": name, **measured[what]} for name, measured in programs.items()])]
    found += ["Ours, share of the task slots' wall time (write: mostly waiting for Elasticsearch on the same cores):"]
    found += [table([programs["ours"]["shares"]])]
    if "small" in results:
        found += [f"A micro-batch of 6 records takes {shown(results['small'])} s."]
    if times := results.get("decoding"):
        found += ["CPU ns to decode a record of four numbers, one thread:", table([times])]
    for name, setting in results["chosen"].items():
        found += [f"{name}: {setting} (clients or threads, documents a request) was the fastest; records/s:"]
        found += [table([results.get(f"{name}_by_setting", {})])]
    return found


def latency(results: Results) -> list[str]:
    rows = [{"program": name, **entry} for name, many in results["programs"].items() for entry in many]
    return [
        "Seconds from the due time of a record until a search finds it, over all followed records (range of windows):",
        table(rows),
    ]


def growth(results: Results) -> list[str]:
    def flat(entry: Row) -> Row:
        memory = {f"{part}, MB": entry["memory_mb"].get(part, 0.0) for part in PARTS}
        return {key: value for key, value in entry.items() if not isinstance(value, dict)} | memory

    few, many = (shown(entry["refresh_ms"]) for entry in (results["varied"][0], results["stored"]))
    found = [
        "Runs in which a single quantity differs from the base:",
        table([flat(entry) for entry in results["varied"]]),
    ]
    for name, what in (
        ("stored", "Points stored, in one run"),
        ("sampled", "Records, with one percent of the points stored"),
    ):
        if name in results:
            found += [f"{what}:", table([flat(entry) for entry in results[name]["steps"]])]
    return [*found, f"A refresh of the live page takes {few} ms after the base's run, {many} ms with all points."]


def learner(results: Results) -> list[str]:
    found = ["Seconds per model update:", table(results["times"])]
    for data, measured in results["quality"].items():
        chosen = "; ".join(f"{name}: {setting}" for name, setting in measured["chosen"].items())
        found += [f"Test MSE by rows learned, {data} (chosen for {chosen}):"]
        found += [table([{"learner": name, **errors} for name, errors in measured["mse"].items()])]
    return found


def everything(results: dict[str, Results]) -> str:
    """Return the whole report."""
    found = ["# What `make bench` found", *summary(results)]
    for show in (pipeline, latency, growth, learner):
        if show.__name__ in results:
            found += [f"## {show.__name__.capitalize()}", *show(results[show.__name__])]
    batch = results.get("pipeline", {}).get("per_batch", "…")
    found += ["## Settings", f"ours: {' '.join(ALWAYS)} --max-offsets-per-trigger {batch} (pipeline)"]
    for name in ("pipeline", "latency", "river_app", "mllib_app"):
        document = ast.get_docstring(ast.parse((ROOT / "bench" / f"{name}.py").read_text())) or ""
        found += [f"{name.removesuffix('_app')}: {' '.join(document.split())}"]
    return "\n\n".join(found) + "\n"


def read(folder: Path) -> dict[str, Results]:
    """Return the results in a folder, by the question."""
    files = {name: folder / f"{name}.json" for name in QUESTIONS}
    return {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}


def in_readme(results: dict[str, Results], readme: str) -> str:
    """Return the project's README with the short table of these results in it."""
    return MARKS.sub(lambda _: "\n\n".join(headline(results)) + "\n", readme)


def main() -> None:
    given = options(__doc__)
    results = read(given.results)
    given.results.mkdir(parents=True, exist_ok=True)
    (given.results / "README.md").write_text(text := everything(results))
    print(text)
    full = given.results == ROOT / "bench/results"
    if full:
        (ROOT / "README.md").write_text(in_readme(results, (ROOT / "README.md").read_text()))
    draw(results, ROOT / "docs" if full else given.results)


if __name__ == "__main__":
    main()
