"""`replay` of a table in place: made anew beside in slices, while its job goes on, then the difference is committed.

Rules of this file:
  * the note in the ledger is there before anything of it is made, and goes after all of it is gone: what a crash left is
    found again, and holds retention back as long as it is of use;
  * paused, interrupted or killed it goes on where it was; a job that is another one by now has no use for it;
  * what cannot be cut (gates, whole recomputations, logs of tables) is not made here but by one run.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from typing import Any

from tidemill.core import slices
from tidemill.core.errors import InvariantError, UserError
from tidemill.core.event import Landed
from tidemill.core.model import Job
from tidemill.core.ports import RunRecord
from tidemill.project.operations import Json, Progress
from tidemill.project.reconciling import check_history
from tidemill.project.sides import ANEW
from tidemill.project.slicing import Pacer, pace_of
from tidemill.project.wiring import Machine
from tidemill.runtime.anew import Anew, anew, belongings, twin_name
from tidemill.runtime.takeover import TakenOver, is_taken_over

__all__ = ["abandon", "forget", "in_slices", "recover", "work_of"]

_numbers = itertools.count(1)
_TRIES_MAX = 100
"""So often a row that cannot be processed may come just before the last commit."""


def work_of(machine: Machine, job: Job) -> Anew | None:
    """What makes this job's table anew in slices; None where that cannot be cut."""
    if job.name in machine.pending:
        return None  # its next run is of another definition, and makes it anew
    work = anew(machine.catalog, machine.stores, job)
    if (function := machine.definitions.functions.get(job.name)) is not None:
        machine.python.adopt([work.beside.twin], {work.beside.twin.name: function})
    return work if work.is_possible else None


def in_slices(machine: Machine, work: Anew, progress: Progress | None) -> Json:
    """Make the table anew, or go on with it: `{job, runs, succeeded, failed, changes, state, slices, parked}`."""
    job, note = work.beside.live, _begun(machine, work)
    began, pacer = machine.clock.now(), Pacer(machine, job.name, pace_of(machine, slices.BESIDE_REPLAYING))
    before = note["slices"]
    for _ in range(_TRIES_MAX):
        while not work.beside.is_over(targets := work.targets()):
            if pacer.is_stopped():
                return _answer(job, "paused", note["slices"] - before, note)
            pacer.take(lambda changes, targets=targets: _slice(machine, work, note, targets, changes))  # type: ignore[misc]
            note["slices"] += 1
            machine.ledger.note(ANEW, job.name, note)
            _tell(job.name, work.beside.cursors or {}, targets, progress)
        if pacer.is_stopped():
            return _answer(job, "paused", note["slices"] - before, note)
        if (taken := work.take_over(_run(machine), machine.clock.now())) is not None:
            _report(machine, job, taken, note["parked"], began)
            _drop(machine, job.name, note)
            return _answer(job, "finished", note["slices"] - before, note, taken)
    raise InvariantError(
        f"the rows of `{job.name}` that come while it is made anew cannot be processed, time and again",
        mend=f"see: tidemill dead --job {job.name}",
    )


def _begun(machine: Machine, work: Anew) -> dict[str, Any]:
    """The note of what is going on; of another definition nothing is used."""
    job = work.beside.live
    with machine.forgetting:  # from here on the note says what is still needed
        note: dict[str, Any] | None = machine.ledger.noted(ANEW, job.name)
        if note is not None and (note["version"] != job.version or work.is_taken_over):
            _drop(machine, job.name, note)
            note = None
        if note is None:
            check_history(machine, job)
            inputs, outputs = list(job.inputs), list(job.outputs)
            note = {"version": job.version, "inputs": inputs, "outputs": outputs, "slices": 0, "parked": 0}
            machine.ledger.note(ANEW, job.name, note)
        if work.beside.cursors is None:
            work.beside.begin(0)
    return note


