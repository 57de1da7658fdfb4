"""Small change sets, consolidated in Python instead of SQL.

Rules of this file:
  * the result is exactly that of the SQL in slices.py, row for row: the suite runs over both;
  * values stay in Arrow: Python only decides which images are shown.

Theory of operation. A change set in which rows have changed or gone needs a grouping that costs DuckDB several
milliseconds however small it is; a plain scan of the images that came or went costs one. So a scan is made with a limit;
only where it reaches the limit does SQL do the rest.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from tidemill.core.change import FROM, OFFSET, RID, UNTIL, WEIGHT, Images, Slice
from tidemill.stores.duckdb.layout import Held, table_name
from tidemill.stores.duckdb.slices import not_excluded, touched

__all__ = ["IMAGES_MAX", "consolidated", "is_same", "scan"]

IMAGES_MAX = 2_000
"""Images up to which Python consolidates, unless told otherwise."""


def scan(part: Slice, held: Held, images_max: int) -> str:
    """The images that came or went within the slice, one more than are taken at most."""
    names = ", ".join([RID, FROM, UNTIL, *held.names])
    where = f"{touched(part)}{not_excluded(part)}"
    return f"SELECT {names} FROM {table_name(held.asset)} WHERE {where} LIMIT {images_max + 1}"


def consolidated(part: Slice, images: Any) -> Any:
    """The change set of the scanned images, as the slice's Arrow table."""
    rids, froms, untils = (images.column(name).to_pylist() for name in (RID, FROM, UNTIL))
    values = images.drop_columns([RID, FROM, UNTIL])
    old: dict[str, int] = {}
    new: dict[str, int] = {}
    last: dict[str, int] = {}
    for place, (rid, from_, until) in enumerate(zip(rids, froms, untils, strict=True)):
        went = until <= part.to
        if from_ <= part.from_:
            old[rid] = place
        elif not went:
            new[rid] = place
        last[rid] = max(last.get(rid, 0), until if went else from_)
    same = {rid for rid in old.keys() & new.keys() if is_same(values, old[rid], values, new[rid])}
    lines = [(last[rid], rid, 1, place) for rid, place in new.items() if rid not in same]
    if part.images == Images.CHANGES:
        lines += [(last[rid], rid, -1, place) for rid, place in old.items() if rid not in same]
    return _table(sorted(lines), values, part.images == Images.CHANGES)


def is_same(ours: Any, our: int, others: Any, other: int) -> bool:
    """Whether two rows of tables of one shape are equal, as IS NOT DISTINCT FROM has it: NaN is equal to itself."""
    pairs = zip(ours.columns, others.columns, strict=True)
    return all(_is_same_value(column[our], another[other]) for column, another in pairs)


def _is_same_value(one: Any, other: Any) -> bool:
    if one.equals(other):
        return True
    try:
        return repr(one.as_py()) == repr(other.as_py())
    except ValueError:  # a moment that Python cannot hold: not a float, so not NaN
        return False


def _table(lines: Sequence[tuple[int, str, int, int]], values: Any, has_weight: bool) -> Any:
    hidden = {
        RID: pa.array([line[1] for line in lines], pa.string()),
        OFFSET: pa.array([line[0] for line in lines], pa.int64()),
    }
    if has_weight:
        hidden[WEIGHT] = pa.array([line[2] for line in lines], pa.int8())
    shown = values.take(pa.array([line[3] for line in lines], pa.int64()))
    return pa.Table.from_arrays([*hidden.values(), *shown.columns], names=[*hidden, *shown.column_names])
