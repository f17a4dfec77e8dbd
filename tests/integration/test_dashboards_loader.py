"""`python -m dashboards load` against a double of Kibana and a real Elasticsearch."""

from __future__ import annotations

import json
import re
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme
from elasticsearch import Elasticsearch as Client

from dashboards.dashboard import ndjson, saved_objects
from dashboards.panels import Names
from dashboards.templates import templates
from embedded import Elasticsearch, free_port
from embedded.testing.flags import last_flags
from tests.integration.kibana_double import Kibana, kibana_double
from tests.integration.secure_search import Accounts, SecureSearch

Load = Callable[..., subprocess.CompletedProcess[str]]

OBJECTS = len(saved_objects(Names()))


@pytest.fixture
def prefix(request: pytest.FixtureRequest) -> str:
    return re.sub("[^a-z0-9]+", "-", request.node.name.lower()).strip("-")


@pytest.fixture
def load(search: Elasticsearch, prefix: str) -> Load:
    def run(kibana: Kibana, *flags: str) -> subprocess.CompletedProcess[str]:
        given = ["--kibana-url", kibana.url, "--index-prefix", prefix, "--server-timeout-s", "5"]
        if "--elasticsearch-url" not in flags:
            given += ["--elasticsearch-url", search.url]
        return subprocess.run(
            [sys.executable, "-m", "dashboards", "load", *last_flags([*given, *flags])],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


def check(done: subprocess.CompletedProcess[str], code: int, *texts: str) -> None:
    """Check that the program ended with this exit code and wrote all these texts, without a traceback."""
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    for text in texts:
        assert text in done.stderr


def test_installs_templates_and_dashboards_and_again_changes_nothing(
    load: Load, search: Elasticsearch, prefix: str
) -> None:
    with kibana_double(starting=2) as kibana:
        first = load(kibana, "--features", "a,b", "--label", "c")
        check(first, 0, "is not ready (HTTP 503)", f"index template {prefix}-points", "the dashboard is at")
        before = dict(kibana.objects)
        again = load(kibana, "--features", "a,b", "--label", "c")
        check(again, 0, f"imported {OBJECTS} objects")
    assert "installed index template" not in again.stderr
    assert kibana.objects == before
    assert len(before) == OBJECTS
    with Client(search.url) as client:
        found = client.indices.get_index_template(name=f"{prefix}-*")["index_templates"]
    assert {saved["name"] for saved in found} == templates(Names(("a", "b"), "c", prefix)).keys()


def test_before_the_first_data_kibana_finds_every_field_that_a_panel_reads(
    load: Load, search: Elasticsearch, prefix: str
) -> None:
    """Kibana asks for the fields of indices, with this request; templates alone would leave red errors."""
    with kibana_double() as kibana:
        check(load(kibana), 0, f"created index {prefix}-points-", f"created index {prefix}-invalid-")
        again = load(kibana)
        check(again, 0)
    assert "created index" not in again.stderr
    with Client(search.url) as client:
        for saved in saved_objects(Names(prefix=prefix)):
            if saved["type"] == "lens":
                (view,) = saved["references"]
                (layer,) = saved["attributes"]["state"]["datasourceStates"]["formBased"]["layers"].values()
                read = {column.get("sourceField", "___records___") for column in layer["columns"].values()}
                known = client.field_caps(index=f"{view['id']}-*", fields="*")["fields"]
                assert read - {"___records___"} <= known.keys(), saved["id"]
        assert client.count(index=f"{prefix}-*")["count"] == 0


def test_an_index_that_is_there_is_left(load: Load, search: Elasticsearch, prefix: str) -> None:
    """The streaming regression's own, of any day."""
    with Client(search.url) as client, kibana_double() as kibana:
        for name, template in templates(Names(prefix=prefix)).items():
            client.indices.put_index_template(name=name, **template)
        for kind in ("points", "metrics", "models"):
            client.indices.create(index=f"{prefix}-{kind}-2020.01.01")
        check(load(kibana), 0, f"created index {prefix}-invalid-")
        found = client.indices.get(index=f"{prefix}-*").keys()
        assert sorted(name for name in found if "invalid" not in name) == [
            f"{prefix}-{kind}-2020.01.01" for kind in ("metrics", "models", "points")
        ]


def test_a_user_who_may_not_create_indices_is_told_what_follows(
    load: Load, search: Elasticsearch, authority: trustme.CA, tmp_path: Path
) -> None:
    def allowed(method: str, path: str) -> bool:
        return method != "PUT" or path.startswith("/_index_template/")

    ca, password = tmp_path / "ca.pem", tmp_path / "password"
    authority.cert_pem.write_to_path(str(ca))
    password.write_text("S3cret")
    accounts = Accounts({"loader": "S3cret"}, {}, {"loader": allowed})
    flags = ["--elasticsearch-user", "loader", "--elasticsearch-password-file", str(password)]
    with SecureSearch(search.url, authority.issue_cert("127.0.0.1"), accounts) as proxy, kibana_double() as kibana:
        flags += ["--elasticsearch-url", proxy.url, "--elasticsearch-ca-file", str(ca)]
        done = load(kibana, *flags)
    check(done, 0, "this user may not create", "grant read and create_index", f"imported {OBJECTS} objects")


def test_template_of_other_features_is_left_and_named(load: Load, prefix: str) -> None:
    with kibana_double() as kibana:
        check(load(kibana, "--features", "a"), 0)
        check(load(kibana, "--features", "a,b"), 0, f"{prefix}-points exists, but lacks fields of --features a, b")


def test_dry_run_changes_nothing(load: Load, search: Elasticsearch, prefix: str) -> None:
    with kibana_double() as kibana:
        template, index = f"would install index template {prefix}-points", f"would create index {prefix}-models-"
        check(load(kibana, "--dry-run"), 0, template, index, "would import dashboard", "nothing was changed")
        assert kibana.requests == ["GET /api/status"]
    with Client(search.url) as client:
        assert not client.indices.exists_index_template(name=f"{prefix}-*")
        assert not client.indices.get(index=f"{prefix}-*")


def test_second_space_gets_ids_of_its_own_and_the_right_address(load: Load, prefix: str) -> None:
    with kibana_double(spaces=("default", "team")) as kibana:
        check(load(kibana), 0, f"{kibana.url}/app/dashboards#/view/{prefix}-streaming-ml")
        for _ in "again":
            done = load(kibana, "--kibana-space", "team")
            check(done, 0, f"{kibana.url}/s/team/app/dashboards#/view/team~{prefix}-streaming-ml")
        assert {space for space, _, _ in kibana.objects} == {"default", "team"}
        assert len(kibana.objects) == 2 * OBJECTS
        check(load(kibana, "--kibana-space", "teem"), 2, "there is no such space", "--kibana-space / KIBANA_SPACE")


def test_address_is_the_one_that_kibana_gives(load: Load, tmp_path: Path) -> None:
    """A file has the ids of the default space, so in a second space Kibana gives its objects other ids."""
    file = tmp_path / "dashboards.ndjson"
    file.write_text(ndjson(Names(prefix="other")))
    flags = ["--dashboards-file", str(file)]
    with kibana_double(spaces=("default", "team")) as kibana:
        check(load(kibana, *flags), 0, f"{kibana.url}/app/dashboards#/view/other-streaming-ml")
        done = load(kibana, *flags, "--kibana-space", "team")
        check(done, 0, f"{kibana.url}/s/team/app/dashboards#/view/team-other-streaming-ml")


@pytest.mark.parametrize("how", ["password", "key"])
def test_login_comes_from_files_and_is_never_shown(load: Load, tmp_path: Path, how: str) -> None:
    secret = tmp_path / "secret"
    flags = ["--kibana-user", "me", "--kibana-password-file", str(secret)]
    if how == "key":
        flags = ["--kibana-api-key-file", str(secret)]
    secret.write_text("s3cret\n")
    with kibana_double(login="me:s3cret" if how == "password" else "s3cret") as kibana:
        check(load(kibana, *flags), 0)
        secret.write_text("wr0ng")
        done = load(kibana, *flags)
        check(done, 2, "refused the login", "--kibana-password-file")
        check(load(kibana), 2, "refused the login")
    assert "wr0ng" not in done.stderr


def test_missing_right_is_named(load: Load) -> None:
    with kibana_double(forbidden=True) as kibana:
        check(load(kibana), 4, "Saved Objects Management", "Unable to bulk_create dashboard")


def test_kibana_that_is_too_old_is_named(load: Load) -> None:
    with kibana_double(version="8.7.0", newest=(8, 0, 0)) as kibana:
        check(load(kibana), 4, "version 8.7.0", "too old", "which need 8.12")
        assert not kibana.objects


def test_every_import_error_is_listed_though_kibana_answers_200(load: Load, tmp_path: Path) -> None:
    file = tmp_path / "broken.ndjson"
    lines = [{**saved, "references": []} for saved in saved_objects(Names())]
    lines[-1]["references"] = [{"type": "lens", "id": "gone", "name": "a"}, {"type": "lens", "id": "lost", "name": "b"}]
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    errors = [
        {"id": "a", "type": "lens", "error": {"type": "conflict"}},
        {
            "id": "b",
            "type": "search",
            "error": {"type": "unknown", "message": "is wrong", "statusCode": 400},
        },
    ]
    with kibana_double(errors=errors) as kibana:
        done = load(kibana, "--dashboards-file", str(file))
        texts = "lens a: conflict", "search b: unknown; is wrong; HTTP 400", "lens gone, lens lost"
        check(done, 4, "did not import all objects", *texts)


@pytest.mark.parametrize("answer", [(409, {"message": "version conflict"}), (400, "no JSON"), (200, {}), (200, [1])])
def test_other_answers_are_shown(load: Load, answer: tuple[int, object]) -> None:
    with kibana_double(fails=[answer]) as kibana:
        done = load(kibana)
    check(done, 4, "Kibana at")
    assert re.search(r"version conflict|no JSON|\{\}|\[1\]", done.stderr)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "is empty"),
        (b"{}\n", "line 1 lacks type"),
        (b'{"type":"lens","id":"a","attributes":{}}\n<html>', "line 2 is not JSON"),
        (b"\xff\xfe", "not valid UTF-8 text"),
        (b'{"type":"lens","id":"a","attributes":[]}\n', "line 1 lacks type"),
    ],
    ids=["empty", "other", "html", "binary", "attributes"],
)
def test_file_that_is_no_ndjson_is_refused_before_kibana_is_asked(
    load: Load, tmp_path: Path, content: bytes, text: str
) -> None:
    file = tmp_path / "file.ndjson"
    file.write_bytes(content)
    with kibana_double() as kibana:
        check(load(kibana, "--dashboards-file", str(file)), 2, str(file), text)
        assert kibana.requests == []


