"""Which value a gate takes: a table of cases."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tidemill.core.gate import (
    GAP_DAYS_MAX,
    Value,
    Verdict,
    deadline_at,
    decide,
    expected_values,
    missing_members,
    wide_gaps,
)
from tidemill.core.model import Gate, Late, Missing


def at(text: str) -> float:
    """The seconds of a moment in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


D1, D2, D3 = "2024-03-01", "2024-03-02", "2024-03-03"
LACKS = ("sales: lyon",)
NIGHT = at("2024-03-02 00:30")
MORNING = at("2024-03-02 07:00")
WAIT = Gate("day")
DEADLINE = Gate("day", deadline="06:00")
RUN = Gate("day", deadline="06:00", on_missing=Missing.RUN)
FAIL = Gate("day", deadline="06:00", on_missing=Missing.FAIL)


def taken(verdict: Verdict) -> tuple[str | None, bool, tuple[str, ...], tuple[str, ...]]:
    return verdict.value, verdict.is_correction, verdict.joining, verdict.overdue


OPENINGS = {
    "nothing is known": (WAIT, [], NIGHT, None, None),
    "complete": (WAIT, [Value(D1)], NIGHT, D1, None),
    "incomplete": (WAIT, [Value(D1, LACKS)], NIGHT, None, None),
    "the smallest complete value": (WAIT, [Value(D3), Value(D1, LACKS), Value(D2)], NIGHT, D2, None),
    "released values are over": (WAIT, [Value(D1, is_released=True), Value(D2)], NIGHT, D2, None),
    "a released value that lacks members is over": (WAIT, [Value(D1, LACKS, is_released=True)], NIGHT, None, None),
    "before the deadline": (RUN, [Value(D1, LACKS)], NIGHT, None, at(f"{D2} 06:00")),
    "the earliest deadline": (RUN, [Value(D2, LACKS), Value(D1, LACKS)], NIGHT, None, at(f"{D2} 06:00")),
    "past the deadline, wait": (DEADLINE, [Value(D1, LACKS)], MORNING, None, None),
    "past the deadline, run": (RUN, [Value(D1, LACKS)], MORNING, D1, None),
    "exactly at the deadline, run": (RUN, [Value(D1, LACKS)], at(f"{D2} 06:00"), D1, None),
    "past the deadline, run, but a smaller value is complete": (
        RUN,
        [Value("2024-02-01"), Value(D1, LACKS)],
        MORNING,
        "2024-02-01",
        None,
    ),
    "past one deadline, before another": (
        DEADLINE,
        [Value(D1, LACKS), Value(D2, LACKS)],
        MORNING,
        None,
        at(f"{D3} 06:00"),
    ),
    "a value that is no date has no deadline": (RUN, [Value("north", LACKS)], MORNING, None, None),
    "a deadline matters only to the incomplete": (FAIL, [Value(D1)], MORNING, D1, None),
}


@pytest.mark.parametrize("case", OPENINGS.values(), ids=OPENINGS.keys())
def test_a_gate_opens(case: tuple[Gate, list[Value], float, str | None, float | None]) -> None:
    gate, values, now, value, next_at = case
    verdict = decide(gate, values, now)
    assert (verdict.value, verdict.next_at) == (value, next_at)


@pytest.mark.parametrize("gate", [FAIL, DEADLINE], ids=["fail", "wait"])
def test_a_value_past_its_deadline_is_named_and_does_not_stop_later_ones(gate: Gate) -> None:
    assert taken(decide(gate, [Value(D1, LACKS), Value(D2)], MORNING)) == (D2, False, (), (D1,))
    assert taken(decide(gate, [Value(D1, LACKS)], NIGHT)) == (None, False, (), ())


def test_every_value_past_its_deadline_is_named() -> None:
    assert decide(FAIL, [Value(D1, LACKS), Value("2024-02-29", LACKS)], MORNING).overdue == ("2024-02-29", D1)


LATE = Value(D1, is_released=True, has_late=True)
LET_GO = Value(D1, is_released=True, has_late=True, is_let_go=True)
LATER = Value(D3, is_released=True, has_late=True)
ON_LATE = {
    "correct: a correction follows": (Late.CORRECT, [LATE], (D1, True, (), ()), ()),
    "correct: it comes before a later opening": (Late.CORRECT, [LATE, Value(D2)], (D1, True, (), ()), ()),
    "correct: after an earlier opening": (
        Late.CORRECT,
        [LATE, Value("2024-02-01")],
        ("2024-02-01", False, (), ()),
        (),
    ),
    "next: it waits for the next value": (Late.NEXT, [LATE], (None, False, (), ()), ()),
    "next: it joins the next value": (Late.NEXT, [LATE, Value(D2)], (D2, False, (D1,), ()), ()),
    "hold: a person must say": (Late.HOLD, [LATE], (None, False, (), ()), (D1,)),
    "hold: other values go on": (Late.HOLD, [LATE, Value(D2)], (D2, False, (), ()), (D1,)),
    "hold: a person said": (Late.HOLD, [LET_GO, Value(D2)], (D1, True, (), ()), ()),
    "hold: a person said so of one value": (Late.HOLD, [LET_GO, LATER], (D1, True, (), ()), (D3,)),
    "hold: what a person said of a value without late rows": (
        Late.HOLD,
        [Value(D1, is_released=True, is_let_go=True), LATER],
        (None, False, (), ()),
        (D3,),
    ),
}


