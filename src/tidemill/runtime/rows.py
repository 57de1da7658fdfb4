"""Rows between Arrow and Python, at the edges of the runtime where there are few of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from tidemill.core.change import OFFSET, RID, ArrowStream

__all__ = ["as_table", "dicts", "offsets", "row_ids", "table_of"]


def as_table(stream: ArrowStream) -> pa.Table:
    """All rows of a stream."""
    return stream if isinstance(stream, pa.Table) else pa.table(stream)


def row_ids(stream: ArrowStream) -> list[str]:
    """The identities in a stream, each once, in order of first appearance."""
    return list(dict.fromkeys(as_table(stream).column(RID).to_pylist()))


def offsets(stream: ArrowStream) -> list[tuple[int, str]]:
    """(offset, identity) of every row."""
    table = as_table(stream)
    return list(zip(table.column(OFFSET).to_pylist(), table.column(RID).to_pylist(), strict=True))


def dicts(stream: ArrowStream) -> list[dict[str, Any]]:
    """All rows as dictionaries."""
    rows: list[dict[str, Any]] = as_table(stream).to_pylist()
    return rows


def table_of(schema: pa.Schema, rows: Sequence[Mapping[str, Any]]) -> pa.Table:
    """Rows as a table of exactly this schema."""
    return pa.Table.from_pylist([dict(row) for row in rows], schema=schema)
