"""From results to tables and drawings.

Reads the results' folder and writes README.md into it and, for the full size, the part of the project's README between
two marks, and docs/bench-*.svg. Results that are not there are left out.
"""

from __future__ import annotations

import ast
import json
import re
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
import vl_convert

from bench.harness import ALWAYS, ROOT, Spread, options, ratio, shown, spread

Results = dict[str, Any]
Goal = tuple[str, str, str, bool]  # what, measured, goal, met
WIDTH, HEIGHT = 300, 200
MARKS = re.compile(r"(?<=<!-- bench -->\n).*(?=<!-- /bench -->)", re.DOTALL)
PARTS = ("driver Python", "Java", "Python workers")
OURS = "ours: `--max-offsets-per-trigger {per_batch}`, or 100,000 for latency; `{always}`; else defaults."


def times(found: Spread, limit: float) -> tuple[str, str, bool]:
    """Return a ratio that should not be below a limit as the last three of a `Goal`."""
    return shown(found, ".3g"), f"≥ {limit:g}", found["median"] >= limit


def learner_goals(results: Results) -> list[Goal]:
    of = {(one["learner"], one["features"]): one["seconds"] for one in results["times"] if one["rows"] == 100_000}
    goals: list[Goal] = []
    for d in sorted({features for _, features in of}):
        what = f"update, 100,000 rows, {d} features: "
        spark = ratio(of["MLlib", d], of["ours on Spark, sgd", d])
        goals.append((f"{what}MLlib's seconds / ours on Spark, equal weights", *times(spark, 20)))
        one = ratio(of["scikit-learn SGDRegressor", d], of["ours, rls", d])
        goals.append((f"{what}scikit-learn's partial_fit's seconds / ours (rls)", *times(one, 1)))
    return goals


def pipeline_goals(results: Results) -> list[Goal]:
    rates = {name: one["records_per_second"] for name, one in results["programs"].items()}
    wanted = {"raw": 0.8, "river": 3.0, "mllib": 3.0}
    return [
        (f"records/s, ours / {name}", *times(ratio(rates["ours"], rates[name]), wanted[name]))
        for name in wanted.keys() & rates.keys()
    ]


def latency_goals(results: Results) -> list[Goal]:
    goals: list[Goal] = []
    for one in results["programs"]["ours"]:
        if one["rate"] == 5_000:
            for q, limit in (("p50", 1.0), ("p99", 2.5)):
                found = f"{shown(one[q], '.2f')} s" if q in one else one["verdict"]
                met = one["verdict"] == "kept up" and one[q]["median"] <= limit
                goals.append((f"latency at 5,000 records/s, {q}", found, f"≤ {limit} s", met))
    return goals


def growth_goals(results: Results) -> list[Goal]:
    restart, steps = results["restarts"]["restart_s"], results["stored"]["steps"]
    rates = [step["records_per_second"] for step in steps]
    kept = ratio(spread(rates[-3:]), spread(rates[:3]))
    memory = [sum(step["memory_mb"].get(role, 0) for role in PARTS[:2]) for step in steps]
    grown = memory[-1] / memory[len(memory) // 2]
    low, high = [one for one in results["varied"] if one["varied"] == "features"][-2:]

    def exponent(stage: str) -> float:
        spent = [one["shares"][stage] / one["records_per_second"] for one in (low, high)]
        return float(np.log(spent[1] / spent[0]) / np.log(high["value"] / low["value"]))

    rest = {stage: exponent(stage) for stage in ("read", "decode", "encode", "write")}
    worst, learning = max(rest, key=lambda stage: rest[stage]), exponent("statistics")
    what = f"time a record, {low['value']} to {high['value']} features, {low['rows']:,} rows a micro-batch: "
    return [
        ("restart after SIGKILL to the first new point", f"{shown(restart, '.1f')} s", "≤ 20 s", restart["max"] <= 20),
        (
            f"records/s up to {steps[-1]['points']:,} points stored / from {results['stored']['warm_up']:,}",
            *times(kept, 0.9),
        ),
        ("memory of driver and Java, end / half way", f"{grown:.2f} ({memory[-1]:,.0f} MB)", "≤ 1.1", grown <= 1.1),
        (f"{what}learning", f"d^{learning:.2f}", "≤ d²", learning <= 2),
        (f"{what}all else (the worst: {worst})", f"d^{rest[worst]:.2f}", "≤ d", rest[worst] <= 1),
    ]


GOALS = {"learner": learner_goals, "pipeline": pipeline_goals, "latency": latency_goals, "growth": growth_goals}


def table(head: list[str], rows: list[list[str]]) -> list[str]:
    """Return a Markdown table."""
    return [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)] + [""]


