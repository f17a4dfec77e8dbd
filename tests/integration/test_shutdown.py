"""However the app is stopped or killed, it ends soon and in order, with whole micro-batches and no process left."""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from embedded import Elasticsearch, Kafka, free_port
from embedded.testing.records import synthetic
from embedded.testing.stream import App, Stream
from embedded.testing.waiting import wait_until
from streaming_regression.spark.session import CLASSES
from tests.integration.exactly_once import check_exactly_once

WITHIN_S = 30.0  # Kubernetes' default grace period
START_WITHIN_S = 120.0
GONE_WITHIN_S = 20.0
LOAD = ("--max-offsets-per-trigger", "3000", "--trigger-interval-s", "0", "--rls-half-life", "20000")

Send = Callable[[App], None]


def terminate(app: App) -> None:
    """Send SIGTERM to one process, as Kubernetes or `kill` does."""
    app.process.send_signal(signal.SIGTERM)


def interrupt(app: App) -> None:
    """Send SIGINT to all processes of the app, as Ctrl-C in a terminal does."""
    os.killpg(app.process.pid, signal.SIGINT)


@contextmanager
def nothing_left(app: App) -> Iterator[list[str]]:
    """Check that the app's processes (JVM, Python workers) end with it; yield their command lines."""
    processes = descendants(app)
    yield list(filter(None, map(command_line, processes)))

    def left() -> str:
        return "\n".join(filter(None, map(command_line, processes)))

    wait_until(left, GONE_WITHIN_S)


def descendants(app: App) -> list[psutil.Process]:
    return psutil.Process(app.process.pid).children(recursive=True)


def javas(app: App) -> list[psutil.Process]:
    """The app's JVM, without the JVM's children, which have its command line until they execute their program."""
    children = psutil.Process(app.process.pid).children()
    return [process for process in children if "org.apache.spark.deploy.SparkSubmit" in command_line(process)]


def command_line(process: psutil.Process) -> str:
    """The command line of a process; empty if it has ended, even if it is still a zombie."""
    with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return " ".join(process.cmdline())
    return ""


def check_clean(app: App) -> None:
    """Check that the log has no stack trace, no error, and no line in another format."""
    for line in app.log.splitlines():
        assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z (INFO|WARNING) ", line), app.log


@pytest.fixture
def loaded(stream: Stream) -> Stream:
    """A stream with enough records for many micro-batches."""
    stream.features, stream.label = ("x0", "x1", "x2"), "y"
    stream.create_topics()
    stream.produce(train=synthetic(20_000, seed=1), test=synthetic(4_000, seed=2))
    return stream


@pytest.mark.slow
def test_java_takes_classes_from_the_archive_that_the_set_up_made(loaded: Stream) -> None:
    """Java uses the archive only with the same version and jars; otherwise it starts slowly, without a message."""
    with loaded.app() as app:
        app.wait_for("batch ")
        (java,) = javas(app)
        assert str(CLASSES.resolve()) in {mapped.path for mapped in java.memory_maps()}


