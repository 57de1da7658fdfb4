"""Transactions on the ledger: rows, logs and progress that change together.

Rules of this file:
  * an exclusive transaction holds the writing connection from `begin` to its end and sees what it has written;
  * any other one reads a snapshot; what it writes is kept as a list of steps and done in `commit`, on the newest
    state. Until then it sees its snapshot, and the numbers it returns are those the steps would have there;
  * every step is a function of a connection, so that both kinds do exactly the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

import pyarrow as pa

from tidemill.core.change import RID, Output, Replaced, Slice
from tidemill.core.errors import Fenced, InvariantError
from tidemill.core.ports import Head, Progress, Table
from tidemill.stores.sqlite import catalog
from tidemill.stores.sqlite.connection import Connection
from tidemill.stores.sqlite.progress import progress_of, settle
from tidemill.stores.sqlite.reading import Reading
from tidemill.stores.sqlite.writing import Writing

__all__ = ["Exclusive", "Snapshot", "epoch_of"]


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
        """Apply an output; returns the number of changes."""
        self._live()
        return self._writing.write(asset, output)

    def settle(self, progress: Progress, expected: Progress | None) -> None:
        """Set a job's progress by compare-and-set."""
        settle(self._live(), progress, expected)

    def commit(self) -> Mapping[str, Head]:
        """Make everything durable."""
        connection = self._live()
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
        self._steps: list[Callable[[Connection, Writing], object]] = []
        self._is_open = True

    def head(self, asset: str) -> Head:
        """The end of the asset's log in the snapshot."""
        return Reading(self._live()).head(asset)

    def read(self, part: Slice) -> pa.Table:
        """The rows of a slice in the snapshot."""
        return Reading(self._live()).read(part)

    def progress(self, job: str) -> Progress | None:
        """The job's progress in the snapshot."""
        return progress_of(self._live(), job)

    def define(self, table: Table) -> Head:
        """Make the asset have this shape, in `commit`."""
        found = catalog.known(self._live(), table.asset)
        self._steps.append(lambda _, writing: writing.define(table))
        if found is None:
            return Head()
        return catalog.reshaped(found, table).as_head()

    def write(self, asset: str, output: Output) -> int:
        """Apply an output in `commit`; returns the number of changes it makes in the snapshot."""
        found = catalog.known(self._live(), asset)
        output = _settled_parents(output, Reading(self._reader))
        self._steps.append(lambda _, writing: writing.write(asset, output))
        return Writing(self._reader, 0.0).count(asset, found, output)

    def settle(self, progress: Progress, expected: Progress | None) -> None:
        """Set a job's progress by compare-and-set: here against the snapshot, in `commit` against the newest state."""
        settle(self._live(), progress, expected, is_write=False)
        self._steps.append(lambda connection, _: settle(connection, progress, expected))

    def commit(self) -> Mapping[str, Head]:
        """Take the commit lock, do the steps on the newest state, make it durable."""
        self._live()
        self.rollback()
        connection = self._home.take_turn()
        try:
            connection.begin()
            check_epoch(connection, self._epoch)
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


def _settled_parents(output: Output, reading: Reading) -> Output:
    """The output with its parents read now, from the snapshot they were meant in."""
    if isinstance(output, Replaced) and isinstance(output.parents, Slice):
        return Replaced(output.rows, reading.read(output.parents).column(RID).to_pylist(), output.head)
    return output
