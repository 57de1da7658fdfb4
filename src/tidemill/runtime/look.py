"""Looking into the data for what lets a job start: delays (`after`) and gates (rules 20, 21)."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime

from tidemill.core import pace
from tidemill.core.change import OFFSET, Images, Slice
from tidemill.core.event import Looked
from tidemill.core.model import Home, Job
from tidemill.core.ports import Reader, Store
from tidemill.runtime import gate
from tidemill.runtime.catalog import Catalog
from tidemill.runtime.mirror import Mirrors
from tidemill.runtime.perform import Snapshot
from tidemill.runtime.rows import as_table

__all__ = ["Looker"]


class Looker:
    """Answers `Look` commands from one snapshot of both stores."""

    def __init__(self, catalog: Catalog, stores: Mapping[Home, Store], mirrors: Mirrors) -> None:
        self._catalog = catalog
        self._stores = stores
        self._mirrors = mirrors

    def look(self, name: str, now: float, *, release_late: bool = False) -> Looked:
        """The answer for one job at this moment."""
        job = self._catalog.jobs[name]
        plan = self._catalog.plan(job)
        self._mirrors.prepare(job, plan)
        tables = self._stores[Home.TABLES].begin(exclusive=False)
        ledger = self._stores[Home.LEDGER].begin(exclusive=False)
        try:
            reader = Snapshot(self._catalog, tables, ledger, frozenset(self._mirrors.needed(job, plan)))
            if job.gate is not None:
                return gate.look(self._catalog, job, reader, now, release_late=release_late)
            own = tables if job.home is Home.TABLES else ledger
            progress = own.progress(name)
            return _delayed(self._catalog, job, reader, progress.cursors if progress is not None else {}, now)
        finally:
            tables.rollback()
            ledger.rollback()


def _delayed(catalog: Catalog, job: Job, reader: Reader, cursors: Mapping[str, int], now: float) -> Looked:
    ends, next_at = {}, None
    for asset in job.inputs:
        cursor, head = cursors.get(asset, 0), reader.head(asset).offset
        times = _times(catalog, reader, Slice(asset, cursor, head, Images.ADDED), now) if head > cursor else []
        due = pace.delayed(cursor, times, job.after_seconds, now)
        ends[asset] = head if times and times[-1][0] <= due.end else due.end
        if due.next_at is not None:
            next_at = due.next_at if next_at is None else min(next_at, due.next_at)
    is_ready = any(end > cursors.get(asset, 0) for asset, end in ends.items())
    because = () if is_ready else ("every change is still within its delay (after)",)
    return Looked(job.name, is_ready, now, ends=ends, next_at=next_at, because=because)


def _times(catalog: Catalog, reader: Reader, part: Slice, now: float) -> list[tuple[int, float]]:
    """(offset, event time) of the new images of a slice; a time that is absent or ahead of the clock counts as now."""
    rows = as_table(reader.read(part))
    column = catalog.assets[part.asset].event_time
    offsets = rows.column(OFFSET).to_pylist()
    if not column:
        return [(offset, now) for offset in offsets]
    return sorted(
        (o, min(now, _seconds(v, now))) for o, v in zip(offsets, rows.column(column).to_pylist(), strict=True)
    )


def _seconds(value: object, otherwise: float) -> float:
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC).timestamp()
    return otherwise