@pytest.mark.slow
def test_app_stopped_under_load_finishes_the_batch_and_the_next_start_continues(loaded: Stream) -> None:
    """A half-life is set, so a micro-batch that is learned twice or left out would change the weights."""
    lives: list[tuple[Send, dict[str, str]]] = [
        (terminate, {}),
        (interrupt, {"LOG_FORMAT": "json", "LOG_LEVEL": "DEBUG"}),
    ]
    restarts = []
    for life, (send, environment) in enumerate(lives):
        with loaded.app(*LOAD, **environment) as app:
            app.wait_for("batch ")
            with nothing_left(app):
                send(app)
                assert app.wait(WITHIN_S) == 0
            if environment:
                loggers = {json.loads(line)["logger"] for line in app.log.splitlines()}
                assert any(name.startswith("org.apache.spark.") for name in loggers)
            else:
                check_clean(app)
            assert app.log.splitlines()[-1].count("stopped by a signal") == 1
            assert "replayed" not in app.log
            assert ("continuing run" in app.log) == (life > 0)
        # No micro-batch is left half done.
        points = loaded.count("points")
        assert points == sum(document["rows"] for document in loaded.documents("metrics"))
        assert 0 < points < 24_000, "it was told too late to stop anything"
        newest = max(document["batch"] for document in loaded.documents("models"))
        restarts.append(newest + 1)
    done = loaded.run(*LOAD)
    assert done.returncode == 0, done.stderr
    check_exactly_once(loaded)
    marked = {document["batch"] for document in loaded.documents("models") if document.get("restarted")}
    assert marked == {*restarts}

    whole = loaded.again("whole")
    done = whole.run(*LOAD)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(loaded.weights(), whole.weights(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("send", [terminate, interrupt])
def test_told_to_stop_while_it_waits_for_elasticsearch_at_the_start(stream: Stream, send: Send) -> None:
    with stream.app("--elasticsearch-url", f"http://127.0.0.1:{free_port()}") as app:
        app.wait_for("cannot be reached; waiting")
        send(app)
        assert app.wait(WITHIN_S) == 0
        check_clean(app)


def test_app_stopped_while_it_waits_for_kafka_at_the_start(stream: Stream) -> None:
    """The app connects to the brokers before it starts Java."""
    with stream.app("--kafka-bootstrap", f"127.0.0.1:{free_port()}") as app:
        app.wait_for("does not answer, or does not speak PLAINTEXT (--kafka-security-protocol); waiting")
        with nothing_left(app):
            terminate(app)
            assert app.wait(WITHIN_S) == 0
        check_clean(app)


@pytest.mark.slow
def test_app_stopped_while_java_starts(stream: Stream) -> None:
    """A JVM whose start is interrupted would stay, so the app completes the start and then ends the JVM."""
    stream.create_topics()
    with stream.app() as app:
        wait_until(lambda: "" if javas(app) else f"no Java yet:\n{app.log}", START_WITHIN_S, poll_s=0.02)
        with nothing_left(app):
            interrupt(app)
            assert app.wait(START_WITHIN_S) == 0
        check_clean(app)


@pytest.mark.slow
def test_app_stopped_together_with_its_java(loaded: Stream) -> None:
    """systemd sends the signal to all processes of a service: the micro-batch cannot be finished, but is replayed."""
    with loaded.app(*LOAD) as app:
        app.wait_for("batch ")
        with nothing_left(app):
            os.killpg(app.process.pid, signal.SIGTERM)
            assert app.wait(WITHIN_S) == 0
        assert "stopped by a signal" in app.log


@pytest.mark.slow
def test_without_its_java_it_ends_with_a_sentence(loaded: Stream) -> None:
    with loaded.app(*LOAD) as app:
        app.wait_for("batch ")
        with nothing_left(app):
            (java,) = javas(app)
            java.kill()
            assert app.wait(WITHIN_S) == 3
        assert " ERROR Spark's JVM ended unexpectedly (was it killed for its memory?)" in app.log


@pytest.mark.slow
def test_killed_it_leaves_no_process(loaded: Stream) -> None:
    with loaded.app(*LOAD) as app:
        app.wait_for("batch ")
        with nothing_left(app) as processes:
            assert any("SparkSubmit" in process for process in processes)
            assert any("streaming_regression.spark.daemon" in process for process in processes)
            app.process.kill()


@pytest.fixture
def own_stream(tmp_path: Path) -> Iterator[Stream]:
    """A stream with its own servers, which the test may stop."""
    with Kafka() as broker, Elasticsearch() as search:
        stream = Stream("shutdown", broker, search, tmp_path, ("x0", "x1", "x2"), "y")
        stream.create_topics()
        yield stream


@pytest.mark.slow
def test_app_stopped_while_a_server_is_away(own_stream: Stream) -> None:
    """A micro-batch that waits for Elasticsearch is aborted, and the next start replays all of it."""
    own_stream.produce(train=synthetic(9_000, seed=1))
    with own_stream.app(*LOAD) as app:
        app.wait_for("batch 2:")
        own_stream.search.stop()
        own_stream.produce(train=synthetic(9_000, seed=2), test=synthetic(3_000, seed=3))
        app.wait_for("cannot be reached; waiting")
        with nothing_left(app):
            terminate(app)
            assert app.wait(WITHIN_S) == 0
        assert "the micro-batch is not finished after 15 s; it will be replayed" in app.log
        check_clean(app)
    own_stream.search.start()
    with own_stream.app(*LOAD) as app:
        wait_until(lambda: "" if own_stream.count("points") == 21_000 else f"not all points:\n{app.log}", 90)
        own_stream.broker.stop()
        with nothing_left(app):
            terminate(app)
            assert app.wait(WITHIN_S) == 0
        check_clean(app)
    check_exactly_once(own_stream)
