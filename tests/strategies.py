"""Hypothesis strategies used by several tests."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from numpy.typing import NDArray

Floats = NDArray[np.float64]

AWKWARD_NAMES = (
    *("Air temperature [K]", "f(x)", "it's", "100 %", "a&b", "#1", "why?", "a/b", "x+1=y", "a-b|c", "$t;@`~^!"),
    *("größe", "温度", "🌡️ °C", "a.b", "a", "a.b.c", "0", "-1", "true", "null", "_id", "@timestamp", "%s", "$x"),
    *("__proto__", "constructor", "toString", "hasOwnProperty", "prototype", "length", "x", "y", "pred", "series"),
    *("value", "feature", "label", "a1", "began", "datum", "x\u00a0y", "n" * 200, r"a\.b"),
)
"""Valid names of features or labels, each with a special meaning in some language into which it may be inserted."""

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


KINDS = ("usual", "counter", "id", "constant", "copy", "sentinel", "largest float32", "two values")


@st.composite
def unscaled(draw: st.DrawFn, max_features: int = 5) -> tuple[Floats, Floats]:
    """Rows x, shape (n, d), and labels y as in real data: each column has its own unit and offset.

    Magnitudes range from 1e-30 to 1e30, offsets up to 1e9 times the spread. Some columns are constant, some are copies
    of other columns in another unit, and some contain a few values that stand for a missing value.
    """
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = draw(st.integers(1, 250))
    magnitudes, offsets = st.integers(-30, 30), st.sampled_from([0.0, 1.0, -1e3, 1e6, -1e9, 1e9])
    columns: list[Floats] = []
    y = rng.normal(size=rows)
    for kind in draw(st.lists(st.sampled_from(KINDS), min_size=1, max_size=max_features)):
        z: Floats = rng.normal(size=rows)
        if kind == "counter":
            z = np.arange(rows, dtype=np.float64) / rows
        elif kind == "id":
            z = rng.integers(0, 3, size=rows).astype(np.float64) + 8.9e15
        elif kind == "constant":
            z = np.full(rows, rng.normal())
        elif kind == "two values":
            z = (z > 1).astype(float)
        y += rng.normal() * (z - z.mean())
        x = z if kind == "id" else (z + draw(offsets)) * 10.0 ** draw(magnitudes)
        if kind == "copy" and columns:
            x = columns[-1] * 2.0 ** draw(st.integers(-60, 60))  # exactly the same column, without rounding
        elif kind in {"sentinel", "largest float32"}:
            x[rng.random(rows) < draw(st.sampled_from([0.01, 0.3]))] = -9999.0 if kind == "sentinel" else 3.4e38
        columns.append(x)
    return np.column_stack(columns), (y + draw(offsets)) * 10.0 ** draw(magnitudes)


@st.composite
def cuts(draw: st.DrawFn, rows: int, most: int = 6) -> list[slice]:
    """A split of `rows` rows into up to `most` parts, which may be empty."""
    edges = sorted(draw(st.lists(st.integers(0, rows), max_size=most - 1)))
    return [slice(start, end) for start, end in zip([0, *edges], [*edges, rows], strict=True)]
