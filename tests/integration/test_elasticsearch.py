"""Writing to a real Elasticsearch, 9 and 8, that has a fault or that users have configured differently."""

from __future__ import annotations

import json
import logging
import re
import threading
import uuid
import warnings
import zipfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import date, timedelta
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
from elasticsearch import Elasticsearch as Client
from elasticsearch import ElasticsearchWarning

from dashboards.panels import Names
from embedded import Elasticsearch, Kafka, jars
from embedded.testing.records import synthetic
from embedded.testing.stream import Stream
from streaming_regression import documents, schema
from streaming_regression.elasticsearch import bulk, connection, faults
from streaming_regression.elasticsearch.claim import claim
from streaming_regression.elasticsearch.connection import Connection
from streaming_regression.elasticsearch.indices import Indices
from streaming_regression.errors import Refused, ServerUnavailable
from streaming_regression.records import Fields, Invalid
from tests.integration.limited_search import answering, limited
from tests.integration.served_page import served

DAY = date(2026, 11, 28)
GOOD = range(50)


@pytest.fixture(scope="module")
def search8() -> Iterator[Elasticsearch]:
    with Elasticsearch(heap="512m", version="8.19.21") as elasticsearch:
        yield elasticsearch


@dataclass
class Target:
    """A test's prefix on one of the servers."""

    client: Client
    connection: Connection
    indices: Indices

    @property
    def prefix(self) -> str:
        return self.indices.prefix

    @property
    def points(self) -> str:
        return schema.index_name(self.prefix, "points", DAY)

    def write(self, lines: list[str], url: str = "") -> list[bulk.Refusal]:
        place = replace(self.connection, urls=(url,)) if url else self.connection
        with place.open() as client:
            return bulk.write(place, client, lines, self.indices, self.points)

    def written(self) -> set[int]:
        self.client.indices.refresh(index=self.points)
        hits = self.client.search(index=self.points, size=10_000, source_includes=["offset"])["hits"]["hits"]
        return {hit["_source"]["offset"] for hit in hits}


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Elasticsearch:
    """The default server, or each of `on_both`."""
    found: Elasticsearch = request.getfixturevalue(getattr(request, "param", "search"))
    return found


on_both = pytest.mark.parametrize("server", ["search", "search8"], indirect=True)


@pytest.fixture
def target(server: Elasticsearch) -> Iterator[Target]:
    """A prefix with its templates and the day's index of points; the connection waits for up to 2 s."""
    with Client(server.url, request_timeout=60) as client:
        place = Connection((server.url,), timeout_s=2.0)
        found = Target(client, place, Indices(f"t-{uuid.uuid4().hex[:8]}", Fields(("a", "b.c"), "y")))
        found.indices.install(place, client, DAY)
        found.indices.create(place, client, found.points)
        yield found
        # Except a data stream: the embedded server lacks the module to delete it.
        for name in client.indices.get(index=f"{found.prefix}*", expand_wildcards="all", features="aliases"):
            if not name.startswith(".ds-"):
                client.indices.delete(index=name)
        for name in list(client.indices.get_index_template(name=f"*{found.prefix}*")["index_templates"]):
            if "data_stream" not in name["index_template"]:
                client.indices.delete_index_template(name=name["name"])


def point(offset: int, **changed: object) -> str:
    document = {"run": "r", "@timestamp": "2026-11-28T00:00:00Z", "topic": "t", "partition": 0, "offset": offset}
    document |= {"x": {"a": 1.5, "b.c": -2}, "y": 4, "pred": 3, "squared_error": 1, "batch": 0} | changed
    return f'{{"index":{{"_id":"t-0-{offset}"}}}}\n{json.dumps(document)}\n'


def points() -> list[str]:
    return [point(offset) for offset in GOOD]


