"""The live page's content: panels and their data, read from Elasticsearch.

A request can only choose among fixed words; no other part of it gets into a query.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timezone
from typing import Any

from elasticsearch import Elasticsearch
from starlette.exceptions import HTTPException

from dashboards import charts, queries, samples, search
from dashboards.errors import ServerUnavailable
from dashboards.overview import EVENTS
from dashboards.panels import (
    RANGE,
    REFRESH_S,
    SHOWN,
    TIME,
    AnyPanel,
    Line,
    Metric,
    Names,
    Newest,
    Note,
    Sample,
    Section,
    Table,
)
from dashboards.sections import sections

REQUEST_TIMEOUT_S = 10.0
STOPPED_AFTER_S = 30.0
RANGES: dict[str, tuple[str, str | None]] = {
    "15m": ("last 15 minutes", "now-15m"),
    "1h": ("last hour", "now-1h"),
    "24h": ("last 24 hours", "now-24h"),
    RANGE[0]: RANGE[1:],
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
        topics = {"all": found} | {section.id: _of(section.topic, found) for section in found if section.topic}
        offered: dict[str, dict[str, Any]] = {
            "topic": topics,
            "range": {value: since for value, (_, since) in RANGES.items()},
            "feature": {field: field for field in names.fields},
        }
        chosen = []
        for (name, options), default in zip(offered.items(), ("all", RANGE[0], names.fields[0]), strict=True):
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
            "title": self.names.title,
            "refresh_s": REFRESH_S,
            "range": RANGE[0],
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
            "topic": panel.topic,
        }
        match panel:
            case Metric():
                return common | {"unit": panel.unit, "decimals": panel.decimals, "measure": panel.measure.label}
            case Line():
                titles = [panel.x_title, *(measure.label for measure in panel.measures)]
                more = {"time": panel.across == TIME, "log": panel.scale == "log", "events": bool(panel.events)}
                return common | {"spec": charts.line(panel), "columns": titles, **more}
            case Table():
                return common | {"columns": [*(heading for _, heading in panel.columns), "Records"]}
            case Sample():
                label, feature = self.names.label, choice.feature
                both = [["y", f"observed {label}"], ["pred", f"predicted {label}"]]
                place_of = ["place", "topic-partition-offset"]
                columns = {
                    "feature": [["x", feature], *both, ["standard_error", "standard error"], place_of],
                    "diagonal": [*both, place_of],
                    "residuals": [["start", "from"], ["end", "to"], ["count", "points"]],
                }[panel.drawing]
                return common | {"spec": charts.sample(panel, self.names, feature), "columns": columns}
            case Newest():
                return common | {"columns": ["Last micro-batch", *(heading for _, heading in panel.fields)]}
            case Note():
                return common | {"paragraphs": panel.paragraphs}

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
        asked = [panel for panel in panels if not isinstance(panel, Sample | Note)]
        answers = self._search(
            [
                *(("points", samples.sample(topic, known, choice.feature, stored)) for topic in topics),
                *((kind.index, queries.event(kind, since)) for kind in EVENTS),
                *((panel.index, _query(panel, since, known)) for panel in asked),
            ],
            end,
        )
        others = answers[len(topics) :]
        points = dict(zip(topics, answers, strict=False))
        found = {panel.id: answer for panel, answer in zip(asked, others[len(EVENTS) :], strict=True)}
        events = [
            row for kind, answer in zip(EVENTS, others, strict=False) for row in queries.read_events(kind, answer)
        ]
        whole = all(answer["_shards"]["successful"] == answer["_shards"]["total"] for answer in [extent, *answers])
        return {
            **_state(batch, model),
            "whole": whole,
            "points_fraction": stored,
            "events": events,
            "panels": {
                panel.id: samples.read_sample(panel, points[panel.topic or ""], choice.feature)
                if isinstance(panel, Sample)
                else _read(panel, found[panel.id])
                for panel in panels
                if not isinstance(panel, Note)
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


def _of(topic: str, found: tuple[Section, ...]) -> tuple[Section, ...]:
    """Return the sections without what belongs to another topic."""
    return tuple(
        replace(section, panels=tuple(panel for panel in section.panels if panel.topic in {None, topic}))
        for section in found
        if section.topic in {None, topic}
    )


def _query(panel: Metric | Line | Table | Newest, since: str | None, known: queries.Extent) -> queries.Query:
    match panel:
        case Metric():
            return queries.metric(panel, since)
        case Line():
            return queries.line(panel, since, known)
        case Table():
            return queries.table(panel, since)
        case Newest():
            return queries.newest_of(panel)


def _read(panel: Metric | Line | Table | Newest, answer: Mapping[str, Any]) -> object:
    match panel:
        case Metric():
            return queries.read_metric(panel, answer)
        case Line():
            return queries.read_line(panel, answer)
        case Table():
            return queries.read_table(panel, answer)
        case Newest():
            return queries.read_newest(panel, answer)


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
