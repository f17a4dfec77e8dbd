"""A bearer token and a client certificate for Elasticsearch, for the app and the dashboards' loader.

Security is not part of the embedded Elasticsearch: a proxy in front of it checks the token and the certificate.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import trustme

from embedded import Elasticsearch
from embedded.testing.flags import last_flags
from embedded.testing.records import synthetic
from embedded.testing.repeated import Repeated
from embedded.testing.stream import Stream
from tests.integration.certificates import write
from tests.integration.kibana_double import kibana_double
from tests.integration.secure_search import Accounts, SecureSearch, anything
from tests.slow import slow_except

CONFIG, EITHER = [2], [2, 3]
TOKEN, KEY_PASSWORD, PASSWORD = "AAEAAWVsYXN0aWM-T0kenSecret", "K3ySecret", "Se4rchSecret"
SECRETS = ("T0kenSecret", "K3ySecret", "Se4rchSecret", "0therSecret")


@dataclass(frozen=True)
class Place:
    """An Elasticsearch that requires a client certificate, and the files for settings by a word for their content."""

    search: SecureSearch
    files: dict[str, str]


@pytest.fixture(scope="module")
def place(search: Elasticsearch, authority: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("search")
    contents = {
        "ca": authority.cert_pem.bytes(),
        "token": f"{TOKEN}\n".encode(),
        "key-password": f"{KEY_PASSWORD}\n".encode(),
        "password": PASSWORD.encode(),
        "wrong": b"0therSecret",
        "odd": "0therSecret…".encode(),
    }
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    files = {name: str(folder / name) for name in contents}
    files |= write(authority.issue_cert("app.test", common_name="app"), folder, "app", KEY_PASSWORD)
    files |= write(trustme.CA().issue_cert("app.test", common_name="app"), folder, "foreign", KEY_PASSWORD)
    accounts = Accounts({"elf": PASSWORD}, {}, {"elf": anything, "service": anything}, tokens={"service": TOKEN})
    with SecureSearch(search.url, authority.issue_cert("127.0.0.1"), accounts, authority) as proxy:
        yield Place(proxy, files)


def flags(place: Place, **changed: str) -> list[str]:
    """The flags of a login with token and certificate, with other files, or without those whose value is empty."""
    given = {
        "token-file": "token",
        "certificate-file": "app.crt",
        "key-file": "app.key",
        "key-password-file": "key-password",
        "ca-file": "ca",
    }
    given |= {name.replace("_", "-"): value for name, value in changed.items()}
    words = ["--elasticsearch-url", place.search.url]
    for name, value in given.items():
        if value:
            words += [f"--elasticsearch-{name}", place.files.get(value, value)]
    return words


@pytest.mark.parametrize(
    "login", [pytest.param({}, marks=pytest.mark.slow), {"token_file": "", "user": "elf", "password_file": "password"}]
)
def test_app_and_loader_log_in_with_a_certificate_and_a_token_or_a_password(
    place: Place, stream: Stream, login: dict[str, str]
) -> None:
    stream.features, stream.label = ("x0", "x1", "x2"), "y"
    stream.create_topics()
    stream.produce(train=synthetic(30, seed=1))
    user = "elf" if login else "service"
    before = place.search.requests.get(user, 0)
    done = stream.run(*flags(place, **login))
    assert done.returncode == 0, done.stderr
    assert stream.count("points") == 30
    asked = place.search.requests[user]
    assert asked > before
    loaded = load(stream.prefix, *flags(place, **login))
    assert loaded.returncode == 0, loaded.stderr
    assert place.search.requests[user] > asked
    assert not [secret for secret in SECRETS if secret in done.stderr + loaded.stderr]


def load(prefix: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Load the dashboards into a double of Kibana that wants a token."""
    with kibana_double(token=TOKEN) as kibana:
        given = ["--kibana-url", kibana.url, "--index-prefix", prefix, "--server-timeout-s", "1"]
        token = [words[i + 1] for i, word in enumerate(words) if word == "--elasticsearch-token-file"]
        file = token[0] if token else str(Path(words[-1]).parent / "token")
        command = [
            sys.executable,
            "-m",
            "dashboards",
            "load",
            *last_flags([*given, *words, "--kibana-token-file", file]),
        ]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


WRONG: dict[str, tuple[dict[str, str], list[int], str]] = {
    "a wrong token": ({"token_file": "wrong"}, CONFIG, "refused the login: check --elasticsearch-user"),
    "no token": ({"token_file": ""}, CONFIG, "--elasticsearch-api-key-file, or --elasticsearch-token-file"),
    "a token that is not ASCII": (
        {"token_file": "odd"},
        CONFIG,
        "--elasticsearch-token-file / ELASTICSEARCH_TOKEN_FILE: {odd} is not an API key or token: it contains",
    ),
    "no certificate": (  # the server's alert may arrive after the end of the connection, which may pass
        {"certificate_file": "", "key_file": "", "key_password_file": ""},
        EITHER,
        " a client certificate",
    ),
    "a certificate of another CA": (
        {"certificate_file": "foreign.crt", "key_file": "foreign.key"},
        CONFIG,
        "refused the client certificate {foreign.crt}: --elasticsearch-certificate-file must be signed by a CA",
    ),
    "a wrong key password": (
        {"key_password_file": "wrong"},
        CONFIG,
        "--elasticsearch-certificate-file / ELASTICSEARCH_CERTIFICATE_FILE: {app.crt} is not a certificate in PEM",
    ),
    "no key password": (
        {"key_password_file": ""},
        CONFIG,
        "{app.crt} is not a certificate in PEM format with the private key {app.key} (--elasticsearch-key-file), or",
    ),
}


@pytest.fixture(scope="module")
def topics(broker: object, search: Elasticsearch, tmp_path_factory: pytest.TempPathFactory) -> Stream:
    stream = Stream("search-logins", broker, search, tmp_path_factory.mktemp("topics"), ("x0", "x1", "x2"), "y")  # type: ignore[arg-type]
    stream.create_topics()
    return stream


@pytest.mark.parametrize("case", slow_except(["no certificate", "a wrong token"], WRONG))
def test_a_wrong_login_is_told_in_one_sentence(place: Place, app: Repeated, topics: Stream, case: str) -> None:
    changed, codes, text = WRONG[case]
    for name, value in place.files.items():
        text = text.replace("{" + name + "}", value)
    words = [*topics.flags, "--available-now", "--server-timeout-s", "1", *flags(place, **changed)]
    done = app.start(last_flags(words))
    assert done.code in codes, done.log
    assert text in done.sentence
    assert not [secret for secret in SECRETS if secret in done.log]
