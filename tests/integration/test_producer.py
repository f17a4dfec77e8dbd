"""The producer with a real broker: every record exactly once, despite kills and outages."""

from __future__ import annotations

import itertools
import os
import pty
import random
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path

import pytest
import trustme
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AclBinding,
    AclOperation,
    AclPermissionType,
    AdminClient,
    NewPartitions,
    ResourcePatternType,
    ResourceType,
)
from cryptography.hazmat.primitives import serialization

from embedded import Kafka, Tls
from producer.sources import Flights
from tests.integration.producing import Ended, Topics, synthetic

ROWS = 200_000


@pytest.fixture
def topics(request: pytest.FixtureRequest, broker: Kafka, tmp_path: Path) -> Iterator[Topics]:
    """Two empty topics for this test."""
    made = Topics(broker, re.sub("[^a-z0-9]+", "-", request.node.name.lower()).strip("-"), tmp_path)
    made.create()
    yield made
    made.close()


@pytest.fixture
def fragile(tmp_path: Path) -> Iterator[Topics]:
    """Two empty topics on a broker that this test may stop."""
    with Kafka() as broker:
        made = Topics(broker, "own", tmp_path)
        made.create()
        yield made
        made.close()


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_sigkill_at_random_moments_loses_and_repeats_nothing(topics: Topics, seed: int) -> None:
    """When the producer is killed at full speed, requests are in flight; the next process starts at once."""
    rng = random.Random(seed)
    kills = 0
    for _ in itertools.count():
        size = topics.size()
        running = topics.start("--count", str(ROWS), "--run", "r")
        topics.wait_for_more_than(size + rng.randrange(40_000), running)
        running.process.kill()
        if (ended := running.end()).code == 0:
            break
        assert ended.code == -signal.SIGKILL
        kills += 1
    assert kills >= 2
    assert topics.wrong("r", synthetic(ROWS)) == []
    again = topics.run("--count", str(ROWS), "--run", "r")
    assert (again.code, again.summary["sent"], again.summary["skipped"]) == (0, 0, ROWS)


@pytest.mark.slow
def test_sigkill_before_and_just_after_the_first_record_loses_and_repeats_nothing(topics: Topics) -> None:
    """The first records may be in flight while the next process reads the topics: it must not treat the run as new."""
    rng = random.Random(3)
    for _ in range(6):
        running = topics.start("--count", str(ROWS), "--run", "r")
        running.wait_for_log("sending from record")
        time.sleep(rng.uniform(0, 0.06))
        running.process.kill()
        assert running.end().code == -signal.SIGKILL
    assert topics.run("--count", str(ROWS), "--run", "r").code == 0
    assert topics.wrong("r", synthetic(ROWS)) == []


@pytest.mark.slow
def test_runs_that_take_turns_do_not_disturb_each_other(topics: Topics) -> None:
    """Each run finds its last records before those of the other run."""
    for count in (50, 3000, 3100, 20_000):
        for run, seed in (("a", 1), ("b", 2)):
            ended = topics.run("--run", run, "--seed", str(seed), "--count", str(count))
            assert ended.code == 0
    both = [topics.start("--run", run, "--seed", seed, "--count", "60000") for run, seed in (("a", "1"), ("b", "2"))]
    assert [running.end().code for running in both] == [0, 0]
    assert topics.wrong("a", synthetic(60_000, 1)) == []
    assert topics.wrong("b", synthetic(60_000, 2)) == []


@pytest.mark.slow
def test_second_process_of_a_run_waits_for_the_first(topics: Topics) -> None:
    """It reads the topics again after a second, so it would also find late requests of a killed process."""
    first = topics.start("--run", "r", "--count", "30", "--rate", "5")
    topics.wait_for_more_than(0, first)
    second = topics.start("--run", "r", "--count", "50")
    second.wait_for_log("records of run 'r' are still arriving")
    assert first.end().code == 0
    ended = second.end()
    assert (ended.code, ended.summary["skipped"], ended.summary["sent"]) == (0, 30, 20)
    assert topics.wrong("r", synthetic(50)) == []


