"""Hypothesis strategies that several tests draw from."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

Floats = NDArray[np.float64]

numbers = st.floats(min_value=-1e6, max_value=1e6, allow_nan=False)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=True, allow_infinity=True) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def regressions(draw: st.DrawFn, max_features: int = 5) -> tuple[Floats, Floats]:
    """Rows x, shape (n, d), and labels y, shape (n,), of a well-conditioned regression with noise."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    features, rows = draw(st.integers(1, max_features)), draw(st.integers(0, 400))
    x = rng.normal(size=(rows, features)) * 10.0 ** rng.integers(-1, 2, size=features)
    return x, x @ rng.normal(size=features) + rng.normal() + rng.normal(size=rows)


@st.composite
def cuts(draw: st.DrawFn, rows: int, most: int = 6) -> list[slice]:
    """A split of `rows` rows into up to `most` parts, empty ones too."""
    edges = sorted(draw(st.lists(st.integers(0, rows), max_size=most - 1)))
    return [slice(start, end) for start, end in zip([0, *edges], [*edges, rows], strict=True)]
