"""`replay` of jobs with outside effects: what they delivered is delivered again, with the original keys (rules 10, 26, 28).

Rules of this file:
  * a replay is of recorded runs; from an offset or a time on it takes whole runs, for a key covers a whole range;
  * more rows than `hold_above` wait for a person, as they do the first time;
  * history that is gone is refused before anything is delivered.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from tidemill.core import slices
from tidemill.core.errors import OperatorError, TidemillError, UserError
from tidemill.core.model import Job
from tidemill.core.ports import Progress as Going
from tidemill.core.ports import RunRecord
from tidemill.project.operations import Json, Progress
from tidemill.project.replaying import moment_of
from tidemill.project.retention import expired_inputs
from tidemill.project.slicing import tried
from tidemill.project.wiring import Machine
from tidemill.runtime.again import Again
from tidemill.runtime.delivered import Delivered, replay_of

__all__ = ["KEYS_SHOWN", "abandon_delivery", "deliver_again"]

KEYS_SHOWN = 10
_BECAUSE = "delivered again by a person: tidemill replay"
_numbers = itertools.count(1)


def deliver_again(
    machine: Machine, job: Job, start: str, *, is_dry: bool, rate: float, progress: Progress | None
) -> Json:
    """Deliver again what a job delivered, or go on with doing so; with `is_dry` only say what that would be."""
    work = _Delivering(machine, job, Again(job, machine.services.outside))
    going = work.again.progress
    if is_dry:
        return work.dry(work.again.left(going) if going is not None else work.chosen(start))
    if machine.ledger.noted("paused", job.name):
        raise UserError(f"job `{job.name}` is paused", mend=f"tidemill resume {job.name}, then replay it")
    if going is not None and start:
        raise UserError(
            f"a replay of `{job.name}` is not finished: {len(work.again.left(going))} runs are to be delivered again",
            mend=f"go on with: tidemill replay {job.name}, or let it go: tidemill replay {job.name} --abandon",
        )
    if going is None:
        chosen = work.chosen(start)
        if not chosen:
            return work.answer("finished")
        version = f"{job.version}:{int(machine.clock.now() * 1000)}"
        with machine.forgetting:  # from here on what it has to deliver does not expire
            work.check_history(chosen)
            going = work.again.begin(version, chosen[0].offset - 1, chosen[-1].offset)
    if work.is_held(going):
        return work.answer("held")
    return work.answer(work.deliver(going, rate, progress))


def abandon_delivery(machine: Machine, job: Job) -> Json:
    """Let an unfinished replay go; what it delivered stays delivered."""
    work = _Delivering(machine, job, Again(job, machine.services.outside))
    going = work.again.progress
    if going is None:
        raise UserError(f"no replay of `{job.name}` is unfinished", mend=f"begin one: tidemill replay {job.name}")
    work.again.end(going)
    return work.answer("abandoned")


@dataclass(slots=True)
class _Delivering:
    """One replay at work, with its counts."""

    machine: Machine
    job: Job
    again: Again
    runs: int = 0
    rows: int = 0
    error: str = ""
    _pause: threading.Event = field(default_factory=threading.Event)

    def chosen(self, start: str) -> list[Delivered]:
        """The recorded runs from an offset or a time on; all without."""
        recorded = self.again.recorded()
        if not start:
            return recorded
        if not start.isdigit():
            at = moment_of(start)
            return [each for each in recorded if each.at >= at]
        if len(self.job.inputs) != 1:
            raise UserError(
                f"job `{self.job.name}` has {len(self.job.inputs)} inputs, and an offset is of one log",
                mend="give a time",
            )
        (asset,) = self.job.inputs
        return [each for each in recorded if each.ranges[asset][1] > int(start)]

    def check_history(self, chosen: Sequence[Delivered]) -> None:
        """Raise OperatorError where what a run was shown cannot be shown again."""
        catalog, stores = self.machine.catalog, self.machine.stores
        floors = {name: stores[catalog.home(name)].floor(name) for name in self.job.inputs if catalog.is_rows(name)}
        expired = expired_inputs(self.machine.ledger.positions().heads, self.job)
        for each in reversed(chosen):
            for asset, floor in floors.items():
                from_, to = each.ranges.get(asset, (0, 0))
                if to > from_ and (0 < from_ < floor or to < floor or from_ < expired.get(asset, 0)):
                    raise OperatorError(
                        f"the history of `{asset}` is gone up to offset {floor}, so run {each.run}, which took "
                        f"({from_}, {to}], cannot be delivered again as it was",
                        mend=f"deliver again what came later: --from {max(floor, to)}",
                    )

    def is_held(self, going: Going) -> bool:
        """Whether so many rows wait for a person: durably, until `apply`."""
        if self.machine.ledger.noted("released", replay_of(self.job.name)) == going.version:
            return False
        rows = itertools.accumulate(self._touched(each) for each in self.again.left(going))
        return any(count > self.job.hold_above for count in rows)

    def _count(self, chosen: Sequence[Delivered]) -> int:
        return sum(map(self._touched, chosen))

    def _touched(self, each: Delivered) -> int:
        """How many rows a recorded run touches outside."""
        if all(to <= from_ for from_, to in each.ranges.values()):
            return 0
        return self.again.outside.touched(self.job, each.pinned)

    def deliver(self, going: Going, rate: float, progress: Progress | None) -> str:
        """Run after run, until all are delivered ("finished"), a person paused the job, or one failed for good."""
        left = self.again.left(going)
        for each in left:
            if self.machine.ledger.noted("paused", self.job.name):
                return "paused"
            rows, began = self._touched(each), time.monotonic()
            done = self._tried(going, each)
            if done is None:
                return "failed"
            going, self.runs, self.rows = done, self.runs + 1, self.rows + rows
            if progress is not None:
                said = {"run": "", "job": self.job.name, "state": "working", "what": "delivering again"}
                progress({**said, "done": self.runs, "total": len(left)})
            if each is not left[-1]:
                self._pause.wait(slices.rest_for_rate(rows, time.monotonic() - began, rate))
        self.again.end(going)
        return "finished"

    def _tried(self, going: Going, each: Delivered) -> Going | None:
        """One run delivered again, with the job's retries; None where it failed for good."""
        now = self.machine.clock.now()
        said = RunRecord(f"{int(now * 1000):011x}-again{next(_numbers)}", self.job.name, "succeeded", started_at=now)
        attempts: list[int] = []

        def act(attempt: int) -> Going:
            attempts.append(attempt)
            return self.again.deliver(going, each, said.run)

        try:
            done = tried(act, self.job.retries)
        except Exception as error:  # noqa: BLE001 - whatever the effect raised is told and reported
            self.error = str(error) if isinstance(error, TidemillError) else f"{type(error).__name__}: {error}"
            self._report(each, replace(said, state="failed", attempt=len(attempts), error=self.error))
            return None
        self._report(each, replace(said, attempt=len(attempts)))
        return done

    def _report(self, each: Delivered, said: RunRecord) -> None:
        """A run among the runs, told apart by its mode."""
        value = next(iter(each.pinned.opens), "")
        readiness = {"because": [_BECAUSE, f"as run {each.run}"], "rebuild": False, "value": value}
        taken = dict(each.ranges)
        rows = sum(to - from_ for from_, to in taken.values())
        self.machine.ledger.record(
            [
                replace(
                    said,
                    inputs=taken,
                    rows_in=rows,
                    mode="replay",
                    readiness=readiness,
                    finished_at=self.machine.clock.now(),
                )
            ]
        )

    def dry(self, chosen: Sequence[Delivered]) -> Json:
        """What a replay would deliver."""
        if chosen:
            self.check_history(chosen)
        rows = self._count(chosen)
        keys = [each.key for each in chosen[:KEYS_SHOWN]]
        return {
            "job": self.job.name,
            "runs": len(chosen),
            "rows": rows,
            "held": rows > self.job.hold_above,
            "keys": keys,
        }

    def answer(self, state: str) -> Json:
        """What became of it."""
        failed = int(state == "failed")
        counts = {"runs": self.runs + failed, "succeeded": self.runs, "failed": failed, "changes": 0}
        return {"job": self.job.name, **counts, "state": state, "rows": self.rows, "error": self.error}
