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
import pyarrow.compute as pc

from tidemill.core.change import HIDDEN, PARENT
from tidemill.core.errors import UserError
from tidemill.core.model import Column
from tidemill.engines.python.capture import tell_failure
from tidemill.engines.python.columns import cast_table, table_of

__all__ = ["INDEX", "Applied", "Failure", "apply_keys", "apply_rows", "apply_tables", "keys_of"]

INDEX = "_index"
"""Column of a result: the place in the chunk of the row, or of the key, that a result row belongs to."""
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


def keys_of(chunk: pa.Table) -> list[tuple[str, int, int]]:
    """Each key of a chunk (PARENT says which a row has, those of one key are together): its first row, its last but one."""
    if not chunk.num_rows:
        return []
    runs = pc.run_end_encode(chunk.column(PARENT).combine_chunks())
    ends: list[int] = runs.run_ends.to_pylist()
    return list(zip(runs.values.to_pylist(), [0, *ends[:-1]], ends, strict=True))


def apply_keys(function: Function, chunk: pa.Table, outputs: Sequence[str], columns: Sequence[Column]) -> Applied:
    """Call the function on the rows of each key; each result row carries in `INDEX` the place of its key."""
    declared = columns if len(outputs) == 1 else ()
    gathered = {name: _GatheredByKey() for name in outputs}
    failures: list[Failure] = []
    tried = 0
    visible = chunk.drop_columns([PARENT])
    for index, (_, begin, end) in enumerate(keys_of(chunk)):
        tried += 1
        try:
            made = _made(function(visible.slice(begin, end - begin)), outputs, declared)
        except (OSError, MemoryError):  # the world around it, not this key: the run is tried again (rule 14)
            raise
        except Exception as error:  # noqa: BLE001 - whatever a user's function raises is the key's failure
            if not failures:
                tell_failure(error)
            failures.append(Failure(index, reason_of(error)))
            if len(failures) >= FAILURES_MAX:
                break
            continue
        for name, result in made.items():
            gathered[name].add(index, result)
    return Applied([found.table(declared) for found in gathered.values()], failures, tried - len(failures))


class _GatheredByKey:
    """Results of one output, each of a key: tables, and rows whose types are only known from all of them."""

    def __init__(self) -> None:
        self._rows = _Gathered()
        self._tables: list[pa.Table] = []

    def add(self, index: int, result: pa.Table | list[Mapping[str, Any]]) -> None:
        """The result of the key at this place."""
        if isinstance(result, pa.Table):
            self._tables.append(_placed(result, [index] * result.num_rows))
        else:
            self._rows.rows += result
            self._rows.indexes += [index] * len(result)

    def table(self, declared: Sequence[Column]) -> pa.Table:
        """All results in one table."""
        rows = _placed(table_of(self._rows.rows, declared), self._rows.indexes)
        found = [rows, *self._tables] if self._rows.rows or not self._tables else self._tables
        try:
            return pa.concat_tables(found, promote_options="permissive")
        except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
            mend = "declare columns={...} for the job"
            raise UserError(f"the results of two keys do not fit together: {error}", mend=mend) from error


def _placed(table: pa.Table, indexes: Sequence[int]) -> pa.Table:
    return table.add_column(0, INDEX, pa.array(indexes, pa.int64()))


def _made(result: Any, outputs: Sequence[str], declared: Sequence[Column]) -> dict[str, Any]:
    """What a function made of one key, per output: a table, or rows where no columns are declared."""
    if len(outputs) == 1:
        return {outputs[0]: _of_one(result, declared)}
    if result is None:
        return {}
    if not isinstance(result, Mapping) or not set(result) <= set(outputs):
        raise UserError(
            f"the function writes {', '.join(outputs)} and returned {_shown(result)}",
            mend="return a mapping from output name to rows",
        )
    return {name: _of_one(rows, ()) for name, rows in result.items()}


def _of_one(result: Any, declared: Sequence[Column]) -> pa.Table | list[Mapping[str, Any]]:
    if result is None or isinstance(result, Mapping | list | tuple):
        rows = _rows(result)
        return table_of(rows, declared) if declared else rows
    return _checked(_table(result), declared)


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
