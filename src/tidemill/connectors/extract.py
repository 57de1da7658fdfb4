"""Extracts: a job's whole result as one file, written beside and renamed, so that a reader never sees half of it.

Rules of this file:
  * the file is complete or it is the old one; the folder is synced after the rename;
  * its version is the hash of its bytes: writing the same result again is the same version;
  * text formats write times as ISO 8601, decimals exactly, and nulls as nothing (csv) or null (ndjson).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from tidemill.core.errors import DefinitionError

__all__ = ["FORMATS", "write_extract"]


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
