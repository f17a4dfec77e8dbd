"""Invalid records of every kind, and unusual but valid ones: flat (a, b and the label y) and nested."""

from __future__ import annotations

import json

from streaming_regression.records import Fields

NAN, INFINITE = "not finite: NaN", "not finite: infinite or beyond ±1.8e308"


def record(**changes: object) -> bytes:
    """A valid record with some fields changed; a field set to ... is left out."""
    good: dict[str, object] = {"a": 1.5, "b": -2, "y": 4.25}
    return json.dumps({key: value for key, value in {**good, **changes}.items() if value is not ...}).encode()


def raw(text: str) -> bytes:
    """A record whose field b is the raw JSON text `text`."""
    return b'{"a":1.5,"b":' + text.encode() + b',"y":4.25}'


BAD: list[tuple[bytes | None, str | None, str]] = [
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
"""Records that are invalid in both topics: value, field, reason."""
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

# Records as Kafka Connect, MQTT bridges and databases write them.
AS_THEY_COME = Fields(("payload.temp", "data.0.v"), r"after\.x.y", numeric_strings=True, booleans_as_numbers=True)


def as_it_comes(temp: object = 1.5, data: object = ({"v": -2},), label: object = 4.25, **more: object) -> bytes:
    """A valid record with some parts changed; a part set to ... is left out."""
    parts: dict[str, object] = {"payload": {"temp": temp}, "data": data, "after.x": {"y": label}, **more}
    return json.dumps({key: value for key, value in parts.items() if value is not ...}).encode()


BAD_AS_THEY_COME: list[tuple[bytes | None, str | None, str]] = [
    (b"[]", None, "not a JSON object but an array"),
    (as_it_comes(payload=...), "payload.temp", "missing"),
    (as_it_comes(payload=None), "payload.temp", "missing: payload is null"),
    (as_it_comes(payload="{}"), "payload.temp", "missing: payload is a string"),
    (as_it_comes(payload={}), "payload.temp", "missing: not in payload"),
    (as_it_comes(payload=[1]), "payload.temp", "missing: not in payload, an array"),
    (as_it_comes(data=[]), "data.0.v", "missing: not in data, an array"),
    (as_it_comes(data=[7]), "data.0.v", "missing: data.0 is a number"),
    (as_it_comes(data=[{}]), "data.0.v", "missing: not in data.0"),
    (as_it_comes(data={"1": {"v": 2}}), "data.0.v", "missing: not in data"),
    (as_it_comes(**{"after.x": {"z": 1}}), r"after\.x.y", r"missing: not in after\.x"),
    (as_it_comes(**{"after.x": ..., "after": {"x": {"y": 1}}}), r"after\.x.y", "missing"),
    (as_it_comes(None), "payload.temp", "null"),
    (as_it_comes({}), "payload.temp", "not a number but an object"),
    (as_it_comes(" "), "payload.temp", "not a number but an empty string"),
    (as_it_comes("1,5"), "payload.temp", "not a number but a string with a comma: only a point separates decimals"),
    (as_it_comes("1.234,5"), "payload.temp", "not a number but a string with a comma: only a point separates decimals"),
    *(
        (as_it_comes(text), "payload.temp", "not a number but a string that is not a decimal number")
        for text in ("NaN", "inf", "-Infinity", "0x10", "1_000", "1e", "1 2", "\u0661", "hunter2")
    ),
    (as_it_comes("1e400"), "payload.temp", INFINITE),
    (as_it_comes("1e300"), "payload.temp", "not finite: beyond ±1e+70"),
    (as_it_comes(float("nan")), "payload.temp", NAN),
    (as_it_comes(**{"payload.temp": "x"}), "payload.temp", "not a number but a string that is not a decimal number"),
]
GOOD_AS_THEY_COME: list[tuple[bytes, tuple[float, float, float]]] = [
    (as_it_comes(), (1.5, -2, 4.25)),
    (as_it_comes(" 2 ", [{"v": "1e3"}], "-.5"), (2, 1000, -0.5)),
    (as_it_comes(True, [{"v": False}, "x"], True), (1, 0, 1)),
    (as_it_comes("x", **{"payload.temp": 7}), (7, -2, 4.25)),
    (as_it_comes(data={"0": {"v": 3}}), (1.5, 3, 4.25)),
    (b'{"payload":{"temp":"1.5"},"data":[{"v":-2}],"after.x":{"y":4.25},"z":1e400}', (1.5, -2, 4.25)),
]
