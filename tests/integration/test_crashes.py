"""If the driver is killed at any moment, no record is lost, repeated or learned twice."""

from __future__ import annotations

import json
import random
import threading
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import fastavro
import numpy as np
import pytest
import trustme

from embedded import Elasticsearch
from embedded.testing.records import Value, synthetic
from embedded.testing.registry import Registry
from embedded.testing.repeated import Repeated
from embedded.testing.stream import App, Stream
from tests.integration.certificates import write
from tests.integration.crashing import POINTS
from tests.integration.exactly_once import Place, check_exactly_once
from tests.integration.framed import READING, avro, framed, register
from tests.integration.secure_kafka import SecureKafka, allow

SEED = 20261124
RANDOM_KILLS = 20
FLAGS = ("--max-offsets-per-trigger", "2500", "--trigger-interval-s", "0", "--rls-half-life", "50000")
KEY_PASSWORD = "K3ySecret"
NESTED = ("sensor.temperature", "sensor.load.1", "cost", "site[A|B]")
SITES = ("A", "B", "C")
"""Categories of the records; the last is not declared."""
SCHEMA = fastavro.parse_schema({**READING, "fields": [{"name": "site", "type": "string"}, *READING["fields"]]})
UNKNOWN_ID = 4_000_000


def test_sigkill_between_each_two_steps_loses_and_repeats_nothing_and_changes_no_weight(
    stream: Stream,
) -> None:
    """The driver is killed by a fault hook between each two steps of the protocol, each in its own life."""
    produce(stream, 40_000)
    check_lives(stream, [f"{point}:1" for point in POINTS])


@pytest.mark.slow
def test_sigkill_at_any_moment_loses_and_repeats_nothing_and_ends_with_the_same_weights(stream: Stream) -> None:
    """The driver is killed at random moments, and twice between each two steps of the protocol."""
    moments = random.Random(SEED)
    lives: list[str | float] = [moments.uniform(0.0, 3.0) for _ in range(RANDOM_KILLS)]
    lives += [f"{point}:{times}" for times in (1, 2) for point in POINTS]
    moments.shuffle(lives)
    produce(stream, 200_000)
    check_lives(stream, lives)


@pytest.mark.slow
def test_sigkills_lose_and_repeat_nothing_of_nested_avro_records_over_mutual_tls(
    secure_broker: SecureKafka,
    search: Elasticsearch,
    app: Repeated,
    authority: trustme.CA,
    tmp_path: Path,
) -> None:
    """Some records are invalid. In the second life, the registry is away when the first task asks for the schema."""
    stream = Stream("mutual-avro", secure_broker, search, tmp_path, NESTED, "wear", repeated=app)
    stream.create_topics()
    allow(secure_broker, "mutual", [stream.train, stream.test])
    with Registry() as registry:
        expected = produce_readings(stream, 12_000, register(registry, "mutual-avro-value", SCHEMA))
        check_lives(
            stream,
            # The second batch of each life, so that the lives end in different batches.
            [f"{point}:2" for point in POINTS],
            *mutual_tls(secure_broker, authority, tmp_path),
            *("--value-format", "avro", "--schema-registry-url", registry.url, "--unknown-category", "zeros"),
            expected=expected,
            registry=registry,
        )


def mutual_tls(broker: SecureKafka, authority: trustme.CA, folder: Path) -> list[str]:
    """Write the files of the user `mutual`, and return the flags."""
    certificate = authority.issue_cert("mutual.test", common_name="mutual")
    files = write(certificate, folder, "mutual", KEY_PASSWORD)
    (folder / "ca").write_bytes(authority.cert_pem.bytes())
    (folder / "key-password").write_text(KEY_PASSWORD)
    return [
        *("--kafka-bootstrap", broker.mutual_bootstrap, "--kafka-security-protocol", "SSL"),
        *("--kafka-certificate-file", files["mutual.crt"], "--kafka-key-file", files["mutual.key"]),
        *("--kafka-key-password-file", str(folder / "key-password"), "--kafka-ca-file", str(folder / "ca")),
    ]


