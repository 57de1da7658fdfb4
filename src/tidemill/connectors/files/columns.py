"""Columns of files: DuckDB's type names as Arrow types, and text read as a value without loss.

Rules of this file:
  * text is a value of a type only where it says exactly that value: "5.7" and "" are no integers, 1e400 is no double;
  * a moment with an offset is converted to UTC; a moment without one is taken as UTC; a time of day has no offset;
  * every reading raises ValueError with one sentence; who calls knows the file and the line.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any
from uuid import UUID

import pyarrow as pa

from tidemill.core.model import Column

__all__ = ["array_of", "arrow_type", "from_json", "from_text", "type_name"]

_ZONED = "timestamp with time zone"
_PLAIN: Mapping[str, pa.DataType] = {
    "boolean": pa.bool_(), "tinyint": pa.int8(), "smallint": pa.int16(), "integer": pa.int32(), "bigint": pa.int64(),
    "utinyint": pa.uint8(), "usmallint": pa.uint16(), "uinteger": pa.uint32(), "ubigint": pa.uint64(),
    "hugeint": pa.decimal128(38, 0), "float": pa.float32(), "double": pa.float64(), "varchar": pa.string(),
    "json": pa.string(), "uuid": pa.string(), "blob": pa.binary(), "date": pa.date32(), "time": pa.time64("us"),
    "timestamp": pa.timestamp("us"), "timestamp_s": pa.timestamp("s"), "timestamp_ms": pa.timestamp("ms"),
    "timestamp_ns": pa.timestamp("ns"), _ZONED: pa.timestamp("us", "UTC"),
}  # fmt: skip
_DECIMAL = re.compile(r"decimal\((\d+),(\d+)\)")
_WHOLE = re.compile(r"[+-]?[0-9]+")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_NO_NUMBER = re.compile(r"[+-]?(?:inf|infinity|nan)", re.IGNORECASE)
_FRACTION = re.compile(r"[.,]([0-9]+)")
_TRUE, _FALSE = ("true", "t", "yes", "1"), ("false", "f", "no", "0")
_BITS = {"tinyint": 7, "smallint": 15, "integer": 31, "bigint": 63}
_UNSIGNED = {"utinyint": 8, "usmallint": 16, "uinteger": 32, "ubigint": 64}
_HUGEINT_MAX = 10**38 - 1
_FLOAT_MAX = 3.4028235677973362e38
"""Beyond this a number is rounded to no float but to infinity."""
_NANOSECONDS = (datetime(1677, 9, 22, tzinfo=UTC), datetime(2262, 4, 11, tzinfo=UTC))
"""The moments that nanoseconds in 64 bits reach."""


def arrow_type(name: str) -> pa.DataType:
    """The Arrow type of a DuckDB type; raises ValueError for one that files cannot hold."""
    if name in _PLAIN:
        return _PLAIN[name]
    if match := _DECIMAL.fullmatch(name):
        return pa.decimal128(int(match[1]), int(match[2]))
    if name.endswith("[]"):
        return pa.list_(arrow_type(name[:-2]))
    raise ValueError(f"files cannot hold the type {name}; use json and take it apart in SQL")


def type_name(kind: pa.DataType) -> str:
    """DuckDB's name of an Arrow type, for columns that a file tells itself."""
    if pa.types.is_decimal(kind):
        return f"decimal({kind.precision},{kind.scale})"
    if pa.types.is_timestamp(kind):
        return _ZONED if kind.tz else "timestamp"
    if pa.types.is_time(kind):
        return "time"
    if pa.types.is_dictionary(kind):
        return type_name(kind.value_type)
    if pa.types.is_nested(kind):
        return "json" if not pa.types.is_list(kind) else f"{type_name(kind.value_type)}[]"
    names: Mapping[str, str] = {str(arrow): name for name, arrow in reversed(list(_PLAIN.items()))}
    return names.get(str(kind), "blob" if "binary" in str(kind) else "varchar")


def from_text(text: str, column: Column) -> Any:
    """The value that a text says, for a column of this type. Raises ValueError."""
    try:
        value = _reader(column.type)(text)
    except (ValueError, InvalidOperation, OverflowError, RecursionError):
        raise ValueError(f'column {column.name} is {column.type} and "{text[:60]}" is not') from None
    return _in_range(value, text, column)


def _reader(name: str) -> Callable[[str], Any]:
    if name in _BITS or name in _UNSIGNED or name == "hugeint":
        return _whole
    if name in _READERS:
        return _READERS[name]
    if name.startswith("decimal"):
        return lambda text: _decimal(text, name)
    if name.startswith("timestamp"):
        return lambda text: _moment(text, name)
    return (lambda text: _list(text, name)) if name.endswith("[]") else str


def _list(text: str, name: str) -> list[Any]:
    found = json.loads(text, parse_constant=_not_json)
    if not isinstance(found, list):
        raise ValueError
    inner = Column("", name[:-2])
    return [from_json(item, inner) for item in found]


def _not_json(word: str) -> float:
    raise ValueError(f"{word} is not JSON")


def _whole(text: str) -> int:
    if not _WHOLE.fullmatch(text.strip()):
        raise ValueError
    return int(text)


