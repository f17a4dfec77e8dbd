"""Avro and JSON behind the id of a schema, with a real registry: Apicurio."""

from __future__ import annotations

import base64
import json
import re
import signal
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import trustme
from confluent_kafka.schema_registry import SchemaRegistryClient
from numpy.typing import NDArray

from embedded import Kafka, free_port
from embedded.testing.reference import lstsq
from embedded.testing.registry import Registry
from embedded.testing.stream import App, Stream
from embedded.testing.waiting import wait_until
from producer.sources import Flights
from tests.integration.framed import JSON_SCHEMA, NEWER, READING, avro, framed, register
from tests.integration.producing import Topics, synthetic
from tests.integration.secure_search import Accounts, SecureSearch

FEATURES, LABEL = ("sensor.temperature", "sensor.load.1", "cost"), "wear"
CONFIG, UNAVAILABLE = 2, 3
Rows = NDArray[np.float64]


def rows(count: int, seed: int) -> Rows:
    """Numbers that Avro's float and a decimal with 3 places hold exactly; shape (count, 4), the label last."""
    rng = np.random.default_rng(seed)
    x = np.column_stack([rng.normal(size=count), rng.normal(size=count).astype(np.float32), np.zeros(count)])
    x[:, 2] = rng.integers(-9_999, 9_999, size=count) / 1000
    return np.column_stack([x, x @ [2.0, -1.0, 0.5] + 3 + rng.normal(size=count)])


def readings(table: Rows) -> Iterator[dict[str, Any]]:
    for temperature, load, cost, wear in table.tolist():
        yield {
            "sensor": {"temperature": temperature, "load": [0.0, load]},
            "cost": Decimal(f"{cost:.3f}"),
            "site": "é",
            "wear": wear,
        }


def avro_values(number: int, schema: Any, table: Rows) -> list[bytes]:
    return [framed(number, avro(reading, schema)) for reading in readings(table)]


def flags(registry: Registry, form: str = "avro") -> tuple[str, ...]:
    return ("--value-format", form, "--schema-registry-url", registry.url)


@pytest.fixture
def nested(stream: Stream) -> Stream:
    stream.features, stream.label = FEATURES, LABEL
    stream.create_topics()
    return stream


@pytest.fixture
def topics(request: pytest.FixtureRequest, broker: Kafka, tmp_path: Path) -> Iterator[Topics]:
    """Two empty topics for this test."""
    made = Topics(broker, re.sub("[^a-z0-9]+", "-", request.node.name.lower()).strip("-"), tmp_path)
    made.create()
    yield made
    made.close()


def check_points(stream: Stream, table: Rows) -> None:
    """Check that the train topic's points are the rows, and that the weights are those of least squares."""
    points = [point for point in stream.documents("points") if point["topic"] == stream.train]
    found = np.array([[*(point["x"][name] for name in stream.features), point["y"]] for point in points])
    np.testing.assert_array_equal(found[np.lexsort(found.T)], table[np.lexsort(table.T)])
    want = lstsq(table)
    assert np.linalg.norm(stream.weights() - want) <= 1e-9 * np.linalg.norm(want)


def test_nested_avro_records_of_two_schemas_are_learned_and_others_are_kept(nested: Stream, registry: Registry) -> None:
    old, new = (register(registry, f"{nested.train}-value", schema) for schema in (READING, NEWER))
    other = register(registry, f"{nested.test}-value", JSON_SCHEMA, "JSON")
    assert len({old, new, other}) == 3
    table = rows(600, 1)
    good = avro_values(old, READING, table[:300]) + avro_values(new, NEWER, table[300:])
    unlabelled = framed(old, avro({**next(readings(table)), "wear": None}, READING))
    bad = {
        framed(4_000_000, good[0][5:]): "the schema registry has no schema with its id",
        framed(other, good[0][5:]): "its schema is of type JSON, not Avro (--value-format)",
        good[0][:-3]: "not Avro of its schema: it ends too early",
        b'{"sensor":1}': "no schema id: the value does not begin with a byte 0",
    }
    nested.produce(train=[*good, *bad], test=[unlabelled] * 3)
    done = nested.run(*flags(registry))
    assert done.returncode == 0, done.stderr
    assert "ERROR" not in done.stderr, done.stderr
    check_points(nested, table)
    assert nested.count("points") == 603
    kept = {
        base64.b64decode(document["value_base64"]) if "value_base64" in document else document["value"].encode(): (
            document["reason"],
            document.get("schema_id"),
        )
        for document in nested.documents("invalid")
    }
    ids = [4_000_000, other, old, None]
    assert kept == {value: (reason, number) for (value, reason), number in zip(bad.items(), ids, strict=True)}