@on_both
def test_a_document_at_fault_is_given_back_and_its_neighbours_are_written(target: Target) -> None:
    lines = points()
    lines[7] = point(7, pred="text")
    lines[9] = point(9, more=1)
    refusals = target.write(lines)
    assert [refusal.position for refusal in refusals] == [7, 9]
    assert "document_parsing_exception" in refusals[0].reason
    assert "strict_dynamic_mapping_exception" in refusals[1].reason
    assert target.written() == {*GOOD} - {7, 9}


def closed(target: Target) -> Callable[[], object]:
    target.client.indices.close(index=target.points)
    return lambda: target.client.indices.open(index=target.points)


def read_only(target: Target) -> Callable[[], object]:
    target.client.indices.put_settings(index=target.points, settings={"index.blocks.write": True})
    return lambda: target.client.indices.put_settings(index=target.points, settings={"index.blocks.write": False})


def at_the_limit_of_shards(target: Target) -> Callable[[], object]:
    target.client.indices.delete(index=target.points)
    target.client.cluster.put_settings(persistent={"cluster.max_shards_per_node": 1})
    return lambda: target.client.cluster.put_settings(persistent={"cluster.max_shards_per_node": None})


def at_the_limit_with_explicit_creation(target: Target) -> Callable[[], object]:
    undo = at_the_limit_of_shards(target)
    target.client.cluster.put_settings(persistent={"action.auto_create_index": "false"})
    return lambda: (undo(), target.client.cluster.put_settings(persistent={"action.auto_create_index": None}))


def with_a_pipeline_that_is_gone(target: Target) -> Callable[[], object]:
    target.client.indices.put_settings(index=target.points, settings={"index.default_pipeline": "gone"})
    return lambda: target.client.indices.put_settings(index=target.points, settings={"index.default_pipeline": None})


PASSING: dict[Callable[[Target], Callable[[], object]], str] = {
    closed: "index_closed_exception: closed",
    read_only: "cluster_block_exception: .*index write",
    at_the_limit_of_shards: "validation_exception: .*maximum .*shards open",
    at_the_limit_with_explicit_creation: "maximum .*shards open",
    with_a_pipeline_that_is_gone: r"illegal_argument_exception: pipeline with id \[gone\] does not exist",
}


@on_both
@pytest.mark.parametrize("spoil", PASSING, ids=lambda spoil: spoil.__name__)
def test_a_fault_that_may_pass_is_waited_for_and_costs_no_document(
    target: Target, spoil: Callable[[Target], Callable[[], object]], caplog: pytest.LogCaptureFixture
) -> None:
    """First the fault lasts longer than the program waits; then it passes while the program waits."""
    mend = spoil(target)
    try:
        with pytest.raises(ServerUnavailable, match=PASSING[spoil]):
            target.write(points())
        patient = replace(target, connection=replace(target.connection, timeout_s=60.0))
        with ThreadPoolExecutor(1) as pool:
            writing = pool.submit(patient.write, points())
            told = threading.Event()
            handler = logging.Handler()
            handler.emit = lambda record: told.set() if re.search(PASSING[spoil], record.getMessage()) else None  # type: ignore[method-assign]
            logging.getLogger("streaming_regression").addHandler(handler)
            try:
                assert told.wait(60), f"no WARNING with Elasticsearch's words: {caplog.messages}"
            finally:
                logging.getLogger("streaming_regression").removeHandler(handler)
                mend()
            assert writing.result() == []
    finally:
        mend()
    assert target.written() == {*GOOD}
    target.indices.check(target.connection, target.client, [target.points])


@on_both
def test_an_ingest_pipeline_makes_no_record_invalid(target: Target) -> None:
    """The app cannot know whether pipeline or document is at fault. Without the pipeline it is the document."""
    target.client.ingest.put_pipeline(id=f"{target.prefix}-ops", processors=[])
    target.client.indices.put_settings(index=target.points, settings={"index.final_pipeline": f"{target.prefix}-ops"})
    spoilt = points()
    spoilt[1] = point(1, pred="text")
    with pytest.raises(ServerUnavailable, match=rf"the ingest pipeline {target.prefix}-ops may have spoilt documents"):
        target.write(spoilt)
    assert target.written() == {*GOOD} - {1}
    target.client.indices.put_settings(index=target.points, settings={"index.final_pipeline": None})
    assert [refusal.position for refusal in target.write(spoilt)] == [1]
    assert target.write(points()) == []
    assert target.written() == {*GOOD}