def _boolean(text: str) -> bool:
    word = text.strip().lower()
    if word not in _TRUE + _FALSE:
        raise ValueError
    return word in _TRUE


def _decimal(text: str, name: str) -> Decimal:
    if not _NUMBER.fullmatch(text.strip()):
        raise ValueError
    value = Decimal(text.strip())
    match = _DECIMAL.fullmatch(name)
    width, scale = (int(match[1]), int(match[2])) if match else (38, 0)
    rounded = round(value, scale) if value.is_finite() else None
    if rounded is None or rounded != value or abs(value) >= Decimal(10) ** (width - scale):
        raise ValueError
    return rounded


def _double(text: str) -> float:
    said = text.strip()
    if _NO_NUMBER.fullmatch(said):
        return float(said)
    value = float(said) if _NUMBER.fullmatch(said) else math.inf
    if math.isinf(value):
        raise ValueError
    return value


def _moment(text: str, name: str) -> datetime:
    said = text.strip()
    _check_digits(said, {"timestamp_s": 0, "timestamp_ms": 3}.get(name, 6))
    value = datetime.fromisoformat(said)
    value = value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)
    if name == "timestamp_ns" and not _NANOSECONDS[0] <= value < _NANOSECONDS[1]:
        raise ValueError
    return value if name == _ZONED else value.replace(tzinfo=None)


def _time(text: str) -> time:
    _check_digits(text, 6)
    value = time.fromisoformat(text.strip())
    if value.tzinfo:
        raise ValueError
    return value


def _check_digits(text: str, most: int) -> None:
    """Raise ValueError for a time with more digits of a second than its column holds."""
    fraction = _FRACTION.search(text)
    if fraction and len(fraction[1].rstrip("0")) > most:
        raise ValueError


def _json_text(text: str) -> str:
    json.loads(text, parse_constant=_not_json)
    return text


_READERS: Mapping[str, Callable[[str], Any]] = {
    "boolean": _boolean,
    "float": _double,
    "double": _double,
    "date": lambda text: date.fromisoformat(text.strip()),
    "time": _time,
    "uuid": lambda text: str(UUID(text.strip())),
    "json": _json_text,
    "blob": lambda text: text.encode(),
}


def _in_range(value: Any, text: str, column: Column) -> Any:
    """The value, if its type has room for it."""
    bits = _BITS.get(column.type)
    unsigned = _UNSIGNED.get(column.type)
    too_big = bits is not None and not -(1 << bits) <= value < 1 << bits
    too_big = too_big or (column.type == "hugeint" and abs(value) > _HUGEINT_MAX)
    too_big = too_big or (column.type == "float" and math.isfinite(value) and abs(value) > _FLOAT_MAX)
    if too_big or (unsigned is not None and not 0 <= value < 1 << unsigned):
        raise ValueError(f'column {column.name} is {column.type} and "{text[:60]}" does not fit')
    return value


def from_json(value: Any, column: Column) -> Any:
    """The value of a JSON field for a column of this type. Raises ValueError."""
    name = column.type
    if value is None:
        return None
    if name == "json":
        return _json_of(value, column)
    if name.endswith("[]") and isinstance(value, list):
        inner = Column(column.name, name[:-2])
        return [from_json(item, inner) for item in value]
    if isinstance(value, str) and not (name in _BITS or name in _UNSIGNED or name in ("boolean", "hugeint")):
        return value if name == "varchar" else from_text(value, column)
    if name.startswith("decimal") and _is_number(value):
        return from_text(str(value), column)
    is_whole = name in _BITS or name in _UNSIGNED or name == "hugeint"
    value = _as_whole(value) if is_whole else value
    fits = _is_whole if is_whole else _JSON_FITS.get(name, _is_nothing)
    if not fits(value):
        raise ValueError(f"column {column.name} is {name} and {json.dumps(value, default=str)[:60]} is not")
    if name in ("double", "float") and not isinstance(value, float):
        return from_text(str(value), column)
    return _in_range(value, str(value), column)


def _json_of(value: Any, column: Column) -> str:
    try:
        return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=str)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"column {column.name} is json: {error}") from None


def array_of(values: Sequence[Any], column: Column) -> pa.Array:
    """Values that were read for a column, as its Arrow array. Raises ValueError."""
    try:
        return pa.array(values, arrow_type(column.type))
    except (pa.ArrowException, OverflowError, TypeError) as error:
        raise ValueError(f"column {column.name} is {column.type}: {error}") from None


def _as_whole(value: Any) -> Any:
    """A number without a fraction as an int: 2.0 is 2."""
    if isinstance(value, float | Decimal) and math.isfinite(value) and int(value) == value:
        return int(value)
    return value


def _is_nothing(_: Any) -> bool:
    return False


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | Decimal) and not isinstance(value, bool)


def _is_double(value: Any) -> bool:
    """A number that a double holds; of whole numbers those that it holds exactly."""
    if isinstance(value, int) and not isinstance(value, bool):
        return abs(value) < 1 << 1_000 and int(float(value)) == value
    return _is_number(value)


_JSON_FITS: Mapping[str, Callable[[Any], bool]] = {
    "boolean": lambda value: isinstance(value, bool),
    "double": _is_double,
    "float": _is_double,
}
