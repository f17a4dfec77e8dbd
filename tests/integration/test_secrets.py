"""Passwords and API keys are only in their files, and nowhere else."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import urlopen

import psutil
import pytest
import trustme

from embedded import Elasticsearch, Kafka, free_port
from embedded.testing.flags import last_flags
from embedded.testing.records import synthetic
from embedded.testing.repeated import repeated
from embedded.testing.stream import Stream
from embedded.testing.waiting import wait_until
from tests.integration.certificates import write
from tests.integration.secure_kafka import add_user, allow
from tests.integration.secure_search import Accounts, SecureSearch, anything
from tests.integration.token_endpoint import TokenEndpoint

Material = dict[str, str]
"""Texts by their source: a file, a page, a command line."""

KAFKA_USER, SEARCH_USER = "kafka-reader", "search-writer"
# The ends contain characters that configuration files, shells or HTML escape; the tests search for the middle.
KAFKA_PASSWORD = 'it\'s a "quote" ${x} \\ ünlike-K4fk4Secret;=,'
PLAIN_KAFKA_PASSWORD = "Plain-K4fk4Secret"
SEARCH_PASSWORD = 'no "quote" either: Se4rchSecret'
API_KEY = base64.b64encode(b"ApiKeyId:Ap1KeySecret").decode()
TOKEN = "AAEAAWVsYXN0aWM-T0kenSecret"
SECRETS = (
    "K4fk4Secret",
    "Se4rchSecret",
    API_KEY,
    base64.b64encode(f"{SEARCH_USER}:{SEARCH_PASSWORD}".encode()).decode(),
    "K3ySecret",
    "Cl1entSecret",
    "T0kenSecret",
    "Opt10nFileSecret",
    "Opt10nEnvSecret",
)
OPTION = "socket.timeout.ms=50000\nsasl.oauthbearer.config=Opt10nEnvSecret"
"""The variable KAFKA_OPTION. Kafka's client uses its second option only for tokens that it makes itself."""
PAGES = (
    *("/", "/jobs/", "/jobs/job/?id=0", "/stages/", "/stages/stage/?id=0&attempt=0", "/storage/", "/environment/"),
    *("/executors/", "/executors/threadDump/?executorId=driver", "/SQL/", "/SQL/execution/?id=0", "/StreamingQuery/"),
)
REST = (
    *("", "/jobs", "/jobs/0", "/stages?details=true", "/stages/0", "/executors", "/allexecutors", "/storage/rdd"),
    *("/environment", "/sql?details=true&planDescription=true", "/executors/driver/threads"),
)


@pytest.fixture
def secure_search(search: Elasticsearch, authority: trustme.CA) -> Iterator[SecureSearch]:
    users = (SEARCH_USER, "key", "service")
    accounts = Accounts(
        {SEARCH_USER: SEARCH_PASSWORD}, {"key": API_KEY}, dict.fromkeys(users, anything), {"service": TOKEN}
    )
    with SecureSearch(search.url, authority.issue_cert("127.0.0.1"), accounts) as proxy:
        yield proxy


@pytest.fixture
def secured(secure_broker: Kafka, search: Elasticsearch, authority: trustme.CA, tmp_path: Path) -> Stream:
    """A stream on the broker with users, one of whom may read its topics, and the files for its settings."""
    stream = Stream(tmp_path.name.lower(), secure_broker, search, tmp_path, ("x0", "x1", "x2"), "y")
    stream.create_topics()
    add_user(secure_broker, KAFKA_USER, KAFKA_PASSWORD)
    add_user(secure_broker, "plain", PLAIN_KAFKA_PASSWORD)
    for user in (KAFKA_USER, "plain", "learner"):
        allow(secure_broker, user, [stream.train, stream.test])
    (tmp_path / "ca.pem").write_bytes(authority.cert_pem.bytes())
    (tmp_path / "kafka-password").write_text(KAFKA_PASSWORD + "\n")
    (tmp_path / "plain-password").write_text(PLAIN_KAFKA_PASSWORD)
    (tmp_path / "search-password").write_text(SEARCH_PASSWORD + "\n")
    (tmp_path / "api-key").write_text(API_KEY + "\n")
    (tmp_path / "client-secret").write_text("Cl1entSecret\n")
    (tmp_path / "key-password").write_text("K3ySecret\n")
    (tmp_path / "token").write_text(TOKEN + "\n")
    (tmp_path / "options").write_text("client.rack=Opt10nFileSecret\n")
    write(authority.issue_cert("app.test", common_name="app"), tmp_path, "app", "K3ySecret")
    return stream