def test_file_that_kibana_exported_is_imported(load: Load, tmp_path: Path) -> None:
    """Kibana appends a summary, and does not escape the line separator U+2028."""
    file = tmp_path / "export.ndjson"
    saved = {**saved_objects(Names())[0], "references": []}
    saved["attributes"]["name"] = "a\u2028b"
    file.write_text(json.dumps(saved, ensure_ascii=False) + "\n\n" + json.dumps({"exportedCount": 1}) + "\n")
    with kibana_double() as kibana:
        check(load(kibana, "--dashboards-file", str(file), "--dry-run"), 0, "would import index-pattern spark-points")
        check(load(kibana, "--dashboards-file", str(file)), 0, "imported 1 objects")


@pytest.mark.parametrize("secret", ["päß", "pa€s"])
def test_password_of_any_characters_logs_in(load: Load, tmp_path: Path, secret: str) -> None:
    file = tmp_path / "secret"
    file.write_text(secret, encoding="utf-8")
    with kibana_double(login=f"me:{secret}") as kibana:
        check(load(kibana, "--kibana-user", "me", "--kibana-password-file", str(file)), 0)
        check(load(kibana, "--kibana-api-key-file", str(file)), 2, "is not an API key")


@pytest.mark.parametrize("fails", [["drop"], ["hang"], [(503, "busy"), (429, "busy"), "drop"]])
def test_dying_and_slow_servers_are_tried_again(load: Load, fails: list[Any]) -> None:
    with kibana_double(fails=fails) as kibana:
        check(load(kibana, "--request-timeout-s", "1", "--server-timeout-s", "30"), 0, f"imported {OBJECTS} objects")


