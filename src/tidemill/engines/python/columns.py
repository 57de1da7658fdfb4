"""Columns between DuckDB's names and Arrow, and rows of a function made into typed columns without loss.

Rules of this file:
  * a value is stored exactly or refused with the column and the value: 5.0 fits integer, 5.7 does not, "5" does not;
  * declared columns are all there in the result, in their order; a row may leave out what is not required;
  * without declared columns the types come from the values of one run: whole numbers are bigint, with any fraction
    double; a column that only ever was null is varchar. Declare columns where that is not what you mean.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa

from tidemill.core.errors import UserError
from tidemill.core.model import Column

__all__ = ["arrow_schema", "arrow_type", "cast_table", "columns_of", "table_of"]

_ZONED = "timestamp with time zone"
_PLAIN: Mapping[str, pa.DataType] = {
    "boolean": pa.bool_(), "tinyint": pa.int8(), "smallint": pa.int16(), "integer": pa.int32(), "bigint": pa.int64(),
    "utinyint": pa.uint8(), "usmallint": pa.uint16(), "uinteger": pa.uint32(), "ubigint": pa.uint64(),
    "hugeint": pa.decimal128(38, 0), "float": pa.float32(), "double": pa.float64(), "varchar": pa.string(),
    "json": pa.string(), "uuid": pa.string(), "blob": pa.binary(), "date": pa.date32(), "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"), "timestamp_s": pa.timestamp("s"), "timestamp_ms": pa.timestamp("ms"),
    "timestamp_ns": pa.timestamp("ns"), _ZONED: pa.timestamp("us", "UTC"), "interval": pa.month_day_nano_interval(),
}  # fmt: skip
_NAMES: Mapping[str, str] = {str(arrow): name for name, arrow in reversed(list(_PLAIN.items()))} | {
    "null": "varchar", "string": "varchar", "large_string": "varchar", "string_view": "varchar", "large_binary": "blob",
    "date64[ms]": "date", "halffloat": "float",
}  # fmt: skip
_DECIMAL = re.compile(r"decimal\((\d+),(\d+)\)")
_LIST = re.compile(r"(.+)\[\d*\]")


def arrow_type(name: str) -> pa.DataType | None:
    """The Arrow type of a DuckDB type; None for one (struct, map, enum) that is taken as it comes."""
    if name in _PLAIN:
        return _PLAIN[name]
    if match := _DECIMAL.fullmatch(name):
        return pa.decimal128(int(match[1]), int(match[2]))
    if match := _LIST.fullmatch(name):
        inner = arrow_type(match[1])
        return pa.list_(inner) if inner is not None else None
    return None


def arrow_schema(columns: Sequence[Column]) -> pa.Schema:
    """The Arrow schema of declared columns (nested ones as null type, for the reader to widen)."""
    return pa.schema([(column.name, arrow_type(column.type) or pa.null()) for column in columns])


def columns_of(schema: pa.Schema) -> tuple[Column, ...]:
    """DuckDB's columns for an Arrow schema."""
    return tuple(Column(field.name, _type_name(field.type)) for field in schema)


def _type_name(kind: pa.DataType) -> str:
    if pa.types.is_decimal(kind):
        return f"decimal({kind.precision},{kind.scale})"
    if pa.types.is_timestamp(kind):
        return (
            _ZONED
            if kind.tz
            else {"s": "timestamp_s", "ms": "timestamp_ms", "ns": "timestamp_ns"}.get(kind.unit, "timestamp")
        )
    if pa.types.is_time(kind):
        return "time"
    if pa.types.is_dictionary(kind):
        return _type_name(kind.value_type)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        return f"{_type_name(kind.value_type)}[]"
    if pa.types.is_struct(kind):
        return f"struct({', '.join(f'{_quoted(field.name)} {_type_name(field.type)}' for field in kind)})"
    if pa.types.is_map(kind):
        return f"map({_type_name(kind.key_type)}, {_type_name(kind.item_type)})"
    return _NAMES.get(str(kind), "varchar")


def _quoted(name: str) -> str:
    escaped = name.replace('"', '""')
    return f'"{escaped}"'


def table_of(rows: Sequence[Mapping[str, Any]], columns: Sequence[Column]) -> pa.Table:
    """Rows as an Arrow table: typed as declared, or by their values. Raises UserError naming column and value."""
    if columns:
        _refuse_strangers(rows, columns)
        arrays = [_typed([row.get(column.name) for row in rows], column) for column in columns]
        return pa.table(arrays, names=[column.name for column in columns])
    names = dict.fromkeys(name for row in rows for name in row)
    return pa.table({name: _roomy(_inferred([row.get(name) for row in rows], name)) for name in names})


def _roomy(values: pa.Array) -> pa.Array:
    """Inferred decimals get all the digits there are, so that the first rows do not decide what later ones may be."""
    kind = values.type
    return values.cast(pa.decimal128(38, kind.scale)) if pa.types.is_decimal128(kind) else values


def _refuse_strangers(rows: Iterable[Mapping[str, Any]], columns: Sequence[Column]) -> None:
    known = {column.name for column in columns}
    for row in rows:
        if not row.keys() <= known:
            stranger = min(row.keys() - known)
            raise UserError(
                f"the result has a column {stranger} that is not declared",
                mend=f"declare it, or leave it out; the columns are {', '.join(column.name for column in columns)}",
            )


