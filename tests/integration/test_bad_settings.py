"""Settings that cannot work end the app with one sentence that names the setting and the remedy, and an exit code.

The exit code is 2 for arguments and configuration, 3 for a server that is away, and 4 for a server that refuses or a
stored state that does not fit.
"""

from __future__ import annotations

import itertools
import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import trustme
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AclOperation, AdminClient  # type: ignore[attr-defined]
from elasticsearch import Elasticsearch as Client

from embedded import Elasticsearch, Kafka, free_port
from embedded.testing.flags import last_flags
from embedded.testing.records import synthetic
from embedded.testing.repeated import Ending, Repeated
from embedded.testing.stream import Stream
from embedded.testing.waiting import wait_until
from tests.integration.limited_search import limited
from tests.integration.secure_kafka import add_user, allow
from tests.integration.secure_search import Accounts, SecureSearch, anything
from tests.slow import slow_except

CONFIG, UNAVAILABLE, REFUSED = 2, 3, 4
PASSWORD = "correct horse"


@pytest.fixture(scope="module")
def settled(broker: Kafka, search: Elasticsearch, app: Repeated, tmp_path_factory: pytest.TempPathFactory) -> Stream:
    """A stream that has already run: its checkpoint is at batch 0. Tests use copies of it."""
    stream = Stream("settled", broker, search, tmp_path_factory.mktemp("settled"), ("x0", "x1", "x2"), "y")
    stream.create_topics()
    stream.produce(train=synthetic(300, seed=1), test=synthetic(30, seed=2))
    done = start(app, stream)
    assert done.code == 0, done.log
    return stream


@pytest.fixture
def resumed(settled: Stream, tmp_path: Path) -> Stream:
    """The settled stream, with a copy of its checkpoint that a test may damage."""
    shutil.copytree(settled.folder / "checkpoint", tmp_path / "checkpoint")
    return replace(settled, folder=tmp_path)


