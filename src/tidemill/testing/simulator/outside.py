"""The world around a process: what is there whether or not a process lives, and the fakes that stand at its edges.

Rules of this file:
  * a `Site` survives the death of a process: the disks, the files, the definitions, what people said, and what effects
    reached the outside; everything else belongs to a process and dies with it;
  * nothing here reads a clock or draws a number: time and chance are in the history.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import pyarrow as pa

from tidemill.core.change import OFFSET, ORDINAL, PARENT, RID, WEIGHT, Appended, Images, Replaced, Slice
from tidemill.core.errors import UpstreamError
from tidemill.core.event import Alert, Start
from tidemill.core.model import Asset, Home, Semantics
from tidemill.core.ports import FileContent, Reader, Receipt, SourceFile, Store, Table, Transaction, Work
from tidemill.runtime.gate import LetGo, Opening
from tidemill.runtime.loop import Task
from tidemill.runtime.perform import Done
from tidemill.testing.memory import Disk
from tidemill.testing.simulator.words import JobSpec, SourceSpec

__all__ = [
    "START",
    "Delivery",
    "ListWorkers",
    "ListedFiles",
    "MemoryLog",
    "Notebook",
    "Site",
    "SiteClock",
    "at_seconds",
    "observe",
]

START = datetime(2024, 3, 4, tzinfo=UTC).timestamp()
"""The moment at which every history begins."""

Image = tuple[str, str, int, str, int, str]
"""Input, row identity, weight, k, v and the day ("" where there is none)."""
FileRows = tuple[tuple[str, int], ...] | None


@dataclass(frozen=True, slots=True)
class Delivery:
    """One call of an effect, as the outside saw it."""

    job: str
    key: str
    ranges: tuple[tuple[str, int, int], ...]
    content: tuple[Any, ...]
    value: str = ""
    rows: tuple[Image, ...] = ()
    state: tuple[Image, ...] = field(default=(), compare=False)
    """All rows that it could see, of each input."""


@dataclass(slots=True)
class Site:
    """What survives a process."""

    disks: dict[Home, Disk] = field(default_factory=lambda: {home: Disk() for home in Home})
    sources: dict[str, SourceSpec] = field(default_factory=dict)
    jobs: dict[str, JobSpec] = field(default_factory=dict)
    now: float = START
    files: dict[str, dict[tuple[str, str], tuple[int, FileRows]]] = field(default_factory=dict)
    keys: dict[str, dict[str, int]] = field(default_factory=dict)
    first_seen: dict[str, float] = field(default_factory=dict)
    paused: set[str] = field(default_factory=set)
    let_go: dict[str, LetGo] = field(default_factory=dict)
    troubles: dict[str, int] = field(default_factory=dict)
    deliveries: list[Delivery] = field(default_factory=list)
    released: set[str] = field(default_factory=set)
    """The idempotency keys of the work that a person let go."""
    emitted: dict[str, list[tuple[str, int | None, int]]] = field(default_factory=dict)
    gone: dict[str, dict[int, dict[str, Any]]] = field(default_factory=dict)
    """The events of each topic that were let expire, by offset: the one who judges forgets nothing."""
    sent: dict[str, list[dict[str, Any]]] = field(default_factory=dict)
    """The events with ids that were sent, each once."""
    opened: list[tuple[str, str]] = field(default_factory=list)
    scandals: list[str] = field(default_factory=list)
    notes: dict[str, Any] = field(default_factory=dict)
    numbers: int = 0

    def number(self) -> int:
        """A number never given before."""
        self.numbers += 1
        return self.numbers


@dataclass(slots=True)
class SiteClock:
    """The clock of a site."""

    site: Site

    def now(self) -> float:
        """Seconds since the epoch."""
        return self.site.now


class ListWorkers:
    """Workers that do nothing until they are told to: the order is the history's."""

    def __init__(self) -> None:
        self.waiting: list[tuple[str, int, int, Task]] = []
        self._count = 0

    def submit(self, lane: str, task: Task, *, priority: int = 0) -> None:
        """Keep the task."""
        self._count += 1
        self.waiting.append((lane, -priority, self._count, task))

    def take(self, pick: int) -> Task | None:
        """One of the tasks that a worker could be doing: lane `tables` has one worker, the others many."""
        if not self.waiting:
            return None
        chosen = self.waiting[pick % len(self.waiting)]
        if chosen[0] == "tables":
            chosen = min(each for each in self.waiting if each[0] == "tables")
        self.waiting.remove(chosen)
        return chosen[3]


