"""What a job with outside effects has delivered: the runs as they were pinned, kept so that they can be delivered again.

Rules of this file:
  * a run is a row of the internal asset `JOB@runs`, written in the transaction that settles it: what moved the cursor is
    in there, and nothing else;
  * their offsets are the order in which the runs were settled; rows are only ever added, and the oldest forgotten
    (`forget_oldest`). Of those one row keeps how far they had read; behind a gate the newest run of each value stays, for
    it says that the value was taken.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from tidemill.core.change import OFFSET, ORDINAL, PARENT, RID, WEIGHT, Appended, Changed, Slice
from tidemill.core.effect import pinned_key
from tidemill.core.model import Column, Job
from tidemill.core.ports import Progress, Reader, Store, Table, Transaction
from tidemill.runtime.rows import as_table, table_of

__all__ = ["RUNS_MAX", "Delivered", "delivered", "forget_oldest", "forgotten", "record", "replay_of", "runs_asset"]

_COLUMNS = (
    Column("run", "varchar"),
    Column("ranges", "varchar"),
    Column("opens", "varchar"),
    Column("at", "double"),
)
_TYPES = {"varchar": pa.string(), "double": pa.float64()}
_FIELDS = [pa.field(column.name, _TYPES[column.type]) for column in _COLUMNS]
_SCHEMA = pa.schema([*_FIELDS, pa.field(PARENT, pa.string()), pa.field(ORDINAL, pa.int64())])
_LINES = pa.schema([pa.field(RID, pa.string()), pa.field(WEIGHT, pa.int8()), *_FIELDS])
READ_AT_ONCE = 1_000
RUNS_MAX = 50_000
"""So many of a job's newest runs can be delivered again."""
SLACK = 25
"""The oldest are forgotten a twenty-fifth of that at a time."""
_FORGOTTEN = "forgotten"
"""The row that says how far the forgotten runs had read; its `run` is ""."""


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


def replay_of(job: str) -> str:
    """The name under which the replay of a job keeps its progress."""
    return f"{job}@replay"


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
    for row in _recorded(reader, job):
        if after < row[OFFSET] <= to and row["run"]:
            pinned = Progress(job.name, job.version, pinned=_ranges(row), opens=json.loads(row["opens"]))
            yield Delivered(row[OFFSET], row["run"], row["at"], pinned)


def forgotten(reader: Reader, job: Job) -> Mapping[str, tuple[int, int]]:
    """What the runs had read of each input that are not recorded any more: from the beginning up to an offset."""
    return next((_ranges(row) for row in _recorded(reader, job) if not row["run"]), {})


def forget_oldest(store: Store, job: Job, runs_max: int = RUNS_MAX) -> int:
    """Forget the oldest recorded runs beyond so many, once they are a twenty-fifth more; returns how many.

    Those stay that a replay at work has still to deliver. One at a time; others may commit meanwhile.
    """
    asset = runs_asset(job.name)
    reader = store.begin(exclusive=False)
    try:
        if reader.head(asset).rows <= runs_max + runs_max // SLACK:
            return 0
        recorded = list(_recorded(reader, job))
    finally:
        reader.rollback()
    transaction = store.begin()
    try:
        gone = _oldest(recorded, runs_max, _needed_from(transaction, job, asset))
        if not gone:
            return 0
        transaction.write(asset, Changed(_without(recorded, gone)))
        offset = transaction.commit()[asset].offset
    finally:
        transaction.rollback()
    store.trim(asset, offset)
    return len(gone)


def _without(recorded: list[dict[str, Any]], gone: list[dict[str, Any]]) -> pa.Table:
    """The lines that take runs away, and say in the place of what said it before how far they had read."""
    before = [row for row in recorded if not row["run"]]
    ends: dict[str, int] = {}
    for row in (*before, *gone):
        ends |= {name: max(to, ends.get(name, 0)) for name, (_, to) in _ranges(row).items()}
    said = json.dumps({name: (0, to) for name, to in ends.items()})
    after = {RID: _FORGOTTEN, "run": "", "ranges": said, "opens": "{}", "at": 0.0}
    lines = [{**row, WEIGHT: -1} for row in (*before, *gone)]
    return table_of(_LINES, [*lines, {**after, WEIGHT: 1}])


def _needed_from(transaction: Transaction, job: Job, asset: str) -> int | None:
    """The offset behind which a replay at work has runs to deliver; None where there is no such replay."""
    known = transaction.progress(replay_of(job.name))
    return known.cursors.get(asset, 0) if known is not None and known.pinned is not None else None


def _oldest(rows: list[dict[str, Any]], runs_max: int, needed_from: int | None) -> list[dict[str, Any]]:
    """The rows of runs that may go."""
    runs = [row for row in rows if row["run"]]
    newest = {value: row["run"] for row in runs if row["opens"] != "{}" for value in json.loads(row["opens"])}
    taken = set(newest.values())
    old = [row for row in runs[: max(0, len(runs) - runs_max)] if row["run"] not in taken]
    return [row for row in old if needed_from is None or row[OFFSET] <= needed_from]


def _recorded(reader: Reader, job: Job) -> Iterable[dict[str, Any]]:
    asset = runs_asset(job.name)
    offset = reader.head(asset).offset
    if not offset:
        return
    rows = as_table(reader.read(Slice(asset, 0, offset))).sort_by(OFFSET)
    for batch in rows.to_batches(max_chunksize=READ_AT_ONCE):
        yield from batch.to_pylist()


def _ranges(row: Mapping[str, Any]) -> dict[str, tuple[int, int]]:
    return {name: (from_, until) for name, (from_, until) in json.loads(row["ranges"]).items()}
