"""`SQLiteStore`: the ledger file and its connections.

Rules of this file:
  * one writing connection, used by one thread at a time (`take_turn`, `end_turn`); readers have their own, pooled;
  * a thread that holds the writing connection must not ask for it again: that is an error, never a dead lock;
  * nothing is cached: positions come from the file (rule 12).

Theory of operation. SQLite lets one writer and many readers work on a WAL file at once, each reader on its snapshot.
The write-ahead log is moved into the file by a second thread (`checkpoint.py`), so that no append pays for it. A store
at ":memory:" is the same store on a private file that waits for no disk and is deleted on `close`: what is tested
there is what runs elsewhere.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tidemill.core.errors import InvariantError, NotFound, OperatorError
from tidemill.core.model import Asset, Home
from tidemill.core.ports import Positions, Receipt, RunRecord, Sending, Transaction
from tidemill.core.schema import SchemaVersion
from tidemill.stores.sqlite import blocks, catalog, records, traces, upkeep, versions
from tidemill.stores.sqlite.connection import Connection, Hook, connect, prepare
from tidemill.stores.sqlite.log import Door
from tidemill.stores.sqlite.lookup import event_of
from tidemill.stores.sqlite.migrating import MIGRATIONS
from tidemill.stores.sqlite.progress import all_progress
from tidemill.stores.sqlite.reading import Reading
from tidemill.stores.sqlite.transaction import Exclusive, Snapshot, check_epoch, epoch_of
from tidemill.stores.sqlite.upkeep import Checkpointer

__all__ = ["SQLiteStore"]

MEMORY = ":memory:"
SHARED_MEMORY = Path("/dev/shm")  # noqa: S108 - a private folder is made in it
READERS_KEPT = 8


class SQLiteStore:
    """The ledger home: implements the ports `Store`, `Log` and `Ledger` on one SQLite file."""

    home = Home.LEDGER

    def __init__(
        self, path: str | Path = MEMORY, *, now: Callable[[], float] = time.time, hook: Hook | None = None
    ) -> None:
        self._folder = _private_folder() if str(path) == MEMORY else None
        self.path = Path(self._folder or ".") / "ledger.db" if self._folder else Path(path)
        self.now = now
        self._hook = hook
        self._turn = threading.Lock()
        self._turn_of: int | None = None
        self._open: Exclusive | None = None
        self._epoch: int | None = None
        self._readers: list[Connection] = []
        self._pool = threading.Lock()
        self._is_closed = False
        self._writer = connect(self.path, is_writer=True, hook=hook, is_lasting=self._folder is None)
        try:
            prepare(self._writer, self.path, MIGRATIONS)
        except BaseException:
            self._writer.close()
            raise
        self._checkpointer = Checkpointer(self.path, self._reader_for_checkpoints)
        self._door = Door(self.take_turn, self.end_turn, now)

    # Connections.

    def take_turn(self) -> Connection:
        """Wait for the writing connection."""
        me = threading.get_ident()
        if self._turn_of == me:
            raise InvariantError("this thread already holds the ledger's exclusive transaction: commit it first")
        self._turn.acquire()
        self._turn_of = me
        if self._is_closed:
            self.end_turn()
            raise OperatorError("the ledger is closed", mend="open it again")
        return self._writer

    def end_turn(self) -> None:
        """Give the writing connection back."""
        self._open = None
        if not self._is_closed and not self._writer.is_in_transaction:
            self._checkpointer.after_commit(self._writer)
        self._turn_of = None
        self._turn.release()

    def _reader_for_checkpoints(self) -> Connection:
        return connect(self.path, is_writer=True, is_lasting=self._folder is None)

    def _reader(self) -> Connection:
        with self._pool:
            if self._is_closed:
                raise OperatorError("the ledger is closed", mend="open it again")
            if self._readers:
                return self._readers.pop()
        return connect(self.path, is_writer=False, hook=self._hook, is_lasting=self._folder is None)

    def give_back(self, reader: Connection) -> None:
        """Return a reading connection to the pool."""
        with self._pool:
            if not self._is_closed and len(self._readers) < READERS_KEPT:
                self._readers.append(reader)
                return
        reader.close()

    @contextlib.contextmanager
    def _reads(self) -> Iterator[Connection]:
        reader = self._reader()
        try:
            reader.begin("deferred")
            yield reader
        finally:
            reader.rollback()
            self.give_back(reader)

    @contextlib.contextmanager
    def _writes(self) -> Iterator[Connection]:
        connection = self.take_turn()
        try:
            connection.begin()
            yield connection
            connection.commit()
        finally:
            try:
                connection.rollback()
            finally:
                self.end_turn()

    # Store.

    def claim(self) -> int:
        """Become the owner (port `Store.claim`)."""
        if self._turn_of == threading.get_ident() and self._open is not None:
            self._open.fence()
        with self._writes() as connection:
            connection.execute("update meta set value = value + 1 where name = 'epoch'")
            epoch = epoch_of(connection)
        self._epoch = epoch
        return epoch

    def positions(self) -> Positions:
        """Every head and every job's progress."""
        with self._reads() as connection:
            heads = {found.asset: found.as_head() for found in catalog.entries(connection)}
            return Positions(heads, all_progress(connection))

    def begin(self, *, exclusive: bool = True) -> Transaction:
        """Start a transaction (port `Store.begin`)."""
        if exclusive:
            return self._begin_exclusive()
        reader = self._reader()
        try:
            reader.begin("deferred")
            epoch = epoch_of(reader)
        except BaseException:
            reader.close()
            raise
        return Snapshot(self, reader, epoch if self._epoch is None else self._epoch)

    def _begin_exclusive(self) -> Transaction:
        connection = self.take_turn()
        try:
            connection.begin()
            epoch = epoch_of(connection)
            self._open = Exclusive(self, connection, epoch if self._epoch is None else self._epoch)
        except BaseException:
            connection.rollback()
            self.end_turn()
            raise
        return self._open

    def trim(self, asset: str, below: int, keep: Sequence[int] = ()) -> int:
        """Forget images that ended at or below this offset (port `Store.trim`); of a topic only whole blocks."""
        return self._forgotten(asset, min([below, *keep]), upkeep.trim)

    def expire(self, asset: str, below: int) -> int:
        """Forget what was recorded at or below this offset (port `Store.expire`)."""
        return self._forgotten(asset, below, upkeep.expire)

    def _forgotten(self, asset: str, below: int, how: Callable[[Connection, catalog.Entry, int], int]) -> int:
        with self._writes() as connection:
            self._check_owner(connection)
            found = catalog.known(connection, asset)
            if found is None:
                raise NotFound(f"the ledger knows no asset {asset}")
            gone = how(connection, found, below)
            catalog.save(connection, found)
            return gone

    def drop(self, *, assets: Sequence[str] = (), jobs: Sequence[str] = ()) -> None:
        """Forget assets and jobs (port `Store.drop`)."""
        with self._writes() as connection:
            self._check_owner(connection)
            for job in jobs:
                connection.execute("delete from progress where job = ?", (job,))
            gone = set(assets)
            for found in catalog.entries(connection):
                owner, at, _ = found.asset.partition("@")
                if found.asset in gone or (at and owner in jobs):
                    catalog.forget(connection, found)
                    connection.execute("delete from assets where number = ?", (found.number,))
                    connection.execute("delete from marks where asset = ?", (found.asset,))

    def _check_owner(self, connection: Connection) -> None:
        if self._epoch is not None:
            check_epoch(connection, self._epoch)

    def close(self) -> None:
        """Release files; idempotent. Open transactions are rolled back."""
        with self._pool:
            if self._is_closed:
                return
            self._is_closed = True
            readers, self._readers = self._readers, []
        self._checkpointer.end()
        for reader in readers:
            reader.close()
        if self._open is not None:
            self._open.rollback()
        self._writer.close()
        if self._folder:
            shutil.rmtree(self._folder, ignore_errors=True)

    def backup(self, target: str | Path) -> None:
        """Copy the live ledger to a file: one consistent moment, while others go on writing."""
        upkeep.copy(self.path, Path(target))

    @property
    def stamp(self) -> int:
        """A number that moves with every commit that changed something (beyond the port)."""
        return self._writer.raw.total_changes

    # Log.

    def append(self, asset: Asset, events: bytes, *, source: str = "", mark: str = "") -> Receipt:
        """Take events through the door (port `Log.append`)."""
        return self._door.append(asset, events, source, mark)

    def append_all(self, sendings: Sequence[Sending]) -> list[Receipt | Exception]:
        """Take what many senders sent, durable on return, in one commit where it fits: a receipt each, or its error."""
        return self._door.append_all(sendings)

    def touch(self, asset: str, version: str) -> Receipt:
        """An external asset changed (port `Log.touch`)."""
        return self._door.touch(asset, version)

    def mark(self, asset: str, source: str) -> str:
        """The last mark stored with `source` (port `Log.mark`)."""
        with self._reads() as connection:
            row = connection.one("select mark from marks where asset = ? and source = ?", (asset, source))
            return "" if row is None else str(row[0])

    def schemas(self, asset: str) -> list[SchemaVersion]:
        """The versions of a topic's schema, the oldest first; none where the ledger does not know it (beyond the port)."""
        with self._reads() as connection:
            found = catalog.known(connection, asset)
            return [] if found is None else versions.kept(connection, found.number)

    def head(self, asset: str) -> int:
        """The offset of the asset's last change."""
        with self._reads() as connection:
            return Reading(connection).head(asset).offset

    def offset_before(self, asset: str, at: float) -> int:
        """The offset of the last event of a topic that arrived before a time (seconds; beyond the port)."""
        with self._reads() as connection:
            found = catalog.known(connection, asset)
            return blocks.offset_before(connection, found.number, found.head, at) if found is not None else 0

    def event_of(self, asset: Asset, wanted: Mapping[str, str]) -> Any:
        """The event of a key or an id, as an Arrow table of one row or none; None where neither is kept (lookup.py)."""
        with self._reads() as connection:
            return event_of(connection, asset, wanted)

    # Ledger.

    def record(self, runs: Sequence[RunRecord]) -> None:
        """Insert or replace run reports (port `Ledger.record`)."""
        if runs:
            with self._writes() as connection:
                records.record(connection, runs)

    def runs(self, *, job: str = "", state: str = "", run: str = "", limit: int = 100) -> list[RunRecord]:
        """Run reports, newest first (port `Ledger.runs`)."""
        with self._reads() as connection:
            return records.runs(connection, job=job, state=state, run=run, limit=limit)

    def note(self, topic: str, name: str, value: Any) -> None:
        """Keep a JSON value; None forgets it (port `Ledger.note`)."""
        with self._writes() as connection:
            records.note(connection, topic, name, value)

    def note_all(self, topic: str, values: Mapping[str, Any]) -> None:
        """Keep many JSON values in one commit (port `Ledger.note_all`)."""
        if values:
            with self._writes() as connection:
                for name, value in values.items():
                    records.note(connection, topic, name, value)

    def notes(self, topic: str) -> dict[str, Any]:
        """All values kept under a topic (port `Ledger.notes`)."""
        with self._reads() as connection:
            return records.notes(connection, topic)

    def noted(self, topic: str, name: str) -> Any:
        """The value kept under (topic, name); None where there is none."""
        with self._reads() as connection:
            return records.noted(connection, topic, name)

    def forget_notes(self, first: str, last: str) -> None:
        """Forget all notes of the topics from `first` to `last`, both included."""
        with self._writes() as connection:
            connection.execute("delete from notes where topic between ? and ?", (first, last))

    def traces(self, asset: str, ranges: Sequence[tuple[int, int]]) -> list[list[str]]:
        """The traces that senders named, by range of offsets (port `Ledger.traces`)."""
        with self._reads() as connection:
            found = catalog.known(connection, asset)
            if found is None or connection.one("select 1 from traces limit 1") is None:
                return [[] for _ in ranges]
            return [traces.within(connection, found.number, from_, to) for from_, to in ranges]

    def change_letter(self, letter: str, **values: Any) -> None:
        """Change `state`, `payload`, `reason` or `attempts` of a dead letter (beyond the port)."""
        with self._writes() as connection:
            records.change_letter(connection, letter, **values)

    def floor(self, asset: str) -> int:
        """The offset up to which the asset's history is gone (beyond the port)."""
        with self._reads() as connection:
            found = catalog.known(connection, asset)
            return found.floor if found is not None else 0

    def due(self, asset: str, moment: float, most: int) -> int:
        """The offset up to which a topic was recorded at or before a moment, of about its `most` oldest events."""
        with self._reads() as connection:
            found = catalog.known(connection, asset)
            return upkeep.due(connection, found, moment, most) if found is not None else 0

    def recorded_at(self, asset: str, offset: int) -> float | None:
        """When an event of a topic was recorded (seconds since the epoch); None where it is gone or has not come."""
        with self._reads() as connection:
            found = catalog.known(connection, asset)
            return upkeep.recorded_at(connection, found, offset) if found is not None else None

    def dead(self, *, asset: str = "", limit: int = 100) -> list[dict[str, Any]]:
        """Events parked at the door, newest first (port `Ledger.dead`)."""
        with self._reads() as connection:
            return records.dead(connection, asset=asset, limit=limit)


def _private_folder() -> str:
    """A folder in memory where the system has one."""
    return tempfile.mkdtemp(prefix="tidemill-", dir=SHARED_MEMORY if os.access(SHARED_MEMORY, os.W_OK) else None)
