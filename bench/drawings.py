"""Draws the results of the benchmarks."""

from __future__ import annotations

from pathlib import Path

import vl_convert

from bench.measurements import LATENCIES, PARTS, Results, Row, kept_up


def plots(results: dict[str, Results]) -> dict[str, Row]:
    """Return Vega-Lite drawings by name."""
    found: dict[str, Row] = {}
    if "learner" in results:
        rows = [{**entry, "seconds": entry["seconds"]["median"]} for entry in results["learner"]["times"]]
        bold = {"test": "slice(datum.learner, 0, 4) == 'ours'", "value": 4}
        spec = line("rows", "seconds", "learner", "log", strokeWidth={"condition": bold, "value": 1})
        facet = {"column": {"field": "features"}}
        found["learner"] = {"title": "Seconds a model update", "data": {"values": rows}, "facet": facet, "spec": spec}
    if "latency" in results:
        programs = results["latency"]["programs"]
        every = [(name, entry) for name, many in programs.items() for entry in many if kept_up(entry)]
        rows = [
            {"program": name, "records/s": entry["rate"], "seconds": entry[q]["median"], "of": q}
            for name, entry in every
            for q in ("p50", "p99")
        ]
        rule = {
            "mark": {"type": "rule", "strokeDash": [2, 2]},
            "encoding": {"y": {"field": "goal", "type": "quantitative"}},
        }
        layers = [
            {
                "data": {"values": rows},
                **line(
                    "records/s",
                    "seconds",
                    "program",
                    "log",
                    strokeDash={"field": "of", "legend": None},
                ),
            },
            {"data": {"values": [{"goal": limit} for _, limit in LATENCIES]}, **rule},
        ]
        found["latency"] = {
            "title": "From due to found: p50 and, dashed, p99; goals: " + ", ".join(f"{q} {s} s" for q, s in LATENCIES),
            "layer": layers,
        }
    if "growth" in results:
        base, *others = results["growth"]["varied"]
        at = {"rows": base["rows"], "partitions": 3, "executors": 0}
        points = [(entry["varied"], entry["value"], entry) for entry in others]
        points += [(name, value, base) for name, value in at.items()]
        points += [("points stored", step["points"], step) for step in results["growth"]["stored"]["steps"]]
        rows = []
        for name, value, entry in points:
            shared = {"varied": name, "to": value}
            rows += [{**shared, "what": "records/s", "of": "records/s", "y": entry["records_per_second"]}]
            rows += [{**shared, "what": "MB", "of": part, "y": entry["memory_mb"].get(part, 0)} for part in PARTS]
        spec, bare = line("to", "y", "of", "linear"), {"title": None}
        spec["encoding"]["y"] |= {**bare, "aggregate": "median"}  # of rounds
        found["growth"] = {
            "title": "Records/s and memory as a single quantity grows (executors 0: threads of the driver)",
            "data": {"values": rows},
            "facet": {"row": {"field": "what", "sort": "descending", **bare}, "column": {"field": "varied", **bare}},
            "spec": spec,
            "resolve": {"scale": {"x": "independent", "y": "independent"}},
        }
    return found


def line(x: str, y: str, colour: str, scale: str, **more: Row) -> Row:
    """Return a drawing of lines with points, on linear scales from 0 or logarithmic ones."""
    axis = {"type": "quantitative", "scale": {"type": scale}, "axis": {"labelOverlap": "greedy", "labelSeparation": 8}}
    encoding = {"x": {"field": x, **axis, "title": x}, "y": {"field": y, **axis, "title": y}, **more}
    encoding["color"] = {"field": colour, "title": None, "sort": None, "legend": {"labelLimit": 300}}
    encoding["color"]["scale"] = {"scheme": "tableau20"}
    return {"mark": {"type": "line", "point": True}, "encoding": encoding, "width": 250, "height": 180}


def draw(results: dict[str, Results], folder: Path) -> None:
    """Write a drawing of each question's results to a folder."""
    for name, spec in plots(results).items():
        (folder / f"bench-{name}.svg").write_text(vl_convert.vegalite_to_svg({"background": "white", **spec}))
