"""The embedded servers, used as a program and from Python."""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import subprocess
import sys
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
import trustme
from confluent_kafka import Consumer, KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient
from cryptography.hazmat.primitives import serialization
from elasticsearch import Elasticsearch as Client

from embedded import ConfigError, Elasticsearch, Kafka, ServerUnavailable, Tls, free_port, start_together
from embedded import server as server_module
from embedded.testing.waiting import wait_until

ROOT = Path(__file__).parents[2]
EMBEDDED = [sys.executable, "-m", "embedded"]
LIMIT_S = 180

# a jar of 2 MB without dependencies, which is among Kafka's jars
SNAPPY = """
import sys
from embedded.errors import EmbeddedError
from embedded.jars import Distribution, fetch
artifacts = (("org.xerial.snappy", "snappy-java", "1.1.10.7"),)
try:
    fetch(Distribution("snappy", "1.1.10.7", artifacts, sys.argv[1], size=2_338_496))
except EmbeddedError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""
SNAPPY_SHA256 = "e7fefb0f5cdd6d795c64c836a0467bfd4f09349297d29a3132fd5909f4cfaa26"


def program(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*EMBEDDED, *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


@contextmanager
def background(command: list[str], **environment: str) -> Iterator[subprocess.Popen[str]]:
    """A process without a terminal, whose output is read line by line; it is killed at the end."""
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=os.environ | environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            yield process
        finally:
            process.kill()


def line_with(process: subprocess.Popen[str], text: str) -> str:
    """Return the next line of output that contains `text`."""
    assert process.stdout
    assert process.stderr
    for line in process.stdout:
        if text in line:
            return line
    raise AssertionError(f"ended without {text!r}: {process.stderr.read()}")


def jvms(process: subprocess.Popen[str], count: int) -> list[psutil.Process]:
    """Wait until the process has `count` JVMs."""
    found: list[psutil.Process] = []

    def missing() -> str:
        assert process.poll() is None, process.communicate()
        found[:] = [p for p in psutil.Process(process.pid).children(recursive=True) if p.name() == "java"]
        return "" if len(found) == count else f"{len(found)} JVMs of {count}"

    wait_until(missing, 60, 0.02)
    return found


def assert_end(processes: list[psutil.Process]) -> None:
    def alive(process: psutil.Process) -> bool:
        try:
            return process.status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    wait_until(lambda: ", ".join(str(p) for p in processes if alive(p)), 30)


def new_name() -> str:
    return f"test-{uuid.uuid4().hex[:8]}"


def produce(broker: Kafka, topic: str, *values: bytes) -> None:
    failures: list[object] = []
    producer = Producer({"bootstrap.servers": broker.bootstrap, "message.max.bytes": 5_000_000})
    for value in values:
        producer.produce(topic, value, on_delivery=lambda error, _: failures.append(error) if error else None)
    assert producer.flush(30) == 0
    assert failures == []


def records(bootstrap: str, topic: str, count: int) -> set[bytes]:
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": new_name(), "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    messages = consumer.consume(count, timeout=30)
    consumer.close()
    return {value for message in messages if not message.error() and (value := message.value()) is not None}


# ---- python -m embedded run


@pytest.mark.slow
def test_run_hands_both_addresses_to_the_command_and_passes_on_its_exit_code() -> None:
    check = """
import os, sys
from confluent_kafka.admin import AdminClient
from elasticsearch import Elasticsearch
topics = AdminClient({"bootstrap.servers": os.environ["KAFKA_BOOTSTRAP"]}).list_topics(timeout=10).topics
print({name: len(topic.partitions) for name, topic in sorted(topics.items())})
print(Elasticsearch(os.environ["ELASTICSEARCH_URL"]).cluster.health()["status"])
print(sys.argv[1:])
sys.exit(7)
"""
    done = program("run", "--partitions", "5", "--", sys.executable, "-c", check, "--", "--help")
    assert (done.returncode, done.stdout.splitlines()) == (
        7,
        ["{'test': 5, 'train': 5}", "green", "['--', '--help']"],
    ), done.stderr


TRAP = """
import signal, sys, time
signal.signal(signal.SIGINT, lambda *_: sys.exit(5))
print("ready", flush=True)
time.sleep(100)
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("sent", "command", "code"),
    [
        (signal.SIGTERM, ["sh", "-c", "echo ready; exec sleep 100"], 128 + signal.SIGTERM),
        (signal.SIGINT, [sys.executable, "-c", TRAP], 5),
    ],
)
def test_run_passes_a_signal_on_and_stops_the_servers_after_the_command(
    sent: signal.Signals, command: list[str], code: int
) -> None:
    with background([*EMBEDDED, "run", "--", *command]) as run:
        line_with(run, "ready")
        servers = jvms(run, 2)
        run.send_signal(sent)
        _, err = run.communicate(timeout=LIMIT_S)
    assert run.returncode == code, err
    assert_end(servers)


