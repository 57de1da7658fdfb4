"""Which partition value a gated job may take next (rule 21).

Rules of this file:
  * a value is complete when every expected member of every input that names members has arrived; an empty member
    list is incomplete;
  * a change set holds one value: its first opening, or a later correction of it;
  * a deadline is a clock time on the day after the value, in the project's time zone; it only matters while the value
    is incomplete; dates between the first and the last one seen are expected even if nothing landed;
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
from zoneinfo import ZoneInfo

from tidemill.core.model import Gate, Late, Missing

__all__ = ["Value", "Verdict", "deadline_at", "decide", "expected_values", "missing_members"]


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

    `failed` is a value whose deadline passed with `on_missing: fail`; `held` are released values whose late rows wait
    for a person. `because` explains, for people.
    """

    value: str | None = None
    is_correction: bool = False
    joining: tuple[str, ...] = ()
    failed: str | None = None
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
    """The values seen, and where they are dates every date between the first and the last, in order.

    Only `2024-03-01` is a date here: other spellings are values like any other, kept as they are written.
    """
    values = sorted(set(seen))
    try:
        days = [date.fromisoformat(value) for value in values]
    except ValueError:
        return values
    if not days or [day.isoformat() for day in days] != values:
        return values
    span = (days[-1] - days[0]).days
    return [(days[0] + timedelta(days=step)).isoformat() for step in range(span + 1)]


def deadline_at(value: str, clock_time: str, timezone: str) -> float | None:
    """The moment (seconds) of the clock time on the day after the value; None where there is no such day."""
    try:
        day = date.fromisoformat(value) + timedelta(days=1)
    except (ValueError, OverflowError):
        return None
    hour, minute = (int(part) for part in clock_time.split(":")[:2])
    return datetime(day.year, day.month, day.day, hour, minute, tzinfo=ZoneInfo(timezone)).timestamp()


def decide(gate: Gate, values: Sequence[Value], now: float, timezone: str = "UTC") -> Verdict:
    """The verdict over all known values (each once, any order)."""
    ordered = sorted(values, key=lambda value: value.value)
    late = [value for value in ordered if value.is_released and value.has_late]
    opening, failed, next_at, because = _opening(gate, ordered, now, timezone)
    held = tuple(value.value for value in late if gate.on_late is Late.HOLD and not value.is_let_go)
    corrected = [value.value for value in late if gate.on_late is not Late.NEXT and value.value not in held]
    if corrected and (opening is None or corrected[0] <= opening):
        because = [f"{corrected[0]}: late rows arrived"]
        return Verdict(corrected[0], is_correction=True, held=held, next_at=next_at, because=tuple(because))
    joining = tuple(value.value for value in late if gate.on_late is Late.NEXT and opening is not None)
    return Verdict(opening, joining=joining, failed=failed, held=held, next_at=next_at, because=tuple(because))


def _opening(
    gate: Gate, ordered: Sequence[Value], now: float, timezone: str
) -> tuple[str | None, str | None, float | None, list[str]]:
    failed: str | None = None
    next_at: float | None = None
    because: list[str] = []
    for value in ordered:
        if value.is_released:
            continue
        if not value.missing:
            return value.value, failed, next_at, [f"{value.value}: complete"]
        because.append(f"{value.value}: waiting for {', '.join(value.missing)}")
        at = deadline_at(value.value, gate.deadline, timezone) if gate.deadline else None
        if at is None:
            continue
        if now < at:
            next_at = at if next_at is None else min(next_at, at)
        elif gate.on_missing is Missing.RUN:
            return value.value, failed, next_at, [f"{value.value}: deadline passed, runs without {value.missing}"]
        elif gate.on_missing is Missing.FAIL and failed is None:
            failed = value.value
    return None, failed, next_at, because
