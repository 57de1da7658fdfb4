"""Which changes of a job's outputs are history that it had skipped, and not news (rule 28).

Rules of this file:
  * the label is a range of an output's offsets, a row of the internal asset `JOB@backfilled` in the job's home, written in
    the transaction that commits the changes: no crash parts them;
  * ranges that follow each other are one row, so a backfill leaves as many as live runs came between its slices;
  * a label says where a change came from, and nothing rests on it: what a change does to its readers is the same.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pyarrow as pa

from tidemill.core.change import ORDINAL, PARENT, Images, Replaced, Slice
from tidemill.core.model import Column, Job
from tidemill.core.ports import Reader, Table, Transaction
from tidemill.runtime.rows import dicts, table_of

__all__ = ["backfilled", "label"]

_COLUMNS = (Column("output", "varchar"), Column("from", "bigint"), Column("to", "bigint"))
_SCHEMA = pa.schema(
    [
        pa.field("output", pa.string()),
        pa.field("from", pa.int64()),
        pa.field("to", pa.int64()),
        pa.field(PARENT, pa.string()),
        pa.field(ORDINAL, pa.int64()),
    ]
)


def label(transaction: Transaction, job: Job, begun: Mapping[str, int]) -> None:
    """All that this transaction has written to the job's outputs is history; `begun` are their heads before it."""
    written = {name: (from_, transaction.head(name).offset) for name, from_ in begun.items()}
    written = {name: (from_, to) for name, (from_, to) in written.items() if to > from_}
    if not written:
        return
    asset = _labels_of(job)
    transaction.define(Table(asset, _COLUMNS))
    rows, replaced = [], []
    last = _newest(transaction, asset, len(job.outputs))
    for name, (from_, to) in written.items():
        before = next((row for row in last if row["output"] == name and row["to"] == from_), None)
        began = before["from"] if before is not None else from_
        replaced.append(_parent(name, began))
        rows.append({"output": name, "from": began, "to": to, PARENT: _parent(name, began), ORDINAL: 0})
    transaction.write(asset, Replaced(table_of(_SCHEMA, rows), replaced))


def backfilled(reader: Reader, job: Job, output: str, to: int) -> list[tuple[int, int]]:
    """The ranges of an output's offsets (from, to] that are history, of those up to an offset, oldest first."""
    asset = _labels_of(job)
    head = reader.head(asset)
    rows = dicts(reader.read(Slice(asset, 0, head.offset))) if head.rows else []
    return sorted((row["from"], row["to"]) for row in rows if row["output"] == output and row["from"] < to)


def _labels_of(job: Job) -> str:
    return f"{job.name}@backfilled"


def _parent(output: str, began: int) -> str:
    return f"{output}\x1f{began}"


def _newest(transaction: Transaction, asset: str, most: int) -> list[dict[str, Any]]:
    """The labels that were written last: what was committed before this may go on with one of them."""
    offset = transaction.head(asset).offset
    return dicts(transaction.read(Slice(asset, max(0, offset - most), offset, Images.ADDED))) if offset else []