@pytest.mark.slow
def test_sigterm_while_the_servers_start_ends_them_and_never_runs_the_command() -> None:
    with background([*EMBEDDED, "run", "--", "echo", "started"]) as run:
        servers = jvms(run, 2)
        run.terminate()
        out, err = run.communicate(timeout=30)
    assert (run.returncode, out, err) == (128 + signal.SIGTERM, "", "")
    assert_end(servers)


@pytest.mark.slow
def test_sigkill_of_run_leaves_no_server_and_both_end_in_order(tmp_path: Path) -> None:
    """The kernel closes the pipes from `run` that both JVMs read; their shutdown hooks then stop the servers."""
    with background([*EMBEDDED, "run", "--data", str(tmp_path), "--", "sh", "-c", "echo $$; exec sleep 100"]) as run:
        command = psutil.Process(int(line_with(run, "")))
        servers = jvms(run, 2)
        run.kill()
        assert_end(servers)
        command.kill()
    assert "shut down completed" in (tmp_path / "kafka" / "kafka.log").read_text()
    assert "closed" in (tmp_path / "elasticsearch" / "elasticsearch.log").read_text().splitlines()[-1]


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_reaches_the_command_once_and_the_servers_not_at_all() -> None:
    """Two signals in quick succession may arrive as one. So ten are sent, each after the previous one was caught."""
    command = """
import os, signal, sys
from elasticsearch import Elasticsearch
caught = []
def catch(*_):
    caught.append(1)
    print("caught", flush=True)
signal.signal(signal.SIGINT, catch)
print("ready", flush=True)
sys.stdin.readline()
print("total", len(caught), Elasticsearch(os.environ["ELASTICSEARCH_URL"]).cluster.health()["status"], flush=True)
sys.exit(9)
"""
    terminal = "import os, pty, sys; sys.exit(os.waitstatus_to_exitcode(pty.spawn(sys.argv[1:])))"
    run_in_terminal = [sys.executable, "-c", terminal, *EMBEDDED, "run", "--", sys.executable, "-c", command]
    with background(run_in_terminal) as run:
        assert run.stdin
        line_with(run, "ready")
        servers = jvms(run, 2)
        for _ in range(10):
            run.stdin.write("\x03")
            run.stdin.flush()
            line_with(run, "caught")
        run.stdin.write("\n")
        run.stdin.flush()
        assert line_with(run, "total").strip() == "total 10 green"
        run.communicate(timeout=LIMIT_S)
    assert run.returncode == 9
    assert_end(servers)


@pytest.mark.slow
def test_run_says_when_a_server_ends_under_the_command() -> None:
    with background([*EMBEDDED, "run", "--", "sh", "-c", "echo ready; read line; exit 3"]) as run:
        assert run.stderr
        line_with(run, "ready")
        for jvm in jvms(run, 2):
            if any("kafka" in argument for argument in jvm.cmdline()):
                jvm.kill()
        assert "are up" in run.stderr.readline()
        assert "kafka ended unexpectedly" in run.stderr.readline()
        run.communicate("\n", timeout=LIMIT_S)
    assert run.returncode == 3


# ---- python -m embedded up


@pytest.mark.slow
def test_up_keeps_topics_and_indices_of_its_data_folder(tmp_path: Path) -> None:
    ports = (free_port(), free_port())
    command = [*EMBEDDED, "up", "--data", str(tmp_path), "--kafka-port", f"{ports[0]}"]
    command += ["--elasticsearch-port", f"{ports[1]}"]

    def up(use: Callable[[str, str], None]) -> None:
        with background(command) as process:
            bootstrap = line_with(process, "").strip().removeprefix("KAFKA_BOOTSTRAP=")
            url = line_with(process, "").strip().removeprefix("ELASTICSEARCH_URL=")
            assert (bootstrap, url) == (f"127.0.0.1:{ports[0]}", f"http://127.0.0.1:{ports[1]}")
            servers = jvms(process, 2)
            use(bootstrap, url)
            process.terminate()
            process.communicate(timeout=LIMIT_S)
        assert process.returncode == 0
        assert_end(servers)

    def write(bootstrap: str, url: str) -> None:
        producer = Producer({"bootstrap.servers": bootstrap})
        producer.produce("train", b"kept")
        assert producer.flush(30) == 0
        with Client(url) as client:
            client.index(index="kept", id="1", document={"a": 1})

    def read(bootstrap: str, url: str) -> None:
        assert records(bootstrap, "train", 1) == {b"kept"}
        with Client(url) as client:
            assert client.get(index="kept", id="1")["_source"] == {"a": 1}

    up(write)
    up(read)


