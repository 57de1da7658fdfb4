"""`replay`: what was done is done again with the present code, and never moves a live cursor (rule 28).

Rules of this file:
  * a table is made anew and the difference committed, or made beside into a side table of its own;
  * long work goes in slices, each a checkpoint: paused, interrupted or killed it goes on where it was;
  * counts are of the outer contract's `run`: `{runs, succeeded, failed, changes}`; all else beside them is for people.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from tidemill.core import slices
from tidemill.core.errors import InvariantError, TooManyParked, UserError
from tidemill.core.model import AssetKind, Home, Job
from tidemill.project import sides
from tidemill.project.operations import Json, Progress
from tidemill.project.reconciling import check_history, check_replayable
from tidemill.project.reports import found
from tidemill.project.slicing import Pacer, pace_of
from tidemill.project.wiring import Machine
from tidemill.runtime.beside import Beside, beside

__all__ = ["abandon_side", "into", "moment_of", "offset_of"]

_numbers = itertools.count(1)
_NO_FROM = {
    "incremental": "its rows are made of many input rows",
    "keyed": "its rows are made of all input rows of a key",
    "recompute": "its rows are made of whole inputs",
}
"""Why a part of the input has no result of its own, by kind of plan."""


# ------------------------------------------------------------------------------------------ side tables


def into(machine: Machine, name: str, table: str, start: str, progress: Progress | None) -> Json:
    """Make a job's result in a side table, or go on with making it."""
    job = _check(machine, name, table)
    twin = beside(machine.catalog, machine.stores, job, table)
    note = sides.note_of(machine, table)
    is_unfinished = note.get("state") == "working" and (note.get("job"), note.get("version")) == (name, job.version)
    if is_unfinished and start and start != note["start"]:
        raise UserError(
            f"`{table}` is being made from {note['start'] or 'the beginning'}, and that is not finished",
            mend=f"go on with: tidemill replay {name} --into {table}, or drop it: add --abandon",
        )
    if not is_unfinished:
        note = _begin(machine, twin, table, start)
    machine.python.adopt([twin.twin], {twin.twin.name: f} if (f := machine.definitions.functions.get(name)) else {})
    return _made(machine, twin, table, note, progress)


def _check(machine: Machine, name: str, table: str) -> Job:
    job = found(machine.definitions.jobs, name, "job")
    sides.check_name(machine, table)
    if job.is_outside or job.materialized == "extract":
        raise UserError(
            f"job `{name}` acts outside: what it does makes no rows for a table", mend="replay it without --into"
        )
    if len(job.outputs) != 1 or (job.gate is not None and job.home is Home.LEDGER):
        what = "writes a topic from behind a gate" if job.gate is not None else "writes several tables"
        raise UserError(f"job `{name}` {what}, which no single side table holds", mend="replay it without --into")
    check_replayable(machine, name, is_beside=True)
    return job


def _begin(machine: Machine, twin: Beside, table: str, start: str) -> dict[str, Any]:
    """Note what is to be done, then begin: an earlier side table of that name goes."""
    from_ = _from(machine, twin, start) if start else 0
    with machine.forgetting:  # from here on the note says what is still needed
        check_history(machine, twin.live, from_)
        return _noted(machine, twin, table, start, from_)


def _noted(machine: Machine, twin: Beside, table: str, start: str, from_: int) -> dict[str, Any]:
    if table in machine.tables.shapes() or machine.tables.positions().progress.get(table):
        machine.tables.drop(assets=(table,), jobs=(table,))
        machine.catalog.assets.pop(table, None)
    heads = {asset: machine.stores[machine.catalog.home(asset)].head(asset) for asset in twin.twin.inputs}
    note = {
        "job": twin.live.name, "version": twin.live.version, "start": start, "from": from_, "targets": heads,
        "state": "working", "slices": 0, "parked": 0,
    }  # fmt: skip
    sides.remember(machine, table, note)
    return note


def _from(machine: Machine, twin: Beside, start: str) -> int:
    plan = twin.performer.catalog.plan(twin.twin)
    why = "its gate opens whole values" if twin.live.gate is not None else _NO_FROM.get(plan.kind, "")
    if why:
        raise UserError(
            f"job `{twin.live.name}` has no result of a part of its input: {why}",
            mend="leave out --from (it is for jobs that work row by row, and for those that act outside)",
        )
    (asset,) = twin.twin.inputs
    return offset_of(machine, asset, start)


