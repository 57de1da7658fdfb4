"""Parquet: the file has types of its own; they are cast to the declared ones only where nothing is lost.

Rules of this file:
  * what becomes of columns that are not declared, or missing, is the asset's policy (drift.py);
  * a value that the declared type cannot hold exactly rejects the file, naming the column and the value.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tidemill.connectors.files.columns import array_of, arrow_type, from_json, from_text, type_name
from tidemill.connectors.files.content import rejected
from tidemill.connectors.files.drift import settled
from tidemill.core.model import Column
from tidemill.core.schema import Policy

__all__ = ["infer", "read"]

_BROKEN = (pa.ArrowException, OSError, ValueError, OverflowError)
"""What reading a file that is damaged may raise; names that are no text are ValueErrors."""


def read(data: bytes, file: str, columns: Sequence[Column], policy: Policy) -> tuple[pa.Table, tuple[str, ...]]:
    """The rows of a file, in declared columns, and the names of columns left out. Raises UpstreamError."""
    table = _table(data, file)
    names, left_out = settled(table.column_names, columns, policy, file)
    table = table.rename_columns(names)
    found = [_column(table, column, file) for column in columns]
    return pa.table(found, names=[column.name for column in columns]), left_out


def _table(data: bytes, file: str) -> pa.Table:
    try:
        table = pq.read_table(pa.BufferReader(data))
        names = table.column_names
    except _BROKEN as error:
        raise rejected(file, 0, f"it is not Parquet: {error}") from None
    doubled = next((name for index, name in enumerate(names) if name in names[:index]), None)
    if doubled is not None:
        raise rejected(file, 0, f"it has the column {doubled or 'of no name'} twice")
    return table


def _column(table: pa.Table, column: Column, file: str) -> pa.ChunkedArray:
    kind = arrow_type(column.type)
    if column.name not in table.column_names:
        return pa.chunked_array([pa.nulls(table.num_rows, kind)])
    found = table.column(column.name)
    if column.required and found.null_count:
        raise rejected(file, 0, f"the required column {column.name} is null in {found.null_count} rows")
    return found if found.type == kind else _cast(found, column, kind, file)


def _cast(found: pa.ChunkedArray, column: Column, kind: pa.DataType, file: str) -> pa.ChunkedArray:
    if not pa.types.is_string(found.type) and not pa.types.is_nested(found.type) and column.type != "json":
        try:
            cast = found.cast(kind)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            pass
        else:
            if not _overflows(found, cast):
                return cast
    try:
        said = found.to_pylist()
    except (pa.ArrowException, ValueError, OverflowError):
        raise rejected(
            file, 0, f"column {column.name} is {column.type} and {found.type} has values beyond it"
        ) from None
    values = []
    for row, value in enumerate(said, 1):
        try:
            values.append(_exact(value, column))
        except (ValueError, TypeError):
            message = f"row {row}: column {column.name} is {column.type} and {value!r} does not fit"
            raise rejected(file, 0, message) from None
    try:
        return pa.chunked_array([array_of(values, column)])
    except ValueError as error:
        raise rejected(file, 0, str(error)) from None


def _overflows(found: pa.ChunkedArray, cast: pa.ChunkedArray) -> bool:
    """Whether a cast made numbers infinite that were not."""
    if not pa.types.is_floating(cast.type):
        return False
    before = pc.sum(pc.is_inf(found)).as_py() if pa.types.is_floating(found.type) else 0
    return bool((pc.sum(pc.is_inf(cast)).as_py() or 0) > (before or 0))


def _exact(value: object, column: Column) -> object:
    return from_text(value, column) if isinstance(value, str) and column.type != "varchar" else from_json(value, column)


def infer(data: bytes, file: str) -> tuple[Column, ...]:
    """The columns that the file declares."""
    try:
        schema = pq.read_schema(pa.BufferReader(data))
        return tuple(Column(field.name, type_name(field.type)) for field in schema)
    except _BROKEN as error:
        raise rejected(file, 0, f"it is not Parquet: {error}") from None
