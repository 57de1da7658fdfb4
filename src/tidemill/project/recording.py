"""Writing the tables that tidemill keeps of itself (system.py), so that whoever reads them hears of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa

from tidemill.core.change import ORDINAL, PARENT, Replaced
from tidemill.core.event import Landed
from tidemill.core.ports import Table
from tidemill.project.system import SYSTEM
from tidemill.project.wiring import Machine

__all__ = ["keep", "moment"]

_TYPES = {
    "varchar": pa.string(),
    "boolean": pa.bool_(),
    "bigint": pa.int64(),
    "double": pa.float64(),
    "timestamp": pa.timestamp("us"),
}


def moment(seconds: float | None) -> datetime | None:
    """Seconds since the epoch as a time in UTC, as columns hold it."""
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).replace(tzinfo=None)


def keep(machine: Machine, name: str, rows: Iterable[Mapping[str, Any]]) -> None:
    """Add rows to one of these tables, or put them in the place of those with their key; durable on return."""
    asset = SYSTEM[name]
    kept = [{**row, PARENT: "\x1f".join(str(row[column]) for column in asset.key), ORDINAL: 0} for row in rows]
    if not kept:
        return
    fields = [
        *((column.name, _TYPES[column.type]) for column in asset.columns),
        (PARENT, pa.string()),
        (ORDINAL, pa.int64()),
    ]
    transaction = machine.tables.begin()
    try:
        transaction.define(Table(name, asset.columns))
        transaction.write(
            name, Replaced(pa.Table.from_pylist(kept, pa.schema(fields)), [str(row[PARENT]) for row in kept])
        )
        head = transaction.commit()[name]
    finally:
        transaction.rollback()
    machine.loop.post(Landed(name, head, machine.clock.now()))
