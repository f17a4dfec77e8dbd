"""The live page's web server. It serves its own files from memory, independently of Elasticsearch."""

from __future__ import annotations

import gzip
import hashlib
import json
import logging
import signal
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import uvicorn
import vl_convert
from elastic_transport import TransportError
from elasticsearch import ApiError
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from dashboards import search
from dashboards.answers import Answers
from dashboards.errors import ConfigError, DashboardsError
from dashboards.page import REQUEST_TIMEOUT_S, Choice, Page
from dashboards.settings import Serve
from dashboards.timeouts import REQUEST_WITHIN_S, ProtocolWithTimeouts

log = logging.getLogger(__name__)

STATIC = Path(__file__).parent / "static"
STOP_WITHIN_S = 2
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
VEGA = "window.vegaEmbed = vegaEmbed;"  # the global that the bundle exports to the page
JSON, HTML, CSS, SCRIPT = "application/json", "text/html", "text/css", "text/javascript"


@dataclass(frozen=True, slots=True)
class Body:
    """The content of a response, compressed once for all requests."""

    content: bytes
    packed: bytes
    media_type: str
    etag: str

    @classmethod
    def of(cls, content: bytes, media_type: str) -> Body:
        """Return the body with this content."""
        etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
        return cls(content, gzip.compress(content, 6, mtime=0), media_type, etag)

    def answer(self, request: Request) -> Response:
        """Return the response to a request; status 304 without content if the browser has the content already."""
        headers = {"ETag": self.etag, "Vary": "Accept-Encoding"}
        if self.etag in request.headers.get("If-None-Match", ""):
            return Response(status_code=304, headers=headers)
        if "gzip" not in request.headers.get("Accept-Encoding", ""):
            return Response(self.content, headers=headers, media_type=self.media_type)
        packed = {**headers, "Content-Encoding": "gzip"}
        return Response(self.packed, headers=packed, media_type=self.media_type)


def files() -> dict[str, Body]:
    """Return the page's own files by their paths."""
    static = {
        "/": ("index.html", HTML),
        "/static/page.css": ("page.css", CSS),
        **{f"/static/{name}.js": (f"{name}.js", SCRIPT) for name in ("page", "panels", "format")},
    }
    found = {path: Body.of((STATIC / name).read_bytes(), kind) for path, (name, kind) in static.items()}
    return found | {"/vega.js": Body.of(vl_convert.javascript_bundle(VEGA).encode(), SCRIPT)}


class Headers:
    """Middleware that adds HEADERS to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self.app(scope, receive, with_headers if scope["type"] == "http" else send)


def application(settings: Serve, page: Page, answers: Answers[Choice, Body]) -> Starlette:
    """Return the web application. It runs in the event loop, except the searches, which `answers` runs in threads."""

    async def layout(request: Request) -> Response:
        return _json(page.layout(Choice.of(request.query_params, page.names))).answer(request)

    async def data(request: Request) -> Response:
        choice = Choice.of(request.query_params, page.names)
        try:
            return (await answers.get(choice)).answer(request)
        except (ApiError, TransportError) as error:
            return _failed(search.translated(error, settings))
        except DashboardsError as error:
            return _failed(error)

    hosts = [*LOOPBACK, settings.page_host] if settings.page_host in LOOPBACK else ["*"]
    return Starlette(
        routes=[
            *(Route(path, _file(body)) for path, body in files().items()),
            Route("/api/layout", layout),
            Route("/api/data", data),
        ],
        middleware=[
            Middleware(Headers),
            Middleware(TrustedHostMiddleware, allowed_hosts=hosts),  # against DNS rebinding
        ],
    )


def _file(body: Body) -> Callable[[Request], Awaitable[Response]]:
    async def file(request: Request) -> Response:
        return body.answer(request)

    return file


def _json(content: object) -> Body:
    return Body.of(json.dumps(content, ensure_ascii=False, allow_nan=False).encode(), JSON)


def _failed(error: DashboardsError) -> Response:
    return JSONResponse({"error": str(error)}, status_code=503)


class Server(uvicorn.Server):
    """uvicorn's server; when it stops, requests that wait for Elasticsearch get an error at once."""

    def __init__(self, config: uvicorn.Config, answers: Answers[Choice, Body]) -> None:
        super().__init__(config)
        self._answers = answers

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop the server."""
        self._answers.stop()
        await super().shutdown(sockets)


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
        page = Page(settings.names, client)
        answers = Answers[Choice, Body](lambda choice: _json(page.data(choice)))
        app = application(settings, page, answers)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: None)  # uvicorn stops on them and raises them again
        log.info("the live page is at http://%s:%d", settings.page_host, listening.getsockname()[1])
        config = uvicorn.Config(
            app,
            http=ProtocolWithTimeouts,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=int(REQUEST_WITHIN_S),
            timeout_graceful_shutdown=STOP_WITHIN_S,
        )
        Server(config, answers).run(sockets=[listening])