@on_both
def test_a_template_that_makes_all_indices_data_streams_is_refused_by_name(target: Target) -> None:
    prefix = f"{target.prefix}-other"
    target.client.indices.put_index_template(
        name=f"ops-{prefix}", index_patterns=[f"{prefix}-*"], priority=1001, data_stream={}
    )
    sentence = (
        rf"index template ops-{prefix} \(priority 1001\) would make {prefix}-run a data stream.*: exclude {prefix}-\*"
    )
    with pytest.raises(Refused, match=sentence):
        claim(target.connection, target.client, prefix, "r", replace=False)


def an_alias_without_a_write_index(target: Target) -> str:
    target.client.indices.delete(index=target.points)
    for name in ("one", "two"):
        target.client.indices.create(index=f"{target.prefix}-{name}", aliases={target.points: {}})
    return "no write index is defined for alias"


def a_data_stream(target: Target) -> str:
    target.client.indices.delete(index=target.points)
    pattern = f"{target.prefix}-points-*"
    target.client.indices.put_index_template(
        name=f"ops-{target.prefix}", index_patterns=[pattern], priority=1000, data_stream={}
    )
    return "data streams"


def another_mapping(target: Target) -> str:
    target.client.indices.delete(index=target.points)
    integer = {"type": "object", "subobjects": False, "properties": {"a": {"type": "integer"}}}
    target.client.indices.create(index=target.points, mappings={"properties": {"x": integer}})
    return "field x.a of type integer instead of double"


@on_both
@pytest.mark.parametrize(
    "spoil", [an_alias_without_a_write_index, a_data_stream, another_mapping], ids=lambda spoil: spoil.__name__
)
def test_permanent_fault_ends_the_program_at_once(target: Target, spoil: Callable[[Target], str]) -> None:
    """The fault comes when a micro-batch writes, or when the day's indices are created."""
    words = spoil(target)
    lines = [point(0, x={"a": 1e30, "b.c": 1}), *points()]
    with pytest.raises(Refused, match=re.escape(words)):
        target.write(lines)
    with pytest.raises(Refused, match=r"--index-prefix|creates data streams only"):
        target.indices.prepare(target.connection, target.client, DAY)


def test_an_index_that_is_deleted_meanwhile_is_made_again_where_none_is_made_by_itself(target: Target) -> None:
    target.client.cluster.put_settings(persistent={"action.auto_create_index": "false"})
    try:
        tomorrow = DAY + timedelta(days=1)
        target.indices.prepare(target.connection, target.client, tomorrow)
        target.client.indices.delete(index=target.points)
        assert target.write(points()) == []
    finally:
        target.client.cluster.put_settings(persistent={"action.auto_create_index": None})
    assert target.written() == {*GOOD}
    target.indices.check(target.connection, target.client, [target.points])
    made = target.client.indices.get(index=f"{target.prefix}-*")
    assert len([name for name in made if name.endswith(f"{tomorrow:%Y.%m.%d}")]) == 4


def test_an_index_of_an_older_version_gets_the_fields_that_it_lacks(target: Target) -> None:
    target.client.indices.delete(index=target.points)
    mapping = {**target.indices.mapping(target.points)}
    mapping["properties"] = {name: field for name, field in mapping["properties"].items() if name != "squared_error"}
    target.client.indices.create(index=target.points, mappings=mapping)
    target.indices.prepare(target.connection, target.client, DAY)
    assert target.write(points()) == []


