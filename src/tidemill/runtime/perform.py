"""Performing one run of a pure job: read, compute, write, settle, commit.

Rules of this file:
  * outputs, the parked set, the released gate values, the mirrors' progress and the cursor are written in one
    transaction of the store where the outputs live (rule 9), or nothing is;
  * a run takes what its snapshot shows: heads are read inside the transaction (rule 8);
  * an error says what it is by its class; nothing here decides about retries or holding.

Theory of operation. `Performer.perform` opens a transaction of the job's home, finds the change set (`pace.ranges`),
lets the engine compute, and settles the job's progress against what it was at the start (compare-and-set). The parked
set and the gate's released values are rows of internal assets in the same store, so they need no machinery of their own.
When the transform raises, `poison.py` finds the records at fault and the run is performed again without them.
Jobs with outside effects are in `outside.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TypeVar

from tidemill.core import pace
from tidemill.core.change import ORDINAL, Appended, ArrowStream, Images, Output, Shaped, Slice, Statement
from tidemill.core.errors import Expired, RunCancelled
from tidemill.core.event import Start
from tidemill.core.model import AssetKind, Column, Home, Job
from tidemill.core.orchestrate import on_cursor
from tidemill.core.ports import Head, Plan, Progress, Reader, Store, Table, Transaction, Work
from tidemill.runtime.asserting import Asserted, Asserting
from tidemill.runtime.backfilled import label
from tidemill.runtime.catalog import Catalog
from tidemill.runtime.gate import Opening, release
from tidemill.runtime.mirror import Mirrors
from tidemill.runtime.parking import ParkedRow, Parking, standing, write_parking
from tidemill.runtime.rows import offsets, row_ids
from tidemill.runtime.skipped import forget

__all__ = ["CHUNK_CHANGES", "Done", "LazyReader", "Performer", "Snapshot", "Taken", "Trying"]

T = TypeVar("T")
Trying = Callable[[str, Mapping[str, tuple[int, int]]], None]
"""Told of a run's id and what it is about to take of each input, before anything is computed."""
Evaluate = Callable[[Statement], ArrowStream]

CHUNK_CHANGES = 50_000
"""Row-wise work is cut into slices of this many changes inside its one transaction, so that memory stays flat."""


@dataclass(frozen=True, slots=True)
class Done:
    """A committed run: the progress, the new heads, and the counts for its report.

    `taken` is counted in what was written, where that can be told; else it is what was neither parked nor skipped.
    """

    progress: Progress
    heads: Mapping[str, Head]
    ranges: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    rows_out: int = 0
    parked: int = 0
    skipped: int = 0
    taken: int | None = None
    warned: tuple[Asserted, ...] = ()

    @property
    def rows_in(self) -> int:
        """How many offsets of the inputs the run took."""
        return sum(to - from_ for from_, to in self.ranges.values())


@dataclass(frozen=True, slots=True)
class Taken:
    """What a run takes: per input its range, and the slices that show its rows."""

    job: Job
    ranges: dict[str, tuple[int, int]]
    rows: list[Slice]
    is_whole: bool = False


class Snapshot:
    """One reader over both homes: tables and mirrored topics from the tables store, the rest from the ledger."""

    def __init__(self, catalog: Catalog, tables: Reader, ledger: Reader, mirrored: frozenset[str]) -> None:
        self._catalog = catalog
        self._tables = tables
        self._ledger = ledger
        self._mirrored = mirrored

    def is_in_tables(self, asset: str) -> bool:
        """Whether the asset is read from the tables store: it lives there, or its mirror is wanted."""
        return asset in self._mirrored or self._catalog.home(asset) is Home.TABLES

    def _home(self, asset: str) -> Reader:
        return self._tables if self.is_in_tables(asset) else self._ledger

    def evaluate(self, statement: Statement) -> ArrowStream:
        """The rows of a statement over the tables store, at this snapshot (extracts)."""
        rows: ArrowStream = self._tables.evaluate(statement)  # type: ignore[attr-defined]
        return rows

    def head(self, asset: str) -> Head:
        """The end of the asset's log in this snapshot; a mirror's generation is its own affair, the topic's counts."""
        head = self._home(asset).head(asset)
        if asset in self._mirrored:
            return replace(head, generation=self._ledger.head(asset).generation)
        return head

    def read(self, part: Slice) -> ArrowStream:
        """The rows of a slice."""
        return self._home(part.asset).read(part)


