"""The parked set of a job: input rows its transform could not process, kept beside its cursor (rule 14).

Rules of this file:
  * the set is rows of the internal asset `JOB@parked`, written in the run's own transaction;
  * a parked row is left out of everything the job reads until it is changed or removed, which takes it off the set.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

from tidemill.core.change import ORDINAL, PARENT, Images, Replaced, Slice
from tidemill.core.model import Column, Job
from tidemill.core.ports import Reader, Table, Transaction
from tidemill.runtime.rows import dicts, table_of

__all__ = ["ParkedRow", "Parking", "parked_asset", "standing", "write_parking"]

_COLUMNS = (
    Column("input", "varchar"),
    Column("row", "varchar"),
    Column("position", "bigint"),
    Column("reason", "varchar"),
    Column("payload", "varchar"),
    Column("run", "varchar"),
)
_SCHEMA = pa.schema(
    [
        *(pa.field(c.name, pa.int64() if c.type == "bigint" else pa.string()) for c in _COLUMNS),
        pa.field(PARENT, pa.string()),
        pa.field(ORDINAL, pa.int64()),
    ]
)


@dataclass(frozen=True, slots=True)
class ParkedRow:
    """One input row that is left out: where it stands, why, and what it was (JSON)."""

    asset: str
    rid: str
    offset: int
    reason: str = ""
    payload: str = ""


@dataclass(slots=True)
class Parking:
    """What one run does to the parked set: `rows` join it, `leaving` (asset, row) leave it.

    `ends` cuts the run so that a repetition reads exactly what the failed attempt read, or a prefix of it.
    `is_everything`: every row of the change set is parked, so the transform succeeded on none.
    """

    rows: tuple[ParkedRow, ...] = ()
    leaving: list[tuple[str, str]] = field(default_factory=list)
    ends: Mapping[str, int] | None = None
    is_everything: bool = False


def parked_asset(job: str) -> str:
    """The name of the internal asset that holds a job's parked set."""
    return f"{job}@parked"


def standing(reader: Reader, job: Job) -> list[ParkedRow]:
    """The parked set as it stands in this snapshot."""
    asset = parked_asset(job.name)
    head = reader.head(asset)
    if not head.rows:
        return []
    rows = dicts(reader.read(Slice(asset, 0, head.offset, Images.STATE)))
    return [ParkedRow(r["input"], r["row"], r["position"], r["reason"] or "", r["payload"] or "") for r in rows]


def write_parking(transaction: Transaction, job: Job, parking: Parking, run: str) -> None:
    """Write what a run does to the parked set; nothing where it does nothing."""
    if not parking.rows and not parking.leaving:
        return
    asset = parked_asset(job.name)
    transaction.define(Table(asset, _COLUMNS))
    joining = [
        {
            "input": row.asset,
            "row": row.rid,
            "position": row.offset,
            "reason": row.reason,
            "payload": row.payload,
            "run": run,
            PARENT: _identity(row.asset, row.rid),
            ORDINAL: 0,
        }
        for row in parking.rows
    ]
    parents = [*(_identity(*pair) for pair in parking.leaving), *(row[PARENT] for row in joining)]
    transaction.write(asset, Replaced(table_of(_SCHEMA, joining), [str(parent) for parent in parents]))


def _identity(asset: str, rid: str) -> str:
    return f"{asset}\x1f{rid}"
