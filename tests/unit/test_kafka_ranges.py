"""How a micro-batch's ranges of offsets are limited, and how its tasks share them."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from streaming_regression.kafka.connection import Place, Range
from streaming_regression.kafka.ranges import LEAST_PER_TASK, limited, planned, shares

places = st.tuples(st.sampled_from(["train", "test"]), st.integers(0, 30))
partitions = st.dictionaries(places, st.tuples(st.integers(0, 10**12), st.integers(0, 300_000)), max_size=20)


def offsets(ranges: list[Range]) -> int:
    return sum(span.end - span.start for span in ranges)


@given(partitions, st.integers(1, 64))
def test_shares_cover_each_offset_once_in_order_and_have_the_same_size(
    sizes: dict[Place, tuple[int, int]], tasks: int
) -> None:
    ranges = [Range(*place, start, start + count) for place, (start, count) in sizes.items()]
    found = shares(ranges, tasks)
    assert len(found) <= tasks
    joined: dict[Place, list[Range]] = defaultdict(list)
    for span in (span for share in found for span in share):
        joined[span.topic, span.partition].append(span)
    for wanted in ranges:
        position = wanted.start
        for span in joined.pop((wanted.topic, wanted.partition), []):
            assert span.start == position < span.end
            position = span.end
        assert position == wanted.end
    assert not joined
    counts = [offsets(share) for share in found]
    assert len(set(counts[:-1])) <= 1
    assert all(count >= LEAST_PER_TASK for count in counts[:-1])
    assert not counts or 0 < counts[-1] <= max(counts)


def test_tasks_get_a_part_of_a_large_partition_or_several_small_ones() -> None:
    end = {"train": {"0": 30_000, "1": 500}, "test": {"0": 9_500}}
    start = {"train": {"0": 10_000, "1": 500}, "test": {"0": 0}}
    assert planned(start, end, 2) == [
        [Range("test", 0, 0, 9_500), Range("train", 0, 10_000, 15_250)],
        [Range("train", 0, 15_250, 30_000)],
    ]
    assert planned({}, {"train": {"0": 100, "1": 200}}, 8) == [[Range("train", 0, 0, 100), Range("train", 1, 0, 200)]]
    assert planned(end, end, 8) == []


@given(partitions, st.integers(0, 500_000))
def test_a_limited_micro_batch_takes_a_part_of_each_partition(sizes: dict[Place, tuple[int, int]], most: int) -> None:
    begins = {place: start for place, (start, _) in sizes.items()}
    ends = {place: start + count for place, (start, count) in sizes.items()}
    found = limited(begins, ends, most)
    assert found.keys() == ends.keys()
    for place, end in found.items():
        held = ends[place] - begins[place]
        assert begins[place] + min(held, 1) <= end <= ends[place]
    taken = sum(found[place] - begins[place] for place in found)
    assert taken <= most + len(found)
    assert taken >= min(most, sum(ends.values()) - sum(begins.values()))
    assert limited(begins, ends, None) == ends