@pytest.fixture(scope="module")
def secure_search(search: Elasticsearch, authority: trustme.CA) -> Iterator[SecureSearch]:
    def reads(method: str, path: str) -> bool:
        return method in {"GET", "HEAD"} or path.split("?", maxsplit=1)[0].endswith("/_search")

    def all_but_refresh(_method: str, path: str) -> bool:
        return "/_refresh" not in path

    rights = {"elf": anything, "key": anything, "reader": reads, "writer": all_but_refresh}
    rights["nobody"] = lambda _method, _path: False
    passwords = dict.fromkeys(rights.keys() - {"key"}, PASSWORD)
    accounts = Accounts(passwords, api_keys={"key": "Zm9vOmJhcg=="}, rights=rights)
    with SecureSearch(search.url, authority.issue_cert("127.0.0.1"), accounts) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, authority: trustme.CA) -> dict[str, str]:
    """Files for settings, by a word for their content."""
    folder = tmp_path_factory.mktemp("files")
    contents = {
        "ca": authority.cert_pem.bytes(),
        "another-ca": trustme.CA().cert_pem.bytes(),
        "garbage": b"no certificate\n",
        "empty": b"",
        "password": PASSWORD.encode(),
        "wrong-password": b"wrong horse",
        "api-key": b"Zm9vOmJhcg==",
        "wrong-api-key": b"d3Jvbmc6a2V5",
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    return {name: str(folder / name) for name in contents}


@pytest.fixture(scope="module")
def users(secure_broker: Kafka, search: Elasticsearch, tmp_path_factory: pytest.TempPathFactory) -> Kafka:
    """The broker with topics `secure-train` and `secure-test`, and users with and without rights on them."""
    stream = Stream("secure", secure_broker, search, tmp_path_factory.mktemp("secure"))
    stream.create_topics()
    stream.produce(train=synthetic(30, seed=1))
    topics = (stream.train, stream.test)
    for user in ("reader", "looker", "stranger"):
        add_user(secure_broker, user, PASSWORD)
    allow(secure_broker, "reader", topics)
    allow(secure_broker, "looker", topics, AclOperation.DESCRIBE)
    return secure_broker


def start(app: Repeated, stream: Stream, *flags: str) -> Ending:
    return app.start(last_flags([*stream.flags, "--available-now", "--server-timeout-s", "1", *flags]))


def test_a_wrong_setting_ends_the_program_at_once_with_a_line_for_each() -> None:
    """Unit tests check the messages; this test runs the real program, which must write only them to standard error."""
    command = [sys.executable, "-m", "streaming_regression", "--features", "a:int", "--learner", "ols"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == CONFIG
    assert done.stdout == ""
    first, second = done.stderr.splitlines()
    assert " ERROR --features / FEATURES: 'a:int' looks like a name with a type" in first
    assert second.startswith("--learner / LEARNER: should be 'bayes', 'rls' or 'sgd' (found 'ols')")


def test_without_java_the_app_says_so(settled: Stream, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "streaming_regression", *settled.flags]
    environment = {"PATH": "/usr/bin:/bin", "JAVA_HOME": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, env=environment)
    assert done.returncode == CONFIG
    assert "Traceback" not in done.stderr
    assert "Spark needs Java 17 or newer, on the PATH or in the folder JAVA_HOME" in done.stderr.splitlines()[-1]


# Kafka


@pytest.mark.slow
def test_brokers_that_are_away_are_waited_for_and_named(app: Repeated, settled: Stream) -> None:
    for address in (f"127.0.0.1:{free_port()}", "no-such-host.invalid:9092"):
        done = start(app, settled, "--kafka-bootstrap", address)
        assert done.code == UNAVAILABLE
        assert done.sentence.startswith(
            f"Kafka at {address} (--kafka-bootstrap / KAFKA_BOOTSTRAP) does not answer, or does not speak PLAINTEXT "
            "(--kafka-security-protocol); gave up after "
        )
        assert done.sentence.endswith(" s (--server-timeout-s)")


@pytest.mark.parametrize("role", ["train", "test"])
def test_a_missing_topic_is_named_with_its_setting(app: Repeated, settled: Stream, role: str) -> None:
    done = start(app, settled, f"--kafka-{role}-topic", "absent")
    assert done.code == CONFIG
    assert f"has no topic absent: create it, or correct --kafka-{role}-topic / KAFKA_{role.upper()}_TOPIC" in (
        done.sentence
    )


KAFKA_SECURITY: dict[str, tuple[dict[str, str], int, str]] = {
    "another CA": (
        {"kafka_ca_file": "another-ca"},
        CONFIG,
        "the TLS handshake failed: check that --kafka-ca-file ({another-ca}) is the CA of the broker's certificate",
    ),
    "no CA": ({"kafka_ca_file": ""}, CONFIG, "check that --kafka-ca-file (not set) is the CA"),
    "a CA file without a certificate": (
        {"kafka_ca_file": "garbage"},
        CONFIG,
        "--kafka-ca-file / KAFKA_CA_FILE: {garbage} contains no readable certificate in PEM format",
    ),
    "a wrong password": (
        {"kafka_password_file": "wrong-password"},
        CONFIG,
        "refused the login of user reader: check --kafka-user, --kafka-password-file and --kafka-sasl-mechanism",
    ),
    "an empty password file": (
        {"kafka_password_file": "empty"},
        CONFIG,
        "--kafka-password-file / KAFKA_PASSWORD_FILE: {empty} is empty",
    ),
    "an unknown user": ({"kafka_user": "ghost"}, CONFIG, "refused the login of user ghost"),
    "another mechanism": ({"kafka_sasl_mechanism": "PLAIN"}, CONFIG, "refused the login of user reader"),
    "no login": (
        {"kafka_security_protocol": "SSL", "kafka_user": "", "kafka_password_file": ""},
        UNAVAILABLE,
        "does not speak SSL (--kafka-security-protocol)",
    ),
    "no TLS": (
        {"kafka_security_protocol": "PLAINTEXT", "kafka_user": "", "kafka_password_file": "", "kafka_ca_file": ""},
        UNAVAILABLE,
        "does not speak PLAINTEXT",
    ),
    "a login that the protocol does not use": (
        {"kafka_security_protocol": "SSL"},
        CONFIG,
        "--kafka-password-file / KAFKA_PASSWORD_FILE: needs --kafka-security-protocol SASL_SSL or SASL_PLAINTEXT",
    ),
    "no rights on the topics": (
        {"kafka_user": "stranger"},
        REFUSED,
        "does not let user stranger read topic secure-train: give the user the ACL Read on it",
    ),
    "rights to look at the topics only": (
        {"kafka_user": "looker"},
        REFUSED,
        "does not let user looker read topic secure-train: give the user the ACL Read on it",
    ),
}


def kafkas_security(users: Kafka, checkpoint: Path, files: dict[str, str], **changed: str) -> list[str]:
    settings = {
        "kafka_bootstrap": users.secure_bootstrap,
        "kafka_security_protocol": "SASL_SSL",
        "kafka_ca_file": "ca",
        "kafka_user": "reader",
        "kafka_password_file": "password",
        "kafka_train_topic": "secure-train",
        "kafka_test_topic": "secure-test",
        "index_prefix": "secure",
        "checkpoint": str(checkpoint),
    }
    return flags(settings | changed, files)


@pytest.mark.parametrize("case", slow_except(["a wrong password", "no rights on the topics"], KAFKA_SECURITY))
def test_kafkas_security(
    app: Repeated, settled: Stream, tmp_path: Path, users: Kafka, files: dict[str, str], case: str
) -> None:
    changed, code, text = KAFKA_SECURITY[case]
    done = start(app, settled, *kafkas_security(users, tmp_path / "checkpoint", files, **changed))
    assert done.code == code
    assert text.format_map(files) in done.sentence


def test_the_right_to_read_both_topics_is_all_that_kafka_asks_for(
    app: Repeated, settled: Stream, tmp_path: Path, users: Kafka, files: dict[str, str]
) -> None:
    """No right on consumer groups is needed: no group is joined, and Spark stores the offsets."""
    done = start(app, settled, *kafkas_security(users, tmp_path / "checkpoint", files))
    assert done.code == 0, done.log
    assert "batch 0: 30 rows, 0 invalid" in done.log


# Elasticsearch


def test_an_elasticsearch_that_is_away_is_waited_for_and_named(app: Repeated, settled: Stream) -> None:
    for url in (f"http://127.0.0.1:{free_port()}", "http://no-such-host.invalid:9200"):
        done = start(app, settled, "--elasticsearch-url", url)
        assert done.code == UNAVAILABLE
        assert done.sentence.startswith(
            f"Elasticsearch at {url} (--elasticsearch-url / ELASTICSEARCH_URL) cannot be reached; gave up after "
        )


def test_a_red_elasticsearch_is_waited_for_and_named(app: Repeated, settled: Stream) -> None:
    with Client(settled.search.url) as client:
        nowhere = {"index.routing.allocation.require._name": "nowhere", "number_of_replicas": 0}
        client.indices.create(index="homeless", settings=nowhere, wait_for_active_shards=0)
        try:
            done = start(app, settled)
        finally:
            client.indices.delete(index="homeless")
    assert done.code == UNAVAILABLE
    assert "is red: some of its primary shards are not assigned (GET _cluster/allocation/explain" in done.sentence


ELASTICSEARCH_SECURITY: dict[str, tuple[dict[str, str], int, str]] = {
    "another CA": (
        {"elasticsearch_ca_file": "another-ca"},
        CONFIG,
        "the certificate of Elasticsearch at {url} (--elasticsearch-url / ELASTICSEARCH_URL) is not signed by a CA in "
        "{another-ca} (",
    ),
    "no CA": ({"elasticsearch_ca_file": ""}, CONFIG, "is not signed by a CA in the system’s CA store ("),
    "a CA file without a certificate": (
        {"elasticsearch_ca_file": "garbage"},
        CONFIG,
        "--elasticsearch-ca-file / ELASTICSEARCH_CA_FILE: {garbage} contains no readable certificate in PEM format",
    ),
    "a certificate for another name": (
        {"elasticsearch_url": "https://localhost:{port}"},
        CONFIG,
        "certificate is not valid for 'localhost'",
    ),
    "https, but http is spoken": (
        {"elasticsearch_url": "{https-of-plain}", "elasticsearch_ca_file": ""},
        CONFIG,
        "(--elasticsearch-url / ELASTICSEARCH_URL) does not speak https: is it http://?",
    ),
    "http, but https is spoken": (
        {"elasticsearch_url": "http://127.0.0.1:{port}", "elasticsearch_ca_file": ""},
        UNAVAILABLE,
        "cannot be reached",
    ),
    "a wrong password": (
        {"elasticsearch_password_file": "wrong-password"},
        CONFIG,
        "refused the login: check --elasticsearch-user and --elasticsearch-password-file, or",
    ),
    "an empty password": (
        {"elasticsearch_password_file": "empty"},
        CONFIG,
        "--elasticsearch-password-file / ELASTICSEARCH_PASSWORD_FILE: {empty} is empty",
    ),
    "no login": (
        {"elasticsearch_user": "", "elasticsearch_password_file": ""},
        CONFIG,
        "refused the login",
    ),
    "a wrong API key": (
        {"elasticsearch_user": "", "elasticsearch_password_file": "", "elasticsearch_api_key_file": "wrong-api-key"},
        CONFIG,
        "or --elasticsearch-api-key-file",
    ),
    "no rights": ({"elasticsearch_user": "nobody"}, REFUSED, "does not let user nobody do this: action"),
    "rights to read only": (
        {"elasticsearch_user": "reader"},
        REFUSED,
        "its role needs the cluster privileges monitor and manage_index_templates, and all privileges on the prefix's "
        "indices",
    ),
}


@pytest.mark.parametrize("case", slow_except(["a wrong password", "rights to read only"], ELASTICSEARCH_SECURITY))
def test_elasticsearchs_security(
    app: Repeated, settled: Stream, secure_search: SecureSearch, files: dict[str, str], case: str
) -> None:
    changed, code, text = ELASTICSEARCH_SECURITY[case]
    places = {
        "url": secure_search.url,
        "port": secure_search.url.rpartition(":")[2],
        "https-of-plain": settled.search.url.replace("http:", "https:"),
    }
    settings = {
        "elasticsearch_url": secure_search.url,
        "elasticsearch_ca_file": "ca",
        "elasticsearch_user": "elf",
        "elasticsearch_password_file": "password",
    }
    changed = {name: value.format_map(places) for name, value in changed.items()}
    done = start(app, settled, *flags(settings | changed, files))
    assert done.code == code
    assert text.format_map(places | files) in done.sentence


@pytest.mark.slow
def test_without_the_right_to_refresh_all_is_written_and_one_line_tells_of_it(
    app: Repeated, stream: Stream, secure_search: SecureSearch, files: dict[str, str]
) -> None:
    stream.features, stream.label = ("x0", "x1", "x2"), "y"
    stream.create_topics()
    stream.produce(train=synthetic(90, seed=1))
    login = ("--elasticsearch-user", "writer", "--elasticsearch-password-file", files["password"])
    place = ("--elasticsearch-url", secure_search.url, "--elasticsearch-ca-file", files["ca"])
    done = start(app, stream, *place, *login, "--max-offsets-per-trigger", "30")
    assert done.code == 0, done.log
    assert "searches will find batch 0 late, because the refresh failed: " in done.log
    assert done.log.count("searches will find") == 1
    assert stream.count("points") == 90


def test_an_address_where_something_else_answers_is_no_elasticsearch(app: Repeated, settled: Stream) -> None:
    done = start(app, settled, "--elasticsearch-url", f"{settled.search.url}/proxy")
    assert done.code == REFUSED
    assert "(--elasticsearch-url / ELASTICSEARCH_URL) refused a request" in done.sentence


# The checkpoint


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        (
            {"features": "x0,x1"},
            "holds a model with features x0,x1,x2, but --features is x0,x1: change it back, or start",
        ),
        ({"features": "x0,x2,x1"}, "but --features is x0,x2,x1"),
        (
            {"label": "z"},
            "holds a model with label y, but --label is z: change it back, or start a new run with another",
        ),
        ({"learner": "sgd"}, "holds a model with learner rls, but --learner is sgd"),
        (
            {"kafka_train_topic": "settled-test", "kafka_test_topic": "settled-train"},
            "but --kafka-train-topic and --kafka-test-topic is settled-test,settled-train",
        ),
    ],
)
def test_a_checkpoint_of_another_model_is_refused(
    app: Repeated, resumed: Stream, changed: dict[str, str], text: str
) -> None:
    done = start(app, resumed, *flags(changed, {}))
    assert done.code == REFUSED
    assert done.sentence.startswith(f"checkpoint {resumed.folder}/checkpoint holds a model with ")
    assert text in done.sentence
    assert done.sentence.endswith("start a new run with another --checkpoint and --index-prefix")


