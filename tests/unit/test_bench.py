"""The evaluation of the benchmarks' measurements."""

from __future__ import annotations

import os

import pytest

from bench import report
from bench.harness import Run, Usage
from bench.latency import NEAR, bisect, grown
from bench.measurements import spread


class Idle(Usage):
    """Processes that use one CPU second per second, and no memory."""

    def __init__(self) -> None:
        self._samples = [(at, {"Java": at}, {}) for at in (0.0, 1000.0)]
        self._cpu = {("Java", os.getpid()): 1000.0}


def test_a_rate_is_that_of_the_micro_batches_of_full_size() -> None:
    """The first micro-batches grow, and the last holds the remaining rows, so their rates differ and do not count."""
    sizes = [500, 1_000, 2_000, 4_000, 8_000, 10_000, 9_998, 10_000, 3_000]
    ends = [10, 11, 12, 13, 14, 16, 18, 20, 29]
    run = Run([{"rows": rows, "at": float(at)} for rows, at in zip(sizes, ends, strict=True)], Idle())
    found = run.steady(1_000)
    assert found["records_per_second"] == (10_000 + 9_998 + 10_000) / 6
    assert found["seconds_per_batch"] == 2
    assert found["cpu_s_per_million"]["Java"] == pytest.approx(6 / 29_998 * 1e6)
    assert run.steady(20_000)["records_per_second"] == 19_998 / 4, "rows to warm up with come on top"
    with pytest.raises(AssertionError, match="no micro-batch of full size after the first 45,000 rows"):
        run.steady(45_000)


@pytest.mark.parametrize("limit", [5_100, 12_345, 37_000, 69_000])
def test_the_highest_rate_is_found_by_halving_the_interval(limit: float) -> None:
    tried: list[float] = []

    def keeps_up(rate: float) -> bool:
        tried.append(rate)
        return rate <= limit

    bisect(5_000, 70_000, 10, keeps_up)
    highest = max((rate for rate in tried if rate <= limit), default=5_000)
    assert limit * (1 - NEAR) <= highest <= limit
    assert len(tried) <= 8
    tried.clear()
    bisect(5_000, 70_000, 2, keeps_up)
    assert len(tried) == 2


def test_a_backlog_that_builds_up_is_told_from_noise() -> None:
    assert grown([1.0, 1.3, 1.6])
    assert not grown([0.4, 0.5, 0.8]), "less than half a second"
    assert not grown([4.0, 4.6, 5.0]), "less than 30 %"


def test_what_ours_takes_beside_elasticsearch_leaves_bench_out() -> None:
    spent = {"all": [26.0, 30.0], "Elasticsearch": [16.0, 18.0], "bench": [1.0, 0.5], "Java": [9.0, 11.5]}
    found = report.other_cpu({"programs": {"ours": {"cpu_s_per_million": {k: spread(v) for k, v in spent.items()}}}})
    assert found["values"] == [9.0, 11.5]
