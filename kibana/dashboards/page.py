"""The live page's content: panels and their data, read from Elasticsearch.

A request can only choose among fixed words; no other part of it gets into a query.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from typing import Any

from elasticsearch import Elasticsearch
from starlette.exceptions import HTTPException

from dashboards import charts, queries, search
from dashboards.errors import ServerUnavailable
from dashboards.panels import REFRESH_S, SHOWN, TIME, AnyPanel, Line, Metric, Names, Sample, Section, Table, sections

REQUEST_TIMEOUT_S = 10.0
STOPPED_AFTER_S = 30.0
RANGES = {
    "15m": ("last 15 minutes", "now-15m"),
    "1h": ("last hour", "now-1h"),
    "24h": ("last 24 hours", "now-24h"),
    "7d": ("last 7 days", "now-7d"),
    "all": ("all data", None),
}


@dataclass(frozen=True, slots=True)
class Choice:
    """The user's choice: the sections to show, the time range, and the feature over which points are drawn."""

    sections: tuple[Section, ...]
    since: str | None
    feature: str

    @classmethod
    def of(cls, parameters: Mapping[str, str], names: Names) -> Choice:
        """Return the choice in a URL's parameters; HTTP 400 for a value that is not offered."""
        found = sections(names)
        topics = {"all": found} | {section.id: (section, found[-1]) for section in found[:-1]}
        offered: dict[str, dict[str, Any]] = {
            "topic": topics,
            "range": {value: since for value, (_, since) in RANGES.items()},
            "feature": {field: field for field in names.fields},
        }
        chosen = []
        for (name, options), default in zip(offered.items(), ("all", "all", names.fields[0]), strict=True):
            value = parameters.get(name, default)
            if value not in options:
                offers = ", ".join(options) if len(options) <= SHOWN else f"the {len(options):,} choices of the page"
                raise HTTPException(400, f"{name} must be one of: {offers}")
            chosen.append(options[value])
        return cls(*chosen)


@dataclass(frozen=True, slots=True)
class Page:
    """The page for the indices of one prefix."""

    names: Names
    client: Elasticsearch

    def layout(self, choice: Choice) -> dict[str, Any]:
        """Return the part of the page that does not depend on data: sections, panels, charts, choices."""
        return {
            "refresh_s": REFRESH_S,
            "choices": {
                "topic": [("all", "train and test"), ("train", "train"), ("test", "test")],
                "range": [(value, text) for value, (text, _) in RANGES.items()],
                "feature": [(field, field) for field in self.names.fields],
            },
            "sections": [
                {
                    "id": section.id,
                    "title": section.title,
                    "topic": section.topic,
                    "panels": [self._panel(panel, choice) for panel in section.panels],
                }
                for section in choice.sections
            ],
        }

    def _panel(self, panel: AnyPanel, choice: Choice) -> dict[str, Any]:
        place = panel.place
        common: dict[str, Any] = {
            "id": panel.id,
            "title": panel.title,
            "description": panel.description,
            "kind": type(panel).__name__.lower(),
            "place": [place.x, place.y, place.width, place.height],
        }
        match panel:
            case Metric():
                return common | {"unit": panel.unit, "decimals": panel.decimals}
            case Line():
                titles = [panel.x_title, *(measure.label for measure in panel.measures)]
                return common | {"spec": charts.line(panel), "columns": titles, "time": panel.across == TIME}
            case Table():
                return common | {"columns": [*(heading for _, heading in panel.columns), "Records"]}
            case Sample():
                label, feature = self.names.label, choice.feature
                columns = {
                    "feature": [["x", feature], ["y", f"observed {label}"], ["pred", f"predicted {label}"]],
                    "diagonal": [["y", f"observed {label}"], ["pred", f"predicted {label}"]],
                    "residuals": [["start", "from"], ["end", "to"], ["count", "points"]],
                }[panel.drawing]
                return common | {"spec": charts.sample(panel, self.names, feature), "columns": columns}

    def data(self, choice: Choice) -> dict[str, Any]:
        """Return the panels' numbers and the stream's state, in two round trips to Elasticsearch.

        Together they may take REQUEST_TIMEOUT_S seconds.
        """
        since, end = choice.since, time.monotonic() + REQUEST_TIMEOUT_S
        extent, batch, model, fraction = self._search(
            [
                ("metrics", queries.extent(self.names, since)),
                ("metrics", queries.newest([TIME])),
                ("models", queries.newest(["lag", "seconds"])),
                ("models", queries.fraction(since)),
            ],
            end,
        )
        known, stored = queries.read_extent(extent), queries.read_fraction(fraction)
        panels = [panel for section in choice.sections for panel in section.panels]
        topics = [section.topic for section in choice.sections if section.topic]
        asked = [panel for panel in panels if not isinstance(panel, Sample)]
        answers = self._search(
            [
                *(("points", queries.sample(topic, known, choice.feature, stored)) for topic in topics),
                *((panel.index, _query(panel, since, known)) for panel in asked),
            ],
            end,
        )
        samples = dict(zip(topics, answers, strict=False))
        found = {panel.id: answer for panel, answer in zip(asked, answers[len(topics) :], strict=True)}
        whole = all(answer["_shards"]["successful"] == answer["_shards"]["total"] for answer in [extent, *answers])
        return {
            **_state(batch, model),
            "whole": whole,
            "points_fraction": stored,
            "panels": {
                panel.id: queries.read_sample(panel, samples[panel.topic or ""], choice.feature)
                if isinstance(panel, Sample)
                else _read(panel, found[panel.id])
                for panel in panels
            },
        }

    def _search(self, asked: list[tuple[Any, queries.Query]], end: float) -> list[Mapping[str, Any]]:
        lines: list[Mapping[str, Any]] = []
        for index, body in asked:
            lines += [{"index": self.names.pattern(index), "ignore_unavailable": True}, body]
        client = self.client.options(request_timeout=max(end - time.monotonic(), 0.1))
        answers: list[Mapping[str, Any]] = client.msearch(searches=lines)["responses"]
        for answer in answers:
            if "error" in answer:
                raise ServerUnavailable(f"Elasticsearch could not search: {search.reason(answer)}")
        return answers


def _query(panel: Metric | Line | Table, since: str | None, known: queries.Extent) -> queries.Query:
    match panel:
        case Metric():
            return queries.metric(panel, since)
        case Line():
            return queries.line(panel, since, known)
        case Table():
            return queries.table(panel, since)


def _read(panel: Metric | Line | Table, answer: Mapping[str, Any]) -> object:
    match panel:
        case Metric():
            return queries.read_metric(panel, answer)
        case Line():
            return queries.read_line(panel, answer)
        case Table():
            return queries.read_table(panel, answer)


def _state(batch: Mapping[str, Any], model: Mapping[str, Any]) -> dict[str, Any]:
    """Return whether there are data, and whether the stream is running, judged by the newest micro-batch's time.

    This is the time at which the micro-batch began; its documents are written at its end.
    """
    now = datetime.now(timezone.utc)
    if not batch["hits"]["hits"]:
        return {"state": "empty", "time": now.isoformat()}
    last = batch["hits"]["hits"][0]["_source"][TIME]
    newest: Mapping[str, Any] = next((hit["_source"] for hit in model["hits"]["hits"]), {})
    age_s = (now - datetime.fromisoformat(last.replace("Z", "+00:00"))).total_seconds()
    return {
        "state": "stopped" if age_s > STOPPED_AFTER_S + 2 * newest.get("seconds", 0) else "live",
        "time": now.isoformat(),
        "last": last,
        "lag": newest.get("lag"),
    }