def summary(results: dict[str, Results]) -> list[str]:
    """Return what the project's README shows: the machine, the goals, and the programs side by side."""
    if not results:
        return ["Not measured yet: `make bench`."]
    machines = [{**one["machine"], "load_before": None} for one in results.values()]
    about = machines[0]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    lines = [
        f"{about['date']}, commit {about['commit']}; {about['cores']} cores ({about['cpu']}), {about['memory_gb']} GB; "
        f"{versions}. Medians (ranges); ratios are taken round by round.",
        "",
    ]
    if any(one != about for one in machines):
        lines += [f"**Not all of one day, commit and machine; this is that of {next(iter(results))}.**", ""]
    goals = [goal for name, find in GOALS.items() if name in results for goal in find(results[name])]
    rows = [[what, found, wanted, "yes" if met else "**no**"] for what, found, wanted, met in goals]
    lines += table(["goal", "measured", "wanted", "met"], rows)
    programs = results.get("pipeline", {}).get("programs", {})
    rows = []
    for name, one in programs.items():
        rate, cells = one["records_per_second"], ["–", "–"]
        latencies = results.get("latency", {}).get("programs", {}).get(name, [])
        kept = [at["rate"] for at in latencies if at["verdict"] == "kept up"]
        for at in latencies:
            if at["rate"] == 5_000:
                cells[0] = (
                    f"{at['p50']['median']:.2f} / {at['p99']['median']:.2f} s" if 5_000 in kept else at["verdict"]
                )
        if kept:
            cells[1] = f"{max(kept):,.0f}"
        quicker = shown(ratio(programs["ours"]["records_per_second"], rate), ".2f")
        rows.append([name, shown(rate), quicker, shown(one["cpu_s_per_million"]["all"], ".1f"), *cells])
    head = ["program", "records/s", "ours / this", "CPU s a million records", "latency p50 / p99 at 5,000/s"]
    return lines + (table([*head, "highest rate sustained, records/s"], rows) if rows else [])


def pipeline(results: Results) -> list[str]:
    programs = results["programs"]
    lines = []
    for what, key, form in (
        ("CPU seconds per million records", "cpu_s_per_million", ".1f"),
        ("MB", "memory_mb", ",.0f"),
    ):
        roles = list(dict.fromkeys(role for one in programs.values() for role in one[key]))
        rows = [
            [name, *(shown(one[key][r], form) if r in one[key] else "–" for r in roles)]
            for name, one in programs.items()
        ]
        lines += [f"{what}:", "", *table(["program", *roles], rows)]
    shares = ", ".join(f"{stage} {shown(share, '.0%')}" for stage, share in programs["ours"]["shares"].items())
    lines += [
        f"Ours, share of the task slots' wall time; “write” is mostly waiting for Elasticsearch on the same cores: {shares}.",
        "",
    ]
    if "small" in results:
        lines += [f"A micro-batch of 6 records takes {results['small']['seconds_per_batch']:.2f} s.", ""]
    for name in ("raw", "river"):
        if rates := results.get(f"{name}_by_setting"):
            tried = ", ".join(f"{setting}: {rate:,.0f}" for setting, rate in rates.items())
            lines += [
                f"{name}, chosen: {results['chosen'][name]} (clients or threads, documents a request; {tried}).",
                "",
            ]
    return lines


def latency(results: Results) -> list[str]:
    rows = [
        [program, f"{at['rate']:,.0f}", *(shown(at[q], ".2f") if q in at else "–" for q in ("p50", "p99", "max"))]
        + [at["verdict"]]
        for program, found in results["programs"].items()
        for at in found
    ]
    head = ["program", "records/s", "p50", "p99", "max", ""]
    return ["Seconds from due to found by a search, over all followed (range of windows):", "", *table(head, rows)]


def memory(found: dict[str, Any]) -> list[str]:
    return [f"{found['memory_mb'].get(role, 0):,.0f}" for role in PARTS]


