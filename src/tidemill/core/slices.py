"""Long work in slices: where the next one ends, and when it may begin.

Rules of this file:
  * decisions only: what was measured goes in as values, what to do comes out;
  * a slice is a checkpoint: its work and how far it got are committed together, so nothing is done twice;
  * beside live work a slice is short, begins only while the live lane is free, and is followed by a rest at least as long
    as it took: whoever comes meanwhile waits for a part of one slice, never for the whole.

Theory of operation. The cost of a row is not known, so the number of changes in a slice follows the time that the last
one took: it moves towards the number that takes `aim_seconds`, at most doubling or falling to a quarter at a time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

__all__ = ["ALONE", "BESIDE", "Pace", "ends", "is_over", "left", "rest_for_rate"]

SLICE_CHANGES_MIN = 20
WAIT_SECONDS_MAX = 1.0
"""So long a slice waits for a live lane that is never free: then it takes its turn, for the history has to end once."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long slices shall take, how many changes that is as far as is known, and how long to rest after the last one."""

    aim_seconds: float
    changes: int
    changes_max: int
    rests: float
    """The rest after a slice, in times of what it took."""
    rest_seconds: float = 0.0
    wait_seconds_max: float = WAIT_SECONDS_MAX

    def after(self, changes: int, took_seconds: float) -> Pace:
        """The pace once a slice of so many changes took so long."""
        wanted = self.changes
        if changes and took_seconds > 0:
            fitting = changes * self.aim_seconds / took_seconds
            # A short last piece of a log says little about what a full slice takes.
            grown = max(self.changes, changes) * 2
            wanted = int(min(max(fitting, self.changes / 4), grown, self.changes_max))
        return replace(self, changes=max(SLICE_CHANGES_MIN, wanted), rest_seconds=took_seconds * self.rests)


ALONE = Pace(aim_seconds=1.0, changes=100_000, changes_max=400_000, rests=0.0, wait_seconds_max=0.0)
"""Nobody else works: slices only keep what is lost by a crash small."""

BESIDE = Pace(aim_seconds=0.02, changes=500, changes_max=20_000, rests=1.0)
"""Live work goes on beside."""


def ends(cursors: Mapping[str, int], targets: Mapping[str, int], changes: int) -> dict[str, int]:
    """Where the next slice ends, per input: at most so many changes of each, never beyond its target."""
    return {asset: min(to, cursors.get(asset, 0) + changes) for asset, to in targets.items()}


def left(cursors: Mapping[str, int], targets: Mapping[str, int]) -> int:
    """How many changes are left to do."""
    return sum(max(0, to - cursors.get(asset, 0)) for asset, to in targets.items())


def is_over(cursors: Mapping[str, int], targets: Mapping[str, int]) -> bool:
    """Whether nothing is left to do."""
    return not left(cursors, targets)


def rest_for_rate(rows: int, took_seconds: float, rows_a_second: float) -> float:
    """How long to wait after so many rows, so that no more than so many go out in a second; 0 is no limit."""
    return max(0.0, rows / rows_a_second - took_seconds) if rows_a_second > 0 else 0.0