def test_partitions_that_are_added_do_not_move_the_records_of_a_run(topics: Topics) -> None:
    assert topics.run("--run", "r", "--count", "1000").code == 0
    admin = AdminClient({"bootstrap.servers": topics.broker.bootstrap})
    for grown in admin.create_partitions([NewPartitions(topics.train, 5)]).values():
        grown.result()
    ended = topics.run("--run", "r", "--count", "3000")
    assert (ended.code, ended.summary["sent"]) == (0, 2000)
    assert topics.wrong("r", synthetic(3000)) == []


@pytest.mark.parametrize("share", ["0", "1/3", "1"])
def test_share_of_the_test_topic(topics: Topics, share: str) -> None:
    ended = topics.run("--run", "r", "--count", "999", "--test-fraction", share)
    test = int(999 * Fraction(share))
    assert ended.summary["topics"] == {topics.train: 999 - test, topics.test: test}
    assert topics.wrong("r", synthetic(999), Fraction(share)) == []


@pytest.mark.slow
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_broker_that_goes_away_is_waited_for(fragile: Topics, end: str) -> None:
    """The broker is away until the producer logs that it waits, 5 s after the last response."""
    running = fragile.start("--run", "r", "--count", str(ROWS), "--rate", "25000")
    fragile.wait_for_more_than(50_000, running)
    getattr(fragile.broker, end)()
    running.wait_for_log("has not answered for")
    fragile.broker.start()
    ended = running.end()
    assert (ended.code, ended.summary["acknowledged"]) == (0, ROWS), ended.err
    assert "Kafka answers again after" in ended.err
    assert fragile.wrong("r", synthetic(ROWS)) == []


@pytest.mark.slow
def test_broker_that_stays_away_ends_the_program_and_a_restart_goes_on(fragile: Topics) -> None:
    running = fragile.start("--run", "r", "--count", str(ROWS), "--rate", "25000", "--server-timeout-s", "3")
    fragile.wait_for_more_than(50_000, running)
    fragile.broker.stop()
    ended = running.end()
    assert ended.code == 3
    assert len(ended.errors) == 1
    assert "has not answered for 3 s (--server-timeout-s / SERVER_TIMEOUT_S)" in ended.errors[0]
    fragile.broker.start()
    assert fragile.run("--run", "r", "--count", str(ROWS)).code == 0
    assert fragile.wrong("r", synthetic(ROWS)) == []


@pytest.mark.slow
def test_producer_that_starts_before_its_broker_waits_for_it(fragile: Topics) -> None:
    fragile.broker.stop()
    running = fragile.start("--run", "r", "--count", "10")
    running.wait_for_log("has not answered for")
    fragile.broker.start()
    assert running.end().code == 0
    assert fragile.wrong("r", synthetic(10)) == []


@pytest.mark.parametrize("address", ["127.0.0.1:1", "no-such-host.invalid:9092"])
def test_broker_that_never_comes_ends_the_program_with_3_and_a_sentence(topics: Topics, address: str) -> None:
    ended = topics.run("--kafka-bootstrap", address, "--server-timeout-s", "2")
    (message,) = ended.errors
    assert ended.code == 3
    assert message.startswith(f"Kafka at {address} (--kafka-bootstrap / KAFKA_BOOTSTRAP) has not answered for 2 s")
    assert re.search("Connection refused|not known", message)
    assert "Traceback" not in ended.err


def test_wrong_topic_ends_the_program_with_2_and_a_sentence(topics: Topics) -> None:
    ended = topics.run("--kafka-test-topic", "nowhere")
    assert (ended.code, ended.out) == (2, "")
    assert ended.errors == [
        "--kafka-test-topic / KAFKA_TEST_TOPIC: the cluster has no topic 'nowhere': create it or use another topic"
    ]


