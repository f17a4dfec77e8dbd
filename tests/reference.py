"""What a model must equal."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def lstsq(rows: Floats, ridge: float = 0.0) -> Floats:
    """Return numpy's solution, intercept first, for rows of the features and, last, the label; shape (n, d + 1).

    `ridge` pulls the weights, not the intercept, to 0.
    """
    d = rows.shape[1] - 1
    x = np.vstack([np.column_stack([np.ones(len(rows)), rows[:, :-1]]), np.sqrt(ridge) * np.eye(d, d + 1, k=1)])
    solution, *_ = np.linalg.lstsq(x, np.concatenate([rows[:, -1], np.zeros(d)]), rcond=None)
    return np.asarray(solution, np.float64)
