"""The laws of change sets, on random logs."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.core.change import Change, ChangeSet, Row, consolidate

RIDS = ("a", "b", "c")
IMAGES: tuple[Row | None, ...] = (None, {"x": 1}, {"x": 2}, {"x": None}, {"x": math.nan}, {"x": 1, "y": ""})


@dataclass(frozen=True)
class History:
    """Rows, a log that starts from them, and what the log makes of them one change at a time."""

    before: dict[str, Row]
    log: tuple[Change, ...]
    after: dict[str, Row]


@st.composite
def histories(draw: st.DrawFn) -> History:
    before = {rid: image for rid in RIDS if (image := draw(st.sampled_from(IMAGES))) is not None}
    rows, log, offset = dict(before), [], 0
    for rid, image in draw(st.lists(st.tuples(st.sampled_from(RIDS), st.sampled_from(IMAGES)), max_size=12)):
        offset += draw(st.integers(1, 3))
        log.append(Change(offset, rid, rows.get(rid), image))
        if image is None:
            rows.pop(rid, None)
        else:
            rows[rid] = image
    return History(before, tuple(log), rows)


@given(histories())
def test_applying_a_consolidated_log_is_replaying_the_log(history: History) -> None:
    assert ChangeSet.of(history.log).apply(history.before) == history.after


@given(histories())
def test_consolidating_twice_is_consolidating_once(history: History) -> None:
    once = ChangeSet.of(history.log)
    assert ChangeSet.of(once) == once


@given(histories(), st.lists(st.integers(0, 12), max_size=3))
def test_a_log_may_be_cut_anywhere(history: History, cuts: list[int]) -> None:
    edges = [0, *sorted(cuts), len(history.log)]
    merged = ChangeSet()
    for low, high in itertools.pairwise(edges):
        merged = merged.merge(ChangeSet.of(history.log[low:high]))
    assert images(merged) == images(ChangeSet.of(history.log))


def images(changes: ChangeSet) -> dict[str, tuple[Row | None, Row | None]]:
    """Old and new image by row: what a cut cannot change."""
    return {change.rid: (change.old, change.new) for change in changes}


@given(histories(), st.integers(0, 12), st.integers(0, 12))
def test_merging_is_associative(history: History, one: int, other: int) -> None:
    low, high = sorted((one, other))
    first, second, third = (
        ChangeSet.of(part) for part in (history.log[:low], history.log[low:high], history.log[high:])
    )
    assert images(first.merge(second).merge(third)) == images(first.merge(second.merge(third)))


@given(histories())
def test_the_empty_change_set_changes_nothing(history: History) -> None:
    whole = ChangeSet.of(history.log)
    assert ChangeSet().merge(whole) == whole == whole.merge(ChangeSet())
    assert ChangeSet().apply(history.before) == history.before


def test_a_row_that_comes_back_within_a_part_keeps_its_offset() -> None:
    """Offsets cannot obey the law of the cut, whatever rule they followed: what vanished in a part left no offset."""
    one, two = {"x": 1}, {"x": 2}
    log = (Change(1, "a", one, two), Change(2, "a", two, one), Change(3, "a", one, two))
    assert list(ChangeSet.of(log)) == [Change(3, "a", one, two)]
    assert list(ChangeSet.of(log[:1]).merge(ChangeSet.of(log[1:]))) == [Change(1, "a", one, two)]


@given(histories())
def test_a_change_set_and_its_inverse_cancel(history: History) -> None:
    whole = ChangeSet.of(history.log)
    assert len(whole.merge(whole.inverse())) == 0
    assert whole.inverse().inverse() == whole
    assert whole.inverse().apply(history.after) == history.before


@given(histories())
def test_a_row_has_at_most_one_change_with_two_different_images(history: History) -> None:
    changes = consolidate(history.log)
    assert all(count == 1 for count in Counter(change.rid for change in changes).values())
    assert all(change.old != change.new for change in changes)


@given(histories())
def test_changes_are_ordered_and_keep_the_offset_of_the_last_change_of_their_row(history: History) -> None:
    changes = consolidate(history.log)
    assert [change.offset for change in changes] == sorted(change.offset for change in changes)
    last = {change.rid: change.offset for change in history.log}
    assert all(change.offset == last[change.rid] for change in changes)


@given(histories())
def test_the_order_of_equal_offsets_does_not_depend_on_the_order_of_arrival(history: History) -> None:
    at_one_offset = [Change(1, change.rid, change.old, change.new) for change in consolidate(history.log)]
    assert consolidate(at_one_offset) == consolidate(reversed(at_one_offset))


@pytest.mark.parametrize(
    ("rows", "change"),
    [
        ({}, Change(1, "a", {"x": 1}, None)),
        ({}, Change(1, "a", {"x": 1}, {"x": 2})),
        ({"a": {"x": 1}}, Change(1, "a", None, {"x": 2})),
        ({"a": {"x": 1}}, Change(1, "a", {"x": 2}, None)),
    ],
    ids=["delete of nothing", "update of nothing", "insert over a row", "delete of another image"],
)
def test_a_change_whose_old_image_is_not_there_is_refused(rows: dict[str, Row], change: Change) -> None:
    with pytest.raises(ValueError, match="the old image of the change is not the row that is there"):
        ChangeSet((change,)).apply(rows)


def test_applying_leaves_the_rows_it_was_given_alone() -> None:
    rows: dict[str, Row] = {"a": {"x": 1}}
    ChangeSet((Change(1, "a", {"x": 1}, None),)).apply(rows)
    assert rows == {"a": {"x": 1}}


def test_a_row_that_was_not_a_number_and_still_is_not_has_no_change() -> None:
    """Two NaNs that were read from different places are equal images, as they are in every store."""
    log = (Change(1, "a", {"x": float("nan")}, {"x": 1.0}), Change(2, "a", {"x": 1.0}, {"x": float("nan")}))
    assert consolidate(log) == []
    assert ChangeSet((Change(1, "a", {"x": float("nan")}, None),)).apply({"a": {"x": float("nan")}}) == {}
