"""A store in plain Python, for tests and the simulator: the same port as the real ones, without any database.

Rules of this file:
  * it keeps the promises of `tidemill.core.ports.Store` to the letter, and passes the same contract suite;
  * what is committed is never changed in place: a commit swaps it as a whole, so a snapshot is a reference;
  * rows are tuples; Arrow appears only at the edges; nothing is ever slept, waited or logged.

Theory of operation. A `Disk` is what survives the death of a process: committed tables, progress and the owner epoch.
A `MemoryStore` is one process's view of a disk; `reopen()` is what the next process sees after this one died. A table
is a list of row images, each living in [from, until), exactly as in the DuckDB store. A transaction copies a table
when it first writes it. Statements need a SQL engine and are a named gap: `NotSupported`.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Self

import pyarrow as pa

from tidemill.core.change import (
    RID,
    Appended,
    ArrowStream,
    Became,
    Changed,
    Images,
    Output,
    Replaced,
    Slice,
    Statement,
)
from tidemill.core.errors import (
    Conflict,
    Fenced,
    InvariantError,
    NotFound,
    OperatorError,
    StateCorrupt,
    UserError,
)
from tidemill.core.model import Home
from tidemill.core.ports import Head, Positions, Progress, Table
from tidemill.testing.images import Rows, Stored, append, become, change, changes, check, released, state, table_of

__all__ = ["Disk", "MemoryStore", "MemoryTransaction", "NotSupported"]


class NotSupported(UserError):
    """A named gap of the fake: it has no SQL engine."""


@dataclass(slots=True)
class Disk:
    """What survives a process: swapped as a whole by each commit."""

    tables: Mapping[str, Stored] = field(default_factory=dict)
    jobs: Mapping[str, Progress] = field(default_factory=dict)
    epoch: int = 0
    fence: threading.Lock = field(default_factory=threading.Lock)


class MemoryStore:
    """A store in memory; see `tidemill.core.ports.Store`."""

    transaction_type: ClassVar[type[MemoryTransaction]]
    """What `begin` makes; a test of the suite plants its bugs here."""

    def __init__(self, home: Home = Home.TABLES, disk: Disk | None = None) -> None:
        self.home = home
        self.disk = disk or Disk()
        self.lock = threading.Lock()
        self._epoch = self.disk.epoch
        self._is_closed = False
        self._transactions: weakref.WeakSet[MemoryTransaction] = weakref.WeakSet()

    def reopen(self) -> Self:
        """The store as the next process finds it after this one died: what was not committed is lost."""
        return type(self)(self.home, self.disk)

    def claim(self) -> int:
        """See `Store.claim`."""
        self._check_open()
        with self.disk.fence:
            self.disk.epoch += 1
            self._epoch = self.disk.epoch
        return self._epoch

    def positions(self) -> Positions:
        """See `Store.positions`."""
        self._check_open()
        with self.disk.fence:
            return Positions({name: stored.head for name, stored in self.disk.tables.items()}, dict(self.disk.jobs))

    def begin(self, *, exclusive: bool = True) -> MemoryTransaction:
        """See `Store.begin`."""
        self._check_open()
        transaction = self.transaction_type(self, self._epoch, exclusive=exclusive)
        self._transactions.add(transaction)
        return transaction

    def trim(self, asset: str, below: int, keep: Sequence[int] = ()) -> int:
        """See `Store.trim`."""
        with self._maintenance() as disk:
            if asset not in disk.tables:
                raise NotFound(f"the store has no asset {asset}")
            stored = disk.tables[asset].copy()
            floor = min(below, stored.offset)
            count = stored.trim(floor, keep) if floor > stored.floor else 0
            disk.tables = {**disk.tables, asset: stored}
        return count

    def expire(self, asset: str, below: int) -> int:
        """See `Store.expire`."""
        stored = self.disk.tables.get(asset)
        if stored is None or not stored.is_mirror or stored.shape.key is not None:
            return self.trim(asset, below)
        with self._maintenance() as disk:
            stored = disk.tables[asset].copy()
            expired = min(below, stored.offset)
            count = stored.expire(expired) if expired > stored.expired else 0
            disk.tables = {**disk.tables, asset: stored}
        return count

    def drop(self, *, assets: Sequence[str] = (), jobs: Sequence[str] = ()) -> None:
        """See `Store.drop`."""
        with self._maintenance() as disk:
            internal = {name for name in disk.tables if "@" in name and name.partition("@")[0] in jobs}
            gone = internal | set(assets)
            disk.tables = {name: stored for name, stored in disk.tables.items() if name not in gone}
            disk.jobs = {name: progress for name, progress in disk.jobs.items() if name not in jobs}

    def close(self) -> None:
        """See `Store.close`."""
        self._is_closed = True
        for transaction in list(self._transactions):
            transaction.rollback()

    def check_epoch(self, epoch: int) -> None:
        """Raise Fenced where another owner has claimed the disk since."""
        if epoch != self.disk.epoch:
            raise Fenced(f"epoch {epoch} is over: the owner is now {self.disk.epoch}")

    def _check_open(self) -> None:
        if self._is_closed:
            raise OperatorError("the store is closed", mend="open it again")

    def _maintenance(self) -> _Maintenance:
        self._check_open()
        return _Maintenance(self, self._epoch)


class _Maintenance:
    """The commit lock and the fence around a change of the disk itself."""

    def __init__(self, store: MemoryStore, epoch: int) -> None:
        self._store = store
        self._epoch = epoch

    def __enter__(self) -> Disk:
        self._store.lock.acquire()
        self._store.disk.fence.acquire()
        try:
            self._store.check_epoch(self._epoch)
        except Fenced:
            self.__exit__()
            raise
        return self._store.disk

    def __exit__(self, *_: object) -> None:
        self._store.disk.fence.release()
        self._store.lock.release()


class MemoryTransaction:
    """One atomic unit of work; see `tidemill.core.ports.Transaction`."""

    stored_type: ClassVar[type[Stored]] = Stored
    rows_type: ClassVar[type[Rows]] = Rows

    def __init__(self, store: MemoryStore, epoch: int, *, exclusive: bool) -> None:
        self._store = store
        self._epoch = epoch
        self._exclusive = exclusive
        self._tables: Mapping[str, Stored] | None = None
        self._jobs: Mapping[str, Progress] = {}
        self._written: dict[str, Stored] = {}
        self._settled: dict[str, Progress] = {}
        self._is_broken = False
        self._is_over = False
        if exclusive:
            store.lock.acquire()
            self._open()

    def head(self, asset: str) -> Head:
        """See `Reader.head`."""
        stored = self._stored(asset)
        return stored.head if stored else Head()

    def progress(self, job: str) -> Progress | None:
        """See `Transaction.progress`."""
        self._open()
        return self._settled.get(job) or self._jobs.get(job)

    def read(self, part: Slice) -> ArrowStream:
        """See `Reader.read`."""
        stored = self._stored(part.asset)
        if stored is None:
            raise NotFound(f"the store has no asset {part.asset}", mend="define it before reading it")
        check(part, stored)
        gate = self._stored(f"{part.released}@gate") if part.released else None
        gated = released(gate, part.asset) if gate else []
        lines = state(part, stored, gated) if part.images == Images.STATE else changes(part, stored)
        excluded = set(part.excluding)
        shown = (line for line in lines if line[1] not in excluded)
        return table_of(stored.shape.columns, shown, part.images == Images.CHANGES)

    def define(self, table: Table) -> Head:
        """See `Transaction.define`."""
        stored = self._stored(table.asset)
        if stored is not None and _is_same_shape(stored.shape, table):
            return stored.head
        if stored is not None and table.is_wider(stored.shape.columns, stored.shape.key):
            wider = self._written[table.asset] = stored.widened(table)
            return wider.head
        fresh = self.stored_type(table)
        if stored is not None:
            fresh = self.stored_type(table, stored.generation + 1, stored.offset, floor=stored.offset)
        self._written[table.asset] = fresh
        return fresh.head

    def write(self, asset: str, output: Output) -> int:
        """See `Transaction.write`."""
        if self._stored(asset) is None:
            raise NotFound(f"the store has no asset {asset}", mend="define it before writing it")
        self._is_broken = True
        if isinstance(output.rows, Statement):
            raise NotSupported("MemoryStore has no SQL engine", mend="hand rows over, or use DuckDBStore(':memory:')")
        stored = self._own(asset)
        rows = self.rows_type(output.rows, stored.shape.columns)
        head = output.head if isinstance(output, Appended | Replaced) else None
        base = stored.offset if stored.is_marked or head is not None else stored.offset + 1
        if isinstance(output, Appended):
            count = append(stored, rows, base, head)
            stored.expired = max(stored.expired, output.expired)
            stored.floor = max(stored.floor, output.expired)
        elif isinstance(output, Changed):
            count = change(stored, rows.consolidated(), base, is_checked=output.is_checked)
        else:
            count = self._replace(stored, output, rows, base, head)
        end = base + count if head is None else head
        if end < stored.offset:
            raise StateCorrupt(f"{asset}: the head would move back from {stored.offset} to {end}")
        stored.offset = end
        stored.is_mirror = head is not None
        stored.is_marked = stored.is_marked or head is None
        self._is_broken = False
        return count

    def settle(self, progress: Progress, expected: Progress | None) -> None:
        """See `Transaction.settle`."""
        current = self.progress(progress.job)
        if not _is_same(current, expected):
            raise Conflict(f"job {progress.job}: its progress is not what this run began from")
        for asset, cursor in progress.cursors.items():
            self._check_cursor(progress, current, asset, cursor)
        self._settled[progress.job] = progress

    def commit(self) -> Mapping[str, Head]:
        """See `Transaction.commit`."""
        if self._is_over or self._is_broken:
            raise InvariantError("the transaction is over, or a call in it failed: it can only be rolled back")
        self._open()
        if not self._exclusive:
            self._store.lock.acquire()
        try:
            with self._store.disk.fence:
                self._publish()
        finally:
            self._end(has_lock=True)
        return {asset: stored.head for asset, stored in self._written.items()}

    def rollback(self) -> None:
        """See `Transaction.rollback`."""
        if not self._is_over:
            self._end(has_lock=self._exclusive)

    def _open(self) -> Mapping[str, Stored]:
        """The tables of the snapshot, taken at the first use."""
        if self._is_over:
            raise InvariantError("the transaction is over")
        if self._tables is None:
            with self._store.disk.fence:
                self._tables, self._jobs = self._store.disk.tables, self._store.disk.jobs
        return self._tables

    def _stored(self, asset: str) -> Stored | None:
        tables = self._open()
        return self._written.get(asset) or tables.get(asset)

    def _own(self, asset: str) -> Stored:
        if asset not in self._written:
            self._written[asset] = self._open()[asset].copy()
        return self._written[asset]

    def _replace(self, stored: Stored, output: Replaced | Became, rows: Rows, base: int, head: int | None) -> int:
        if isinstance(output, Became):
            wanted = rows.identified(output.key)
            old = set(stored.current)
        elif output.parents is None:
            wanted = rows.identified_by_parent(None)
            old = set(stored.current)
        else:
            parents = self._parents(output.parents)
            wanted = rows.identified_by_parent(parents)
            old = {rid for rid, place in stored.current.items() if stored.images[place].parent in parents}
        return become(stored, wanted, old, base, head)

    def _parents(self, parents: Sequence[str] | Slice) -> set[str]:
        if not isinstance(parents, Slice):
            return set(parents)
        return set(pa.table(self.read(parents)).column(RID).to_pylist())

    def _check_cursor(self, progress: Progress, current: Progress | None, asset: str, cursor: int) -> None:
        stored = self._stored(asset)
        if stored is not None and not stored.is_mirror and cursor > stored.offset:
            raise StateCorrupt(f"job {progress.job}: its cursor on {asset} would pass the head {stored.offset}")
        if current is None or current.version != progress.version:
            return
        is_same_log = current.generations.get(asset) == progress.generations.get(asset)
        if is_same_log and cursor < current.cursors.get(asset, 0):
            raise StateCorrupt(f"job {progress.job}: its cursor on {asset} would move back to {cursor}")

    def _publish(self) -> None:
        disk = self._store.disk
        self._store.check_epoch(self._epoch)
        assert self._tables is not None
        for asset, stored in self._written.items():
            before, newest = self._tables.get(asset), disk.tables.get(asset)
            if _position(before) != _position(newest):
                raise Conflict(f"{asset} has changed since this transaction read it")
            if newest is not None and newest.floor > stored.floor:
                stored.trim(newest.floor, newest.kept)
            if newest is not None and newest.expired > stored.expired:
                stored.expire(newest.expired)
        for job in self._settled:
            if not _is_same(self._jobs.get(job), disk.jobs.get(job)):
                raise Conflict(f"job {job} has been run since this transaction read it")
        disk.tables = {**disk.tables, **self._written}
        disk.jobs = {**disk.jobs, **self._settled}

    def _end(self, *, has_lock: bool) -> None:
        self._is_over = True
        if has_lock:
            self._store.lock.release()


def _is_same_shape(one: Table, other: Table) -> bool:
    names = [(column.name, column.type) for column in one.columns]
    return names == [(column.name, column.type) for column in other.columns] and one.key == other.key


def _is_same(one: Progress | None, other: Progress | None) -> bool:
    if one is None or other is None:
        return one is other
    return (one.version, one.run, dict(one.cursors)) == (other.version, other.run, dict(other.cursors))


def _position(stored: Stored | None) -> tuple[int, int] | None:
    return (stored.generation, stored.offset) if stored else None


MemoryStore.transaction_type = MemoryTransaction
