"""Outputs on their way into the ledger: what `define` and `write` do to the file.

Rules of this file:
  * what an asset is shows in its first use: a name with `@` keeps rows, a single column `version` keeps versions,
    everything else is a topic; the door says it outright (`Log.append`, `Log.touch`);
  * rows written to a topic become events in the order given; on a topic with a key the newest event of a key counts;
  * the ledger computes no SQL and makes no difference of whole tables: `Became` and `Statement` are refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import pyarrow as pa

from tidemill.core.change import HIDDEN, OFFSET, PARENT, RID, Appended, Output, Replaced, Slice
from tidemill.core.errors import ContractViolation, UserError
from tidemill.core.ports import Head, Table
from tidemill.stores.sqlite import blocks, catalog, images
from tidemill.stores.sqlite.catalog import Entry
from tidemill.stores.sqlite.connection import Connection
from tidemill.stores.sqlite.contract import key_text
from tidemill.stores.sqlite.reading import VERSION_COLUMN, Reading
from tidemill.stores.sqlite.rows import as_table, columns_of, lines_of, new_rows
from tidemill.stores.sqlite.schema import place

__all__ = ["Writing", "add_versions", "last_version"]


class Writing:
    """The writes of one transaction."""

    def __init__(self, connection: Connection, now: float) -> None:
        self._connection = connection
        self._now = now
        self._written: dict[str, Head] = {}

    def heads(self) -> Mapping[str, Head]:
        """The heads of the assets written or defined."""
        return dict(self._written)

    def define(self, table: Table) -> Head:
        """Make the asset have this shape."""
        found = catalog.define(self._connection, table)
        self._written[table.asset] = found.as_head()
        return found.as_head()

    def write(self, asset: str, output: Output) -> int:
        """Apply an output; returns the number of changes."""
        table = _accepted(asset, output)
        found = catalog.entry(self._connection, asset)
        before = found.head
        _settle_kind(found, table)
        if found.kind == catalog.VERSION:
            add_versions(self._connection, found, _versions(table), self._now)
        elif found.kind == catalog.TOPIC:
            self._append(found, table, output)
        else:
            images.apply(self._connection, found, self._pairs(found, table, output))
        catalog.save(self._connection, found)
        self._written[asset] = found.as_head()
        return found.head - before

    def count(self, asset: str, found: Entry | None, output: Output) -> int:
        """How many changes an output would make, without making them."""
        table = _accepted(asset, output)
        found = found or Entry(0, asset)
        _settle_kind(found, table)
        if found.kind == catalog.VERSION:
            return len(_new_versions(last_version(self._connection, found), _versions(table)))
        if found.kind == catalog.TOPIC:
            return int(table.num_rows)
        return len(self._pairs(found, table, output))

    def _pairs(self, found: Entry, table: pa.Table, output: Output) -> list[images.Pair]:
        rows = new_rows(table, found.columns, found.key)
        if isinstance(output, Replaced):
            return images.replaced(self._connection, found, rows, self._parents(output.parents))
        return images.appended(self._connection, found, rows)

    def _parents(self, parents: Sequence[str] | Slice | None) -> Sequence[str] | None:
        if isinstance(parents, Slice):
            found: list[str] = Reading(self._connection).read(parents).column(RID).to_pylist()
            return found
        return parents

    def _append(self, found: Entry, table: pa.Table, output: Output) -> None:
        if isinstance(output, Replaced):
            raise UserError(f"topic {found.asset} takes no rows back", mend="write the job's result to a table")
        if not table.num_rows:
            return
        lines = lines_of(table, found.columns)
        count = found.count
        if found.key:
            count += self._move_keys(found, table)
        found.head += blocks.append(self._connection, found.number, found.head + 1, b"\n".join(lines), self._now)
        found.count = count if found.key else count + len(lines)

    def _move_keys(self, found: Entry, table: pa.Table) -> int:
        """Make these rows the newest of their keys; returns how many keys are new."""
        assert found.key is not None
        rows = table.select(list(found.key)).to_pylist()
        keys = [key_text([row[name] for name in found.key or ()]) for row in rows]
        if any(None in row.values() for row in rows):
            raise ContractViolation(f"topic {found.asset}: a row has no key ({', '.join(found.key)})")
        known = self._connection.one(
            "select count(*) from keys where number = ? and deleted = 0 and key in (select value from json_each(?))",
            (found.number, msgspec.json.encode(keys).decode()),
        )[0]
        self._connection.executemany(
            "insert or replace into keys (number, key, offset, deleted, version) values (?, ?, ?, 0, 'null')",
            [(found.number, key, offset) for offset, key in enumerate(keys, found.head + 1)],
        )
        return len(set(keys)) - int(known)


def _accepted(asset: str, output: Output) -> pa.Table:
    """The rows of an output that the ledger can take."""
    if not isinstance(output, Appended | Replaced):
        raise UserError(
            f"the ledger makes no difference of whole tables ({asset})", mend="keep the asset among the tables"
        )
    table = as_table(output.rows)
    if OFFSET in table.column_names or output.head is not None:
        raise UserError(f"the ledger holds no mirrors ({asset})", mend="keep the mirror among the tables")
    if (
        isinstance(output, Replaced)
        and output.parents is not None
        and table.num_rows
        and PARENT not in table.column_names
    ):
        raise UserError(f"rows that replace others must say whose they are ({asset}: no column {PARENT})")
    return table


def _settle_kind(found: Entry, table: pa.Table) -> None:
    """Decide what the asset is, if this is its first use."""
    visible = [name for name in table.column_names if name not in HIDDEN]
    if not found.kind:
        named = [column.name for column in found.columns] or visible
        if "@" in found.asset:
            found.kind = catalog.ROWS
        else:
            found.kind = catalog.VERSION if named == [VERSION_COLUMN.name] else catalog.TOPIC
    if not found.columns and found.head == 0:
        found.columns = columns_of(table)


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
    rows = [(place(found.number, offset), version, now) for offset, version in enumerate(new, found.head + 1)]
    connection.executemany("insert into versions (place, version, at) values (?, ?, ?)", rows)
    found.head += len(new)
    found.count += len(new)
    return len(new)
