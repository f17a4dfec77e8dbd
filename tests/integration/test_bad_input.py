"""Invalid records of every kind among valid ones: they are kept with field and reason; the valid ones are learned."""

from __future__ import annotations

import base64
import json
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]
from elasticsearch import Elasticsearch as Client

from embedded.testing.records import Value
from embedded.testing.reference import lstsq
from embedded.testing.stream import Stream
from streaming_regression.records import Fields
from streaming_regression.schema import mappings
from tests.sample_records import AS_THEY_COME, BAD, BAD_AS_THEY_COME, GOOD, GOOD_AS_THEY_COME, as_it_comes, record


def documented(value: Value) -> dict[str, object]:
    """The fields with which an invalid record's value must be kept."""
    if value is None:
        return {"value": None}
    try:
        return {"value": value.decode()}
    except UnicodeDecodeError:
        return {"value_base64": base64.b64encode(value).decode()}


def test_bad_records_are_kept_with_field_and_reason_and_the_good_ones_are_learned(stream: Stream) -> None:
    stream.features, stream.label = ("a", "b"), "y"
    rng = np.random.default_rng(9)
    fill = [record(a=a, b=b, y=2 * a - b + 3) for a, b in rng.normal(size=(500, 2)).round(3).tolist()]
    bad = [value for value, _, _ in BAD]
    good = [value for value, _ in GOOD]
    stream.create_topics()
    mixed = [value for pair in zip(fill, (bad + good) * 4, strict=False) for value in pair][: 2 * len(bad + good)]
    unlabelled = {record(y=...): "missing", record(y=None): "null"}  # invalid in the train topic only
    stream.produce(train=[*mixed, *unlabelled, *fill], test=[*mixed, *unlabelled])
    done = stream.run("--max-offsets-per-trigger", "150")
    assert done.returncode == 0, done.stderr
    assert "ERROR" not in done.stderr, done.stderr

    expected: dict[tuple[str, int, int], dict[str, Any]] = {}
    learned = []
    known = {value: (field, reason) for value, field, reason in BAD}
    unusual = dict(GOOD)
    for topic, values in stream.produced.items():
        for number, value in enumerate(values):
            place = (topic, number % stream.partitions, number // stream.partitions)
            if value in known or (value in unlabelled and topic == stream.train):
                field, reason = known.get(value) or ("y", unlabelled[value or b""])
                expected[place] = {"field": field, "reason": reason, **documented(value)}
            elif topic == stream.train:
                numbers = json.loads(value or b"")
                learned.append(unusual.get(value or b"", tuple(numbers[name] for name in ("a", "b", "y"))))
    kept = {
        (document["topic"], document["partition"], document["offset"]): document
        for document in stream.documents("invalid")
    }
    shared = ("run", "@timestamp", "topic", "partition", "offset", "_id", "_index")
    assert {
        place: {key: kept_document[key] for key in kept_document if key not in shared}
        for place, kept_document in kept.items()
    } == expected
    points = {
        (document["topic"], document["partition"], document["offset"]): document
        for document in stream.documents("points")
    }
    assert points.keys() | kept.keys() == stream.places()
    assert not points.keys() & kept.keys()
    predicted = [point for point in points.values() if "y" not in point]
    assert [point["topic"] for point in predicted] == [stream.test] * 2
    assert not any("squared_error" in point for point in predicted)

    want = lstsq(np.array(learned))
    assert np.linalg.norm(stream.weights() - want) <= 1e-9 * np.linalg.norm(want)


def test_nested_fields_strings_and_booleans_are_read_and_reasons_name_the_path(stream: Stream) -> None:
    """Documents, mappings and the model's state call a feature by the path that was given."""
    stream.features, stream.label, stream.partitions = AS_THEY_COME.features, AS_THEY_COME.label, 1
    stream.create_topics()
    rng = np.random.default_rng(9)
    fill = [(a, b, 2 * a - b + 3) for a, b in rng.normal(size=(50, 2)).round(3).tolist()]
    rows = [row for _, row in GOOD_AS_THEY_COME] + fill
    good = [value for value, _ in GOOD_AS_THEY_COME] + [as_it_comes(str(a), [{"v": b}], y) for a, b, y in fill]
    bad = [value for value, _, _ in BAD_AS_THEY_COME]
    stream.produce(train=good + bad, test=[as_it_comes(**{"after.x": ...})])
    done = stream.run("--numeric-strings", "--booleans-as-numbers")
    assert done.returncode == 0, done.stderr
    assert "hunter2" not in done.stderr
    kept = {fault["offset"]: (fault.get("field"), fault["reason"]) for fault in stream.documents("invalid")}
    assert kept == {len(good) + i: (field, reason) for i, (_, field, reason) in enumerate(BAD_AS_THEY_COME)}
    points = {(point["topic"], point["offset"]): point for point in stream.documents("points")}
    assert "y" not in points.pop((stream.test, 0))
    assert {offset: (*point["x"].values(), point["y"]) for (_, offset), point in points.items()} == dict(
        enumerate(rows)
    )
    assert all([*point["x"]] == list(stream.features) for point in points.values())
    want = lstsq(np.array(rows))
    assert np.linalg.norm(stream.weights() - want) <= 1e-9 * np.linalg.norm(want)


def test_a_topic_with_only_invalid_records_is_logged_once_with_the_most_frequent_reason(stream: Stream) -> None:
    """It is logged after the first micro-batch, because an --available-now run may have only one."""
    stream.features, stream.label = ("a", "b"), "y"
    stream.create_topics()
    stream.produce(train=[record(y=...)] * 50 + [record(a="hunter2")] * 10, test=[record(y=...)] * 30)
    done = stream.run("--max-offsets-per-trigger", "1000")
    assert done.returncode == 0, done.stderr
    (warning,) = [line for line in done.stderr.splitlines() if " WARNING " in line]
    assert f"all records of topic {stream.train} are invalid: 60 records in 1 micro-batches" in warning
    assert "reason, 50 times: y: missing. Check that the records have the fields named by --features and" in warning
    assert "hunter2" not in done.stderr


def test_points_that_elasticsearch_refuses_are_kept_as_invalid_and_not_learned(stream: Stream) -> None:
    """The refusal is real: the test creates the day's index so that it copies a feature to an integer field."""
    stream.features, stream.label = ("a", "b"), "y"
    stream.create_topics()
    good = [record(a=a, b=b, y=3 * a + b) for a, b in np.random.default_rng(1).normal(size=(50, 2)).tolist()]
    stream.produce(train=[*good, record(a=1e30), *good, record(a=1e30)], test=[record(a=1e30)])
    mapping = mappings(Fields(("a", "b"), "y"))["points"]
    mapping["properties"]["x"]["properties"] = {
        "a": {"type": "double", "copy_to": "narrow"},
        "b": {"type": "double"},
    }
    mapping["properties"]["narrow"] = {"type": "integer"}
    with Client(stream.search.url) as client:
        days = [datetime.now(timezone.utc) + timedelta(days=days) for days in (0, 1)]  # the test may run at midnight
        for day in days:
            client.indices.create(index=f"{stream.prefix}-points-{day:%Y.%m.%d}", mappings=mapping)
    done = stream.run()
    assert done.returncode == 0, done.stderr
    refused = stream.documents("invalid")
    assert len(refused) == 3
    assert all(
        "out of range" in document["reason"] and document["value"] == record(a=1e30).decode() for document in refused
    )
    assert stream.count("points") == 100
    assert sum(document["invalid"] for document in stream.documents("metrics")) == 3
    assert stream.last_model()["rows_seen"] == 100
    np.testing.assert_allclose(stream.weights(), [0, 3, 1], atol=1e-9)


@pytest.mark.slow
def test_large_records_that_come_together_and_times_of_any_year_stop_nothing(stream: Stream) -> None:
    """Thirty records of 1 MB exceed a write request's limit; some of them are six times as large in JSON."""
    stream.features, stream.label, stream.partitions = ("a", "b"), "y", 1
    topics = [
        NewTopic(name, 1, config={"message.timestamp.after.max.ms": str(2**63 - 1)})
        for name in (stream.train, stream.test)
    ]
    admin = AdminClient({"bootstrap.servers": stream.broker.bootstrap})
    for created in admin.create_topics(topics).values():
        created.result()
    good = [record(a=a, b=b, y=3 * a + b) for a, b in np.random.default_rng(1).normal(size=(20, 2)).tolist()]
    large = [b"\0" * 1_000_000, b"x" * 1_000_000, record(z="\0" * 160_000)] * 10
    stream.produce(train=[*good, *large])
    producer = Producer({"bootstrap.servers": stream.broker.bootstrap})
    for time_ms in (
        1_700_000_000_000_000,
        1_700_000_000_000_000_000,
        1,
    ):  # micro- and nanoseconds
        producer.produce(stream.train, good[0], timestamp=time_ms)
        producer.produce(stream.train, b"?", timestamp=time_ms)
    producer.flush()
    done = stream.run()
    assert done.returncode == 0, done.stderr
    invalid = stream.documents("invalid")
    assert len(invalid) == 23
    assert {len(document.get("value", "")) for document in invalid} == {0, 1_000_000, 1}
    points = stream.documents("points")
    assert len(points) == 33
    batch_times = {document["batch"]: document["@timestamp"] for document in stream.documents("models")}
    wrong = [document for document in points if document["offset"] in {50, 52}]
    assert [document["@timestamp"] for document in wrong] == [batch_times[document["batch"]] for document in wrong]
    assert sum(document["@timestamp"] == "1970-01-01T00:00:00.001Z" for document in [*points, *invalid]) == 2
    assert stream.last_model()["rows_seen"] == 33
