"""Which history of the tables nobody reads any more (rule 27).

Rules of this file:
  * nothing goes above the slowest reader; a reader that has read nothing begins with the current rows, and needs none;
  * a gate shows each value as it was at the position it was released at: the images of these positions stay, however old;
  * a gate that has released nothing yet may release at any position it has looked at: its inputs are not trimmed.

Theory of operation. What a gate opens it opens at a head that it saw after its job last committed, so never below the job's
cursor. Below that only positions count that are written down: released ones, those that a run has begun with, and those up
to which a person let late rows go.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from tidemill.core.model import Home, Job
from tidemill.core.ports import Progress
from tidemill.runtime.catalog import Catalog
from tidemill.runtime.gate import LetGo

__all__ = ["Trim", "trims"]

Released = Mapping[str, Mapping[str, int]]
"""Input -> partition value -> the position it was released at."""


@dataclass(frozen=True, slots=True)
class Trim:
    """What of a table's log may go: what ended at or below an offset, but for what was current at these positions."""

    asset: str
    below: int
    keep: tuple[int, ...] = ()


@dataclass(slots=True)
class _Readers:
    """What the readers of one asset need: the log above each of `floors`, the state at each of `places`."""

    floors: list[int] = field(default_factory=list)
    places: set[int] = field(default_factory=set)
    is_untouchable: bool = False


def trims(
    catalog: Catalog,
    progress: Mapping[str, Progress],
    head: Callable[[str], int],
    released: Callable[[Job], Released],
    let_go: Callable[[str], LetGo],
    *,
    beside: Iterable[Job] = (),
) -> Iterator[Trim]:
    """The tables with what may go of each. `released` and `let_go` are asked of gated jobs alone.

    `beside` are readers that the catalogue does not know (shadows).
    """
    readers: dict[str, _Readers] = {}
    for job in (*catalog.jobs.copy().values(), *beside):
        known = progress.get(job.name)
        places = _places(released(job), let_go(job.name)) if job.gate is not None else {}
        for asset in job.inputs:
            mine = readers.setdefault(asset, _Readers())
            needed = needed_from(known, asset)
            mine.floors += [needed] if needed else []
            mine.places |= places.get(asset, set())
            mine.is_untouchable |= job.gate is not None and not needed
    for name, found in catalog.assets.copy().items():
        mine = readers.get(name, _Readers())
        if found.home is Home.TABLES and head(name) and not mine.is_untouchable:
            below = min([head(name), *mine.floors])
            yield Trim(name, below, tuple(sorted(place for place in mine.places if place < below)))


def needed_from(progress: Progress | None, asset: str) -> int:
    """The offset above which a reader still needs an asset's history; 0 where it will read the current rows.

    A pinned range stays readable until it is settled: from its beginning, or where that is 0 as it was at its end; and
    from where the values were shown before that the run takes.
    """
    if progress is None:
        return 0
    if progress.pinned is None or asset not in progress.pinned:
        return progress.cursors.get(asset, 0)
    from_, to = progress.pinned[asset]
    shown = [before[asset] for before in progress.opens.values() if before.get(asset)]
    return min([from_ or to, *shown])


def _places(released: Released, let_go: LetGo) -> dict[str, set[int]]:
    """The positions at which a gate shows values of each input, or will."""
    found = {asset: set(values.values()) for asset, values in released.items()}
    for said in let_go.values():
        for asset, positions in said.items():
            found.setdefault(asset, set()).update(positions)
    return found
