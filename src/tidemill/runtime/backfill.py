"""Processing history that a job never processed (rule 28): what its cursor was moved over.

Rules of this file:
  * a slice, its place among what is skipped and the label of its changes are committed together, so nothing is processed
    twice, and the live cursor is never touched: what is skipped lies behind it;
  * a pure job's slice is computed row by row, and a row that cannot be processed is parked like any other;
  * a slice with outside effects is pinned durably before its first attempt, and recorded as a run when it is settled.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace

from tidemill.core.change import Appended, Images, Output, Replaced, Shaped, Slice
from tidemill.core.errors import Conflict, TooManyParked
from tidemill.core.model import AssetKind, Home, Job, OnError
from tidemill.core.ports import Head, Progress, Reader, Store, Table, Transaction, Work
from tidemill.core.retry import PARKED_MAX, PARKED_WINDOW
from tidemill.core.slices import Span
from tidemill.runtime.backfilled import label
from tidemill.runtime.delivered import delivered, record, runs_asset
from tidemill.runtime.gate import gated_inputs, released_positions
from tidemill.runtime.outside import Outside, touch
from tidemill.runtime.parking import ParkedRow, Parking, write_parking
from tidemill.runtime.perform import LazyReader, Performer, Snapshot
from tidemill.runtime.poison import is_of_transform
from tidemill.runtime.rows import dicts, row_ids
from tidemill.runtime.skipped import skipped, take_away

__all__ = ["Backfill", "Filled", "backfill_of"]


def backfill_of(job: str) -> str:
    """The name under which the backfill of a job keeps what it has pinned."""
    return f"{job}@backfill"


@dataclass(frozen=True, slots=True)
class Filled:
    """What slices have committed: changes written, rows parked, and the outputs' heads."""

    written: int = 0
    parked: int = 0
    heads: Mapping[str, Head] = field(default_factory=dict)

    def then(self, later: Filled) -> Filled:
        """This and what came after it."""
        return Filled(self.written + later.written, self.parked + later.parked, {**self.heads, **later.heads})


