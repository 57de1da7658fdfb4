"""Rows crossing the port: Arrow in, JSON lines kept; JSON lines read, Arrow out.

Rules of this file:
  * the hidden columns come first and are never part of what is stored;
  * JSON conventions (rule 7): integers exact, decimals as strings, times ISO 8601, NaN as null, bytes as base64.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from tidemill.core.change import HIDDEN, OFFSET, ORDINAL, PARENT, RID, WEIGHT, ArrowStream, Statement
from tidemill.core.errors import ContractViolation, UserError
from tidemill.core.model import Column
from tidemill.stores.sqlite.contract import key_text
from tidemill.stores.sqlite.images import Image, NewRow
from tidemill.stores.sqlite.kinds import Kind
from tidemill.stores.sqlite.nested import kind_of

__all__ = ["as_table", "equal_rows", "hidden_first", "lines_of", "new_rows", "of_images", "rows_by_key", "weighed_rows"]

_encode = msgspec.json.Encoder().encode


def as_table(rows: ArrowStream | Statement) -> pa.Table:
    """The rows of an output."""
    if isinstance(rows, Statement):
        raise UserError("the ledger computes no SQL", mend="hand over rows, or keep the asset among the tables")
    return rows if isinstance(rows, pa.Table) else pa.table(rows)


def lines_of(table: pa.Table, columns: Sequence[Column]) -> list[bytes]:
    """Each row as a JSON object of the asset's columns (where it has none: of all visible ones), nulls left out."""
    kinds = {column.name: kind_of(column.type) for column in columns}
    names = list(kinds) or [name for name in table.column_names if name not in HIDDEN]
    missing = [name for name in names if name not in table.column_names]
    if missing and table.num_rows:
        raise ContractViolation(
            f"the rows have no column {', '.join(missing)}", mend="return every column of the asset"
        )
    values = [_values(table.column(name), kinds.get(name)) for name in names if name not in missing]
    if not values:
        return [b"{}"] * int(table.num_rows)
    return [
        _encode({name: value for name, value in zip(names, row, strict=True) if value is not None})
        for row in zip(*values, strict=True)
    ]


def _values(column: pa.ChunkedArray, kind: Kind | None) -> list[Any]:
    """The values of a column as JSON can hold them."""
    if kind is not None and column.type != kind.arrow:
        try:
            column = column.cast(kind.arrow)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
            raise ContractViolation(f"a value does not fit its column ({kind.name}): {error}") from None
    if pa.types.is_timestamp(column.type) and column.type.unit == "ns":
        column = column.cast(pa.string())
    values: list[Any] = column.to_pylist()
    if kind is None or kind.dump is None:
        return values
    return [None if value is None else kind.dump(value) for value in values]


def new_rows(table: pa.Table, columns: Sequence[Column]) -> list[NewRow]:
    """The rows of an output, named by themselves (`RID`) or by parent and ordinal."""
    rids = _hidden(table, RID)
    parents = _hidden(table, PARENT) if PARENT in table.column_names else rids
    given = zip(rids, parents, _hidden(table, ORDINAL), lines_of(table, columns), _hidden(table, OFFSET), strict=True)
    return [
        NewRow(_identity(rid, parent, ordinal), parent, line, offset) for rid, parent, ordinal, line, offset in given
    ]


def _identity(rid: str | None, parent: str | None, ordinal: int | None) -> str:
    """The identity that a row brings: its own, or its parent's with its ordinal; "" where it brings none.

    The ordinal 0 is left out only of a parent without a slash: else ('p', 1) and ('p/1', 0) would be one row.
    """
    if rid is not None or parent is None:
        return rid or ""
    is_plain = ordinal is None or (ordinal == 0 and "/" not in parent)
    return parent if is_plain else f"{parent}/{ordinal}"


def rows_by_key(table: pa.Table, columns: Sequence[Column], key: tuple[str, ...] | None) -> list[NewRow]:
    """The rows of a `Became`, named by their key, or by content and occurrence."""
    lines = lines_of(table, columns)
    if key is None:
        seen: Counter[str] = Counter()
        names = []
        for line in lines:
            content = hashlib.sha256(line).hexdigest()
            seen[content] += 1
            names.append(f"{content}#{seen[content]}")
    else:
        values = [table.column(name).to_pylist() for name in key]
        names = [key_text(list(row)) for row in zip(*values, strict=True)] if key else ["[]"] * len(lines)
    return [NewRow(name, None, line) for name, line in zip(names, lines, strict=True)]


def weighed_rows(table: pa.Table, columns: Sequence[Column]) -> list[tuple[NewRow, int]]:
    """The lines of a change set, each with its weight."""
    lines = zip(_hidden(table, RID), lines_of(table, columns), _hidden(table, WEIGHT), strict=True)
    return [(NewRow(rid, None, line), weight) for rid, line, weight in lines]


def _hidden(table: pa.Table, name: str) -> list[Any]:
    return table.column(name).to_pylist() if name in table.column_names else [None] * table.num_rows


def hidden_first(rids: Any, offsets: Any, weights: Any, table: pa.Table) -> pa.Table:
    """The hidden columns, then the asset's."""
    names, arrays = [RID, OFFSET], [_column(rids, pa.string()), _column(offsets, pa.int64())]
    if weights is not None:
        names.append(WEIGHT)
        arrays.append(_column(weights, pa.int8()))
    return pa.Table.from_arrays([*arrays, *table.columns], names=[*names, *table.column_names])


def _column(values: Any, type_: pa.DataType) -> pa.Array:
    return values if isinstance(values, pa.Array) else pa.array(values, type_)


def of_images(images: Sequence[Image], table: pa.Table, *, has_weight: bool) -> pa.Table:
    """A table of images, with the hidden columns first."""
    weights = [image.weight for image in images] if has_weight else None
    return hidden_first([image.rid for image in images], [image.offset for image in images], weights, table)


def equal_rows(left: pa.Table, right: pa.Table) -> list[bool]:
    """Of each row, whether it is the same in both tables, which have one schema; null equals null."""
    same = [True] * left.num_rows
    for old, new in zip(left.columns, right.columns, strict=True):
        if pa.types.is_nested(old.type) or pa.types.is_floating(old.type):
            found = [repr(a) == repr(b) for a, b in zip(old.to_pylist(), new.to_pylist(), strict=True)]
        else:
            both_null = pc.and_(pc.is_null(old), pc.is_null(new))
            found = pc.or_(both_null, pc.fill_null(pc.equal(old, new), False)).to_pylist()
        same = [before and now for before, now in zip(same, found, strict=True)]
    return same
