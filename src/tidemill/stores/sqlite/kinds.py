"""The types of columns: what the door accepts for each, and how a stored value is read back.

Rules of this file:
  * only lossless casts (rule 7): '5' and 5.0 are the integer 5; 5.7 and '5.7' are refused, never rounded;
  * `check` is the authority: it takes a value as JSON has it (numbers with a point as `Decimal`) and returns the value
    to store, *the same object* where nothing is to change, or raises ValueError with the reason;
  * `door` is a shortcut: what decodes into it is exactly what `check` returns unchanged (if `is_exact`);
  * what is stored always decodes into `fast`, and `load` of that is the value in the column.

Decisions where DuckDB's rule leaves a choice:
  * varchar takes text, and integers as their text; other numbers and booleans are refused (they have several texts);
  * boolean takes true and false and their text; numbers are refused;
  * double and float take any number in range, rounded to the nearest (as every JSON reader does); NaN and infinity
    have no JSON form and are refused, also as text;
  * timestamp takes ISO 8601; an offset converts to UTC and stays in the stored line, being the sender's word; without
    one the time is UTC. More digits than the column holds are refused unless they are zeros;
  * hugeint and uhugeint take up to 38 digits (the widest integer that Arrow carries);
  * the members of a struct that the type does not name stay in the line, invisible; blob is base64; map is an object.
"""

from __future__ import annotations

import datetime as dt
import re
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Context, Decimal, InvalidOperation
from typing import Annotated, Any

import msgspec
import pyarrow as pa

__all__ = ["Kind", "number_of", "refuse"]

Check = Callable[[Any], Any]

_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_FRACTION = re.compile(r"[.,]([0-9]+)")
_UUID = "^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$"
_DIGITS_MAX = 38
_WIDE = Context(prec=80)
_EPOCH = dt.datetime(1970, 1, 1)  # noqa: DTZ001 - naive on purpose: timestamps are naive and mean UTC


@dataclass(frozen=True, slots=True)
class Kind:
    """One type of columns.

    `bulk` is the type that pyarrow's JSON reader takes for it (None: it has none, or reads it otherwise than we do).
    `dump` turns a value that came out of an Arrow column into one that JSON can hold (None: it is one).
    """

    name: str
    arrow: pa.DataType
    bulk: pa.DataType | None
    fast: Any
    check: Check
    door: Any = Any
    load: Check | None = None
    dump: Check | None = None
    is_exact: bool = True
    has_fraction: bool = False


def refuse(value: Any, kind: str, why: str = "") -> ValueError:
    """The reason for refusing a value."""
    shown = msgspec.json.encode(value).decode() if not isinstance(value, Decimal) else str(value)
    shown = shown if len(shown) <= 80 else shown[:77] + "..."
    return ValueError(f"{shown} is not a lossless {kind}{': ' + why if why else ''}")