def truncated(checkpoint: Path) -> None:
    state = checkpoint / "model" / "0.json"
    state.write_bytes(state.read_bytes()[:-40])


def emptied(checkpoint: Path) -> None:
    (checkpoint / "model" / "0.json").write_text("")


def of_another_size(checkpoint: Path) -> None:
    state = json.loads((checkpoint / "model" / "0.json").read_text())
    state["weights"].pop()
    (checkpoint / "model" / "0.json").write_text(json.dumps(state))


def of_another_format(checkpoint: Path) -> None:
    state = json.loads((checkpoint / "model" / "0.json").read_text())
    (checkpoint / "model" / "0.json").write_text(json.dumps(state | {"format": 99}))


def without_model(checkpoint: Path) -> None:
    (checkpoint / "model" / "0.json").unlink()


def without_offsets(checkpoint: Path) -> None:
    """Delete Spark's part of a checkpoint, as a user might do to start again."""
    for part in ("offsets", "commits"):
        shutil.rmtree(checkpoint / part)


def without_run(checkpoint: Path) -> None:
    (checkpoint / "metadata").unlink()


def with_damaged_run(checkpoint: Path) -> None:
    (checkpoint / "metadata").write_text('{"id":')


SPOILT: dict[Callable[[Path], None], str] = {
    truncated: "model/0.json of the checkpoint is damaged (",
    emptied: "model/0.json of the checkpoint is damaged (",
    of_another_size: "model/0.json of the checkpoint is damaged (",
    of_another_format: "holds a model with format 99, but the format of this version of the program is 2",
    without_model: "model/0.json is missing, so batch 1 has no model to start from: restore the folder from a backup",
    without_offsets: "is incomplete: model/0.json exists, but metadata or offsets/0 of the same micro-batch does not",
    without_run: "is incomplete: model/0.json exists, but metadata or offsets/0 of the same micro-batch does not",
    with_damaged_run: "checkpoint/metadata of the checkpoint is damaged (",
}


