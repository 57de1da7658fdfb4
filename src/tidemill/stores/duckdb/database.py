"""The one place that touches DuckDB's Python API.

Rules of this file:
  * nothing else in tidemill calls a DuckDB object: what changes between DuckDB versions changes here;
  * every error leaves as one of ours, so that its class says who must act; results are read to their end, because an
    unread result blocks its connection;
  * the database is always attached under the name `tables`, so that a file may have any name (a file called
    `store.duckdb` would make the schema `store` ambiguous) and views in a backup still find their tables.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from tidemill.core.errors import (
    BrokenJob,
    Conflict,
    ContractViolation,
    InvariantError,
    OperatorError,
    PoisonRecord,
    StateCorrupt,
    StorageFull,
    TidemillError,
    UserError,
)

__all__ = ["CATALOG", "DUPLICATES", "Database", "Session", "literal", "not_unique", "quoted"]

CATALOG = "tables"
"""The name under which the database is attached."""

DUPLICATES = "@duplicates@"
"""What our own SQL raises with `error()` where an identity is not unique, followed by up to five identities."""

CHECKPOINT_THRESHOLD = "64MB"
"""Write-ahead log that is kept before a commit pays for a checkpoint: fewer, rarer pauses; a start replays it."""

DISABLED_OPTIMIZERS = "window_self_join"
"""DuckDB 2.0.0 rewrites a sum over a whole partition as a join, and takes the digits of DECIMAL(38) apart in it: wrong."""

STREAMED_BYTES = 32 * 1024 * 1024
"""Rows handed over that take more memory than this are streamed."""

_FIRST_ROWS = 33
"""Rows that `few` reads as Python values."""
_PLAIN = {
    "BOOLEAN": pa.bool_(),
    "TINYINT": pa.int8(),
    "SMALLINT": pa.int16(),
    "INTEGER": pa.int32(),
    "BIGINT": pa.int64(),
    "HUGEINT": pa.decimal128(38, 0),
    "DOUBLE": pa.float64(),
    "VARCHAR": pa.string(),
}
"""The types whose values are the same by way of Python, and what they are in Arrow (a moment beyond Python's calendar is not)."""

_FULL = re.compile(r"no space left|disk (is )?full|disk quota|ENOSPC|could not write all bytes", re.IGNORECASE)
_MENDS = {
    StorageFull: "free some room; the state is valid and the work goes on by itself",
    StateCorrupt: "restore the state folder from a backup, or rebuild the tables from the topics",
}
# Built-in errors of a statement that a record can cause; the same statement may succeed on other records.
_OF_A_RECORD = (
    duckdb.ConversionException,
    duckdb.DataError,
    duckdb.OutOfRangeException,
    duckdb.InvalidInputException,
    duckdb.ConstraintException,
)
_OF_A_TEXT = (duckdb.BinderException, duckdb.ParserException, duckdb.CatalogException, duckdb.SyntaxException)


def quoted(name: str) -> str:
    """An identifier as SQL text."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """A string as SQL text; a NUL character cannot stand in SQL text and is put together instead."""
    parts = ["'" + part.replace("'", "''") + "'" for part in text.split("\0")]
    return parts[0] if len(parts) == 1 else "(" + " || chr(0) || ".join(parts) + ")"


def translated(error: duckdb.Error) -> TidemillError:
    """Our error for one of DuckDB's."""
    text = str(error)
    if DUPLICATES in text:
        rows = text.partition(DUPLICATES)[2].split("\n")[0]
        return not_unique(rows)
    if _FULL.search(text):
        return StorageFull(text, mend=_MENDS[StorageFull])
    if "in read-only mode" in text:
        return UserError("a query may only read", mend="write a single SELECT")
    if isinstance(error, duckdb.TransactionException):
        return Conflict(text)
    if isinstance(error, duckdb.FatalException | duckdb.SerializationException):
        return StateCorrupt(text, mend=_MENDS[StateCorrupt])
    if isinstance(error, _OF_A_TEXT):
        return BrokenJob(text, mend="correct the SQL")
    if isinstance(error, _OF_A_RECORD):
        return PoisonRecord(text)
    if isinstance(error, duckdb.InternalException):
        return InvariantError(text)
    return OperatorError(text)


def not_unique(rows: str) -> ContractViolation:
    """The error for a key that is not unique; `rows` names some of the rows that have it."""
    return ContractViolation(f"the key is not unique: {rows}", mend="make the key columns identify one row")


@contextmanager
def translating() -> Iterator[None]:
    """Let DuckDB's errors out as ours."""
    try:
        yield
    except duckdb.Error as error:
        raise translated(error) from error


class Session:
    """One connection. Used by one thread at a time."""

    __slots__ = ("_connection",)

    def __init__(self, connection: duckdb.DuckDBPyConnection) -> None:
        self._connection = connection

    def run(self, sql: str, parameters: Sequence[Any] | None = None) -> int:
        """Run a statement; returns the number of rows it touched (0 for a definition)."""
        try:
            row = self._connection.execute(sql, parameters).fetchone()
        except duckdb.Error as error:
            raise translated(error) from error
        return int(row[0]) if row and isinstance(row[0], int) else 0

    def rows(self, sql: str) -> list[tuple[Any, ...]]:
        """The rows of a query."""
        with translating():
            return self._connection.execute(sql).fetchall()

    def arrow(self, sql: str) -> Any:
        """The rows of a query as an Arrow table."""
        with translating():
            return self._connection.sql(sql).to_arrow_table()

    def few(self, sql: str) -> Any:
        """The rows of a query that gives few: planned once, where `arrow` plans twice, and copied once more.

        The first rows are taken as Python's own values where nothing can be lost by that: to begin an export to Arrow
        takes longer than to read one row.
        """
        with translating():
            self._connection.execute(sql)
            described = self._connection.description or []
            types = [_PLAIN.get(str(column[1])) for column in described]
            if not all(types):
                return self._connection.to_arrow_table()
            first = self._connection.fetchmany(_FIRST_ROWS)
            rest = self._connection.to_arrow_table() if len(first) == _FIRST_ROWS else None
        columns = zip(*first, strict=True) if first else [()] * len(types)
        try:
            arrays = [pa.array(values, kind) for values, kind in zip(columns, types, strict=True)]
        except pa.ArrowInvalid:  # an integer of more digits than Arrow's decimals have: DuckDB exports it all the same
            with translating():
                return self._connection.execute(sql).to_arrow_table()
        rows = pa.Table.from_arrays(arrays, names=[column[0] for column in described])
        return rows if rest is None else pa.concat_tables([rows, rest])

    def shape(self, sql: str) -> list[tuple[str, str]]:
        """The columns of a query, as names and type names, without running it."""
        with translating():
            relation = self._connection.sql(sql)
            return list(zip(relation.columns, map(str, relation.types), strict=True))

    def is_query(self, sql: str) -> bool:
        """Whether a text is exactly one statement that only reads."""
        with translating():
            statements = self._connection.extract_statements(sql)
        reading = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
        return len(statements) == 1 and statements[0].type in reading

    def register(self, name: str, table: Any) -> None:
        """Let SQL read an Arrow table under a name, replacing what had that name."""
        with translating():
            self._connection.register(name, table)

    def unregister(self, name: str) -> None:
        """Forget a registered table."""
        with translating():
            self._connection.unregister(name)

    def begin(self) -> None:
        """Begin a transaction; its snapshot is taken by its first statement."""
        with translating():
            self._connection.begin()

    def commit(self) -> None:
        """Commit the transaction durably."""
        with translating():
            self._connection.commit()

    def rollback(self) -> None:
        """Roll back the transaction; nothing to roll back is fine."""
        try:
            self._connection.rollback()
        except duckdb.TransactionException:
            return
        except duckdb.Error as error:
            raise translated(error) from error

    def interrupt(self) -> None:
        """End the statement that runs now, if one does: it raises OperatorError. Any thread."""
        self._connection.interrupt()

    def close(self) -> None:
        """Close the connection; idempotent."""
        self._connection.close()


class Database:
    """An open database, in which every session runs in UTC."""

    def __init__(self, path: str, session_type: type[Session] = Session) -> None:
        self.path = path
        self._session_type = session_type
        if path != ":memory:":
            Path(path).parent.mkdir(parents=True, exist_ok=True)
        try:
            self._root = duckdb.connect(":memory:", config={"checkpoint_threshold": CHECKPOINT_THRESHOLD})
            self._root.execute("SET GLOBAL TimeZone = 'UTC'")
            self._root.execute(f"SET GLOBAL disabled_optimizers = '{DISABLED_OPTIMIZERS}'")
            self._root.execute(f"ATTACH {literal(path)} AS {CATALOG}")
        except duckdb.Error as error:
            raise _not_opened(path, error) from error

    def session(self) -> Session:
        """A new connection."""
        with translating():
            connection = self._root.cursor()
            connection.execute(f"USE {CATALOG}.main")
        return self._session_type(connection)

    def close(self) -> None:
        """Release the file; idempotent."""
        self._root.close()


def _not_opened(path: str, error: Exception) -> OperatorError:
    """Why a database could not be opened."""
    text = str(error)
    if _FULL.search(text):
        return StorageFull(text, place=path, mend=_MENDS[StorageFull])
    if re.search(r"could not set lock|conflicting lock|unique file handle", text, re.IGNORECASE):
        return OperatorError(f"the file is in use: {text}", place=path, mend="stop the other process")
    if isinstance(error, duckdb.PermissionException) or "ermission denied" in text:
        return OperatorError(text, place=path, mend="let this user read and write the file")
    return StateCorrupt(f"the file cannot be read: {text}", place=path, mend=_MENDS[StateCorrupt])


def table_of(rows: Any) -> Any:
    """An Arrow stream as a table."""
    return rows if isinstance(rows, pa.Table) else pa.table(rows)


def in_memory(rows: Any) -> Any:
    """An Arrow stream as a table where it is short, else as a reader that can be read once."""
    if isinstance(rows, pa.Table):
        return rows
    reader = pa.RecordBatchReader.from_stream(rows)
    batches, count = [], 0
    for batch in reader:
        batches.append(batch)
        count += batch.nbytes
        if count > STREAMED_BYTES:
            return pa.RecordBatchReader.from_batches(reader.schema, chain(batches, reader))
    return pa.Table.from_batches(batches, reader.schema)


warnings.filterwarnings("ignore", message="Arrow output on a DB-API result", category=UserWarning)
