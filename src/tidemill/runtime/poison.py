"""Finding the records a transform cannot process, and performing the run without them (rule 14).

Rules of this file:
  * only pure jobs come here, only with `on_error: park`, and only for errors of the transform itself;
  * trials compute and write in a transaction that is rolled back: finding out commits nothing;
  * a transform version that succeeds on no record is broken: its run fails with the original error and parks nothing;
  * when too many of the last input rows were parked, the prefix before the row that is too much is committed, and the
    job stops at that row.

Theory of operation. The failed change set is fixed by its ends, so that trials see what failed. Where the engine names
the rows at fault, they are it (an engine that calls a function per row knows). Otherwise the rows are halved until single rows are found that fail by themselves, in the order of their offsets: each trial leaves out everything but
the rows in question. The run is then performed once more with exactly the rows found left out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field

from tidemill.core import retry
from tidemill.core.change import OFFSET, RID
from tidemill.core.errors import PoisonRecord, TidemillError, TooManyParked
from tidemill.core.event import Start
from tidemill.core.model import Job
from tidemill.core.ports import Progress, Reader
from tidemill.runtime.parking import ParkedRow, Parking, standing
from tidemill.runtime.perform import Done, Performer, Taken
from tidemill.runtime.rows import dicts

__all__ = ["PAYLOAD_CHARACTERS_MAX", "is_of_transform", "perform_without_poison"]

PAYLOAD_CHARACTERS_MAX = 10_000
"""A parked row's payload is cut to this many characters in the dead letter; the row itself stays in its log."""

_TRANSIENT = (OSError, TimeoutError, MemoryError)


def is_of_transform(error: BaseException) -> bool:
    """Whether an error may be a record's fault: raised by the transform, and not by the world around it."""
    if isinstance(error, PoisonRecord):
        return True
    return isinstance(error, Exception) and not isinstance(error, (TidemillError, *_TRANSIENT))


@dataclass(slots=True)
class _Search:
    performer: Performer
    start: Start
    run: str
    job: Job
    ends: dict[str, int]
    candidates: list[ParkedRow]
    recent: list[bool]
    bad: list[ParkedRow] = field(default_factory=list)
    stopped_at: ParkedRow | None = None
    is_whole: bool = False

    def find(self, original: Exception) -> None:
        """Fill `bad` in the order of offsets, until all are found or too many are."""
        named = dict(zip(original.rows, original.reasons, strict=False)) if isinstance(original, PoisonRecord) else {}
        if not named:
            self._halve(self.candidates)
            return
        for candidate in self.candidates:
            reason = named.get((candidate.asset, candidate.rid))
            if reason is not None and self.stopped_at is None:
                self._found(candidate, reason)

    def _halve(self, rows: Sequence[ParkedRow]) -> None:
        if self.stopped_at is not None or not rows:
            return
        error = self.trial(rows)
        if error is None:
            return
        if len(rows) == 1:
            self._found(rows[0], _reason(error))
            return
        middle = len(rows) // 2
        self._halve(rows[:middle])
        self._halve(rows[middle:])

    def _found(self, row: ParkedRow, reason: str) -> None:
        self.bad.append(ParkedRow(row.asset, row.rid, row.offset, reason, row.payload))
        bad = {(b.asset, b.rid) for b in self.bad}
        fresh = [(c.asset, c.rid) in bad for c in self.candidates]
        index = retry.stop_before(self.recent, fresh)
        if index is not None:
            self.stopped_at = self.candidates[index]
            self.bad.pop()

    def trial(self, rows: Sequence[ParkedRow]) -> Exception | None:
        """What the transform says to these rows alone (besides what the job has already taken)."""
        kept = {(row.asset, row.rid) for row in rows}
        left_out = tuple(row for row in self.candidates if (row.asset, row.rid) not in kept)
        try:
            self.attempt(left_out)
        except Exception as error:
            if not is_of_transform(error):
                raise
            return error
        return None

    def attempt(self, left_out: tuple[ParkedRow, ...]) -> None:
        """One attempt without these rows, rolled back."""
        transaction = self.performer.stores[self.job.home].begin()
        try:
            self.performer.join(self.start, self.run, transaction, parking=self._parking(left_out), is_trial=True)
        finally:
            transaction.rollback()

    def commit(self) -> Done:
        """Perform the run without the rows found, for good."""
        return self.performer.perform(self.start, self.run, parking=self._parking(tuple(self.bad)))

    def _parking(self, left_out: tuple[ParkedRow, ...]) -> Parking:
        return Parking(left_out, ends=self.ends, is_everything=len(left_out) >= len(self.candidates))


