"""Performing a run with outside effects: a run job, a command, an extract (rules 10, 26).

Rules of this file:
  * the range is pinned durably before the first attempt, and every retry takes exactly that range, so that the outside
    sees the same idempotency key for the same work;
  * the effect happens between two ledger transactions: a crash in between repeats it under the same key;
  * runs that end together are settled in one commit (rule 18); where that fails, each is settled alone;
  * success appends one change to each output (version = run id; for an extract the hash of its content);
  * behind a gate the value is pinned with the range, and the run is shown that value alone (derived.py);
  * a run that would touch more rows than `hold_above` is pinned and waits for a person.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from tidemill.core import pace
from tidemill.core.change import ORDINAL, PARENT, Appended, Images, Slice
from tidemill.core.effect import pinned_key
from tidemill.core.errors import UserError
from tidemill.core.event import Start
from tidemill.core.model import Home, Job, Materialized
from tidemill.core.orchestrate import on_cursor
from tidemill.core.ports import Head, Progress, Reader, Store, Transaction, Work
from tidemill.runtime.catalog import Catalog
from tidemill.runtime.delivered import record
from tidemill.runtime.derived import DerivedReader
from tidemill.runtime.gate import Opening, gated_inputs, release, released_positions
from tidemill.runtime.mirror import Mirrors
from tidemill.runtime.perform import Done, LazyReader, Snapshot, Trying
from tidemill.runtime.rows import row_ids

__all__ = ["Effect", "Outside", "Pin", "RunWaits", "touch"]

_VERSION = pa.schema([("version", pa.string()), (PARENT, pa.string()), (ORDINAL, pa.int64())])
_FIRST = pa.array([0], pa.int64())

Effect = Callable[[Work, Reader, str], Mapping[str, str]]
"""(work, reader, idempotency key) -> the version each output has now (by asset; missing: the run id)."""


class RunWaits(UserError):
    """A run touches more rows outside than `hold_above` allows: it waits for `tidemill apply`."""


Pin = tuple[Progress, Mapping[str, int]]
"""A job's progress with its run pinned, and the generations of its inputs."""


@dataclass(slots=True)
class _Ending:
    """A run whose effect has happened, waiting for its commit."""

    job: Job
    opening: Opening
    pinned: Progress
    progress: Progress
    versions: Mapping[str, str]
    done: Done | None = None
    error: BaseException | None = None


