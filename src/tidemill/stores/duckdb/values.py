"""A few Arrow rows as SQL text.

Rules of this file:
  * every value is written as text and cast to its exact type, so that nothing depends on how a parser reads a number;
  * a type or value that has no such text is not written here: the caller then registers the rows instead.

Theory of operation. Registering Arrow rows and scanning them costs DuckDB more than a millisecond, however few they are;
reading them as part of the statement's text costs a tenth of that. A realtime run hands over one row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyarrow as pa

from tidemill.stores.duckdb.database import literal, quoted

__all__ = ["ROWS_MAX", "as_rows", "as_values"]

ROWS_MAX = 32
BYTES_MAX = 65_536

_PLAIN: dict[Any, tuple[str, Callable[[Any], str]]] = {
    pa.null(): ("VARCHAR", str),
    pa.bool_(): ("BOOLEAN", str),
    pa.int8(): ("TINYINT", str),
    pa.int16(): ("SMALLINT", str),
    pa.int32(): ("INTEGER", str),
    pa.int64(): ("BIGINT", str),
    pa.float64(): ("DOUBLE", repr),
    pa.string(): ("VARCHAR", str),
    pa.large_string(): ("VARCHAR", str),
    pa.date32(): ("DATE", str),
    pa.timestamp("us"): ("TIMESTAMP", str),
}


def as_values(name: str, table: Any) -> str | None:
    """A common table expression with these rows, or None where they are too many or have no text."""
    rows = as_rows(table)
    return rows and f"{quoted(name)}({', '.join(map(quoted, table.column_names))}) AS (VALUES {rows})"


def as_rows(table: Any) -> str | None:
    """These rows as the inside of a VALUES, or None where they are too many or have no text."""
    if not 0 < table.num_rows <= ROWS_MAX or table.nbytes > BYTES_MAX:
        return None
    columns = [_texts(column) for column in table.columns]
    if any(column is None for column in columns):
        return None
    return ", ".join(f"({', '.join(row)})" for row in zip(*filter(None, columns), strict=True))


def _texts(column: Any) -> list[str] | None:
    """One column's values as SQL text."""
    kind = _kind(column.type)
    if kind is None:
        return None
    type_name, text = kind
    try:
        values = column.to_pylist()
    except (ValueError, OverflowError):  # a moment beyond what Python's calendar holds
        return None
    return [f"{'NULL' if value is None else literal(text(value))}::{type_name}" for value in values]


def _kind(arrow: Any) -> tuple[str, Callable[[Any], str]] | None:
    if pa.types.is_decimal128(arrow):
        return f"DECIMAL({arrow.precision},{arrow.scale})", str
    return _PLAIN.get(arrow)
