"""Ranges of columns at the door: which values of a type an asset takes.

Rules of this file:
  * numbers and times have an order here; what is compared is the exact value, never a rounded one;
  * a value is judged as it will be stored: what the type refuses was refused before.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import msgspec

from tidemill.core.model import Range
from tidemill.stores.sqlite.kinds import Kind, number_of, refuse, utc
from tidemill.stores.sqlite.nested import kind_of

__all__ = ["check_range", "ranged"]

_NUMBERS = frozenset(
    """tinyint smallint integer bigint hugeint utinyint usmallint uinteger ubigint uhugeint float double""".split()
)


def ranged(kind: Kind, range_: Range) -> Kind:
    """A kind that takes only the values of a range. Raises ValueError where its type has no order."""
    read = _reader(kind)
    low, high = _bounds(kind, range_)

    def check(value: Any) -> Any:
        checked = kind.check(value)
        found = read(checked)
        if low is not None and found < low:
            raise _beyond(value, f"less than the minimum {range_.minimum}")
        if high is not None and found > high:
            raise _beyond(value, f"more than the maximum {range_.maximum}")
        return checked

    return replace(kind, check=check, is_exact=False)


def check_range(type_: str, range_: Range) -> None:
    """Raise ValueError for a range that columns of a type cannot have."""
    low, high = _bounds(kind_of(type_), range_)
    if low is not None and high is not None and low > high:
        raise ValueError(f"the minimum {range_.minimum} is more than the maximum {range_.maximum}")


def _bounds(kind: Kind, range_: Range) -> tuple[Any, Any]:
    """The bounds of a range as values are compared; None where there is none. Raises ValueError."""
    read = _reader(kind)
    low, high = (None if bound is None else read(kind.check(bound)) for bound in (range_.minimum, range_.maximum))
    return low, high


def _reader(kind: Kind) -> Callable[[Any], Any]:
    """What turns a stored value into one that is compared."""
    name = kind.name
    if name in _NUMBERS or name.startswith("decimal"):
        return number_of
    if name == "date":
        return lambda value: msgspec.convert(value, dt.date)
    if name.startswith("time") and not name.startswith("timestamp"):
        return lambda value: msgspec.convert(value, dt.time)
    if name == "timestamp_ns":
        return kind.load or number_of
    if name.startswith("timestamp"):
        return lambda value: utc(msgspec.convert(value, dt.datetime))
    raise ValueError(f"a {name} has no minimum and no maximum: numbers and times have")


def _beyond(value: Any, why: str) -> ValueError:
    return ValueError(f"{refuse(value, '').args[0].partition(' is not')[0]} is {why}")