class Performer:
    """Performs runs of pure jobs: SQL, row, table and full jobs whose outputs are tables or append topics."""

    def __init__(
        self,
        catalog: Catalog,
        stores: Mapping[Home, Store],
        mirrors: Mirrors,
        trying: Trying = lambda _run, _ranges: None,
    ) -> None:
        self.catalog = catalog
        self.stores = stores
        self.mirrors = mirrors
        self._trying = trying
        self.cancelled: set[str] = set()
        """Runs that a person cancelled: they end before they commit."""

    def check_cancelled(self, run: str) -> None:
        """Raise RunCancelled where a person cancelled this run."""
        if run in self.cancelled:
            raise RunCancelled(f"run {run} was cancelled", mend="resume its job when it may run again")

    def perform(self, start: Start, run: str, *, exclusive: bool = True, parking: Parking | None = None) -> Done:
        """Perform one run, alone in its transaction. Raises what went wrong; then nothing is committed."""
        job = self.catalog.jobs[start.job]
        if exclusive:
            self.mirrors.prepare_ahead(job, self.catalog.plan(job))
        else:
            self.mirrors.prepare(job, self.catalog.plan(job))
        transaction = self.stores[job.home].begin(exclusive=exclusive)
        try:
            done = self.join(start, run, transaction, parking=parking, catches_up=exclusive)
            heads = transaction.commit()  # of mirrors too, whose heads are nobody's news
            return replace(done, heads={asset: heads[asset] for asset in job.outputs if asset in heads})
        finally:
            transaction.rollback()

    def join(
        self,
        start: Start,
        run: str,
        transaction: Transaction,
        *,
        parking: Parking | None = None,
        catches_up: bool = True,
        is_trial: bool = False,
    ) -> Done:
        """Perform one run inside a transaction that may serve several (group commit); does not commit.

        A trial is rolled back whatever comes of it: what the job asserts of its whole output is not asked of it.
        """
        job = self.catalog.jobs[start.job]
        plan = self.catalog.plan(job)
        with self._snapshot(job, plan, transaction, catches_up) as snapshot:
            performing = _Run(self.catalog, job, plan, start, run, transaction, snapshot, parking or Parking())
            if not is_trial:
                performing.trying = self._trying
            try:
                done = performing.perform(
                    partial(self.asserted, job, run, transaction) if job.asserts and not is_trial else None
                )
            except Expired as error:
                raise _in_words(error, job, plan, performing.before) from error
        self.check_cancelled(run)
        return done

    def asserted(self, job: Job, run: str, transaction: Transaction, begun: Mapping[str, int]) -> tuple[Asserted, ...]:
        """What is asserted of the outputs as they would be, and only warns; `begun` are their heads before the run.

        Raises AssertionBroken. Computed by the run's own transaction, or for rows handed over by the tables store.
        """
        plan = self.catalog.plan(job)
        columns = {asset: plan.columns or self.catalog.asset(asset).columns for asset in job.outputs}
        columns = {asset: known for asset, known in columns.items() if known}
        if job.home is Home.TABLES:
            for asset, known in columns.items():
                transaction.define(Table(asset, known, plan.key))
        store = transaction if job.home is Home.TABLES else self.stores[Home.TABLES]
        evaluate: Evaluate = store.evaluate  # type: ignore[union-attr]
        return Asserting(job, run, transaction, evaluate, begun, columns).check()

    def inspect(
        self,
        start: Start,
        transaction: Transaction,
        looks: Callable[[Taken, Reader, Reader], T],
    ) -> T:
        """Show what a run would take to `looks(taken, inputs, own store)`; to be rolled back."""
        job = self.catalog.jobs[start.job]
        plan = self.catalog.plan(job)
        with self._snapshot(job, plan, transaction, catches_up=True) as snapshot:
            run = _Run(self.catalog, job, plan, start, "", transaction, snapshot, Parking())
            return looks(run.taken(), snapshot, transaction)

    def _snapshot(self, job: Job, plan: Plan, transaction: Transaction, catches_up: bool) -> _OpenSnapshot:
        mirrored = frozenset(self.mirrors.needed(job, plan))
        if job.home is Home.TABLES and catches_up:
            self.mirrors.prepare_within(job, plan, transaction)
        other = Home.LEDGER if job.home is Home.TABLES else Home.TABLES
        return _OpenSnapshot(self.catalog, transaction, self.stores[other], job.home, mirrored)


