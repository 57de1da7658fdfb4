"""Long work in slices: where the next one ends, and when it may begin.

Rules of this file:
  * decisions only: what was measured goes in as values, what to do comes out;
  * a slice is a checkpoint: its work and how far it got are committed together, so nothing is done twice;
  * beside live work a slice is short, begins only while the live lane is free, and is followed by a rest nine times as long
    as it took: whoever comes meanwhile waits for a part of one slice, never for the whole, and nine of ten for none.

Theory of operation. The cost of a row is not known, so the number of changes in a slice follows the time that the last
one took: it moves towards the number that takes `aim_seconds`, at most doubling or falling to a quarter at a time.

What limits the live lane: an event that comes within a slice shares two cores and the turn to commit with it, and a slice
cannot be cut once it has begun. So the share of time that slices take decides how many events see one at all, and their
length what that costs these. Measured in turns on two cores that others kept busy, half of the time in slices of 30 ms made
the 99th percentile of a lane of 40 events/s 0.9 to 1.8 times what it was without, a tenth of it in slices of 20 ms 0.7 to
1.4 times (at such noise; 1.6 and 1.2 in the middle). The price is the history's: about a quarter of the rows a second, as long as
somebody else works. In quiet seconds it takes all of the time.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

__all__ = [
    "ALONE",
    "BESIDE",
    "BESIDE_REPLAYING",
    "Pace",
    "Span",
    "ends",
    "is_over",
    "left",
    "rest_for_rate",
    "within",
    "without",
]

SLICE_CHANGES_MIN = 200
"""Fewer changes than this cost hardly less: what a commit costs by itself is the most of it."""
REST_SECONDS_MAX = 0.5
"""Effects may take minutes, and cost the live lane nothing meanwhile: nobody waits for more than this because of them."""
QUIET_SECONDS = 1.0
WAIT_SECONDS_MAX = 1.0
"""So long a slice waits for a live lane that is never free: then it takes its turn, for the history has to end once."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How long slices shall take, how many changes that is as far as is known, and how long to rest after the last one."""

    aim_seconds: float
    changes: int
    changes_max: int
    rests: float
    """The rest after a slice, in times of what it took; of a slice longer than `REST_SECONDS_MAX` once what it took."""
    quiet_aim_seconds: float = 0.0
    """How long slices shall take, without a rest, where nobody else has worked for `QUIET_SECONDS`; 0: as ever."""
    rest_seconds: float = 0.0
    wait_seconds_max: float = WAIT_SECONDS_MAX
    changes_min: int = SLICE_CHANGES_MIN

    def after(self, changes: int, took_seconds: float, quiet_seconds: float = 0.0) -> Pace:
        """The pace once a slice of so many changes took so long, and nobody else has worked for so long."""
        wanted, is_quiet = self.changes, self.quiet_aim_seconds > 0 and quiet_seconds >= QUIET_SECONDS
        if changes and took_seconds > 0:
            fitting = changes * (self.quiet_aim_seconds if is_quiet else self.aim_seconds) / took_seconds
            # A short last piece of a log says little about what a full slice takes.
            grown = max(self.changes, changes) * 2
            wanted = int(min(max(fitting, self.changes / 4), grown, self.changes_max))
        rest = (
            0.0 if is_quiet or not self.rests else max(took_seconds, min(took_seconds * self.rests, REST_SECONDS_MAX))
        )
        return replace(self, changes=max(self.changes_min, wanted), rest_seconds=rest)


ALONE = Pace(aim_seconds=1.0, changes=100_000, changes_max=400_000, rests=0.0, wait_seconds_max=0.0)
"""Nobody else works: slices only keep what is lost by a crash small."""

BESIDE = Pace(aim_seconds=0.02, changes=500, changes_max=50_000, rests=9.0, quiet_aim_seconds=0.25)
"""Live work goes on beside."""

BESIDE_REPLAYING = Pace(
    aim_seconds=0.1, changes=5_000, changes_max=100_000, rests=4.0, quiet_aim_seconds=0.25, changes_min=2_000
)
"""Live work goes on beside a table that somebody wants to be right again soon: it takes a fifth of the time."""


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A part (from, to] of an asset's log."""

    asset: str
    from_: int
    to: int

    @property
    def changes(self) -> int:
        """How many offsets it has."""
        return self.to - self.from_


def without(spans: Iterable[Span], gone: Span) -> list[Span]:
    """What is left of the spans once one has gone."""
    kept = []
    for span in spans:
        if span.asset != gone.asset or gone.to <= span.from_ or gone.from_ >= span.to:
            kept.append(span)
            continue
        kept += [replace(span, to=gone.from_)] if gone.from_ > span.from_ else []
        kept += [replace(span, from_=gone.to)] if gone.to < span.to else []
    return kept


def within(spans: Iterable[Span], bounds: Iterable[Span]) -> list[Span]:
    """What lies within the bounds of each asset, in order of offset; an asset without bounds is left out."""
    found = [
        Span(span.asset, max(span.from_, bound.from_), min(span.to, bound.to))
        for span in spans
        for bound in bounds
        if span.asset == bound.asset
    ]
    return sorted(span for span in found if span.changes > 0)


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
