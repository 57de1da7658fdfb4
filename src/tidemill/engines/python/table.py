"""Vectorised jobs: a function over a table of rows must give, row by row, what it would give for each row alone.

Rules of this file:
  * over an input whose rows can change, the result carries the input's key and each result row belongs to the row of
    that key; over an input that only grows, row i belongs to row i where the counts agree, else to the last row: there
    it only names the row, for nothing is ever taken back;
  * whether the function is row-wise is tried, not believed: the same rows in two halves must give the same results.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import pyarrow as pa

from tidemill.core.change import ORDINAL, PARENT
from tidemill.core.errors import UserError

__all__ = ["TableCall", "attributed", "check_rowwise"]


class TableCall:
    """A job's function from one table to its outputs' tables."""

    def __init__(self, job: str, call: Callable[[pa.Table], list[pa.Table]]) -> None:
        self.job = job
        self._call = call

    def __call__(self, rows: pa.Table) -> list[pa.Table]:
        """The outputs for these rows."""
        return self._call(rows)


def check_rowwise(call: TableCall, rows: pa.Table, whole: Sequence[pa.Table]) -> None:
    """Compute the same rows in two halves and compare; raises UserError where they disagree."""
    if rows.num_rows < 2:
        return
    middle = rows.num_rows // 2
    halves = [call(rows.slice(0, middle)), call(rows.slice(middle))]
    for index, table in enumerate(whole):
        together = _bag(halves[0][index]) + _bag(halves[1][index])
        if together != _bag(table):
            raise UserError(
                f"job {call.job} is not row-wise: {rows.num_rows} rows at once give other results than in two halves",
                mend="use takes='full' if the result depends on other rows, or make each row's result its own",
            )


def _bag(table: pa.Table) -> Counter[tuple[str, ...]]:
    names = sorted(table.column_names)
    columns = [table.column(name).to_pylist() for name in names]
    return Counter(tuple(map(repr, row)) for row in zip(*columns, strict=True))


def attributed(call: TableCall, table: pa.Table, rows: pa.Table, rids: Sequence[str], key: Sequence[str]) -> pa.Table:
    """The result with the row that each of its rows belongs to."""
    if key:
        parents = _by_key(call, table, rows, rids, key)
    elif table.num_rows == len(rids):
        parents = list(rids)
    else:
        parents = [rids[-1]] * table.num_rows
    seen: Counter[str] = Counter()
    ordinals = []
    for parent in parents:
        ordinals.append(seen[parent])
        seen[parent] += 1
    table = table.add_column(0, PARENT, pa.array(parents, pa.string()))
    return table.add_column(1, ORDINAL, pa.array(ordinals, pa.int64()))


def _by_key(call: TableCall, table: pa.Table, rows: pa.Table, rids: Sequence[str], key: Sequence[str]) -> list[str]:
    missing = [name for name in key if name not in table.column_names]
    if missing:
        raise UserError(
            f"job {call.job}: the result has no column {missing[0]}, which is in the key of its input",
            mend=f"return the input's key too ({', '.join(key)}): its rows can change, and their results with them",
        )
    known = dict(zip(_keys(rows, key), rids, strict=True))
    parents = []
    for values in _keys(table, key):
        if values not in known:
            shown = ", ".join(f"{name} = {value!r}" for name, value in zip(key, values, strict=True))
            raise UserError(
                f"job {call.job}: the result has a row with {shown}, which no row it was given has",
                mend="return the key as it was given",
            )
        parents.append(known[values])
    return parents


def _keys(table: pa.Table, key: Sequence[str]) -> list[tuple[object, ...]]:
    return list(zip(*(table.column(name).to_pylist() for name in key), strict=True))
