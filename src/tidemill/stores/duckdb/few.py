"""A few new rows, a change set of few lines, and the difference for a few rows of a few parents, made in Python.

Rules of this file:
  * the outcome is exactly that of difference.py, change for change: the suite runs over both;
  * whatever is not plain (many rows, unusual types, an identity given twice) is left to SQL: None is returned, and
    nothing has been written.

Theory of operation. This is the realtime run over an input that can change: one input row, its old outputs, its new
ones. The SQL of a difference costs DuckDB five milliseconds however small it is; looking up the current rows and saying
what ends and what begins costs two or three.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from tidemill.core.change import FROM, OFFSET, ORDINAL, PARENT, RID, UNTIL, WEIGHT
from tidemill.core.model import Column
from tidemill.stores.duckdb.changes import is_same
from tidemill.stores.duckdb.database import literal
from tidemill.stores.duckdb.difference import target
from tidemill.stores.duckdb.layout import CURRENT, Held, table_name
from tidemill.stores.duckdb.values import ROWS_MAX, as_rows

__all__ = ["PARENTS_MAX", "FewChanges", "current_rows", "few_appended", "few_changes", "few_consolidated"]

PARENTS_MAX = 64
"""Parents up to which Python makes the difference."""

_NAN = object()
_INTEGERS = ("tinyint", "smallint", "integer", "bigint", "hugeint")
_SAME_TYPES: dict[Any, tuple[str, ...]] = {
    pa.bool_(): ("boolean",),
    pa.int8(): _INTEGERS,
    pa.int16(): _INTEGERS,
    pa.int32(): _INTEGERS,
    pa.int64(): _INTEGERS,
    pa.float64(): ("double",),
    pa.string(): ("varchar",),
    pa.large_string(): ("varchar",),
    pa.date32(): ("date",),
    pa.timestamp("us"): ("timestamp",),
}


@dataclass(frozen=True, slots=True)
class FewChanges:
    """What changes: which rows end and at which offset, which begin, and the statement that begins the new images."""

    count: int
    ended: Mapping[str, int]
    begun: Sequence[str]
    opening: str

    def closing(self, held: Held) -> str:
        """The statement that ends images."""
        offsets = {rid: str(offset) for rid, offset in self.ended.items()}
        one = len(set(offsets.values())) == 1
        cases = " ".join(f"WHEN {literal(rid)} THEN {offset}" for rid, offset in offsets.items())
        until = next(iter(offsets.values())) if one else f"CASE {RID} {cases} END"
        return (
            f"UPDATE {table_name(held.asset)} SET {UNTIL} = {until} WHERE {UNTIL} = {CURRENT} "
            f"AND {FROM} <= {held.offset} AND {RID} IN ({', '.join(map(literal, offsets))})"
        )


def current_rows(held: Held, parents: Sequence[str]) -> str:
    """The SELECT of the current rows of some parents, one more than are taken here."""
    return (
        f"SELECT {', '.join([RID, *held.names])} FROM {table_name(held.asset)} WHERE {UNTIL} = {CURRENT} "
        f"AND {PARENT} IN ({', '.join(map(literal, parents)) or 'NULL'}) LIMIT {ROWS_MAX + 1}"
    )


def few_changes(
    held: Held, rows: Any, parents: Sequence[str], *, old: Any, base: int, head: int | None
) -> FewChanges | None:
    """The difference between the current rows (`old`) and `rows`; None where SQL must make it."""
    identities = _identities(rows, set(parents))
    if identities is None or max(old.num_rows, len(identities)) > ROWS_MAX:
        return None
    if any(column.type.lower() == "uuid" for column in held.columns):
        return None  # one value has many texts
    columns = [column.name for column in held.columns]
    new = _in_types(rows, old, columns)
    if new is None:
        return None
    there = {rid: place for place, rid in enumerate(old.column(RID).to_pylist())}
    kept = {
        rid
        for rid in there.keys() & identities.keys()
        if is_same(new, identities[rid], old.select(columns), there[rid])
    }
    changed = sorted((there.keys() | identities.keys()) - kept)
    offsets = _offsets(rows, identities, changed, base, head)
    begun = [rid for rid in changed if rid in identities]
    opening = _opening(held, rows, new, identities, begun=begun, offsets=offsets)
    if opening is None:
        return None
    return FewChanges(len(changed), {rid: offsets[rid] for rid in changed if rid in there}, begun, opening)


def _identities(rows: Any, parents: set[str]) -> dict[str, int] | None:
    """Identity -> place of the rows of these parents; None where one is missing or there twice."""
    given = {name: rows.column(name).to_pylist() for name in (RID, PARENT, ORDINAL) if name in rows.column_names}
    belongs = given.get(PARENT, given.get(RID))
    if belongs is None:
        return None if rows.num_rows else {}
    places = [place for place, parent in enumerate(belongs) if parent in parents]
    found = {_identity(given, place): place for place in places}
    return None if len(found) < len(places) or None in found else {str(rid): place for rid, place in found.items()}


def _identity(given: Mapping[str, Sequence[Any]], place: int) -> str | None:
    if RID in given:
        own: str | None = given[RID][place]
        return own
    parent, ordinal = given[PARENT][place], given.get(ORDINAL, {place: None})[place]
    is_plain = parent is None or ordinal is None or (ordinal == 0 and "/" not in parent)
    return parent if is_plain else f"{parent}/{ordinal}"


def _in_types(rows: Any, old: Any, columns: Sequence[str]) -> Any:
    """The new values in the types of the current ones; None where that is not plainly possible."""
    if not rows.num_rows:
        return old.select(columns).slice(0, 0)
    if any(name not in rows.column_names for name in columns):
        return None
    made = []
    for name in columns:
        have, want = rows.column(name), old.schema.field(name).type
        if have.type != want and not (pa.types.is_integer(have.type) and pa.types.is_integer(want)):
            return None
        try:
            made.append(have.cast(want))
        except pa.ArrowInvalid:
            return None
    return pa.Table.from_arrays(made, names=list(columns)) if columns else None


def _offsets(
    rows: Any, identities: Mapping[str, int], changed: Sequence[str], base: int, head: int | None
) -> dict[str, int]:
    """The offset of each change: the next ones, or those that the rows bring."""
    if head is None or OFFSET not in rows.column_names:
        return {rid: base + place for place, rid in enumerate(changed, 1)}
    given = rows.column(OFFSET).to_pylist()
    return {rid: given[identities[rid]] if rid in identities else head for rid in changed}


def few_consolidated(held: Held, rows: Any, base: int) -> FewChanges | None:
    """A change set of a few lines, consolidated; None where SQL must do it, and where an identity remains twice."""
    if not rows.num_rows:
        return FewChanges(0, {}, (), "")
    if any(not _is_plainly(rows, column) for column in held.columns):
        return None
    try:
        images = list(_images(held, rows))
    except (ValueError, OverflowError):  # a moment beyond what Python's calendar holds
        return None
    removed = [rid for rid, weight, _ in images if weight < 0]
    added = {rid: place for rid, weight, place in images if weight > 0}
    if len(set(removed)) + len(added) < sum(abs(weight) for _, weight, _ in images):
        return None
    changed = sorted({*removed, *added})
    offsets = {rid: base + place for place, rid in enumerate(changed, 1)}
    begun = [rid for rid in changed if rid in added]
    shown = rows.select([column.name for column in held.columns]).take(
        pa.array([added[rid] for rid in begun], pa.int64())
    )
    opening = _insert(held, shown, begun, [None] * len(begun), [offsets[rid] for rid in begun]) if begun else ""
    if opening is None:
        return None
    return FewChanges(len(changed), {rid: offsets[rid] for rid in sorted(removed)}, begun, opening)


def _is_plainly(rows: Any, column: Column) -> bool:
    """Whether the values of a column are equal in the asset's type exactly where they are equal as they come."""
    if column.name not in rows.column_names:
        return False
    have, want = rows.column(column.name).type, column.type.lower()
    if pa.types.is_null(have):
        return True
    if pa.types.is_decimal(have):
        is_whole = have.scale == 0 and want in _INTEGERS
        return is_whole or want.replace(" ", "") == f"decimal({have.precision},{have.scale})"
    return want in _SAME_TYPES.get(have, ())


