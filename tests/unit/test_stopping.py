"""The effect of SIGTERM and SIGINT before, during and after the query."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from streaming_regression.stopping import Stop

SIGNALS = (signal.SIGTERM, signal.SIGINT)


@pytest.fixture
def stop() -> Iterator[Stop]:
    before = [(number, signal.getsignal(number)) for number in SIGNALS]
    yield Stop()
    for number, handler in before:
        signal.signal(number, handler)


def interrupted(number: int) -> bool:
    try:
        signal.raise_signal(number)
    except SystemExit as end:
        return end.code == 0
    return False


@pytest.mark.parametrize("number", SIGNALS)
def test_a_signal_ends_the_program_at_once_but_only_requests_it_while_deferred(stop: Stop, number: int) -> None:
    requested = threading.Event()
    assert not stop.signalled
    assert interrupted(number)
    assert stop.signalled
    with stop.deferred(requested):
        assert not requested.is_set()
        assert not interrupted(number)
        assert requested.is_set()
    assert interrupted(number)


@pytest.mark.parametrize("number", SIGNALS)
def test_a_second_signal_does_not_wait(stop: Stop, number: int) -> None:
    with stop.deferred(threading.Event()):
        assert not interrupted(signal.SIGTERM)
        assert interrupted(number)