@pytest.mark.parametrize("spoil", slow_except([truncated, without_offsets], SPOILT))
def test_a_spoilt_checkpoint_is_refused(app: Repeated, resumed: Stream, spoil: Callable[[Path], None]) -> None:
    """It is not treated as a new run, which would overwrite documents, or skip records that seem to be processed."""
    resumed.produce(train=synthetic(3, seed=3))
    spoil(resumed.folder / "checkpoint")
    done = start(app, resumed)
    assert done.code == REFUSED
    assert SPOILT[spoil] in done.sentence
    assert re.search("start a new run with another --checkpoint and --index-prefix$", done.sentence)


@pytest.mark.parametrize("place", ["{file}/checkpoint", "/proc/checkpoint", "nosuch://bucket/checkpoint", "s3a://b/c"])
def test_a_checkpoint_that_cannot_be_written_is_named(
    app: Repeated, settled: Stream, tmp_path: Path, place: str
) -> None:
    (tmp_path / "file").touch()
    checkpoint = place.format(file=tmp_path / "file")
    flags = [*settled.flags, "--available-now", "--index-prefix", "unwritten", "--checkpoint", checkpoint]
    done = app.start(last_flags(flags))
    assert done.code == CONFIG
    assert done.sentence.startswith(f"--checkpoint / CHECKPOINT: {checkpoint} cannot be used: ")
    assert done.sentence.endswith("; use a folder or URI that is writable")


