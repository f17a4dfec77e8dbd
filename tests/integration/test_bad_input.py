"""Invalid records of every kind among valid ones: they are kept with field and reason; the valid ones are learned."""

from __future__ import annotations

import base64
import json
from datetime import datetime, timedelta, timezone
from typing import Any

import numpy as np
from confluent_kafka import Producer
from confluent_kafka.admin import AdminClient, NewTopic  # type: ignore[attr-defined]
from elasticsearch import Elasticsearch as Client

from streaming_regression.records import Fields
from streaming_regression.schema import mappings
from tests.integration.stream import Stream, Value
from tests.reference import lstsq

NAN, INFINITE = "not finite: NaN", "not finite: infinite or beyond ±1.8e308"


def record(**changes: object) -> bytes:
    """A valid record with some fields changed; a field set to ... is left out."""
    good: dict[str, object] = {"a": 1.5, "b": -2, "y": 4.25}
    return json.dumps({key: value for key, value in {**good, **changes}.items() if value is not ...}).encode()


def raw(text: str) -> bytes:
    """A record whose field b is the raw JSON text `text`."""
    return b'{"a":1.5,"b":' + text.encode() + b',"y":4.25}'


# Records that are invalid in both topics: value, field, reason.
BAD: list[tuple[Value, str | None, str]] = [
    (None, None, "tombstone: no value"),
    (b"", None, "empty"),
    (b" \n\t", None, "not JSON: input data is empty"),
    (b"hello", None, "not JSON: unexpected character, expected a JSON value"),
    (b"a,b,y\n1,2,3", None, "not JSON: unexpected character, expected a JSON value"),
    (b"<a>1</a>", None, "not JSON: unexpected character, expected a JSON value"),
    (b'{"a":1.5,"b":-2,"y"', None, "not JSON: unexpected end of data"),
    (b'{"a":1.5,"b":-2,', None, "not JSON: unexpected end of data"),
    (b'{"a":1.5,"b":-2,"y":4.25', None, "not JSON: unexpected end of data"),
    (b"{'a':1.5,'b':-2,'y':4.25}", None, "not JSON: unexpected character, expected a string key"),
    (b'{"a":1.5,"b":-2,"y":4.25,}', None, "not JSON: trailing comma is not allowed"),
    (b'{"a":1.5,"b":-2,"y":4.25}}', None, "not JSON: unexpected content after document"),
    (record() + record(), None, "not JSON: unexpected content after document"),
    (b'{"a":1.5,"b":-2,"y":4.25} // note', None, "not JSON: unexpected content after document"),
    (raw("01"), None, "not JSON: number with leading zero is not allowed"),
    (raw("+1"), None, "not JSON: no digit after sign"),
    (raw(".5"), None, "not JSON: no digit after sign"),
    (raw("5."), None, "not JSON: no digit after decimal point"),
    (raw("0x10"), None, "not JSON: unexpected character, expected ',' or '}'"),
    (raw('"\x01"'), None, "not JSON: unexpected control character in string"),
    (raw('"\\x"'), None, "not JSON: invalid escaped sequence in string"),
    (b"\xef\xbb\xbf" + record(), None, "not JSON: byte order mark"),
    (record().decode().encode("utf-16"), None, "not UTF-8"),
    (b'{"a":1.5,"b":-2,"y":4.25,"name":"\xff\xfe"}', None, "not UTF-8"),
    (b"\x00\x01\x02\x03", None, "not JSON: unexpected character, expected a JSON value"),
    (b"\xff" * 10, None, "not UTF-8"),
    (b"\x80" * 1_000_000, None, "not UTF-8"),
    (b"x" * 1_000_000, None, "not JSON: unexpected character, expected a JSON value"),
    (b"null", None, "not a JSON object but null"),
    (b"true", None, "not a JSON object but a boolean"),
    (b"42", None, "not a JSON object but a number"),
    (b'"text"', None, "not a JSON object but a string"),
    (b"[1.5,-2,4.25]", None, "not a JSON object but an array"),
    (b"[" + record() + b"]", None, "not a JSON object but an array"),
    (b"{}", "a", "missing"),
    (b"[" * 100_000 + b"]" * 100_000, None, "nested too deeply"),
    (b'{"z":' + b'{"z":' * 50_000 + b"1" + b"}" * 50_001, None, "nested too deeply"),
    (record(z=float("nan")), None, "not JSON: NaN"),
    (record(z=float("-inf")), None, "not JSON: -Infinity"),
    (record(a=...), "a", "missing"),
    (record(b=...), "b", "missing"),
    (record(A=1, a=...), "a", "missing"),
    (record(b=None), "b", "null"),
    (record(b="7"), "b", "not a number but a string"),
    (record(b=""), "b", "not a number but a string"),
    (record(b="x" * 1_000_000), "b", "not a number but a string"),
    (record(b=True), "b", "not a number but a boolean"),
    (record(b=[1]), "b", "not a number but an array"),
    (record(b={"value": 1}), "b", "not a number but an object"),
    (record(b=float("nan")), "b", NAN),
    (record(b=float("inf")), "b", INFINITE),
    (record(b=float("-inf")), "b", INFINITE),
    (raw("1e400"), "b", INFINITE),
    (raw("-1e400"), "b", INFINITE),
    (raw("9" * 5_000), "b", INFINITE),
    (raw("1e300"), "b", "not finite: beyond ±1e+70"),
    (raw("1" + "0" * 100), "b", "not finite: beyond ±1e+70"),
    (b'{"a":1.5,"b":-2,"y":4.25,"b":"x"}', "b", "not a number but a string"),
    (record(y="4.25"), "y", "not a number but a string"),
    (record(y=float("nan")), "y", NAN),
]
# Unusual but valid records: value, and its numbers.
GOOD: list[tuple[bytes, tuple[float, float, float]]] = [
    (record(), (1.5, -2, 4.25)),
    (b" \n" + record() + b"\r\n ", (1.5, -2, 4.25)),
    (record(z=None, name="é", nested={"a": [1, {}]}), (1.5, -2, 4.25)),
    (record(z="x" * 1_000_000), (1.5, -2, 4.25)),
    (b'{"a":1.5,"b":-2,"y":4.25,"z":1e400}', (1.5, -2, 4.25)),
    (b'{"a":1.5,"b":-2,"y":4.25,"z":"\\ud800"}', (1.5, -2, 4.25)),
    (b'{"a":9,"b":9,"y":9,"a":1.5,"b":-2,"y":4.25}', (1.5, -2, 4.25)),
    (b'{"a":1.5,"b":"x","y":4.25,"b":-2}', (1.5, -2, 4.25)),
    (b'{"\\u0061":1.5,"b":-2,"y":4.25}', (1.5, -2, 4.25)),
    (raw("-0.0"), (1.5, -0.0, 4.25)),
    (raw("1e-400"), (1.5, 0.0, 4.25)),
    (raw("5e-324"), (1.5, 5e-324, 4.25)),
    (raw("1E+2"), (1.5, 100.0, 4.25)),
    (raw("0." + "1" * 500), (1.5, 1 / 9, 4.25)),
    (raw("18446744073709551616"), (1.5, 2.0**64, 4.25)),
]


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
    mixed = [one for pair in zip(fill, (bad + good) * 4, strict=False) for one in pair][: 2 * len(bad + good)]
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
    kept = {(one["topic"], one["partition"], one["offset"]): one for one in stream.documents("invalid")}
    shared = ("run", "@timestamp", "topic", "partition", "offset", "_id", "_index")
    assert {place: {key: one[key] for key in one if key not in shared} for place, one in kept.items()} == expected
    points = {(one["topic"], one["partition"], one["offset"]): one for one in stream.documents("points")}
    assert points.keys() | kept.keys() == stream.places()
    assert not points.keys() & kept.keys()
    predicted = [point for point in points.values() if "y" not in point]
    assert [point["topic"] for point in predicted] == [stream.test] * 2
    assert not any("squared_error" in point for point in predicted)

    want = lstsq(np.array(learned))
    assert np.linalg.norm(stream.weights() - want) <= 1e-9 * np.linalg.norm(want)


def test_a_topic_of_invalid_records_alone_is_told_of_once_with_the_most_frequent_reason(stream: Stream) -> None:
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
    assert all("out of range" in one["reason"] and one["value"] == record(a=1e30).decode() for one in refused)
    assert stream.count("points") == 100
    assert sum(one["invalid"] for one in stream.documents("metrics")) == 3
    assert stream.last_model()["rows_seen"] == 100
    np.testing.assert_allclose(stream.weights(), [0, 3, 1], atol=1e-9)


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
    assert {len(one.get("value", "")) for one in invalid} == {0, 1_000_000, 1}
    points = stream.documents("points")
    assert len(points) == 33
    batch_times = {one["batch"]: one["@timestamp"] for one in stream.documents("models")}
    wrong = [one for one in points if one["offset"] in {50, 52}]
    assert [one["@timestamp"] for one in wrong] == [batch_times[one["batch"]] for one in wrong]
    assert sum(one["@timestamp"] == "1970-01-01T00:00:00.001Z" for one in [*points, *invalid]) == 2
    assert stream.last_model()["rows_seen"] == 33
