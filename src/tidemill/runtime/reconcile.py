"""Reconciling a job: its outputs against the recomputation at its own cursors, and the repair (rule 29).

Rules of this file:
  * looking changes nothing and holds up nobody: it reads one snapshot of each store;
  * a repair is one transaction: the difference is found, written and looked for again in it; where it does not come right,
    nothing is committed;
  * the difference goes into the outputs' logs, so that every reader gets it as ordinary changes. Readers that keep results
    are rebuilt besides, for they never saw what was changed behind the log.

Theory of operation. The recomputation is `truth.py`'s, the comparison `compare.py`'s. Mirrors that a job reads are compared
with the topics' logs as well, because the next change would be applied to what they hold; a mirror that differs is filled
anew. A job that is maintained in stages is repaired by filling all its stages whole, which writes the difference and no
more; that the result is what the whole statement gives is then checked like before. A reader is marked for its rebuild by
a version that no definition has, in the same transaction: whoever starts it next, after whatever crash, makes it anew.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import cast

from tidemill.core.change import ORDINAL, PARENT, RID, ArrowStream, Output, Replaced, Slice, Statement
from tidemill.core.errors import Expired, InvariantError, UserError
from tidemill.core.model import Column, Home, Job, Materialized
from tidemill.core.ports import Head, Plan, Progress, Reader, Store
from tidemill.runtime.catalog import Catalog
from tidemill.runtime.compare import Comparison, Sides, compare, given_identity
from tidemill.runtime.gate import released_positions
from tidemill.runtime.mirror import Mending, Mirrors
from tidemill.runtime.perform import LazyReader, Snapshot
from tidemill.runtime.rows import as_table
from tidemill.runtime.skipped import forget
from tidemill.runtime.truth import Truth, parked_rows, work_at

__all__ = ["DOUBTED", "Reconciled", "Reconciler", "doubted"]

Tell = Callable[[str], None]
_HAS_ORDINAL = re.compile(rf"\b{ORDINAL}\b")
DOUBTED = "~"
"""What a reader's version ends with while its result is doubted: no definition has such a version."""


@dataclass(frozen=True, slots=True)
class Reconciled:
    """What was found: per output and per mirror; after a repair also what was committed.

    `repaired` counts the rows of outputs and mirrors that were put right; `doubted` are the readers to be rebuilt.
    """

    job: str
    outputs: Mapping[str, Comparison]
    mirrors: Mapping[str, Comparison]
    progress: Progress
    repaired: int = 0
    heads: Mapping[str, Head] = field(default_factory=dict)
    doubted: Mapping[str, Progress] = field(default_factory=dict)

    @property
    def is_equal(self) -> bool:
        """Whether outputs and mirrors are what they should be."""
        return all(each.is_equal for each in (*self.outputs.values(), *self.mirrors.values()))


@dataclass(frozen=True, slots=True)
class _At:
    """One snapshot of both stores; `own` is that of the job's home."""

    tables: Reader
    ledger: Reader
    own: Reader


