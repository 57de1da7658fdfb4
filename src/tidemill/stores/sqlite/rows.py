"""Rows crossing the port: Arrow in, JSON lines kept; JSON lines read, Arrow out.

Rules of this file:
  * the hidden columns come first and are never part of what is stored;
  * JSON conventions (rule 7): integers exact, decimals as strings, times ISO 8601, NaN as null, bytes as base64.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import pyarrow as pa

from tidemill.core.change import HIDDEN, OFFSET, ORDINAL, PARENT, RID, WEIGHT, ArrowStream, Statement
from tidemill.core.errors import UserError
from tidemill.core.model import Column
from tidemill.stores.sqlite.contract import key_text
from tidemill.stores.sqlite.images import Image, NewRow
from tidemill.stores.sqlite.nested import kind_of

__all__ = ["as_table", "columns_of", "hidden_first", "lines_of", "new_rows", "of_images"]

_encode = msgspec.json.Encoder().encode

_NAMES = {
    "int8": "tinyint",
    "int16": "smallint",
    "int32": "integer",
    "int64": "bigint",
    "uint8": "utinyint",
    "uint16": "usmallint",
    "uint32": "uinteger",
    "uint64": "ubigint",
    "float": "float",
    "double": "double",
    "bool": "boolean",
    "string": "varchar",
    "large_string": "varchar",
    "string_view": "varchar",
    "binary": "blob",
    "large_binary": "blob",
    "date32[day]": "date",
    "time64[us]": "time",
    "timestamp[us]": "timestamp",
    "timestamp[us, tz=UTC]": "timestamptz",
    "null": "varchar",
}


def as_table(rows: ArrowStream | Statement) -> pa.Table:
    """The rows of an output."""
    if isinstance(rows, Statement):
        raise UserError("the ledger computes no SQL", mend="hand over rows, or keep the asset among the tables")
    return rows if isinstance(rows, pa.Table) else pa.table(rows)


def columns_of(table: pa.Table) -> tuple[Column, ...]:
    """A shape for an asset that nobody has defined: the columns of its first rows."""
    return tuple(Column(field.name, _name_of(field.type)) for field in table.schema if field.name not in HIDDEN)


def _name_of(type_: pa.DataType) -> str:
    if pa.types.is_decimal128(type_):
        return f"decimal({type_.precision}, {type_.scale})"
    if str(type_) not in _NAMES:
        raise UserError(f"the ledger keeps no column of type {type_}")
    return _NAMES[str(type_)]


def lines_of(table: pa.Table, columns: Sequence[Column]) -> list[bytes]:
    """Each row as a JSON object of its visible columns, nulls left out."""
    names = [name for name in table.column_names if name not in HIDDEN]
    kinds = {column.name: kind_of(column.type) for column in columns}
    values = []
    for name in names:
        kind = kinds.get(name)
        column = table.column(name)
        if kind is not None and column.type != kind.arrow and not pa.types.is_null(column.type):
            column = column.cast(kind.arrow)
        if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
            column = column.cast(pa.string())
        found = column.to_pylist()
        if kind is not None and kind.dump is not None:
            found = [None if value is None else kind.dump(value) for value in found]
        values.append(found)
    if not names:
        return [b"{}"] * table.num_rows
    return [
        _encode({name: value for name, value in zip(names, row, strict=True) if value is not None})
        for row in zip(*values, strict=True)
    ]


def new_rows(table: pa.Table, columns: Sequence[Column], key: tuple[str, ...] | None) -> list[NewRow]:
    """The rows of an output with their identities."""
    parents = _hidden(table, PARENT)
    ordinals = _hidden(table, ORDINAL)
    lines = lines_of(table, columns)
    if key:
        keys = [key_text([row[name] for name in key]) for row in table.select(list(key)).to_pylist()]
    elif RID in table.column_names:
        keys = _hidden(table, RID)
    elif PARENT in table.column_names:
        keys = [key_text([parent, ordinal or 0]) for parent, ordinal in zip(parents, ordinals, strict=True)]
    else:
        keys = [""] * table.num_rows
    return [NewRow(*each) for each in zip(keys, parents, lines, strict=True)]


def _hidden(table: pa.Table, name: str) -> list[Any]:
    return table.column(name).to_pylist() if name in table.column_names else [None] * table.num_rows


def hidden_first(rids: Any, offsets: Any, weights: Any, table: pa.Table) -> pa.Table:
    """The hidden columns, then the asset's."""
    names, arrays = [RID, OFFSET], [pa.array(rids, pa.string()), pa.array(offsets, pa.int64())]
    if weights is not None:
        names.append(WEIGHT)
        arrays.append(pa.array(weights, pa.int8()))
    return pa.Table.from_arrays([*arrays, *table.columns], names=[*names, *table.column_names])


def of_images(images: Sequence[Image], table: pa.Table, *, has_weight: bool) -> pa.Table:
    """A table of images, with the hidden columns first."""
    weights = [image.weight for image in images] if has_weight else None
    return hidden_first([image.rid for image in images], [image.offset for image in images], weights, table)