# ---- faults are reported in one sentence


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run"], "run needs a command"),
        (["up", "--", "true"], "only run takes a command"),
        (["run", "--", "no-such-program"], "no-such-program is not a program"),
        (["run", "--kafka-heap", "lots", "--", "true"], "heap must be a number"),
        (["run", "--elasticsearch-heap", "1000000g", "--", "true"], "Java does not start"),
        (["up", "--kafka-port", "99999"], "invalid port value: '99999'"),
    ],
)
def test_a_wrong_argument_is_named(arguments: list[str], words: str) -> None:
    done = program(*arguments)
    assert done.returncode == 2
    assert words in done.stderr.splitlines()[-1]


@pytest.mark.slow
@pytest.mark.parametrize("option", ["--kafka-port", "--elasticsearch-port"])
def test_a_taken_port_is_named(option: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = program("run", option, str(port), "--", "true")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"port {port} is taken" in done.stderr


def old_java(folder: Path) -> dict[str, str]:
    java = folder / "bin" / "java"
    java.parent.mkdir()
    java.write_text("#!/bin/sh\necho 'openjdk version \"11.0.2\" 2019-01-15' >&2\n")
    java.chmod(0o755)
    return {"JAVA_HOME": str(folder)}


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        (lambda folder: {"JAVA_HOME": str(folder)}, "Java was not found: JAVA_HOME is"),
        (lambda folder: {"JAVA_HOME": "", "PATH": str(folder)}, "Java was not found: there is no java on the PATH"),
        (old_java, "is Java 11; install Java 17 or newer"),
    ],
)
def test_a_missing_or_old_java_is_named(
    tmp_path: Path, environment: Callable[[Path], Mapping[str, str]], words: str
) -> None:
    done = program("fetch", XDG_CACHE_HOME=str(tmp_path / "cache"), **environment(tmp_path))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert words in done.stderr


def test_no_network_is_named(tmp_path: Path) -> None:
    nowhere = f"-Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort={free_port()}"
    done = program("fetch", XDG_CACHE_HOME=str(tmp_path), JAVA_TOOL_OPTIONS=nowhere)
    assert "Traceback" not in done.stderr
    assert done.returncode == 3
    assert "cannot be downloaded (Connection refused): check the network" in done.stderr.splitlines()[-1]


def test_a_cache_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    done = program("fetch", XDG_CACHE_HOME=str(tmp_path / "file"))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "cannot be written (Not a directory): make room there, or set XDG_CACHE_HOME" in done.stderr


# ---- downloads


def fetch_snappy(cache: Path, sha256: str = SNAPPY_SHA256, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", SNAPPY, sha256],
        cwd=ROOT,
        env=os.environ | {"XDG_CACHE_HOME": str(cache)} | environment,
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=False,
    )


def cached(cache: Path) -> list[str]:
    """Return the paths in the cache, relative to the program's folder in it."""
    folder = cache / "streaming-ml"
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


WHOLE = ["lock", "snappy-1.1.10.7/snappy-java-1.1.10.7.jar"]


@contextmanager
def failing_proxy(after_bytes: int, *, cut: bool) -> Iterator[int]:
    """An HTTPS proxy that passes on a number of bytes from the network, then stops or closes the connection."""
    left = [after_bytes]

    def pump(source: socket.socket, sink: socket.socket, *, counted: bool) -> None:
        try:
            while data := source.recv(4096):
                if counted:
                    left[0] -= len(data)
                    if left[0] < 0:
                        if cut:
                            sink.shutdown(socket.SHUT_RDWR)
                        return
                sink.sendall(data)
        except OSError:
            pass

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            sockets.append(client)
            host, port = client.recv(4096).split()[1].decode().split(":")
            upstream = socket.create_connection((host, int(port)))
            sockets.append(upstream)
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            for pair, counted in (((client, upstream), False), ((upstream, client), True)):
                threading.Thread(target=pump, args=pair, kwargs={"counted": counted}, daemon=True).start()

    sockets: list[socket.socket] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            for connection in sockets:
                connection.close()


