"""From results to one Markdown table and drawings.

Reads the results' folder and writes README.md into it and, for the full size, docs/bench-*.svg. Results that are not
there are left out.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any

import numpy as np
import vl_convert

from bench.harness import ROOT, options, shown

Results = dict[str, Any]
Goal = tuple[str, str, str, bool]  # what, wanted, found, met
WIDTH, HEIGHT = 300, 200


def learner_goals(results: Results) -> list[Goal]:
    times = {(one["learner"], one["rows"], one["features"]): one["seconds"] for one in results["times"]}
    goals = []
    for features in sorted({features for _, rows, features in times if rows == 100_000}):
        of = {name: times[name, 100_000, features] for name, rows, d in times if (rows, d) == (100_000, features)}
        mllib, spark = of["MLlib"]["median"], of["ours on Spark, sgd"]["median"]
        ours, sklearn = of["ours, rls"]["median"], of["scikit-learn SGDRegressor"]["median"]
        what = f"update, 100,000 rows, {features} features: "
        found = f"{mllib:.2f} s : {spark:.3f} s = {mllib / spark:.1f}; in the app's own pass {mllib / ours:,.0f}"
        goals.append((f"{what}MLlib to ours on Spark (equal weights)", "≥ 20", found, mllib >= 20 * spark))
        found = f"{sklearn * 10:.3f} µs : {ours * 10:.3f} µs = {sklearn / ours:.2f}"  # a row; there are 1e5 of them
        goals.append((f"{what}scikit-learn's partial_fit to ours (rls), per row", "≥ 1", found, sklearn >= ours))
    return goals


def pipeline_goals(results: Results) -> list[Goal]:
    rates = {name: one["records_per_second"] for name, one in results["programs"].items()}
    ours = rates["ours"]["median"]
    goals = []
    for name, wanted in (("raw", 0.8), ("river", 3.0), ("mllib", 3.0)):
        ratio = ours / rates[name]["median"]
        found = f"{shown(rates['ours'])} : {shown(rates[name])} = {ratio:.2f}"
        goals.append((f"records/s, ours to {name}", f"≥ {wanted:g}", found, ratio >= wanted))
    return goals


def latency_goals(results: Results) -> list[Goal]:
    for one in results["programs"]["ours"]:
        if one["rate"] == 5_000:
            found = [(q, limit, one[q]) for q, limit in (("p50", 1.0), ("p99", 2.5))]
            what = "latency at 5,000 records/s, "
            return [
                (what + q, f"≤ {limit} s", f"{shown(is_, '.2f')} s", is_["median"] <= limit) for q, limit, is_ in found
            ]
    return [("latency at 5,000 records/s", "≤ 1.0 s", "not kept up with", False)]


def growth_goals(results: Results) -> list[Goal]:
    restart, steps = results["restarts"]["restart_s"], results["stored"]
    ratio = steps[-1]["records_per_second"] / steps[0]["records_per_second"]
    memory = [sum(step["memory_mb"].get(role, 0) for role in ("Java", "driver Python")) for step in steps]
    grown = memory[-1] / memory[len(memory) // 2]
    by_features = {int(d): one for d, one in results["varied"]["features"].items()}
    low, high = sorted(by_features)[-2:]

    def exponent(stage: str) -> float:
        times = [by_features[d]["shares"][stage] / by_features[d]["records_per_second"] for d in (low, high)]
        return float(np.log(times[1] / times[0]) / np.log(high / low))

    rest = max(exponent(stage) for stage in ("read", "decode", "encode", "write"))
    learning = exponent("statistics")
    return [
        ("restart after SIGKILL to the first new point", "≤ 20 s", f"{shown(restart, '.1f')} s", restart["max"] <= 20),
        (
            f"records/s at {steps[-1]['points']:,} points stored, to the first tenth",
            "≥ 0.9",
            f"{ratio:.2f}",
            ratio >= 0.9,
        ),
        ("memory of the driver, end to half way", "≤ 1.1", f"{grown:.2f} ({memory[-1]:,.0f} MB)", grown <= 1.1),
        (f"learning, {low} to {high} features", "≤ d²", f"d^{learning:.2f}", learning <= 2),
        (f"all else, {low} to {high} features", "≤ d", f"d^{rest:.2f}", rest <= 1.05),
    ]


GOALS = {"learner": learner_goals, "pipeline": pipeline_goals, "latency": latency_goals, "growth": growth_goals}


def table(rows: list[list[str]]) -> list[str]:
    """Return a Markdown table; the first row is its head."""
    head, *body = (f"| {' | '.join(row)} |" for row in rows)
    return [head, "|" + "---|" * len(rows[0]), *body, ""]


def markdown(results: dict[str, Results]) -> str:
    """Return the report: the goals in one table, then what stands behind them."""
    about = next(iter(results.values()))["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    lines = [f"{about['cores']} cores ({about['cpu']}), {about['memory_gb']} GB; {versions}. Medians (ranges).", ""]
    goals = [goal for name, find in GOALS.items() if name in results for goal in find(results[name])]
    rows = [[what, found, wanted, "yes" if met else "**no**"] for what, wanted, found, met in goals]
    lines += table([["measured", "found", "goal", "met"], *rows])
    if "pipeline" in results:
        lines += ["CPU seconds per million records:", ""]
        programs = results["pipeline"]["programs"]
        roles = sorted({role for one in programs.values() for role in one["cpu_s_per_million"]})
        cells = [[name, shown(one["records_per_second"])] for name, one in programs.items()]
        for row, one in zip(cells, programs.values(), strict=True):
            cpu = one["cpu_s_per_million"]
            row += [f"{sum(cpu.values()):.1f}", *(f"{cpu.get(role, 0):.1f}" for role in roles)]
        lines += table([["program", "records/s", "all", *roles], *cells])
        shares = ", ".join(f"{stage} {share:.0%}" for stage, share in programs["ours"]["shares"].items())
        lines += [f"Ours, share of both cores' time: {shares}.", ""]
    if "latency" in results:
        rows = [
            [program, f"{one['rate']:,.0f}", *(shown(one[q], ".2f") for q in ("p50", "p99")), f"{one['max']:.2f}"]
            for program, found in results["latency"]["programs"].items()
            for one in found
        ]
        lines += ["Seconds from sent to found by a search:", ""]
        lines += table([["program", "records/s", "p50", "p99", "max"], *rows])
    if "growth" in results:
        rows = [
            [name, f"{int(value):,}", f"{one['records_per_second']:,.0f}", f"{one['state_bytes']:,}"]
            for name, runs in results["growth"]["varied"].items()
            for value, one in sorted(runs.items(), key=lambda item: int(item[0]))
        ]
        start = results["growth"]["restarts"]["start_s"]
        lines += [f"One thing varied at a time; the first start took {start:.1f} s to the first point:", ""]
        lines += table([["varied", "to", "records/s", "bytes of state"], *rows])
    if "learner" in results:
        per_row = [
            [one["learner"], f"{one['rows']:,}", str(one["features"]), shown(one["seconds"], ",.4f")]
            for one in results["learner"]["times"]
        ]
        lines += ["Seconds per model update:", ""]
        lines += table([["learner", "rows", "features", "seconds"], *per_row])
        for data, found in results["learner"]["quality"].items():
            marks = list(next(iter(found["mse"].values())))
            rows = [[name, *(f"{mse:,.4g}" for mse in errors.values())] for name, errors in found["mse"].items()]
            chosen = "; ".join(f"{name}: {setting}" for name, setting in found["chosen"].items())
            lines += [f"Test MSE by rows learned, {data} (chosen for: {chosen}):", ""]
            lines += table([["learner", *(f"{int(mark):,}" for mark in marks)], *rows])
    for program in ("river", "mllib"):
        document = ast.get_docstring(ast.parse((ROOT / "bench" / f"{program}_app.py").read_text())) or ""
        lines += [f"{program}: {' '.join(document.split())}", ""]
    return "\n".join(lines)


def plots(results: dict[str, Results]) -> dict[str, dict[str, Any]]:
    """Return Vega-Lite drawings by name."""
    found: dict[str, dict[str, Any]] = {}
    if "learner" in results:
        rows = [{**one, "median": one["seconds"]["median"]} for one in results["learner"]["times"]]
        found["learner"] = {
            "title": "Seconds per model update, by rows in the micro-batch and features",
            "data": {"values": rows},
            "facet": {"column": {"field": "features", "title": "features"}},
            "spec": line(("rows", "rows"), ("median", "seconds"), "learner", log=True),
        }
    if "pipeline" in results:
        programs = results["pipeline"]["programs"]
        order = list(programs)
        rates = [{"program": name, **one["records_per_second"]} for name, one in programs.items()]
        cpu = [
            {"program": name, "role": role, "seconds": seconds}
            for name, one in programs.items()
            for role, seconds in one["cpu_s_per_million"].items()
        ]
        y = {"field": "program", "type": "nominal", "sort": order, "title": None}
        value = {"field": "median", "type": "quantitative", "title": "records/s, median and range"}
        rule = {"x": {"field": "min", "type": "quantitative"}, "x2": {"field": "max"}, "y": y}
        seconds = {"field": "seconds", "type": "quantitative", "title": "CPU seconds per million records"}
        found["pipeline"] = {
            "hconcat": [
                {
                    "data": {"values": rates},
                    "layer": [{"mark": "bar", "encoding": {"x": value, "y": y}}, {"mark": "rule", "encoding": rule}],
                    "width": WIDTH,
                },
                {
                    "data": {"values": cpu},
                    "mark": "bar",
                    "encoding": {"x": seconds, "y": y, "color": {"field": "role", "title": None}},
                    "width": WIDTH,
                },
            ]
        }
    if "latency" in results:
        rows = [
            {"program": program, "rate": one["rate"], "seconds": one[q]["median"], "which": q}
            for program, many in results["latency"]["programs"].items()
            for one in many
            for q in ("p50", "p99")
        ]
        spec = line(("rate", "records/s"), ("seconds", "seconds until found"), "program", log=True)
        legend = {"symbolType": "stroke", "symbolStrokeColor": "black"}
        spec["encoding"]["strokeDash"] = {"field": "which", "title": None, "legend": legend}
        found["latency"] = {"title": "From sent to found by a search: p50, p99", "data": {"values": rows}, **spec}
    if "growth" in results:
        varied = results["growth"]["varied"]
        parts = []
        for name, runs in varied.items():
            rows = [{"x": int(x), "rate": one["records_per_second"]} for x, one in runs.items()]
            titles = {"rows": "rows per micro-batch", "executors": "executors (0: threads of the driver)"}
            log = name in {"rows", "features"}
            spec = line(("x", titles.get(name, name)), ("rate", "records/s"), log_x=log)
            parts.append({"data": {"values": rows}, **spec})
        rows = [{"x": step["points"], "rate": step["records_per_second"]} for step in results["growth"]["stored"]]
        parts.append({"data": {"values": rows}, **line(("x", "points stored"), ("rate", "records/s"))})
        found["growth"] = {"title": "Records/s, as one thing grows", "concat": parts, "columns": 3}
    return found


def line(
    x: tuple[str, str], y: tuple[str, str], colour: str | None = None, *, log: bool = False, log_x: bool = False
) -> dict[str, Any]:
    """Return a drawing of lines with points; x and y are field and title."""
    scale = {"type": "log"}
    encoding: dict[str, Any] = {
        "x": {"field": x[0], "title": x[1], "type": "quantitative", **({"scale": scale} if log or log_x else {})},
        "y": {"field": y[0], "title": y[1], "type": "quantitative", **({"scale": scale} if log else {})},
    }
    if colour:
        look = {"legend": {"labelLimit": 300}, "scale": {"scheme": "tableau20"}, "sort": None}
        encoding["color"] = {"field": colour, "title": None, **look}
    return {"mark": {"type": "line", "point": True}, "encoding": encoding, "width": WIDTH, "height": HEIGHT}


def main() -> None:
    given = options(__doc__)
    names = [name for name in GOALS if (given.results / f"{name}.json").exists()]
    results = {name: json.loads((given.results / f"{name}.json").read_text()) for name in names}
    text = markdown(results)
    (given.results / "README.md").write_text("# What `make bench` found\n" + text)
    print(text)
    folder: Path = ROOT / "docs" if given.size == "full" else given.results
    for name, spec in plots(results).items():
        config = {"background": "white", "config": {"view": {"stroke": None}}}
        (folder / f"bench-{name}.svg").write_text(vl_convert.vegalite_to_svg({**config, **spec}))


if __name__ == "__main__":
    main()
