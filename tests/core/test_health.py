"""What is worth telling although nothing failed: decisions over plain histories."""

from __future__ import annotations

import pytest

from tidemill.core.health import MOVES_MIN, Ran, counts_far, empty, gap, is_silent, too_long

USUAL = [Ran(10, rows, 1.0) for rows in (100, 120, 90, 110)]


def test_a_run_that_makes_nothing_is_told_only_where_it_took_something_and_runs_always_made_some() -> None:
    assert "took 5 rows and made none" in empty(USUAL, Ran(5, 0, 1.0))
    assert not empty(USUAL, Ran(0, 0, 1.0))
    assert not empty(USUAL, Ran(5, 1, 1.0))
    assert not empty([*USUAL, Ran(3, 0, 1.0)], Ran(5, 0, 1.0)), "it happened before"
    assert not empty(USUAL[:2], Ran(5, 0, 1.0)), "two runs are no history"


@pytest.mark.parametrize(
    ("rows", "is_far"), [(600, False), (601, True), (18, False), (17, True), (100, False), (0, False)]
)
def test_a_count_is_far_beyond_five_times_what_the_last_runs_made(rows: int, is_far: bool) -> None:
    assert bool(counts_far(USUAL, Ran(10, rows, 1.0))) is is_far


def test_few_rows_are_never_far_apart() -> None:
    assert not counts_far([Ran(1, 1, 1.0)] * 5, Ran(1, 9, 1.0))


def test_a_run_is_too_long_beyond_its_period_and_a_job_without_one_has_all_the_time() -> None:
    assert too_long(301.0, 300.0)
    assert not too_long(300.0, 300.0)
    assert not too_long(1e6, 0.0)


def test_a_gap_is_what_lies_between_the_end_of_a_run_and_the_beginning_of_the_next() -> None:
    assert gap(5, (8, 10)) == (5, 8)
    assert gap(5, (5, 10)) is None
    assert gap(5, (0, 10)) is None, "a rebuild begins at the beginning"
    assert gap(5, (8, 8)) is None, "it took nothing"


def test_an_input_is_silent_beyond_five_times_its_longest_pause_and_an_hour() -> None:
    assert not is_silent([60.0], MOVES_MIN, 3_600.0)
    assert is_silent([60.0], MOVES_MIN, 3_601.0)
    assert not is_silent([7_200.0], MOVES_MIN, 36_000.0)
    assert is_silent([7_200.0], MOVES_MIN, 36_001.0)
    assert not is_silent([], MOVES_MIN - 1, 1e9), "a handful of arrivals is no history"
