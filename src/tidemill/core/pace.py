"""Where the next change set ends: the only thing that modes, delays and caps may decide.

Rules of this file:
  * a change set is (cursor, end]; `end` is the head unless something here cuts it earlier, and never below the cursor;
  * a pinned range is taken exactly as pinned;
  * nothing here looks at load, at time spent or at what is in the rows (a gate's values are in gate.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tidemill.core.errors import StateCorrupt
from tidemill.core.model import Job

__all__ = ["Due", "delayed", "ranges"]


def ranges(
    job: Job,
    cursors: Mapping[str, int],
    heads: Mapping[str, int],
    *,
    ends: Mapping[str, int] | None = None,
    pinned: Mapping[str, tuple[int, int]] | None = None,
    is_sliceable: bool = True,
) -> dict[str, tuple[int, int]]:
    """The change set of the job's next run, per input.

    `heads` are those of the snapshot the run reads; `ends` cuts inputs earlier (delays, gates). `is_sliceable` is
    False where the plan must take everything (recompute), so that `max_changes` does not apply.
    Raises StateCorrupt where a cursor is beyond its head.
    """
    if pinned is not None:
        return dict(pinned)
    cap = job.max_changes if is_sliceable else 0
    taken = {}
    for asset in job.inputs:
        cursor, head = _within(job, asset, cursors.get(asset, 0), heads[asset])
        end = head if ends is None else max(cursor, min(head, ends.get(asset, head)))
        taken[asset] = (cursor, min(end, cursor + cap) if cap else end)
    return taken


def _within(job: Job, asset: str, cursor: int, head: int) -> tuple[int, int]:
    if cursor > head:
        raise StateCorrupt(
            f"job `{job.name}` has read `{asset}` to {cursor}, but its log ends at {head}",
            mend="the store was restored or changed from outside; restore both stores from one backup",
        )
    return cursor, head


@dataclass(frozen=True, slots=True)
class Due:
    """Up to which offset the changes are due, and when the next one will be (None: nothing is waiting)."""

    end: int
    next_at: float | None = None


def delayed(cursor: int, times: list[tuple[int, float]], delay_seconds: float, now: float) -> Due:
    """The end of a delayed change set: just before the first change that is not yet due (rule 20, `after`).

    `times` are (offset, min of event time and arrival) of the changes after the cursor, ordered by offset.
    """
    end = cursor
    for offset, time in times:
        if time + delay_seconds > now:
            return Due(end, time + delay_seconds)
        end = offset
    return Due(end)
