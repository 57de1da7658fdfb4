"""Making the job of a shadow: what may be shadowed, the job that runs beside, and everything it needs of its own.

Rules of this file:
  * what cannot be shadowed is refused before anything is kept, with the reason and the mend;
  * a changed query is loaded as if it stood in the job's own file, so that what is promoted is what was compared;
  * engines and definitions are the shadow's own: the live ones learn nothing of it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from tidemill.core.errors import DefinitionError, OperatorError, UserError
from tidemill.core.model import Home, Job, Materialized, Mode, Place, Takes
from tidemill.engines.duckdb import DuckDBEngine
from tidemill.engines.python import PythonEngine
from tidemill.project.loading import load
from tidemill.project.pilot import Pilot
from tidemill.project.wiring import Machine
from tidemill.runtime.hidden import HiddenCatalog, hidden, hidden_job
from tidemill.runtime.shadow import Shadow

__all__ = ["Made", "check_shadowable", "made", "wanted_job"]

SAMPLES = 20
"""So many differing rows of each kind are kept of a comparison."""
_PACES = (Mode.REALTIME, Mode.MICROBATCH, Mode.BATCH)


@dataclass(slots=True)
class Made:
    """A shadow that can work: `wanted` is the job as it would be live; `close` lets go of what it holds."""

    shadow: Shadow
    wanted: Job
    close: Callable[[], None]


def check_shadowable(machine: Machine, job: Job) -> None:
    """Raise UserError for a job beside which nothing can run, OperatorError where the history that a first step needs is
    gone."""
    reasons = {
        "acts outside, and a shadow would act a second time": job.is_outside,
        "writes a file whole: there are no rows to compare": job.materialized is Materialized.EXTRACT,
        "writes a topic, and what is appended to a topic is for its readers": job.home is not Home.TABLES,
        "writes several assets, and a shadow compares one": len(job.outputs) > 1,
    }
    for reason, holds in reasons.items():
        if holds:
            raise UserError(f"job `{job.name}` {reason}", mend="shadow the job whose table it reads")
    known = machine.tables.positions().progress.get(hidden(job.name))
    if known is not None and known.run:
        return  # it has taken what has expired since, and retention keeps what it still needs
    for asset in job.inputs:
        floor = machine.ledger.floor(asset) if not machine.catalog.assets[asset].can_retract else 0
        if floor:
            raise OperatorError(
                f"the history of `{asset}` has expired up to offset {floor}, so a shadow of `{job.name}` would lack rows",
                mend="compare with what another system holds: tidemill shadow --against",
            )


def wanted_job(machine: Machine, env: str, pilot: Pilot, live: Job) -> Job:
    """The job as it would be live: with another mode, or with the query of a file. Raises DefinitionError."""
    if pilot.kind == "mode":
        return replace(live, mode=Mode(pilot.word))
    if live.takes is not Takes.SQL or not live.place.file.endswith(".sql"):
        raise UserError(
            f"job `{live.name}` is not made of a SQL file, so no other SQL can take its place",
            mend="give the changed job another name and output, and compare: tidemill shadow --against",
        )
    loaded = load(machine.definitions.folder, env or None, instead={live.place.file: pilot.sql})
    for problem in loaded.problems:
        file, colon, line = problem.place.partition(":")
        if file == live.place.file:
            raise DefinitionError(problem.message, place=f"{pilot.word}{colon}{line}", mend=problem.mend)
    job = loaded.jobs.get(live.name)
    if job is None:
        raise DefinitionError(f"this gives no job {live.name}", place=pilot.word, mend="write one SELECT")
    if job.outputs != live.outputs:
        raise DefinitionError(
            f"this writes {', '.join(job.outputs)} and not {', '.join(live.outputs)}",
            place=pilot.word,
            mend=f"write -- output: {live.outputs[0]}",
        )
    check_shadowable(machine, job)
    return job


def made(machine: Machine, env: str, pilot: Pilot, live: Job) -> Made:
    """Everything of a shadow that can work. Raises DefinitionError for what cannot be planned."""
    wanted = wanted_job(machine, env, pilot, live)
    job = hidden_job(wanted)
    if pilot.kind == "sql":
        job = replace(job, place=Place(pilot.word, 1))
    catalog = HiddenCatalog(timezone=machine.catalog.timezone, live=machine.catalog)
    functions = machine.definitions.functions
    known = {job.name: functions[live.name]} if live.name in functions else {}
    python = PythonEngine([job], known)
    sql = DuckDBEngine(machine.tables, catalog.asset, lambda: machine.definitions.views)
    catalog.engines = {Takes.SQL: sql, **dict.fromkeys((Takes.ROW, Takes.TABLE, Takes.FULL), python)}
    catalog.add(job)
    shapes = machine.tables.shapes()
    if not job.columns and job.takes is not Takes.SQL:
        catalog.learn(job, shapes.get(hidden(live.outputs[0]), ()))
    try:
        catalog.plan(job)
    except BaseException:
        python.close()
        raise
    shadow = Shadow(live, job, catalog, machine.stores, machine.tables.shapes, _leads(wanted, live), SAMPLES)
    return Made(shadow, wanted, python.close)


def _leads(wanted: Job, live: Job) -> bool:
    """Whether the shadow may go ahead of the live job: its mode is the faster one, and nothing else holds it back."""
    is_held_back = wanted.gate is not None or wanted.after_seconds or wanted.schedule or wanted.on
    return _PACES.index(wanted.mode) < _PACES.index(live.mode) and not is_held_back


def file_of(machine: Machine, live: Job) -> Path:
    """The file in which a SQL job stands."""
    return machine.definitions.folder / live.place.file
