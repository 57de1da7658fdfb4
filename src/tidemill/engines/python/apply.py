"""Calling a user's function on one chunk of rows: the part that may run in a thread, in a process, or right here.

Rules of this file:
  * Arrow tables in, Arrow tables out, failures as plain values: everything here crosses a process border;
  * a failure of one row is found by row and does not stop the others; all that fail in a chunk are told together;
  * nothing here reads a store or knows an offset.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from tidemill.core.change import HIDDEN
from tidemill.core.errors import UserError
from tidemill.core.model import Column
from tidemill.engines.python.capture import tell_failure
from tidemill.engines.python.columns import cast_table, table_of

__all__ = ["INDEX", "Applied", "Failure", "apply_rows", "apply_tables"]

INDEX = "_index"
"""Column of a row-by-row result: the place in the chunk of the row that a result row belongs to."""
FAILURES_MAX = 1_000
"""After so many failed rows in one chunk the rest is not tried: the job is broken, not the rows."""

Function = Callable[..., Any]


@dataclass(frozen=True, slots=True)
class Failure:
    """A row that a function could not process: its place in the chunk, and the reason as text."""

    index: int
    reason: str


@dataclass(slots=True)
class Applied:
    """What a function made of a chunk: one table per output, and the rows it could not process."""

    tables: list[pa.Table]
    failures: list[Failure] = field(default_factory=list)
    succeeded: int = 0


@dataclass(slots=True)
class _Gathered:
    """Result rows of one output, each with the place of the row it belongs to."""

    rows: list[Mapping[str, Any]] = field(default_factory=list)
    indexes: list[int] = field(default_factory=list)


def apply_rows(function: Function, chunk: pa.Table, outputs: Sequence[str], columns: Sequence[Column]) -> Applied:
    """Call the function on each row; each result row carries in `INDEX` the row it belongs to."""
    gathered = {name: _Gathered() for name in outputs}
    failures: dict[int, str] = {}
    tried = 0
    for index, row in enumerate(chunk.to_pylist()):
        tried += 1
        try:
            results = _results(function(row), outputs)
        except (OSError, MemoryError):  # the world around it, not this row: the run is tried again (rule 14)
            raise
        except Exception as error:  # noqa: BLE001 - whatever a user's function raises is the row's failure
            if not failures:
                tell_failure(error)
            failures[index] = reason_of(error)
            if len(failures) >= FAILURES_MAX:
                break
            continue
        for name, rows in results.items():
            gathered[name].rows += rows
            gathered[name].indexes += [index] * len(rows)
    declared = columns if len(outputs) == 1 else ()
    for found in gathered.values():
        failures |= _misfits(found, declared)
    tables = [_indexed(found, failures, declared) for found in gathered.values()]
    return Applied(tables, [Failure(*each) for each in sorted(failures.items())], tried - len(failures))


def _misfits(found: _Gathered, columns: Sequence[Column]) -> dict[int, str]:
    """The rows whose results do not fit the columns; looked for one by one only if all together do not."""
    try:
        table_of(found.rows, columns)
    except UserError:
        pass
    else:
        return {}
    failures: dict[int, str] = {}
    for index, row in zip(found.indexes, found.rows, strict=True):
        try:
            table_of([row], columns)
        except UserError as error:
            failures[index] = error.message
    return failures


def _indexed(found: _Gathered, failures: Mapping[int, str], columns: Sequence[Column]) -> pa.Table:
    if failures:
        kept = [pair for pair in zip(found.indexes, found.rows, strict=True) if pair[0] not in failures]
        found = _Gathered([row for _, row in kept], [index for index, _ in kept])
    table = table_of(found.rows, columns)
    return table.add_column(0, INDEX, pa.array(found.indexes, pa.int64()))


def _results(result: Any, outputs: Sequence[str]) -> dict[str, list[Mapping[str, Any]]]:
    """Result rows per output: of one output the result itself, of several a mapping by asset name."""
    if len(outputs) == 1:
        return {outputs[0]: _rows(result)}
    if result is None:
        return {}
    if not isinstance(result, Mapping) or not set(result) <= set(outputs):
        raise UserError(
            f"the function writes {', '.join(outputs)} and returned {_shown(result)}",
            mend="return a mapping from output name to rows",
        )
    return {name: _rows(rows) for name, rows in result.items()}


def _rows(result: Any) -> list[Mapping[str, Any]]:
    if result is None:
        return []
    rows = [result] if isinstance(result, Mapping) else result
    if not isinstance(rows, list | tuple) or not all(isinstance(row, Mapping) for row in rows):
        raise UserError(f"the function returned {_shown(result)}", mend="return a dict, a list of dicts, or None")
    for row in rows:
        hidden = next((name for name in row if name in HIDDEN), None)
        if hidden:
            raise UserError(
                f"the function returned a column {hidden}", mend="choose another name: this one is tidemill's own"
            )
    return list(rows)


def apply_tables(
    function: Function, tables: Sequence[pa.Table], outputs: Sequence[str], columns: Sequence[Column]
) -> Applied:
    """Call the function once on whole tables."""
    result = function(*tables)
    if len(outputs) == 1:
        return Applied([_checked(_table(result), columns)], succeeded=1)
    if not isinstance(result, Mapping) or set(result) != set(outputs):
        raise UserError(
            f"the function writes {', '.join(outputs)} and returned {_shown(result)}",
            mend="return a mapping from output name to table",
        )
    return Applied([_checked(_table(result[name]), ()) for name in outputs], succeeded=1)


def _checked(table: pa.Table, columns: Sequence[Column]) -> pa.Table:
    hidden = next((name for name in table.column_names if name in HIDDEN), None)
    if hidden:
        raise UserError(
            f"the function returned a column {hidden}", mend="choose another name: this one is tidemill's own"
        )
    return cast_table(table, columns)


def _table(result: Any) -> pa.Table:
    """A table from whatever holds rows in Arrow (pyarrow, polars, DuckDB relations, ...), a list of dicts, or None."""
    if result is None:
        return pa.table({})
    if isinstance(result, pa.Table):
        return result
    if isinstance(result, pa.RecordBatch):
        return pa.Table.from_batches([result])
    if hasattr(result, "__arrow_c_stream__"):
        return pa.table(result)
    if isinstance(result, list) and all(isinstance(row, Mapping) for row in result):
        return table_of(result, ())
    raise UserError(f"the function returned {_shown(result)}", mend="return a pyarrow.Table")


def reason_of(error: BaseException) -> str:
    """One line that says what a function raised."""
    if isinstance(error, UserError):
        return error.message
    return f"{type(error).__name__}: {error}".strip().rstrip(":")


def _shown(value: Any) -> str:
    return f"{type(value).__name__} {value!r}"[:80]
