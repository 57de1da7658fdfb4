"""What the ledger knows of each asset: its number, its shape, and the end of its log.

Rules of this file:
  * every value comes from the file and goes back to it in the same transaction; nothing is remembered between them;
  * a topic that has events from the door keeps them when its shape changes: columns may be added and types widened,
    from the head on (rule 6), anything else is refused. Every other asset begins a new, empty generation (port `define`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec

from tidemill.core import schema
from tidemill.core.errors import DefinitionError
from tidemill.core.model import Column
from tidemill.core.ports import Head, Table
from tidemill.core.schema import SchemaVersion
from tidemill.stores.sqlite import versions
from tidemill.stores.sqlite.connection import Connection
from tidemill.stores.sqlite.nested import kind_of
from tidemill.stores.sqlite.schema import place

__all__ = [
    "MIRROR",
    "ROWS",
    "TOPIC",
    "VERSION",
    "Entry",
    "advance",
    "define",
    "end",
    "entries",
    "entry",
    "forget",
    "known",
    "reshaped",
    "save",
]

TOPIC = "topic"
VERSION = "version"
ROWS = "rows"

MIRROR = 2
"""`Entry.marked` of an asset whose heads are given from elsewhere."""

_FIELDS = "number, asset, kind, head, generation, count, floor, at_door, columns, key, id, swept_at, marked"


@dataclass(slots=True)
class Entry:
    """One asset as the file has it. `since` is, per column, the offset from which on the column exists.

    `schema` is where its rows are: `main` (the file), or `temp` (the copy of a snapshot transaction that writes it).
    """

    number: int
    asset: str
    kind: str = ""
    head: int = 0
    generation: int = 1
    count: int = 0
    floor: int = 0
    at_door: bool = False
    columns: tuple[Column, ...] = ()
    since: dict[str, int] = field(default_factory=dict)
    key: tuple[str, ...] | None = None
    id: str = ""
    swept_at: float = 0.0
    marked: int = 0
    schema: str = "main"

    def as_head(self) -> Head:
        """The end of the log, as the port has it."""
        return Head(self.head, self.generation, self.count, self.expired)

    @property
    def expired(self) -> int:
        """The offset up to which rows are gone: events of an append topic whose blocks are."""
        return self.floor if self.kind == TOPIC and self.key is None else 0


def _entry(row: tuple[Any, ...]) -> Entry:
    number, asset, kind, head, generation, count, floor, at_door, columns, key, id_, swept_at, marked = row
    shape = msgspec.json.decode(columns, type=list[tuple[str, str, bool, int]])
    return Entry(
        number,
        asset,
        kind,
        head,
        generation,
        count,
        floor,
        bool(at_door),
        tuple(Column(name, type_, required) for name, type_, required, _ in shape),
        {name: since for name, _, _, since in shape if since},
        None if key is None else msgspec.json.decode(key, type=tuple[str, ...]),
        id_,
        swept_at,
        marked,
    )


def known(connection: Connection, asset: str, *, has_overlay: bool = False) -> Entry | None:
    """The asset, or None where the ledger has never heard of it."""
    if has_overlay:
        row = connection.one(f"select {_FIELDS} from temp.assets where asset = ?", (asset,))
        if row is not None:
            return replace(_entry(row), schema="temp")
    row = connection.one(f"select {_FIELDS} from main.assets where asset = ?", (asset,))
    return None if row is None else _entry(row)


def entries(connection: Connection) -> list[Entry]:
    """All assets."""
    return [_entry(row) for row in connection.all(f"select {_FIELDS} from main.assets")]


def end(connection: Connection, asset: str, *, has_overlay: bool = False) -> tuple[Head, bool] | None:
    """The end of an asset's log, and whether its heads are given from elsewhere (a mirror); None where it is unknown.

    Asked several times by every run: cheaper than all that is known of the asset.
    """
    wanted = f"select head, generation, count, iif(kind = '{TOPIC}' and key is null, floor, 0), marked from"
    row = connection.one(f"{wanted} temp.assets where asset = ?", (asset,)) if has_overlay else None
    row = row or connection.one(f"{wanted} main.assets where asset = ?", (asset,))
    return None if row is None else (Head(*row[:4]), row[4] == MIRROR)


def entry(connection: Connection, asset: str) -> Entry:
    """The asset, made known if it is new."""
    found = known(connection, asset)
    if found is None:
        connection.execute("insert into main.assets (asset) values (?)", (asset,))
        found = known(connection, asset)
        assert found is not None
    return found


def lift(connection: Connection, found: Entry | None, asset: str) -> Entry:
    """Copy an asset into the overlay of a snapshot transaction, or make a new one known only there."""
    if found is not None and found.schema == "temp":
        return found
    if found is None:
        number = -1 - connection.one("select count(*) from temp.assets")[0]
        found = Entry(number, asset)
    elif found.kind in ("", ROWS):
        connection.execute("insert into temp.images select * from main.images where number = ?", (found.number,))
    connection.execute(
        f"insert into temp.assets ({_FIELDS}) values (?, ?, '', 0, 0, 0, 0, 0, '[]', null, '', 0, 0)",
        (found.number, asset),
    )
    lifted = replace(found, schema="temp")
    save(connection, lifted)
    return lifted


def save(connection: Connection, found: Entry) -> None:
    """Write the asset back."""
    shape = [(c.name, c.type, c.required, found.since.get(c.name, 0)) for c in found.columns]
    connection.execute(
        f"update {found.schema}.assets set kind = ?, head = ?, generation = ?, count = ?, floor = ?, at_door = ?, columns = ?, key = ?, "
        "id = ?, swept_at = ?, marked = ? "
        "where number = ?",
        (
            found.kind,
            found.head,
            found.generation,
            found.count,
            found.floor,
            found.at_door,
            msgspec.json.encode(shape).decode(),
            None if found.key is None else msgspec.json.encode(found.key).decode(),
            found.id,
            found.swept_at,
            found.marked,
            found.number,
        ),
    )


def advance(connection: Connection, found: Entry) -> None:
    """Write back what an append moves."""
    connection.execute(
        f"update {found.schema}.assets set head = ?, count = ? where number = ?",
        (found.head, found.count, found.number),
    )


def define(connection: Connection, found: Entry, table: Table) -> Entry:
    """Give an asset its shape (port `Transaction.define`)."""
    generation = found.generation
    shape = (found.columns, found.key)
    if found.at_door and found.key is None:
        table = Table(table.asset, table.columns)  # whether a topic is keyed was settled with its first event
    reshaped(found, table, versions.kept(connection, found.number) if found.at_door else ())
    if found.generation != generation:
        forget(connection, found)
    if (found.columns, found.key) != shape:
        save(connection, found)
        if found.kind == TOPIC and found.schema == "main":
            versions.record(connection, found.number, found.head, found.columns)
    return found


def reshaped(found: Entry, table: Table, before: Sequence[SchemaVersion] = ()) -> Entry:
    """The asset with another shape; raises DefinitionError for a shape that it cannot take.

    `before` are the versions of its schema, where its events came through the door.
    """
    for column in table.columns:
        kind_of(column.type)
    if (_types(found.columns), found.key) == (_types(table.columns), table.key):
        return found
    if found.at_door:
        _widen(found, table, before)
    elif found.head:
        found.generation += 1
        found.count, found.floor, found.marked = 0, found.head, 0
        found.since = {}
    found.columns, found.key = table.columns, table.key
    return found


def _types(columns: tuple[Column, ...]) -> list[tuple[str, str]]:
    return [(column.name, column.type) for column in columns]


def _widen(found: Entry, table: Table, versions_: Sequence[SchemaVersion]) -> None:
    """Change the shape of a topic that has events, or refuse (rule 6)."""
    _check_returning(found, table, versions_)
    if found.key != table.key:
        was, now = _rows_by(found.key), _rows_by(table.key)
        raise _frozen(found, f"its rows cannot be {now} from now on: they are {was} (semantics and key)")
    before = {column.name: column for column in found.columns}
    since = {}
    for column in table.columns:
        old = before.get(column.name)
        if old is None:
            since[column.name] = found.head
        elif not _is_wider(old.type, column.type):
            raise _frozen(found, f"column {column.name} cannot become {column.type} from {old.type}")
        else:
            since[column.name] = found.since.get(column.name, 0)
    found.since = since


def _rows_by(key: tuple[str, ...] | None) -> str:
    return "events, each a row of its own" if key is None else f"the newest event of each {', '.join(key)}"


def _check_returning(found: Entry, table: Table, before: Sequence[SchemaVersion]) -> None:
    """Raise DefinitionError for a column that comes back with a type that its old values do not have."""
    types = {column.name: column.type for column in table.columns}
    for version in before:
        for column in version.columns:
            now = types.get(column.name, column.type)
            if not _is_wider(column.type, now):
                why = f"column {column.name} cannot become {now}: version {version.version} has it as {column.type}"
                raise _frozen(found, why)


def _is_wider(old: str, new: str) -> bool:
    narrow, wide = kind_of(old).name, kind_of(new).name
    return old == new if narrow == wide == "enum" else schema.is_wider(narrow, wide)


def _frozen(found: Entry, why: str) -> DefinitionError:
    return DefinitionError(
        f"topic {found.asset} has {found.head} {'event' if found.head == 1 else 'events'}, so {why}",
        mend="add a column or widen a type; for anything else make a new topic and emit into that",
    )


def forget(connection: Connection, found: Entry) -> None:
    """Remove all rows and log entries of an asset; its number and offsets stay."""
    connection.execute(f"delete from {found.schema}.images where number = ?", (found.number,))
    if found.schema != "main":
        return
    low, high = place(found.number, 0), place(found.number + 1, 0)
    connection.execute("delete from blocks where place >= ? and place < ?", (low, high))
    connection.execute("delete from versions where place >= ? and place < ?", (low, high))
    connection.execute("delete from earlier where place >= ? and place < ?", (low, high))
    connection.execute("delete from traces where place >= ? and place < ?", (low, high))
    for table in ("ids", "keys", "schemas"):
        connection.execute(f"delete from {table} where number = ?", (found.number,))