@dataclass(slots=True)
class Outside:
    """Performs runs that act outside.

    `effect_of` gives a job's effect, `is_released` answers whether a person let exactly this work go (by idempotency
    key), `check` raises RunCancelled for a run that a person cancelled, `trying` is told what a run was pinned to.
    """

    catalog: Catalog
    stores: Mapping[Home, Store]
    mirrors: Mirrors
    effect_of: Callable[[Job], Effect]
    is_released: Callable[[str], bool]
    check: Callable[[str], None] = lambda _run: None
    trying: Trying = lambda _run, _ranges: None
    _ending: list[_Ending] = field(default_factory=list)
    _listing: threading.Lock = field(default_factory=threading.Lock)
    _settling: threading.Lock = field(default_factory=threading.Lock)

    def perform(self, start: Start, run: str, pin: Pin | None = None) -> Done:
        """Pin (unless that is done), act, settle. Raises what the effect raised; the pin stands for the next attempt."""
        job = self.catalog.jobs[start.job]
        with self._reading(job) as reader:
            pinned, generations = pin or self.pin([start], reader)[start.job]
            self.trying(run, pinned.pinned or {})
            opening = self._opening(job, start, pinned)
            work, shown = self._work(job, pinned, run, reader, start.attempt)
            key = pinned_key(pinned)
            self._check_hold(work, key, shown)
            versions = self._act(work, shown, key)
        progress = _settled(job, start, run, pinned, generations, is_last=opening.is_last)
        return self._settle(_Ending(job, opening, pinned, progress, versions))

    def again(self, job: Job, pinned: Progress, run: str) -> None:
        """Act once more as a recorded run did: its range, its value, its key; nothing is settled (`replay`)."""
        with self._reading(job) as reader:
            work, shown = self._work(job, pinned, run, reader)
            self._act(work, shown, pinned_key(pinned))

    def touched(self, job: Job, pinned: Progress) -> int:
        """How many rows a recorded run touches outside."""
        with self._reading(job) as reader:
            return self._touched(*self._work(job, pinned, "", reader))

    def _reading(self, job: Job) -> _Readers:
        plan = self.catalog.plan(job)
        self.mirrors.prepare(job, plan)
        return _Readers(self.catalog, self.stores, frozenset(self.mirrors.needed(job, plan)))

    def _work(
        self, job: Job, pinned: Progress, run: str, reader: Snapshot, attempt: int = 1
    ) -> tuple[Work, Snapshot | DerivedReader]:
        """The work that was pinned, and what it may see."""
        ranges, value = dict(pinned.pinned or {}), next(iter(pinned.opens), "")
        shown: Snapshot | DerivedReader = reader
        if job.gate is not None:
            shown = DerivedReader(self.catalog, job, reader, pinned.opens)
            ranges = shown.ranges(ranges)
        return Work(job, self.catalog.plan(job), ranges, run, attempt=attempt, value=value), shown

    def _opening(self, job: Job, start: Start, pinned: Progress) -> Opening:
        """What the pinned run releases; the start knows whether that is all, unless it was decided before the pin."""
        taken = pinned.pinned or {}
        positions = {
            asset.name: taken[asset.name][1] for asset in gated_inputs(self.catalog, job) if asset.name in taken
        }
        decided = start.payload if isinstance(start.payload, Opening) else Opening((), {})
        values = tuple(pinned.opens)
        return Opening(values, positions, decided.is_last and decided.values == values)

    def _act(self, work: Work, reader: Snapshot | DerivedReader, key: str) -> Mapping[str, str]:
        """The effect itself; a run that a person cancelled says so, whatever it was doing."""
        self.check(work.run)
        try:
            return self.effect_of(work.job)(work, reader, key)
        finally:
            self.check(work.run)

    def pin_together(self, starts: Sequence[Start]) -> dict[str, Pin]:
        """Pin the ranges of several runs in one commit, by job; nothing where that fails for one: each is pinned alone."""
        jobs = [self.catalog.jobs[start.job] for start in starts if start.job in self.catalog.jobs]
        if len(jobs) < len(starts) or any(self.mirrors.needed(job, self.catalog.plan(job)) for job in jobs):
            return {}
        try:
            with _Readers(self.catalog, self.stores, frozenset()) as reader:
                return self.pin(starts, reader)
        except Exception:  # noqa: BLE001 - whatever it was, it will show again where a range is pinned alone
            return {}

    def pin(self, starts: Sequence[Start], reader: Snapshot) -> dict[str, Pin]:
        """Pin the ranges of runs durably, in one commit: by job, the progress with its range and the generations read."""
        transaction = self.stores[Home.LEDGER].begin()
        try:
            pins = {start.job: self._pinned(start, transaction, reader) for start in starts}
            transaction.commit()
            return pins
        finally:
            transaction.rollback()

    def _pinned(self, start: Start, transaction: Transaction, reader: Snapshot) -> Pin:
        job = self.catalog.jobs[start.job]
        heads = {asset: self._head(asset, transaction, reader) for asset in job.inputs}
        generations = {asset: head.generation for asset, head in heads.items()}
        before = transaction.progress(job.name)
        if before is not None and before.pinned is not None:
            return before, generations
        cursors = before.cursors if before is not None else {}
        offsets = {asset: head.offset for asset, head in heads.items()}
        opening = start.payload if isinstance(start.payload, Opening) else None
        ends = start.ends if opening is None else opening.positions
        ranges = pace.ranges(job, cursors, offsets, ends=ends, is_sliceable=job.gate is None)
        base = before or Progress(job.name, job.version)
        opens = {} if opening is None else _shown_before(opening, released_positions(transaction, job))
        pinned = replace(base, version=job.version, pinned=ranges, opens=opens)
        transaction.settle(pinned, before)
        return pinned, generations

    def _head(self, asset: str, transaction: Transaction, reader: Snapshot) -> Head:
        """Where an input ends: in the transaction that pins, or in the tables."""
        return reader.head(asset) if reader.is_in_tables(asset) else transaction.head(asset)

    def _check_hold(self, work: Work, key: str, reader: Snapshot | DerivedReader) -> None:
        job = work.job
        if (
            job.materialized is Materialized.EXTRACT
            or sum(to - from_ for from_, to in work.ranges.values()) <= job.hold_above
        ):
            return
        if self.is_released(key):
            return
        touched = self._touched(work, reader)
        if touched > job.hold_above:
            value = f" for {work.value}" if work.value else ""
            raise RunWaits(
                f"job `{job.name}` would touch {touched} rows outside{value}, more than hold_above = {job.hold_above}",
                mend=f"look at it with `tidemill explain {job.name}`, then let exactly this range go with "
                f"`tidemill apply`",
            )

    def _touched(self, work: Work, reader: Snapshot | DerivedReader) -> int:
        return sum(
            len(row_ids(reader.read(Slice(asset, from_, to, Images.CHANGES))))
            for asset, (from_, to) in work.ranges.items()
            if self.catalog.is_rows(asset)
        )

    def _settle(self, mine: _Ending) -> Done:
        """Settle a run, with all others that wait for it: the first to get the turn commits for everyone."""
        with self._listing:
            self._ending.append(mine)
        with self._settling:
            if mine.done is None and mine.error is None:
                with self._listing:
                    waiting, self._ending = self._ending, []
                self._settle_all(waiting)
        if mine.error is not None:
            raise mine.error
        assert mine.done is not None, "a run was settled without an outcome"
        return mine.done

    def _settle_all(self, waiting: Sequence[_Ending]) -> None:
        """Give each its outcome: in one commit, or where that fails for one each in its own."""
        if len(waiting) > 1 and self._are_settled(waiting):
            return
        for one in waiting:
            try:
                self._commit([one])
            except BaseException as error:  # noqa: BLE001 - every run gets the error of its own commit
                one.error = error

    def _are_settled(self, waiting: Sequence[_Ending]) -> bool:
        try:
            self._commit(waiting)
        except BaseException:  # noqa: BLE001 - whatever it was, it will show again where each run is settled alone
            return False
        return True

    def _commit(self, waiting: Sequence[_Ending]) -> None:
        """One commit: the outputs' versions, the gates' released values, the cursors. A value never opens twice."""
        transaction = self.stores[Home.LEDGER].begin()
        try:
            changed = [_write(one, transaction) for one in waiting]
            heads = transaction.commit()
        finally:
            transaction.rollback()
        for one, count in zip(waiting, changed, strict=True):
            own = {name: heads[name] for name in one.job.outputs if name in heads}
            one.done = Done(one.progress, own, dict(one.pinned.pinned or {}), count)


