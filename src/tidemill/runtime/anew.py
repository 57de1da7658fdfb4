"""A table made anew in slices, beside the live job, which goes on meanwhile; then taken over by it (rules 25 and 28).

Rules of this file:
  * what is made is a twin's, under hidden names; nobody reads it, and all of it can go without a trace;
  * a slice is a checkpoint; the live table changes in one commit, the last, by what differs and no more;
  * the two are compared where both have read equally far, whatever the live job did meanwhile;
  * work is cut only where a slice costs what its own changes cost: not joins, rankings or functions of all rows of a key.

Theory of operation. The twin (`beside.py`) reads its inputs from their beginning, slice after slice, to where the live job
is. What the live job reads meanwhile is one more slice. Because it may never stop, the last slice and the take-over are one
transaction that the live job's runs wait for: as long as a run of the live job itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import cast

from tidemill.core.errors import UserError
from tidemill.core.event import Readiness, Start
from tidemill.core.model import Home, Job
from tidemill.core.ports import Progress, Store
from tidemill.runtime.beside import Beside, beside
from tidemill.runtime.catalog import Catalog
from tidemill.runtime.hidden import Taking
from tidemill.runtime.poison import is_of_transform
from tidemill.runtime.takeover import TakenOver, is_taken_over, take_over

__all__ = ["Anew", "anew", "belongings", "twin_name"]

_MARK = "~anew"
_BECAUSE = ("made anew by a person: tidemill replay",)


def twin_name(name: str) -> str:
    """The hidden name that stands for a job's or an asset's while its table is made anew."""
    return name + _MARK


def belongings(names: Iterable[str], job: str, outputs: Iterable[str]) -> list[str]:
    """Those of the names that belong to what is made anew for a job with these outputs."""
    owners = {twin_name(job), *map(twin_name, outputs)}
    return [name for name in names if name.partition("@")[0] in owners]


def anew(catalog: Catalog, stores: Mapping[Home, Store], job: Job) -> Anew:
    """What makes a job's table anew; nothing is begun."""
    return Anew(beside(catalog, stores, job, twin_name(job.outputs[0]), twin_name(job.name)))


@dataclass(slots=True)
class Anew:
    """A twin on its way to where the live job is."""

    beside: Beside

    @property
    def is_possible(self) -> bool:
        """Whether the work can be cut, and there is a result of the present definition to compare with."""
        live = self.beside.live
        if live.home is not Home.TABLES or not live.rebuilds or len(live.outputs) != 1 or not self.beside.is_sliceable:
            return False
        if self.beside.performer.catalog.plan(self.beside.twin).history:
            return False  # each slice would look at what the ones before it have read
        known = self._known(live.name)
        return known is not None and known.version == live.version and any(self._cursors(known).values())

    @property
    def is_taken_over(self) -> bool:
        """Whether the last commit was made: what is left of the twin may go."""
        return is_taken_over(self._known(self.beside.twin.name))

    def targets(self) -> dict[str, int]:
        """Where the live job is, by input. Raises UserError where it is another one by now."""
        live = self._known(self.beside.live.name)
        return self._cursors(self._settled(live))

    def take_over(self, run: str, at: float) -> TakenOver | None:
        """Let the live job take over; None where a row of the last slice cannot be processed and has to be looked for first.

        Raises UserError where the live job is another one by now, AssertionBroken where what it asserts would not hold.
        """
        live, twin, performer = self.beside.live, self.beside.twin, self.beside.performer
        plan = performer.catalog.plan(twin)
        transaction = cast(Taking, performer.stores[Home.TABLES].begin())
        try:
            targets = self._cursors(self._settled(transaction.progress(live.name)))
            mine = transaction.progress(twin.name)
            if mine is None or self._cursors(mine) != targets:
                try:
                    performer.join(Start(twin.name, 1, Readiness(True, _BECAUSE), at, ends=targets), run, transaction)
                except Exception as error:
                    if is_of_transform(error):
                        return None
                    raise
            taken = take_over(transaction, live, twin, plan, run)
            heads = transaction.commit()
        finally:
            transaction.rollback()
        return replace(taken, heads={asset: heads[asset] for asset in live.outputs})

    def _settled(self, live: Progress | None) -> Progress:
        job = self.beside.live
        if live is None or live.version != job.version:
            raise UserError(
                f"job `{job.name}` is to be made anew by itself meanwhile: its definition changed, or what it reads was "
                "repaired",
                mend=f"tidemill run {job.name}",
            )
        return live

    def _cursors(self, known: Progress) -> dict[str, int]:
        return {asset: known.cursors.get(asset, 0) for asset in self.beside.live.inputs}

    def _known(self, job: str) -> Progress | None:
        reader = self.beside.performer.stores[Home.TABLES].begin(exclusive=False)
        try:
            return reader.progress(job)
        finally:
            reader.rollback()
