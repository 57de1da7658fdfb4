"""Reading assets piece by piece: rows by key or filter, and changes from an offset on.

Rules of this file:
  * names come from the catalog and nowhere else; values are quoted; what an asker wrote never becomes SQL;
  * a single row is found where its home keeps an index of it; everything else is one query over current rows;
  * changes are read from the asset's own log; what was trimmed away is said to be gone, never left out silently.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa

from tidemill.core.change import HIDDEN, OFFSET, RID, WEIGHT, Images, Slice
from tidemill.core.errors import NotFound, PoisonRecord, StateCorrupt, UserError
from tidemill.core.model import Asset, AssetKind
from tidemill.project import querying, reports
from tidemill.project.asking import Asked, Gone, select_of
from tidemill.project.wiring import Machine
from tidemill.runtime.backfilled import backfilled

__all__ = ["changes", "rows"]

SNAPSHOT_ROWS = 1_000
"""So many rows of a state are made into changes at a time."""


def rows(machine: Machine, name: str, asked: Asked) -> pa.Table:
    """The rows of an asset that fulfil the conditions, in the order of its key (of all columns where it has none)."""
    asset = reports.shaped(machine, reports.found(machine.catalog.assets, name, "asset").name)
    if asset.kind is AssetKind.TOPIC:
        event = _event(machine, asset, asked)
        if event is not None:
            return event.select(list(asked.columns or [column.name for column in asset.columns]))
        _bring_to_head(machine, asset)
    text = select_of(asset, asked)
    try:
        is_there = machine.catalog.is_rows(name) and machine.tables.head(name)
        return machine.tables.query(text) if is_there else querying.answer(machine, text)
    except PoisonRecord as error:
        raise UserError(f"a condition does not fit its column: {error.message}", mend="see the columns") from error


def _event(machine: Machine, asset: Asset, asked: Asked) -> Any:
    """The one event of a key or an id, from the ledger; None where it takes a query."""
    wanted = {column: text for column, word, text in asked.conditions if not word}
    if len(wanted) < len(asked.conditions) or asked.offset or not asked.limit:
        return None
    select_of(asset, asked)  # names are checked the same way
    return machine.ledger.event_of(asset, wanted)


def _bring_to_head(machine: Machine, topic: Asset) -> None:
    """Copy what the mirror of a topic lacks; nothing is locked where it lacks nothing."""
    if machine.tables.head(topic.name) < machine.ledger.head(topic.name) or not machine.tables.head(topic.name):
        machine.mirrors.catch_up_all([topic.name])


# ---------------------------------------------------------------------------------------------- changes


def changes(machine: Machine, name: str, from_: int, limit: int) -> tuple[Iterator[dict[str, Any]], int]:
    """The changes after an offset, about `limit` of them, and the offset that they reach to.

    From 0 they are the rows that there are now, each at the offset of its last change, whatever the limit. Raises Gone
    where what follows the offset is trimmed away.
    """
    asset = reports.found(machine.catalog.assets, name, "asset")
    if asset.kind is AssetKind.VIEW:
        raise UserError(f"{name} is a view: it has no changes of its own", mend="follow what it reads")
    reader = machine.stores[asset.home].begin(exclusive=False)
    try:
        head = reader.head(name).offset
        if from_ > head:
            raise UserError(f"{name} has no offset {from_} yet: it ends at {head}", mend=f"ask from {head}")
        if from_ == head:
            return iter(()), head
        expired = reader.head(name).expired
        if 0 < from_ < expired:
            raise Gone(
                f"the events of {name} up to offset {expired} have expired",
                mend=f"go on from {expired}, or begin again from 0, which is what is left",
            )
        to = min(head, from_ + limit) if from_ else head
        left = Slice(name, expired, head, Images.ADDED) if expired else Slice(name, 0, head)
        part = Slice(name, from_, to, Images.CHANGES) if from_ else left
        writer = machine.catalog.jobs.get(machine.loop.state.mapping.writer.get(name, ""))
        history = backfilled(reader, writer, name, to) if writer is not None else []
        return _as_changes(reader.read(part), asset, history), to
    except StateCorrupt as error:
        raise Gone(f"the changes of {name} after {from_} are trimmed away", mend="begin again from 0") from error
    except NotFound:
        return iter(()), 0
    finally:
        reader.rollback()


def _as_changes(read: Any, asset: Asset, history: Sequence[tuple[int, int]]) -> Iterator[dict[str, Any]]:
    """Each change of a slice, with both its images; in the ranges of `history` it is of a backfill."""
    starts = [from_ for from_, _ in history]
    for change in _each_change(read, asset):
        before = bisect_left(starts, change["offset"])
        change["source"]["backfill"] = before > 0 and change["offset"] <= history[before - 1][1]
        yield change


def _each_change(read: Any, asset: Asset) -> Iterator[dict[str, Any]]:
    table = read if isinstance(read, pa.Table) else pa.table(read)
    if WEIGHT not in table.column_names:
        yield from (_change("r", row[OFFSET], None, _image(row), asset) for row in _lines(table))
        return
    old: dict[str, Any] | None = None  # an old image comes right before the new one of its row
    for row in _lines(table):
        is_update = old is not None and old[RID] == row[RID] and row[WEIGHT] > 0
        if old is not None and not is_update:
            yield _change("d", old[OFFSET], _image(old), None, asset)
        if row[WEIGHT] < 0:
            old = row
            continue
        before = _image(old) if is_update and old else None
        yield _change("u" if is_update else "c", row[OFFSET], before, _image(row), asset)
        old = None
    if old is not None:
        yield _change("d", old[OFFSET], _image(old), None, asset)


def _lines(table: pa.Table) -> Iterator[dict[str, Any]]:
    for batch in table.to_batches(SNAPSHOT_ROWS):
        yield from reports.plain_rows(pa.Table.from_batches([batch]))


def _image(row: dict[str, Any]) -> dict[str, Any]:
    return {column: value for column, value in row.items() if column not in HIDDEN}


def _change(operation: str, offset: int, before: Any, after: Any, asset: Asset) -> dict[str, Any]:
    source = {"connector": "tidemill", "table": asset.name, "offset": offset, "snapshot": operation == "r"}
    return {"op": operation, "offset": offset, "before": before, "after": after, "source": source}