def _images(held: Held, rows: Any) -> Iterator[tuple[str, int, int]]:
    """Identity, weight and place of the lines that are left when equal ones are added up."""
    columns = [map(_comparable, rows.column(column.name).to_pylist()) for column in held.columns]
    found: dict[tuple[Any, ...], tuple[int, int]] = {}
    lines = zip(rows.column(RID).to_pylist(), *columns, strict=True)
    for place, (line, weight) in enumerate(zip(lines, rows.column(WEIGHT).to_pylist(), strict=True)):
        found[line] = (found.get(line, (0, 0))[0] + weight, place)
    return ((line[0], weight, place) for line, (weight, place) in found.items() if weight)


def _comparable(value: Any) -> Any:
    """A value that is equal where DuckDB has it equal: NaN is equal to itself."""
    return _NAN if isinstance(value, float) and math.isnan(value) else value


def few_appended(held: Held, rows: Any, base: int, head: int | None) -> str | None:
    """The INSERT of a few new rows; None where SQL must make it."""
    columns = [column.name for column in held.columns]
    if not 0 < rows.num_rows <= ROWS_MAX or any(name not in rows.column_names for name in columns):
        return None
    given = {name: rows.column(name).to_pylist() for name in (RID, PARENT, ORDINAL) if name in rows.column_names}
    places = range(rows.num_rows)
    nothing = [None] * rows.num_rows
    offsets = [base + place for place in range(1, rows.num_rows + 1)]
    if head is not None and OFFSET in rows.column_names:
        offsets = rows.column(OFFSET).to_pylist()
    brought = [_identity(given, place) for place in places] if RID in given or PARENT in given else nothing
    rids = [str(offset) if rid is None else rid for rid, offset in zip(brought, offsets, strict=True)]
    return _insert(held, rows.select(columns), rids, given.get(PARENT, given.get(RID, nothing)), offsets)


def _opening(
    held: Held,
    rows: Any,
    new: Any,
    identities: Mapping[str, int],
    *,
    begun: Sequence[str],
    offsets: Mapping[str, int],
) -> str | None:
    """The INSERT of the images that begin ("" for none); None where a value has no text."""
    if not begun:
        return ""
    places = pa.array([identities[rid] for rid in begun], pa.int64())
    parents = rows.column(PARENT if PARENT in rows.column_names else RID).take(places).to_pylist()
    return _insert(held, new.take(places), begun, parents, [offsets[rid] for rid in begun])


def _insert(
    held: Held, shown: Any, rids: Sequence[str], parents: Sequence[str | None], offsets: Sequence[int]
) -> str | None:
    """The INSERT of images; None where a value has no text."""
    hidden = [
        pa.array(rids, pa.string()),
        pa.array(parents, pa.string()),
        pa.array(offsets, pa.int64()),
        pa.array([CURRENT] * len(rids), pa.int64()),
    ]
    names = [*shown.column_names, RID, PARENT, FROM, UNTIL]
    values = as_rows(pa.Table.from_arrays([*shown.columns, *hidden], names=names))
    return values and f"INSERT INTO {target(held)} VALUES {values}"