def test_servers_that_stay_away_are_named_after_the_time_is_over(load: Load) -> None:
    away = f"http://127.0.0.1:{free_port()}"
    check(load(Kibana(url=away), "--server-timeout-s", "1"), 3, f"Kibana at {away}", "cannot be reached", "waited 1 s")
    with kibana_double() as kibana:
        done = load(kibana, "--elasticsearch-url", away, "--server-timeout-s", "1")
        check(done, 3, f"Elasticsearch at {away}", "cannot be reached", "waited 1 s")
        assert not kibana.objects


def test_what_is_no_kibana_is_told_so(load: Load, search: Elasticsearch) -> None:
    check(load(Kibana(url=search.url)), 2, "is not Kibana")


def test_kibanas_certificate_is_checked_against_its_own_ca(load: Load, tmp_path: Path) -> None:
    ours, other = trustme.CA(), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.issue_cert("localhost").configure_cert(context)
    for ca, name in ((ours, "ours.pem"), (other, "other.pem")):
        ca.cert_pem.write_to_path(str(tmp_path / name))
    with kibana_double() as kibana:  # http, not https
        kibana.url = kibana.url.replace("http:", "https:")
        check(load(kibana, "--server-timeout-s", "1"), 3, "failed in the TLS handshake", "waited 1 s")
    with kibana_double(context) as kibana:
        check(load(kibana, "--kibana-ca-file", str(tmp_path / "ours.pem")), 0)
        check(
            load(kibana, "--kibana-ca-file", str(tmp_path / "other.pem")),
            2,
            "is not signed by a CA in",
            "--kibana-ca-file",
        )
