"""What a job's cursor was moved over without a run: history that it never processed, until a backfill does.

Rules of this file:
  * the ranges are rows of the internal asset `JOB@skipped` in the job's home, written in the transaction that moves the
    cursor over them, and taken away in the transaction that commits their processing;
  * so a range is either skipped or processed, whatever crashes: nothing is processed twice, and nothing is forgotten;
  * a result that is made from whole inputs has them all: what commits it takes every range away.
"""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from tidemill.core.change import ORDINAL, PARENT, Replaced, Slice
from tidemill.core.model import Column, Job
from tidemill.core.ports import Reader, Table, Transaction
from tidemill.core.slices import Span, without
from tidemill.runtime.rows import dicts, table_of

__all__ = ["forget", "skip", "skipped", "take_away"]

_COLUMNS = (Column("input", "varchar"), Column("from", "bigint"), Column("to", "bigint"))
_SCHEMA = pa.schema(
    [
        pa.field("input", pa.string()),
        pa.field("from", pa.int64()),
        pa.field("to", pa.int64()),
        pa.field(PARENT, pa.string()),
        pa.field(ORDINAL, pa.int64()),
    ]
)


def skipped(reader: Reader, job: Job) -> list[Span]:
    """The ranges that the job never processed, by input and offset."""
    asset = f"{job.name}@skipped"
    head = reader.head(asset)
    if not head.rows:
        return []
    rows = dicts(reader.read(Slice(asset, 0, head.offset)))
    return sorted(Span(row["input"], row["from"], row["to"]) for row in rows)


def skip(transaction: Transaction, job: Job, spans: Iterable[Span]) -> None:
    """The job's cursor is moved over these ranges in this transaction."""
    fresh = [span for span in spans if span.to > span.from_]
    if fresh:
        _write(transaction, job, [*skipped(transaction, job), *fresh])


def take_away(transaction: Transaction, job: Job, span: Span) -> None:
    """This range is processed in this transaction."""
    _write(transaction, job, without(skipped(transaction, job), span))


def forget(transaction: Transaction, job: Job) -> bool:
    """Nothing counts as skipped any more: this transaction commits what the job makes of its whole inputs.

    Returns whether anything was skipped.
    """
    had_any = bool(skipped(transaction, job))
    if had_any:
        _write(transaction, job, ())
    return had_any


def _write(transaction: Transaction, job: Job, spans: Iterable[Span]) -> None:
    asset = f"{job.name}@skipped"
    transaction.define(Table(asset, _COLUMNS))
    rows = [
        {"input": each.asset, "from": each.from_, "to": each.to, PARENT: f"{each.asset}\x1f{each.to}", ORDINAL: 0}
        for each in spans
    ]
    transaction.write(asset, Replaced(table_of(_SCHEMA, rows), None))
