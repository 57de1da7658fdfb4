"""Schemas that change: which type may take another's place, and what type values tell.

Rules of this file:
  * a type is wider than another where it holds every value of that exactly (rule 7: no digit, no moment is lost);
  * types go by DuckDB's names, in lower case and one spelling each (`integer`, not `int`);
  * what values tell is told of all of them: whole numbers are bigint, numbers double, texts varchar, everything else json.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from enum import StrEnum
from typing import Any

from tidemill.core.errors import UserError
from tidemill.core.model import Asset, AssetKind, Column

__all__ = [
    "RESERVED",
    "Policy",
    "SchemaDrift",
    "SchemaVersion",
    "is_wider",
    "lost",
    "merged",
    "policy_of",
    "type_of",
    "wider_types",
]


RESERVED = frozenset({"_rid", "_parent", "_ordinal", "_offset", "_weight", "_from", "_until"})
"""Names of columns that tidemill keeps for itself."""


class Policy(StrEnum):
    """What becomes of a column that arrives and is not declared: refused, added, or left out."""

    STRICT = "strict"
    EVOLVE = "evolve"
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True)
class SchemaVersion:
    """The columns that a topic's events have from one offset on: of those after `since`, until the next version."""

    version: int
    since: int
    columns: tuple[Column, ...]


class SchemaDrift(UserError):
    """Events of a topic that may evolve need columns that it does not have: nothing was taken.

    Who sends them declares the topic with `columns` (those it has, wider, and the new ones), and sends them again.
    """

    def __init__(self, asset: str, columns: tuple[Column, ...]) -> None:
        super().__init__(f"events of {asset} need other columns", mend="declare them, and send the events again")
        self.asset = asset
        self.columns = columns


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


def merged(columns: Sequence[Column], more: Iterable[Column]) -> tuple[Column, ...]:
    """The columns of both: of a column that both have the wider type, and that of `more` where neither is wider."""
    found = {column.name: column for column in columns}
    for column in more:
        known = found.get(column.name)
        keeps = known is not None and column.type != known.type and is_wider(column.type, known.type)
        found[column.name] = replace(column, type=known.type) if keeps and known is not None else column
    return tuple(found.values())


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