@pytest.mark.parametrize(("signum", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_signal_delivers_what_is_under_way_and_a_restart_goes_on(
    topics: Topics, signum: signal.Signals, code: int
) -> None:
    running = topics.start("--run", "r", "--count", str(ROWS), "--rate", "50000")
    topics.wait_for_more_than(20_000, running)
    running.process.send_signal(signum)
    ended = running.end()
    assert ended.code == code
    assert 20_000 < ended.summary["acknowledged"] == ended.summary["sent"] == topics.size() < ROWS
    assert topics.run("--run", "r", "--count", str(ROWS)).code == 0
    assert topics.wrong("r", synthetic(ROWS)) == []


def test_signal_is_obeyed_while_standard_input_is_silent(topics: Topics) -> None:
    reader, writer = os.pipe()
    running = topics.start("--source", "ndjson", "--input-file", "-", "--run", "r", stdin=reader)
    os.close(reader)
    os.write(writer, b"1\n2\n")
    topics.wait_for_more_than(1, running)
    running.process.terminate()
    assert running.end().code == 143
    os.close(writer)
    assert topics.wrong("r", [b"1", b"2"]) == []


def test_ndjson_arrives_byte_for_byte(topics: Topics, tmp_path: Path) -> None:
    rng = random.Random(4)
    lines = [rng.randbytes(rng.randrange(200)).replace(b"\n", b"") for _ in range(5000)]
    lines += [b"", b'{"a": 1}\r', b"\xef\xbb\xbf{}", b"x" * 1_048_576, b"last"]
    path = tmp_path / "lines.ndjson"
    path.write_bytes(b"\n".join(lines))
    ended = topics.run("--source", "ndjson", "--input-file", str(path))
    assert (ended.code, ended.summary["run"]) == (0, "ndjson-lines.ndjson")
    assert topics.wrong("ndjson-lines.ndjson", lines) == []
    path.write_bytes(b"\n".join([*lines, b"more"]))
    assert topics.run("--source", "ndjson", "--input-file", str(path)).summary["sent"] == 1
    path.write_bytes(b"\n".join(lines[1:]))
    ended = topics.run("--source", "ndjson", "--input-file", str(path))
    assert ended.code == 4
    assert "contain a run 'ndjson-lines.ndjson' of another source" in ended.errors[0]
    assert topics.wrong("ndjson-lines.ndjson", [*lines, b"more"]) == []


@pytest.mark.slow
def test_another_file_of_the_same_name_and_end_is_refused_and_nothing_is_sent(topics: Topics, tmp_path: Path) -> None:
    """Lines before the last sent one are changed, left out or moved; also with standard input under the same name."""
    path = tmp_path / "s.ndjson"
    lines = [b"%d" % number for number in range(100)]

    def send(rows: list[bytes], *more: str) -> Ended:
        path.write_bytes(b"".join(line + b"\n" for line in rows))
        return topics.run("--source", "ndjson", "--input-file", str(path), *more)

    assert send(lines).code == 0
    for other, more in (
        ([b"-1", b"-2", *lines[2:], *lines], []),
        ([*lines[:50], b"-1", *lines[51:]], ["--count", "60"]),
        ([*lines[:50], b"5051", *lines[52:], b"99"], []),
        (lines[:60], []),
    ):
        ended = send(other, *more)
        assert (ended.code, ended.summary["sent"]) == (4, 0)
        (message,) = ended.errors
        assert "; nothing was sent; " in message
        assert message.endswith("give this run another name (--run / RUN)")
    assert topics.size() == 100
    with path.open("rb") as stdin:
        running = topics.start(
            "--source", "ndjson", "--input-file", "-", "--run", "ndjson-s.ndjson", stdin=stdin.fileno()
        )
        assert running.end().code == 4
    ended = send([*lines, b"more"])
    assert (ended.code, ended.summary["sent"], ended.summary["skipped"]) == (0, 1, 100)
    assert topics.wrong("ndjson-s.ndjson", [*lines, b"more"]) == []


def test_standard_input_is_a_new_run_each_time(topics: Topics) -> None:
    runs = []
    for _ in range(2):
        reader, writer = os.pipe()
        running = topics.start("--source", "ndjson", "--input-file", "-", stdin=reader)
        os.close(reader)
        os.write(writer, b"1\n2")
        os.close(writer)
        ended = running.end()
        assert (ended.code, ended.summary["sent"]) == (0, 2)
        runs.append(ended.summary["run"])
        assert topics.wrong(runs[-1], [b"1", b"2"]) == []
    assert runs[0] != runs[1]


def test_record_that_the_broker_refuses_stops_the_run_and_is_named(topics: Topics, tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b"1\n2\n3\n" + random.Random(5).randbytes(5_000_000).replace(b"\n", b"") + b"\n5\n6\n")
    ended = topics.run("--source", "ndjson", "--input-file", str(path), "--test-fraction", "0", "--run", "r")
    assert ended.code == 4
    (message,) = ended.errors
    assert message.startswith("record 3 has 4,9")
    assert "larger than topic" in message
    path.write_bytes(b"1\n2\n3\n4\n5\n6\n")
    assert topics.run("--source", "ndjson", "--input-file", str(path), "--test-fraction", "0", "--run", "r").code == 0
    assert topics.wrong("r", [b"1", b"2", b"3", b"4", b"5", b"6"], Fraction(0)) == []


@pytest.mark.slow
def test_flights_are_all_sent(topics: Topics) -> None:
    ended = topics.run("--source", "flights")
    assert (ended.code, ended.summary["acknowledged"], ended.summary["run"]) == (0, 336_776, "flights")
    assert ended.summary["topics"] == {topics.train: 269_421, topics.test: 67_355}
    assert topics.wrong("flights", list(Flights().rows(0))) == []


def test_rate_is_a_limit(topics: Topics) -> None:
    ended = topics.run("--count", "3000", "--rate", "1000", "--run", "r")
    assert ended.summary["records_per_second"] <= 1005
    assert topics.wrong("r", synthetic(3000)) == []


def test_terminal_shows_a_bar_and_the_summary_is_a_table(topics: Topics, tmp_path: Path) -> None:
    terminal, end = pty.openpty()
    with (tmp_path / "out").open("wb") as out:
        running = topics.start("--log-format", "text", "--count", "5000", "--rate", "5000", "--run", "r")
        running.end()
        command = [word if word != "r" else "s" for word in running.command]
        process = subprocess.Popen(command, stdout=out, stderr=end)
    os.close(end)
    shown = b""
    while block := _read(terminal):
        shown += block
    os.close(terminal)
    assert process.wait() == 0
    assert b"5000/5000" in shown
    assert (tmp_path / "out").read_text().splitlines()[:3] == [
        "run           s",
        "sent          5,000",
        f"acknowledged  5,000 ({topics.train} 4,000, {topics.test} 1,000)",
    ]


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # Linux raises this when the other end is closed
        return b""


@pytest.fixture(scope="module")
def secure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Kafka, Path]]:
    """A broker with TLS, users and rights, and its clients' files: ca.pem, other.pem, right, wrong."""
    folder = tmp_path_factory.mktemp("secure")
    authority, other = trustme.CA(), trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    authority.cert_pem.write_to_path(str(folder / "ca.pem"))
    other.cert_pem.write_to_path(str(folder / "other.pem"))
    (folder / "right").write_text("open-sesame\n")
    (folder / "wrong").write_text("open-barley")
    rights = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
    }
    tls = Tls(certificate.cert_chain_pems[0].bytes().decode(), key.decode())
    users = dict.fromkeys(["producer", "reader", "nobody"], "open-sesame")
    with Kafka(tls=tls, scram_users=users, properties=rights) as kafka:
        read = [AclOperation.DESCRIBE, AclOperation.READ]
        allow = partial(AclBinding, ResourceType.TOPIC, resource_pattern_type=ResourcePatternType.LITERAL, host="*")
        acls = [
            allow(name=topic, principal=f"User:{user}", operation=right, permission_type=AclPermissionType.ALLOW)
            for topic in ("s-train", "s-test")
            for user, granted in (("producer", [*read, AclOperation.WRITE]), ("reader", read))
            for right in granted
        ]
        admin = AdminClient({"bootstrap.servers": kafka.bootstrap})
        for created in admin.create_acls(acls).values():
            created.result()
        yield kafka, folder