@pytest.mark.slow
def test_of_two_drivers_with_one_checkpoint_one_ends_and_no_record_is_lost_or_doubled(
    app: Repeated, stream: Stream
) -> None:
    stream.features, stream.label = ("x0", "x1", "x2"), "y"
    stream.create_topics()
    stream.produce(train=synthetic(30, seed=1))
    endless = ("--no-available-now", "--trigger-interval-s", "0")
    with ThreadPoolExecutor(1) as pool, stream.app(*endless) as first:
        first.wait_for("batch 0:")
        second = pool.submit(start, app, stream, *endless)
        seeds = itertools.count(2)

        def both_run() -> str:
            stream.produce(train=synthetic(30, seed=next(seeds)))
            return "" if second.done() or first.process.poll() is not None else "both drivers still run"

        wait_until(both_run, 60)
        if not second.done():
            app.interrupt()
        log = second.result().log if first.process.poll() is None else first.log
        assert "Traceback" not in log
        assert f"another driver uses the checkpoint {stream.folder}/checkpoint at the same time: stop one" in log
    done = start(app, stream)
    assert done.code == 0, done.log
    assert stream.count("points") == len(stream.places())


# One run per prefix


def test_a_new_checkpoint_over_another_runs_documents_is_refused_with_three_ways_out(
    app: Repeated, settled: Stream, tmp_path: Path
) -> None:
    """The index templates are not changed either: they belong to the run that wrote the documents."""
    (old,) = {point["run"] for point in settled.documents("points")}
    new = replace(settled, folder=tmp_path)
    done = start(app, new, "--features", "x0")
    assert done.code == REFUSED
    assert f"holds documents of run {old}, but this checkpoint is new" in done.sentence
    for way in ("restore that run's checkpoint (--checkpoint)", "use another --index-prefix", "with --replace-run"):
        assert way in done.sentence
    with Client(settled.search.url) as client:
        (template,) = client.indices.get_index_template(name="settled-points")["index_templates"]
    mapping = template["index_template"]["template"]["mappings"]["properties"]
    assert set(mapping["x"]["properties"]) == {"x0", "x1", "x2"}