def _slice(machine: Machine, work: Anew, note: dict[str, Any], targets: Mapping[str, int], changes: int) -> int:
    before = work.beside.cursors or {}
    note["parked"] += work.beside.step(_run(machine), machine.clock.now(), targets, changes)
    after = work.beside.cursors or {}
    took = slices.left(before, targets) - slices.left(after, targets)
    if not took:
        raise InvariantError(
            f"a slice of `{work.beside.live.name}` took nothing, and {slices.left(after, targets)} changes are left",
            mend="report this with the output of: tidemill plan --json",
        )
    return took


def _run(machine: Machine) -> str:
    return f"{int(machine.clock.now() * 1000):011x}-anew{next(_numbers)}"


def _tell(job: str, cursors: Mapping[str, int], targets: Mapping[str, int], progress: Progress | None) -> None:
    if progress is not None:
        total = sum(targets.values())
        done = total - slices.left(cursors, targets)
        progress({"run": "", "job": job, "state": "working", "what": "making it anew", "done": done, "total": total})


def _report(machine: Machine, job: Job, taken: TakenOver, parked: int, began: float) -> None:
    """It is a run that took the whole inputs and wrote the difference; and that is news to readers."""
    now, known = machine.clock.now(), taken.progress
    readiness: dict[str, Any] = {"because": ["made anew by a person: tidemill replay"], "rebuild": True, "value": ""}
    if taken.warned:
        readiness["warned"] = [{"name": each.assertion.name, "reason": each.reason} for each in taken.warned]
    record = RunRecord(
        known.run,
        job.name,
        "succeeded",
        1,
        {asset: (0, known.cursors.get(asset, 0)) for asset in job.inputs},
        began,
        now,
        sum(known.cursors.get(asset, 0) for asset in job.inputs),
        taken.changes,
        parked,
        "replay",
        "",
        readiness,
    )
    machine.ledger.record([record])
    for asset, head in taken.heads.items():
        machine.loop.post(Landed(asset, head, now))


def _answer(job: Job, state: str, done: int, note: Mapping[str, Any], taken: TakenOver | None = None) -> Json:
    runs, changes = (1, taken.changes) if taken is not None else (0, 0)
    counts = {"runs": runs, "succeeded": runs, "failed": 0, "changes": changes}
    return {"job": job.name, **counts, "state": state, "slices": done, "parked": note["parked"]}


# ----------------------------------------------------------------------------------------------- afterwards


def abandon(machine: Machine, job: str) -> Json:
    """Let what was made of it go. Raises UserError where there is nothing."""
    note = machine.ledger.noted(ANEW, job)
    if note is None:
        raise UserError(f"no replay of `{job}` is unfinished", mend=f"begin one: tidemill replay {job}")
    _drop(machine, job, note)
    return {"job": job, "runs": 0, "succeeded": 0, "failed": 0, "changes": 0, "state": "abandoned"}


def forget(machine: Machine, job: str) -> None:
    """Let go what was made of it, where there is anything."""
    note = machine.ledger.noted(ANEW, job)
    if note is not None:
        _drop(machine, job, note)


def _drop(machine: Machine, job: str, note: Mapping[str, Any]) -> None:
    """Drop everything that was made beside, then the note."""
    heads = machine.tables.positions().heads
    machine.tables.drop(assets=belongings(heads, job, note["outputs"]), jobs=(twin_name(job),))
    machine.ledger.note(ANEW, job, None)


def recover(machine: Machine) -> None:
    """Let go what a dead process left and nobody has a use for: nothing was made, it is over, or its job is another by now."""
    for job, note in machine.ledger.notes(ANEW).items():
        defined, made = machine.definitions.jobs.get(job), machine.tables.positions().progress.get(twin_name(job))
        is_of_use = machine.definitions.problems or (defined is not None and defined.version == note["version"])
        if not is_of_use or made is None or is_taken_over(made):
            _drop(machine, job, note)
