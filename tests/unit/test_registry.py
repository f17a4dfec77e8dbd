"""The errors of a schema registry: those that pass are waited for, the others end the program with one sentence."""

from __future__ import annotations

import base64
import pickle
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from streaming_regression import pauses, registry
from streaming_regression.errors import ConfigError, Refused, ServerUnavailable, StreamError
from streaming_regression.registry import Connection, NotFoundError
from tests.scripted_registry import UNKNOWN, ScriptedRegistry

PAGE = "<html><style>a{}</style><body><h1>Sign in</h1></body></html>"


@pytest.fixture
def server() -> Iterator[ScriptedRegistry]:
    with ScriptedRegistry({1: ("AVRO", "double", [])}) as scripted:
        yield scripted


@pytest.fixture
def connection(server: ScriptedRegistry) -> Connection:
    return Connection(server.url, timeout_s=30)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pauses, "FIRST_PAUSE_S", 0.001)


def text_of(connection: Connection, number: int = 1) -> str:
    with connection.open() as client:
        return str(connection.retrying(lambda: client.get_schema(number)).schema_str)


@pytest.mark.parametrize(
    "answer",
    [
        (500, {"error_code": 50001, "message": "Error in the backend"}),
        (503, PAGE),
        (502, ""),
        (429, {"error_code": 42901, "message": "too many"}),
        (408, ""),
    ],
)
def test_a_busy_registry_is_asked_again(server: ScriptedRegistry, connection: Connection, answer: Any) -> None:
    server.answers = [answer, answer]
    assert text_of(connection) == "double"
    assert len(server.requests) == 3


def test_a_registry_that_stays_away_ends_the_program_with_the_setting(server: ScriptedRegistry) -> None:
    server.answers = [(503, PAGE)] * 1000
    with pytest.raises(ServerUnavailable, match=r"is busy: .*Sign in \(HTTP 503\); gave up after .*--server-timeout-s"):
        text_of(Connection(server.url, timeout_s=0.05))
    with pytest.raises(ServerUnavailable, match=r"--schema-registry-url.* cannot be reached; gave up after"):
        text_of(Connection("http://127.0.0.1:1", timeout_s=0.05))


def test_a_schema_that_is_not_there_is_no_fault_of_the_registry(connection: Connection) -> None:
    with pytest.raises(NotFoundError):
        text_of(connection, 2)


@pytest.mark.parametrize(
    ("answer", "kind", "text"),
    [
        ((401, PAGE), ConfigError, "check --schema-registry-user and --schema-registry-password-file, or --schema-reg"),
        (
            (403, {"error_code": 40301, "message": "no"}),
            Refused,
            "does not let user (anonymous) read schemas: no; give",
        ),
        ((404, PAGE), Refused, "has no such page (HTTP 404): the registry must have Confluent's API; Apicurio's"),
        ((400, {"error": "no handler found for uri"}), Refused, "refused a request: no reason given (HTTP 400)"),
        ((302, ""), Refused, "refused a request: "),
        ((422, {"error_code": 42201, "message": "bad"}), Refused, "refused a request: bad (HTTP 422)"),
        ((200, PAGE), Refused, "sent a response that is not from a schema registry"),
        ((200, "[]"), Refused, "sent a response that is not from a schema registry"),
        ((200, "null"), Refused, "sent a response that is not from a schema registry"),
    ],
)
def test_a_fault_that_does_not_pass_ends_the_program_at_once(
    server: ScriptedRegistry, connection: Connection, answer: Any, kind: type[StreamError], text: str
) -> None:
    server.answers = [answer]
    with pytest.raises(kind) as error:
        text_of(connection)
    assert str(error.value).startswith("the schema registry at ")
    assert "--schema-registry-url" in str(error.value)
    assert text in str(error.value)
    assert "<" not in str(error.value)
    assert str(pickle.loads(pickle.dumps(error.value))) == str(error.value)  # executors return it to the driver
    assert len(server.requests) == 1


def test_the_start_of_the_program_waits_for_a_registry_and_recognizes_another_server(
    server: ScriptedRegistry, connection: Connection
) -> None:
    server.answers = [(503, "")]
    registry.wait(connection)
    assert server.requests == ["/schemas/types"] * 2
    server.answers = [UNKNOWN]
    with pytest.raises(Refused, match="has no schema types"):
        registry.wait(connection)


def test_the_login_is_read_from_files_and_no_secret_shows(
    server: ScriptedRegistry, connection: Connection, tmp_path: Path
) -> None:
    password, token = tmp_path / "password", tmp_path / "token"
    password.write_text("hun:ter2\n")
    token.write_text("abc.def\n")
    with_password = replace(connection, user="reader", password_file=password)
    text_of(with_password)
    text_of(replace(connection, token_file=token))
    basic = base64.b64encode(b"reader:hun:ter2").decode()
    assert server.authorizations == [f"Basic {basic}", "Bearer abc.def"]
    server.answers = [(403, "")]
    with pytest.raises(Refused, match="user reader") as error:
        text_of(with_password)
    assert "ter2" not in str(error.value)


def test_a_ca_file_without_a_certificate_is_named(tmp_path: Path) -> None:
    file = tmp_path / "ca.crt"
    file.write_text("no certificate")
    with pytest.raises(ConfigError, match=r"--schema-registry-ca-file / SCHEMA_REGISTRY_CA_FILE: .* PEM format"):
        Connection("https://127.0.0.1:1", ca_file=file).open()


def test_json_without_a_registry_imports_no_package_of_the_other_formats() -> None:
    """They would add time to each start, and memory to each process."""
    program = (
        "import sys\n"
        "from streaming_regression import formats, scoring\n"
        "assert formats.parser(formats.Format())\n"
        "import producer.__main__\n"
        "print({'httpx2', 'authlib', 'cachetools', 'cryptography', 'fastavro', 'confluent_kafka.schema_registry'}"
        " & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"