@pytest.mark.slow
def test_replace_run_deletes_the_other_runs_documents_first(app: Repeated, stream: Stream) -> None:
    stream.features, stream.label = ("x0", "x1", "x2"), "y"
    stream.create_topics()
    stream.produce(train=synthetic(90, seed=1))
    assert start(app, stream).code == 0
    (old,) = {point["run"] for point in stream.documents("points")}
    shutil.rmtree(stream.folder / "checkpoint")

    done = start(app, stream, "--replace-run")
    assert done.code == 0, done.log
    assert f"--replace-run: deleting {stream.prefix}-metrics-" in done.log
    for kind in ("points", "metrics", "models"):
        documents = stream.documents(kind)
        assert documents
        (new,) = {document["run"] for document in documents}
        assert new != old
    assert stream.count("points") == 90
    again = start(app, stream, "--replace-run")  # a chart may leave it set
    assert again.code == 0
    assert "deleting" not in again.log
    assert stream.count("points") == 90


@pytest.mark.slow
def test_a_foreign_template_is_refused_and_the_prefix_stays_that_of_the_run_that_has_claimed_it(
    app: Repeated, stream: Stream, tmp_path: Path
) -> None:
    """A run owns its prefix before its first document: it writes the claim once the checkpoint has the run's id."""
    stream.features, stream.label = ("x0", "x1", "x2"), "y"
    stream.create_topics()
    stream.produce(train=synthetic(30, seed=1))
    (tmp_path / "other").mkdir()
    other = replace(stream, folder=tmp_path / "other")
    with Client(stream.search.url) as client:
        patterns, template = [f"{stream.prefix}-points-*"], {"mappings": {"dynamic": True}}
        client.indices.put_index_template(name="ops", priority=1000, index_patterns=patterns, template=template)
        try:
            done = start(app, stream)
        finally:
            client.indices.delete_index_template(name="ops")
    assert done.code == REFUSED
    assert f"index template ops (priority 1000) takes precedence over {stream.prefix}-points, so " in done.sentence
    assert stream.count("points") == 0
    done = start(app, other)
    assert done.code == REFUSED
    assert f"the index prefix {stream.prefix} has belonged to run " in done.sentence
    assert start(app, stream).code == 0
    assert stream.count("points") == 30


@pytest.mark.slow
def test_an_index_of_the_day_with_another_mapping_is_named(app: Repeated, stream: Stream) -> None:
    stream.features, stream.label = ("x0", "x1", "x2"), "y"
    stream.create_topics()
    stream.produce(train=synthetic(30, seed=1))
    days = [datetime.now(timezone.utc) + timedelta(days=days) for days in (0, 1)]  # the test may run at midnight
    with Client(stream.search.url) as client:
        for day in days:
            mapping = {"properties": {"topic": {"type": "text"}}}
            client.indices.create(index=f"{stream.prefix}-points-{day:%Y.%m.%d}", mappings=mapping)
    done = start(app, stream)
    assert done.code == REFUSED
    assert (
        " has field topic of type text instead of keyword, so it cannot store the documents correctly" in done.sentence
    )
    assert not stream.documents("invalid")


