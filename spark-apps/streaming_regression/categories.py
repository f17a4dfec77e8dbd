"""One-hot encoding: which columns of the model a feature has, and the value of a record in them.

A feature `carrier[UA|AA]` has one column for every declared category: 1 in the records of that category, else 0. No
category is left out as a reference. Then the columns of a field and the intercept depend linearly on one another, and
the learners take the weights that are closest to the initial ones (see `learners.least_squares`). With initial weights
of 0 the mean of these weights over the records, each weighted by p(1 - p) for the category's share p, is 0. So a weight
says how a category differs from an average record, and a record of an unknown category, whose columns are all 0, is
predicted as an average one. A reference category would be the meaning of "unknown" instead, and a pull towards the
initial weights (`bayes`, `--rls-ridge`) would treat it differently from the others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from streaming_regression.names import column_names, split_feature

Texts = NDArray[np.object_]
WHOLE = 2**53
"""Whole numbers below it are exact as float64, so their digits do not depend on how JSON is parsed."""
LONGEST = 1024
"""Characters of an unknown category: it is stored with the point, which must not become too large."""


class UnknownCategoryError(LookupError):
    """A value is not among the declared categories."""


class NotACategoryError(TypeError):
    """A value is neither a string of at most `LONGEST` characters, a boolean nor a whole number."""


def as_text(value: object) -> str:
    """Return a value of JSON as a category; NotACategoryError for a value that cannot be one.

    Examples
    --------
    >>> [as_text(value) for value in ("UA", True, 7, 7.0)]
    ['UA', 'true', '7', '7']
    """
    if type(value) is str:
        return value
    if type(value) is bool:
        return "true" if value else "false"
    if isinstance(value, int | float) and abs(value) < WHOLE and value == int(value):
        return str(int(value))
    raise NotACategoryError


class Encoder:
    """Gives codes to the values of one field: the declared categories have the first ones.

    If `unknown_allowed`, other values get further codes in the order of their occurrence, so that their texts are kept.
    """

    def __init__(self, field: str, categories: Sequence[str], *, unknown_allowed: bool) -> None:
        self.field = field
        self.declared = len(categories)
        self._unknown_allowed = unknown_allowed
        self._codes = {text: code for code, text in enumerate(categories)}

    def code(self, value: object) -> int:
        """Return the code of a value; UnknownCategoryError or NotACategoryError if there is none."""
        text = value if type(value) is str else as_text(value)
        code = self._codes.get(text)
        if code is None:
            if not self._unknown_allowed:
                raise UnknownCategoryError
            if len(text) > LONGEST:
                raise NotACategoryError
            code = self._codes[text] = len(self._codes)
        return code

    def texts(self, codes: NDArray[np.int64]) -> Texts:
        """Return the values with these codes."""
        return np.array([*self._codes], np.object_)[codes]


@dataclass(frozen=True, slots=True)
class Layout:
    """The fields that are read from a record, and the model's d columns.

    Attributes
    ----------
    fields : the fields of the features, in their order.
    columns : the names of the d columns, in the order of the features.
    sources : the field of each column.
    numbers : the fields that are numbers, and `number_columns` their columns.
    categories : the declared categories of the other fields, by field.
    """

    fields: tuple[str, ...]
    columns: tuple[str, ...]
    sources: tuple[str, ...]
    numbers: tuple[str, ...]
    number_columns: list[int]
    categories: dict[str, tuple[str, ...]]

    def encoders(self, *, unknown_allowed: bool) -> list[Encoder]:
        """Return a new encoder for each field with categories."""
        return [
            Encoder(field, categories, unknown_allowed=unknown_allowed) for field, categories in self.categories.items()
        ]

    def matrix(self, numbers: NDArray[np.float64], codes: NDArray[np.int64]) -> NDArray[np.float64]:
        """Return the columns, shape (m, d), for the numbers, shape (m, p), and the codes, shape (m, k)."""
        x = np.zeros((len(numbers), len(self.columns)))
        x[:, self.number_columns] = numbers
        for (field, categories), column in zip(self.categories.items(), codes.T, strict=True):
            known = np.flatnonzero(column < len(categories))
            x[known, self.sources.index(field) + column[known]] = 1.0
        return x


@cache
def layout(features: tuple[str, ...]) -> Layout:
    """Return the layout of the features."""
    parts = [split_feature(feature) for feature in features]
    sources = [field for field, categories in parts for _ in range(max(1, len(categories)))]
    numbers = tuple(field for field, categories in parts if not categories)
    numeric = frozenset(numbers)
    return Layout(
        fields=tuple(field for field, _ in parts),
        columns=column_names(features),
        sources=tuple(sources),
        numbers=numbers,
        number_columns=[i for i, field in enumerate(sources) if field in numeric],
        categories={
            field: tuple(re.sub(r"\\(.)", r"\1", category) for category in categories)
            for field, categories in parts
            if categories
        },
    )


def encoding(pick: Callable[[Any], tuple[Any, ...]], encoders: Sequence[Encoder]) -> Callable[[Any], tuple[Any, ...]]:
    """Return a function that picks a record's values as `pick`, with the codes of the last ones, one per encoder."""
    codes = [encoder.code for encoder in encoders]
    first = -len(codes)

    def picked(record: Any) -> tuple[Any, ...]:  # noqa: ANN401 - a value of JSON
        row = pick(record)
        return (*row[:first], *[code(value) for code, value in zip(codes, row[first:], strict=True)])

    return picked