@dataclass(slots=True)
class Reconciler:
    """Compares and repairs jobs whose outputs are tables, and compares those whose outputs are topics."""

    catalog: Catalog
    stores: Mapping[Home, Store]
    mirrors: Mirrors
    shapes: Callable[[], Mapping[str, tuple[Column, ...]]]

    def look(self, job: Job, tell: Tell) -> Reconciled:
        """Compare. Raises UserError for a job that has nothing to compare, Expired where the truth is gone."""
        check_comparable(job)
        own = self.stores[job.home].begin(exclusive=False)
        other = LazyReader(self.stores[Home.LEDGER if job.home is Home.TABLES else Home.TABLES])
        try:
            progress = _settled(job, own.progress(job.name))  # fixes the snapshot: the other store is never behind it
            at = _At(own, other, own) if job.home is Home.TABLES else _At(other, own, own)
            return self._looked(job, progress, at, tell)
        finally:
            own.rollback()
            other.close()

    def repair(self, job: Job, run: str, tell: Tell) -> Reconciled:
        """Compare, and commit exactly the difference; nothing where there is none, or where it cannot come right."""
        check_comparable(job)
        if job.home is not Home.TABLES:
            raise UserError(
                f"job `{job.name}` writes a topic, and what was appended to a topic cannot be taken back",
                mend="look without --repair; emit what is missing",
            )
        transaction = cast(Mending, self.stores[Home.TABLES].begin())
        try:
            with closing(LazyReader(self.stores[Home.LEDGER])) as ledger:
                before = _settled(job, transaction.progress(job.name))
                self.mirrors.prepare_within(job, self.catalog.plan(job), transaction)
                at = _At(transaction, ledger, transaction)
                found = self._looked(job, before, at, tell)
                if found.is_equal:
                    return found
                tell("writing the difference")
                readers = self._mend(job, before, found, at, run)
                tell("looking again")
                again = self._looked(job, before, at, tell)
            if not again.is_equal:
                raise InvariantError(
                    f"job `{job.name}`: the repair does not give what its whole transform gives, so nothing was committed",
                    mend="report this with the output of: tidemill plan --json",
                )
            if job.gate is None:
                forget(transaction, job)
            progress = replace(before, run=run)
            transaction.settle(progress, before)
            for reader, known in readers.items():
                transaction.settle(doubted(known), transaction.progress(reader))
            heads = transaction.commit()
        finally:
            transaction.rollback()
        mended = sum(each.count for each in (*found.outputs.values(), *found.mirrors.values()))
        marked = {name: doubted(known) for name, known in readers.items()}
        moved = {asset: heads[asset] for asset in job.outputs if asset in heads}
        return replace(found, progress=progress, repaired=mended, heads=moved, doubted=marked)

    # Looking.

    def _looked(self, job: Job, progress: Progress, at: _At, tell: Tell) -> Reconciled:
        truth = Truth(self.catalog, at.tables, at.ledger)
        plan = self.catalog.plan(job)
        evaluate = cast(Mending, at.tables).evaluate
        tell("reading the inputs and computing")
        work = work_at(job, plan, progress, progress.run, parked_rows(at.own, job))
        outputs = {}
        for asset, output in truth.outputs(work).items():
            tell(f"comparing {asset}")
            sides = self._sides(asset, output.rows, plan, at.own, is_rowwise=isinstance(output, Replaced))
            sides = replace(sides, tolerance=job.tolerance)
            outputs[asset] = compare(sides, evaluate)
        mirrors = {}
        for topic in self.mirrors.needed(job, plan):
            tell(f"comparing the copy of {topic}")
            mirrors[topic] = self._mirror(topic, truth, at.tables, evaluate)
        return Reconciled(job.name, outputs, mirrors, progress)

    def _sides(
        self, asset: str, wanted: ArrowStream | Statement, plan: Plan, own: Reader, *, is_rowwise: bool
    ) -> Sides:
        head = own.head(asset)
        if self.catalog.home(asset) is Home.LEDGER:
            live = as_table(own.read(Slice(asset, 0, head.offset)))
            return Sides(self.catalog.asset(asset).columns, live, wanted)
        columns = self.shapes().get(asset, plan.columns)
        identity = _identity(wanted) if is_rowwise else ""
        return Sides(columns, Slice(asset, 0, head.offset), wanted, plan.key, identity)

    def _mirror(
        self, topic: str, truth: Truth, tables: Reader, evaluate: Callable[[Statement], ArrowStream]
    ) -> Comparison:
        part = Slice(topic, 0, tables.head(topic).offset)
        if not part.to:
            return Comparison()
        wanted = truth.typed(topic, truth.log(part))
        return compare(Sides(self.catalog.asset(topic).columns, part, wanted, by_identity=RID), evaluate)

    # Mending.

    def _mend(self, job: Job, progress: Progress, found: Reconciled, at: _At, run: str) -> dict[str, Progress]:
        """Write what makes it right; returns the readers whose results are doubted from now on."""
        transaction = cast(Mending, at.tables)
        damaged = [topic for topic, comparison in found.mirrors.items() if not comparison.is_equal]
        readers = self._readers(job, damaged)
        self._check_rebuildable(readers, at.ledger)
        for topic in damaged:
            self.mirrors.refill(topic, transaction, self._stops(topic, transaction))
        plan = self.catalog.plan(job)
        for asset in (*job.outputs, *plan.tables):
            transaction.tidy(asset)
        work = work_at(job, plan, progress, run, parked_rows(transaction, job))
        if plan.kind == "incremental":
            snapshot = Snapshot(self.catalog, transaction, at.ledger, frozenset(self.mirrors.needed(job, plan)))
            outputs: Iterable[tuple[str, Output]] = self.catalog.engines[job.takes].compute(work, snapshot)
        else:
            outputs = Truth(self.catalog, transaction, at.ledger).outputs(work).items()
        for asset, output in outputs:
            if asset in plan.tables:
                transaction.define(plan.tables[asset])
            transaction.write(asset, output)
        return {
            reader.name: known
            for reader in readers
            if (known := transaction.progress(reader.name)) is not None and not known.version.endswith(DOUBTED)
        }

    def _check_rebuildable(self, readers: Iterable[Job], ledger: Reader) -> None:
        """Raise Expired where a reader that would be made anew cannot be."""
        for reader in readers:
            for name in reader.inputs:
                if self.catalog.is_append_topic(name) and (expired := ledger.head(name).expired):
                    raise Expired(
                        f"`{reader.name}` reads what would be repaired and would have to be made anew, but the history of "
                        f"`{name}` has expired up to offset {expired}",
                        mend="nothing was changed; mend what the rows are made from, so that they come as changes",
                    )

    def _stops(self, topic: str, transaction: Mending) -> list[int]:
        """The positions at which the mirror of a topic is read."""
        stops = []
        for reader in self._mirroring(topic):
            known = transaction.progress(reader.name)
            stops += [known.cursors.get(topic, 0)] if known is not None else []
            stops += released_positions(transaction, reader).get(topic, {}).values()
        return stops

    def _readers(self, job: Job, damaged: Iterable[str]) -> list[Job]:
        """The jobs whose results rest on what was changed by hand: they read the outputs, or a damaged mirror."""
        readers = {
            other.name: other
            for other in self.catalog.jobs.copy().values()
            if other.home is Home.TABLES and other.rebuilds and set(other.inputs) & set(job.outputs)
        }
        readers |= {other.name: other for topic in damaged for other in self._mirroring(topic) if other.rebuilds}
        readers.pop(job.name, None)
        return list(readers.values())

    def _mirroring(self, topic: str) -> list[Job]:
        """The jobs that read a topic from its mirror."""
        jobs = [job for job in self.catalog.jobs.copy().values() if topic in job.inputs and job.home is Home.TABLES]
        return [job for job in jobs if topic in self.mirrors.needed(job, self.catalog.plan(job))]


