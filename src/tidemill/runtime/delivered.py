"""What a job with outside effects has delivered: the runs as they were pinned, kept so that they can be delivered again.

Rules of this file:
  * a run is a row of the internal asset `JOB@runs`, written in the transaction that settles it: what moved the cursor is
    in there, and nothing else;
  * rows are only ever added; their offsets are the order in which the runs were settled.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa

from tidemill.core.change import OFFSET, ORDINAL, PARENT, Appended, Images, Slice
from tidemill.core.effect import pinned_key
from tidemill.core.model import Column, Job
from tidemill.core.ports import Progress, Reader, Table, Transaction
from tidemill.runtime.rows import dicts, table_of

__all__ = ["Delivered", "delivered", "record", "runs_asset"]

_COLUMNS = (
    Column("run", "varchar"),
    Column("ranges", "varchar"),
    Column("opens", "varchar"),
    Column("at", "double"),
)
_TYPES = {"varchar": pa.string(), "double": pa.float64()}
_SCHEMA = pa.schema(
    [
        *(pa.field(column.name, _TYPES[column.type]) for column in _COLUMNS),
        pa.field(PARENT, pa.string()),
        pa.field(ORDINAL, pa.int64()),
    ]
)
READ_AT_ONCE = 1_000


@dataclass(frozen=True, slots=True)
class Delivered:
    """One recorded run: its place among the job's runs, when it was settled (seconds), its progress as it was pinned."""

    offset: int
    run: str
    at: float
    pinned: Progress

    @property
    def key(self) -> str:
        """Its idempotency key."""
        return pinned_key(self.pinned)

    @property
    def ranges(self) -> Mapping[str, tuple[int, int]]:
        """What it took of each input."""
        return self.pinned.pinned or {}


def runs_asset(job: str) -> str:
    """The internal asset that holds a job's recorded runs."""
    return f"{job}@runs"


def record(transaction: Transaction, job: Job, pinned: Progress, done: Progress) -> None:
    """Record a run that is being settled."""
    asset = runs_asset(job.name)
    transaction.define(Table(asset, _COLUMNS))
    row = {
        "run": done.run,
        "ranges": json.dumps(dict(pinned.pinned or {})),
        "opens": json.dumps({value: dict(before) for value, before in pinned.opens.items()}),
        "at": done.served_at,
        PARENT: done.run,
        ORDINAL: 0,
    }
    transaction.write(asset, Appended(table_of(_SCHEMA, [row])))


def delivered(reader: Reader, job: Job, after: int, to: int) -> Iterator[Delivered]:
    """The recorded runs of (after, to], oldest first."""
    asset = runs_asset(job.name)
    for low in range(after, to, READ_AT_ONCE):
        for row in dicts(reader.read(Slice(asset, low, min(low + READ_AT_ONCE, to), Images.ADDED))):
            ranges = {name: (from_, until) for name, (from_, until) in json.loads(row["ranges"]).items()}
            pinned = Progress(job.name, job.version, pinned=ranges, opens=json.loads(row["opens"]))
            yield Delivered(row[OFFSET], row["run"], row["at"], pinned)
