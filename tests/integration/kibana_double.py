"""A double of Kibana's status and import API, as observed on a real 8.12; the only server that cannot run here."""

from __future__ import annotations

import json
import re
import ssl
import threading
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import MIMEPart
from email.parser import BytesParser
from email.policy import HTTP
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, ClassVar

Answer = tuple[int, object]


@dataclass
class Kibana:
    """The double's behaviour, and its objects by space, type and id."""

    url: str = ""
    version: str = "8.12.2"
    newest: tuple[int, ...] = (8, 9, 0)  # the newest type version that it can migrate from
    starting: int = 0  # number of first requests that it answers with 503
    login: str | None = None  # user:password, or the key after "ApiKey "
    token: str | None = None  # after "Bearer "
    forbidden: bool = False
    spaces: tuple[str, ...] = ("default",)
    fails: list[Answer | str] = field(default_factory=list)  # results of the next imports: a response, "drop" or "hang"
    errors: list[dict[str, Any]] = field(default_factory=list)  # errors of the next imports
    objects: dict[tuple[str, str, str], dict[str, Any]] = field(default_factory=dict)
    requests: list[str] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)

    def status(self) -> Answer:
        if self.starting:
            self.starting -= 1
            return 503, {"status": {"overall": {"level": "unavailable"}}}
        return 200, {"version": {"number": self.version}, "status": {"overall": {"level": "available"}}}

    def imported(self, space: str, content: str) -> Answer:
        found = [json.loads(line) for line in content.rstrip("\n").split("\n")]
        for saved in found:
            version = tuple(map(int, saved["typeMigrationVersion"].split(".")))
            if version > self.newest:
                text = f'Document "{saved["id"]}" belongs to a more recent version of Kibana'
                return 422, {"statusCode": 422, "error": "Unprocessable Entity", "message": text}
        known = {(saved["type"], saved["id"]) for saved in found} | {
            (kind, known_id) for where, kind, known_id in self.objects if where == space
        }
        errors = list(self.errors)
        for saved in found:
            missing = [ref for ref in saved["references"] if (ref["type"], ref["id"]) not in known]
            if missing:
                error = {"type": "missing_references", "references": missing}
                errors.append({"id": saved["id"], "type": saved["type"], "error": error})
        if errors:
            return 200, {"success": False, "successCount": 0, "errors": errors}
        results = []
        for saved in found:
            result = {"type": saved["type"], "id": saved["id"], "meta": {}, "overwrite": True}
            elsewhere = any(key[1:] == (saved["type"], saved["id"]) and key[0] != space for key in self.objects)
            target = f"{space}-{saved['id']}" if elsewhere else saved["id"]  # Kibana uses a UUID
            if elsewhere:
                result["destinationId"] = target
            self.objects[space, saved["type"], target] = saved
            results.append(result)
        return 200, {"success": True, "successCount": len(results), "successResults": results}


class Handler(BaseHTTPRequestHandler):
    kibana: ClassVar[Kibana]

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self.handle_request(b"")

    def do_POST(self) -> None:
        self.handle_request(self.rfile.read(int(self.headers["Content-Length"])))

    def handle_request(self, body: bytes) -> None:
        answer = self.answer(body)
        if answer is None:
            self.close_connection = True
            return
        status, content = answer
        data = content.encode() if isinstance(content, str) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def answer(self, body: bytes) -> Answer | None:  # noqa: PLR0911, PLR0912 - a branch for each way to fail
        kibana = self.kibana
        kibana.requests.append(f"{self.command} {self.path}")
        match = re.fullmatch(r"(?:/s/([^/]+))?(/api/.*)", self.path)
        space = match and (match[1] or "default")
        if kibana.login:
            user = f"Basic {b64encode(kibana.login.encode()).decode()}"
            if self.headers["Authorization"] not in {user, f"ApiKey {kibana.login}"}:
                return 401, {"statusCode": 401, "error": "Unauthorized", "message": "Unauthorized"}
        if kibana.token and self.headers["Authorization"] != f"Bearer {kibana.token}":
            return 401, {"statusCode": 401, "error": "Unauthorized", "message": "Unauthorized"}
        if not match:
            return 404, {"statusCode": 404, "error": "Not Found", "message": "Not Found"}
        if match[2] == "/api/status":
            return kibana.status()
        if asked := re.fullmatch(r"/api/spaces/space/(.+)", match[2]):
            if asked[1] in kibana.spaces:
                return 200, {"id": asked[1], "name": asked[1]}
            return 404, {"statusCode": 404, "error": "Not Found", "message": "Not Found"}
        if match[2] != "/api/saved_objects/_import?overwrite=true":
            return 404, {"statusCode": 404, "error": "Not Found", "message": "Not Found"}
        if not self.headers["kbn-xsrf"]:
            return 400, {"statusCode": 400, "message": "Request must contain a kbn-xsrf header."}
        if kibana.forbidden:
            return 403, {"statusCode": 403, "error": "Forbidden", "message": "Unable to bulk_create dashboard"}
        fail = kibana.fails.pop(0) if kibana.fails else None
        if fail == "drop":
            return None
        if fail == "hang":
            kibana.released.wait(60)
            return None
        if isinstance(fail, tuple):
            return fail
        part = self.part(body)
        if not str(part.get_filename()).endswith(".ndjson"):
            return 400, {"statusCode": 400, "message": f"Invalid file extension {part.get_filename()}"}
        content = part.get_payload(decode=True)
        assert isinstance(content, bytes)
        return kibana.imported(str(space), content.decode())

    def part(self, body: bytes) -> MIMEPart:
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        (part,) = BytesParser(policy=HTTP).parsebytes(head + body).iter_parts()
        return part


@contextmanager
def kibana_double(context: ssl.SSLContext | None = None, **behaviour: Any) -> Iterator[Kibana]:
    """A double on a free port, with TLS if there is a context."""
    kibana = Kibana(**behaviour)
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("ThisHandler", (Handler,), {"kibana": kibana}))
    if context:
        server.socket = context.wrap_socket(server.socket, server_side=True)
    kibana.url = f"http{'s' if context else ''}://localhost:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield kibana
    finally:
        kibana.released.set()
        server.shutdown()
        server.server_close()
        thread.join()
