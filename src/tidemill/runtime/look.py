"""Looking into the data for what lets a job start: delays (`after`) and gates (rules 20, 21).

When a change arrived is not stored: it counts from the first look that saw it, so a restart can only lengthen a delay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime

from tidemill.core import pace
from tidemill.core.change import OFFSET, WEIGHT, Images, Slice
from tidemill.core.event import Looked
from tidemill.core.model import Home, Job, Late
from tidemill.core.ports import Progress, Reader, Store
from tidemill.runtime import gate
from tidemill.runtime.catalog import Catalog
from tidemill.runtime.mirror import Mirrors
from tidemill.runtime.perform import Snapshot
from tidemill.runtime.rows import as_table

__all__ = ["Looker"]

Arrivals = list[tuple[int, float]]
"""(head, when it was first seen), oldest first."""


class Looker:
    """Answers `Look` commands from one snapshot of both stores."""

    def __init__(
        self,
        catalog: Catalog,
        stores: Mapping[Home, Store],
        mirrors: Mirrors,
        let_go: Callable[[str], gate.LetGo] = lambda _job: {},
    ) -> None:
        """`let_go` tells which late rows of a job a person let go, durably."""
        self._catalog = catalog
        self._stores = stores
        self._mirrors = mirrors
        self._let_go = let_go
        self._seen: dict[str, dict[str, Arrivals]] = {}

    def look(self, name: str, now: float) -> Looked:
        """The answer for one job at this moment."""
        job = self._catalog.jobs[name]
        with self._snapshot(job) as (reader, progress):
            if job.gate is not None:
                let_go = self._let_go(name) if job.gate.on_late is Late.HOLD else {}
                return gate.look(self._catalog, job, reader, now, let_go=let_go, begun=progress)
            cursors = progress.cursors if progress is not None else {}
            return self._delayed(job, reader, cursors, now)

    def held_late(self, name: str) -> gate.LetGo:
        """The late rows of a gated job that wait for a person now."""
        job = self._catalog.jobs[name]
        with self._snapshot(job) as (reader, _):
            return gate.held_late(self._catalog, job, reader)

    def opened_by_now(self, name: str, now: float) -> gate.Opening:
        """What a gated job has behind it that starts from now."""
        job = self._catalog.jobs[name]
        with self._snapshot(job) as (reader, _):
            return gate.opened_by_now(self._catalog, job, reader, now)

    @contextmanager
    def _snapshot(self, job: Job) -> Iterator[tuple[Snapshot, Progress | None]]:
        """One snapshot of both stores, and the job's progress in it."""
        plan = self._catalog.plan(job)
        self._mirrors.prepare(job, plan)
        tables = self._stores[Home.TABLES].begin(exclusive=False)
        ledger = self._stores[Home.LEDGER].begin(exclusive=False)
        try:
            own = tables if job.home is Home.TABLES else ledger
            mirrored = frozenset(self._mirrors.needed(job, plan))
            yield Snapshot(self._catalog, tables, ledger, mirrored), own.progress(job.name)
        finally:
            tables.rollback()
            ledger.rollback()

    def _delayed(self, job: Job, reader: Reader, cursors: Mapping[str, int], now: float) -> Looked:
        seen = self._seen.setdefault(job.name, {})
        ends, next_at = {}, None
        for asset in job.inputs:
            cursor, head = cursors.get(asset, 0), reader.head(asset).offset
            seen[asset] = _arrivals(seen.get(asset, []), cursor, head, now)
            part = Slice(asset, cursor, head, Images.CHANGES)
            times = _times(self._catalog, reader, part, seen[asset]) if seen[asset] else []
            due = pace.delayed(cursor, times, job.after_seconds, now)
            ends[asset] = head if due.next_at is None else due.end
            if due.next_at is not None:
                next_at = due.next_at if next_at is None else min(next_at, due.next_at)
        is_ready = any(end > cursors.get(asset, 0) for asset, end in ends.items())
        because = () if is_ready else ("every change is still within its delay (after)",)
        return Looked(job.name, is_ready, now, ends=ends, next_at=next_at, because=because)


def _arrivals(known: Arrivals, cursor: int, head: int, now: float) -> Arrivals:
    """(head, when it was first seen) of what is not taken yet."""
    waiting = [(to, at) for to, at in known if to > cursor]
    return [*waiting, (head, now)] if head > max(cursor, *(to for to, _ in waiting), 0) else waiting


def _times(catalog: Catalog, reader: Reader, part: Slice, arrivals: Arrivals) -> list[tuple[int, float]]:
    """(offset, min of event time and arrival) of the changes of a slice; a removed row has the time it had."""
    rows = as_table(reader.read(part))
    column = catalog.assets[part.asset].event_time
    values = rows.column(column).to_pylist() if column else [None] * rows.num_rows
    lines = zip(rows.column(OFFSET).to_pylist(), rows.column(WEIGHT).to_pylist(), values, strict=True)
    images = {offset: value for offset, _, value in sorted(lines, key=lambda line: line[:2])}
    arrived = {offset: next(at for to, at in arrivals if to >= offset) for offset in images}
    return [(offset, min(arrived[offset], _seconds(value, arrived[offset]))) for offset, value in images.items()]


def _seconds(value: object, otherwise: float) -> float:
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC).timestamp()
    return otherwise
