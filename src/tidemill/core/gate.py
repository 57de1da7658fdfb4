"""Which partition value a gated job may take next (rule 21).

Rules of this file:
  * a value is complete when every expected member of every input that names members has arrived; an empty member
    list is incomplete;
  * a change set holds one value: its first opening, or a later correction of it;
  * a deadline is a clock time on the day after the value, in the project's time zone; it only matters while the value
    is incomplete; dates between the first and the last one seen are expected even if nothing landed, but for gaps of
    more than `GAP_DAYS_MAX` days (a 9999-12-31 in the data makes no three million values);
  * facts come in, a verdict goes out: nothing here reads a store or a clock.

Theory of operation. The runtime gathers, per value, which members have arrived, whether the value was released before
and whether rows came after that (`Value`). `decide` picks the smallest value that may be taken now and says when to
look again. Releasing is not done here: the run that takes the value commits, in one transaction, its outputs, its
cursor and the released positions, so a gate cannot open twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

from tidemill.core.model import Gate, Late, Missing

__all__ = [
    "GAP_DAYS_MAX",
    "Value",
    "Verdict",
    "deadline_at",
    "decide",
    "expected_values",
    "missing_members",
    "past_deadline",
    "wide_gaps",
]

GAP_DAYS_MAX = 1_000
"""The longest gap between two dates seen whose days are expected though nothing landed."""


@dataclass(frozen=True, slots=True)
class Value:
    """What is known of one partition value. `missing` names members not yet there, as `asset: member`.

    `is_let_go`: a person let its late rows go.
    """

    value: str
    missing: tuple[str, ...] = ()
    is_released: bool = False
    has_late: bool = False
    is_let_go: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to take now (`value`, or None), whether it is a correction, late values that join it, when to look again.

    `overdue` are values that are still incomplete past their deadline; `held` are released values whose late rows wait
    for a person. `because` explains, for people.
    """

    value: str | None = None
    is_correction: bool = False
    joining: tuple[str, ...] = ()
    overdue: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    next_at: float | None = None
    because: tuple[str, ...] = ()


def missing_members(expected: Mapping[str, Sequence[str]], arrived: Mapping[str, Iterable[str]]) -> tuple[str, ...]:
    """The expected members that have not arrived, as `asset: member`; an empty expectation is never met."""
    missing = []
    for asset, members in expected.items():
        there = set(arrived.get(asset, ()))
        if not members:
            missing.append(f"{asset}: (no members are known)")
        missing.extend(f"{asset}: {member}" for member in members if member not in there)
    return tuple(missing)


def expected_values(seen: Iterable[str]) -> list[str]:
    """The values seen, and where they are dates the dates in the gaps between them too, in order.

    Only `2024-03-01` is a date here: other spellings are values like any other, kept as they are written. The days of a
    gap of more than `GAP_DAYS_MAX` days are not expected (see `wide_gaps`).
    """
    values = sorted(set(seen))
    between = [
        (before + timedelta(days=step)).isoformat()
        for before, after in pairwise(_dates(values))
        if (after - before).days <= GAP_DAYS_MAX
        for step in range(1, (after - before).days)
    ]
    return sorted([*values, *between])


def wide_gaps(seen: Iterable[str]) -> list[tuple[str, str]]:
    """The gaps between dates that are too wide for the days in them to be expected: (last before, first after)."""
    pairs = pairwise(_dates(sorted(set(seen))))
    return [(one.isoformat(), other.isoformat()) for one, other in pairs if (other - one).days > GAP_DAYS_MAX]


def _dates(values: Sequence[str]) -> list[date]:
    """The values as dates; none where one of them is no date."""
    try:
        days = [date.fromisoformat(value) for value in values]
    except ValueError:
        return []
    return days if [day.isoformat() for day in days] == list(values) else []


def deadline_at(value: str, clock_time: str, timezone: str) -> float | None:
    """The moment (seconds) of the clock time on the day after the value; None where there is no such day."""
    try:
        day = date.fromisoformat(value) + timedelta(days=1)
    except (ValueError, OverflowError):
        return None
    hour, minute = (int(part) for part in clock_time.split(":")[:2])
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=ZoneInfo(timezone)).timestamp()


def past_deadline(overdue: Sequence[str], because: Iterable[str]) -> str:
    """What to say of values that are incomplete past their deadline."""
    waiting = [reason for reason in because if any(reason.startswith(f"{value}: ") for value in overdue)]
    return f"the deadline of {', '.join(overdue)} passed: {'; '.join(waiting)}".removesuffix(": ")


def decide(gate: Gate, values: Sequence[Value], now: float, timezone: str = "UTC") -> Verdict:
    """The verdict over all known values (each once, any order)."""
    ordered = sorted(values, key=lambda value: value.value)
    late = [value for value in ordered if value.is_released and value.has_late]
    opening, overdue, next_at, because = _opening(gate, ordered, now, timezone)
    held = tuple(value.value for value in late if gate.on_late is Late.HOLD and not value.is_let_go)
    corrected = [value.value for value in late if gate.on_late is not Late.NEXT and value.value not in held]
    if corrected and (opening is None or corrected[0] <= opening):
        because = [f"{corrected[0]}: late rows arrived"]
        return Verdict(
            corrected[0], is_correction=True, overdue=overdue, held=held, next_at=next_at, because=tuple(because)
        )
    joining = tuple(value.value for value in late if gate.on_late is Late.NEXT and opening is not None)
    return Verdict(opening, joining=joining, overdue=overdue, held=held, next_at=next_at, because=tuple(because))


def _opening(
    gate: Gate, ordered: Sequence[Value], now: float, timezone: str
) -> tuple[str | None, tuple[str, ...], float | None, list[str]]:
    """The value that opens, those before it that are overdue, when to look again, and why."""
    overdue: list[str] = []
    next_at: float | None = None
    because: list[str] = []
    for value in ordered:
        if value.is_released:
            continue
        if not value.missing:
            return value.value, tuple(overdue), next_at, [f"{value.value}: complete"]
        because.append(f"{value.value}: waiting for {', '.join(value.missing)}")
        at = deadline_at(value.value, gate.deadline, timezone) if gate.deadline else None
        if at is None:
            continue
        if now < at:
            next_at = at if next_at is None else min(next_at, at)
        elif gate.on_missing is Missing.RUN:
            because = [f"{value.value}: its deadline passed, it runs without {', '.join(value.missing)}"]
            return value.value, tuple(overdue), next_at, because
        else:
            overdue.append(value.value)
    return None, tuple(overdue), next_at, because
