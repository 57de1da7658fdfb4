"""Retention: what may be forgotten of a topic, and what nobody may be shown any more.

Rules of this file:
  * what a reader has not read, or may have to read again, is never forgotten, however old it is;
  * the boundary is an offset: two stores, a restart and a person all mean the same by it;
  * rows that are gone are never taken for rows that never were: a slice they belong to is an error.

Theory of operation. Each reader of a topic says from which offset on it needs the log (`Need`): a job its cursor, or 0
where it computes from all rows. What is old enough *and* below all of them goes. A job whose need lies below what is old
enough holds retention back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tidemill.core.change import Images, Slice
from tidemill.core.errors import Expired

__all__ = ["Need", "check_kept", "in_order", "may_go"]


@dataclass(frozen=True, slots=True)
class Need:
    """A reader that needs what was recorded above `offset`, and why it has not read further."""

    reader: str
    offset: int
    reason: str


def check_kept(part: Slice, expired: int) -> None:
    """Raise Expired where rows up to the offset `expired` are gone, and some of them belong to the slice."""
    from_ = 0 if part.images == Images.STATE else part.from_
    if from_ < min(part.to, expired):
        error = Expired(
            f"the history of `{part.asset}` has expired up to offset {expired}, and rows of it are needed",
            mend=f"what is left begins after offset {expired}; what was before it can only come from a backup",
        )
        error.asset, error.offset = part.asset, expired
        raise error


def may_go(due: int, needs: Iterable[Need]) -> int:
    """The offset up to which may be forgotten what is old enough up to the offset `due`."""
    return min([due, *(need.offset for need in needs)])


def in_order(needs: Iterable[Need]) -> list[Need]:
    """Those that need most first."""
    return sorted(needs, key=lambda need: (need.offset, need.reader))
