"""Outputs on their way into the ledger: what `define` and `write` do to the file.

Rules of this file:
  * the door says what is a topic (`Log.append`, also of no events) and what has versions (`Log.touch`); of the others
    a single column `version` means versions, and everything else that was defined is a table of rows;
  * rows written to a topic become events in the order given; on a topic with a key the newest event of a key counts;
  * the ledger computes no SQL: `Statement` is refused by name. Topics and versions take only `Appended`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from tidemill.core.change import HIDDEN, OFFSET, RID, Appended, Became, Changed, Output, Replaced, Slice
from tidemill.core.errors import ContractViolation, NotFound, StateCorrupt, UserError
from tidemill.core.ports import Head, Table
from tidemill.stores.sqlite import blocks, catalog, images
from tidemill.stores.sqlite.catalog import Entry
from tidemill.stores.sqlite.connection import Connection
from tidemill.stores.sqlite.contract import key_text
from tidemill.stores.sqlite.reading import VERSION_COLUMN, Reading
from tidemill.stores.sqlite.rows import as_table, lines_of, new_rows, rows_by_key, weighed_rows
from tidemill.stores.sqlite.schema import place

__all__ = ["Writing", "add_versions", "last_version"]


class Writing:
    """The writes of one transaction. With `has_overlay` they stay in the connection's own overlay."""

    def __init__(self, connection: Connection, now: float, *, has_overlay: bool = False) -> None:
        self._connection = connection
        self._now = now
        self._has_overlay = has_overlay
        self._written: dict[str, Head] = {}

    def heads(self) -> Mapping[str, Head]:
        """The heads of the assets written or defined."""
        return dict(self._written)

    def known(self, asset: str) -> Entry | None:
        """The asset as this transaction sees it."""
        return catalog.known(self._connection, asset, has_overlay=self._has_overlay)

    def define(self, table: Table) -> Head:
        """Make the asset have this shape."""
        found = catalog.define(self._connection, self._own(table.asset), table)
        self._written[table.asset] = found.as_head()
        return found.as_head()

    def write(self, asset: str, output: Output) -> int:
        """Apply an output; returns the number of changes."""
        table = as_table(output.rows)
        found = self.known(asset)
        if found is None:
            _check_is_known(asset, table)
        if found is None or self._has_overlay:
            found = self._own(asset)
        was = found.kind
        _settle_kind(found, table)
        if found.kind == catalog.ROWS:
            count = self._write_rows(found, table, output)
            catalog.save(self._connection, found)
        else:
            count = self._append(found, table, output)
            (catalog.advance if found.kind == was else catalog.save)(self._connection, found)
        self._written[asset] = found.as_head()
        return count

    def _own(self, asset: str) -> Entry:
        """The asset, where this transaction may write it."""
        if self._has_overlay:
            return catalog.lift(self._connection, self.known(asset), asset)
        return catalog.entry(self._connection, asset)

    def _write_rows(self, found: Entry, table: pa.Table, output: Output) -> int:
        head = output.head if isinstance(output, Appended | Replaced) else None
        if head is not None and head < found.head:
            raise StateCorrupt(f"{found.asset}: the head would move back from {found.head} to {head}")
        pairs = self._pairs(found, table, output)
        found.head += head is None and not found.marked
        images.apply(self._connection, found, pairs, head)
        found.head = found.head if head is None else head
        found.marked = 1 if head is None else found.marked or catalog.MIRROR
        return len(pairs)

    def _pairs(self, found: Entry, table: pa.Table, output: Output) -> list[images.Pair]:
        if isinstance(output, Became):
            return images.became(self._connection, found, rows_by_key(table, found.columns, output.key))
        if isinstance(output, Changed):
            lines = weighed_rows(table, found.columns)
            return images.changed(self._connection, found, lines, is_checked=output.is_checked)
        rows = new_rows(table, found.columns)
        if isinstance(output, Replaced):
            return images.replaced(self._connection, found, rows, self._parents(output.parents))
        return images.appended(self._connection, found, rows)

    def _parents(self, parents: Sequence[str] | Slice | None) -> Sequence[str] | None:
        if isinstance(parents, Slice):
            reading = Reading(self._connection, has_overlay=self._has_overlay)
            found: list[str] = reading.read(parents).column(RID).to_pylist()
            return found
        return parents

    def _append(self, found: Entry, table: pa.Table, output: Output) -> int:
        """Append to a topic or to the versions of an asset; in the overlay only the head moves."""
        if not isinstance(output, Appended):
            raise UserError(f"{found.kind} {found.asset} takes no rows back", mend="write the job's result to a table")
        if OFFSET in table.column_names or output.head is not None:
            raise UserError(f"{found.kind} {found.asset} gives its own offsets", mend="keep the mirror as a table")
        if found.kind == catalog.VERSION:
            return add_versions(self._connection, found, _versions(table), self._now)
        if not table.num_rows:
            return 0
        lines = lines_of(table, found.columns)
        if found.schema == "main":
            count = found.count + (self._move_keys(found, table) if found.key else len(lines))
            blocks.append(self._connection, found.number, found.head + 1, b"\n".join(lines), self._now)
            found.count = count
        found.head += len(lines)
        return len(lines)

    def _move_keys(self, found: Entry, table: pa.Table) -> int:
        """Make these rows the newest of their keys; returns how many keys are new."""
        assert found.key is not None
        rows = table.select(list(found.key)).to_pylist()
        keys = [key_text([row[name] for name in found.key or ()]) for row in rows]
        if any(None in row.values() for row in rows):
            raise ContractViolation(f"topic {found.asset}: a row has no key ({', '.join(found.key)})")
        before = dict(
            self._connection.all(
                "select key, offset from keys where number = ? and deleted = 0 and key in (select value from json_each(?))",
                (found.number, msgspec.json.encode(keys).decode()),
            )
        )
        known = len(before)
        earlier = []
        for offset, key in enumerate(keys, found.head + 1):
            if key in before:
                earlier.append((place(found.number, offset), before[key]))
            before[key] = offset
        self._connection.executemany("insert into earlier (place, before) values (?, ?)", earlier)
        self._connection.executemany(
            "insert or replace into keys (number, key, offset, deleted, version) values (?, ?, ?, 0, 'null')",
            [(found.number, key, offset) for offset, key in enumerate(keys, found.head + 1)],
        )
        return len(set(keys)) - known


