"""A schema registry that answers as a test says, over real HTTP: for faults that a real registry shows only rarely."""

from __future__ import annotations

import json
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler
from types import TracebackType
from typing import Any

from typing_extensions import Self

from tests.http_server import HttpServer

UNKNOWN = (404, {"error_code": 40403, "message": "Schema not found"})
Answer = tuple[int, Any]
"""The status and the body: text, or an object that is sent as JSON."""


class ScriptedRegistry:
    """Answers requests for schemas by id; `answers` are taken first, one a request.

    Parameters
    ----------
    schemas
        By id: the type (AVRO, JSON or PROTOBUF), the schema, and the references.
    """

    def __init__(self, schemas: Mapping[int, tuple[str, Any, list[dict[str, Any]]]] | None = None) -> None:
        self.schemas = dict(schemas or {})
        self.answers: list[Answer] = []
        self.requests: list[str] = []
        self.authorizations: list[str | None] = []
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                registry.requests.append(self.path)
                registry.authorizations.append(self.headers["Authorization"])
                status, body = registry.answers.pop(0) if registry.answers else registry.answer(self.path)
                content = (body if isinstance(body, str) else json.dumps(body)).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, *_: object) -> None:
                pass

        self._server = HttpServer(Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def answer(self, path: str) -> Answer:
        """Return what a real registry answers."""
        words = path.partition("?")[0].strip("/").split("/")
        if words == ["schemas", "types"]:
            return 200, ["AVRO", "JSON", "PROTOBUF"]
        if words[:2] == ["schemas", "ids"] and int(words[2]) in self.schemas:
            return 200, self._schema(int(words[2]))
        if words[0] == "subjects" and (number := int(words[1].removeprefix("subject-"))) in self.schemas:
            return 200, {"subject": words[1], "version": int(words[3]), "id": number, **self._schema(number)}
        return UNKNOWN

    def _schema(self, number: int) -> dict[str, Any]:
        kind, schema, references = self.schemas[number]
        text = schema if isinstance(schema, str) else json.dumps(schema)
        return {
            "schema": text,
            **({"schemaType": kind} if kind != "AVRO" else {}),
            **({"references": references} if references else {}),
        }

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.__exit__(kind, error, trace)
