"""A reader in memory for engine tests: assets as logs of changes, read exactly as the port says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from tidemill.core.change import OFFSET, RID, WEIGHT, Change, Images, Slice, consolidate
from tidemill.core.ports import Head

Log = Sequence[Change]


class MemoryReader:
    """Reads logs that a test wrote by hand."""

    def __init__(self, logs: Mapping[str, Log], schemas: Mapping[str, pa.Schema]) -> None:
        self.logs = logs
        self.schemas = schemas

    def head(self, asset: str) -> Head:
        log = self.logs[asset]
        return Head(log[-1].offset if log else 0)

    def read(self, part: Slice) -> pa.Table:
        from_ = 0 if part.images == Images.STATE else part.from_
        changes = consolidate(change for change in self.logs[part.asset] if from_ < change.offset <= part.to)
        rows = [row for change in changes if change.rid not in part.excluding for row in _images(change, part.images)]
        hidden = [pa.field(RID, pa.string()), pa.field(OFFSET, pa.int64())]
        if part.images == Images.CHANGES:
            hidden.append(pa.field(WEIGHT, pa.int8()))
        return pa.Table.from_pylist(rows, pa.schema([*hidden, *self.schemas[part.asset]]))


def _images(change: Change, images: str) -> list[dict[str, Any]]:
    found = []
    if images == Images.CHANGES and change.old is not None:
        found.append({RID: change.rid, OFFSET: change.offset, WEIGHT: -1, **change.old})
    if change.new is not None:
        found.append({RID: change.rid, OFFSET: change.offset, WEIGHT: 1, **change.new})
    return found


def inserts(rows: Sequence[Mapping[str, Any]]) -> list[Change]:
    """A log that only adds rows: r1, r2, ..."""
    return [Change(offset, f"r{offset}", None, row) for offset, row in enumerate(rows, start=1)]