@pytest.fixture
def protected(secure: tuple[Kafka, Path], tmp_path: Path) -> Iterator[tuple[Topics, Path]]:
    """The secure broker's topics."""
    kafka, folder = secure
    options = ["--kafka-bootstrap", kafka.secure_bootstrap, "--kafka-security-protocol", "SASL_SSL"]
    options += ["--kafka-user", "producer", "--kafka-password-file", str(folder / "right")]
    made = Topics(kafka, "s", tmp_path, options=[*options, "--kafka-ca-file", str(folder / "ca.pem"), "--count", "10"])
    made.create()
    yield made, folder
    made.close()


@pytest.mark.slow
def test_sasl_ssl_needs_rights_on_the_topics_only_and_keeps_the_password_secret(protected: tuple[Topics, Path]) -> None:
    """The password is not even in the DEBUG log, in the command line or in the environment."""
    topics, _ = protected
    running = topics.start("--run", "r", "--log-level", "DEBUG", "--rate", "5")
    topics.wait_for_more_than(0, running)
    process = Path(f"/proc/{running.process.pid}")
    seen = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
    ended = running.end()
    assert ended.code == 0
    assert topics.wrong("r", synthetic(10)) == []
    assert "sesame" not in ended.out + ended.err + seen.decode(errors="replace")


