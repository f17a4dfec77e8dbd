"""Chooses the points to store by a hash of topic, partition and offset, so that a replay chooses the same points."""

from __future__ import annotations

from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

GAMMA = np.uint64(0x9E3779B97F4A7C15)
MIX = ((np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)), (np.uint64(27), np.uint64(0x94D049BB133111EB)))
LAST_SHIFT = np.uint64(31)


def chosen(topic: str, partition: int, offsets: NDArray[np.int64], fraction: float) -> NDArray[np.bool_]:
    """Return which records of one partition belong to the sample.

    The result depends only on the arguments, not on the process, the machine or the version of Python. Each record is
    chosen independently, so it does not matter how a partition is cut into ranges. A larger fraction chooses all
    records that a smaller one chooses, and more.

    Parameters
    ----------
    topic, partition
        The partition of the records. It seeds the hash, so that the samples of different partitions are independent.
    offsets : int64, shape (n,)
        Their offsets.
    fraction
        The share of the records to choose, 0 < fraction <= 1.

    Returns
    -------
    bool, shape (n,)
        True with the probability `fraction`, independently for each offset.

    References
    ----------
    SplitMix64: G. L. Steele, D. Lea, C. H. Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014,
    with the constants of Sebastiano Vigna's splitmix64.c (https://prng.di.unimi.it/splitmix64.c). The hash of an offset
    is the offset-th number of the generator. Each partition has its own seed: the first 8 bytes of BLAKE2b (RFC 7693)
    of "topic-partition".
    """
    if fraction >= 1:
        return np.ones(len(offsets), np.bool_)
    z = offsets.astype(np.uint64)
    z *= GAMMA  # uint64 arrays wrap around at 2^64, as the generator does
    z += _seed(topic, partition)
    for shift, factor in MIX:
        z ^= z >> shift
        z *= factor
    z ^= z >> LAST_SHIFT
    return z < np.uint64(int(fraction * 2.0**64))


def _seed(topic: str, partition: int) -> np.uint64:
    digest = blake2b(f"{topic}-{partition}".encode(), digest_size=8).digest()
    return np.uint64(int.from_bytes(digest, "little"))
