"""Schemas that change: which type may take another's place, and what type values tell.

Rules of this file:
  * a type is wider than another where it holds every value of that exactly (rule 7: no digit, no moment is lost);
  * types go by DuckDB's names, in lower case and one spelling each (`integer`, not `int`);
  * what values tell is told of all of them: whole numbers are bigint, numbers double, texts varchar, everything else json.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from enum import StrEnum
from typing import Any

from tidemill.core.model import Asset, AssetKind, Column

__all__ = ["Policy", "is_wider", "lost", "policy_of", "type_of", "wider_types"]


class Policy(StrEnum):
    """What becomes of a column that arrives and is not declared: refused, added, or left out."""

    STRICT = "strict"
    EVOLVE = "evolve"
    IGNORE = "ignore"


def policy_of(asset: Asset) -> Policy:
    """The policy of an asset; where it says none, files are strict, and topics leave out what they do not declare."""
    given = Policy.STRICT if asset.kind is AssetKind.FILES else Policy.IGNORE
    return Policy(str(asset.options.get("schema", given)))


_WIDER = {
    "tinyint": ("smallint", "integer", "bigint", "hugeint", "double", "float"),
    "smallint": ("integer", "bigint", "hugeint", "double", "float"),
    "integer": ("bigint", "hugeint", "double"),
    "bigint": ("hugeint",),
    "utinyint": (
        "usmallint", "uinteger", "ubigint", "uhugeint", "smallint", "integer", "bigint", "hugeint", "float", "double",
    ),
    "usmallint": ("uinteger", "ubigint", "uhugeint", "integer", "bigint", "hugeint", "float", "double"),
    "uinteger": ("ubigint", "uhugeint", "bigint", "hugeint", "double"),
    "ubigint": ("uhugeint", "hugeint"),
    "float": ("double",),
    "timestamp_s": ("timestamp_ms", "timestamp", "timestamp_ns"),
    "timestamp_ms": ("timestamp", "timestamp_ns"),
    "timestamp": ("timestamp_ns",),
    "uuid": ("varchar",),
    "enum": ("varchar",),
}  # fmt: skip
_DECIMAL = re.compile(r"decimal\((\d+), ?(\d+)\)")
_BIGINT = range(-(1 << 63), 1 << 63)


def wider_types(name: str) -> tuple[str, ...]:
    """The types that may take the place of one, the nearest first; decimals are not listed, for there are too many."""
    return _WIDER.get("enum" if name.startswith("enum") else name, ())


def is_wider(old: str, new: str) -> bool:
    """Whether a column of the type `old` may become one of the type `new`; every type may become itself."""
    narrow, wide = _DECIMAL.fullmatch(old), _DECIMAL.fullmatch(new)
    if narrow and wide:
        grows = int(wide[1]) - int(wide[2]) >= int(narrow[1]) - int(narrow[2])
        return grows and int(wide[2]) >= int(narrow[2])
    return old == new or new in wider_types(old)


def lost(before: Iterable[Column], after: Sequence[Column]) -> Column | None:
    """The first column whose values another shape could not hold, or has no place for; None where all may stay."""
    types = {column.name: column.type for column in after}
    return next((column for column in before if not is_wider(column.type, types.get(column.name, ""))), None)


def type_of(values: Iterable[Any]) -> str:
    """The type of a column that has these values, as JSON has them."""
    kinds = set()
    for value in values:
        if isinstance(value, int) and not isinstance(value, bool):
            kinds.add("bigint" if value in _BIGINT else "hugeint")
        elif value is not None:
            kinds.add(_KINDS.get(type(value), "json"))
    if kinds == {"bigint", "hugeint"}:
        return "hugeint"
    if "double" in kinds and kinds <= {"bigint", "hugeint", "double"}:
        return "double"
    return kinds.pop() if len(kinds) == 1 else "json" if kinds else "varchar"


_KINDS = {bool: "boolean", str: "varchar", float: "double", Decimal: "double"}
