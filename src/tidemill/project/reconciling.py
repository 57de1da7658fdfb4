"""`reconcile` and `replay` of an open project: what is compared with what, how it is told, and who hears of a repair.

Rules of this file:
  * counts are of the outer contract: `{equal, missing, extra, different, repaired}`; all else beside them is for people;
  * a repair is told to the loop, so that readers take it at once where somebody works, else with the next run.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from tidemill.connectors.extract import reading
from tidemill.core.errors import Expired, UserError
from tidemill.core.event import Landed, Resumed
from tidemill.core.model import Asset, Job
from tidemill.core.orchestrate import Phase
from tidemill.core.ports import RunRecord
from tidemill.project import querying
from tidemill.project.operations import Json, Progress
from tidemill.project.reports import found, plain
from tidemill.project.retention import expired_inputs
from tidemill.project.wiring import Machine
from tidemill.runtime.compare import SAMPLES, Comparison, Sides, compare
from tidemill.runtime.reconcile import Reconciled, Reconciler, doubted

__all__ = ["begin_anew", "check_history", "check_replayable", "compared_with", "reconcile"]

_numbers = itertools.count(1)
_FORMATS = {".csv": "csv", ".ndjson": "ndjson", ".jsonl": "ndjson", ".parquet": "parquet"}
_QUERY = ("select", "with", "from", "values")


def reconcile(
    machine: Machine, name: str, *, repair: bool = False, against: str = "", progress: Progress | None = None
) -> Json:
    """Compare a job's or an asset's rows with what they should be, and mend them where that is asked."""
    job = writer_of(machine, name)
    if against and repair:
        raise UserError(
            "--repair mends from the job's own inputs, not from what is compared with",
            mend="leave out --against, or correct the inputs",
        )
    told = _teller(job.name, progress)
    if against:
        return _answer(compared_with(machine, job, name, against))
    reconciler = Reconciler(machine.catalog, machine.stores, machine.mirrors, machine.tables.shapes)
    if not repair:
        done = reconciler.look(job, told)
    else:
        run = f"{int(machine.clock.now() * 1000):011x}-repair{next(_numbers)}"
        began = machine.clock.now()
        with machine.forgetting:  # a reader that is to be made anew needs what it reads
            done = reconciler.repair(job, run, told)
        if done.repaired:
            _report(machine, job, done, run, began)
            _tell(machine, done)
    return _answer(_together(done.outputs), done, machine)


def writer_of(machine: Machine, name: str) -> Job:
    """The job of that name, or the one that writes the asset of that name."""
    jobs = machine.definitions.jobs
    if name in jobs or name not in machine.catalog.assets:
        return found(jobs, name, "job")
    writer = next((job for job in jobs.values() if name in job.outputs), None)
    if writer is None:
        raise UserError(
            f"no job writes `{name}`: it is a source, and nothing to compute it from is here",
            mend="reconcile a job that reads it (that compares the copy it reads with the log, too): tidemill map",
        )
    return writer


def check_replayable(machine: Machine, name: str, *, is_beside: bool = False) -> Job:
    """The job, where its result can be made anew, in place or beside. Raises UserError, or Expired where history is gone."""
    job = found(machine.definitions.jobs, name, "job")
    if not is_beside and (job.is_outside or not job.rebuilds):
        if job.is_outside:
            what, mend = "acts outside", f"deliver again what it delivered: tidemill replay {name}"
        else:
            what = "writes a topic, which only grows"
            mend = f"see what it would give now in a side table: tidemill replay {name} --into TABLE"
        raise UserError(f"job `{name}` {what}: what it did cannot be made anew", mend=mend)
    state = machine.loop.state.jobs.get(name)
    if state is not None and state.phase is Phase.PAUSED:
        raise UserError(f"job `{name}` is paused", mend=f"tidemill resume {name}, then replay it")
    if not is_beside:
        check_history(machine, job)
    return job


def check_history(machine: Machine, job: Job, after: int = 0) -> None:
    """Raise Expired where something that is to be read of a job's inputs, beginning after an offset, has expired."""
    for asset, offset in expired_inputs(machine.ledger.positions().heads, job).items():
        if after < offset:
            raise Expired(
                f"the history of `{asset}` has expired up to offset {offset}, "
                f"so `{job.name}` cannot be made anew without losing rows",
                mend="nothing was changed: the table goes on from what it has counted",
            )


def begin_anew(machine: Machine, name: str) -> None:
    """Let the job's next run make its result anew, durably: the rows stay until that run commits the difference."""
    with machine.forgetting:
        _begin_anew(machine, check_replayable(machine, name))