def test_another_protocol_than_the_brokers_is_named(secure: tuple[Kafka, Path], tmp_path: Path) -> None:
    kafka, _ = secure
    topics = Topics(kafka, "plain", tmp_path, options=["--kafka-bootstrap", kafka.secure_bootstrap, "--count", "10"])
    ended = topics.run("--server-timeout-s", "2")
    topics.close()
    assert ended.code == 3, ended.err
    assert "is PLAINTEXT the right --kafka-security-protocol / KAFKA_SECURITY_PROTOCOL?" in ended.errors[0]


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (
            ["--kafka-ca-file", "other.pem"],
            2,
            "--kafka-ca-file / KAFKA_CA_FILE: .* not signed by a CA in .*other.pem, .*verify failed",
        ),
        (
            ["--kafka-ca-file", "right"],
            2,
            "--kafka-ca-file / KAFKA_CA_FILE: .*/right contains no readable certificate in PEM",
        ),
        (
            ["--kafka-password-file", "wrong"],
            2,
            "--kafka-user / KAFKA_USER, --kafka-password-file / KAFKA_PASSWORD_FILE: the broker refused this user or",
        ),
        (["--kafka-sasl-mechanism", "SCRAM-SHA-256"], 2, "--kafka-sasl-mechanism / KAFKA_SASL_MECHANISM: the broker"),
        (["--kafka-user", "nobody"], 4, "--kafka-train-topic / KAFKA_TRAIN_TOPIC: .* Describe, Read and Write on"),
        (["--kafka-user", "reader", "--run", "w"], 4, "--kafka-user / KAFKA_USER: the user needs the ACL Write on"),
    ],
)
def test_refusal_names_the_setting(protected: tuple[Topics, Path], flags: list[str], code: int, message: str) -> None:
    topics, folder = protected
    flags = [str(folder / flag) if (folder / flag).exists() else flag for flag in flags]
    ended = topics.run(*flags)
    assert ended.code == code, ended.err
    assert len(ended.errors) == 1
    assert re.search(message, ended.errors[0]), ended.errors
    assert "sesame" not in ended.err
    assert "Traceback" not in ended.err
    assert not re.search(r"^%\d\|", ended.err, re.MULTILINE), "librdkafka's own lines"
