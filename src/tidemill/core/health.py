"""When something that failed nowhere is worth telling all the same (rule 33): decisions over plain histories.

Rules of this file:
  * pure: the history and the present go in, a sentence or "" comes out;
  * nothing is said of what has no history yet, so that a new project is quiet.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["RUNS_MAX", "RUNS_MIN", "Ran", "counts_far", "empty", "gap", "is_silent", "too_long", "uneven"]

RUNS_MIN = 3
"""So many runs that made something are a history."""
RUNS_MAX = 20
"""So many of the last runs are looked at."""
FAR = 5.0
"""A count that is so many times above the most, or below the least, of the last runs is far from them."""
FEW = 10
"""Counts that differ by fewer rows are never far from each other."""
SILENT = 5.0
"""An input is silent after so many times the longest of its last pauses."""
SILENT_SECONDS_MIN = 3_600.0
MOVES_MIN = 5
"""So many arrivals are a history."""


@dataclass(frozen=True, slots=True)
class Ran:
    """What one succeeded run took and made, and how long it took (seconds)."""

    rows_in: int
    rows_out: int
    seconds: float


def empty(history: Sequence[Ran], run: Ran) -> str:
    """A run that took something and made nothing, although those before it always did."""
    took = [each for each in history if each.rows_in]
    if run.rows_in and not run.rows_out and len(took) >= RUNS_MIN and all(each.rows_out for each in took):
        return f"it took {run.rows_in} rows and made none; the last {len(took)} runs always made some"
    return ""


def counts_far(history: Sequence[Ran], run: Ran) -> str:
    """A run whose output is far from what the last runs made."""
    made = [each.rows_out for each in history if each.rows_out]
    if len(made) < RUNS_MIN or not run.rows_out:
        return ""
    least, most = min(made), max(made)
    is_far = run.rows_out > most * FAR or run.rows_out * FAR < least
    if is_far and min(abs(run.rows_out - least), abs(run.rows_out - most)) >= FEW:
        return f"it made {run.rows_out} rows; the last {len(made)} runs made {least} to {most}"
    return ""


def too_long(seconds: float, period_seconds: float) -> str:
    """A run that took longer than the time until the next one."""
    if period_seconds and seconds > period_seconds:
        return f"a run took {seconds:.0f} s, longer than its period of {period_seconds:.0f} s"
    return ""


def uneven(rows_in: int, taken: int, parked: int, skipped: int) -> str:
    """A run whose counts do not add up: of what it read, what it made something of, put aside and left out."""
    if rows_in == taken + parked + skipped and min(rows_in, taken, parked, skipped) >= 0:
        return ""
    return (
        f"a run read {rows_in} events, but {taken} taken, {parked} parked and {skipped} skipped do not add up to that"
    )


def gap(reached: int, taken: tuple[int, int]) -> tuple[int, int] | None:
    """The offsets between the end of the last run and the beginning of this one, which nobody took."""
    from_, to = taken
    return (reached, from_) if to > from_ > reached else None


def is_silent(pauses: Sequence[float], moves: int, quiet_seconds: float) -> bool:
    """Whether an input is quiet for far longer than it ever was; `pauses` are its last longer ones."""
    usual = max(pauses, default=0.0)
    return moves >= MOVES_MIN and quiet_seconds > max(SILENT * usual, SILENT_SECONDS_MIN)