@pytest.mark.parametrize("case", ON_LATE.values(), ids=ON_LATE.keys())
def test_late_rows(case: tuple[Late, list[Value], tuple[object, ...], tuple[str, ...]]) -> None:
    on_late, values, expected, held = case
    verdict = decide(Gate("day", on_late=on_late), values, MORNING)
    assert (taken(verdict), verdict.held) == (expected, held)


DEADLINES = {
    "the day after": (D1, "06:00", "UTC", f"{D2} 06:00"),
    "in the project's zone": (D1, "06:00", "Europe/Zurich", f"{D2} 05:00"),
    "after the clocks went forward": ("2024-03-30", "06:00", "Europe/Zurich", "2024-03-31 04:00"),
    "before they did": ("2024-03-29", "06:00", "Europe/Zurich", "2024-03-30 05:00"),
    "after they went back": ("2024-10-26", "06:00", "Europe/Zurich", "2024-10-27 05:00"),
    "before they went back": ("2024-10-25", "06:00", "Europe/Zurich", "2024-10-26 04:00"),
    "an hour that does not exist comes an hour later": ("2024-03-30", "02:30", "Europe/Zurich", "2024-03-31 01:30"),
    "an hour that comes twice counts the first time": ("2024-10-26", "02:30", "Europe/Zurich", "2024-10-27 00:30"),
    "the other side of the world": (D1, "00:00", "Pacific/Auckland", "2024-03-01 11:00"),
    "a leap day": ("2024-02-28", "06:00", "UTC", "2024-02-29 06:00"),
    "the last day of a year": ("2024-12-31", "06:00", "UTC", "2025-01-01 06:00"),
    "with seconds, which do not count": (D1, "06:00:30", "UTC", f"{D2} 06:00"),
}


@pytest.mark.parametrize("case", DEADLINES.values(), ids=DEADLINES.keys())
def test_a_deadline_is_a_clock_time_on_the_day_after(case: tuple[str, str, str, str]) -> None:
    value, clock_time, timezone, moment = case
    assert deadline_at(value, clock_time, timezone) == at(moment)


@pytest.mark.parametrize("value", ["", "north", "2024-13-01", "42"])
def test_what_is_not_a_date_has_no_deadline(value: str) -> None:
    assert deadline_at(value, "06:00", "UTC") is None


def test_the_last_day_there_is_has_no_day_after_and_stops_no_gate() -> None:
    assert deadline_at("9999-12-31", "06:00", "UTC") is None
    assert decide(RUN, [Value(D1), Value("9999-12-31", LACKS)], MORNING).value == D1
    assert decide(RUN, [Value("9999-12-31", LACKS)], MORNING).value is None


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ([], []),
        ([D1], [D1]),
        ([D3, D1], [D1, D2, D3]),
        ([D1, D1, D2], [D1, D2]),
        (["2024-02-28", "2024-03-01"], ["2024-02-28", "2024-02-29", "2024-03-01"]),
        (["south", "north"], ["north", "south"]),
        ([D1, "north"], [D1, "north"]),
        ([D1, D3, "9999-12-31"], [D1, D2, D3, "9999-12-31"]),
        (["0001-01-01", D1, D3], ["0001-01-01", D1, D2, D3]),
        (["20240301", "20240303"], ["20240301", "20240303"]),
        (["2024-W09", "2024-W10"], ["2024-W09", "2024-W10"]),
    ],
    ids=[
        "none",
        "one",
        "a gap",
        "twice",
        "a leap day",
        "no dates",
        "some dates",
        "the end of time",
        "the beginning of time",
        "compact dates",
        "weeks",
    ],
)
def test_dates_between_the_first_and_the_last_seen_are_expected(seen: list[str], expected: list[str]) -> None:
    assert expected_values(seen) == expected


def test_a_gap_of_too_many_days_is_not_filled_but_told() -> None:
    day = date(2024, 3, 1)
    widest, wider = ((day + timedelta(days=GAP_DAYS_MAX + more)).isoformat() for more in (0, 1))
    assert len(expected_values([D1, widest])) == GAP_DAYS_MAX + 1
    assert wide_gaps([D1, widest]) == []
    assert expected_values([D1, wider]) == [D1, wider]
    assert wide_gaps([wider, D1]) == [(D1, wider)]
    assert wide_gaps(["north", "south"]) == []


@given(st.lists(st.dates(date(2024, 1, 1), date(2024, 12, 31)).map(str) | st.text(max_size=8)))
def test_every_value_seen_is_expected_once_and_in_order(seen: list[str]) -> None:
    found = expected_values(seen)
    assert set(seen) <= set(found)
    assert found == sorted(set(found))


@pytest.mark.parametrize(
    ("expected", "arrived", "missing"),
    [
        ({"sales": ["bern", "lyon"]}, {"sales": ["lyon", "bern", "rome"]}, ()),
        ({"sales": ["bern", "lyon"]}, {"sales": ["bern"]}, ("sales: lyon",)),
        ({"sales": ["bern"]}, {}, ("sales: bern",)),
        ({"sales": ["bern"], "stock": ["x"]}, {"sales": ["bern"]}, ("stock: x",)),
        ({"sales": []}, {"sales": ["bern"]}, ("sales: (no members are known)",)),
        ({}, {"sales": ["bern"]}, ()),
    ],
    ids=["all there", "one is not", "nothing came", "every input must be", "empty is incomplete", "nothing expected"],
)
def test_a_value_is_complete_when_every_expected_member_came(
    expected: dict[str, list[str]], arrived: dict[str, list[str]], missing: tuple[str, ...]
) -> None:
    assert missing_members(expected, arrived) == missing
