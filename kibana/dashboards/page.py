"""The live page: a small web server that reads Elasticsearch; the browser draws.

Of a request nothing but a choice among fixed words gets into a query.
"""

from __future__ import annotations

import logging
import signal
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import uvicorn
import vl_convert
from elastic_transport import TransportError
from elasticsearch import ApiError, Elasticsearch
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.gzip import GZipMiddleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboards import charts, queries, search
from dashboards.errors import ConfigError, DashboardsError, ServerUnavailable
from dashboards.panels import REFRESH_S, TIME, AnyPanel, Line, Metric, Names, Sample, Section, Table, sections
from dashboards.settings import Serve

log = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
REQUEST_TIMEOUT_S = 10.0
STOPPED_AFTER_S = 30.0
RANGES = {
    "15m": ("last 15 minutes", "now-15m"),
    "1h": ("last hour", "now-1h"),
    "24h": ("last 24 hours", "now-24h"),
    "7d": ("last 7 days", "now-7d"),
    "all": ("all data", None),
}
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cache-Control": "no-cache",
}
VEGA = "window.vegaEmbed = vegaEmbed;"  # what the bundle leaves to the page


@dataclass(frozen=True, slots=True)
class Choice:
    """What the user has chosen: the sections on view, the time range, the feature to draw the points over."""

    sections: tuple[Section, ...]
    since: str | None
    feature: str

    @classmethod
    def of(cls, parameters: Mapping[str, str], names: Names) -> Choice:
        """Return the choice in a URL's parameters, refusing what is not offered."""
        found = sections(names)
        topics = {"all": found} | {one.id: tuple(s for s in found if s in (one, found[-1])) for one in found[:-1]}
        offered: dict[str, dict[str, Any]] = {
            "topic": topics,
            "range": {value: since for value, (_, since) in RANGES.items()},
            "feature": {feature: feature for feature in names.features},
        }
        chosen = []
        for (name, options), default in zip(offered.items(), ("all", "all", names.features[0]), strict=True):
            value = parameters.get(name, default)
            if value not in options:
                raise HTTPException(400, f"{name} is one of: {', '.join(options)}")
            chosen.append(options[value])
        return cls(*chosen)


@dataclass(frozen=True, slots=True)
class Page:
    """The page over one prefix's indices."""

    names: Names
    client: Elasticsearch

    def layout(self, choice: Choice) -> dict[str, Any]:
        """Return what the browser needs before there are data: sections, panels, drawings, choices."""
        return {
            "refresh_s": REFRESH_S,
            "choices": {
                "topic": [("all", "train and test"), ("train", "train"), ("test", "test")],
                "range": [(value, text) for value, (text, _) in RANGES.items()],
                "feature": [(feature, feature) for feature in self.names.features],
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
                    "residuals": [["start", "from"], ["end", "to"], ["count", "records"]],
                }[panel.drawing]
                return common | {"spec": charts.sample(panel, self.names, feature), "columns": columns}

    def data(self, choice: Choice) -> dict[str, Any]:
        """Return the panels' numbers and the stream's state, in two round trips to Elasticsearch."""
        since = choice.since
        extent, batch, model = self._search(
            [
                ("metrics", queries.extent(self.names, since)),
                ("metrics", queries.newest([TIME])),
                ("models", queries.newest(["lag", "seconds"])),
            ]
        )
        known = queries.read_extent(extent)
        panels = [panel for section in choice.sections for panel in section.panels]
        topics = [section.topic for section in choice.sections if section.topic]
        asked = [panel for panel in panels if not isinstance(panel, Sample)]
        answers = self._search(
            [
                *(("points", queries.sample(topic, known, choice.feature)) for topic in topics),
                *((panel.index, _query(panel, since, known)) for panel in asked),
            ]
        )
        samples = dict(zip(topics, answers, strict=False))
        found = {panel.id: answer for panel, answer in zip(asked, answers[len(topics) :], strict=True)}
        whole = all(one["_shards"]["successful"] == one["_shards"]["total"] for one in [extent, *answers])
        return {
            **_state(batch, model),
            "whole": whole,
            "panels": {
                panel.id: queries.read_sample(panel, samples[panel.topic or ""], choice.feature)
                if isinstance(panel, Sample)
                else _read(panel, found[panel.id])
                for panel in panels
            },
        }

    def _search(self, asked: list[tuple[Any, queries.Query]]) -> list[Mapping[str, Any]]:
        lines: list[Mapping[str, Any]] = []
        for index, body in asked:
            lines += [{"index": self.names.pattern(index), "ignore_unavailable": True}, body]
        answers: list[Mapping[str, Any]] = self.client.msearch(searches=lines)["responses"]
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
    """Return whether there are data, and whether the stream goes on: by the newest micro-batch's time.

    That is the time at which it began; its documents come at its end.
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


class Headers:
    """Puts HEADERS on every answer."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self.app(scope, receive, with_headers if scope["type"] == "http" else send)


def application(settings: Serve, client: Elasticsearch) -> Starlette:
    """Return the web application."""
    page = Page(settings.names, client)
    bundle = vl_convert.javascript_bundle(VEGA)

    # plain functions: Starlette runs them in threads, so that a slow Elasticsearch does not stop the server
    def layout(request: Request) -> Response:
        return JSONResponse(page.layout(Choice.of(request.query_params, page.names)))

    def data(request: Request) -> Response:
        choice = Choice.of(request.query_params, page.names)
        try:
            return JSONResponse(page.data(choice))
        except (ApiError, TransportError) as error:
            return _failed(search.explained(error, settings))
        except DashboardsError as error:
            return _failed(error)

    def index(_request: Request) -> Response:
        return Response((STATIC / "index.html").read_bytes(), media_type="text/html")

    def vega(_request: Request) -> Response:
        return Response(bundle, media_type="text/javascript")

    hosts = [*LOOPBACK, settings.page_host] if settings.page_host in LOOPBACK else ["*"]
    return Starlette(
        routes=[
            Route("/", index),
            Route("/api/layout", layout),
            Route("/api/data", data),
            Route("/vega.js", vega),
            Mount("/static", StaticFiles(directory=STATIC)),
        ],
        middleware=[
            Middleware(Headers),
            Middleware(TrustedHostMiddleware, allowed_hosts=hosts),  # so no other site's name can lead here
            Middleware(GZipMiddleware),
        ],
    )


def _failed(error: DashboardsError) -> Response:
    return JSONResponse({"error": str(error)}, status_code=503)


def serve(settings: Serve) -> None:
    """Serve the page until SIGTERM or Ctrl-C."""
    try:
        family = socket.AF_INET6 if ":" in settings.page_host else socket.AF_INET
        listening = socket.create_server((settings.page_host, settings.page_port), family=family)
    except OSError as error:
        raise ConfigError(
            f"cannot listen on {settings.page_host}:{settings.page_port} ({error.strerror}): "
            "choose another --page-port / PAGE_PORT"
        ) from error
    with listening, search.client(settings, REQUEST_TIMEOUT_S) as client:
        app = application(settings, client)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)  # uvicorn stops on them, then raises them again for us
        log.info("the live page is at http://%s:%d", settings.page_host, listening.getsockname()[1])
        config = uvicorn.Config(
            app, log_config=None, access_log=False, server_header=False, timeout_graceful_shutdown=2
        )
        uvicorn.Server(config).run(sockets=[listening])
