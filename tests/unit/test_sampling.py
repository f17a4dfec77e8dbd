"""The sample of points has the requested share, is the same on all machines, and contains every smaller sample."""

from __future__ import annotations

import math
import subprocess
import sys
from hashlib import blake2b
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from streaming_regression.sampling import chosen

FRACTIONS = st.floats(1e-9, 1)
PLACES = st.tuples(st.text(min_size=1, max_size=20), st.integers(0, 2**31 - 1))
OFFSETS = st.lists(st.integers(0, 2**63 - 1), max_size=20).map(lambda found: np.array(found, np.int64))
SIX_SIGMA = 6.0  # a share beyond this has a probability of 2e-9


def splitmix64(seed: int, number: int) -> int:
    """The output of Vigna's splitmix64.c for state seed + number · constant, computed with Python's integers.

    splitmix64.c adds the constant before each output, so its first output is that of number 1.
    """
    mask = 2**64 - 1
    z = (seed + number * 0x9E3779B97F4A7C15) & mask
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
    return z ^ (z >> 31)


def test_reference_gives_the_published_numbers() -> None:
    """The first outputs of splitmix64.c for the seed 1234567, from Rosetta Code."""
    assert [splitmix64(1234567, number) for number in (1, 2, 3, 4, 5)] == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


@given(PLACES, OFFSETS, FRACTIONS)
def test_choice_is_that_of_the_reference(place: tuple[str, int], offsets: NDArray[np.int64], fraction: float) -> None:
    topic, partition = place
    seed = int.from_bytes(blake2b(f"{topic}-{partition}".encode(), digest_size=8).digest(), "little")
    below = math.floor(fraction * 2**64)
    expected = [fraction == 1 or splitmix64(seed, offset) < below for offset in offsets.tolist()]
    before = offsets.copy()
    assert chosen(topic, partition, offsets, fraction).tolist() == expected
    assert np.array_equal(before, offsets)


def test_choice_is_fixed_for_ever() -> None:
    """If another version chose other points, a replay would store other points."""
    found = {
        (topic, partition): np.flatnonzero(chosen(topic, partition, np.arange(200), 0.05)).tolist()
        for topic, partition in (("train", 0), ("train", 1), ("test", 0))
    }
    assert found == {
        ("train", 0): [10, 18, 38, 69, 78, 140, 160, 165, 174, 181],
        ("train", 1): [26, 40, 82, 90, 129, 144, 159, 184, 193, 194, 199],
        ("test", 0): [46, 67, 77, 99, 124, 143, 149, 187],
    }


def test_choice_does_not_depend_on_the_process() -> None:
    program = (
        "import numpy as np; from streaming_regression.sampling import chosen; "
        "print(np.flatnonzero(chosen('train', 7, np.arange(10_000), 0.01)).tolist())"
    )
    said = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONPATH": ":".join(sys.path), "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert said == {f"{np.flatnonzero(chosen('train', 7, np.arange(10_000), 0.01)).tolist()}\n"}


@pytest.mark.parametrize("fraction", [0.001, 0.01, 0.1, 0.5, 0.99])
@pytest.mark.parametrize(("topic", "partition"), [("train", 0), ("train", 1), ("test", 0), ("a-1", 1), ("a", 11)])
def test_share_is_binomial_overall_and_between_every_nth_offset(topic: str, partition: int, fraction: float) -> None:
    """Consecutive offsets and every n-th: producers may write in turns, and transactions leave markers."""
    found = chosen(topic, partition, np.arange(10**9, 10**9 + 400_000), fraction)
    for step in (1, 2, 3, 7, 16):
        for first in range(step):
            mine = found[first::step]
            spread = math.sqrt(len(mine) * fraction * (1 - fraction))
            assert abs(mine.sum() - len(mine) * fraction) <= SIX_SIGMA * spread, (step, first)


def test_neighbours_and_partitions_choose_independently() -> None:
    fraction, size = 0.1, 400_000
    found = [chosen("train", partition, np.arange(size), fraction) for partition in range(8)]
    both = size * fraction**2
    limit = SIX_SIGMA * math.sqrt(both)
    for sample, other in pairwise(found):
        assert abs((sample & other).sum() - both) <= limit
    for distance in (1, 2, 3, 64, 10_000):
        assert abs((found[0][:-distance] & found[0][distance:]).sum() - both) <= limit, distance


@given(PLACES, OFFSETS, FRACTIONS, FRACTIONS)
def test_larger_fraction_chooses_all_that_a_smaller_one_does(
    place: tuple[str, int], offsets: NDArray[np.int64], first: float, second: float
) -> None:
    fewer, more = (chosen(*place, offsets, fraction) for fraction in sorted((first, second)))
    assert not (fewer & ~more).any()


def test_all_are_chosen_by_1_and_ranges_may_be_cut_anywhere() -> None:
    offsets = np.arange(1000)
    assert chosen("train", 0, offsets, 1.0).all()
    assert chosen("train", 0, offsets[:0], 0.5).tolist() == []
    whole = chosen("train", 0, offsets, 0.3)
    assert np.array_equal(
        whole, np.concatenate([chosen("train", 0, part, 0.3) for part in np.split(offsets, [1, 500])])
    )