@on_both
def test_new_indices_are_stored_as_the_settings_say_and_old_ones_stay(target: Target) -> None:
    storage = schema.Storage(shards=2, replicas=0, refresh_interval_s=30)
    indices = replace(target.indices, storage=storage)
    indices.install(target.connection, target.client, DAY)
    indices.prepare(target.connection, target.client, DAY)
    found = {
        name: index["settings"]["index"]
        for name, index in target.client.indices.get_settings(index=f"{target.prefix}-*").items()
    }
    assert len(found) == len(schema.KINDS)
    assert found.pop(target.points)["number_of_shards"] == "1"  # created before
    for settings in found.values():
        stored = [settings[key] for key in ("number_of_shards", "number_of_replicas", "refresh_interval")]
        assert stored == ["2", "0", "30000ms"]


# Index templates of other users


@on_both
def test_a_template_that_wins_is_named_unless_it_has_our_mappings(target: Target) -> None:
    name, priority = f"ops-{target.prefix}", 1000
    wins: dict[str, Any] = {"index_patterns": [f"{target.prefix}-*"], "priority": priority}
    target.client.indices.put_index_template(name=name, **wins, template={"settings": {"number_of_replicas": 0}})
    with pytest.raises(
        Refused, match=rf"{name} \(priority 1000\) takes precedence over {target.prefix}-points.* no field run"
    ):
        target.indices.install(target.connection, target.client, DAY)
    same = schema.templates(target.prefix, target.indices.fields)
    for kind in schema.KINDS:
        mappings = same[f"{target.prefix}-{kind}"]["template"]["mappings"]
        wins = {"index_patterns": [f"{target.prefix}-{kind}-*"], "priority": priority + 1}
        target.client.indices.put_index_template(name=f"{name}-{kind}", **wins, template={"mappings": mappings})
    target.indices.install(target.connection, target.client, DAY)


def test_an_equal_template_and_an_old_one_are_no_silent_fault(target: Target) -> None:
    """Elasticsearch refuses two templates of equal priority. A legacy template applies only if there is no new one."""
    target.client.options(ignore_status=404).indices.delete_index_template(name=f"{target.prefix}-points")
    same = 500 + len(target.prefix)
    body: dict[str, Any] = {"index_patterns": [f"{target.prefix}-points-2*"]}
    target.client.indices.put_index_template(name=f"ops-{target.prefix}", priority=same, **body)
    with pytest.raises(Refused, match=f"ops-{target.prefix}.*same priority"):
        target.indices.install(target.connection, target.client, DAY)
    target.client.indices.delete_index_template(name=f"ops-{target.prefix}")
    old = {"properties": {"topic": {"type": "text"}}}
    target.client.indices.put_template(name=f"ops-{target.prefix}", order=9, mappings=old, **body)
    try:
        target.client.indices.delete(index=target.points)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ElasticsearchWarning)  # Elasticsearch warns that ours takes precedence
            target.indices.install(target.connection, target.client, DAY)
        target.indices.prepare(target.connection, target.client, DAY)
    finally:
        target.client.indices.delete_template(name=f"ops-{target.prefix}")


# Limits of requests


@pytest.mark.parametrize("how", ["413", "502", "cut"])
def test_a_request_that_is_too_large_for_a_proxy_is_divided(
    server: Elasticsearch, target: Target, how: Any, caplog: pytest.LogCaptureFixture
) -> None:
    lines = [point(offset) for offset in range(5000)]
    patient = replace(target, connection=replace(target.connection, timeout_s=60.0))
    with limited(server.url, 200_000, how) as (address, refused):
        assert patient.write(lines, address) == []
        before = len(refused)
        assert patient.write(lines[:2500], address) == []
    assert target.written() == set(range(5000))
    assert 0 < before < 10
    assert len(refused) == before, "the size is not remembered"
    if how == "413":
        assert any(
            "refused a request of" in text and "--elasticsearch-max-request-bytes" in text for text in caplog.messages
        )


