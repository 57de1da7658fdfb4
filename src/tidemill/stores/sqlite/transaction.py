"""Transactions on the ledger: rows, logs and progress that change together.

Rules of this file:
  * an exclusive transaction holds the writing connection from `begin` to its end and sees what it has written;
  * any other one reads a snapshot; what it writes goes into an overlay that only it sees, and is kept as a list of
    steps that `commit` does again on the newest state. Rows that somebody changed meanwhile are a Conflict; topics
    and versions are only appended to, so their steps always fit (and their new events show only after `commit`);
  * every step is a function of a connection, so that both kinds do exactly the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import pyarrow as pa

from tidemill.core.change import RID, Output, Replaced, Slice
from tidemill.core.errors import Conflict, Fenced, InvariantError
from tidemill.core.ports import Head, Progress, Table
from tidemill.stores.sqlite import catalog
from tidemill.stores.sqlite.catalog import Entry
from tidemill.stores.sqlite.connection import Connection
from tidemill.stores.sqlite.progress import check, progress_of, settle
from tidemill.stores.sqlite.reading import Reading
from tidemill.stores.sqlite.schema import OVERLAY
from tidemill.stores.sqlite.writing import Writing

__all__ = ["Exclusive", "Snapshot", "check_epoch", "epoch_of"]


def epoch_of(connection: Connection) -> int:
    """The owner epoch in the file."""
    epoch: int = connection.one("select value from meta where name = 'epoch'")[0]
    return epoch


def check_epoch(connection: Connection, epoch: int) -> None:
    """Raise Fenced where somebody else became the owner."""
    now = epoch_of(connection)
    if now != epoch:
        raise Fenced(f"another owner took over (epoch {now}, ours is {epoch})", mend="start again; nothing was written")


class Home(Protocol):
    """What a transaction needs of its store."""

    def now(self) -> float:
        """The time, for version rows and blocks."""

    def take_turn(self) -> Connection:
        """Wait for the writing connection."""

    def end_turn(self) -> None:
        """Give the writing connection back."""

    def give_back(self, reader: Connection) -> None:
        """Return a reading connection to the pool."""


class Exclusive:
    """A transaction that holds the writing connection."""

    def __init__(self, home: Home, connection: Connection, epoch: int) -> None:
        self._home = home
        self._connection = connection
        self._epoch = epoch
        self._writing = Writing(connection, home.now())
        self._is_open = True
        self._is_fenced = False
        self._is_whole = True

    def head(self, asset: str) -> Head:
        """The end of the asset's log, own writes included."""
        return Reading(self._live()).head(asset)

    def read(self, part: Slice) -> pa.Table:
        """The rows of a slice, own writes included."""
        return Reading(self._live()).read(part)

    def progress(self, job: str) -> Progress | None:
        """The job's progress."""
        return progress_of(self._live(), job)

    def define(self, table: Table) -> Head:
        """Make the asset have this shape."""
        self._live()
        return self._writing.define(table)

    def write(self, asset: str, output: Output) -> int:
        """Apply an output; returns the number of changes. After a failure nothing of the transaction can be committed."""
        self._live()
        self._is_whole = False
        count = self._writing.write(asset, output)
        self._is_whole = True
        return count

    def settle(self, progress: Progress, expected: Progress | None) -> None:
        """Set a job's progress by compare-and-set."""
        settle(self._live(), progress, expected)

    def commit(self) -> Mapping[str, Head]:
        """Make everything durable."""
        connection = self._live()
        if not self._is_whole:
            raise InvariantError("a write of this transaction failed: roll it back")
        try:
            check_epoch(connection, self._epoch)
            heads = self._writing.heads()
            connection.commit()
        finally:
            self.rollback()
        return heads

    def rollback(self) -> None:
        """Forget everything."""
        if self._is_open:
            self._is_open = False
            try:
                self._connection.rollback()
            finally:
                self._home.end_turn()

    def fence(self) -> None:
        """End this transaction because another owner took over: whatever it does next raises Fenced."""
        self._is_fenced = True
        self.rollback()

    def _live(self) -> Connection:
        if self._is_fenced:
            raise Fenced("another owner took over during this transaction", mend="start again; nothing was written")
        if not self._is_open:
            raise InvariantError("this transaction has ended")
        return self._connection


