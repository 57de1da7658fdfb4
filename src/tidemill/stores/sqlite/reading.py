"""Reading slices: the rows of an asset's log or state, as typed Arrow tables.

Rules of this file:
  * a read sees one snapshot: that of the connection's open transaction;
  * the rows are ordered by offset, then row identity; positions are (from, to], from 0 means from what there is;
  * a position beyond the head, or below the trimmed floor, is an error and never an empty answer.

The shapes: an append topic is its events, each row's identity its offset as text. An upsert topic is the latest event
per key, identity the JSON text of the key values; of `CHANGES` it knows the keys and the new images, a deleted key is
one line of weight -1 with nulls (the old images are in the mirror, not here). Versions are rows of one column.
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
from tidemill.stores.sqlite import blocks, catalog, images
from tidemill.stores.sqlite.catalog import Entry
from tidemill.stores.sqlite.connection import Connection
from tidemill.stores.sqlite.contract import DELETED, key_text
from tidemill.stores.sqlite.decode import Decoder
from tidemill.stores.sqlite.rows import hidden_first, of_images
from tidemill.stores.sqlite.schema import offset_of, place

__all__ = ["VERSION_COLUMN", "Reading"]

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
        if found.key:
            return _latest_rows(self._connection, found, from_, part)
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
    is_below = part.images != Images.STATE and 0 < part.from_ < found.floor
    if is_below or 0 < part.to < found.floor:
        raise StateCorrupt(
            f"{part.asset} is read at ({part.from_}, {part.to}], but its log begins after {found.floor}",
            mend="the history was trimmed: rebuild the reader from the current rows",
        )


def _stretches(found: Entry, from_: int, to: int) -> Iterator[tuple[int, int, tuple[Column, ...]]]:
    """The range cut where columns were added: each part with the columns that existed then."""
    cuts = sorted({since for since in found.since.values() if from_ < since < to})
    for low, high in zip([from_, *cuts], [*cuts, to], strict=True):
        yield low, high, tuple(c for c in found.columns if found.since.get(c.name, 0) <= low)


def _decoded(connection: Connection, found: Entry, from_: int, to: int) -> tuple[pa.Array, pa.Table]:
    """The offsets and columns of all events in (from_, to]."""
    whole = decoder_of(found.columns)
    tables: list[pa.Table] = []
    total = 0
    for low, high, columns in _stretches(found, from_, to):
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


def _latest_rows(connection: Connection, found: Entry, from_: int, part: Slice) -> pa.Table:
    """The latest event per key in (from_, to]."""
    offsets, table = _decoded(connection, found, from_, part.to)
    identities = _identities(connection, found, from_, part.to)
    latest = {key: index for index, (key, _) in enumerate(identities)}
    kept = sorted(latest.values())
    if part.images != Images.CHANGES:
        kept = [index for index in kept if not identities[index][1]]
    weights = [-1 if identities[index][1] else 1 for index in kept] if part.images == Images.CHANGES else None
    rids = [identities[index][0] for index in kept]
    rows = table.take(pa.array(kept, pa.int64()))
    if weights is not None and -1 in weights:
        is_there = pa.array([weight > 0 for weight in weights])
        arrays = [pc.if_else(is_there, column, pa.scalar(None, column.type)) for column in rows.columns]
        rows = pa.Table.from_arrays(arrays, schema=rows.schema)
    return hidden_first(rids, offsets.take(pa.array(kept, pa.int64())), weights, rows)


def _identities(connection: Connection, found: Entry, from_: int, to: int) -> list[tuple[str, bool]]:
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
