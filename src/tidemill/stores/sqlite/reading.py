"""Reading slices: the rows of an asset's log or state, as typed Arrow tables.

Rules of this file:
  * a read sees one snapshot: that of the connection's open transaction;
  * the rows are ordered by offset, then row identity; positions are (from, to], from 0 means from what there is;
  * a position beyond the head, or below the trimmed floor, is an error and never an empty answer.

The shapes: an append topic is its events, each row's identity its offset as text. An upsert topic is the latest event
per key, identity the JSON text of the key values; of its changes, the old image is the row of the event before. Versions are rows of one column.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import lru_cache
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from tidemill.core.change import OFFSET, RID, Images, Slice
from tidemill.core.errors import InvariantError, NotFound, StateCorrupt
from tidemill.core.model import Column
from tidemill.core.ports import Head
from tidemill.core.retention import check_kept
from tidemill.stores.sqlite import blocks, catalog, images, versions
from tidemill.stores.sqlite.catalog import Entry
from tidemill.stores.sqlite.connection import Connection
from tidemill.stores.sqlite.contract import DELETED, key_text
from tidemill.stores.sqlite.decode import Decoder
from tidemill.stores.sqlite.rows import equal_rows, hidden_first, of_images
from tidemill.stores.sqlite.schema import offset_of, place

__all__ = ["VERSION_COLUMN", "Reading", "identities"]

VERSION_COLUMN = Column("version", "varchar")
"""The one column of external and extract assets."""


FEW = 64
"""Up to so many offsets are made one by one."""


@lru_cache(maxsize=1024)
def decoder_of(columns: tuple[Column, ...]) -> Decoder:
    """The decoder of a shape; building one costs far more than using it."""
    return Decoder(columns)


class Reading:
    """Reads at the snapshot of one connection (port `Reader`)."""

    def __init__(self, connection: Connection, *, has_overlay: bool = False) -> None:
        self._connection = connection
        self._has_overlay = has_overlay

    def _known(self, asset: str) -> Entry | None:
        return catalog.known(self._connection, asset, has_overlay=self._has_overlay)

    def head(self, asset: str) -> Head:
        """The end of the asset's log."""
        found = catalog.end(self._connection, asset, has_overlay=self._has_overlay)
        return Head() if found is None else found[0]

    def read(self, part: Slice) -> pa.Table:
        """The rows of a slice."""
        found = self._known(part.asset)
        if found is None:
            raise NotFound(f"the ledger knows no asset {part.asset}", mend="emit into it, or define it first")
        _check_bounds(found, part)
        released = self._released(part) if part.released else []
        table = self._released_rows(found, part, released) if released else self._rows(found, part)
        if part.excluding:
            out = pc.is_in(table.column(RID), pa.array(part.excluding, pa.string()))
            table = table.filter(pc.invert(out))
        return table

    def _rows(self, found: Entry, part: Slice) -> pa.Table:
        from_ = 0 if part.images == Images.STATE else part.from_
        if found.kind == catalog.VERSION:
            return _version_rows(self._connection, found, from_, part)
        if found.kind in ("", catalog.ROWS):
            return _image_rows(self._connection, found, part)
        if found.key and part.images == Images.CHANGES:
            return _changed_rows(self._connection, found, from_, part.to)
        if found.key:
            return _latest_rows(self._connection, found, from_, part.to)
        return _event_rows(self._connection, found, from_, part.to, part.images == Images.CHANGES)

    def _released(self, part: Slice) -> list[tuple[str, str, int]]:
        """What a gate has released of the asset: partition column, value, and the position it was released at."""
        name = f"{part.released}@gate"
        found = self._known(name)
        if found is None or not found.count:
            return []
        rows = self._rows(found, Slice(name, 0, found.head)).to_pylist()
        return [(row["partition"], row["value"], row["position"]) for row in rows if row["input"] == part.asset]

    def _released_rows(self, found: Entry, part: Slice, released: list[tuple[str, str, int]]) -> pa.Table:
        """The rows of released values, each value as it was when it was released (rule 21)."""
        tables = []
        for column, position in sorted({(column, min(position, part.to)) for column, _, position in released}):
            values = [value for name, value, at in released if (name, min(at, part.to)) == (column, position)]
            rows = self._rows(found, replace(part, to=position, images=Images.STATE))
            is_released = pc.is_in(rows.column(column).cast(pa.string()), pa.array(values, pa.string()))
            tables.append(rows.filter(is_released))
        return pa.concat_tables(tables).sort_by([(OFFSET, "ascending"), (RID, "ascending")])


