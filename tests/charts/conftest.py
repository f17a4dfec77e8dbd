"""Fixtures of the charts' tests: each shape that a user may install."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.charts.rendering import SHAPES, Object, render


@pytest.fixture(params=SHAPES, ids=[path.stem for path in SHAPES])
def shape(request: pytest.FixtureRequest) -> Path:
    """A file of values."""
    path: Path = request.param
    return path


@pytest.fixture
def objects(shape: Path) -> list[Object]:
    """The objects that the chart renders from these values."""
    return render(shape)
