"""Promoting a shadow: the live job goes on as what was compared, done or not done, whatever crashes in between.

Rules of this file:
  * what is going to happen is noted before it happens; whoever opens the project next finishes it or undoes it;
  * another mode is promoted by that note alone; another query by the commit of the tables, in which the live job takes over
    the shadow's rows, stages, parked rows and cursors;
  * a job's file is changed in one step (written beside, then renamed), and only where it still says what is live.

Theory of operation. The file and the tables cannot be committed together. The note holds both texts of the file and the id
of the run; the tables' commit leaves that id in the shadow's own progress. So after a crash it is known which of the two
texts the file must have.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from tidemill.core.errors import OperatorError, TidemillError, UserError
from tidemill.core.event import Landed
from tidemill.core.model import Home, Job
from tidemill.project import wiring
from tidemill.project.loading import load
from tidemill.project.operations import Json
from tidemill.project.pilot import TOPIC, Pilot
from tidemill.project.shadowing import Flying, Shadows, forget
from tidemill.project.shadowjobs import file_of
from tidemill.project.wiring import Machine
from tidemill.runtime.hidden import hidden
from tidemill.runtime.shadow import Compared, Shadow
from tidemill.runtime.takeover import TakenOver, settled_version

__all__ = ["promote", "recover"]


def promote(
    shadows: Shadows, job: str, switch_mode: Callable[[str, str], Json], *, equal_for: float = 0.0, accept: int = 0
) -> Json:
    """Let the live job go on as its shadow, where both are equal and were so for this long; else say what differs.

    `accept` takes exactly so many differing rows: their difference is committed, and readers get it as ordinary changes.
    """
    with shadows.lock:
        flying = shadows.of(job)
        if flying.pilot.kind == "against":
            raise UserError(
                f"`{flying.pilot.word}` is made by another system: there is nothing to promote",
                mend=f"let the shadow go: tidemill shadow {job} --abandon",
            )
        if flying.pilot.kind == "mode" and accept:
            raise UserError(
                "another mode gives the same rows: where some differ the table is not right, and a mode takes none of them",
                mend=f"mend the table: tidemill reconcile {job} --repair, then promote without --accept",
            )
        if flying.made is None:
            raise UserError(f"the shadow of `{job}` cannot work: {flying.pilot.error}", mend="mend it, or abandon it")
        shadows.settle(flying)
        reason = _why_not(shadows, flying, equal_for, accept)
        if not reason:
            steps = _promoted_mode if flying.pilot.kind == "mode" else _promoted_query
            reason = steps(shadows, flying, flying.made.shadow, accept)
        if not reason and flying.pilot.kind == "mode":
            switch_mode(job, flying.pilot.word)
        if not reason:
            shadows.forget(flying)
        return {**shadows.report(flying), "promoted": not reason, "reason": reason}


def _why_not(shadows: Shadows, flying: Flying, equal_for: float, accept: int) -> str:
    """Why the shadow is not promoted; "" where it may be."""
    pilot, now = flying.pilot, shadows.machine.clock.now()
    if pilot.error:
        return f"the shadow does not work: {pilot.error}"
    if not pilot.compared:
        return f"nothing was compared yet: run `{pilot.job}` first (tidemill run)"
    if not _may(pilot.equal is True, pilot.differing, pilot.columns, accept):
        return _differs(pilot.differing, pilot.columns, accept)
    if equal_for and (pilot.equal_since is None or now - pilot.equal_since < equal_for):
        since = 0.0 if pilot.equal_since is None else now - pilot.equal_since
        return f"equal for {since:.0f} s only, and {equal_for:.0f} s are asked for"
    return ""


def _may(is_equal: bool, differing: int, columns: str, accept: int) -> bool:
    return is_equal or (not columns and differing > 0 and differing == accept)


def _differs(differing: int, columns: str, accept: int) -> str:
    if columns:
        return f"the columns differ: {columns}; change the job's file instead, its readers have to be made anew"
    told = f"{differing} row{'s' if differing != 1 else ''} differ{'s' if differing == 1 else ''}"
    return f"{told}, and not the {accept} that you accept" if accept else told


# ------------------------------------------------------------------------------------------------- a mode


def _promoted_mode(shadows: Shadows, flying: Flying, shadow: Shadow, accept: int) -> str:
    """Decide for the other mode, durably; returns why not, or ""."""
    looked = shadow.looked(shadow.samples)
    if looked is None or not _may(looked.is_equal, looked.rows.count, looked.columns, accept):
        return (
            "the live job has gone on meanwhile: ask again"
            if looked is None
            else _differs(looked.rows.count, looked.columns, accept)
        )
    written = shadows.machine.definitions.jobs[shadow.live.name].mode
    flying.pilot.promoting = {"word": flying.pilot.word, "file": str(written)}
    shadows.keep(flying)
    return ""


# ------------------------------------------------------------------------------------------------ a query


def _promoted_query(shadows: Shadows, flying: Flying, shadow: Shadow, accept: int) -> str:
    """Let the live job take over the other query; returns why not, or ""."""
    machine, pilot, live = shadows.machine, flying.pilot, shadow.live
    path = file_of(machine, live)
    old = _unchanged(shadows, path, live)
    beside = _written_beside(path, pilot)
    run = f"{int(machine.clock.now() * 1000):011x}-promote"
    pilot.promoting = {"run": run, "file": live.place.file, "old": old, "new": pilot.sql}
    before = machine.definitions.jobs[live.name]
    assert flying.made is not None, "it works"
    wanted = flying.made.wanted

    def switch() -> None:
        machine.catalog.put(wanted)
        machine.definitions.jobs[live.name] = wanted
        beside.replace(path)
        _sync(path.parent)

    try:
        shadows.keep(flying)
        compared, taken = shadow.take_over(wanted, run, lambda found: _may_take(found, accept), switch)
    except Exception:
        if not _is_committed(machine, pilot.job, run):
            _take_back(shadows, flying, path, before, live)
            raise
        taken = None
        compared = None
    finally:
        beside.unlink(missing_ok=True)
    if compared is not None and taken is None:
        pilot.promoting = None
        shadows.keep(flying)
        return _differs(compared.rows.count, compared.columns, accept)
    _go_on(machine, wanted, taken)
    pilot.promoting["is_committed"] = True  # the tables say so only as long as there is something of the shadow
    shadows.keep(flying)
    return ""


def _may_take(found: Compared, accept: int) -> bool:
    return _may(found.is_equal, found.rows.count, found.columns, accept)


def _unchanged(shadows: Shadows, path: Path, live: Job) -> str:
    """The text of the job's file, which must still say what is live. Raises UserError."""
    loaded = load(shadows.machine.definitions.folder, shadows.env or None).jobs.get(live.name)
    if loaded is None or loaded.version != live.version:
        raise UserError(
            f"the file of `{live.name}` says something else than what is live",
            place=live.place.file,
            mend="apply it or take it back (tidemill plan), then promote",
        )
    return path.read_text(encoding="utf-8")