def _check_bounds(found: Entry, part: Slice) -> None:
    if part.to > found.head:
        raise StateCorrupt(
            f"{part.asset} is read to {part.to}, but its log ends at {found.head}",
            mend="the ledger is older than what was read from it: restore the newer backup, or rebuild the readers",
        )
    if part.released and part.images != Images.STATE:
        raise InvariantError(f"slice of {part.asset}: `released` is about the state, not about changes")
    check_kept(part, found.expired)  # before what says that it is trimmed, which is so of all that has expired
    is_below = part.images != Images.STATE and 0 < part.from_ < found.floor
    if is_below or 0 < part.to < found.floor:
        raise StateCorrupt(
            f"{part.asset} is read at ({part.from_}, {part.to}], but its log begins after {found.floor}",
            mend="the history was trimmed: rebuild the reader from the current rows",
        )


def _stretches(
    connection: Connection, found: Entry, from_: int, to: int
) -> Iterator[tuple[int, int, tuple[Column, ...]]]:
    """The range cut where the schema changed: each part with those of today's columns that its own version has."""
    if all(since <= from_ for since in found.since.values()):
        yield from_, to, found.columns
        return
    known = versions.kept(connection, found.number)
    cuts = [version.since for version in known if from_ < version.since < to]
    for low, high in zip([from_, *cuts], [*cuts, to], strict=True):
        own = [known[0], *(version for version in known if version.since <= low)][-1]
        names = {column.name for column in own.columns}
        yield low, high, tuple(column for column in found.columns if column.name in names)


def _decoded(connection: Connection, found: Entry, from_: int, to: int) -> tuple[pa.Array, pa.Table]:
    """The offsets and columns of all events in (from_, to]."""
    whole = decoder_of(found.columns)
    tables: list[pa.Table] = []
    total = 0
    for low, high, columns in _stretches(connection, found, from_, to):
        payloads: list[bytes] = []
        count = 0
        for _, size, payload in blocks.payloads(connection, found.number, low, high):
            payloads.append(payload)
            count += size
        total += count
        tables.append(_shaped(decoder_of(columns).table(payloads, count), whole))
    table = tables[0] if len(tables) == 1 else pa.concat_tables(tables)
    if total != max(0, to - max(from_, found.floor)):
        raise StateCorrupt(
            f"{found.asset}: {total} events lie in ({from_}, {to}]", mend="restore the ledger from a backup"
        )
    return _offsets(to - total, total), table


def _offsets(after: int, count: int) -> pa.Array:
    """The offsets after one, as many as there are events: a topic has no gaps."""
    if count <= FEW:
        return pa.array(range(after + 1, after + count + 1), pa.int64())
    return pc.cumulative_sum(pa.repeat(pa.scalar(1, pa.int64()), count), start=after)


def _shaped(table: pa.Table, whole: Decoder) -> pa.Table:
    """The table with columns that did not exist yet, as nulls."""
    if table.column_names == whole.schema.names:
        return table
    arrays = [
        table.column(field.name) if field.name in table.column_names else pa.nulls(table.num_rows, field.type)
        for field in whole.schema
    ]
    return pa.Table.from_arrays(arrays, schema=whole.schema)


def _event_rows(connection: Connection, found: Entry, from_: int, to: int, has_weight: bool) -> pa.Table:
    offsets, table = _decoded(connection, found, max(from_, 0), to)
    weights = pa.repeat(pa.scalar(1, pa.int8()), len(offsets)) if has_weight else None
    return hidden_first(offsets.cast(pa.string()), offsets, weights, table)


def _latest_rows(connection: Connection, found: Entry, from_: int, to: int) -> pa.Table:
    """The latest event per key in (from_, to], where it is no deletion."""
    offsets, table = _decoded(connection, found, from_, to)
    events = identities(connection, found, from_, to)
    latest = {key: index for index, (key, _) in enumerate(events)}
    kept = sorted(index for index in latest.values() if not events[index][1])
    rids = [events[index][0] for index in kept]
    where = pa.array(kept, pa.int64())
    return hidden_first(rids, offsets.take(where), None, table.take(where))


def _changed_rows(connection: Connection, found: Entry, from_: int, to: int) -> pa.Table:
    """Both images of each row that changed in (from_, to], the old before the new, at the offset of its last event."""
    offsets, table = _decoded(connection, found, from_, to)
    events = identities(connection, found, from_, to)
    latest: dict[str, int] = {}
    for index, (key, is_deleted) in enumerate(events):
        if not (is_deleted and key in latest and events[latest[key]][1]):  # what is gone cannot go again
            latest[key] = index
    gone = _replaced(connection, found, from_, to, [key for key, _ in events])
    old = _decoded_at(connection, found, gone)
    where = {key: index for index, key in enumerate(gone)}
    added = [(key, index) for key, index in latest.items() if not events[index][1]]
    updated = [(key, index) for key, index in added if key in where]
    is_same = equal_rows(
        old.take(pa.array([where[key] for key, _ in updated], pa.int64())),
        table.take(pa.array([index for _, index in updated], pa.int64())),
    )
    unchanged = {key for (key, _), same in zip(updated, is_same, strict=True) if same}
    size = old.num_rows
    lines = [(latest[key], -1, key, where[key]) for key in gone if key not in unchanged]
    lines += [(index, 1, key, size + index) for key, index in added if key not in unchanged]
    lines.sort()
    rows = pa.concat_tables([old, table]).take(pa.array([at for *_, at in lines], pa.int64()))
    at = offsets.take(pa.array([index for index, *_ in lines], pa.int64()))
    return hidden_first([key for _, _, key, _ in lines], at, [weight for _, weight, *_ in lines], rows)