def common(stream: Stream, search: SecureSearch) -> list[str]:
    authority = str(stream.folder / "ca.pem")
    return [
        *("--kafka-bootstrap", stream.broker.secure_bootstrap, "--kafka-security-protocol", "SASL_SSL"),
        *("--kafka-ca-file", authority, "--elasticsearch-url", search.url, "--elasticsearch-ca-file", authority),
    ]


def with_passwords(stream: Stream, search: SecureSearch) -> list[str]:
    """Settings with passwords full of special characters."""
    return [
        *common(stream, search),
        *("--kafka-user", KAFKA_USER, "--kafka-password-file", str(stream.folder / "kafka-password")),
        *("--elasticsearch-user", SEARCH_USER, "--elasticsearch-password-file", str(stream.folder / "search-password")),
    ]


def with_api_key(stream: Stream, search: SecureSearch) -> list[str]:
    """Settings with an ordinary password for Kafka, and an API key for Elasticsearch."""
    return [
        *common(stream, search),
        *("--kafka-user", "plain", "--kafka-password-file", str(stream.folder / "plain-password")),
        *("--elasticsearch-api-key-file", str(stream.folder / "api-key")),
    ]


def with_certificates(stream: Stream, search: SecureSearch) -> list[str]:
    """Settings with an OAuth client, certificates whose keys are encrypted, a bearer token and an options file."""
    folder = stream.folder
    pairs = [
        word
        for server in ("kafka", "elasticsearch")
        for name, file in (("certificate", "app.crt"), ("key", "app.key"), ("key-password", "key-password"))
        for word in (f"--{server}-{name}-file", str(folder / file))
    ]
    return [
        *(*common(stream, search), *pairs, "--elasticsearch-token-file", str(folder / "token")),
        *("--kafka-sasl-mechanism", "OAUTHBEARER", "--kafka-oauth-client-id", "learner"),
        *("--kafka-oauth-client-secret-file", str(folder / "client-secret")),
        *("--kafka-oauth-ca-file", str(folder / "ca.pem"), "--kafka-options-file", str(folder / "options")),
    ]


Given = Callable[[Stream, SecureSearch], list[str]]
CASES: dict[Given, tuple[str, str, str]] = {
    with_passwords: ("DEBUG", SEARCH_USER, KAFKA_USER),
    with_certificates: ("DEBUG", "service", "client-secret"),
    with_api_key: ("INFO", "key", "plain-password"),
}
"""Log level, the user that Elasticsearch then knows, and a word of the command line."""


@pytest.mark.slow
@pytest.mark.parametrize("given", CASES)
def test_points_arrive_and_no_secret_shows_anywhere(
    secured: Stream,
    secure_search: SecureSearch,
    tokens: TokenEndpoint,
    given: Given,
) -> None:
    level, user, word = CASES[given]
    secured.produce(train=synthetic(300, seed=1), test=synthetic(30, seed=2))
    folder, port = secured.folder, free_port()
    settings = [*given(secured, secure_search), "--log-level", level]
    if given is with_certificates:
        settings += ["--kafka-oauth-token-url", tokens.url]
    with secured.app(*settings, **spark_environment(folder, port), KAFKA_OPTION=OPTION) as app:
        app.wait_for("batch 0: 330 rows, 0 invalid")
        secured.produce(train=synthetic(300, seed=3))
        app.wait_for("INFO batch 1: ")  # of all 300 rows, or some: the app may read while they are being sent
        wait_until(lambda: "" if (found := secured.count("points")) == 630 else f"{found} points of 630", 120)
        material = command_lines(app.process.pid) | pages(port) | rest(port)
        assert app.terminate(60) == 0
    material |= {"log": app.log, **contents(folder / "checkpoint"), **contents(folder / "events")}
    left = contents(folder / "tmp")

    assert secured.count("points") == 630
    assert set(secure_search.requests) == {user}
    assert not found(material | left, *SECRETS)
    # The search works: it finds texts that are there in every kind of source.
    for prefix, text in (
        ("command line", word),
        ("command line", "org.apache.spark.deploy.SparkSubmit"),
        ("command line", "streaming_regression.spark.daemon"),
        ("page /environment/", "spark.ui.port"),
        ("page /SQL/execution/", "MicroBatchScan"),
        ("page /executors/threadDump/", "stream execution thread"),
        ("page /StreamingQuery/statistics", "Input Rows"),
        ("rest /environment", "spark.ui.port"),
        ("rest /sql", "MicroBatchScan"),
        ("log", "INFO batch 1: "),
        (str(folder / "checkpoint" / "offsets"), secured.train),
        (str(folder / "checkpoint" / "model"), "x0"),
        (str(folder / "events"), "streaming-regression"),
    ):
        assert found({place: text for place, text in material.items() if place.startswith(prefix)}, text), prefix


