"""A rate is kept without drift, and is never exceeded for long."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from producer.pacing import CATCH_UP_S, Pacer
from producer.progress import every


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@given(st.floats(0.01, 1e6), st.lists(st.floats(0, 0.5), min_size=1, max_size=200))
def test_late_wake_ups_do_not_add_up(rate: float, late_s: list[float]) -> None:
    """Each wake-up is late, as after a sleep: the last record is late by one such delay, not by their sum."""
    clock = Clock()
    pacer = Pacer(rate, clock)
    for late in late_s:
        if (delay_s := pacer.delay_s()) > 0:
            clock.now += delay_s + late
        pacer.sent()
    due = 100.0 + (len(late_s) - 1) / rate
    assert due - 1e-6 <= clock.now <= due + max(late_s) + 1e-6


@given(st.floats(1, 1000), st.floats(0, 1000))
def test_lost_time_is_made_up_for_one_second_at_most(rate: float, lost_s: float) -> None:
    clock = Clock()
    pacer = Pacer(rate, clock)
    pacer.sent()
    clock.now += lost_s
    burst = 0
    while pacer.delay_s() <= 0:
        pacer.sent()
        burst += 1
    assert burst <= min(lost_s, CATCH_UP_S) * rate + 2


def test_every_passes_a_number_on_once_a_period() -> None:
    clock = Clock()
    seen: list[int] = []
    report = every(5.0, seen.append, clock)
    for number in range(100):
        clock.now += 0.25
        report(number)
    assert seen == [19, 39, 59, 79, 99]