@pytest.mark.slow
def test_sigkill_in_the_middle_of_a_jar_leaves_no_process_and_the_next_attempt_succeeds(tmp_path: Path) -> None:
    cache = {"XDG_CACHE_HOME": str(tmp_path)}
    with failing_proxy(500_000, cut=False) as port:
        proxy = f"-Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort={port}"
        command = [sys.executable, "-c", SNAPPY, SNAPPY_SHA256]
        with background(command, JAVA_TOOL_OPTIONS=proxy, **cache) as process:
            ivy = jvms(process, 1)
            wait_until(lambda: "" if any(f.endswith(".jar.part") for f in cached(tmp_path)) else "half a jar", 60)
            process.kill()
            assert_end(ivy)
    assert not (tmp_path / "streaming-ml" / "snappy-1.1.10.7").exists()
    done = fetch_snappy(tmp_path)
    assert done.returncode == 0, done.stderr
    assert cached(tmp_path) == WHOLE


@pytest.mark.slow
def test_a_connection_cut_in_the_middle_of_a_jar_is_named_and_the_next_attempt_succeeds(tmp_path: Path) -> None:
    with failing_proxy(500_000, cut=True) as port:
        proxy = f"-Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort={port}"
        done = fetch_snappy(tmp_path, JAVA_TOOL_OPTIONS=proxy)
    assert "Traceback" not in done.stderr
    assert done.returncode == 3
    assert "snappy-1.1.10.7 cannot be downloaded (" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "streaming-ml" / "snappy-1.1.10.7").exists()
    done = fetch_snappy(tmp_path)
    assert done.returncode == 0, done.stderr
    assert cached(tmp_path) == WHOLE


@pytest.mark.slow
def test_a_slow_download_shows_how_much_of_how_much_has_come_and_how_fast(tmp_path: Path) -> None:
    """The connection stops in the middle of the jar, so the download lasts until the end of the test."""
    with failing_proxy(500_000, cut=False) as port:
        proxy = f"-Dhttps.proxyHost=127.0.0.1 -Dhttps.proxyPort={port}"
        command = [sys.executable, "-c", SNAPPY, SNAPPY_SHA256]
        with background(command, JAVA_TOOL_OPTIONS=proxy, XDG_CACHE_HOME=str(tmp_path)) as process:
            ivy = jvms(process, 1)
            assert process.stderr
            lines = [line for line, _ in zip(process.stderr, range(4), strict=False)]
            process.kill()
            assert_end(ivy)
    assert any(re.fullmatch(r"snappy-1\.1\.10\.7: 0\.[1-5] of 2\.3 MB, \d+\.\d MB/s\n", line) for line in lines), lines


