"""Extracts: a job's whole result as one file, written beside and renamed, so that a reader never sees half of it.

Rules of this file:
  * the file is complete or it is the old one; the folder is synced after the rename;
  * its version is the hash of its bytes: writing the same result again is the same version;
  * text formats write times as ISO 8601, decimals exactly, and nulls as nothing (csv) or null (ndjson).
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from tidemill.core.errors import DefinitionError
from tidemill.core.model import Column

__all__ = ["FORMATS", "reading", "write_extract"]


def _write_csv(table: pa.Table, path: Path) -> None:
    flat = [column if not pa.types.is_nested(column.type) else _as_json(column) for column in table.columns]
    pyarrow.csv.write_csv(pa.table(flat, names=table.column_names), path)


def _as_json(column: pa.ChunkedArray) -> pa.Array:
    return pa.array([None if v is None else json.dumps(v, default=_plain) for v in column.to_pylist()], pa.string())


def _write_ndjson(table: pa.Table, path: Path) -> None:
    with path.open("w", encoding="utf-8") as file:
        for batch in table.to_batches(max_chunksize=10_000):
            for row in batch.to_pylist():
                file.write(json.dumps(row, default=_plain, ensure_ascii=False) + "\n")


def _plain(value: object) -> Any:
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    return str(value) if isinstance(value, Decimal) else repr(value)


def _write_parquet(table: pa.Table, path: Path) -> None:
    pyarrow.parquet.write_table(table, path, compression="zstd")


FORMATS: dict[str, Callable[[pa.Table, Path], None]] = {
    "csv": _write_csv,
    "ndjson": _write_ndjson,
    "parquet": _write_parquet,
}


def write_extract(table: pa.Table, path: Path, form: str) -> str:
    """Write the rows to the file and return the hash of its content. Raises DefinitionError for an unknown format."""
    write = FORMATS.get(form)
    if write is None:
        raise DefinitionError(f"an extract cannot be {form}", mend=f"use one of {', '.join(FORMATS)}")
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.partial")
    write(table, beside)
    with beside.open("rb+") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        os.fsync(file.fileno())
    beside.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return digest


def reading(path: Path, form: str, columns: Sequence[Column]) -> str:
    """The SELECT (of DuckDB) that reads an extract back, with these columns and types where it has them.

    An extract that was never written has the columns and no rows. Where the file's columns are others, because the job
    changed since, they are read as the file has them (of csv as text).
    """
    is_empty = not path.exists() or (form == "ndjson" and not path.stat().st_size)
    if is_empty:
        return f"select {', '.join(f'null::{c.type} as {_quoted(c.name)}' for c in columns)} where false"
    if form == "parquet":
        return f"select * from read_parquet({_literal(str(path))})"
    return _reading_ndjson(path, columns) if form == "ndjson" else _reading_csv(path, columns)


def _reading_ndjson(path: Path, columns: Sequence[Column]) -> str:
    with path.open(encoding="utf-8") as lines:
        names = list(json.loads(lines.readline()))
    is_same = names == [column.name for column in columns]
    shape = ", ".join(f"{_literal(column.name)}: {_literal(column.type)}" for column in columns)
    typed = f", columns = {{{shape}}}" if is_same else ""
    return f"select * from read_json({_literal(str(path))}, format = 'newline_delimited'{typed})"


def _reading_csv(path: Path, columns: Sequence[Column]) -> str:
    with path.open(newline="", encoding="utf-8") as lines:
        names = next(csv.reader(lines), [])
    is_same = names == [column.name for column in columns]
    casts = {column.name: column.type for column in columns if is_same and not _is_nested(column.type)}
    chosen = [f"{_quoted(n)}::{casts[n]} as {_quoted(n)}" if n in casts else _quoted(n) for n in names]
    shape = ", ".join(f"{_literal(name)}: 'varchar'" for name in names)
    return (
        f"select {', '.join(chosen)} from read_csv({_literal(str(path))}, auto_detect = false, header = true, "
        f"delim = ',', quote = '\"', escape = '\"', nullstr = '', allow_quoted_nulls = false, columns = {{{shape}}})"
    )


def _is_nested(kind: str) -> bool:
    """Whether csv has the values of a type as JSON text."""
    return kind.endswith("]") or kind.startswith(("struct", "map", "union"))


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