@pytest.mark.slow
def test_json_with_a_schema_is_learned(nested: Stream, registry: Registry) -> None:
    number = register(registry, f"{nested.train}-value", JSON_SCHEMA, "JSON")
    table = rows(100, 2)
    values = [framed(number, json.dumps(reading, default=float).encode()) for reading in readings(table)]
    nested.produce(train=values, test=[framed(number, b'{"sensor":{}}')])
    done = nested.run(*flags(registry, "json-schema-registry"))
    assert done.returncode == 0, done.stderr
    check_points(nested, table)
    (invalid,) = nested.documents("invalid")
    assert (invalid["field"], invalid["schema_id"]) == ("sensor.temperature", number)
    assert invalid["value"].endswith('{"sensor":{}}')


def wait_for_all(stream: Stream, app: App) -> None:
    """Wait until all records are points."""

    def missing() -> str:
        assert app.process.poll() is None, f"the app ended:\n{app.log[-4000:]}"
        have, want = stream.count("points"), len(stream.places())
        return "" if have == want else f"{have} of {want} points; the log ends:\n{app.log[-2000:]}"

    wait_until(missing, 120, poll_s=0.5)


@pytest.mark.slow
def test_a_registry_that_is_killed_is_waited_for_and_no_record_becomes_invalid(nested: Stream) -> None:
    """Records whose schema no process knows yet wait for the registry."""
    table = rows(900, 3)
    with Registry() as own:
        old, new = (register(own, "killed-value", schema) for schema in (READING, NEWER))
        nested.produce(train=avro_values(old, READING, table[:300]))
        with nested.app(*flags(own), "--trigger-interval-s", "0.2") as app:
            app.wait_for("INFO batch 0:")  # until then, searches may fail, because the indices are new
            wait_for_all(nested, app)
            own.kill()
            nested.produce(train=avro_values(old, READING, table[300:600]) + avro_values(new, NEWER, table[600:]))
            app.wait_for("(--schema-registry-url / SCHEMA_REGISTRY_URL) cannot be reached; waiting")
            own.start()
            wait_for_all(nested, app)
            assert app.terminate(30) == 0
    assert nested.count("invalid") == 0
    check_points(nested, table)


def test_a_registry_that_stays_away_or_is_none_ends_the_app_with_one_sentence(
    nested: Stream, registry: Registry
) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    done = nested.run("--value-format", "avro", "--schema-registry-url", away, "--server-timeout-s", "1")
    assert done.returncode == UNAVAILABLE
    (error,) = (line for line in done.stderr.splitlines() if " ERROR " in line)
    assert f"the schema registry at {away} (--schema-registry-url / SCHEMA_REGISTRY_URL) cannot be reached" in error
    without_path = registry.url.removesuffix("/apis/ccompat/v7")
    done = nested.run("--value-format", "avro", "--schema-registry-url", without_path)
    assert done.returncode == 4
    assert "Apicurio's address ends with /apis/ccompat/v7" in done.stderr


@pytest.fixture(scope="module")
def secure_registry(registry: Registry, authority: trustme.CA) -> Iterator[SecureSearch]:
    """The registry behind a proxy with TLS, a user and a token."""
    rights = {"reader": lambda method, _: method == "GET", "writer": lambda *_: True, "token": lambda *_: True}
    passwords = {"reader": "correct horse", "writer": "correct horse"}
    accounts = Accounts(passwords, {}, rights, tokens={"token": "abc.def"})
    with SecureSearch(registry.url, authority.issue_cert("127.0.0.1"), accounts) as proxy:
        yield proxy