def number_of(value: Any) -> Decimal | int | None:
    """The exact number that a JSON value is, or that its text spells; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int | Decimal):
        return value
    if isinstance(value, str) and _NUMBER.fullmatch(value.strip()):
        return Decimal(value.strip())
    return None


def integer(name: str, low: int, high: int, arrow: pa.DataType) -> Kind:
    """An integer type of the range [low, high]."""

    def check(value: Any) -> Any:
        number = number_of(value)
        if number is None:
            raise refuse(value, name)
        if isinstance(number, Decimal):
            if number.is_zero():
                number = 0
            elif number.adjusted() > _DIGITS_MAX or number != number.to_integral_value(context=_WIDE):
                raise refuse(value, name, "it has a fraction or is out of range")
        if not low <= number <= high:
            raise refuse(value, name, "out of range")
        return value if type(value) is int else int(number)

    is_small = low >= -(2**63) and high < 2**63
    door = Annotated[int, msgspec.Meta(ge=low, le=high)] if is_small else Any
    is_bulk = is_small or pa.types.is_uint64(arrow)
    load, dump = (None, None) if is_bulk else (Decimal, int)
    bulk = arrow if is_bulk else None
    return Kind(name, arrow, bulk, int, check, door, load=load, dump=dump, is_exact=is_small)


def real(name: str, high: float, arrow: pa.DataType) -> Kind:
    """A floating point type; read as a double and, for `float`, rounded to its width afterwards."""

    def check(value: Any) -> Any:
        number = number_of(value)
        if number is None:
            raise refuse(value, name)
        try:
            is_in_range = abs(float(number)) <= high
        except OverflowError:
            is_in_range = False
        if not is_in_range:
            raise refuse(value, name, "out of range")
        return number if isinstance(value, str) else value

    door = Annotated[float, msgspec.Meta(ge=-high, le=high)] if high < 1e300 else float
    return Kind(name, arrow, pa.float64(), float, check, door)


def decimal(name: str, precision: int, scale: int) -> Kind:
    """An exact decimal of so many digits, `scale` of them after the point."""
    unit = Decimal(1).scaleb(-scale)
    high = Decimal(10) ** (precision - scale)

    def check(value: Any) -> Any:
        number = number_of(value)
        if number is None:
            raise refuse(value, name)
        exact = Decimal(number)
        if exact.adjusted() > _DIGITS_MAX or abs(exact) >= high:
            raise refuse(value, name, "out of range")
        try:
            is_lossless = exact.quantize(unit, context=_WIDE) == exact
        except InvalidOperation:
            is_lossless = False
        if not is_lossless:
            raise refuse(value, name, f"more than {scale} digits after the point")
        return value.strip() if isinstance(value, str) and value != value.strip() else value

    def load(value: Decimal) -> Decimal:
        return value.quantize(unit, context=_WIDE)

    arrow = pa.decimal128(precision, scale)
    return Kind(name, arrow, arrow, Decimal, check, load=load, is_exact=False)


def boolean(name: str) -> Kind:
    """True or false."""

    def check(value: Any) -> Any:
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in {"true", "false"}:
            return value.lower() == "true"
        raise refuse(value, name)

    return Kind(name, pa.bool_(), pa.bool_(), bool, check, bool)


def text(name: str) -> Kind:
    """Text of any length."""

    def check(value: Any) -> Any:
        if isinstance(value, str):
            return value
        if isinstance(value, int) and not isinstance(value, bool):
            return str(value)
        raise refuse(value, name)

    return Kind(name, pa.string(), pa.string(), str, check, str)


def choice(name: str, values: tuple[str, ...]) -> Kind:
    """One of a few texts."""
    allowed = frozenset(values)

    def check(value: Any) -> Any:
        if isinstance(value, str) and value in allowed:
            return value
        raise refuse(value, "value of the enum", "it must be one of " + ", ".join(values))

    return Kind(name, pa.string(), pa.string(), str, check, is_exact=False)


def identifier(name: str) -> Kind:
    """A UUID, stored in its canonical text."""

    def check(value: Any) -> Any:
        try:
            canonical = str(uuid.UUID(value))
        except (ValueError, AttributeError, TypeError):
            raise refuse(value, name) from None
        return value if value == canonical else canonical

    return Kind(name, pa.string(), pa.string(), str, check, Annotated[str, msgspec.Meta(pattern=_UUID)])


def bytes_(name: str) -> Kind:
    """Bytes, as base64 in JSON."""

    def check(value: Any) -> Any:
        try:
            msgspec.convert(value, bytes)
        except msgspec.ValidationError:
            raise refuse(value, name, "it must be base64") from None
        return value

    return Kind(name, pa.binary(), None, bytes, check, bytes)


def anything(name: str) -> Kind:
    """Any JSON value; the column holds its text."""

    def dump(value: Any) -> Any:
        return msgspec.Raw(value.encode())

    return Kind(name, pa.string(), None, msgspec.Raw, lambda value: value, msgspec.Raw, load=_raw_text, dump=dump)


def _raw_text(raw: msgspec.Raw) -> str | None:
    found = bytes(raw).decode()
    return None if found == "null" else found


def excess(value: str, digits: int) -> bool:
    """Whether the text of a time has digits other than zeros after the first `digits` of its fraction."""
    found = _FRACTION.search(value)
    return bool(found and found[1][digits:].strip("0"))


def utc(moment: dt.datetime) -> dt.datetime:
    """The same moment in UTC, without its offset; raises OverflowError outside the years 1 to 9999."""
    zone = moment.tzinfo
    if zone is None:
        return moment
    return (moment if zone is dt.UTC else moment.astimezone(dt.UTC)).replace(tzinfo=None)


def date(name: str) -> Kind:
    """A day."""

    def check(value: Any) -> Any:
        try:
            msgspec.convert(value, dt.date)
        except msgspec.ValidationError:
            pass
        else:
            return value
        try:
            moment = dt.datetime.fromisoformat(value)
        except (ValueError, TypeError):
            raise refuse(value, name) from None
        if moment.tzinfo or moment.time() != dt.time() or excess(value, 0):
            raise refuse(value, name, "it has a time of day")
        return moment.date().isoformat()

    return Kind(name, pa.date32(), None, dt.date, check, dt.date)


def time(name: str) -> Kind:
    """A time of day, without an offset."""
    plain = Annotated[dt.time, msgspec.Meta(tz=False)]

    def check(value: Any) -> Any:
        if isinstance(value, str) and excess(value, 6):
            raise refuse(value, name, "more than 6 digits of a second")
        try:
            msgspec.convert(value, plain)
        except msgspec.ValidationError:
            pass
        else:
            return value
        try:
            moment = dt.time.fromisoformat(value)
        except (ValueError, TypeError):
            raise refuse(value, name) from None
        if moment.tzinfo:
            raise refuse(value, name, "an offset has no meaning without a day")
        return moment.isoformat()

    return Kind(name, pa.time64("us"), None, plain, check, plain, has_fraction=True)


_UNITS = {0: "s", 3: "ms", 6: "us", 9: "ns"}


def timestamp(name: str, digits: int, *, is_zoned: bool = False) -> Kind:
    """A moment with so many digits of a second. An offset converts to UTC; without one it is UTC."""
    fast = Annotated[dt.datetime, msgspec.Meta(tz=True)] if is_zoned else dt.datetime

    def check(value: Any) -> Any:
        if isinstance(value, str) and excess(value, digits):
            raise refuse(value, name, f"more than {digits} digits of a second")
        try:
            moment = msgspec.convert(value, fast)
            unchanged = True
        except msgspec.ValidationError:
            moment = _moment(value, name)
            unchanged = False
        try:
            plain = utc(moment)
        except OverflowError:
            raise refuse(value, name, "out of range") from None
        return value if unchanged else plain.isoformat() + "Z" * is_zoned

    arrow = pa.timestamp(_UNITS[digits], "UTC" if is_zoned else None)
    if digits == 9:
        return Kind(name, arrow, None, str, check, load=_nanoseconds, is_exact=False, has_fraction=True)
    is_micro = digits == 6
    bulk = arrow if is_micro else None
    return Kind(name, arrow, bulk, fast, check, fast if is_micro else Any, utc, None, is_micro, has_fraction=True)


def _moment(value: Any, name: str) -> dt.datetime:
    try:
        return dt.datetime.fromisoformat(value)
    except (ValueError, TypeError):
        raise refuse(value, name) from None


def _nanoseconds(value: str) -> int:
    """Nanoseconds since the epoch; Python's datetime knows only microseconds."""
    moment = utc(dt.datetime.fromisoformat(value))
    found = _FRACTION.search(value)
    seconds = (moment.replace(microsecond=0) - _EPOCH) // dt.timedelta(seconds=1)
    return seconds * 1_000_000_000 + int((found[1] if found else "0")[:9].ljust(9, "0"))
