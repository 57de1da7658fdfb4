"""`minimum` and `maximum` of a column, as tidemill.toml says them.

Rules of this file:
  * a bound is checked against the type of its column when the project is read, not when the first event comes;
  * topics and files have ranges: of what a job makes, the job asserts it.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from tidemill.core.errors import DefinitionError
from tidemill.core.model import AssetKind, Column, Range
from tidemill.stores.sqlite.ranges import check_range

__all__ = ["BOUNDS", "KINDS", "listed_ranges", "ranges_of"]

BOUNDS = ("minimum", "maximum")
KINDS = (AssetKind.TOPIC, AssetKind.FILES)
"""Assets whose values are checked as they come in."""


def ranges_of(said: Mapping[str, Any], columns: tuple[Column, ...]) -> dict[str, Range]:
    """The ranges in a table of columns, by column. Raises ValueError naming the column."""
    types = {column.name: column.type for column in columns}
    found = {}
    for name, words in said.items():
        given = {bound: words[bound] for bound in BOUNDS if bound in words} if isinstance(words, Mapping) else {}
        if given:
            found[name] = _checked(name, types[name], given)
    return found


def listed_ranges(ranges: Mapping[str, Range]) -> dict[str, Any]:
    """Ranges as they are told (JSON): `{ranges: {column: {minimum, maximum}}}`, nothing where there is none."""
    told = {
        name: {bound: _told(getattr(range_, bound)) for bound in BOUNDS if getattr(range_, bound) is not None}
        for name, range_ in ranges.items()
    }
    return {"ranges": told} if told else {}


def _told(bound: Any) -> Any:
    return str(bound) if isinstance(bound, Decimal) else bound


def _checked(name: str, type_: str, given: Mapping[str, Any]) -> Range:
    try:
        range_ = Range(**{bound: _value(value) for bound, value in given.items()})
        check_range(type_, range_)
    except (ValueError, TypeError) as error:
        raise ValueError(f"column {name}: {error}") from None
    except DefinitionError as error:
        raise ValueError(f"column {name}: {error.message}") from None
    return range_


def _value(said: object) -> Any:
    """A bound as values are compared: numbers exactly as they are written, times as ISO 8601 text."""
    if isinstance(said, bool) or not isinstance(said, int | float | Decimal | str | dt.date | dt.time):
        raise ValueError(f"{said!r} is not a number and not a time")
    if isinstance(said, float):
        return Decimal(repr(said))
    return said.isoformat() if isinstance(said, dt.date | dt.time) else said
