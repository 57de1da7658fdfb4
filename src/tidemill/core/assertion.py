"""What a job asserts of its output before it is published: plain values, and the one comparison that needs history.

Rules of this file:
  * an assertion is checked inside the run's transaction, over the output as it would be (`runtime/asserting.py`);
  * one that blocks keeps the output unpublished and the cursor where it was; one that warns lets the run commit;
  * it is no part of a job's version: asserting something else of the same result rebuilds nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

__all__ = ["Assertion", "Check", "is_close"]


class Check(StrEnum):
    """What kind of thing is asserted."""

    QUERY = "query"
    """A query gives no rows."""
    NOT_NULL = "not null"
    UNIQUE = "unique"
    ROWS = "rows"
    """The number of rows lies between two numbers."""
    CLOSE = "close"
    """The number of rows is close to what it was after the last runs."""


@dataclass(frozen=True, slots=True)
class Assertion:
    """One thing that is asserted; `name` is how people meet it, by default its text.

    `columns` are those of `not null` and `unique`, `sql` the query of QUERY, `least` and `most` the bounds of ROWS (both
    included), `share` and `runs` those of CLOSE: at most that share (0.2 is 20 %) away from the mean of the last runs.
    """

    name: str
    check: Check
    columns: tuple[str, ...] = ()
    sql: str = ""
    least: int = 0
    most: int = 0
    share: float = 0.0
    runs: int = 0
    is_warning: bool = False


def is_close(rows: int, before: Sequence[int], assertion: Assertion) -> bool:
    """Whether a count is close to the counts after the last runs; true until there are as many runs as it asks for."""
    last = before[-assertion.runs :]
    if len(last) < assertion.runs:
        return True
    mean = sum(last) / len(last)
    return abs(rows - mean) <= assertion.share * mean
