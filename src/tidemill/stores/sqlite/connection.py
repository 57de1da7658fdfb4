"""The one thin layer over `sqlite3`: how the file is opened, and what its errors mean.

Rules of this file:
  * every statement of this room passes `Connection.execute` or `executemany`: there the fault hook of the tests sits,
    and there an error of SQLite becomes one of ours that says who must act;
  * WAL with `synchronous = FULL`, always: WAL with NORMAL loses acknowledged commits on power loss;
  * a failed statement may already have rolled its transaction back: look at `in_transaction` before rolling back.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from tidemill.core.errors import OperatorError, StateCorrupt, StateTooNew, StorageFull, TidemillError
from tidemill.stores.sqlite.schema import APPLICATION_ID, SCHEMA, SCHEMA_VERSION

__all__ = ["WAL_BYTES_KEPT", "Connection", "Hook", "Migrations", "connect", "explained", "prepare"]

BUSY_SECONDS = 30.0
"""How long a statement waits for another process that writes (a backup tool, a shell)."""

CACHE_KIB = 32_768
"""Page cache of the writing connection; a reading one has an eighth."""

WAL_BYTES_KEPT = 4 << 20
"""How much of the write-ahead log stays on disk after it was moved into the file."""

Hook = Callable[[str], None]
"""Called with the text of every statement before it runs; may raise `sqlite3.Error` (tests, fault injection)."""

_CORRUPT = ("SQLITE_NOTADB", "SQLITE_CORRUPT")
_FULL = ("SQLITE_FULL", "SQLITE_IOERR_WRITE")


def _nothing(statement: str) -> None:
    """The hook of a store that runs for real."""


class Connection:
    """One SQLite connection whose errors are ours."""

    __slots__ = ("_connection", "_hook", "_path")

    def __init__(self, connection: sqlite3.Connection, path: Path, hook: Hook | None) -> None:
        self._connection = connection
        self._path = path
        self._hook = hook or _nothing

    def execute(self, statement: str, values: Iterable[Any] = ()) -> sqlite3.Cursor:
        """Run one statement."""
        try:
            self._hook(statement)
            return self._connection.execute(statement, tuple(values))
        except sqlite3.Error as error:
            raise self._explained(error) from error

    def executemany(self, statement: str, rows: Iterable[tuple[Any, ...]]) -> sqlite3.Cursor:
        """Run one statement for many rows."""
        try:
            self._hook(statement)
            return self._connection.executemany(statement, rows)
        except sqlite3.Error as error:
            raise self._explained(error) from error

    def one(self, statement: str, values: Iterable[Any] = ()) -> Any:
        """The first row of a query, or None."""
        return self.execute(statement, values).fetchone()

    def all(self, statement: str, values: Iterable[Any] = ()) -> list[Any]:
        """All rows of a query."""
        return self.execute(statement, values).fetchall()

    def begin(self, kind: str = "immediate") -> None:
        """Open a transaction: `immediate` takes the write lock now, `deferred` a snapshot at the first read."""
        self.execute(f"begin {kind}")

    def commit(self) -> None:
        """Make the transaction durable; after a failure nothing of it is left."""
        try:
            self.execute("commit")
        except TidemillError:
            self.rollback()
            raise

    def rollback(self) -> None:
        """Forget the open transaction, if SQLite has not done so already."""
        if self._connection.in_transaction:
            self._connection.execute("rollback")

    @property
    def is_in_transaction(self) -> bool:
        """Whether a transaction is open."""
        return self._connection.in_transaction

    @property
    def raw(self) -> sqlite3.Connection:
        """The connection itself, for what only it can do (backup)."""
        return self._connection

    def close(self) -> None:
        """Close; an open transaction is rolled back."""
        self._connection.close()

    def _explained(self, error: sqlite3.Error) -> TidemillError:
        return explained(error, self._path)


def explained(error: sqlite3.Error, path: Path) -> TidemillError:
    """Our error for one of SQLite's."""
    name = getattr(error, "sqlite_errorname", "") or ""
    text = str(error)
    if name.startswith(_FULL) or "disk is full" in text:
        mend = "free some space; the work goes on by itself and nothing acknowledged is lost"
        return StorageFull(f"no room to write the ledger ({text})", place=str(path), mend=mend)
    if name.startswith(_CORRUPT) or "not a database" in text or "malformed" in text:
        mend = "restore the file from a backup (`tidemill restore`), or move it away to start with an empty ledger"
        return StateCorrupt(f"the ledger cannot be read ({text})", place=str(path), mend=mend)
    mend = "see `tidemill doctor`"
    return OperatorError(
        f"the ledger cannot be used ({name or type(error).__name__}: {text})", place=str(path), mend=mend
    )


def connect(path: Path, *, is_writer: bool, hook: Hook | None = None, is_lasting: bool = True) -> Connection:
    """Open the file for writing or only reading; `is_lasting` False (stores in memory) waits for no disk."""
    try:
        raw = sqlite3.connect(
            path, timeout=BUSY_SECONDS, isolation_level=None, check_same_thread=False, cached_statements=256
        )
        raw.execute(f"pragma synchronous = {'full' if is_lasting else 'off'}")
        raw.execute(f"pragma cache_size = -{CACHE_KIB if is_writer else CACHE_KIB // 8}")
        if is_writer:
            raw.execute("pragma journal_mode = wal")
            raw.execute("pragma wal_autocheckpoint = 0")
            raw.execute(f"pragma journal_size_limit = {WAL_BYTES_KEPT}")
    except sqlite3.Error as error:
        raise explained(error, path) from error
    return Connection(raw, path, hook)


Migrations = Mapping[int, Callable[[Connection], None]]
"""By schema number, what brings a file of it to the next one."""


def prepare(connection: Connection, path: Path, migrations: Migrations) -> None:
    """Create the tables of a new file, bring an older one to this schema, refuse one that is too new."""
    found = connection.one("pragma user_version")[0]
    if found > SCHEMA_VERSION:
        raise StateTooNew(
            f"the ledger has schema {found}, this tidemill knows up to {SCHEMA_VERSION}",
            place=str(path),
            mend="use the tidemill that wrote it, or a newer one",
        )
    if found == SCHEMA_VERSION:
        return
    connection.begin()
    found = connection.one("pragma user_version")[0]  # another process may have been faster
    if found == 0:
        for statement in SCHEMA:
            connection.execute(statement)
    for version in range(found or SCHEMA_VERSION, SCHEMA_VERSION):
        migrations[version](connection)
    connection.execute(f"pragma application_id = {APPLICATION_ID}")
    connection.execute(f"pragma user_version = {SCHEMA_VERSION}")
    connection.commit()