class Snapshot:
    """A transaction that reads a snapshot and writes in `commit`."""

    def __init__(self, home: Home, reader: Connection, epoch: int) -> None:
        self._home = home
        self._reader = reader
        self._epoch = epoch
        self._overlay: Writing | None = None
        self._steps: list[Callable[[Connection, Writing], object]] = []
        self._settled: dict[str, Progress] = {}
        self._found: dict[str, tuple[int, int] | None] = {}
        self._is_open = True
        self._is_whole = True

    def head(self, asset: str) -> Head:
        """The end of the asset's log in the snapshot, own writes included."""
        return self._reading().head(asset)

    def read(self, part: Slice) -> pa.Table:
        """The rows of a slice in the snapshot, own writes of rows included."""
        return self._reading().read(part)

    def progress(self, job: str) -> Progress | None:
        """The job's progress in the snapshot, or as it was settled here."""
        return self._settled.get(job) or progress_of(self._live(), job)

    def define(self, table: Table) -> Head:
        """Make the asset have this shape."""
        writing = self._writing(table.asset)
        self._steps.append(lambda _, newest: newest.define(table))
        return writing.define(table)

    def write(self, asset: str, output: Output) -> int:
        """Apply an output; returns the number of changes. After a failure the transaction cannot be committed."""
        writing = self._writing(asset)
        self._is_whole = False
        output = _settled_parents(output, self._reading())
        self._steps.append(lambda _, newest: newest.write(asset, output))
        count = writing.write(asset, output)
        self._is_whole = True
        return count

    def settle(self, progress: Progress, expected: Progress | None) -> None:
        """Set a job's progress by compare-and-set: here against the snapshot, in `commit` against the newest state."""
        current = self.progress(progress.job)
        check(self._reader, progress, expected, current, has_overlay=self._overlay is not None)
        self._settled[progress.job] = progress
        self._steps.append(lambda connection, _: settle(connection, progress, expected))

    def commit(self) -> Mapping[str, Head]:
        """Take the commit lock, do the steps on the newest state, make it durable."""
        self._live()
        if not self._is_whole:
            raise InvariantError("a write of this transaction failed: roll it back")
        self.rollback()
        connection = self._home.take_turn()
        try:
            connection.begin()
            check_epoch(connection, self._epoch)
            self._check_unchanged(connection)
            writing = Writing(connection, self._home.now())
            for step in self._steps:
                step(connection, writing)
            heads = writing.heads()
            connection.commit()
        finally:
            try:
                connection.rollback()
            finally:
                self._home.end_turn()
        return heads

    def rollback(self) -> None:
        """Forget everything."""
        if self._is_open:
            self._is_open = False
            try:
                self._reader.rollback()
            finally:
                self._home.give_back(self._reader)

    def _live(self) -> Connection:
        if not self._is_open:
            raise InvariantError("this transaction has ended")
        return self._reader

    def _reading(self) -> Reading:
        return Reading(self._live(), has_overlay=self._overlay is not None)

    def _writing(self, asset: str) -> Writing:
        """The overlay of this transaction; remembers what the asset was in the snapshot."""
        reader = self._live()
        if self._overlay is None:
            for statement in OVERLAY:
                reader.execute(statement)
            self._overlay = Writing(reader, self._home.now(), has_overlay=True)
        if asset not in self._found:
            self._found[asset] = _position(catalog.known(reader, asset))
        return self._overlay

    def _check_unchanged(self, connection: Connection) -> None:
        """Raise Conflict where rows that this transaction changes were changed since its snapshot."""
        for asset, position in self._found.items():
            found = catalog.known(connection, asset)
            if (found is None or found.kind in ("", catalog.ROWS)) and _position(found) != position:
                raise Conflict(f"{asset} has changed since this transaction read it")


def _position(found: Entry | None) -> tuple[int, int] | None:
    return None if found is None else (found.generation, found.head)


def _settled_parents(output: Output, reading: Reading) -> Output:
    """The output with its parents read now, from the snapshot they were meant in."""
    if isinstance(output, Replaced) and isinstance(output.parents, Slice):
        return Replaced(output.rows, reading.read(output.parents).column(RID).to_pylist(), output.head)
    return output
