"""Reports of runs: written beside the work, never in its way.

Rules of this file:
  * a report is not the truth: what was committed stands in the stores, under the run id beside the cursor (rule 9);
  * reports are written in groups by a thread of their own, so a run never waits for one;
  * at start, reports that say `running` are settled from the stores;
  * a run that failed names what it tried to take, where it came so far: that is what a person looks at next.
"""

from __future__ import annotations

import itertools
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from tidemill.core.errors import TidemillError
from tidemill.core.event import Alert, Start
from tidemill.core.model import Home
from tidemill.core.ports import Clock, Ledger, Positions, RunRecord
from tidemill.runtime.catalog import Catalog
from tidemill.runtime.perform import Done

__all__ = ["GROUP_SECONDS", "LedgerJournal", "as_json", "settle_reports", "taken_of"]

AGAIN_SECONDS = 1.0
"""When reports that could not be written are tried again."""
GROUP_SECONDS = 0.01
"""How long reports wait for others, so that they do not compete with the commits of the work itself."""

Listener = Callable[[RunRecord], None]


class LedgerJournal:
    """Writes run reports to the ledger and tells listeners.

    `rules` tells of a job's run by which rule each stage was maintained; nothing where it has no stages.
    """

    def __init__(
        self,
        ledger: Ledger,
        catalog: Catalog,
        clock: Clock,
        rules: Callable[[str, str], Mapping[str, str]] = lambda _job, _run: {},
    ) -> None:
        self._ledger = ledger
        self._catalog = catalog
        self._clock = clock
        self._rules = rules
        self._epoch = f"{int(clock.now() * 1000):011x}"
        self._numbers = itertools.count(1)
        self._going: dict[str, RunRecord] = {}
        self._queue: queue.SimpleQueue[RunRecord | threading.Event | None] = queue.SimpleQueue()
        self._hurry = threading.Event()
        self._thread = threading.Thread(target=self._write, name="tidemill-journal", daemon=True)
        self._thread.start()
        self.listeners: list[Listener] = []
        self.reported: list[Callable[[Sequence[RunRecord]], None]] = []
        """Told of reports once they are in the ledger, on the journal's thread; must not raise."""
        self.alarms: dict[tuple[str, str], Alert] = {}

    def begin(self, start: Start) -> str:
        """A run begins, or is tried again under its id."""
        run = start.run or f"{self._epoch}-{next(self._numbers):06d}"
        job = self._catalog.jobs[start.job]
        readiness = {"because": list(start.readiness.because), "rebuild": start.is_rebuild, "value": start.value}
        record = RunRecord(
            run, start.job, "running", start.attempt, {}, start.at, mode=str(job.mode), readiness=readiness
        )
        self._going[run] = record
        self._tell(record)
        return run

    def trying(self, run: str, ranges: Mapping[str, tuple[int, int]]) -> None:
        """What a run, or another attempt of it, is about to take of its inputs; told where it fails."""
        record = self._going.get(run)
        if record is not None:
            self._going[run] = replace(record, inputs=dict(ranges))

    def end(self, run: str, start: Start, done: Done) -> None:
        """A run was committed."""
        record = self._going.pop(run, None) or RunRecord(run, start.job, "running", start.attempt)
        self.alarms.pop(("held", start.job), None)
        warned = [{"name": each.assertion.name, "reason": each.reason} for each in done.warned]
        rules = dict(self._rules(start.job, run))
        readiness = {
            **record.readiness,
            **({"stages": rules} if rules else {}),
            **({"warned": warned} if warned else {}),
            **({"taken": done.taken} if done.taken is not None else {}),
        }
        self._tell(
            replace(
                record,
                state="succeeded",
                finished_at=self._clock.now(),
                inputs=dict(done.ranges),
                rows_in=done.rows_in,
                rows_out=done.rows_out,
                parked=done.parked,
                skipped=done.skipped,
                readiness=readiness,
            )
        )

    def fail(self, run: str, job: str, error: str, state: str) -> None:
        """An attempt failed: the run is retrying, held or failed."""
        record = self._going.pop(run, None) or RunRecord(run, job, "running")
        self._tell(replace(record, state=state, error=error, finished_at=self._clock.now()))

    def alert(self, alert: Alert) -> None:
        """Keep an alarm until the job succeeds."""
        self.alarms[alert.kind, alert.job] = alert

    def going(self) -> list[RunRecord]:
        """The reports of runs that go on."""
        return list(self._going.copy().values())

    def flush(self) -> None:
        """Return when every report so far is in the ledger."""
        written = threading.Event()
        self._queue.put(written)
        self._hurry.set()
        written.wait()

    def close(self) -> None:
        """Write what is left and stop."""
        self._queue.put(None)
        self._hurry.set()
        self._thread.join()

    def _tell(self, record: RunRecord) -> None:
        self._queue.put(record)
        for listener in self.listeners:
            listener(record)

    def _write(self) -> None:
        unwritten: dict[str, RunRecord] = {}
        while True:
            batch = self._taken(AGAIN_SECONDS if unwritten else None)
            unwritten.update({item.run: item for item in batch if isinstance(item, RunRecord)})
            if unwritten and self._is_recorded(list(unwritten.values())):
                unwritten.clear()
            for item in batch:
                if isinstance(item, threading.Event):
                    item.set()
            if None in batch:
                return

    def _taken(self, wait: float | None) -> list[RunRecord | threading.Event | None]:
        """What waits to be written; nothing where nothing came in time."""
        try:
            batch = [self._queue.get(timeout=wait)]
        except queue.Empty:
            return []
        self._hurry.wait(GROUP_SECONDS)
        self._hurry.clear()
        while not self._queue.empty():
            batch.append(self._queue.get())
        return batch

    def _is_recorded(self, records: list[RunRecord]) -> bool:
        """Write reports. Where that fails (no room) they are kept and tried again: no run waits for its report."""
        try:
            self._ledger.record(records)
        except TidemillError as error:
            self.alert(Alert("reports", "", str(error), self._clock.now()))
            return False
        self.alarms.pop(("reports", ""), None)
        for hear in self.reported:
            hear(records)
        return True