@pytest.mark.slow
def test_app_and_producer_log_in_to_a_registry_with_tls(
    nested: Stream, secure_registry: SecureSearch, authority: trustme.CA, tmp_path: Path
) -> None:
    files = {"ca": authority.cert_pem.bytes(), "password": b"correct horse\n", "token": b"abc.def", "wrong": b"x"}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    ca = ("--schema-registry-ca-file", str(tmp_path / "ca"))
    url = ("--schema-registry-url", f"{secure_registry.url}/apis/ccompat/v7")
    token = ("--schema-registry-token-file", str(tmp_path / "token"))

    def login(user: str, file: str = "password") -> tuple[str, ...]:
        return ("--schema-registry-user", user, "--schema-registry-password-file", str(tmp_path / file))

    topics = Topics(nested.broker, nested.name, tmp_path)
    nested.features, nested.label = ("x1", "x2", "x3"), "y"
    avro = ("--value-format", "avro", *url)
    for given, code, text in (
        ((*ca, *login("writer", "wrong")), CONFIG, "refused this login"),
        (login("writer"), CONFIG, "is not signed by a CA in the list of public CAs"),
        ((*ca, *login("reader")), 4, "does not let this user register schemas"),
        ((*ca, *login("writer")), 0, ""),
        ((*ca, *token), 0, ""),
    ):
        ended = topics.run("--count", "50", *avro, *given)
        assert ended.code == code, ended.err
        assert text in ended.err
    topics.close()
    for given, code, text in (
        ((*ca, *login("reader", "wrong")), CONFIG, "refused the login: check --schema-registry-user and"),
        (login("reader"), CONFIG, "is not signed by a CA in the list of public CAs"),
        (ca, CONFIG, "refused the login"),
        ((*ca, *login("reader")), 0, ""),
    ):
        done = nested.run(*avro, *given)
        assert done.returncode == code, done.stderr
        assert text in done.stderr
        assert "correct horse" not in done.stderr
    assert nested.count("points") == 50
    done = nested.again("by-token").run(*avro, *ca, *token)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("form", ["avro", "json-schema-registry"])
def test_a_killed_producer_continues_with_each_format(topics: Topics, registry: Registry, form: str) -> None:
    count = 100_000
    running = topics.start("--count", str(count), "--run", "r", *flags(registry, form))
    topics.wait_for_more_than(5_000, running)
    running.process.kill()
    assert running.end().code == -signal.SIGKILL
    ended = topics.run("--count", str(count), "--run", "r", *flags(registry, form))
    assert ended.code == 0, ended.err
    assert ended.summary["skipped"] > 5_000
    with SchemaRegistryClient({"url": registry.url}) as client:
        found = client.get_latest_version(f"{topics.train}-value")
        assert found.schema is not None
        number, schema = found.schema_id, json.loads(str(found.schema.schema_str))
        assert client.get_latest_version(f"{topics.test}-value").schema_id == number
    content = (lambda value: avro(json.loads(value), schema)) if form == "avro" else bytes
    assert topics.wrong("r", [framed(int(number or 0), content(value)) for value in synthetic(count)]) == []


@pytest.mark.slow
def test_the_producers_flights_and_lines_are_read_by_the_app(
    stream: Stream, registry: Registry, tmp_path: Path
) -> None:
    """Flights without an arrival are null; the lines are nested, with a schema from a file."""
    topics = Topics(stream.broker, stream.name, tmp_path)
    topics.create()
    ended = topics.run("--source", "flights", "--count", "2000", *flags(registry))
    assert ended.code == 0, ended.err
    schema, lines = tmp_path / "reading.avsc", tmp_path / "lines.ndjson"
    schema.write_text(json.dumps({**READING, "fields": [READING["fields"][0]]}))
    lines.write_text('{"sensor": {"temperature": null, "load": [1, 2]}}\n{"sensor": "secret"}\n')
    source = ("--source", "ndjson", "--input-file", str(lines), "--value-schema-file", str(schema), "--run", "lines")
    other = Topics(stream.broker, f"{stream.name}-lines", tmp_path / "lines")
    (tmp_path / "lines").mkdir()
    other.create()
    ended = other.run(*source, *flags(registry))
    assert ended.code == 4
    assert "record 1 of the source does not fit the schema: " in ended.errors[0]
    assert "secret" not in ended.err
    assert sum(len(records) for partitions in other.read().values() for records in partitions.values()) == 1
    done = stream.run(*flags(registry))
    assert done.returncode == 0, done.stderr
    complete = sum(b"null" not in value for value, _ in zip(Flights().rows(0), range(2000), strict=False))
    assert stream.count("points") >= complete
    assert stream.count("points") + stream.count("invalid") == 2000
