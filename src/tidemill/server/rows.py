"""The rows of an asset by address: filtered by column, in a fixed order, page by page.

Rules of this file:
  * names come from the catalogue and nowhere else; values are quoted; what the sender wrote never becomes SQL;
  * pages are cut by position in the order of the key (of all columns where there is no key).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from tidemill.core.errors import NotFound, UserError
from tidemill.project.operations import Operations

__all__ = ["PAGE_DEFAULT", "PAGE_MAX", "Page", "page", "whole"]

PAGE_DEFAULT = 100
PAGE_MAX = 10_000
OFFSET_MAX = 2**53


@dataclass(frozen=True, slots=True)
class Page:
    """Some rows, and the offset of those that follow (None at the end)."""

    rows: list[Any]
    following: int | None


def page(operations: Operations, name: str, asked: dict[str, str]) -> Page:
    """One page of an asset's rows."""
    known = next((asset for asset in operations.assets() if asset["asset"] == name), None)
    if known is None:
        raise NotFound(f"there is no asset {name}", mend="see GET /v1/assets")
    limit = whole(asked.pop("limit", str(PAGE_DEFAULT)), "limit", PAGE_MAX)
    offset = whole(asked.pop("offset", "0"), "offset", OFFSET_MAX)
    columns = known.get("columns") or {}
    conditions = [f"{_name(_known(column, columns, name))} = {_text(value)}" for column, value in asked.items()]
    where = f" where {' and '.join(conditions)}" if conditions else ""
    order = ", ".join(_name(column) for column in known.get("key") or columns)
    sql = f"select * from {_name(name)}{where}" + (f" order by {order}" if order else "")
    found = operations.query(f"{sql} limit {limit + 1} offset {offset}")
    return Page(found[:limit], offset + limit if len(found) > limit else None)


def whole(text: str, name: str, most: int) -> int:
    """A whole number of an address. Raises UserError beyond `most`."""
    if not (text.isascii() and text.isdigit()) or len(text) > 16 or int(text) > most:
        raise UserError(f"{name} is not a whole number of at most {most}")
    return int(text)


def _known(column: str, columns: dict[str, str], asset: str) -> str:
    if column not in columns:
        mend = f"its columns are {', '.join(columns)}; limit and offset cut pages"
        raise UserError(f"{asset} has no column {column}", mend=mend)
    return column


def _name(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _text(value: str) -> str:
    if "\0" in value:
        raise UserError("a value holds a zero byte")
    return "'" + value.replace("'", "''") + "'"
