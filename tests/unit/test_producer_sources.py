"""A source yields the same record k from any start, and loses no byte."""

from __future__ import annotations

import itertools
import json
import os
import threading
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from producer.errors import ConfigError, Refused
from producer.sources import MAX_RECORD_BYTES, Flights, Ndjson, Source, Synthetic

WEIGHTS = (1.5, -2.0, 0.5)
SYNTHETIC = Synthetic(features=("a", "b", "c"), label="y", weights=WEIGHTS, intercept=3.0, noise=0.0, seed=7)


def take(source: Source, start: int, count: int | None) -> list[bytes]:
    return list(itertools.islice((row for row in source.rows(start) if row is not None), count))


@pytest.fixture(scope="module")
def head() -> list[bytes]:
    return take(SYNTHETIC, 0, 20_000)


@pytest.fixture(scope="module")
def flights() -> list[bytes]:
    return list(Flights().rows(0))


@given(st.integers(0, 19_000), st.integers(1, 1000))
@settings(max_examples=50)
def test_synthetic_row_is_the_same_however_it_is_reached(head: list[bytes], start: int, count: int) -> None:
    assert take(SYNTHETIC, start, count) == head[start : start + count]


def test_synthetic_follows_its_model(head: list[bytes]) -> None:
    rows = [json.loads(row) for row in head]
    x = np.array([[row["a"], row["b"], row["c"], 1.0] for row in rows])
    y = np.array([row["y"] for row in rows])
    assert np.linalg.lstsq(x, y)[0] == pytest.approx([*WEIGHTS, 3.0])
    assert np.abs(x[:, :3].mean(axis=0)).max() < 0.03
    assert x[:, :3].std(axis=0) == pytest.approx(1.0, abs=0.03)


def test_synthetic_drifts_at_its_row() -> None:
    drifting = Synthetic(("a", "b", "c"), "y", WEIGHTS, 3.0, 0.0, 7, drift_row=5000, drift_weights=(0.0, 1.0, 2.0))
    rows = [json.loads(row) for row in take(drifting, 0, 6000)]
    for number, row in enumerate(rows):
        weights = WEIGHTS if number < 5000 else (0.0, 1.0, 2.0)
        expected = 3.0 + sum(weight * row[name] for weight, name in zip(weights, "abc", strict=True))
        assert row["y"] == pytest.approx(expected)


def test_synthetic_with_other_parameters_is_another_run() -> None:
    other = Synthetic(("a", "b", "c"), "y", WEIGHTS, 3.0, 0.0, 8)
    assert other.name != SYNTHETIC.name == Synthetic(("a", "b", "c"), "y", WEIGHTS, 3.0, 0.0, 7).name
    assert take(other, 0, 1) != take(SYNTHETIC, 0, 1)


def test_flights_are_all_there_in_order_with_nulls(flights: list[bytes]) -> None:
    rows = [json.loads(row) for row in flights]
    assert len(rows) == Flights().length == 336_776
    assert rows[0] == {"dep_delay": 2, "distance": 1400, "air_time": 227, "arr_delay": 11}
    assert sum(row["dep_delay"] is None for row in rows) == 8255
    assert sum(row["air_time"] is None for row in rows) == sum(row["arr_delay"] is None for row in rows) == 9430
    assert all(list(row) == ["dep_delay", "distance", "air_time", "arr_delay"] for row in rows)
    assert {type(value) for row in rows for value in row.values()} == {int, type(None)}


def test_flights_hold_the_chosen_columns_and_other_columns_are_another_run() -> None:
    chosen = Flights(("carrier", "tailnum", "dest", "arr_delay"))
    rows = [json.loads(row) for row in chosen.rows(0)]
    assert rows[0] == {"carrier": "UA", "tailnum": "N14228", "dest": "IAH", "arr_delay": 11}
    assert len({row["carrier"] for row in rows}) == 16
    assert sum(row["tailnum"] is None for row in rows) == 2512
    assert "BNA" in {row["dest"] for row in rows}, "NA is a missing value only if it stands alone"
    assert len({Flights().name, chosen.name, Flights(("carrier", "tailnum", "dest")).name}) == 3
    assert Flights().name == "flights"


def test_flights_can_be_entered_anywhere(flights: list[bytes]) -> None:
    assert list(Flights().rows(336_000)) == flights[336_000:]
    assert list(Flights().rows(400_000)) == []


@given(st.lists(st.binary(max_size=50).map(lambda line: line.replace(b"\n", b"")), max_size=20), st.booleans())
def test_ndjson_lines_are_sent_byte_for_byte(
    tmp_path_factory: pytest.TempPathFactory, lines: list[bytes], ends: bool
) -> None:
    path = tmp_path_factory.mktemp("ndjson") / "lines"
    path.write_bytes(b"\n".join(lines) + (b"\n" if lines and ends else b""))
    if lines and not ends and not lines[-1]:
        lines = lines[:-1]  # no byte after the last \n: no line
    assert take(Ndjson(path), 0, None) == lines
    assert take(Ndjson(path), 3, None) == lines[3:]


def test_ndjson_keeps_a_carriage_return_and_an_empty_line(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    path.write_bytes(b'{"a":1}\r\n\n\xff\xfe\n[')
    assert take(Ndjson(path), 0, None) == [b'{"a":1}\r', b"", b"\xff\xfe", b"["]


def test_ndjson_from_a_pipe_says_that_nothing_is_there_yet(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)

    def write() -> None:
        with path.open("wb", buffering=0) as pipe:
            pipe.write(b"1\n2")
            assert written_half.wait(10)
            pipe.write(b"2\n3\n")

    written_half = threading.Event()
    writer = threading.Thread(target=write)
    writer.start()
    rows = Ndjson(path).rows(0)
    assert next(rows) == b"1"
    assert next(rows) is None
    written_half.set()
    assert [row for row in rows if row is not None] == [b"22", b"3"]
    writer.join()


def test_ndjson_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    with path.open("wb") as file:
        for _ in range(100):
            file.write(b"x" * 999 + b"\n" + b"y" * 999_000 + b"\n")
    tracemalloc.start()
    assert sum(len(row) for row in Ndjson(path).rows(0) if row is not None) == 100 * 999_999
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 10_000_000


def test_ndjson_refuses_an_endless_line(tmp_path: Path) -> None:
    path = tmp_path / "lines"
    with path.open("wb") as file:
        file.write(b"1\n")
        file.truncate(MAX_RECORD_BYTES + 10)
    with pytest.raises(Refused, match=r"line 2 of .* is longer than 33,554,432 bytes"):
        list(Ndjson(path).rows(0))


def test_ndjson_that_cannot_be_read_is_a_configuration_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"--input-file / INPUT_FILE: '.*gone' cannot be read"):
        list(Ndjson(tmp_path / "gone").rows(0))
