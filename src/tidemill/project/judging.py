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

__all__ = ["is_held_elsewhere", "overdue", "readiness"]


def readiness(machine: Machine, name: str) -> Readiness:
    """The present judgement of a job."""
    state, now = machine.loop.state, machine.clock.now()
    job = state.jobs[name]
    if is_held_elsewhere(machine, name) and (reason := _waits(machine, job.job)):
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


def is_held_elsewhere(machine: Machine, name: str) -> bool:
    """Whether a job was held by a process before this one, which only looks and so has not met what holds it."""
    state = machine.loop.state
    looks_only = state.only is not None and name not in state.only
    return looks_only and state.jobs[name].phase is Phase.IDLE and machine.watch.is_held(name)


def _waits(machine: Machine, job: Job) -> str:
    """Why the held run of a job waits for a person; "" where the next run tries it again."""
    if not job.is_outside:
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
