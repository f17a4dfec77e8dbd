"""Properties of formulas, buckets and bins, without a server."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dashboards import formula
from dashboards.errors import ConfigError
from dashboards.panels import BUCKETS, SAMPLE, TIME, Line, Names
from dashboards.queries import STEPS_S, Extent, interval
from dashboards.samples import BINS, CLUSTERS, fences, histogram, representative, sample, sample_level
from dashboards.sections import sections
from dashboards.settings import Load, Serve, load

LINES = [panel for section in sections(Names()) for panel in section.panels if isinstance(panel, Line)]
RANGES = st.dictionaries(
    st.integers(0, 50),
    st.tuples(st.integers(0, 10**12), st.integers(0, 10**10)).map(lambda pair: (pair[0], pair[0] + pair[1])),
    max_size=50,
)


@given(st.lists(st.floats(-1e9, 1e9), min_size=1))
def test_every_value_is_in_one_bin_or_counted_as_an_outlier(values: list[float]) -> None:
    rows = histogram(values)
    bins = [row for row in rows if row["start"] is not None]
    assert sum(row["count"] for row in rows) == len(values)
    assert len(bins) <= BINS
    least, most = fences(values)
    beyond = sum(not least <= value <= most for value in values)
    assert [row["count"] for row in rows[len(bins) :]] == ([beyond] if beyond else [])
    assert all(before["end"] == after["start"] for before, after in pairwise(bins))


@given(RANGES)
def test_sample_is_never_larger_and_never_much_smaller_than_allowed(ranges: dict[int, tuple[int, int]]) -> None:
    level = sample_level(ranges, SAMPLE)
    blocks = [
        sum((last >> n) - (first >> n) + 1 for first, last in ranges.values()) for n in (level, level - (level > 0))
    ]
    assert blocks[0] <= SAMPLE
    assert level == 0 or blocks[1] > SAMPLE
    assert sample("train", Extent({"train": ranges}), "a")["size"] == SAMPLE


@given(st.integers(0, 10**9), st.integers(0, 40))
def test_offset_that_stands_for_a_block_stands_for_one_of_its_halves_too(block: int, level: int) -> None:
    offset = representative(block, level)
    assert offset >> level == block
    assert level == 0 or offset in {representative(half, level - 1) for half in (2 * block, 2 * block + 1)}


def test_sample_is_not_empty_where_every_second_offset_holds_a_mark_of_a_transaction() -> None:
    chosen = [representative(block, 3) for block in range(1000)]
    assert 400 < sum(offset % 2 for offset in chosen) < 600


def test_sample_of_more_partitions_than_points_is_bounded() -> None:
    ranges = dict.fromkeys(range(SAMPLE + 100), (0, 10))
    assert len(sample("train", Extent({"train": ranges}), "a")["query"]["bool"]["filter"][0]["terms"]["offset"]) == 1


@given(RANGES, st.floats(1e-9, 0.99))
def test_sample_of_sampled_points_is_searched_in_few_long_ranges(
    ranges: dict[int, tuple[int, int]], stored: float
) -> None:
    """On average the ranges hold about SAMPLE points, if the time range has that many."""
    filters = sample("train", Extent({"train": ranges}), "a", stored)["query"]["function_score"]["query"]
    total = sum(last - first + 1 for first, last in ranges.values()) * stored
    if total <= SAMPLE:
        assert "match_none" in filters or len(filters["bool"]["filter"]) == 2, "all of the time range"
        return
    clauses = filters["bool"]["filter"][0]["bool"]["should"]
    assert len(clauses) <= CLUSTERS
    (length,) = {clause["range"]["offset"]["lt"] - clause["range"]["offset"]["gte"] for clause in clauses}
    level = sample_level(ranges, CLUSTERS)
    blocks = sum((last >> level) - (first >> level) + 1 for first, last in ranges.values())
    assert blocks * length * stored <= SAMPLE + blocks
    assert blocks * length * stored >= SAMPLE / 2


def test_sample_of_sampled_points_stays_while_the_stream_goes_on() -> None:
    """Until the length of the blocks doubles, the ranges stay the same, and new ones are added."""

    def begins(last: int) -> set[int]:
        query = sample("train", Extent({"train": {0: (0, last)}}), "a", 0.01)["query"]["function_score"]["query"]
        return {clause["range"]["offset"]["gte"] for clause in query["bool"]["filter"][0]["bool"]["should"]}

    assert begins(1_100_000) < begins(1_200_000)


@given(RANGES.filter(bool), st.floats(0, 4e12), st.floats(0, 1e11))
def test_lines_have_a_bounded_number_of_buckets(ranges: dict[int, tuple[int, int]], start: float, span: float) -> None:
    known = Extent({"train": ranges, "test": ranges}, start, start + span, int(start), int(start + span))
    length = max(last for _, last in ranges.values()) - min(first for first, _ in ranges.values())
    for panel in LINES:
        step = interval(panel, known)
        if panel.across == TIME:
            assert step in STEPS_S
            assert span / 1000 / step < BUCKETS or step == STEPS_S[-1]
        else:
            assert (int(start + span) - int(start) if panel.across == "batch" else length) / step <= BUCKETS


def computed(text: str, *numbers: float | None) -> float | None:
    """The value of a formula whose aggregations have, from left to right, these results."""
    expression = formula.parse(text)
    names = formula.aggregations([expression])
    (found,) = formula.values([expression], dict(zip(names, ({"value": number} for number in numbers), strict=True)))
    return found


def test_formula_has_no_value_without_documents_or_where_it_divides_by_zero_or_is_not_finite() -> None:
    ratio = "1 - sum(a) / (sum(b) - 2)"
    assert computed(ratio, 3.0, 8.0) == 0.5
    assert computed(ratio, 3.0, 2.0) is None
    assert computed(ratio, None, 8.0) is None
    assert computed("sum(a) * sum(b)", 1e200, 1e200) is None
    assert computed("sum(a) - sum(b)", float("inf"), float("inf")) is None
    assert computed("sqrt(sum(a) / sum(b))", 9.0, 4.0) == 1.5
    assert computed("sqrt(sum(a) / sum(b))", -9.0, 4.0) is None
    assert computed("sqrt(sum(a) / sum(b))", 9.0, 0.0) is None


@given(st.lists(st.text(min_size=1).filter(str.isprintable), min_size=1, max_size=8, unique=True))
def test_names_of_aggregations_never_hold_a_users_text(features: list[str]) -> None:
    formulas = [formula.parse(f"average({feature!r}) / max({feature!r})") for feature in features]
    found = formula.aggregations(formulas)
    assert all(re.fullmatch(r"a\d+", name) for name in found)
    wanted = [{kind: {"field": feature}} for feature in features for kind in ("avg", "max")]
    assert list(found.values()) == wanted
    numbers = {name: {"value": float(i)} for i, name in enumerate(found, 1)}
    assert formula.values(formulas, numbers) == [(2 * i + 1) / (2 * i + 2) for i in range(len(features))]


def test_an_aggregation_that_formulas_share_is_asked_for_once() -> None:
    formulas = [formula.parse("sum(a) / sum(b)"), formula.parse("sum(b) - sum(a)")]
    assert list(formula.aggregations(formulas).values()) == [{"sum": {"field": "a"}}, {"sum": {"field": "b"}}]


@pytest.mark.parametrize(
    "text", ["sum(a, b)", "a", "sum(a) ** 2", "median(a)", "-sum(a)", "__import__('os')", "sqrt()"]
)
def test_formula_that_lens_or_we_cannot_compute_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a number, "):
        formula.parse(text)


@pytest.mark.parametrize(
    ("settings", "flags", "text"),
    [
        (Load, ["--kibana-url", "http://me:secret@host:1"], "a URL must not contain a password"),
        (Load, ["--kibana-url", "host"], "--kibana-url / KIBANA_URL: 'host' is not http://host:port"),
        (Load, ["--kibana-user", "me"], "--kibana-user and --kibana-password-file must be given together"),
        (Load, ["--kibana-space", "My Space"], "is not a space id"),
        (Load, ["--elasticsearch-password-file", "/no/secret"], "there is no such file"),
        (Load, ["--features", "a,a"], "is listed twice"),
        (Load, ["--label", "a,b"], "--label / LABEL"),
        (Load, ["--features", "a:double"], "--features / FEATURES"),
        (Load, ["--features", "a,b", "--label", "a"], "a label cannot predict itself"),
        (Load, ["--kafka-train-topic", ".."], "--kafka-train-topic / KAFKA_TRAIN_TOPIC"),
        (Load, ["--index-prefix", "a*"], "--index-prefix / INDEX_PREFIX"),
        (Serve, ["--page-port", "70000"], "--page-port / PAGE_PORT"),
        (Serve, ["--kafka-test-topic", "train"], "use two different topics"),
        (Serve, ["--frequency", "1"], "see --help"),
    ],
)
def test_wrong_setting_is_named_with_flag_and_variable(settings: type, flags: list[str], text: str) -> None:
    with pytest.raises(ConfigError) as error:
        load(settings, flags)
    assert text in str(error.value)
    assert "secret@" not in str(error.value)