def _written_beside(path: Path, pilot: Pilot) -> Path:
    """The new text beside the job's file, safe on disk. Raises OperatorError where it cannot be written."""
    beside = path.with_name(f".{path.name}.promoting")
    try:
        with beside.open("w", encoding="utf-8") as file:
            file.write(pilot.sql)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OperatorError(
            f"the file of `{pilot.job}` cannot be written: {error.strerror}",
            place=str(path),
            mend=f"let it be written, or do it by hand: tidemill shadow {pilot.job} --abandon, "
            f"put {pilot.word} in its place, tidemill apply",
        ) from error
    return beside


def _sync(folder: Path) -> None:
    """Make a rename in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _is_committed(machine: Machine, job: str, run: str) -> bool:
    known = machine.tables.positions().progress.get(hidden(job))
    return known is not None and known.version == settled_version(run)


def _take_back(shadows: Shadows, flying: Flying, path: Path, before: Job, live: Job) -> None:
    """Nothing was committed: definitions and file are as they were."""
    assert flying.pilot.promoting is not None
    shadows.machine.definitions.jobs[live.name] = before
    shadows.machine.catalog.put(live)
    _put(path, flying.pilot.promoting["new"], flying.pilot.promoting["old"])
    flying.pilot.promoting = None
    with suppress(TidemillError):  # then the next to open the project finds that nothing was committed
        shadows.keep(flying)


def _go_on(machine: Machine, wanted: Job, taken: TakenOver | None) -> None:
    """Tell the heart: the live job is the new one, and what it wrote is news to its readers."""
    held = machine.positions()[Home.TABLES]
    said = wiring.Said.read(machine)
    event = wiring.defined(machine, machine.definitions.jobs[wanted.name], held, said, is_first=False)
    machine.pending.pop(wanted.name, None)
    machine.loop.post(replace(event, takes_over=True))
    heads = taken.heads if taken is not None else {name: held.heads[name] for name in wanted.outputs}
    for asset, head in heads.items():
        machine.loop.post(Landed(asset, head, machine.clock.now()))


def _put(path: Path, is_there: str, wanted: str) -> bool:
    """Give a file its other text, where it has the one; returns whether it was changed."""
    if path.read_text(encoding="utf-8") != is_there or is_there == wanted:
        return False
    beside = path.with_name(f".{path.name}.promoting")
    beside.write_text(wanted, encoding="utf-8")
    beside.replace(path)
    _sync(path.parent)
    return True


# ------------------------------------------------------------------------------------------------ recovery


def recover(machine: Machine) -> bool:
    """Finish or undo promotions that a dead process began; returns whether a file was changed, so that all is read anew."""
    is_changed = False
    for note in machine.ledger.notes(TOPIC).values():
        pilot = Pilot.of_note(note)
        if pilot.promoting is not None:
            is_changed |= _recovered(machine, pilot, pilot.promoting)
    return is_changed


def _recovered(machine: Machine, pilot: Pilot, begun: dict[str, Any]) -> bool:
    if pilot.kind == "mode":
        machine.ledger.note("mode", pilot.job, None if begun["word"] == begun["file"] else begun)
        forget(machine, pilot)
        return False
    path = machine.definitions.folder / begun["file"]
    path.with_name(f".{path.name}.promoting").unlink(missing_ok=True)
    if begun.get("is_committed") or _is_committed(machine, pilot.job, begun["run"]):
        is_changed = _put(path, begun["old"], begun["new"])
        machine.ledger.note(TOPIC, pilot.job, {**pilot.note(), "promoting": {**begun, "is_committed": True}})
        forget(machine, pilot)
        return is_changed
    is_changed = _put(path, begun["new"], begun["old"])
    pilot.promoting = None
    machine.ledger.note(TOPIC, pilot.job, pilot.note())
    return is_changed