class _OpenSnapshot:
    """A snapshot over a transaction and, opened when first needed, a reading transaction of the other home."""

    def __init__(
        self, catalog: Catalog, transaction: Transaction, other: Store, home: Home, mirrored: frozenset[str]
    ) -> None:
        self._catalog = catalog
        self._transaction = transaction
        self._other = LazyReader(other)
        self._home = home
        self._mirrored = mirrored

    def __enter__(self) -> Snapshot:
        tables: Reader = self._transaction if self._home is Home.TABLES else self._other
        ledger: Reader = self._other if self._home is Home.TABLES else self._transaction
        return Snapshot(self._catalog, tables, ledger, self._mirrored)

    def __exit__(self, *_: object) -> None:
        self._other.close()


class LazyReader:
    """A reader that opens its transaction when first asked."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._transaction: Transaction | None = None

    def _open(self) -> Transaction:
        if self._transaction is None:
            self._transaction = self._store.begin(exclusive=False)
        return self._transaction

    def head(self, asset: str) -> Head:
        """The end of the asset's log."""
        return self._open().head(asset)

    def read(self, part: Slice) -> ArrowStream:
        """The rows of a slice."""
        return self._open().read(part)

    def evaluate(self, statement: Statement) -> ArrowStream:
        """The rows of a statement over the tables store."""
        rows: ArrowStream = self._open().evaluate(statement)  # type: ignore[attr-defined]
        return rows

    def close(self) -> None:
        """End the transaction, where one was opened."""
        if self._transaction is not None:
            self._transaction.rollback()


