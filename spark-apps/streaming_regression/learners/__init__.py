"""Online learners: each computes the next model from a model and one micro-batch's statistics (numpy only).

Each module that defines `LEARNER` is one learner. A new one is one new file: its settings, their documentation and the
chart's values follow from it (`make generate`).
"""

from __future__ import annotations

import pkgutil
from collections.abc import Mapping
from dataclasses import Field, fields
from importlib import import_module
from typing import Any

import numpy as np

from streaming_regression.learners.model import LIMIT, DivergedError, Learner, Model
from streaming_regression.learners.statistics import Floats, Statistics
from streaming_regression.learners.uncertainty import Uncertainty

__all__ = [
    "LEARNERS",
    "LIMIT",
    "DivergedError",
    "Floats",
    "Learner",
    "Model",
    "Statistics",
    "Uncertainty",
    "create",
    "options",
]


def _learners() -> dict[str, type[Learner]]:
    modules = [import_module(f"{__name__}.{module.name}") for module in pkgutil.iter_modules(__path__)]
    found = [module.LEARNER for module in modules if hasattr(module, "LEARNER")]
    return {learner.name: learner for learner in found}


LEARNERS = _learners()
"""The learners by name."""


def options(learner: Any) -> list[Field[Any]]:  # noqa: ANN401 - a class that is a dataclass
    """Return the fields of a learner's class that are settings, see `option`."""
    return [field for field in fields(learner) if "description" in field.metadata]


def create(
    name: str,
    initial: Floats,
    features: tuple[str, ...],
    settings: Mapping[str, Any],
    sources: tuple[str, ...] = (),
) -> Learner:
    """Return a new learner.

    Parameters
    ----------
    name
        The value of `--learner`.
    initial : float64, shape (d + 1,)
        The intercept and weights before any row.
    features
        The names of the d features.
    settings
        The values of its own settings, by the name of its field.
    sources
        The record's field of each of the d features. Features of the same field are its categories.
    """
    kind: Any = LEARNERS[name]
    common = {"initial": np.asarray(initial, np.float64), "features": features, "sources": sources}
    known = {field.name for field in fields(kind)}
    return kind(**{key: value for key, value in (common | dict(settings)).items() if key in known})  # type: ignore[no-any-return]
