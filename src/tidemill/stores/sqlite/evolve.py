"""What columns a topic that evolves needs, so that it can take some events.

Rules of this file:
  * pure: a contract and bytes in, columns out; nothing is changed here;
  * a field that is new becomes a nullable column, with the type that its values of this batch tell;
  * a value that does not fit widens its column to the nearest type that holds it and all values before, exactly; what
    identifies an event (id, key, version) and its time never change their types;
  * an event that will be refused anyway changes nothing.
"""

from __future__ import annotations

from codecs import BOM_UTF8
from dataclasses import replace
from decimal import Decimal
from typing import Any

from tidemill.core.model import Column
from tidemill.core.schema import type_of, wider_types
from tidemill.stores.sqlite.contract import COLUMNS_MAX, Contract, Refused, pieces_of
from tidemill.stores.sqlite.kinds import number_of
from tidemill.stores.sqlite.nested import kind_of
from tidemill.stores.sqlite.ranges import ranged

__all__ = ["evolved"]


def evolved(contract: Contract, events: bytes) -> tuple[Column, ...]:
    """The columns of the contract's asset with those that these events (NDJSON) need beside or wider."""
    growth = _Growth(contract)
    for piece in pieces_of(events):
        for line in piece.split(b"\n"):
            if line.strip():
                growth.look(line.strip().removeprefix(BOM_UTF8))
    return growth.columns()


class _Growth:
    """What the events seen so far need. Of new fields one value of each type is kept: they tell the type."""

    def __init__(self, contract: Contract) -> None:
        asset = contract.asset
        self._contract = contract
        self._types = {column.name: column.type for column in asset.columns}
        self._fixed = {asset.id, asset.version, asset.event_time, *asset.key}
        self._fresh: dict[str, dict[str, Any]] = {}

    def look(self, line: bytes) -> None:
        """Take an event into account, unless it will be refused."""
        try:
            event = self._contract.event(line)
            wider = self._widened(event)
            self._contract.check_needed(event)
            names = self._contract.strangers(event)
        except (Refused, ValueError):
            return
        if len(self._types) + len(self._fresh.keys() | set(names)) > COLUMNS_MAX:
            return
        taken = {name.lower(): name for name in self._fresh}
        if any(taken.setdefault(name.lower(), name) != name for name in names):
            return
        self._types.update(wider)
        for name in names:
            self._fresh.setdefault(name, {})[type_of([event[name]])] = event[name]

    def _widened(self, event: dict[str, Any]) -> dict[str, str]:
        """The types that columns need for this event; raises ValueError where there is none."""
        found = {}
        for name, type_ in self._types.items():
            value = event.get(name)
            if value is not None and not _fits(value, type_):
                found[name] = _wider(value, type_) if name not in self._fixed else ""
                if not found[name]:
                    raise ValueError(name)
            range_ = self._contract.asset.ranges.get(name)
            if value is not None and range_ is not None:
                ranged(kind_of(found.get(name, type_)), range_).check(value)
        return found

    def columns(self) -> tuple[Column, ...]:
        """The columns of the asset as the events need them."""
        known = tuple(replace(column, type=self._types[column.name]) for column in self._contract.asset.columns)
        return known + tuple(Column(name, type_of(values.values())) for name, values in self._fresh.items())


def _fits(value: Any, type_: str) -> bool:
    try:
        kind_of(type_).check(value)
    except ValueError:
        return False
    return True


def _wider(value: Any, type_: str) -> str:
    """The nearest wider type that holds a value, or ""."""
    number = number_of(value)
    if type_.startswith("decimal") and number is not None:
        return _wider_decimal(Decimal(number), type_)
    return next((wider for wider in wider_types(type_) if _fits(value, wider)), "")


def _wider_decimal(value: Decimal, type_: str) -> str:
    """The narrowest decimal that holds all values of this one, and another value."""
    precision, scale = kind_of(type_).arrow.precision, kind_of(type_).arrow.scale
    exponent = int(value.normalize().as_tuple().exponent) if value.is_finite() else 0
    scale_needed = max(scale, -exponent)
    whole_needed = max(precision - scale, value.adjusted() + 1)
    found = f"decimal({whole_needed + scale_needed},{scale_needed})"
    return found if whole_needed + scale_needed <= 38 and _fits(value, found) else ""
