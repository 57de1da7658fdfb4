"""A job's result made beside the live one, in a table of its own (rule 28).

Rules of this file:
  * the live job, its table and its cursors are never touched: what runs is a twin of the job, with a name, an output, a
    cursor, stages and a parked set of its own;
  * rows and cursor of a slice are one commit, so after any crash the next slice begins where the last one ended;
  * positions beyond which nothing is taken are fixed before the first slice.

Theory of operation. A twin is the job under the table's name, in a catalog of its own, performed by the ordinary
`Performer` with ends that cut its runs. What cannot be cut (whole recomputations, logs of tables, which may have been
trimmed) is one slice. Behind a gate the twin has no gate to wait for: it takes what the live job's gate has released.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, replace

from tidemill.core import slices
from tidemill.core.event import Readiness, Start
from tidemill.core.model import Asset, AssetKind, Home, Job, Mode, OnError
from tidemill.core.ports import Progress, Store, Table, Transaction
from tidemill.runtime.catalog import Catalog
from tidemill.runtime.mirror import Mirrors
from tidemill.runtime.perform import LazyReader, Performer, Snapshot
from tidemill.runtime.poison import is_of_transform, perform_without_poison
from tidemill.runtime.truth import parked_rows, work_at

__all__ = ["Beside", "beside", "twin_of"]

_BECAUSE = ("made beside by a person: tidemill replay --into",)


def twin_of(job: Job, name: str, table: str) -> Job:
    """The job that makes the same rows in another table; what it asserts of its output is not asked of a part of it."""
    own = replace(job, name=name, outputs=(table,), home=Home.TABLES, rebuilds=True, asserts=())
    return replace(own, mode=Mode.BATCH, gate=None, max_changes=0)


def beside(catalog: Catalog, stores: Mapping[Home, Store], job: Job, table: str, name: str = "") -> Beside:
    """A twin of a job that writes this table, in a catalog of its own; called by a name, or like the table."""
    twin = twin_of(job, name or table, table)
    read = {name: catalog.asset(name) for name in job.inputs}
    own = Catalog(
        {**catalog.assets, **read, table: Asset(table, AssetKind.TABLE)},
        {**catalog.jobs, twin.name: twin},
        catalog.engines,
        catalog.timezone,
    )
    mirrors = Mirrors(own, stores[Home.TABLES], stores[Home.LEDGER])
    return Beside(job, twin, Performer(own, stores, mirrors))


@dataclass(slots=True)
class Beside:
    """A twin at work beside its live job."""

    live: Job
    twin: Job
    performer: Performer

    @property
    def is_sliceable(self) -> bool:
        """Whether its work can be cut: over topics alone, and where a part of the input has a result of its own."""
        catalog = self.performer.catalog
        if self.live.gate is not None or catalog.plan(self.twin).kind == "recompute":
            return False
        return all(catalog.assets[asset].kind is AssetKind.TOPIC for asset in self.twin.inputs)

    @property
    def cursors(self) -> Mapping[str, int] | None:
        """How far it has come; None before its first slice."""
        transaction = self.performer.stores[Home.TABLES].begin(exclusive=False)
        try:
            progress = transaction.progress(self.twin.name)
            return progress.cursors if progress is not None else None
        finally:
            transaction.rollback()

    def is_over(self, targets: Mapping[str, int]) -> bool:
        """Whether it has come to its targets; behind a gate, whether it took what was released."""
        cursors = self.cursors
        return cursors is not None and (self.live.gate is not None or slices.is_over(cursors, targets))

    def begin(self, after: int) -> None:
        """Make the table, empty, where its columns are known; after an offset (not 0) of its one input it begins there."""
        plan = self.performer.catalog.plan(self.twin)
        transaction = self.performer.stores[Home.TABLES].begin()
        try:
            if plan.columns:
                transaction.define(Table(self.twin.outputs[0], plan.columns, plan.key))
            if after:
                transaction.settle(self._first(after), None)
            transaction.commit()
        finally:
            transaction.rollback()

    def _first(self, after: int) -> Progress:
        (asset,) = self.twin.inputs
        with closing(LazyReader(self.performer.stores[self.performer.catalog.home(asset)])) as reader:
            generation = reader.head(asset).generation
        return Progress(self.twin.name, self.twin.version, {asset: after}, {asset: generation})

    def step(self, run: str, at: float, targets: Mapping[str, int], changes: int) -> int:
        """One slice, committed: at most so many changes of each input, or all where it cannot be cut.

        Returns how many rows it parked. Raises what the transform raised where nothing can be parked.
        """
        if self.live.gate is not None:
            return self._released(run)
        cut = slices.ends(self.cursors or {}, targets, changes) if self.is_sliceable else None
        start = Start(self.twin.name, 1, Readiness(True, _BECAUSE), at, ends=cut)
        catalog = self.performer.catalog
        self.performer.mirrors.prepare_ahead(self.twin, catalog.plan(self.twin))
        try:
            return self.performer.perform(start, run, exclusive=False).parked
        except Exception as error:
            if not is_of_transform(error) or self.twin.on_error is not OnError.PARK:
                raise
            return perform_without_poison(self.performer, start, run, error).parked

    def _released(self, run: str) -> int:
        """All that the live job's gate has released, up to where the live job has read, in one commit."""
        stores = self.performer.stores
        transaction = stores[Home.TABLES].begin(exclusive=False)
        try:
            with closing(LazyReader(stores[Home.LEDGER])) as ledger:
                self._write_released(run, transaction, ledger)
            transaction.commit()
        finally:
            transaction.rollback()
        return 0

    def _write_released(self, run: str, transaction: Transaction, ledger: LazyReader) -> None:
        catalog, mirrors = self.performer.catalog, self.performer.mirrors
        plan, live = catalog.plan(self.live), transaction.progress(self.live.name)
        known = live or Progress(self.live.name, self.live.version)
        snapshot = Snapshot(catalog, transaction, ledger, frozenset(mirrors.needed(self.live, plan)))
        work = work_at(self.live, plan, known, run, parked_rows(transaction, self.live))
        transaction.define(Table(self.twin.outputs[0], plan.columns, plan.key))
        for _, output in catalog.engines[self.live.takes].compute(work, snapshot):
            transaction.write(self.twin.outputs[0], output)
        before = transaction.progress(self.twin.name)
        done = Progress(self.twin.name, self.twin.version, known.cursors, known.generations, run)
        transaction.settle(done, before)