def _typed(values: list[Any], column: Column) -> pa.Array:
    kind = arrow_type(column.type)
    if column.required and any(value is None for value in values):
        raise UserError(
            f"column {column.name} is required and a row has none", mend=f"return a value for {column.name}"
        )
    if kind is None:
        return _array(values, None, column)
    return _array([_exact(value, kind, column) for value in values], kind, column)


def _exact(value: Any, kind: pa.DataType, column: Column) -> Any:
    """The value in the form that Arrow stores exactly; raises UserError for one that does not fit."""
    if value is None:
        return None
    if pa.types.is_integer(kind):
        return _whole(value, column)
    if pa.types.is_floating(kind):
        return value if isinstance(value, int | float) and not isinstance(value, bool) else _number(value, column)
    if pa.types.is_decimal(kind):
        return _decimal(value, column)
    if pa.types.is_boolean(kind):
        return value if value is True or value is False else _misfit(value, column)
    if pa.types.is_string(kind):
        return value if isinstance(value, str) else _misfit(value, column)
    if pa.types.is_timestamp(kind):
        return _moment(value, kind, column)
    if pa.types.is_date(kind):
        return value if isinstance(value, date) and not isinstance(value, datetime) else _day(value, column)
    return value


def _misfit(value: Any, column: Column) -> Any:
    shown = repr(value)
    raise UserError(
        f"column {column.name} is {column.type} and {shown[:80]} does not fit",
        mend=f"return a value that is {column.type}",
    )


def _whole(value: Any, column: Column) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal) or not _is_whole(value):
        _misfit(value, column)
    return int(value)


def _is_whole(value: float | Decimal) -> bool:
    return math.isfinite(value) and int(value) == value


def _number(value: Any, column: Column) -> float:
    if not isinstance(value, Decimal) or Decimal(float(value)) != value:
        _misfit(value, column)
    return float(value)


def _decimal(value: Any, column: Column) -> Decimal:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        _misfit(value, column)
    exact = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    scale = int(column.type.rpartition(",")[2].rstrip(")")) if "," in column.type else 0
    rounded = round(exact, scale) if exact.is_finite() else _misfit(value, column)
    return rounded if rounded == exact else _misfit(value, column)


def _moment(value: Any, kind: pa.DataType, column: Column) -> datetime:
    if not isinstance(value, datetime):
        if not isinstance(value, date):
            _misfit(value, column)
        value = datetime(value.year, value.month, value.day)  # noqa: DTZ001 - a day has no zone
    moment: datetime = value
    if kind.tz:
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    return moment.astimezone(UTC).replace(tzinfo=None) if moment.tzinfo else moment


def _day(value: Any, column: Column) -> date:
    if not isinstance(value, datetime) or (value.hour, value.minute, value.second, value.microsecond) != (0, 0, 0, 0):
        _misfit(value, column)
    day: date = value.date()
    return day


def _array(values: list[Any], kind: pa.DataType | None, column: Column) -> pa.Array:
    try:
        return pa.array(values, kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, ValueError):
        culprit = next((value for value in values if not _fits(value, kind)), values[0] if values else None)
        return _misfit(culprit, column)


def _fits(value: Any, kind: pa.DataType | None) -> bool:
    try:
        pa.array([value], kind)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, ValueError):
        return False
    return True


def _inferred(values: list[Any], name: str) -> pa.Array:
    if any(isinstance(value, float) for value in values) and any(isinstance(value, int) for value in values):
        values = [float(value) if isinstance(value, int) and not isinstance(value, bool) else value for value in values]
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError, ValueError):
        kinds = sorted({type(value).__name__ for value in values if value is not None})
        raise UserError(
            f"column {name} has values of different types: {', '.join(kinds)}", mend="declare columns={...} for the job"
        ) from None


def cast_table(table: pa.Table, columns: Sequence[Column]) -> pa.Table:
    """A table that a function returned, typed as declared; without declared columns as it is."""
    if not columns:
        return table
    known = {column.name for column in columns}
    strangers = [name for name in table.column_names if name not in known]
    if strangers:
        raise UserError(
            f"the result has a column {strangers[0]} that is not declared",
            mend=f"declare it, or leave it out; the columns are {', '.join(column.name for column in columns)}",
        )
    return pa.table([_cast(table, column) for column in columns], names=[column.name for column in columns])


def _cast(table: pa.Table, column: Column) -> pa.ChunkedArray:
    kind = arrow_type(column.type)
    if column.name not in table.column_names:
        if column.required:
            raise UserError(f"column {column.name} is required and the result has none", mend=f"return {column.name}")
        return pa.chunked_array([pa.nulls(table.num_rows, kind or pa.null())])
    found = table.column(column.name)
    if column.required and found.null_count:
        raise UserError(
            f"column {column.name} is required and a row has none", mend=f"return a value for {column.name}"
        )
    if kind is None or found.type == kind:
        return found
    if _is_plain_cast(found.type, kind):
        try:
            return found.cast(kind)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            pass
    return pa.chunked_array([_typed(found.to_pylist(), column)], kind)


def _is_plain_cast(found: pa.DataType, kind: pa.DataType) -> bool:
    """Casts that Arrow itself refuses where they would lose something; text is never read as a number."""
    numbers: bool = pa.types.is_integer(found) and (pa.types.is_integer(kind) or pa.types.is_decimal(kind))
    texts: bool = pa.types.is_large_string(found) and pa.types.is_string(kind)
    return numbers or texts or bool(pa.types.is_null(found) or pa.types.is_dictionary(found))
