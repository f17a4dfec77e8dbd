"""Which cases of a parametrized test `make test` runs; `make test-slow` runs the others."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import pytest


def slow_except(quick: Collection[Any], cases: Iterable[Any]) -> list[Any]:
    """Mark the cases as slow, except those in `quick`, each of which must be a case."""
    known = list(cases)
    assert all(case in known for case in quick), f"no such case among {known}"
    return [
        case if case in quick else pytest.param(*(case if isinstance(case, tuple) else [case]), marks=pytest.mark.slow)
        for case in known
    ]