def _replaced(connection: Connection, found: Entry, from_: int, to: int, keys: list[str]) -> dict[str, int]:
    """The rows as they were at `from_` of the keys of these events in (from_, to]: key -> offset of its event."""
    if from_ <= 0:
        return {}
    earlier = connection.all(
        "select place, before from earlier where place > ? and place <= ?",
        (place(found.number, from_), place(found.number, to)),
    )
    first = to - len(keys) + 1
    # The first of a key's events leads out of the range; the others lead to those before them.
    return {keys[offset_of(at) - first]: before for at, before in earlier if before <= from_}


def _decoded_at(connection: Connection, found: Entry, gone: dict[str, int]) -> pa.Table:
    """The rows of events by themselves; of an event that retention has trimmed away, its key is known."""
    lines = blocks.lines_at(connection, found.number, list(gone.values()))
    whole = decoder_of(found.columns)
    tables = [whole.schema.empty_table()]
    order: list[str] = []
    for low, high, columns in _stretches(connection, found, 0, found.head):
        keys = [key for key, offset in gone.items() if low < offset <= high]
        payloads = [lines.get(gone[key]) or _only_key(found, key) for key in keys]
        tables.append(_shaped(decoder_of(columns).table(payloads, len(keys)), whole))
        order += keys
    where = {key: index for index, key in enumerate(order)}
    return pa.concat_tables(tables).take(pa.array([where[key] for key in gone], pa.int64()))


def _only_key(found: Entry, rid: str) -> bytes:
    return msgspec.json.encode(dict(zip(found.key or (), msgspec.json.decode(rid), strict=True)))


def identities(connection: Connection, found: Entry, from_: int, to: int) -> list[tuple[str, bool]]:
    """The key and whether it is a deletion, of each event in (from_, to]."""
    assert found.key is not None
    decode, loads = _key_decoder(found.columns, found.key)
    names = [f"k{place_}" for place_ in range(len(found.key))]
    result = []
    for _, _, payload in blocks.payloads(connection, found.number, from_, to):
        for event in decode(payload):
            values = [load(getattr(event, name)) for name, load in zip(names, loads, strict=True)]
            result.append((key_text(values), event.deleted is True))
    return result


@lru_cache(maxsize=256)
def _key_decoder(columns: tuple[Column, ...], key: tuple[str, ...]) -> tuple[Any, list[Any]]:
    kinds = dict(zip((column.name for column in columns), decoder_of(columns).kinds, strict=True))
    fields: list[Any] = [
        (f"k{place_}", kinds[name].fast | None if name in kinds else Any, None) for place_, name in enumerate(key)
    ]
    names = {f"k{place_}": name for place_, name in enumerate(key)} | {"deleted": DELETED}
    struct = msgspec.defstruct("Key", [*fields, ("deleted", Any, None)], rename=names, gc=False)
    loads = [kinds[name].load if name in kinds and kinds[name].load else lambda value: value for name in key]
    return msgspec.json.Decoder(struct).decode_lines, loads


def _version_rows(connection: Connection, found: Entry, from_: int, part: Slice) -> pa.Table:
    rows = connection.all(
        "select place, version from versions where place > ? and place <= ? order by place",
        (place(found.number, from_), place(found.number, part.to)),
    )
    offsets = [offset_of(place_) for place_, _ in rows]
    table = pa.table({VERSION_COLUMN.name: pa.array([version for _, version in rows], pa.string())})
    weights = [1] * len(rows) if part.images == Images.CHANGES else None
    return hidden_first([str(offset) for offset in offsets], offsets, weights, table)


def _image_rows(connection: Connection, found: Entry, part: Slice) -> pa.Table:
    if part.images == Images.STATE:
        rows = list(images.state(connection, found, part.to))
    else:
        rows = images.changes(connection, found, part.from_, part.to)
        if part.images == Images.ADDED:
            rows = [row for row in rows if row.weight > 0]
    table = decoder_of(found.columns).table([row.payload for row in rows], len(rows))
    return of_images(rows, table, has_weight=part.images == Images.CHANGES)