def test_only_a_document_that_is_too_large_itself_is_given_back(server: Elasticsearch, target: Target) -> None:
    lines = points()
    lines[3] = point(3, topic="t" * 20_000)
    with limited(server.url, 5_000) as (address, _):
        (refusal,) = target.write(lines, address)
    assert refusal.position == 3
    assert re.match("too large: .* refuses a request of 20... bytes", refusal.reason)
    assert target.written() == {*GOOD} - {3}


def test_a_proxy_that_takes_nothing_at_all_makes_no_record_invalid(server: Elasticsearch, target: Target) -> None:
    """A document of a few hundred bytes is not too large: a proxy that refuses it is itself at fault."""
    with (
        limited(server.url, 10) as (address, _),
        pytest.raises(Refused, match=r"refuses a request of \d+ bytes \(HTTP 413\), but a single"),
    ):
        target.write(points(), address)
    assert target.written() == set()


def test_an_invalid_record_that_is_too_large_is_kept_with_the_beginning_of_its_value(target: Target) -> None:
    records = documents.Records("t", 0, np.array([5]), np.array([0]), [b"[" + b"1," * 40_000])
    origin = documents.Origin.at(1_790_000_000_000_000, "r", 0, target.prefix)
    (line,) = documents.invalid(origin, records, [Invalid(0, None, "not JSON")], whole=False)
    document = json.loads(line.split("\n")[1])
    assert document["value"] == "[" + "1," * 99 + "1"
    assert document["reason"] == "not JSON; only the first 200 of the value's 80001 bytes are kept"


# Servers other than Elasticsearch

OTHERS: dict[str, tuple[int, dict[str, str], bytes]] = {
    "OpenSearch": (200, {"Content-Type": "application/json"}, b'{"status":"green"}'),
    "a login page": (200, {"Content-Type": "text/html"}, b"<html><style>a{}</style><h1>Please log in</h1></html>"),
    "a redirection": (302, {"Content-Type": "text/html", "Location": "/login"}, b"<h1>Please log in</h1>"),
    "a page that is not found": (404, {"Content-Type": "text/html; charset=utf-8"}, b"<h1>Nothing here</h1>"),
    "an Elasticsearch 7": (
        400,
        {"Content-Type": "application/json", "X-Elastic-Product": "Elasticsearch"},
        b'{"error":{"type":"media_type_header_exception","reason":"Accept version must be either version 7 or 6, but '
        b'found 8"},"status":400}',
    ),
}


@pytest.mark.parametrize("other", OTHERS)
def test_what_is_no_elasticsearch_8_or_9_is_named(other: str) -> None:
    with answering(*OTHERS[other]) as url:
        place = Connection((url,), timeout_s=2.0)
        with place.open() as client, pytest.raises(Refused) as raised:
            connection.wait(place, client)
    text = str(raised.value)
    assert "is neither version 8 nor 9" in text if "7" in other else "is not Elasticsearch" in text
    assert "<" not in text
    assert "log in" in text or "log" not in other


# One run per prefix


@on_both
def test_of_two_runs_that_claim_a_prefix_at_the_same_moment_one_is_refused(target: Target) -> None:
    runs = [f"run-{number}" for number in range(6)]
    together = threading.Barrier(len(runs))

    def begin(run: str) -> str:
        with target.connection.open() as client:
            together.wait()
            try:
                claim(target.connection, client, target.prefix, run, replace=False, new=True)
            except Refused:
                return ""
            return run

    with ThreadPoolExecutor(len(runs)) as pool:
        (winner,) = filter(None, pool.map(begin, runs))
    claim(target.connection, target.client, target.prefix, winner, replace=False)
    with pytest.raises(Refused, match=f"has belonged to run {winner} since .* but this checkpoint is new"):
        claim(target.connection, target.client, target.prefix, "late", replace=False, new=True)
    claim(target.connection, target.client, target.prefix, "late", replace=True, new=True)
    with pytest.raises(Refused, match=r"has belonged to run late since .* but this checkpoint belongs to run"):
        claim(target.connection, target.client, target.prefix, winner, replace=False)


