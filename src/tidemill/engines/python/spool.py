"""Rows that a run has computed: in memory while they are few, in a file when they are many, readable again and again.

Rules of this file:
  * a run is computed to its end before anything is written, so that an error of a function is never an error of a
    commit; a commit that failed may read the rows once more;
  * memory stays flat: beyond `SPILL_BYTES` batches go to a temporary file, which is removed with the spool.

Theory: every reader starts at the first batch. `__arrow_c_stream__` makes a fresh Arrow stream each time it is asked.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from typing import IO, Any

import pyarrow as pa

from tidemill.core.change import PARENT
from tidemill.core.model import Column
from tidemill.engines.python.columns import columns_of

__all__ = ["SPILL_BYTES", "Spool"]

SPILL_BYTES = 64 * 1024 * 1024


class Spool:
    """Batches of one schema; the schema may widen until the first batch is spilled."""

    def __init__(self, hidden: pa.Schema | None = None, spill_bytes: int = SPILL_BYTES) -> None:
        self._hidden = hidden or pa.schema([])
        self._spill_bytes = spill_bytes
        self._kept: list[pa.Table] = []
        self._kept_bytes = 0
        self._file: IO[bytes] | None = None
        self._writer: Any = None
        self._writer_schema: pa.Schema | None = None
        self._schema: pa.Schema | None = None
        self.rows = 0
        self.parents = 0
        """Input rows that the rows belong to; those of one input row come together."""

    def add(self, table: pa.Table) -> None:
        """Take rows; a table of none only tells the schema."""
        self._schema = _unified(self._schema, table.schema)
        self.rows += table.num_rows
        if PARENT in table.column_names:
            self.parents += len(table.column(PARENT).unique())
        if table.num_rows:
            self._kept.append(table)
            self._kept_bytes += table.nbytes
        if self._kept_bytes > self._spill_bytes:
            self._spill()

    @property
    def schema(self) -> pa.Schema:
        """The schema of the rows, hidden columns first."""
        return self._schema if self._schema is not None else self._hidden

    @property
    def columns(self) -> tuple[Column, ...]:
        """The visible columns, with DuckDB's type names."""
        hidden = set(self._hidden.names)
        return columns_of(pa.schema([field for field in self.schema if field.name not in hidden]))

    def batches(self) -> Iterator[pa.RecordBatch]:
        """All batches from the first, in one schema."""
        schema = self.schema
        if self._file is not None:
            self._file.seek(0)
            for batch in pa.ipc.open_stream(self._file):
                yield from _shaped(pa.Table.from_batches([batch]), schema).to_batches()
        for table in self._kept:
            yield from _shaped(table, schema).to_batches()

    def table(self) -> pa.Table:
        """Everything at once."""
        return pa.Table.from_batches(list(self.batches()), self.schema)

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """A fresh stream over all rows."""
        reader = pa.RecordBatchReader.from_batches(self.schema, self.batches())
        return reader.__arrow_c_stream__(requested_schema)

    def _spill(self) -> None:
        """Move what is kept to the file. Rows of a wider schema than the file's start the file anew."""
        if self._file is not None and self._writer_schema != self.schema:
            self._kept.insert(0, self._read_back())
            self._file.close()
            self._file = None
        if self._file is None:
            self._file = tempfile.TemporaryFile(prefix="tidemill-")  # noqa: SIM115 - it lives as long as the spool
            self._writer_schema = self.schema
            self._writer = pa.ipc.new_stream(self._file, self.schema)
        for table in self._kept:
            self._writer.write_table(_shaped(table, self.schema))
        self._file.flush()
        self._kept, self._kept_bytes = [], 0

    def _read_back(self) -> pa.Table:
        assert self._file is not None
        self._file.seek(0)
        return pa.ipc.open_stream(self._file).read_all()


def _unified(one: pa.Schema | None, other: pa.Schema) -> pa.Schema:
    if one is None or one == other:
        return other
    return pa.unify_schemas([one, other], promote_options="permissive")


def _shaped(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The rows with exactly these columns; what a batch did not have is null."""
    if table.schema == schema:
        return table
    columns = [
        table.column(field.name).cast(field.type)
        if field.name in table.column_names
        else pa.nulls(table.num_rows, field.type)
        for field in schema
    ]
    return pa.table(columns, schema=schema)
