"""Whether a job is ready, and which values are past their deadline, also where no job may start by itself.

Rules of this file:
  * the judgement is the heart's; where the answer lies in the data (`after`, `gate`) and the loop has none, the data is
    looked at here, as the loop would: nothing is released, started or noted by that.
"""

from __future__ import annotations

from collections.abc import Iterator

from tidemill.core.effect import pinned_key
from tidemill.core.errors import TidemillError
from tidemill.core.event import Looked, Readiness
from tidemill.core.gate import past_deadline
from tidemill.core.jobstate import Phase
from tidemill.core.model import Job
from tidemill.project.wiring import Machine

__all__ = ["overdue", "readiness"]


def readiness(machine: Machine, name: str) -> Readiness:
    """The present judgement of a job."""
    state, now = machine.loop.state, machine.clock.now()
    job = state.jobs[name]
    if job.phase is Phase.IDLE and (reason := _waits(machine, job.job)):
        return Readiness(False, (reason,))
    verdict = state.readiness(name, now)
    if not verdict.is_ready or not job.is_looked_at or job.answer is not None:
        return verdict
    if job.looking.is_out:
        return Readiness(False, ("its data is being looked at",))
    return state.readiness(name, now, _look(machine, name, now))


def overdue(machine: Machine) -> Iterator[tuple[str, str]]:
    """(job, what to say) for each gated job with values past their deadline."""
    now = machine.clock.now()
    for name, job in list(machine.loop.state.jobs.items()):
        if job.job.gate is not None and job.job.gate.deadline and job.phase is Phase.IDLE:
            looked = job.looked or _look(machine, name, now)
            if looked.overdue:
                yield name, past_deadline(looked.overdue, looked.because)


def _waits(machine: Machine, job: Job) -> str:
    """Why the job's pinned run waits for a person; "" where it does not. A process that only looks has not met it."""
    if not job.is_outside or not machine.watch.is_held(job.name):
        return ""
    pinned = machine.ledger.positions().progress.get(job.name)
    if pinned is None or not pinned.pinned or pinned_key(pinned) in machine.ledger.notes("released").values():
        return ""
    changes = sum(to - from_ for from_, to in pinned.pinned.values())
    if changes <= job.hold_above:
        return ""
    return f"{changes} changes are pinned, more than hold_above = {job.hold_above}: let them go with tidemill apply"


def _look(machine: Machine, name: str, now: float) -> Looked:
    try:
        return machine.services.looker.look(name, now)
    except TidemillError as error:
        return Looked(name, False, now, because=(f"looking failed: {error}",))
