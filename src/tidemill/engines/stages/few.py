"""Merging a few keys in Python, where a statement would cost DuckDB more than the keys are worth.

Rules of this file:
  * the outcome is exactly that of `texts.merged`: whatever is not plain (many keys, floating point, enumerations, values
    that Python cannot hold) is left to SQL, and None is returned;
  * sums are exact: integers and decimals of any length.

Theory of operation. This is the realtime run: one event, one key. The statement that joins, merges and lays out both images
costs DuckDB five milliseconds to plan; summing the change set and looking up the key's state by its identity cost one
each, and adding two numbers costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Context, Decimal
from typing import Any

import pyarrow as pa

from tidemill.core.change import RID, WEIGHT
from tidemill.sql.stages import Accumulator, Stage

__all__ = ["KEYS_MAX", "Merged", "is_plain", "merge_few"]

KEYS_MAX = 32
"""Keys up to which they are merged here."""
_EXACT = Context(prec=100)


class Merged:
    """The lines of a merge: both images of each key, and the keys that must be looked at anew."""

    def __init__(self, stage: Stage, schema: Any) -> None:
        self._stage = stage
        self._schema = schema
        self._lines: list[tuple[str, int, tuple[Any, ...]]] = []
        self.dirty: list[tuple[Any, ...]] = []

    def add(self, rid: str, weight: int, values: tuple[Any, ...]) -> None:
        """One image."""
        self._lines.append((rid, weight, values))

    def table(self) -> Any:
        """The lines as an Arrow table."""
        columns = list(zip(*(values for _, _, values in self._lines), strict=True)) if self._lines else []
        arrays = [
            pa.array([line[0] for line in self._lines], pa.string()),
            pa.array([line[1] for line in self._lines], pa.int8()),
            *(
                pa.array(columns[place] if columns else [], self._schema.field(name).type)
                for place, name in enumerate(self._stage.columns)
            ),
        ]
        return pa.Table.from_arrays(arrays, names=[RID, WEIGHT, *self._stage.columns])

    def keys(self) -> Any:
        """The dirty keys as an Arrow table with the region's names."""
        columns = list(zip(*self.dirty, strict=True))
        return pa.Table.from_arrays(
            [
                pa.array(values, self._schema.field(column).type)
                for values, (_, column) in zip(columns, self._stage.keys, strict=True)
            ],
            names=[key for key, _ in self._stage.keys],
        )


def is_plain(schema: Any) -> bool:
    """Whether Python holds and compares all values of these columns as DuckDB does."""
    return all(_is_plain(field.type) for field in schema)


def _is_plain(arrow: Any) -> bool:
    if pa.types.is_decimal128(arrow) or pa.types.is_integer(arrow):
        return True
    return arrow in (pa.string(), pa.bool_(), pa.date32(), pa.timestamp("us"))


def merge_few(stage: Stage, sums: Any, state: Any) -> Merged | None:
    """Merge what the change set adds (`sums`, a row per key) with what is kept (`state`); None where SQL must do it.

    `sums` has `_rid`, the stage's key columns, and `+column` and `-column` per accumulator.
    """
    if not (is_plain(sums.schema) and is_plain(state.schema)):
        return None
    try:
        kept = {row[RID]: row for row in state.to_pylist()}
        brought = sums.to_pylist()
    except (ValueError, OverflowError):  # a moment beyond what Python's calendar holds
        return None
    merged = Merged(stage, state.schema)
    for row in brought:
        _merge_key(stage, merged, row, kept.get(row[RID]))
    return merged


def _merge_key(stage: Stage, merged: Merged, row: Mapping[str, Any], old: Mapping[str, Any] | None) -> None:
    if old is not None:
        merged.add(row[RID], -1, tuple(old[name] for name in stage.columns))
    key = tuple(row[column] for _, column in stage.keys)
    new = {column: row[column] for _, column in stage.keys}
    is_dirty = False
    for one in stage.accumulators:
        before = old[one.column] if old is not None else None
        new[one.column] = _merge(one, before, row, new)
        is_dirty = is_dirty or _may_be_gone(one, before, row)
    if stage.keys and stage.region.retracts and not new[_count(stage)]:
        return
    if is_dirty:
        merged.dirty.append(key)
    else:
        merged.add(row[RID], 1, tuple(new[name] for name in stage.columns))


def _count(stage: Stage) -> str:
    return next(one.column for one in stage.accumulators if one.whole == "count(*)")


def _merge(one: Accumulator, before: Any, row: Mapping[str, Any], new: Mapping[str, Any]) -> Any:
    added = row["+" + one.column]
    if one.merge in ("min", "max"):
        known = [value for value in (before, added) if value is not None]
        return (min if one.merge == "min" else max)(known) if known else None
    if not one.gone:
        return added if before is None else before if added is None else _sum(before, added)
    if not new[one.counted]:
        return None
    gone = row["-" + one.column]
    return _sum(_sum(before or 0, added or 0), -(gone or 0))


def _sum(one: Any, other: Any) -> Any:
    if isinstance(one, Decimal) or isinstance(other, Decimal):
        return _EXACT.add(Decimal(one), Decimal(other))
    return one + other


def _may_be_gone(one: Accumulator, before: Any, row: Mapping[str, Any]) -> bool:
    gone = row["-" + one.column] if one.gone and one.merge in ("min", "max") else None
    if gone is None:
        return False
    return before is None or (gone <= before if one.merge == "min" else gone >= before)