def growth(results: Results) -> list[str]:
    megabytes = [f"{role}, MB" for role in PARTS]
    start = results["restarts"]["start_s"]
    rows = [
        [one["varied"], f"{one['value']:,}", f"{one['rows']:,}", f"{one['records_per_second']:,.0f}"]
        + [*memory(one), f"{one['state_bytes']:,}"]
        for one in results["varied"]
    ]
    head = ["varied", "to", "rows a micro-batch", "records/s", *megabytes, "bytes of state"]
    lines = [f"One thing varied at a time, a run each; the first start took {start:.1f} s to the first point:", ""]
    lines += table(head, rows)
    steps = results["stored"]["steps"]
    rows = [[f"{step['points']:,}", f"{step['records_per_second']:,.0f}", *memory(step)] for step in steps]
    lines += ["Points stored, in one run:", "", *table(["points", "records/s", *megabytes], rows)]
    few, many = (shown(one["refresh_ms"]) for one in (results["varied"][0], results["stored"]))
    return [
        *lines,
        f"A refresh of the live page takes {few} ms after the base's run, {many} ms with all these points.",
        "",
    ]


def learner(results: Results) -> list[str]:
    rows = [
        [one["learner"], f"{one['rows']:,}", str(one["features"]), shown(one["seconds"], ",.4f")]
        for one in results["times"]
    ]
    lines = ["Seconds per model update; 1,000,000 rows with 3 features only:", ""]
    lines += table(["learner", "rows", "features", "seconds"], rows)
    for data, found in results["quality"].items():
        marks = [f"{int(mark):,}" for mark in next(iter(found["mse"].values()))]
        rows = [[name, *(f"{mse:,.4g}" for mse in errors.values())] for name, errors in found["mse"].items()]
        chosen = "; ".join(f"{name}: {setting}" for name, setting in found["chosen"].items())
        lines += [f"Test MSE by rows learned, {data} (chosen for: {chosen}):", "", *table(["learner", *marks], rows)]
    return lines


def everything(results: dict[str, Results]) -> str:
    """Return the whole report."""
    lines = ["# What `make bench` found", *summary(results)]
    for show in (pipeline, latency, growth, learner):
        if show.__name__ in results:
            lines += [f"## {show.__name__.capitalize()}", *show(results[show.__name__])]
    lines += [
        "## Settings",
        OURS.format(per_batch=results.get("pipeline", {}).get("per_batch"), always=" ".join(ALWAYS)),
        "",
    ]
    for program in ("river", "mllib"):
        document = ast.get_docstring(ast.parse((ROOT / "bench" / f"{program}_app.py").read_text())) or ""
        lines += [f"{program}: {' '.join(document.split())}", ""]
    return "\n".join(lines)