@dataclass(slots=True)
class Backfill:
    """Processes what one job never processed."""

    job: Job
    performer: Performer
    outside: Outside
    _parked: list[int] = field(default_factory=list)

    @property
    def is_by_row(self) -> bool:
        """Whether a part of its input has a result of its own, which later changes of the input do not touch."""
        catalog, inputs = self.performer.catalog, self.job.inputs
        is_apart = self.job.gate is None and catalog.plan(self.job).kind == "rowwise"
        return is_apart and len(inputs) == 1 and catalog.is_append_topic(inputs[0])

    def skipped(self) -> list[Span]:
        """The ranges that were never processed, by input and offset."""
        reader = self._store.begin(exclusive=False)
        try:
            return skipped(reader, self.job)
        finally:
            reader.rollback()

    @property
    def _store(self) -> Store:
        return self.performer.stores[self.job.home]

    # Pure jobs, row by row.

    def fill(self, span: Span, run: str) -> Filled:
        """Process one slice, in one commit; rows at fault are found by halving it, and parked."""
        try:
            return self._commit(span, run, ())
        except Exception as error:
            if not is_of_transform(error) or self.job.on_error is not OnError.PARK:
                raise
            if span.changes == 1:
                return self._park(span, run, error)
        middle = (span.from_ + span.to) // 2
        return self.fill(replace(span, to=middle), run).then(self.fill(replace(span, from_=middle), run))

    def _park(self, span: Span, run: str, error: Exception) -> Filled:
        """Commit a slice of one row that cannot be processed. Raises `error` for a job that never succeeded."""
        recent = [offset for offset in self._parked if offset > span.to - PARKED_WINDOW]
        if not self._has_succeeded():
            raise error
        if len(recent) >= PARKED_MAX:
            raise TooManyParked(
                f"job `{self.job.name}`: more than {PARKED_MAX} of the last {PARKED_WINDOW} rows of `{span.asset}` cannot "
                f"be processed, the next at offset {span.to}: {error}",
                mend=f"look at them with `tidemill dead list`, mend the job, then: tidemill backfill {self.job.name}",
            ) from error
        self._parked = [*recent, span.to]
        with closing(LazyReader(self.performer.stores[Home.LEDGER])) as ledger:
            rows = dicts(ledger.read(Slice(span.asset, span.from_, span.to, Images.ADDED)))
        reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        return self._commit(span, run, tuple(ParkedRow(span.asset, row["_rid"], span.to, reason) for row in rows))

    def _has_succeeded(self) -> bool:
        reader = self._store.begin(exclusive=False)
        try:
            known = reader.progress(self.job.name)
            return known is not None and known.succeeded and known.version == self.job.version
        finally:
            reader.rollback()

    def _commit(self, span: Span, run: str, parked: tuple[ParkedRow, ...]) -> Filled:
        """Beside live runs; where one of them writes the same table meanwhile, alone.

        Alone from the start into a topic, whose offsets are given out in the commit: a label needs them before.
        """
        if self.job.home is Home.LEDGER:
            return self._committed(span, run, parked, exclusive=True)
        try:
            return self._committed(span, run, parked, exclusive=False)
        except Conflict:
            return self._committed(span, run, parked, exclusive=True)

    def _committed(self, span: Span, run: str, parked: tuple[ParkedRow, ...], *, exclusive: bool) -> Filled:
        transaction = self._store.begin(exclusive=exclusive)
        try:
            with closing(LazyReader(self.performer.stores[Home.LEDGER])) as ledger:
                reader = ledger if self.job.home is Home.TABLES else transaction
                written = self._write(span, run, parked, transaction, reader)
            heads = transaction.commit()
        finally:
            transaction.rollback()
        return Filled(written, len(parked), {name: heads[name] for name in self.job.outputs if name in heads})

    def _write(
        self, span: Span, run: str, parked: tuple[ParkedRow, ...], transaction: Transaction, ledger: Reader
    ) -> int:
        catalog, job = self.performer.catalog, self.job
        plan = catalog.plan(job)
        excluding = {span.asset: tuple(row.rid for row in parked)}
        work = Work(job, plan, {span.asset: (span.from_, span.to)}, run, excluding=excluding)
        begun, written = {asset: transaction.head(asset).offset for asset in job.outputs}, 0
        for asset, output in catalog.engines[job.takes].compute(work, Snapshot(catalog, ledger, ledger, frozenset())):
            made = output
            if catalog.assets[asset].kind is AssetKind.TABLE:
                made = self._exchanged(output, span, ledger)
                columns = plan.columns or (output.rows.columns if isinstance(output.rows, Shaped) else ())
                transaction.define(Table(asset, columns, plan.key))
            written += transaction.write(asset, made)
        write_parking(transaction, job, Parking(parked), run)
        if job.asserts:
            self.performer.asserted(job, run, transaction, begun)
        label(transaction, job, begun)
        take_away(transaction, job, span)
        return written

    def _exchanged(self, output: Output, span: Span, ledger: Reader) -> Output:
        """The rows of a slice in place of those that its input rows have: a rebuild may have made them already."""
        if not isinstance(output, Appended):
            return output
        return Replaced(output.rows, row_ids(ledger.read(Slice(span.asset, span.from_, span.to, Images.ADDED))))

    # Outside effects.

    def values(self) -> dict[str, dict[str, int]]:
        """Behind a gate: the released values that no run took, each with the position it was released at by input."""
        ledger = self.performer.stores[Home.LEDGER].begin(exclusive=False)
        try:
            to = ledger.head(runs_asset(self.job.name)).offset
            taken = {value for each in delivered(ledger, self.job, 0, to) for value in each.pinned.opens}
            found: dict[str, dict[str, int]] = {}
            for asset, positions in released_positions(ledger, self.job).items():
                for value, position in positions.items():
                    if value not in taken:
                        found.setdefault(value, {})[asset] = position
            return dict(sorted(found.items()))
        finally:
            ledger.rollback()

    @property
    def pinned(self) -> Progress | None:
        """The slice that was pinned and not settled."""
        ledger = self.performer.stores[Home.LEDGER].begin(exclusive=False)
        try:
            known = ledger.progress(backfill_of(self.job.name))
            return known if known is not None and known.pinned is not None else None
        finally:
            ledger.rollback()

    def pin(self, span: Span) -> Progress:
        """Pin a slice of one input; of the others it takes nothing, and shows what the job has read."""
        return self._pinned({span.asset: (span.from_, span.to)}, {})

    def pin_value(self, value: str, positions: Mapping[str, int]) -> Progress:
        """Pin a value of the gate: all of its rows, as they were when it was released."""
        return self._pinned(*self._of_value(value, positions))

    def touched(self, value: str, positions: Mapping[str, int]) -> int:
        """How many rows a value of the gate has."""
        ranges, opens = self._of_value(value, positions)
        return self.outside.touched(self.job, Progress(self.job.name, self.job.version, pinned=ranges, opens=opens))

    def _of_value(
        self, value: str, positions: Mapping[str, int]
    ) -> tuple[dict[str, tuple[int, int]], dict[str, dict[str, int]]]:
        gated = [asset.name for asset in gated_inputs(self.performer.catalog, self.job)]
        return {asset: (0, positions.get(asset, 0)) for asset in gated}, {value: dict.fromkeys(gated, 0)}

    def _pinned(self, ranges: Mapping[str, tuple[int, int]], opens: Mapping[str, Mapping[str, int]]) -> Progress:
        transaction = self.performer.stores[Home.LEDGER].begin()
        try:
            live = transaction.progress(self.job.name)
            read = live.cursors if live is not None else {}
            others = {name: (read.get(name, 0),) * 2 for name in self.job.inputs if name not in ranges}
            before = transaction.progress(backfill_of(self.job.name))
            fresh = Progress(backfill_of(self.job.name), self.job.version, pinned={**ranges, **others}, opens=opens)
            transaction.settle(fresh, before)
            transaction.commit()
            return fresh
        finally:
            transaction.rollback()

    def deliver(self, pinned: Progress, run: str, at: float) -> Filled:
        """Act on a pinned slice and settle it. Raises what the effect raised: the pin stands for the next attempt."""
        taken = replace(pinned, job=self.job.name)
        self.outside.again(self.job, taken, run)
        transaction = self.performer.stores[Home.LEDGER].begin()
        try:
            done = replace(pinned, pinned=None, opens={}, run=run, served_at=at)
            record(transaction, self.job, taken, done)
            for asset, (from_, to) in (taken.pinned or {}).items():
                if to > from_ and not taken.opens:
                    take_away(transaction, self.job, Span(asset, from_, to))
            begun = {name: transaction.head(name).offset for name in self.job.outputs}
            written = sum(touch(transaction, name, run) for name in self.job.outputs)
            label(transaction, self.job, begun)
            transaction.settle(done, transaction.progress(done.job))
            heads = transaction.commit()
        finally:
            transaction.rollback()
        return Filled(written, 0, {name: heads[name] for name in self.job.outputs if name in heads})