def test_a_run_from_before_there_were_claims_goes_on_and_no_other_takes_its_prefix(target: Target) -> None:
    target.write(points())
    target.client.indices.refresh(index=target.points)
    with pytest.raises(Refused, match="holds documents of run r, but this checkpoint is new"):
        claim(target.connection, target.client, target.prefix, "other", replace=False, new=True)
    claim(target.connection, target.client, target.prefix, "r", replace=False)
    assert target.written() == {*GOOD}


@pytest.mark.slow
def test_overlapping_prefixes_do_not_disturb_each_other(target: Target) -> None:
    """The indices of prefix a-points match a-points-*, a pattern of prefix a."""
    inner = replace(target, indices=Indices(f"{target.prefix}-points", Fields(("z",), "y")))
    claim(target.connection, target.client, target.prefix, "outer", replace=False, new=True)
    claim(target.connection, target.client, inner.prefix, "inner", replace=False, new=True)
    inner.indices.install(inner.connection, inner.client, DAY)
    inner.indices.prepare(inner.connection, inner.client, DAY)
    target.indices.install(target.connection, target.client, DAY)
    assert target.write(points()) == []
    assert inner.write([point(offset, run="inner", x={"z": 1}) for offset in GOOD]) == []
    claim(target.connection, target.client, target.prefix, "r", replace=True)
    claim(inner.connection, inner.client, inner.prefix, "inner", replace=False)
    assert inner.written() == {*GOOD}
    assert target.written() == {*GOOD}
    shown = {
        hit["_index"] for hit in target.client.search(index=f"{target.prefix}-points-*", size=1000)["hits"]["hits"]
    }
    assert not any(name.endswith("-run") for name in shown), "a dashboard would show the claim"


# The table of errors, and the whole program


def test_the_error_types_of_the_table_are_those_of_the_versions() -> None:
    """A name that no version has must be mistyped, so it would have no effect."""
    known = faults.DOCUMENT_TYPES | faults.LASTING_TYPES | faults.PASSING_TYPES
    of_java = {"exception", "i_o_exception", "illegal_state_exception", "null_pointer_exception"}
    of_java |= {"index_out_of_bounds_exception", "array_index_out_of_bounds_exception"}
    of_java |= {"unsupported_operation_exception", "no_such_file_exception", "file_system_exception"}
    elsewhere = {"fail_processor_exception", "not_serializable_exception_wrapper"}  # in a module; without the ending
    types: set[str] = set()
    for distribution in (jars.ELASTICSEARCH, jars.ELASTICSEARCH_8):
        (folder,) = jars.fetch(distribution)
        classes = (name for jar in folder.glob("*.jar") for name in zipfile.ZipFile(jar).namelist())
        found = {
            match[1] for match in (re.fullmatch(r".*[/$](\w+Exception)\.class", name) for name in classes) if match
        }
        types |= {re.sub("(?<!^)([A-Z])", r"_\1", name).lower().removeprefix("elasticsearch_") for name in found}
    assert known - types - of_java - elsewhere == set()


def test_the_app_and_the_live_page_work_with_elasticsearch_8(
    broker: Kafka, search8: Elasticsearch, tmp_path: Path
) -> None:
    stream = Stream("with-8", broker, search8, tmp_path, ("x0", "x1", "x2"), "y")
    stream.create_topics()
    stream.produce(train=[*synthetic(60, seed=1), b"bad"], test=synthetic(20, seed=2))
    done = stream.run()
    assert done.returncode == 0, done.stderr
    assert (stream.count("points"), stream.count("invalid")) == (80, 1)
    assert "WARNING" not in done.stderr, done.stderr
    names = Names(tuple(stream.features), stream.label, stream.prefix, stream.train, stream.test)
    with served(names, search8) as address, urlopen(f"{address}/api/data") as answer:
        data = json.load(answer)
    assert data["state"] == "live"
    assert "error" not in data