@pytest.mark.slow
def test_no_secret_shows_when_servers_refuse_it_though_debugging_shows_the_stack_trace(
    secured: Stream, secure_search: SecureSearch, tmp_path: Path
) -> None:
    (tmp_path / "wrong").write_text('wrong "K4fk4Secret\\ Se4rchSecret')
    wrong = str(tmp_path / "wrong")
    settings = [*secured.flags, *with_passwords(secured, secure_search), "--log-level", "DEBUG", "--available-now"]
    with repeated(tmp_path / "repeated.log") as app:
        for flag, culprit in (("--kafka-password-file", "Kafka"), ("--elasticsearch-password-file", "Elasticsearch")):
            ending = app.start(last_flags([*settings, flag, wrong]))
            assert ending.code == 2
            assert f"{culprit} at " in ending.log
            assert "refused the login" in ending.log
            assert "Traceback" in ending.log
            assert not found({"log": ending.log}, *SECRETS)


def spark_environment(folder: Path, ui_port: int) -> dict[str, str]:
    """An environment in which Spark writes only to `folder`, has its UI at `ui_port` and logs events."""
    for name in ("conf", "tmp", "events"):
        (folder / name).mkdir(exist_ok=True)
    (folder / "conf" / "spark-defaults.conf").write_text(
        f"spark.ui.port {ui_port}\n"
        f"spark.driver.defaultJavaOptions -Djava.io.tmpdir={folder / 'tmp'}\n"
        "spark.eventLog.enabled true\n"
        "spark.eventLog.compress false\n"
        f"spark.eventLog.dir file://{folder / 'events'}\n"
    )
    temporary = str(folder / "tmp")
    return {"SPARK_CONF_DIR": str(folder / "conf"), "SPARK_LOCAL_DIRS": temporary, "TMPDIR": temporary}


def command_lines(pid: int) -> Material:
    """The command lines of a process and all its descendants."""
    lines = {}
    for process in (psutil.Process(pid), *psutil.Process(pid).children(recursive=True)):
        with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
            lines[f"command line of {process.pid}"] = " ".join(process.cmdline())
    return lines


def pages(port: int) -> Material:
    """The pages of Spark's UI."""
    shown = {f"page {path}": fetch(port, path) for path in PAGES}
    queries = set(re.findall(r"statistics/?\?id=[\w-]+", shown["page /StreamingQuery/"]))
    return shown | {f"page /StreamingQuery/{path}": fetch(port, f"/StreamingQuery/{path}") for path in queries}


def rest(port: int) -> Material:
    """The responses of Spark's REST API."""
    (application,) = json.loads(fetch(port, "/api/v1/applications"))
    return {f"rest {path}": fetch(port, f"/api/v1/applications/{application['id']}{path}") for path in REST}


def fetch(port: int, path: str) -> str:
    try:
        with urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
            return str(answer.read().decode())
    except HTTPError as error:
        raise AssertionError(f"{path}: {error} {error.read().decode()[:500]}") from error


def contents(folder: Path) -> Material:
    """The files in a folder and its subfolders."""
    found = {}
    for place, _, names in os.walk(folder):  # which passes over folders that are gone
        for name in names:
            with suppress(FileNotFoundError):  # Java deletes its files in /tmp a moment after the driver has ended
                found[os.path.join(place, name)] = Path(place, name).read_bytes().decode(errors="replace")
    return found


def found(material: Material, *texts: str) -> list[str]:
    """The sources that contain one of the texts."""
    return [f"{place}: {text}" for place, content in material.items() for text in texts if text in content]
