"""Alarms that come of how runs ended: judged when a run is reported, standing until a later run clears them.

Rules of this file:
  * it hears every report once it is in the ledger, on the journal's thread, and never stops that;
  * what stands is a note in the ledger, so every process knows it; a run that succeeds takes away what it disproves;
  * a job's last runs are read once, then kept: judging a run asks the stores nothing, unless events seem to be skipped.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from tidemill.core.errors import TidemillError
from tidemill.core.health import RUNS_MAX, Ran, counts_far, empty, gap, too_long, uneven
from tidemill.core.model import Home, Job, Mode
from tidemill.core.ports import RunRecord, Store
from tidemill.runtime.audit import Ranges, gaps
from tidemill.runtime.journal import taken_of
from tidemill.runtime.skipped import skipped
from tidemill.stores.sqlite import SQLiteStore

__all__ = ["Watchkeeper", "period"]

NOTES = "run alarm"
"""Notes of what stands: `{kind, job, reason, at}`."""
RUNS_ASKED = 1_000
"""So many of a job's newest runs are asked whether they took what seems to be skipped."""
_BESIDE = ("backfill", "replay")
"""Modes of runs that go another way than from cursor to head: they are no history of the job's pace."""
_ENDED = ("succeeded", "failed", "held")


def period(job: Job, following: Callable[[str, float], float], at: float) -> float:
    """The time between two runs that the job's pace asks for (seconds); 0 where it has none."""
    if job.schedule:
        first = following(job.schedule, at)
        return following(job.schedule, first) - first
    return job.every_seconds if job.mode is Mode.MICROBATCH and not job.on else 0.0


@dataclass(slots=True)
class _Known:
    """What is known of one job's runs."""

    last: deque[Ran] = field(default_factory=lambda: deque(maxlen=RUNS_MAX))
    reached: dict[str, int] = field(default_factory=dict)


@dataclass(slots=True)
class Watchkeeper:
    """Judges reports; `jobs` are the definitions as they are now, `following` computes schedules."""

    ledger: SQLiteStore
    stores: Mapping[Home, Store]
    jobs: Mapping[str, Job]
    following: Callable[[str, float], float]
    _known: dict[str, _Known] = field(default_factory=dict)
    _standing: dict[str, dict[str, Any]] | None = None

    def hear(self, records: Sequence[RunRecord]) -> None:
        """Reports that were written just now, in the order they came."""
        with suppress(TidemillError):  # a ledger that cannot be written says so itself
            for record in records:
                job = self.jobs.get(record.job)
                if job is not None and record.state in _ENDED:
                    self._judge(job, record)

    def standing(self) -> Iterator[dict[str, Any]]:
        """What stands, of jobs that are still defined."""
        for said in self.ledger.notes(NOTES).values():
            if said["job"] in self.jobs:
                yield {word: said[word] for word in ("kind", "job", "reason", "at")}

    def _judge(self, job: Job, record: RunRecord) -> None:
        if record.state != "succeeded":
            self._say(job, "held", record.error, record)
            return
        self._say(job, "held", "", record)
        known = self._of(job, record)
        ran = Ran(record.rows_in, record.rows_out, (record.finished_at or record.started_at) - record.started_at)
        if job.mode is not Mode.REALTIME and not record.readiness.get("rebuild"):
            self._say(job, "empty", empty(known.last, ran), record)
            self._say(job, "counts", counts_far(known.last, ran), record)
        self._say(job, "window", too_long(ran.seconds, period(job, self.following, record.started_at)), record)
        self._say(job, "uneven", uneven(record.rows_in, taken_of(record), record.parked, record.skipped), record)
        self._check_gaps(job, record, known)
        known.last.append(ran)

    def _of(self, job: Job, record: RunRecord) -> _Known:
        known = self._known.get(job.name)
        if known is None:
            known = self._known[job.name] = _Known()
            for each in reversed(self._before(record)):
                known.last.append(Ran(each.rows_in, each.rows_out, (each.finished_at or 0.0) - each.started_at))
                known.reached |= {asset: to for asset, (_, to) in each.inputs.items()}
        return known

    def _before(self, record: RunRecord) -> list[RunRecord]:
        """The last runs before this one, newest first; none of an earlier job of that name."""
        since = (self.ledger.noted("definition", record.job) or {}).get("first_seen_at", 0.0)
        before = self.ledger.runs(job=record.job, state="succeeded", limit=RUNS_MAX + 1)
        mine = [each for each in before if each.run != record.run and each.started_at >= since]
        return [each for each in mine if each.mode not in _BESIDE]

    def _check_gaps(self, job: Job, record: RunRecord, known: _Known) -> None:
        """What lies between two runs and no person let it pass over was skipped without an error."""
        for asset, (from_, to) in record.inputs.items():
            reached, known.reached[asset] = known.reached.get(asset), to
            found = gap(reached, (from_, to)) if reached is not None else None
            lost = self._untaken(job, asset, found) if found is not None else []
            if lost:
                what = (
                    f"no run took offsets {lost[0][0] + 1} to {lost[-1][1]} of {asset}: see tidemill audit {job.name}"
                )
                self._say(job, "skipped", what, record)

    def _untaken(self, job: Job, asset: str, found: tuple[int, int]) -> Ranges:
        """What lies in there that no run took, a backfill's neither, and that the job was not moved over."""
        reader = self.stores[job.home].begin(exclusive=False)
        try:
            passed = [(span.from_, span.to) for span in skipped(reader, job) if span.asset == asset]
        finally:
            reader.rollback()
        runs = self.ledger.runs(job=job.name, state="succeeded", limit=RUNS_ASKED)
        taken = [each.inputs[asset] for each in runs if asset in each.inputs]
        return gaps([(0, found[0]), *passed, *taken], found[1])

    def begin_anew(self, job: str) -> None:
        """The job is gone: one that comes under its name has no history."""
        self._known.pop(job, None)
        mine = [name for name, said in self.ledger.notes(NOTES).items() if said["job"] == job]
        self.ledger.note_all(NOTES, dict.fromkeys(mine))
        self._standing = None

    def is_held(self, job: str) -> bool:
        """Whether the last run of the job is held, with the definition that the job still has."""
        said = self._noted().get(f"held {job}")
        return said is not None and job in self.jobs and said.get("version") == self.jobs[job].version

    def forget(self, job: str, kind: str) -> None:
        """Take an alarm away: a person saw to it."""
        if f"{kind} {job}" in self.ledger.notes(NOTES):
            self.ledger.note(NOTES, f"{kind} {job}", None)
            self._standing = None

    def _noted(self) -> dict[str, dict[str, Any]]:
        """The notes that stand, read once."""
        if self._standing is None:
            self._standing = self.ledger.notes(NOTES)
        return self._standing

    def _say(self, job: Job, kind: str, reason: str, record: RunRecord) -> None:
        """Raise an alarm, or with no reason take it away; the ledger is written only where that changes something."""
        noted = self._noted()
        name = f"{kind} {job.name}"
        before = noted.get(name)
        if not reason and before is None:
            return
        at = record.finished_at or record.started_at
        told = reason if kind == "held" else f"job {job.name}: {reason}"
        said = {"kind": kind, "job": job.name, "reason": told, "at": at, "version": job.version} if reason else None
        if said is not None and before is not None and _same(before, said):
            return
        self.ledger.note(NOTES, name, said)
        noted.pop(name, None)
        if said is not None:
            noted[name] = said


def _same(one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two notes say the same of the same definition; when does not count."""
    return all(one.get(word) == other.get(word) for word in ("reason", "version"))
