"""Each login to a real Kafka works, with the same flags for producer and app, and each wrong one gets a sentence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
import trustme
from confluent_kafka.admin import AclOperation, ScramMechanism  # type: ignore[attr-defined]

from embedded import Elasticsearch, free_port
from embedded.testing.flags import last_flags
from embedded.testing.repeated import Ending, Repeated
from embedded.testing.stream import Stream
from embedded.testing.waiting import wait_until
from tests.integration.broken_handshakes import broken_handshakes
from tests.integration.certificates import write
from tests.integration.producing import Ended, Topics
from tests.integration.secure_kafka import SecureKafka, add_user, allow
from tests.integration.token_endpoint import TokenEndpoint
from tests.slow import slow_except

CONFIG, UNAVAILABLE, REFUSED = 2, 3, 4
RECORDS = 20
KEY_PASSWORD, SCRAM_PASSWORD = 'Key"K3ySecret', "Scr4mSecret"
SECRETS = ("K3ySecret", "Scr4mSecret", "Cl1entSecret", "Pl41nSecret", "0pt1onSecret")
USERS = ("scrammer", "plainly", "learner", "mutual")
"""A user of SCRAM-SHA-256, one of PLAIN, a client of the token endpoint, and the common name of a certificate."""


@dataclass(frozen=True)
class Place:
    """The servers, and the files for settings by a word for their content."""

    broker: SecureKafka
    tokens: TokenEndpoint
    untrusted: TokenEndpoint
    files: Mapping[str, str]


@pytest.fixture(scope="module")
def place(
    secure_broker: SecureKafka,
    tokens: TokenEndpoint,
    authority: trustme.CA,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("logins")
    yesterday = datetime.now(timezone.utc) - timedelta(days=1)
    certificates = {
        "mutual": authority.issue_cert("mutual.test", common_name="mutual"),
        "stranger": authority.issue_cert("stranger.test", common_name="stranger"),
        "foreign": trustme.CA().issue_cert("mutual.test", common_name="mutual"),
        "expired": authority.issue_cert(
            "mutual.test", common_name="mutual", not_before=yesterday - timedelta(days=1), not_after=yesterday
        ),
    }
    contents = {
        "ca": authority.cert_pem.bytes(),
        "another-ca": trustme.CA().cert_pem.bytes(),
        "key-password": KEY_PASSWORD.encode(),
        "scram-password": SCRAM_PASSWORD.encode(),
        "plain-password": b"Pl41nSecret\n",
        "client-secret": b"Cl1entSecret\n",
        "wrong": b"wrong-0pt1onSecret",
        "options": b"# of a company\nclient.rack = 0pt1onSecret\n\n",
        "unknown-option": b"client.racks=0pt1onSecret",
        "wrong-option": b"socket.timeout.ms=0pt1onSecret",
    }
    contents["open.key"] = certificates["mutual"].private_key_pem.bytes()
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    files = {name: str(folder / name) for name in contents}
    for name, certificate in certificates.items():
        files |= write(certificate, folder, name, KEY_PASSWORD)
    add_user(secure_broker, "scrammer", SCRAM_PASSWORD, ScramMechanism.SCRAM_SHA_256)
    with TokenEndpoint(tokens.secrets, authority.issue_cert("localhost")) as untrusted:
        yield Place(secure_broker, tokens, untrusted, files)


Flags = dict[str, str]


def scram(place: Place) -> Flags:
    return {
        "kafka-bootstrap": place.broker.secure_bootstrap,
        "kafka-security-protocol": "SASL_SSL",
        "kafka-sasl-mechanism": "SCRAM-SHA-256",
        "kafka-user": "scrammer",
        "kafka-password-file": place.files["scram-password"],
        "kafka-ca-file": place.files["ca"],
    }


def plain(place: Place) -> Flags:
    return {
        **scram(place),
        "kafka-sasl-mechanism": "PLAIN",
        "kafka-user": "plainly",
        "kafka-password-file": place.files["plain-password"],
    }


def oauth(place: Place) -> Flags:
    return {
        "kafka-bootstrap": place.broker.secure_bootstrap,
        "kafka-security-protocol": "SASL_SSL",
        "kafka-sasl-mechanism": "OAUTHBEARER",
        "kafka-oauth-token-url": place.tokens.url,
        "kafka-oauth-client-id": "learner",
        "kafka-oauth-client-secret-file": place.files["client-secret"],
        "kafka-oauth-scope": "kafka read",
        "kafka-oauth-ca-file": place.files["ca"],
        "kafka-ca-file": place.files["ca"],
    }


def mutual_tls(place: Place) -> Flags:
    return {
        "kafka-bootstrap": place.broker.mutual_bootstrap,
        "kafka-security-protocol": "SSL",
        "kafka-certificate-file": place.files["mutual.crt"],
        "kafka-key-file": place.files["mutual.key"],
        "kafka-key-password-file": place.files["key-password"],
        "kafka-ca-file": place.files["ca"],
    }


def with_open_key(place: Place) -> Flags:
    flags = {**mutual_tls(place), "kafka-key-file": place.files["open.key"]}
    del flags["kafka-key-password-file"]
    return flags


def unencrypted(place: Place) -> Flags:
    flags = {**scram(place), "kafka-bootstrap": place.broker.unencrypted_bootstrap}
    return {**flags, "kafka-security-protocol": "SASL_PLAINTEXT", "kafka-ca-file": ""}


def ipv6(place: Place) -> Flags:
    return {"kafka-bootstrap": place.broker.ipv6_bootstrap}


def two_brokers(place: Place) -> Flags:
    """Addresses of which only the second answers."""
    return {"kafka-bootstrap": f"127.0.0.1:{free_port()},{place.broker.bootstrap}"}


def with_options(place: Place) -> Flags:
    """Free options on the command line and from a file; without the first, no process could connect."""
    return {
        **scram(place),
        "kafka-ca-file": "",
        "kafka-option": "enable.ssl.certificate.verification=false\nfetch.wait.max.ms=50",
        "kafka-options-file": place.files["options"],
    }


LOGINS: list[Callable[[Place], Flags]] = [
    scram,
    plain,
    oauth,
    mutual_tls,
    with_open_key,
    unencrypted,
    ipv6,
    two_brokers,
    with_options,
]


@pytest.mark.parametrize("login", slow_except([mutual_tls], LOGINS))
def test_producer_and_app_log_in_with_the_same_flags(
    place: Place, search: Elasticsearch, app: Repeated, tmp_path: Path, login: Callable[[Place], Flags]
) -> None:
    name = login.__name__.replace("_", "-")
    topics = Topics(place.broker, name, tmp_path)
    topics.create()
    for user in USERS:
        for operation in (AclOperation.READ, AclOperation.WRITE):
            allow(place.broker, user, [topics.train, topics.test], operation)
    granted = len(place.tokens.requests.get("learner", []))

    sent = topics.run(*words(login(place)), "--count", str(RECORDS), "--run", "r")
    assert sent.code == 0, sent.err
    read = start(app, Stream(name, place.broker, search, tmp_path, ("x1", "x2", "x3"), "y"), login(place))
    assert read.code == 0, read.log
    assert f"batch 0: {RECORDS} rows, 0 invalid" in read.log
    assert not [secret for secret in SECRETS if secret in sent.err + sent.out + read.log]
    if login is oauth:
        assert set(place.tokens.requests["learner"][granted:]) == {"kafka read"}


def test_a_login_that_breaks_off_is_tried_again(
    place: Place, search: Elasticsearch, app: Repeated, tmp_path: Path
) -> None:
    """librdkafka reports it as a refused login."""
    topics = Topics(place.broker, "broken", tmp_path)
    topics.create()
    for operation in (AclOperation.READ, AclOperation.WRITE):
        allow(place.broker, "scrammer", [topics.train, topics.test], operation)
    with broken_handshakes(place.broker.unencrypted_bootstrap) as bootstrap:
        flags = {**unencrypted(place), "kafka-bootstrap": bootstrap, "server-timeout-s": "30"}
        sent = topics.run(*words(flags), "--count", str(RECORDS), "--run", "r")
        assert sent.code == 0, sent.err
        read = start(app, Stream("broken", place.broker, search, tmp_path, ("x1", "x2", "x3"), "y"), flags)
        assert read.code == 0, read.log
    assert f"batch 0: {RECORDS} rows, 0 invalid" in read.log


def words(flags: Flags) -> list[str]:
    return [word for name, value in flags.items() if value for word in (f"--{name}", value)]


def start(app: Repeated, stream: Stream, flags: Flags) -> Ending:
    return app.start(last_flags([*stream.flags, "--available-now", "--server-timeout-s", "1", *words(flags)]))


AT = "(--kafka-bootstrap / KAFKA_BOOTSTRAP)"
Change = Callable[[Place], Flags]
WRONG: dict[str, tuple[Callable[[Place], Flags], Change, int, str, str]] = {
    "a certificate of another CA": (
        mutual_tls,
        lambda place: {
            "kafka-certificate-file": place.files["foreign.crt"],
            "kafka-key-file": place.files["foreign.key"],
        },
        CONFIG,
        "refused this client's certificate: --kafka-certificate-file / KAFKA_CERTIFICATE_FILE: {foreign.crt} must be",
        "refused this client's certificate: --kafka-certificate-file / KAFKA_CERTIFICATE_FILE: {foreign.crt} must be",
    ),
    "an expired certificate": (
        mutual_tls,
        lambda place: {
            "kafka-certificate-file": place.files["expired.crt"],
            "kafka-key-file": place.files["expired.key"],
        },
        CONFIG,
        "{expired.crt} must be signed by a CA that the brokers trust, and must not have expired",
        "{expired.crt} must be signed by a CA that the brokers trust, and must not have expired",
    ),
    "no certificate": (
        mutual_tls,
        lambda _: {"kafka-certificate-file": "", "kafka-key-file": "", "kafka-key-password-file": ""},
        CONFIG,
        "the broker requires a client certificate: set --kafka-certificate-file / KAFKA_CERTIFICATE_FILE and --kafka-",
        "the broker requires a client certificate: set --kafka-certificate-file / KAFKA_CERTIFICATE_FILE and --kafka-",
    ),
    "a wrong key password": (
        mutual_tls,
        lambda place: {"kafka-key-password-file": place.files["wrong"]},
        CONFIG,
        "--kafka-key-file / KAFKA_KEY_FILE: {mutual.key} is not the private key of --kafka-certificate-file",
        "or --kafka-key-password-file / KAFKA_KEY_PASSWORD_FILE is not its password",
    ),
    "no key password": (
        mutual_tls,
        lambda _: {"kafka-key-password-file": ""},
        CONFIG,
        "--kafka-key-file / KAFKA_KEY_FILE: {mutual.key} is not the private key of --kafka-certificate-file",
        "or --kafka-key-password-file / KAFKA_KEY_PASSWORD_FILE is not its password",
    ),
    "the key of another certificate": (
        mutual_tls,
        lambda place: {"kafka-key-file": place.files["stranger.key"]},
        CONFIG,
        "--kafka-key-file / KAFKA_KEY_FILE: {stranger.key} is not the private key of --kafka-certificate-file",
        "--kafka-key-file / KAFKA_KEY_FILE: {stranger.key} is not the private key of --kafka-certificate-file",
    ),
    "a certificate file without a certificate": (
        mutual_tls,
        lambda place: {"kafka-certificate-file": place.files["wrong"]},
        CONFIG,
        "--kafka-certificate-file / KAFKA_CERTIFICATE_FILE: {wrong} contains no readable certificate",
        "--kafka-certificate-file / KAFKA_CERTIFICATE_FILE: {wrong} contains no readable certificate",
    ),
    "a certificate without rights": (
        mutual_tls,
        lambda place: {
            "kafka-certificate-file": place.files["stranger.crt"],
            "kafka-key-file": place.files["stranger.key"],
        },
        REFUSED,
        f"{AT} does not let the user of the certificate read topic wrong-train: give the user the ACL Read on it",
        "the user needs the ACLs Describe, Read and Write on topic 'wrong-train'",
    ),
    "another CA with mutual TLS": (
        mutual_tls,
        lambda place: {"kafka-ca-file": place.files["another-ca"]},
        CONFIG,
        "the TLS handshake failed: check that --kafka-ca-file ({another-ca}) is the CA of the broker's certificate",
        "--kafka-ca-file / KAFKA_CA_FILE: the brokers' certificate is not signed by a CA in {another-ca}",
    ),
    "a wrong client secret": (
        oauth,
        lambda place: {"kafka-oauth-client-secret-file": place.files["wrong"]},
        CONFIG,
        "the token endpoint {tokens} (--kafka-oauth-token-url / KAFKA_OAUTH_TOKEN_URL) refused the login: "
        "invalid_client; check --kafka-oauth-client-id (learner), --kafka-oauth-client-secret-file",
        "refused the login: invalid_client; check --kafka-oauth-client-id (learner)",
    ),
    "another CA for the token endpoint": (
        oauth,
        lambda place: {"kafka-oauth-ca-file": place.files["another-ca"]},
        CONFIG,
        "the token endpoint {tokens} (--kafka-oauth-token-url / KAFKA_OAUTH_TOKEN_URL): the TLS handshake failed: ",
        "check that --kafka-oauth-ca-file ({another-ca}) is the CA of its certificate",
    ),
    "no CA for the token endpoint": (
        oauth,
        lambda _: {"kafka-oauth-ca-file": ""},
        CONFIG,
        ": unable to get local issuer certificate (20); check that --kafka-oauth-ca-file (not set) is the CA",
        "check that --kafka-oauth-ca-file (not set) is the CA of its certificate",
    ),
    "a token endpoint that is away": (
        oauth,
        lambda _: {"kafka-oauth-token-url": f"https://localhost:{free_port()}/token"},
        UNAVAILABLE,
        "(--kafka-oauth-token-url / KAFKA_OAUTH_TOKEN_URL) gives no token: Failed to connect to localhost",
        "(--kafka-oauth-token-url / KAFKA_OAUTH_TOKEN_URL) gives no token: Failed to connect to localhost",
    ),
    "a wrong path of the token endpoint": (
        oauth,
        lambda place: {"kafka-oauth-token-url": place.tokens.url.replace("token", "tokens")},
        UNAVAILABLE,
        "gives no token: its response is not a token",
        "gives no token: its response is not a token",
    ),
    "a token that the broker does not trust": (
        oauth,
        lambda place: {"kafka-oauth-token-url": place.untrusted.url},
        CONFIG,
        f"{AT} refused the login of client learner: check that the brokers trust the token endpoint's issuer",
        "--kafka-oauth-token-url / KAFKA_OAUTH_TOKEN_URL: the brokers refused the token of learner",
    ),
    "a client without rights": (
        oauth,
        lambda _: {"kafka-oauth-client-id": "stranger"},
        REFUSED,
        "does not let client stranger read topic wrong-train: give the user the ACL Read on it",
        "the user needs the ACLs Describe, Read and Write on topic 'wrong-train'",
    ),
    "an unknown option": (
        scram,
        lambda place: {"kafka-options-file": place.files["unknown-option"]},
        CONFIG,
        'No such configuration property: "client.racks"',
        'No such configuration property: "client.racks"',
    ),
    "an option with a wrong value": (
        scram,
        lambda place: {"kafka-options-file": place.files["wrong-option"]},
        CONFIG,
        'Configuration property "socket.timeout.ms" value 0 is outside allowed range',
        'Configuration property "socket.timeout.ms" value 0 is outside allowed range',
    ),
    "an option whose value librdkafka repeats": (
        scram,
        lambda _: {"kafka-option": "ssl.endpoint.identification.algorithm=0pt1onSecret"},
        CONFIG,
        "Invalid value for configuration property",
        "Invalid value for configuration property",
    ),
}
QUICK = ["an expired certificate", "a wrong client secret", "a token endpoint that is away", "an unknown option"]


@pytest.fixture(scope="module")
def sources(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Topics:
    """Topics on which the right users have all rights."""
    topics = Topics(place.broker, "wrong", tmp_path_factory.mktemp("wrong"))
    topics.create()
    for user in USERS:
        for operation in (AclOperation.READ, AclOperation.WRITE):
            allow(place.broker, user, [topics.train, topics.test], operation)
    return topics


@pytest.mark.parametrize("case", slow_except(QUICK, WRONG))
def test_a_wrong_login_is_told_in_one_sentence_by_producer_and_app(
    place: Place, search: Elasticsearch, app: Repeated, sources: Topics, tmp_path: Path, case: str
) -> None:
    login, change, code, text_of_app, text_of_producer = WRONG[case]
    flags = {**login(place), **change(place)}
    words_for = {**place.files, "tokens": place.tokens.url}

    read = start(app, Stream("wrong", place.broker, search, tmp_path, ("x1", "x2", "x3"), "y"), flags)
    assert read.code == code, read.log
    assert filled(text_of_app, words_for) in read.sentence
    sent: Ended = sources.run(*words(flags), "--count", "5", "--server-timeout-s", "3")
    assert sent.code == code, sent.err
    (sentence,) = sent.errors
    assert filled(text_of_producer, words_for) in sentence
    assert not [secret for secret in SECRETS if secret in read.log + sent.err + sent.out]


def filled(text: str, words: Mapping[str, str]) -> str:
    """Return `text` with words in braces replaced."""
    for name, value in words.items():
        text = text.replace("{" + name + "}", value)
    return text


@pytest.mark.slow
def test_a_token_endpoint_that_comes_back_is_waited_for(
    place: Place, search: Elasticsearch, authority: trustme.CA, tmp_path: Path
) -> None:
    """librdkafka requests a token again 10 s after a failure."""
    stream = Stream("late", place.broker, search, tmp_path, ("x1", "x2", "x3"), "y")
    stream.create_topics()
    allow(place.broker, "learner", [stream.train, stream.test])
    late = TokenEndpoint(place.tokens.secrets, authority.issue_cert("localhost"), key=place.tokens.key)
    flags = {**oauth(place), "kafka-oauth-token-url": late.url}
    with stream.app("--available-now", *words(flags)) as running:
        running.wait_for("gives no token: ")
        with late:
            assert running.wait(120) == 0, running.log
            wait_until(lambda: "" if late.requests.get("learner") else "no token was requested", 1)