@pytest.mark.slow
def test_two_processes_that_download_at_once_share_one_download(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as pool:
        done = list(pool.map(fetch_snappy, [tmp_path, tmp_path]))
    assert [process.returncode for process in done] == [0, 0], done
    assert sum("waiting for another program's download" in process.stderr for process in done) == 1
    assert cached(tmp_path) == WHOLE


def test_damaged_jars_are_not_used_and_not_kept(tmp_path: Path) -> None:
    done = fetch_snappy(tmp_path, sha256="0" * 64)
    assert done.returncode == 3
    assert "its jars are not those that are pinned" in done.stderr
    assert cached(tmp_path) == ["lock"]


def test_a_full_disk_is_named(tmp_path: Path) -> None:
    """A limit on the file size makes Java's writes fail midway, as on a full disk, and does not need root."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))
    try:
        done = fetch_snappy(tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "Traceback" not in done.stderr
    assert done.returncode == 2
    assert "cannot be written (File too large): make room there" in done.stderr.splitlines()[-1]
    assert not (tmp_path / "streaming-ml" / "snappy-1.1.10.7").exists()


# ---- from Python


@pytest.mark.slow
def test_kafka_keeps_its_records_when_killed_or_stopped_and_started_again(tmp_path: Path) -> None:
    topic = new_name()
    with Kafka(data=tmp_path) as kafka:
        kafka.create_topics([topic], partitions=1)
        pids, address = {kafka.pid}, kafka.bootstrap
        for i, end in enumerate((kafka.kill, kafka.stop)):
            produce(kafka, topic, b"%d" % i)
            end()
            assert not kafka.running
            kafka.start()
            pids.add(kafka.pid)
        assert records(kafka.bootstrap, topic, 2) == {b"0", b"1"}
        assert (len(pids), kafka.bootstrap) == (3, address)
    assert (tmp_path / "data").exists()


@pytest.mark.slow
def test_elasticsearch_keeps_its_documents_when_killed_or_stopped_and_started_again(tmp_path: Path) -> None:
    settings = {"cluster.name": "ours"}
    with Elasticsearch(data=tmp_path, settings=settings) as elasticsearch, Client(elasticsearch.url) as client:
        for i, end in enumerate((elasticsearch.kill, elasticsearch.stop)):
            client.index(index="kept", id=str(i), document={"i": i})
            end()
            assert not elasticsearch.running
            elasticsearch.start()
        client.indices.refresh(index="kept")
        assert client.count(index="kept")["count"] == 2
        assert client.cluster.health()["cluster_name"] == "ours"


def test_broker_takes_records_of_over_a_megabyte_and_makes_no_topic_by_itself(broker: Kafka) -> None:
    topic = new_name()
    broker.create_topics([topic])
    broker.create_topics([topic])  # an existing topic is kept
    produce(broker, topic, b"x" * 1_200_000)
    unknown = new_name()
    answer = Producer({"bootstrap.servers": broker.bootstrap}).list_topics(unknown, timeout=10).topics[unknown]
    assert answer.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART


def test_search_indexes_searches_and_aggregates(search: Elasticsearch) -> None:
    index = new_name()
    with Client(search.url) as client:
        client.index(index=index, document={"a": 2}, refresh=True)
        found = client.search(index=index, aggs={"sum": {"sum": {"field": "a"}}})
    assert found["aggregations"]["sum"]["value"] == 2


@pytest.mark.slow
def test_tls_listener_lets_only_the_right_password_in() -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    key = serialization.load_pem_private_key(certificate.private_key_pem.bytes(), None).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    tls = Tls(certificate.cert_chain_pems[0].bytes().decode(), key.decode())
    with Kafka(tls=tls, scram_users={"app": "right =]"}) as kafka:
        kafka.create_topics()

        def topics(password: str) -> set[str]:
            errors: list[str] = []
            admin = AdminClient(
                {
                    "bootstrap.servers": kafka.secure_bootstrap,
                    "security.protocol": "SASL_SSL",
                    "sasl.mechanism": "SCRAM-SHA-512",
                    "sasl.username": "app",
                    "sasl.password": password,
                    "ssl.ca.pem": authority.cert_pem.bytes().decode(),
                    "log_level": 0,
                    "error_cb": lambda error: errors.append(error.str()),  # type: ignore[dict-item]
                }
            )
            try:
                return set(admin.list_topics(timeout=3).topics)
            except KafkaException:
                admin.poll(0)
                return set(errors)

        assert topics("right =]") == {"train", "test"}
        assert any("Authentication failed" in error for error in topics("wrong"))
        assert "right" not in kafka.log.read_text()


def test_start_together_ends_all_when_one_fails() -> None:
    good, bad = Elasticsearch(), Kafka(properties={"num.io.threads": "many"})
    with pytest.raises(ServerUnavailable, match=r"kafka did not start: .*num\.io\.threads"):
        start_together(good, bad)
    assert not good.running
    assert not bad.running
    good.close()
    bad.close()


def test_a_data_folder_in_use_is_named(broker: Kafka, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "UNLOCK_TIMEOUT_S", 0.2)
    with (
        pytest.raises(ConfigError, match=r"is in use by another kafka: choose another folder"),
        Kafka(data=broker.data),
    ):
        pass
    assert broker.running


def test_temporary_folders_go_at_the_end_also_those_of_killed_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    process = subprocess.Popen(["true"])
    process.wait()
    (tmp_path / f"streaming-ml-kafka-{process.pid}-abc").mkdir()
    (tmp_path / f"streaming-ml-kafka-{os.getpid()}-abc").mkdir()
    kafka = Kafka()
    assert kafka.data.is_dir()
    kafka.close()
    assert [path.name for path in tmp_path.iterdir()] == [f"streaming-ml-kafka-{os.getpid()}-abc"]