def settle_reports(ledger: Ledger, positions: Mapping[str, Positions], now: float) -> None:
    """Settle reports that a dead process left as running: what the store says is what happened."""
    committed = {p.run for held in positions.values() for p in held.progress.values()}
    left = ledger.runs(state="running", limit=10_000)
    settled = [
        replace(record, state="succeeded", finished_at=now, inputs=_taken(ledger, positions, record.job))
        if record.run in committed
        else replace(
            record,
            state="failed",
            finished_at=now,
            error="the process ended before this run committed",
            inputs=_pinned(positions, record.job),
        )
        for record in left
    ]
    settled += _unreported(ledger, positions, {record.run for record in left}, now)
    if settled:
        ledger.record(settled)


def _taken(ledger: Ledger, positions: Mapping[str, Positions], job: str) -> dict[str, tuple[int, int]]:
    """What the last run of a job must have taken: from where the run before it ended to its cursors."""
    before: dict[str, int] = {}
    for record in ledger.runs(job=job, state="succeeded", limit=1):
        before = {asset: to for asset, (_, to) in record.inputs.items()}
    known = next(held.progress[job] for held in positions.values() if job in held.progress)
    return {
        asset: (min(before.get(asset, 0), to), to) for asset, to in known.cursors.items() if not asset.startswith("on:")
    }


def _pinned(positions: Mapping[str, Positions], job: str) -> dict[str, tuple[int, int]]:
    """What a run with outside effects had begun with; of others nothing is left that says it."""
    known = positions[str(Home.LEDGER)].progress.get(job)
    return dict(known.pinned or {}) if known is not None else {}


def _unreported(ledger: Ledger, positions: Mapping[str, Positions], known: set[str], now: float) -> Iterator[RunRecord]:
    """Runs that acted outside and were committed just before their process died, without any report.

    Only of these: what other jobs took shows in their rows, and asking for each would slow the start.
    """
    for progress in positions[str(Home.LEDGER)].progress.values():
        if progress.run and progress.run not in known and not ledger.runs(run=progress.run, limit=1):
            taken = _taken(ledger, positions, progress.job)
            told = {"because": ["its process ended before its report was written"], "rebuild": False, "value": ""}
            yield RunRecord(progress.run, progress.job, "succeeded", 1, taken, progress.served_at, now, readiness=told)


def taken_of(record: RunRecord) -> int:
    """Of what a run read, how much is in its result: counted there where its job works row by row, else all the rest."""
    rest = record.rows_in - record.parked - record.skipped
    return int(record.readiness.get("taken", rest)) if record.state == "succeeded" else 0


def as_json(record: RunRecord) -> dict[str, Any]:
    """A report in the shape of the outer contract."""
    shown = {**asdict(record), "taken": taken_of(record)}
    shown["inputs"] = {asset: list(taken) for asset, taken in record.inputs.items()}
    return shown