@dataclass(slots=True)
class _Run:
    """The steps of one run, in order; one object a run."""

    catalog: Catalog
    job: Job
    plan: Plan
    start: Start
    run: str
    transaction: Transaction
    snapshot: Snapshot
    parking: Parking
    before: Progress | None = None
    trying: Trying = lambda _run, _ranges: None
    related: int | None = None
    """Input rows that something was made of; None where that is not told apart."""

    def taken(self) -> Taken:
        """What this run takes: over the whole (rebuilds, gates) every row that it reads counts as taken."""
        before, heads = self.transaction.progress(self.job.name), self._heads()
        ranges = self._ranges(before, heads)
        if not self._is_whole(before, heads):
            return Taken(self.job, ranges, [Slice(a, f, t, Images.ADDED) for a, (f, t) in ranges.items() if t > f])
        self._open_gate()
        released = self.job.name if self.job.gate is not None else ""
        rows = [Slice(asset, 0, to, released=released) for asset, (_, to) in ranges.items() if to]
        return Taken(self.job, ranges, rows, is_whole=True)

    def _heads(self) -> dict[str, Head]:
        return {asset: self.snapshot.head(asset) for asset in self.job.inputs}

    def perform(self, asserted: Callable[[Mapping[str, int]], tuple[Asserted, ...]] | None) -> Done:
        """All steps but the commit; with `asserted`, what the job asserts is checked."""
        self.before = before = self.transaction.progress(self.job.name)
        heads = self._heads()
        ranges = self._ranges(before, heads)
        self.trying(self.run, ranges)
        rebuilds = self._is_rebuild(before, heads)
        whole = self._is_whole(before, heads) or self._begins_anew()
        takes_all = rebuilds or (whole and self.job.gate is None)
        begun = {asset: self.transaction.head(asset).offset for asset in self.job.outputs if asserted or takes_all}
        self._open_gate()
        parked = standing(self.transaction, self.job)
        excluding = self._excluded(parked, ranges, self._tries_all(before, heads))
        rows_out = self._write(ranges, excluding, {} if whole else _by_input(parked), whole)
        write_parking(self.transaction, self.job, self.parking, self.run)
        warned = asserted(begun) if asserted is not None else ()
        if takes_all and forget(self.transaction, self.job):
            label(self.transaction, self.job, begun)
        progress = self._progress(before, ranges, heads, rebuilds)
        self.transaction.settle(progress, before)
        return self._done(progress, ranges, rows_out, warned)

    def _open_gate(self) -> None:
        if isinstance(self.start.payload, Opening):
            release(self.transaction, self.job, self.start.payload)

    def _is_whole(self, before: Progress | None, heads: Mapping[str, Head]) -> bool:
        is_first = before is None and self._has_leftovers()
        return is_first or self.job.gate is not None or self._is_rebuild(before, heads)

    def _begins_anew(self) -> bool:
        """Whether a table that a plan adds to gets other columns now, and so begins empty: a files asset may have got
        a column, and a star takes it in."""
        if self.plan.kind not in ("incremental", "rowwise") or not self.plan.columns or not self._is_table():
            return False
        tables = [Table(asset, self.plan.columns, self.plan.key) for asset in self.job.outputs]
        return any(self._is_redefined(table) for table in (*tables, *self.plan.tables.values()))

    def _is_table(self) -> bool:
        return all(self.catalog.assets[asset].kind is AssetKind.TABLE for asset in self.job.outputs)

    def _is_redefined(self, table: Table) -> bool:
        before = self.transaction.head(table.asset)
        return self.transaction.define(table).generation != before.generation

    def _tries_all(self, before: Progress | None, heads: Mapping[str, Head]) -> bool:
        is_new = before is None or before.version != self.job.version
        return self.job.rebuilds and (is_new or self._is_rebuild(before, heads))

    def _ranges(self, before: Progress | None, known: Mapping[str, Head]) -> dict[str, tuple[int, int]]:
        cursors = before.cursors if before is not None else {}
        heads = {asset: head.offset for asset, head in known.items()}
        if self._is_rebuild(before, known):
            pace.ranges(self.job, cursors, heads)
            return {
                asset: (0, heads[asset] if self._goes_to_head(before, asset, known) else cursors.get(asset, 0))
                for asset in self.job.inputs
            }
        ends = self.parking.ends or self.start.ends
        sliceable = self.plan.kind == "rowwise"
        ranges = pace.ranges(self.job, cursors, heads, ends=ends, is_sliceable=sliceable)
        return {asset: self._from_the_floor(asset, taken, heads, ends) for asset, taken in ranges.items()}

    def _from_the_floor(
        self, asset: str, taken: tuple[int, int], heads: Mapping[str, int], ends: Mapping[str, int] | None
    ) -> tuple[int, int]:
        """A first read of a table takes all of it: its log below the floor is its current rows, which no cap can cut."""
        is_first = taken[0] == 0 and self.catalog.home(asset) is Home.TABLES and ends is None
        return (0, heads[asset]) if is_first else taken

    def _is_rebuild(self, before: Progress | None, heads: Mapping[str, Head]) -> bool:
        """Whether this run makes the result anew (rule 25): decided by the snapshot, for a definition or an input's
        generation may have changed since the start was decided. A gate's value is taken over the whole anyway."""
        if self.start.is_rebuild or before is None or not self.job.rebuilds or self.start.value:
            return self.start.is_rebuild
        has_new_log = any(self._is_new_log(before, asset, heads) for asset in self.job.inputs)
        return before.version != self.job.version or has_new_log

    def _goes_to_head(self, before: Progress | None, asset: str, heads: Mapping[str, Head]) -> bool:
        return self.start.takes_news or self._is_new_log(before, asset, heads)

    def _is_new_log(self, before: Progress | None, asset: str, heads: Mapping[str, Head]) -> bool:
        generation = heads[asset].generation
        return before is not None and before.generations.get(asset, generation) != generation

    def _excluded(
        self, parked: Sequence[ParkedRow], ranges: Mapping[str, tuple[int, int]], tries_all: bool
    ) -> dict[str, tuple[str, ...]]:
        """The rows left out of every input: those parked before and not changed since, and those of this run.

        A result that is made anew tries every row again: what another version could not process may be no trouble now.
        """
        stay = set() if tries_all else self._unchanged(parked, ranges)
        self.parking.leaving.extend((row.asset, row.rid) for row in parked if (row.asset, row.rid) not in stay)
        return _by_input([*(row for row in parked if (row.asset, row.rid) in stay), *self.parking.rows])

    def _unchanged(self, parked: Sequence[ParkedRow], ranges: Mapping[str, tuple[int, int]]) -> set[tuple[str, str]]:
        """The parked rows that are as they were then; a gate shows them as they were released, whatever came since."""
        stay: set[tuple[str, str]] = set()
        for asset in {row.asset for row in parked}:
            mine, (from_, to) = [row for row in parked if row.asset == asset], ranges.get(asset, (0, 0))
            if self.job.gate is not None:
                shown = set(offsets(self.snapshot.read(Slice(asset, 0, to, released=self.job.name))))
                stay |= {(asset, row.rid) for row in mine if (row.offset, row.rid) in shown}
            else:
                changed = set(_changed(self.snapshot, asset, (from_, to)))
                stay |= {(asset, row.rid) for row in mine if row.rid not in changed}
        return stay

    def _write(
        self,
        ranges: Mapping[str, tuple[int, int]],
        excluding: Mapping[str, tuple[str, ...]],
        excluding_before: Mapping[str, tuple[str, ...]],
        whole: bool,
    ) -> int:
        work = Work(
            self.job,
            self.plan,
            ranges,
            self.run,
            whole=whole,
            released=self.job.name if self.job.gate is not None else "",
            excluding=excluding,
            attempt=self.start.attempt,
            excluding_before=excluding_before,
        )
        engine = self.catalog.engines[self.job.takes]
        return sum(
            self._write_outputs(engine.compute(part, self.snapshot))
            for part in (_chunks(work) if self._is_chunked(whole) else (work,))
        )

    def _is_chunked(self, whole: bool) -> bool:
        """Whether the change set may be computed in slices: topics keep their logs, tables may have trimmed theirs."""
        in_tables = any(self.catalog.home(asset) is Home.TABLES for asset in self.job.inputs)
        return self.plan.kind == "rowwise" and not whole and not in_tables

    def _has_leftovers(self) -> bool:
        return any(
            self.catalog.assets[asset].kind is AssetKind.TABLE and self.transaction.head(asset).rows > 0
            for asset in self.job.outputs
        )

    def _write_outputs(self, outputs: Iterable[tuple[str, Output]]) -> int:
        """Write each output before the next is asked for; returns the changes of the job's own outputs."""
        count = 0
        for asset, output in outputs:
            is_own = asset in self.job.outputs
            if not is_own:
                self.transaction.define(self.plan.tables[asset])
            elif self.catalog.assets[asset].kind is AssetKind.TABLE:
                self.transaction.define(Table(asset, self._columns(output), self.plan.key))
            changes = self.transaction.write(asset, output)
            self._relate(output, changes)
            count += changes if is_own else 0
        return count

    def _relate(self, output: Output, changes: int) -> None:
        """Count the input rows that rows were added for."""
        if self.plan.kind != "rowwise" or not isinstance(output, Appended):
            return
        if isinstance(output.rows, Statement):
            parents = None if ORDINAL in output.rows.sql else changes
        else:
            parents = getattr(output.rows, "parents", None)
        if parents is not None:
            self.related = (self.related or 0) + parents

    def _done(
        self,
        progress: Progress,
        ranges: Mapping[str, tuple[int, int]],
        rows_out: int,
        warned: tuple[Asserted, ...],
    ) -> Done:
        """The outcome with its counts: which offsets came to nothing is told apart only for jobs of one output."""
        taken, parked = None if len(self.job.outputs) > 1 else self.related, len(self.parking.rows)
        rows_in = sum(to - from_ for from_, to in ranges.values())
        skipped = 0 if taken is None else max(0, rows_in - parked - taken)
        return Done(progress, {}, ranges, rows_out, parked, skipped, taken, warned)

    def _columns(self, output: Output) -> tuple[Column, ...]:
        """The columns of a table: as planned, else as its first rows show them."""
        if self.plan.columns or not isinstance(output.rows, Shaped):
            return self.plan.columns
        if output.rows.columns:
            self.catalog.learn(self.job, output.rows.columns)
            self.plan = replace(self.plan, columns=output.rows.columns)
        return output.rows.columns

    def _progress(
        self,
        before: Progress | None,
        ranges: Mapping[str, tuple[int, int]],
        heads: Mapping[str, Head],
        rebuilds: bool,
    ) -> Progress:
        cursors = {**(before.cursors if before is not None else {}), **{asset: to for asset, (_, to) in ranges.items()}}
        opening = self.start.payload
        if (
            self.job.on
            and self.start.on_offset is not None
            and not (isinstance(opening, Opening) and not opening.is_last)
        ):
            cursors[on_cursor(self.job.on)] = max(self.start.on_offset, cursors.get(on_cursor(self.job.on), 0))
        took = any(to > from_ for from_, to in ranges.values())
        was = before is not None and before.succeeded and before.version == self.job.version
        return Progress(
            self.job.name,
            self.job.version,
            cursors,
            {asset: head.generation for asset, head in heads.items()},
            self.run,
            before.served_at if rebuilds and before is not None and not self.start.takes_news else self.start.at,
            succeeded=was or (took and not self.parking.is_everything),
        )


