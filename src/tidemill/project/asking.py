"""Which rows of an asset are asked for, and the query that finds them.

Rules of this file:
  * names come from the asset's columns and nowhere else; values are quoted; what an asker wrote never becomes SQL.
"""

from __future__ import annotations

from dataclasses import dataclass

from tidemill.core.errors import UserError
from tidemill.core.model import Asset
from tidemill.project.words import nearest

__all__ = ["CONDITIONS", "Asked", "Gone", "select_of"]

CONDITIONS = {"": "=", "ne": "<>", "gt": ">", "ge": ">=", "lt": "<", "le": "<="}
"""What may stand after a column's name and a dot, and the comparison it means."""


class Gone(UserError):
    """History that was asked for and is trimmed away."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Which rows: conditions as (column, word of CONDITIONS, text), columns (none named: all), and the page."""

    conditions: tuple[tuple[str, str, str], ...] = ()
    columns: tuple[str, ...] = ()
    limit: int = 100
    offset: int = 0


def select_of(asset: Asset, asked: Asked) -> str:
    """The query. Raises UserError for a column that there is not (where the columns are known: a view's are not)."""
    known = [column.name for column in asset.columns]
    for column in (*asked.columns, *(condition[0] for condition in asked.conditions)):
        if known and column not in known:
            hint = nearest(column, known)
            mend = f"write {hint}" if hint else f"its columns are {', '.join(known)}; limit and offset cut pages"
            raise UserError(f"{asset.name} has no column {column}", mend=mend)
    shown = ", ".join(_name(column) for column in asked.columns) or "*"
    conditions = [f"{_name(column)} {CONDITIONS[word]} {_text(text)}" for column, word, text in asked.conditions]
    where = f" where {' and '.join(conditions)}" if conditions else ""
    order = ", ".join(_name(column) for column in asset.key or known) or "all"
    return f"select {shown} from {_name(asset.name)}{where} order by {order} limit {asked.limit} offset {asked.offset}"


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    if "\0" in value:
        raise UserError("a value holds a zero byte")
    return "'" + value.replace("'", "''") + "'"