def doubted(known: Progress) -> Progress:
    """The progress of a job whose next run makes its result anew."""
    return known if known.version.endswith(DOUBTED) else replace(known, version=known.version + DOUBTED)


def check_comparable(job: Job) -> None:
    """Raise UserError for a job without an output of rows."""
    if job.is_outside:
        raise UserError(
            f"job `{job.name}` acts outside: there are no rows here to compare",
            mend="reconcile the table that it reads",
        )
    if job.materialized is Materialized.EXTRACT:
        raise UserError(
            f"job `{job.name}` writes a file: each run writes it whole, and it keeps no rows to compare",
            mend=f"write it anew: tidemill run {job.name} --force",
        )


def _settled(job: Job, progress: Progress | None) -> Progress:
    """The job's progress, where its output is of its present definition. Raises UserError where it is not."""
    if progress is None or not progress.run:
        raise UserError(
            f"job `{job.name}` has not run yet: there is nothing to compare", mend=f"tidemill run {job.name}"
        )
    if job.rebuilds and progress.version != job.version:
        raise UserError(
            f"job `{job.name}` is to be rebuilt first: what it reads was repaired, or its definition changed since it ran",
            mend=f"tidemill run {job.name}, then reconcile again",
        )
    return progress


def _identity(rows: ArrowStream | Statement) -> str:
    """The SQL of the identity that row-wise results bring."""
    if not isinstance(rows, Statement):
        return given_identity(as_table(rows).column_names)
    return given_identity([PARENT, ORDINAL] if _HAS_ORDINAL.search(rows.sql) else [PARENT])