def _in_words(error: Expired, job: Job, plan: Plan, before: Progress | None) -> Expired:
    """The same, with what the job needs the rows for, and what a person can do."""
    needs = plan.history.get(error.asset, "")
    is_changed = before is not None and before.run and job.rebuilds and before.version != job.version
    what, mend = "needs all of its rows", "let it read a table that a job makes of what is new, and that keeps its rows"
    if is_changed:
        what = "was changed, so that its result has to be made anew"
        mend = "put its former definition back, and it goes on; or give the new one another name"
    elif needs:
        what = f"needs all of its rows ({needs})"
    elif before is None or not before.run:
        what = "would begin with it"
        mend = f"to begin with what is left: tidemill resume {job.name} --from {error.offset}"
    told = Expired(
        f"job `{job.name}` {what}, but the history of `{error.asset}` has expired up to offset {error.offset}",
        mend=mend,
    )
    told.asset, told.offset = error.asset, error.offset
    return told


def _by_input(parked: Iterable[ParkedRow]) -> dict[str, tuple[str, ...]]:
    """The identities of parked rows by the input they are in."""
    found: dict[str, tuple[str, ...]] = {}
    for row in parked:
        found[row.asset] = (*found.get(row.asset, ()), row.rid)
    return found


def _chunks(work: Work) -> Iterator[Work]:
    """Row-wise work cut by offsets; the cuts cannot change the result, and all parts share one transaction."""
    longest = max((to - from_ for from_, to in work.ranges.values()), default=0)
    if longest <= CHUNK_CHANGES or len(work.ranges) != 1:
        yield work
        return
    ((asset, (from_, to)),) = work.ranges.items()
    for low in range(from_, to, CHUNK_CHANGES):
        yield replace(work, ranges={asset: (low, min(low + CHUNK_CHANGES, to))})


def _changed(reader: Reader, asset: str, taken: tuple[int, int]) -> list[str]:
    from_, to = taken
    return row_ids(reader.read(Slice(asset, from_, to, Images.CHANGES))) if to > from_ else []
