"""Where change sets end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.jobs import job
from tidemill.core.errors import StateCorrupt
from tidemill.core.pace import Due, delayed, ranges

ASSETS = ("a", "b")
offsets = st.integers(0, 20)


@st.composite
def positions(draw: st.DrawFn) -> tuple[dict[str, int], dict[str, int], dict[str, int] | None]:
    """Cursors, heads at or beyond them, and perhaps cuts anywhere."""
    cursors = {asset: draw(offsets) for asset in ASSETS}
    heads = {asset: cursors[asset] + draw(offsets) for asset in ASSETS}
    ends = draw(st.none() | st.dictionaries(st.sampled_from(ASSETS), st.integers(0, 40)))
    return cursors, heads, ends


@given(positions(), st.integers(0, 5), st.booleans())
def test_a_change_set_never_moves_back_nor_passes_its_head_cut_or_cap(
    at: tuple[dict[str, int], dict[str, int], dict[str, int] | None], cap: int, is_sliceable: bool
) -> None:
    cursors, heads, ends = at
    found = ranges(job("j", ASSETS, max_changes=cap), cursors, heads, ends=ends, is_sliceable=is_sliceable)
    assert set(found) == set(ASSETS)
    for asset, (from_, to) in found.items():
        assert from_ == cursors[asset]
        assert from_ <= to <= heads[asset]
        if ends is not None and asset in ends:
            assert to <= max(ends[asset], from_)
        if cap and is_sliceable:
            assert to - from_ <= cap


@given(positions())
def test_without_cuts_a_run_takes_everything(
    at: tuple[dict[str, int], dict[str, int], dict[str, int] | None],
) -> None:
    cursors, heads, _ = at
    assert ranges(job("j", ASSETS), cursors, heads) == {asset: (cursors[asset], heads[asset]) for asset in ASSETS}


@given(positions(), st.integers(1, 5))
def test_capped_runs_one_after_another_reach_the_head(
    at: tuple[dict[str, int], dict[str, int], dict[str, int] | None], cap: int
) -> None:
    cursors, heads, _ = at
    for _ in range(21):
        cursors = {asset: to for asset, (_, to) in ranges(job("j", ASSETS, max_changes=cap), cursors, heads).items()}
    assert cursors == heads


def test_an_input_that_was_never_read_is_read_from_the_beginning() -> None:
    assert ranges(job("j", ["a"]), {}, {"a": 3}) == {"a": (0, 3)}


def test_a_pinned_range_is_taken_exactly_whatever_happened_since() -> None:
    pinned = {"a": (2, 5)}
    found = ranges(job("j", ["a"], max_changes=1), {"a": 9}, {"a": 7}, ends={"a": 3}, pinned=pinned)
    assert found == pinned
    assert found is not pinned


def test_a_cursor_beyond_its_head_is_an_error_and_never_zero() -> None:
    with pytest.raises(StateCorrupt, match="job `j` has read `a` to 8, but its log ends at 7"):
        ranges(job("j", ["a"]), {"a": 8}, {"a": 7})


@pytest.mark.parametrize(
    ("times", "now", "due"),
    [
        ([], 100.0, Due(3)),
        ([(4, 10.0)], 100.0, Due(4)),
        ([(4, 40.0)], 100.0, Due(4)),
        ([(4, 41.0)], 100.0, Due(3, 101.0)),
        ([(4, 10.0), (5, 90.0)], 100.0, Due(4, 150.0)),
        ([(4, 90.0), (5, 10.0)], 100.0, Due(3, 150.0)),
        ([(4, 10.0), (6, 20.0), (9, 30.0)], 100.0, Due(9)),
        ([(4, 10.0), (6, 200.0), (9, 30.0)], 100.0, Due(4, 260.0)),
    ],
    ids=[
        "nothing waits",
        "old enough",
        "exactly old enough",
        "too young",
        "the young one waits",
        "an old one behind a young one waits too",
        "all due",
        "the set ends before the first that is not due",
    ],
)
def test_a_delayed_change_set_ends_before_the_first_change_not_yet_due(
    times: list[tuple[int, float]], now: float, due: Due
) -> None:
    assert delayed(3, times, 60.0, now) == due


@given(st.lists(st.floats(0, 200), max_size=8), st.floats(0, 300), st.floats(1, 100))
def test_a_delayed_change_set_is_followed_by_another_at_the_moment_it_names(
    times: list[float], now: float, delay: float
) -> None:
    log = list(enumerate(times, start=1))
    due = delayed(0, log, delay, now)
    if due.next_at is None:
        assert due.end == len(log)
    else:
        assert due.next_at > now
        later = delayed(due.end, log[due.end :], delay, due.next_at)
        assert later.end > due.end