def _begin_anew(machine: Machine, job: Job) -> None:
    name = job.name
    transaction = machine.stores[job.home].begin()
    try:
        before = transaction.progress(name)
        if before is None:
            return
        marked = doubted(before)
        transaction.settle(marked, before)
        transaction.commit()
    finally:
        transaction.rollback()
    machine.loop.post(Resumed(name, machine.clock.now(), marked))


def _teller(job: str, progress: Progress | None) -> Callable[[str], None]:
    def tell(what: str) -> None:
        if progress is not None:
            progress({"run": "", "job": job, "state": "working", "what": what})

    return tell


def _together(outputs: Mapping[str, Comparison]) -> Comparison:
    """The comparisons of all outputs as one; samples of the first that has any."""
    samples = next((each.samples for each in outputs.values() if not each.is_equal), {})
    compared = list(outputs.values())
    missing, extra = sum(each.missing for each in compared), sum(each.extra for each in compared)
    return Comparison(missing, extra, sum(each.different for each in compared), samples)


def _answer(comparison: Comparison, done: Reconciled | None = None, machine: Machine | None = None) -> Json:
    answer: dict[str, Any] = {
        "equal": done.is_equal if done else comparison.is_equal,
        "missing": comparison.missing,
        "extra": comparison.extra,
        "different": comparison.different,
        "repaired": done.repaired if done else 0,
        "samples": {kind: [plain(row) for row in rows] for kind, rows in comparison.samples.items()},
        "copies": {},
        "rebuilt": [],
        "lag_changes": 0,
    }
    if done is not None and machine is not None:
        answer["copies"] = {
            topic: {"missing": each.missing, "extra": each.extra, "different": each.different}
            for topic, each in done.mirrors.items()
            if not each.is_equal
        }
        answer["rebuilt"] = sorted(done.doubted)
        heads = machine.loop.state
        job = machine.catalog.jobs[done.job]
        answer["lag_changes"] = sum(max(0, heads.head(a) - done.progress.cursors.get(a, 0)) for a in job.inputs)
    return answer


def _report(machine: Machine, job: Job, done: Reconciled, run: str, began: float) -> None:
    """A repair is a run that took nothing and wrote the difference."""
    taken = {asset: (done.progress.cursors.get(asset, 0),) * 2 for asset in job.inputs}
    readiness = {"because": ["repaired by a person: tidemill reconcile --repair"], "rebuild": False, "value": ""}
    record = RunRecord(
        run,
        job.name,
        "succeeded",
        1,
        taken,
        began,
        machine.clock.now(),
        0,
        done.repaired,
        0,
        str(job.mode),
        "",
        readiness,
    )
    machine.ledger.record([record])


def _tell(machine: Machine, done: Reconciled) -> None:
    """Let readers know: the difference is news to all, and those that are doubted are judged again."""
    now = machine.clock.now()
    for name, known in done.doubted.items():
        state = machine.loop.state.jobs.get(name)
        if state is not None and state.phase in (Phase.IDLE, Phase.RETRYING):
            machine.loop.post(Resumed(name, now, known))
    for asset, head in done.heads.items():
        machine.loop.post(Landed(asset, head, now))


# ------------------------------------------------------------------------------------------------- against


def compared_with(machine: Machine, job: Job, name: str, against: str, samples_max: int = SAMPLES) -> Comparison:
    """The current rows beside those of another asset, a query or a file."""
    asset = machine.catalog.asset(name if name in job.outputs else job.outputs[0])
    wanted = _other_rows(machine, asset, against)
    live = querying.answer(machine, f'select * from "{asset.name}"')
    columns = tuple(asset.columns)
    lacking = [column.name for column in columns if column.name not in wanted.column_names]
    if lacking:
        raise UserError(
            f"`{against}` has no column {', '.join(lacking)}, which `{asset.name}` has",
            mend=f"name the columns as they are: {', '.join(column.name for column in columns)}",
        )
    key = asset.key or None
    sides = Sides(columns, live, wanted.select([column.name for column in columns]), key, tolerance=job.tolerance)
    return compare(sides, machine.tables.evaluate, samples_max)


def _other_rows(machine: Machine, asset: Asset, against: str) -> pa.Table:
    first = against.split(None, 1)[0].lower() if against.strip() else ""
    if first in _QUERY:
        return querying.answer(machine, against)
    path = Path(against)
    if path.suffix.lower() in _FORMATS and against not in machine.catalog.assets:
        path = path if path.is_absolute() else machine.definitions.folder / path
        if not path.is_file():
            raise UserError(f"there is no file {against}", mend="give its path from the project's folder")
        text = reading(path, _FORMATS[path.suffix.lower()], asset.columns)
        rows: pa.Table = machine.tables.query('select * from "@file"', {"@file": text})
        return rows
    other = found(machine.catalog.assets, against, "asset")
    return querying.answer(machine, f'select * from "{other.name}"')
