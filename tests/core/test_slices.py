"""Slices: they end where they must, cover everything once, and give way to live work."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given
from hypothesis import strategies as st

from tidemill.core.slices import (
    ALONE,
    BESIDE,
    BESIDE_REPLAYING,
    SLICE_CHANGES_MIN,
    Span,
    ends,
    is_over,
    left,
    rest_for_rate,
    within,
    without,
)

OFFSETS = st.dictionaries(st.sampled_from("abc"), st.integers(0, 1_000), min_size=1)


@given(OFFSETS, st.integers(1, 400))
def test_slices_cover_everything_once_and_never_pass_a_target(targets: dict[str, int], changes: int) -> None:
    cursors: dict[str, int] = {}
    taken = 0
    while not is_over(cursors, targets):
        cut = ends(cursors, targets, changes)
        assert all(cursors.get(asset, 0) <= to <= targets[asset] for asset, to in cut.items())
        taken += sum(to - cursors.get(asset, 0) for asset, to in cut.items())
        assert left(cut, targets) == sum(targets.values()) - taken
        cursors = cut
    assert cursors == targets or not any(targets.values())
    assert taken == sum(targets.values())


@given(st.integers(1, 10_000_000), st.floats(1e-6, 1e4))
def test_slices_grow_at_most_twofold_and_stay_within_bounds(changes: int, took_seconds: float) -> None:
    for pace in (ALONE, BESIDE, BESIDE_REPLAYING):
        after = pace.after(min(changes, pace.changes), took_seconds)
        assert SLICE_CHANGES_MIN <= pace.changes_min <= after.changes <= min(pace.changes_max, pace.changes * 2)


def test_slices_come_to_take_as_long_as_they_shall() -> None:
    cost_seconds = 0.0001
    pace = BESIDE
    for _ in range(12):
        pace = pace.after(pace.changes, pace.changes * cost_seconds)
    assert pace.changes == round(pace.aim_seconds / cost_seconds)


def test_slices_are_longer_while_nobody_else_works() -> None:
    busy, quiet = BESIDE.after(500, 0.03, 0.5), BESIDE.after(500, 0.03, 2.0)
    assert quiet.changes > busy.changes
    assert (busy.rest_seconds, quiet.rest_seconds) == (0.27, 0.0)


def test_beside_live_work_slices_take_a_tenth_of_the_time_and_long_ones_half() -> None:
    assert BESIDE.after(500, 0.02).rest_seconds == 0.18
    assert BESIDE.after(500, 0.2).rest_seconds == 0.5
    assert BESIDE.after(500, 0.5).rest_seconds == 0.5
    assert BESIDE.after(500, 30.0).rest_seconds == 30.0
    assert ALONE.after(500, 0.5).rest_seconds == 0.0
    assert BESIDE_REPLAYING.after(5_000, 0.1).rest_seconds == 0.4


def test_a_rate_is_kept_by_waiting_for_what_is_left_of_the_time() -> None:
    assert rest_for_rate(100, 2.0, 10.0) == 8.0
    assert rest_for_rate(100, 20.0, 10.0) == 0.0
    assert rest_for_rate(100, 0.0, 0.0) == 0.0


SPANS = st.lists(st.builds(Span, st.sampled_from("ab"), st.integers(0, 30), st.integers(0, 30)), max_size=6)


def offsets(spans: Iterable[Span]) -> set[tuple[str, int]]:
    """Every change that lies in these parts of logs."""
    return {(span.asset, offset) for span in spans for offset in range(span.from_ + 1, span.to + 1)}


@given(SPANS, st.builds(Span, st.sampled_from("ab"), st.integers(0, 30), st.integers(1, 30)))
def test_what_is_taken_away_is_gone_and_nothing_else(spans: list[Span], gone: Span) -> None:
    assert offsets(without(spans, gone)) == offsets(spans) - offsets([gone])


@given(SPANS, SPANS)
def test_what_lies_within_bounds_is_what_both_have(spans: list[Span], bounds: list[Span]) -> None:
    found = within(spans, bounds)
    assert offsets(found) == offsets(spans) & offsets(bounds)
    assert all(span.changes > 0 for span in found)