def _write(one: _Ending, transaction: Transaction) -> int:
    """Write what a run's success changes; returns how many outputs have another version."""
    if one.opening.values:
        release(transaction, one.job, one.opening)
    if one.job.is_outside:
        record(transaction, one.job, one.pinned, one.progress)
    changed = sum(touch(transaction, name, one.versions.get(name, one.progress.run)) for name in one.job.outputs)
    transaction.settle(one.progress, one.pinned)
    return changed


def _shown_before(opening: Opening, released: Mapping[str, Mapping[str, int]]) -> dict[str, dict[str, int]]:
    """The values of an opening, each with the positions of the inputs up to which it was shown before."""
    return {
        value: {asset: released.get(asset, {}).get(value, 0) for asset in opening.positions} for value in opening.values
    }


def _settled(
    job: Job, start: Start, run: str, pinned: Progress, generations: Mapping[str, int], *, is_last: bool
) -> Progress:
    """The progress once the pinned run is done; `is_last` where no other value is ready."""
    cursors = {**pinned.cursors, **{asset: to for asset, (_, to) in (pinned.pinned or {}).items()}}
    if job.on and start.on_offset is not None and is_last:
        cursors[on_cursor(job.on)] = max(start.on_offset, cursors.get(on_cursor(job.on), 0))
    return Progress(job.name, job.version, cursors, generations, run, start.at, succeeded=True)


def touch(transaction: Transaction, asset: str, version: str) -> int:
    """An output of a job that acts outside has this version now; returns how many changes that is."""
    text = pa.array([version], pa.string())
    row = pa.Table.from_arrays([text, text, _FIRST], schema=_VERSION)
    return transaction.write(asset, Appended(row))


class _Readers:
    """Readers of both stores for the time of a run, opened when first asked: a run that reads nothing costs nothing.

    They may be opened after the range was pinned: what lies within a range does not change.
    """

    def __init__(self, catalog: Catalog, stores: Mapping[Home, Store], mirrored: frozenset[str]) -> None:
        self._tables = LazyReader(stores[Home.TABLES])
        self._ledger = LazyReader(stores[Home.LEDGER])
        self._snapshot = Snapshot(catalog, self._tables, self._ledger, mirrored)

    def __enter__(self) -> Snapshot:
        return self._snapshot

    def __exit__(self, *_: object) -> None:
        self._tables.close()
        self._ledger.close()