def _check_is_known(asset: str, table: pa.Table) -> None:
    """Only versions may be written to an asset that nobody has defined: what is outside has no shape here."""
    if [name for name in table.column_names if name not in HIDDEN] != [VERSION_COLUMN.name]:
        raise NotFound(f"the ledger knows no asset {asset}", mend="define its shape first")


def _settle_kind(found: Entry, table: pa.Table) -> None:
    """Decide what the asset is, if this is its first use: the door has said so of topics and of what is touched."""
    if found.kind:
        return
    names = [column.name for column in found.columns] or [name for name in table.column_names if name not in HIDDEN]
    found.kind = catalog.VERSION if names == [VERSION_COLUMN.name] and "@" not in found.asset else catalog.ROWS


def _versions(table: pa.Table) -> list[str]:
    found: list[Any] = table.column(VERSION_COLUMN.name).to_pylist() if table.num_rows else []
    return ["" if version is None else str(version) for version in found]


def last_version(connection: Connection, found: Entry) -> str | None:
    """The version that the asset is at."""
    row = connection.one("select version from versions where place = ?", (place(found.number, found.head),))
    return None if row is None else str(row[0])


def _new_versions(last: str | None, versions: Sequence[str]) -> list[str]:
    """The versions that are a change: "" always is one, the same again is none."""
    new = []
    for version in versions:
        if not version or version != last:
            new.append(version)
        last = version
    return new


def add_versions(connection: Connection, found: Entry, versions: Sequence[str], now: float) -> int:
    """Append versions to an external or extract asset; returns how many were a change."""
    new = _new_versions(last_version(connection, found), versions)
    if found.schema != "main":
        found.head += len(new)
        return len(new)
    rows = [(place(found.number, offset), version, now) for offset, version in enumerate(new, found.head + 1)]
    for row in rows:
        connection.execute("insert into versions (place, version, at) values (?, ?, ?)", row)
    found.head += len(new)
    found.count += len(new)
    return len(new)
