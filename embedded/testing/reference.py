"""References for the models: least squares, solved in other ways than by the learners."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def lstsq(rows: Floats, ridge: float = 0.0, counts: Floats | None = None) -> Floats:
    """Return the least-squares solution, intercept first, for rows of features and, last, label; shape (n, d + 1).

    The columns are centred, in extended precision, and divided by their lengths: on raw columns the rank limit of
    numpy's lstsq drops small columns beside large ones. If the rows do not determine a weight, the solution is the
    smallest one in these units. `ridge` pulls the weights, not the intercept, to 0; row i counts `counts[i]` times.
    """
    wide = rows.astype(np.longdouble) - rows[0]  # exact if the values of a column are close to each other
    count = np.ones(len(rows)) if counts is None else counts
    mean = (count[:, None] * wide).sum(axis=0) / count.sum()
    centred = (wide - mean) * np.sqrt(count)[:, None]
    largest = np.abs(centred).max(axis=0)
    largest[largest == 0] = 1
    scale = largest * np.sqrt(np.square(centred / largest).sum(axis=0))
    scale[scale == 0] = 1
    x, y = (centred[:, :-1] / scale[:-1]).astype(float), (centred[:, -1] / scale[-1]).astype(float)
    pull = np.diag((np.sqrt(ridge) / scale[:-1]).astype(float))
    solution = np.linalg.lstsq(np.vstack([x, pull]), np.concatenate([y, np.zeros(len(pull))]), rcond=1e-10)[0]
    weights = solution / scale[:-1] * scale[-1]
    mean = mean + rows[0]
    return np.asarray([mean[-1] - mean[:-1] @ weights, *weights], np.float64)


def exact(x: Floats, y: Floats, counts: Floats) -> tuple[list[Fraction], int]:
    """Return the predictions of least squares for its own rows `x`, shape (n, d), in exact arithmetic.

    These predictions are unique even if the weights are not. Row i counts `counts[i]` times. The second result is the
    rank of the centred columns of x.
    """
    columns = [_integers(column) for column in (np.ones(len(y)), *x.T, y)]
    times, _ = _integers(counts)
    # Normal equations [A | b] of the columns as integers, so nothing is rounded.
    table = [
        [Fraction(sum(n * p * q for n, p, q in zip(times, one, other, strict=True))) for other, _ in columns]
        for one, _ in columns[:-1]
    ]
    used = []  # pivots; a column without a pivot depends on earlier ones and gets the weight 0
    for i, row in enumerate(table):
        if row[i]:
            used.append(i)
            for other in table:
                if other is not row and other[i]:
                    factor = other[i] / row[i]
                    other[:] = [a - factor * b for a, b in zip(other, row, strict=True)]
    weights = {i: table[i][-1] / table[i][i] for i in used}
    unit = columns[-1][1]
    predictions = [sum((w * columns[i][0][n] for i, w in weights.items()), Fraction(0)) / unit for n in range(len(y))]
    return predictions, len(used) - 1


def conditions(x: Floats, counts: Floats) -> Floats:
    """Return the singular values, largest first, of the columns of x, centred and divided by their lengths."""
    wide = x.astype(np.longdouble) - x[0]
    centred = (wide - (counts[:, None] * wide).sum(axis=0) / counts.sum()) * np.sqrt(counts)[:, None]
    largest = np.abs(centred).max(axis=0)
    part = (centred / np.where(largest, largest, 1)).astype(float)
    return np.linalg.svd(part / np.maximum(np.linalg.norm(part, axis=0), 1e-300), compute_uv=False)


def _integers(column: Floats) -> tuple[list[int], int]:
    """Return a column multiplied by a power of two, so that it consists of integers, and that power."""
    ratios = [value.as_integer_ratio() for value in column.tolist()]
    unit = max(denominator for _, denominator in ratios)
    return [numerator * (unit // denominator) for numerator, denominator in ratios], unit