def plots(results: dict[str, Results]) -> dict[str, dict[str, Any]]:
    """Return Vega-Lite drawings by name."""
    found: dict[str, dict[str, Any]] = {}
    if "learner" in results:
        rows = [{**one, "median": one["seconds"]["median"]} for one in results["learner"]["times"]]
        spec = line(("rows", "rows"), ("median", "seconds"), "learner", log=True)
        bold = {"test": "slice(datum.learner, 0, 4) == 'ours'", "value": 4}
        spec["encoding"]["strokeWidth"] = {"condition": bold, "value": 1}
        found["learner"] = {
            "title": "Seconds per model update, by rows in the micro-batch and features",
            "data": {"values": rows},
            "facet": {"column": {"field": "features", "title": "features"}},
            "spec": spec,
        }
    if "pipeline" in results:
        programs = results["pipeline"]["programs"]
        rates = [{"program": name, **one["records_per_second"]} for name, one in programs.items()]
        cpu = [
            {"program": name, "role": role, "seconds": seconds["median"]}
            for name, one in programs.items()
            for role, seconds in one["cpu_s_per_million"].items()
            if role != "all"
        ]
        y = {"field": "program", "type": "nominal", "sort": list(programs), "title": None}
        value = {"field": "median", "type": "quantitative", "title": "records/s, median and range"}
        rule = {"x": {"field": "min", "type": "quantitative"}, "x2": {"field": "max"}, "y": y}
        seconds = {"field": "seconds", "type": "quantitative", "title": "CPU seconds per million records"}
        bars = [{"mark": "bar", "encoding": {"x": value, "y": y}}, {"mark": "rule", "encoding": rule}]
        stacked = {"x": seconds, "y": y, "color": {"field": "role", "title": None}}
        found["pipeline"] = {
            "hconcat": [
                {"data": {"values": rates}, "layer": bars, "width": WIDTH},
                {"data": {"values": cpu}, "mark": "bar", "encoding": stacked, "width": WIDTH},
            ]
        }
    if "latency" in results:
        rows = [
            {"program": program, "rate": one["rate"], "seconds": one[q]["median"], "which": q}
            for program, many in results["latency"]["programs"].items()
            for one in many
            for q in ("p50", "p99")
            if one["verdict"] == "kept up"
        ]
        spec = line(("rate", "records/s"), ("seconds", "seconds until found"), "program", log=True)
        legend = {"symbolType": "stroke", "symbolStrokeColor": "black"}
        spec["encoding"]["strokeDash"] = {"field": "which", "title": None, "legend": legend}
        goals = {
            "data": {"values": [{"seconds": 1.0}, {"seconds": 2.5}]},
            "mark": {"type": "rule", "strokeDash": [2, 2], "color": "grey"},
            "encoding": {"y": {"field": "seconds", "type": "quantitative"}},
        }
        found["latency"] = {
            "title": "From due to found by a search: p50, p99; dotted: the goals, 1.0 and 2.5 s",
            "layer": [{"data": {"values": rows}, **spec}, goals],
        }
    if "growth" in results:
        base, *varied = results["growth"]["varied"]
        at = {"rows": base["rows"], "partitions": 3, "executors": 0}
        titles = {"rows": "rows a micro-batch", "executors": "executors (0: threads of the driver)"}
        drawn = []
        for name, group in groupby(varied, lambda one: str(one["varied"])):
            many = [*group] + ([{**base, "value": at[name]}] if name in at else [])
            drawn.append((titles.get(name, name), [(one["value"], one) for one in many], name in {"rows", "features"}))
        steps = [(step["points"], step) for step in results["growth"]["stored"]["steps"]]
        rows = []
        for title, values, log in [*drawn, ("points stored", steps, False)]:
            points = [
                {"x": x, "rate": one["records_per_second"], "MB": one["memory_mb"].get(role, 0), "of": role}
                for x, one in values
                for role in PARTS
            ]
            pair = [
                line(("x", title), ("rate", "records/s"), log_x=log),
                line(("x", title), ("MB", "MB"), "of", log_x=log),
            ]
            rows.append({"data": {"values": points}, "hconcat": pair})
        found["growth"] = {"title": "Records/s and memory, as one thing grows", "vconcat": rows}
    return found


def line(
    x: tuple[str, str], y: tuple[str, str], colour: str | None = None, *, log: bool = False, log_x: bool = False
) -> dict[str, Any]:
    """Return a drawing of lines with points; x and y are field and title, y from 0 if it is not logarithmic."""
    scale = {"type": "log"}
    encoding: dict[str, Any] = {
        "x": {"field": x[0], "title": x[1], "type": "quantitative", **({"scale": scale} if log or log_x else {})},
        "y": {"field": y[0], "title": y[1], "type": "quantitative", "scale": scale if log else {"zero": True}},
    }
    if colour:
        look = {"legend": {"labelLimit": 300}, "scale": {"scheme": "tableau20"}, "sort": None}
        encoding["color"] = {"field": colour, "title": None, **look}
    return {"mark": {"type": "line", "point": True}, "encoding": encoding, "width": WIDTH, "height": HEIGHT}


def read(folder: Path) -> dict[str, Results]:
    """Return the results in a folder, by the question."""
    files = {name: folder / f"{name}.json" for name in GOALS}
    return {name: json.loads(file.read_text()) for name, file in files.items() if file.exists()}


def in_readme(results: dict[str, Results], readme: str) -> str:
    """Return the project's README with these results."""
    return MARKS.sub(lambda _: "\n".join(summary(results)).rstrip() + "\n", readme)


def main() -> None:
    given = options(__doc__)
    results = read(given.results)
    given.results.mkdir(parents=True, exist_ok=True)
    (given.results / "README.md").write_text(text := everything(results))
    print(text)
    full = given.results == ROOT / "bench/results"
    if full:
        (ROOT / "README.md").write_text(in_readme(results, (ROOT / "README.md").read_text()))
    for name, spec in plots(results).items():
        config = {"background": "white", "config": {"view": {"stroke": None}}}
        target = (ROOT / "docs" if full else given.results) / f"bench-{name}.svg"
        target.write_text(vl_convert.vegalite_to_svg({**config, **spec}))


if __name__ == "__main__":
    main()