@pytest.mark.slow
def test_through_a_proxy_with_a_limit_and_without_automatic_creation_all_records_are_written(
    app: Repeated, stream: Stream
) -> None:
    """One record is larger than the limit of a request: it is invalid, and only the beginning of its value is kept."""
    stream.features, stream.label, stream.partitions = ("x0", "x1", "x2"), "y", 1
    stream.create_topics()
    stream.produce(train=[*synthetic(1000, seed=1), b"x" * 150_000, b"[]"])
    with Client(stream.search.url) as client, limited(stream.search.url, 100_000) as (url, refused):
        client.cluster.put_settings(persistent={"action.auto_create_index": "false"})
        try:
            done = start(app, stream, "--elasticsearch-url", url)
        finally:
            client.cluster.put_settings(persistent={"action.auto_create_index": None})
    assert done.code == 0, done.log
    assert refused
    assert stream.count("points") == 1000
    large, small = sorted(stream.documents("invalid"), key=lambda document: int(document["offset"]))
    assert large["value"] == "x" * 200
    assert large["reason"].endswith("; only the first 200 of the value's 150000 bytes are kept")
    assert small["value"] == "[]"
    assert stream.last_model()["rows_seen"] == 1000


# Lost offsets


@pytest.mark.slow
def test_records_that_were_deleted_before_they_were_read_end_the_stream_or_leave_a_document(
    app: Repeated, stream: Stream
) -> None:
    stream.features, stream.label = ("x0", "x1", "x2"), "y"
    stream.create_topics()
    stream.produce(train=synthetic(30, seed=1))
    assert start(app, stream).code == 0
    stream.produce(train=synthetic(30, seed=2))
    admin = AdminClient({"bootstrap.servers": stream.broker.bootstrap, "log_level": 0})
    (deleted,) = admin.delete_records([TopicPartition(stream.train, 1, 15)]).values()
    deleted.result()

    ending = start(app, stream)
    assert ending.code == REFUSED
    assert ending.sentence.startswith(
        "records were deleted from Kafka before they were read (by retention, or because the topic was recreated): "
    )
    assert f"{stream.train}-1 holds offsets 15 to 20, but the next offset to read is 10" in ending.sentence
    assert "another --checkpoint and --index-prefix; and give the topics a longer retention.ms" in ending.sentence
    assert "use --on-data-loss continue to skip them" in ending.sentence
    assert stream.count("points") == 30
    assert stream.documents("invalid") == []

    done = start(app, stream, "--on-data-loss", "continue")
    assert done.code == 0, done.log
    assert (
        f" ERROR 5 records were deleted from Kafka before they were read: {stream.train}-1, offsets 10 to 14"
        in done.log
    )
    assert stream.count("points") == 55
    assert stream.last_model()["rows_seen"] == 55
    (gap,) = stream.documents("invalid")
    place = {"topic": stream.train, "partition": 1, "offset": 10, "last_offset": 14, "lost": 5}
    assert {key: gap[key] for key in place} == place
    assert gap["run"] == stream.last_model()["run"]
    assert sum(document["rows"] for document in stream.documents("metrics")) == 55


@pytest.mark.slow
@pytest.mark.parametrize("records", [0, 10, 600])
def test_a_topic_that_was_recreated_ends_the_stream(app: Repeated, stream: Stream, records: int) -> None:
    """For any number of new records: if there are more than were read before, no offset is out of range."""
    stream.features, stream.label = ("x0", "x1", "x2"), "y"
    stream.create_topics()
    stream.produce(train=synthetic(300, seed=1), test=synthetic(3, seed=2))
    assert start(app, stream).code == 0
    admin = AdminClient({"bootstrap.servers": stream.broker.bootstrap, "log_level": 0})
    (deleted,) = admin.delete_topics([stream.train]).values()
    deleted.result()
    wait_until(lambda: "" if stream.train not in admin.list_topics().topics else f"{stream.train} is still there", 30)
    stream.create_topics()
    stream.produce(train=synthetic(records, seed=3))

    ending = start(app, stream)
    assert ending.code == REFUSED
    assert ending.sentence.startswith(f"topic {stream.train} was deleted and recreated since the stream began")
    assert ending.sentence.endswith("with another --checkpoint and --index-prefix")
    assert stream.count("points") == 303


def flags(settings: dict[str, str], files: dict[str, str]) -> list[str]:
    """The flags for the settings that are not empty; a name in `files` is replaced by its path."""
    return [
        part
        for name, value in settings.items()
        if value
        for part in (f"--{name.replace('_', '-')}", files.get(value, value))
    ]