def perform_without_poison(
    performer: Performer, start: Start, run: str, original: Exception, counts_from: int = 0
) -> Done:
    """Perform a run whose transform raised `original`, without the records at fault.

    `counts_from` is the offset from which parked rows count towards too many (`resume` restarts the count).
    Raises `original` where no record is at fault, TooManyParked where the very next row would be too much.
    """
    search = _prepare(performer, start, run, counts_from)
    if not search.candidates:
        raise original
    # What failed may have been read from an older snapshot: only what fails in the change set as it is now counts.
    error = search.trial(search.candidates)
    return search.commit() if error is None else _without_bad(search, error)


def _without_bad(search: _Search, error: Exception) -> Done:
    """Find what is at fault for `error`, and commit the run without it; parts of a long run may fail one after another."""
    known = len(search.bad)
    search.find(error)
    if search.stopped_at is not None:
        return _commit_prefix(search, error)
    before = _progress(search.performer, search.job)
    has_succeeded = before is not None and before.succeeded and before.version == search.job.version
    if len(search.bad) == known or (len(search.bad) == len(search.candidates) and not has_succeeded):
        raise error
    try:
        return search.commit()
    except PoisonRecord as another:
        return _without_bad(search, another)


def _commit_prefix(search: _Search, original: Exception) -> Done:
    stop = search.stopped_at
    if stop is None:
        raise original
    search.ends[stop.asset] = stop.offset - 1
    prefix = [row for row in search.candidates if row.asset != stop.asset or row.offset < stop.offset]
    before = _progress(search.performer, search.job)
    cursor = before.cursors.get(stop.asset, 0) if before is not None else 0
    has_succeeded = before is not None and before.succeeded
    if search.is_whole or stop.offset - 1 <= cursor:
        raise TooManyParked(
            f"job `{search.job.name}`: more than {retry.PARKED_MAX} of the last {retry.PARKED_WINDOW} rows of "
            f"`{stop.asset}` cannot be processed, the next at offset {stop.offset}: {_reason(original)}",
            mend=f"look at them with `tidemill dead list`, mend the job or the data, "
            f"then `tidemill resume {search.job.name}`",
        ) from original
    if not has_succeeded and len(search.bad) >= len(prefix):
        raise original
    search.candidates = prefix
    return search.commit()


def _prepare(performer: Performer, start: Start, run: str, counts_from: int) -> _Search:
    """Fix the change set that failed, and list its rows in the order of their offsets."""
    job = performer.catalog.jobs[start.job]
    transaction = performer.stores[job.home].begin()
    try:
        taken, candidates, parked = performer.inspect(start, transaction, _candidates)
    finally:
        transaction.rollback()
    first = 0 if taken.is_whole else min((from_ for from_, _ in taken.ranges.values()), default=0)
    parked_at = {row.offset for row in parked}
    low = max(counts_from, first - retry.PARKED_WINDOW)
    recent = [offset in parked_at for offset in range(low + 1, first + 1)]
    ends = {asset: to for asset, (_, to) in taken.ranges.items()}
    return _Search(performer, start, run, job, ends, candidates, recent, is_whole=taken.is_whole)


def _candidates(taken: Taken, snapshot: Reader, own: Reader) -> tuple[Taken, list[ParkedRow], list[ParkedRow]]:
    rows = []
    for part in taken.rows:
        for row in dicts(snapshot.read(part)):
            rid, offset = row.pop(RID), row.pop(OFFSET)
            rows.append(ParkedRow(part.asset, rid, offset, "", _payload(row)))
    rows.sort(key=lambda row: (row.offset, row.asset, row.rid))
    return taken, rows, standing(own, taken.job)


def _payload(row: dict[str, object]) -> str:
    return json.dumps(row, default=str, ensure_ascii=False)[:PAYLOAD_CHARACTERS_MAX]


def _progress(performer: Performer, job: Job) -> Progress | None:
    transaction = performer.stores[job.home].begin(exclusive=False)
    try:
        return transaction.progress(job.name)
    finally:
        transaction.rollback()


def _reason(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else ''}"
