"""Topic and partition depend only on a record's number, and the records are distributed evenly."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.layout import Layout, Place

shares = st.fractions(0, 1, max_denominator=1000)
layouts = st.builds(Layout, shares, st.integers(1, 12), st.integers(1, 12))
seqs = st.integers(0, 10**12)


def test_a_fifth_is_every_fifth_record() -> None:
    layout = Layout(Fraction(1, 5), 3, 3)
    assert [seq for seq in range(20) if layout.locate(seq)[0].test] == [4, 9, 14, 19]
    assert [layout.locate(seq)[0].partition for seq in (0, 1, 2, 3, 5)] == [0, 1, 2, 0, 1]
    assert [layout.locate(seq)[0].partition for seq in (4, 9, 14, 19)] == [0, 1, 2, 0]


@pytest.mark.parametrize(("share", "test"), [(Fraction(0), False), (Fraction(1), True)])
def test_a_share_of_0_or_1_needs_one_topic_only(share: Fraction, test: bool) -> None:
    layout = Layout(share, 0 if test else 2, 2 if test else 0)
    assert layout.places() == [Place(test, 0), Place(test, 1)]
    assert {layout.locate(seq)[0] for seq in range(9)} == {Place(test, 0), Place(test, 1)}


@given(layouts, st.integers(0, 500))
def test_each_place_gets_its_records_in_order_and_without_a_gap(layout: Layout, count: int) -> None:
    held: dict[Place, list[int]] = {place: [] for place in layout.places()}
    for seq in range(count):
        place, index = layout.locate(seq)
        assert index == len(held[place])
        held[place].append(seq)
    assert sum(len(seqs) for place, seqs in held.items() if place.test) == count * layout.test // 1


@given(layouts, seqs)
def test_seq_inverts_locate(layout: Layout, seq: int) -> None:
    assert layout.seq(*layout.locate(seq)) == seq


@given(layouts)
def test_parse_inverts_str(layout: Layout) -> None:
    assert Layout.parse(str(layout)) == layout


@given(st.text() | st.from_regex(r"[0-9/,e.+-]{1,12}", fullmatch=True))
def test_any_text_is_a_layout_or_a_value_error(text: str) -> None:
    try:
        layout = Layout.parse(text)
    except ValueError:
        return
    assert layout.locate(7)[0] in layout.places()