class Notebook:
    """A journal that keeps alarms and gives run ids."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self.alerts: list[Alert] = []
        self.errors: dict[str, str] = {}
        self.runs = 0

    def begin(self, start: Start) -> str:
        """A run begins, or is tried again."""
        self.runs += 1
        return start.run or f"run-{self._site.number()}"

    def end(self, run: str, start: Start, done: Done) -> None:
        """A run was committed; a value that its gate opened (and not only corrected) is noted."""
        del run, done
        self.errors[start.job] = ""
        if isinstance(start.payload, Opening) and not start.payload.is_correction:
            self._site.opened.append((start.job, start.value))

    def fail(self, run: str, job: str, error: str, state: str) -> None:
        """An attempt failed."""
        del run, state
        self.errors[job] = error

    def alert(self, alert: Alert) -> None:
        """Keep an alarm."""
        self.alerts.append(alert)


@lru_cache(maxsize=10_000)
def at_seconds(moment: float) -> datetime:
    """A moment as a value of a timestamp column."""
    return datetime.fromtimestamp(moment, UTC).replace(tzinfo=None)


class MemoryLog:
    """The door, in memory: the `Log` port over a store that keeps topics as rows with their own offsets."""

    def __init__(self, store: Store, site: Site) -> None:
        self._store = store
        self._site = site

    def append(self, asset: Asset, events: bytes, *, source: str = "", mark: str = "") -> Receipt:
        """Take events (NDJSON) through the upsert rules; see `Log.append`."""
        del source, mark
        rows = [json.loads(line) for line in events.splitlines()]
        transaction = self._store.begin()
        try:
            is_upsert = asset.semantics is Semantics.UPSERT
            head = transaction.define(Table(asset.name, asset.columns, asset.key or None)).offset
            taken = self._newest(asset, rows) if is_upsert else self._unknown(asset, rows, transaction, head)
            for group in [[row] for row in taken] if is_upsert else [taken] if taken else []:
                table = _numbered(asset, group, head)
                head += len(group)
                if is_upsert:
                    transaction.write(asset.name, Replaced(table, [_rid(asset, group[0])], head=head))
                else:
                    transaction.write(asset.name, Appended(table, head=head))
            transaction.commit()
            return Receipt(len(taken), len(rows) - len(taken), 0, head)
        finally:
            transaction.rollback()

    def _unknown(
        self, asset: Asset, rows: list[Mapping[str, Any]], transaction: Transaction, head: int
    ) -> list[Mapping[str, Any]]:
        """The rows whose id did not come before (rule 5)."""
        known = self.known_ids(asset, transaction, head) if asset.id else set()
        return [row for row in rows if not asset.id or row[asset.id] not in known]

    def known_ids(self, asset: Asset, transaction: Transaction, head: int) -> set[str]:
        """The ids that came before, as the transaction sees them: they are committed with their events."""
        expired = transaction.head(asset.name).expired
        left = transaction.read(Slice(asset.name, expired, head, Images.ADDED)) if head else None
        gone = {row[asset.id] for at, row in self._site.gone.get(asset.name, {}).items() if at <= expired}
        return gone | (set(pa.table(left).column(asset.id).to_pylist()) if left is not None else set())

    def _newest(self, asset: Asset, rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
        """The rows whose version is not stale (rule 6)."""
        versions = self._site.keys.setdefault(asset.name, {})
        taken = []
        for row in rows:
            key, version = _rid(asset, row), row[asset.version]
            if version >= versions.get(key, version):
                versions[key] = version
                taken.append(row)
        return taken

    def touch(self, asset: str, version: str) -> Receipt:
        """Note a version of an external asset; see `Log.touch`."""
        transaction = self._store.begin()
        try:
            row = pa.table({"version": [version], PARENT: [version], ORDINAL: pa.array([0], pa.int64())})
            transaction.write(asset, Appended(row))
            return Receipt(1, head=transaction.commit()[asset].offset)
        finally:
            transaction.rollback()

    def mark(self, asset: str, source: str) -> str:
        """No marks are kept."""
        del asset, source
        return ""


def _rid(asset: Asset, row: Mapping[str, Any]) -> str:
    return json.dumps([row[name] for name in asset.key])


def _numbered(asset: Asset, rows: list[Mapping[str, Any]], head: int) -> pa.Table:
    """Events as rows with their identity and offset; none for a deletion."""
    offsets = list(range(head + 1, head + 1 + len(rows)))
    kept = [(row, offset) for row, offset in zip(rows, offsets, strict=True) if not row.get("_deleted")]
    is_upsert = asset.semantics is Semantics.UPSERT
    rids = [_rid(asset, row) if is_upsert else str(offset) for row, offset in kept]
    columns: dict[str, Any] = {
        RID: pa.array(rids, pa.string()),
        OFFSET: pa.array([offset for _, offset in kept], pa.int64()),
        "k": pa.array([row["k"] for row, _ in kept], pa.string()),
        "v": pa.array([row["v"] for row, _ in kept], pa.int64()),
    }
    if asset.id:
        columns[asset.id] = pa.array([row[asset.id] for row, _ in kept], pa.string())
    if is_upsert:
        columns["n"] = pa.array([row["n"] for row, _ in kept], pa.int64())
    elif asset.event_time:
        columns["at"] = pa.array([at_seconds(row["at"]) for row, _ in kept], pa.timestamp("us"))
    return pa.table(columns)


class ListedFiles:
    """The files of one asset: the `Source` port over a site."""

    def __init__(self, site: Site, asset: str) -> None:
        self._site = site
        self._asset = asset

    def list(self) -> list[SourceFile]:
        """All files that are there now."""
        return [
            SourceFile(f"{self._asset}/{day}/{store}.csv", len(rows or ()), str(stamp), {"day": day, "store": store})
            for (day, store), (stamp, rows) in self._site.files.get(self._asset, {}).items()
        ]

    def read(self, file: SourceFile) -> FileContent:
        """The rows of one file, identified by path, content and occurrence."""
        day, store = file.partition["day"], file.partition["store"]
        found = self._site.files.get(self._asset, {}).get((day, store))
        if found is None:
            raise FileNotFoundError(file.path)
        rows = found[1]
        if rows is None:
            raise UpstreamError(f"{file.path} does not parse", place=f"{file.path}:1")
        seen: dict[tuple[str, int], int] = {}
        rids = []
        for row in rows:
            seen[row] = seen.get(row, 0) + 1
            rids.append(f"{file.path}#{row[0]},{row[1]}#{seen[row]}")
        count = len(rows)
        table = pa.table(
            {
                RID: pa.array(rids, pa.string()),
                PARENT: pa.array([file.path] * count, pa.string()),
                "k": pa.array([k for k, _ in rows], pa.string()),
                "v": pa.array([v for _, v in rows], pa.int64()),
                "day": pa.array([day] * count, pa.string()),
                "store": pa.array([store] * count, pa.string()),
            }
        )
        return FileContent(table, repr(rows))


def observe(site: Site, work: Work, reader: Reader, key: str) -> Mapping[str, str]:
    """The effect of every job that acts outside: the outside notes what it was told."""
    slices = [Slice(asset, from_, to, Images.CHANGES) for asset, (from_, to) in sorted(work.ranges.items())]
    told = [_told(reader, part) for part in slices]
    ranges = tuple((part.asset, part.from_, part.to) for part in slices)
    content = tuple(tuple(sorted(map(repr, rows))) for rows in told)
    rows = tuple(image for part, each in zip(slices, told, strict=True) for image in _images(part.asset, each))
    state: tuple[Image, ...] = ()
    if work.job.gate is not None:
        parts = [Slice(part.asset, 0, part.to) for part in slices if part.to]
        state = tuple(image for part in parts for image in _images(part.asset, _told(reader, part)))
    site.deliveries.append(Delivery(work.job.name, key, ranges, content, work.value, rows, state))
    return {}


def _told(reader: Reader, part: Slice) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = pa.table(reader.read(part)).to_pylist() if part.to > part.from_ else []
    return rows


def _images(asset: str, rows: Iterable[Mapping[str, Any]]) -> Iterable[Image]:
    return [(asset, row[RID], row.get(WEIGHT, 1), row["k"], row["v"], row.get("day", "")) for row in rows if "k" in row]