def _made(machine: Machine, twin: Beside, table: str, note: dict[str, Any], progress: Progress | None) -> Json:
    """Slice after slice, until all is there or a person paused the job."""
    pacer = Pacer(machine, twin.live.name, pace_of(machine))
    targets: Mapping[str, int] = note["targets"]
    if twin.cursors is None:
        twin.begin(note["from"])
    told = _teller(twin.live.name, table, progress)
    total = slices.left(dict.fromkeys(targets, note["from"]), targets)
    count = note["slices"]
    while not twin.is_over(targets) and not pacer.is_stopped():
        pacer.take(lambda changes: _slice(machine, twin, note, changes))
        note["slices"] += 1
        told(total - slices.left(twin.cursors or {}, targets), total)
    if twin.is_over(targets):
        note["state"] = "finished"
        sides.remember(machine, table, note)
        machine.tables.drop(jobs=(table,))  # cursor, stages and parked set: it is as it is from now on
    sides.know_sides(machine)
    return _answer(machine, twin, table, note, note["slices"] - count)


def _slice(machine: Machine, twin: Beside, note: dict[str, Any], changes: int) -> int:
    before = twin.cursors
    run = f"{int(machine.clock.now() * 1000):011x}-into{next(_numbers)}"
    try:
        note["parked"] += twin.step(run, machine.clock.now(), note["targets"], changes)
    except TooManyParked as error:
        raise TooManyParked(
            error.message, place=error.place, mend=f"mend the job, then: tidemill replay {note['job']} --into TABLE"
        ) from error
    after = twin.cursors
    if after == before:
        raise InvariantError(
            f"a slice of `{note['job']}` took nothing, and {slices.left(after or {}, note['targets'])} changes are left",
            mend="report this with the output of: tidemill plan --json",
        )
    return sum((after or {}).values()) - sum((before or {}).values())


def _answer(machine: Machine, twin: Beside, table: str, note: Mapping[str, Any], done: int) -> Json:
    head = machine.tables.positions().heads.get(table)
    rows = head.rows if head is not None else 0
    return {
        "job": twin.live.name,
        "runs": done,
        "succeeded": done,
        "failed": 0,
        "changes": rows,
        "state": "finished" if note["state"] == "finished" else "paused",
        "into": table,
        "rows": rows,
        "parked": note["parked"],
        "inputs": {asset: [note["from"], to] for asset, to in note["targets"].items()},
    }


def abandon_side(machine: Machine, name: str, table: str) -> Json:
    """Let a side table go, finished or not."""
    found(machine.definitions.jobs, name, "job")
    sides.check_name(machine, table)
    if sides.note_of(machine, table).get("job") != name:
        raise UserError(f"no replay of `{name}` made a table `{table}`", mend="see: tidemill ls")
    sides.drop(machine, table)
    return {"job": name, "runs": 0, "succeeded": 0, "failed": 0, "changes": 0, "state": "abandoned", "into": table}


def _teller(job: str, table: str, progress: Progress | None) -> Callable[[int, int], None]:
    def tell(done: int, total: int) -> None:
        if progress is not None:
            what = f"making {table}"
            progress({"run": "", "job": job, "state": "working", "what": what, "done": done, "total": total})

    return tell


# ------------------------------------------------------------------------------------------------- from


def offset_of(machine: Machine, asset: str, start: str) -> int:
    """The offset after which a replay begins: it is one, or the last that came before a time. Raises UserError."""
    head = machine.stores[machine.catalog.home(asset)].head(asset)
    if start.isdigit():
        if int(start) > head:
            raise UserError(f"`{asset}` reaches only offset {head}", mend="give an offset below that, or a time")
        return int(start)
    at = moment_of(start)
    if machine.catalog.assets[asset].kind is not AssetKind.TOPIC:
        raise UserError(f"when rows of `{asset}` came is not kept", mend="give an offset: tidemill runs shows them")
    return machine.ledger.offset_before(asset, at)


def moment_of(text: str) -> float:
    """Seconds since the epoch of an ISO 8601 time, in UTC where it says no zone. Raises UserError."""
    try:
        read = datetime.fromisoformat(text)
    except ValueError:
        raise UserError(
            f"`{text}` is neither an offset nor a time", mend="write an offset, or a time such as 2026-01-31T06:00"
        ) from None
    return (read if read.tzinfo else read.replace(tzinfo=UTC)).timestamp()
