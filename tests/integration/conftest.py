"""Real servers, started once per session; each test has its own topics, indices and checkpoint."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from embedded import Elasticsearch, Kafka
from embedded.testing.registry import Registry
from embedded.testing.repeated import Repeated, repeated
from embedded.testing.stream import Stream
from tests.integration.secure_kafka import SecureKafka
from tests.integration.token_endpoint import TokenEndpoint

CLIENTS = {"learner": "Cl1entSecret", "stranger": "Cl1entSecret"}
"""Secrets of the clients of `tokens`."""
PLAIN_USERS = {"plainly": "Pl41nSecret"}
"""Passwords of the users of PLAIN at `secure_broker`."""


@pytest.fixture(scope="session")
def broker() -> Iterator[Kafka]:
    with Kafka() as kafka:
        yield kafka


@pytest.fixture(scope="session")
def search() -> Iterator[Elasticsearch]:
    with Elasticsearch() as elasticsearch:
        yield elasticsearch


@pytest.fixture(scope="session")
def registry() -> Iterator[Registry]:
    with Registry() as apicurio:
        yield apicurio


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    """The CA that signs the certificates of servers with TLS."""
    return trustme.CA()


@pytest.fixture(scope="session")
def tokens(authority: trustme.CA) -> Iterator[TokenEndpoint]:
    """The token endpoint, with https, whose tokens `secure_broker` accepts."""
    with TokenEndpoint(CLIENTS, authority.issue_cert("localhost")) as endpoint:
        yield endpoint


@pytest.fixture(scope="session")
def secure_broker(authority: trustme.CA, tokens: TokenEndpoint) -> Iterator[SecureKafka]:
    """A Kafka with TLS, users and access rights, and listeners for each kind of login."""
    with (
        TokenEndpoint({}, key=tokens.key) as keys,  # with http, so that the broker needs no CA
        SecureKafka(authority, keys.keys_url, PLAIN_USERS) as kafka,
    ):
        yield kafka


@pytest.fixture(scope="session")
def app(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repeated]:
    """A process in which tests start the app repeatedly, while Java is started only once."""
    with repeated(tmp_path_factory.mktemp("app") / "app.log") as process:
        yield process


@pytest.fixture
def stream(
    request: pytest.FixtureRequest, broker: Kafka, search: Elasticsearch, app: Repeated, tmp_path: Path
) -> Stream:
    """A stream named after the test; its `run` uses the process that the session's tests share."""
    name = re.sub("[^a-z0-9]+", "-", request.node.name.lower()).strip("-")
    return Stream(name, broker, search, tmp_path, repeated=app)
