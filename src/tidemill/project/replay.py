"""`replay`: which work it is to do again what a job did.

Rules of this file:
  * into a side table (`replaying.py`), outside once more (`redelivering.py`), or in place: in slices beside the live job
    (`anew.py`) where the work can be cut, else by the job's next run, which makes everything anew in one commit;
  * words that say nothing of the work are refused, with what to write instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tidemill.core.errors import UserError
from tidemill.core.model import Job
from tidemill.project import anew, reconciling, redelivering, replaying
from tidemill.project.operations import Json, Progress
from tidemill.project.wiring import Machine

__all__ = ["Asked", "made_anew", "replay"]

RunJob = Callable[[], Json]
"""Do all that is due of the job: `{runs, succeeded, failed, changes}`."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a person asked for; "", 0 and False leave it open."""

    start: str = ""
    into: str = ""
    is_dry: bool = False
    rate: float = 0.0
    is_abandoned: bool = False


def replay(machine: Machine, job: Job, asked: Asked, run: RunJob, progress: Progress | None) -> Json:
    """Do again what a job did, with its present code, or go on with doing so."""
    name = job.name
    if asked.into:
        if asked.is_abandoned:
            return replaying.abandon_side(machine, name, asked.into)
        return replaying.into(machine, name, asked.into, asked.start, progress)
    if job.is_outside:
        if asked.is_abandoned:
            return redelivering.abandon_delivery(machine, job)
        return redelivering.deliver_again(
            machine, job, asked.start, is_dry=asked.is_dry, rate=asked.rate, progress=progress
        )
    if asked.start or asked.rate:
        raise UserError(
            f"job `{name}` keeps a table, which is made anew whole: {'--from' if asked.start else '--rate'} says nothing here",
            mend="replay it into a side table (--into TABLE)",
        )
    if asked.is_abandoned:
        return anew.abandon(machine, name)
    reconciling.check_replayable(machine, name)
    return (
        reconciling.reconcile(machine, name, progress=progress)
        if asked.is_dry
        else made_anew(machine, name, run, progress)
    )


def made_anew(machine: Machine, name: str, run: RunJob, progress: Progress | None) -> Json:
    """Make a job's table anew in place, and commit the difference."""
    work = anew.work_of(machine, machine.catalog.jobs[name])
    if work is not None:
        return anew.in_slices(machine, work, progress)
    reconciling.begin_anew(machine, name)
    anew.forget(machine, name)
    return {"job": name, **run()}