def produce(stream: Stream, rows: int) -> None:
    """Send flat JSON records, three quarters of them to the train topic."""
    stream.features, stream.label = ("x0", "x1", "x2"), "y"
    stream.create_topics()
    values = synthetic(rows, seed=SEED)
    stream.produce(train=values[: rows * 3 // 4], test=values[rows * 3 // 4 :])


def produce_readings(stream: Stream, rows: int, schema_id: int) -> dict[Place, object]:
    """Send readings, three quarters of them to the train topic; return x and y, or the reason, of each record."""
    expected: dict[Place, object] = {}
    sent: dict[str, list[Value]] = {stream.train: [], stream.test: []}
    for number, (reading, x) in enumerate(readings(rows)):
        topic = stream.train if number < rows * 3 // 4 else stream.test
        content = avro(reading, SCHEMA)
        value = framed(schema_id, content)
        result: object = (x, reading["wear"])
        if number % 50 == 7:
            value, result = framed(UNKNOWN_ID, content), "the schema registry has no schema with its id"
        elif number % 50 == 23:
            value, result = value[:-3], "not Avro of its schema: it ends too early"
        offset, partition = divmod(len(sent[topic]), stream.partitions)
        expected[topic, partition, offset] = result
        sent[topic].append(value)
    stream.produce(train=sent[stream.train], test=sent[stream.test])
    return expected


def readings(rows: int) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """Records of `SCHEMA`, each with the fields of its point; Avro's float holds each load exactly."""
    rng = np.random.default_rng(SEED)
    for temperature, load, cost, kind in zip(
        rng.normal(size=rows).tolist(),
        rng.normal(size=rows).astype(np.float32).tolist(),
        rng.integers(-9_999, 9_999, size=rows).tolist(),
        rng.integers(len(SITES), size=rows).tolist(),
        strict=True,
    ):
        site = SITES[kind]
        wear = 2 * temperature - load + 0.5 * cost / 1000 + 3 * kind + rng.normal()
        x = {"sensor.temperature": temperature, "sensor.load.1": load, "cost": cost / 1000, "site": site}
        sensor = {"temperature": temperature, "load": [0.0, load]}
        yield {"sensor": sensor, "cost": Decimal(cost) / 1000, "site": site, "wear": wear}, x


def check_lives(
    stream: Stream,
    lives: Sequence[str | float],
    *more: str,
    expected: Mapping[Place, object] | None = None,
    registry: Registry | None = None,
) -> None:
    """Kill the driver once in each of its lives, at a point of the protocol, or some seconds after its first batch.

    Then compare with a run that is not interrupted. All records are sent before, so that all runs have the same
    micro-batches. A half-life is set, so a micro-batch that is learned twice or left out would change the weights.
    """
    flags = (*FLAGS, *more)
    rows = len(stream.places())
    for number, life in enumerate(lives):
        if isinstance(life, str):
            program = (str(Path(__file__).with_name("crashing.py")), life)
            with stream.app(*flags, program=program) as app:
                if registry and number == 1:
                    restart_during_a_batch(registry, app)
                assert app.wait(120) == -9, app.log
        else:
            with stream.app(*flags) as app:
                app.wait_for("rows learned so far")
                threading.Event().wait(life)  # the random moment, not a wait for a condition
                assert app.process.poll() is None, app.log
    assert 0 < stream.count("points") < rows, "the last kill came too late to interrupt anything"
    done = stream.run(*flags)
    assert done.returncode == 0, done.stderr
    check_exactly_once(stream, expected)

    whole = stream.again("whole")
    done = whole.run(*flags)
    assert done.returncode == 0, done.stderr
    check_exactly_once(whole, expected)
    np.testing.assert_allclose(weights(stream), weights(whole), rtol=1e-12, atol=0)
    points = sum(point["topic"] == stream.train for point in stream.documents("points"))
    state, learned = (json.loads(newest_state(run.folder).read_text()) for run in (stream, whole))
    assert state["rows_seen"] == learned["rows_seen"] == points


def restart_during_a_batch(registry: Registry, app: App) -> None:
    """End the registry after the app's start, before its first micro-batch; start it when a task waits for it."""
    app.wait_for("rows learned so far")
    registry.kill()
    app.wait_for("(--schema-registry-url / SCHEMA_REGISTRY_URL) cannot be reached; waiting")
    registry.start()


def weights(stream: Stream) -> list[float]:
    """The newest model's intercept, and its weights of all features and categories."""
    model = stream.last_model()
    return [model["intercept"], *model["weights"].values()]


def newest_state(folder: Path) -> Path:
    return max((folder / "checkpoint" / "model").glob("*.json"), key=lambda path: int(path.stem))
