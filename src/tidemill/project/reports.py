"""What an open project says of itself, in the shapes of the outer contract.

Rules of this file:
  * it reads: the stores, the definitions and the heart's state; only `moved` and `restart_parked_count` write;
  * field names and their meaning are those of the outer contract; values are JSON values.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from tidemill.core.effect import pinned_key
from tidemill.core.errors import NotFound, TidemillError, UserError
from tidemill.core.model import Asset, AssetKind, Job, Late, Materialized, OnError, Takes
from tidemill.core.orchestrate import JobState, Phase
from tidemill.core.ports import Plan, Progress, Transaction
from tidemill.core.schema import policy_of
from tidemill.core.slices import Span
from tidemill.engines.duckdb import DuckDBEngine
from tidemill.project import retention
from tidemill.project.alarms import alarms, parked, parked_by, rejected_files
from tidemill.project.judging import is_held_elsewhere, readiness
from tidemill.project.ranges import listed_ranges
from tidemill.project.system import SYSTEM
from tidemill.project.tracing import of_row, with_traces
from tidemill.project.wiring import Machine
from tidemill.runtime.backfill import backfill_of
from tidemill.runtime.delivered import replay_of
from tidemill.runtime.gate import LetGo
from tidemill.runtime.journal import as_json
from tidemill.runtime.parking import standing
from tidemill.runtime.retention import why_all
from tidemill.runtime.skipped import skip

__all__ = [
    "assets",
    "backup",
    "dead_letters",
    "explain",
    "found",
    "job_state",
    "mapping",
    "moved",
    "plain_rows",
    "plan",
    "release",
    "restart_parked_count",
    "shaped",
    "status",
]

_TOLD_BY_REASON = ("incremental", "keyed")
"""Kinds of plans whose reason says how the job is maintained."""

T = TypeVar("T")


def found(named: Mapping[str, T], name: str, kind: str) -> T:
    """The thing of that name. Raises NotFound with the nearest one."""
    if name in named:
        return named[name]
    near = difflib.get_close_matches(name, named, 1)
    raise NotFound(f"there is no {kind} `{name}`", mend=f"did you mean `{near[0]}`?" if near else "see: tidemill ls")


# ------------------------------------------------------------------------------------------------- rows


def plain_rows(table: pa.Table) -> list[dict[str, Any]]:
    """Rows as JSON values: integers exact, decimals as text, times ISO 8601, NaN as null (rule 7)."""
    return [{name: plain(value) for name, value in row.items()} for row in table.to_pylist()]


def plain(value: Any) -> Any:
    """One value as a JSON value."""
    if value is None or isinstance(value, str | bool | int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    if isinstance(value, Decimal) and value == value.to_integral_value() and value.as_tuple().exponent == 0:
        return int(value)
    return value.hex() if isinstance(value, bytes) else str(value)


# --------------------------------------------------------------------------------------------- mapping


def mapping(machine: Machine) -> list[dict[str, Any]]:
    """The object mapping."""
    return [
        {"job": job.name, "inputs": list(job.inputs), "outputs": list(job.outputs), "mode": str(job.mode)}
        for job in machine.catalog.jobs.copy().values()
    ]


def assets(machine: Machine) -> list[dict[str, Any]]:
    """Every asset, with who writes and who reads it."""
    jobs = machine.catalog.jobs.copy().values()
    listed = []
    for name in listed_assets(machine):
        asset = shaped(machine, name)
        listed.append(
            {
                "asset": name,
                "kind": str(asset.kind),
                "columns": {column.name: column.type for column in asset.columns},
                **listed_ranges(asset.ranges),
                **_schema(machine, asset),
                "key": list(asset.key),
                "writer": next((job.name for job in jobs if name in job.outputs), None),
                "readers": _readers(machine, name),
                "reads": list(machine.definitions.named.get(name, ())) if asset.kind is AssetKind.VIEW else [],
                "description": asset.description,
                "owner": asset.owner,
                "tags": list(asset.tags),
            }
        )
    return listed


def listed_assets(machine: Machine) -> list[str]:
    """Every asset, those of tidemill itself last, and only where they hold something."""
    own = [name for name in SYSTEM if machine.tables.head(name)]
    return [*(name for name in machine.catalog.assets.copy() if name not in SYSTEM), *own]


def _schema(machine: Machine, asset: Asset) -> dict[str, Any]:
    """What becomes of columns that an asset does not have, and the versions of a topic's schema."""
    if asset.kind not in (AssetKind.TOPIC, AssetKind.FILES):
        return {}
    versions = machine.ledger.schemas(asset.name) if asset.kind is AssetKind.TOPIC else []
    listed = [
        {"version": each.version, "since": each.since, "columns": {column.name: column.type for column in each.columns}}
        for each in versions
    ]
    return {"schema": str(policy_of(asset)), "versions": listed}


def _readers(machine: Machine, name: str) -> list[str]:
    """The jobs that an asset starts, and the jobs and views that name a view or stand between."""
    jobs = [job.name for job in machine.catalog.jobs.copy().values() if name in job.inputs]
    named = machine.definitions.named
    return list(dict.fromkeys([*jobs, *(reader for reader in named if name in named[reader])]))


def shaped(machine: Machine, name: str) -> Asset:
    """The asset with its columns and key, as far as they are known."""
    try:
        return machine.catalog.asset(name)
    except TidemillError:
        return machine.catalog.assets[name]


# ---------------------------------------------------------------------------------------------- status


def status(machine: Machine) -> dict[str, Any]:
    """Lag and freshness per asset and job, and the alarms that stand."""
    held = machine.positions()
    now = machine.clock.now()
    landed: dict[str, float] = {}
    for record in machine.ledger.runs(state="succeeded", limit=1_000):
        for output in machine.catalog.jobs[record.job].outputs if record.job in machine.catalog.jobs else ():
            landed.setdefault(output, record.finished_at or 0.0)
    known = {name: machine.catalog.assets[name] for name in listed_assets(machine)}
    heads = {name: held[asset.home].heads.get(name) for name, asset in known.items()}
    listed = []
    for name, asset in known.items():
        head = heads[name]
        listed.append(
            {
                "asset": name,
                "kind": str(asset.kind),
                "head": head.offset if head else 0,
                "rows": head.rows if head else 0,
                "freshness_seconds": round(now - landed[name], 3) if name in landed else None,
            }
        )
    jobs = [_job_status(machine, job, held[job.home].progress.get(job.name), now) for job in _jobs(machine)]
    return {"assets": listed, "jobs": jobs, "alarms": alarms(machine), "retention": retention.told(machine)}


def _jobs(machine: Machine) -> list[Job]:
    return list(machine.catalog.jobs.copy().values())


def _job_status(machine: Machine, job: Job, progress: Progress | None, now: float) -> dict[str, Any]:
    cursors = progress.cursors if progress is not None else {}
    lag = sum(max(0, machine.loop.state.head(asset) - cursors.get(asset, 0)) for asset in job.inputs)
    served = progress.served_at if progress is not None and progress.run else None
    return {
        "job": job.name,
        "mode": str(job.mode),
        "state": job_state(machine, job.name),
        "lag_changes": lag,
        "lag_seconds": 0.0 if not lag else (round(now - served, 3) if served else None),
        "freshness_seconds": round(now - served, 3) if served else None,
    }


def job_state(machine: Machine, name: str) -> str:
    """idle, due, running, retrying, held, paused or pending; held also where only another process has met it."""
    job = machine.loop.state.jobs.get(name)
    if job is None:
        return "pending"
    if job.phase is not Phase.IDLE:
        return str(job.phase)
    if is_held_elsewhere(machine, name):
        return str(Phase.HELD)
    return "due" if readiness(machine, name).is_ready else str(job.phase)


# --------------------------------------------------------------------------------------------- explain


def explain(machine: Machine, name: str) -> dict[str, Any]:
    """Why a job runs, or does not; and the readiness that its last start stored."""
    judged = readiness(machine, name)
    job = machine.loop.state.jobs[name]
    last = machine.ledger.runs(job=name, limit=1)
    return {
        "job": name,
        "ready": judged.is_ready,
        "because": [*judged.because, *_left_out(machine, job.job)],
        "state": job_state(machine, name),
        "mode": str(job.job.mode),
        "next_at": judged.next_at,
        "alarms": _alarms_of(machine, name),
        "inputs": {
            asset: {"head": machine.loop.state.head(asset), "cursor": job.cursors.get(asset, 0)}
            for asset in job.job.inputs
        },
        "last_start": None
        if not last
        else {
            "run": last[0].run,
            "state": last[0].state,
            "at": last[0].started_at,
            "attempt": last[0].attempt,
            "because": list(last[0].readiness.get("because", [])),
            "stages": dict(last[0].readiness.get("stages", {})),
            "error": last[0].error,
            "inputs": {asset: list(taken) for asset, taken in last[0].inputs.items()},
            "traceparents": with_traces(machine.ledger, machine.catalog.assets, [as_json(last[0])])[0]["traceparents"],
        },
    }


def _alarms_of(machine: Machine, name: str) -> list[str]:
    """The reasons of a job's alarms, each once, but for what it parked: `_left_out` tells that."""
    told = [alarm["reason"] for alarm in alarms(machine) if alarm["job"] == name and alarm["kind"] != "parked"]
    return list(dict.fromkeys(told))


def _left_out(machine: Machine, job: Job) -> list[str]:
    """What a job does not see, or could not process."""
    rejected = [row["reason"] for name in job.inputs for row in rejected_files(machine, machine.catalog.assets[name])]
    count = parked_by(machine).get(job.name, 0)
    told = [f"a file was rejected: {reason.partition(chr(10))[0]}" for reason in rejected]
    return [*told, parked(count, "by this job")] if count else told


def plan(machine: Machine) -> dict[str, Any]:
    """How each job is maintained, what it guarantees, and whether it would run now."""
    listed = []
    for job in _jobs(machine):
        made = None if job.takes is Takes.COMMAND else machine.catalog.plan(job)
        judged = readiness(machine, job.name)
        listed.append(
            {
                "job": job.name,
                "mode": str(job.mode),
                "maintained": _maintained(job, made),
                "reason": _why_whole(job, made),
                "statement": made.statement if made is not None else "",
                "stages": _stages(machine, job, made),
                "guarantee": guarantee(machine, job),
                "history": _history(machine, job),
                "ready": judged.is_ready,
                "because": list(judged.because),
            }
        )
    return {"changes": [_change(machine, name, job) for name, job in machine.pending.items()], "jobs": listed}


def _history(machine: Machine, job: Job) -> dict[str, str]:
    """The append topics of which the job needs all rows, each with the reason; of the others it needs what is new."""
    topics = [name for name in (*job.inputs, *job.watches) if machine.catalog.is_append_topic(name)]
    reasons = {name: why_all(machine.catalog, job, name) for name in topics}
    return {name: reason for name, reason in reasons.items() if reason}


def _change(machine: Machine, name: str, job: Job | None) -> dict[str, str]:
    """A definition that waits for `apply`."""
    if job is None:
        return {"job": name, "change": "removed", "why": "its definition is gone; its table stays"}
    change = "changed" if name in machine.definitions.jobs else "new"
    why = "it acts outside" if job.is_outside else "its table is rebuilt beside, and readers get the difference"
    return {"job": name, "change": change, "why": why}


def _maintained(job: Job, made: Plan | None) -> str:
    if job.is_outside or made is None:
        return "outside: at least once, with a stable key"
    if job.materialized is Materialized.EXTRACT:
        return "recomputed, and the file rewritten whole: beside, then renamed"
    if made.kind == "rowwise":
        return "row by row: only rows that changed are computed"
    cap = ", max_changes does not apply" if job.max_changes else ""
    return f"{made.reason if made.kind in _TOLD_BY_REASON else 'recompute and difference'}{cap}"


def _why_whole(job: Job, made: Plan | None) -> str:
    """Why a job is recomputed as a whole, in words; '' for any other."""
    if made is None or made.kind != "recompute" or job.is_outside:
        return ""
    if job.materialized is Materialized.EXTRACT:
        return "a file has no rows to exchange"
    if job.gate is not None:
        return "its gate opens whole values, and each is computed over all that was released"
    return made.reason


def _stages(machine: Machine, job: Job, made: Plan | None) -> list[dict[str, Any]]:
    """How each stage of an incremental job is maintained, with its statements; none for any other job."""
    engine = machine.catalog.engines.get(job.takes)
    if made is None or made.kind != "incremental" or not isinstance(engine, DuckDBEngine):
        return []
    told = zip(engine.stages(made, job.name), engine.statements(made), strict=True)
    return [stage | {"statements": {k: v for k, v in texts.items() if k != "stage"}} for stage, texts in told]


def guarantee(machine: Machine, job: Job) -> str:
    """What is guaranteed, computed from what the inputs, the engine and the output can do (rule 11)."""
    outside = "at least once, with a stable key" if job.is_outside else "exactly once"
    if job.materialized is Materialized.EXTRACT:
        outside = "each change at least once: the file is the old or the new one, and a repeated write is the same file"
    doors = [
        name
        for name in job.inputs
        if machine.catalog.assets[name].kind is AssetKind.TOPIC
        and not machine.catalog.assets[name].id
        and machine.catalog.assets[name].semantics == "append"
    ]
    at_door = f"; at least once at the door of {', '.join(doors)} (no id)" if doors else ""
    stops = "" if job.on_error is OnError.PARK else "; all or nothing (on_error: stop)"
    return outside + at_door + stops


# ---------------------------------------------------------------------------------------- dead letters


def dead_letters(machine: Machine, asset: str, limit: int) -> list[dict[str, Any]]:
    """Events parked at the door and rows parked by jobs."""
    letters = list(machine.ledger.dead(asset=asset, limit=limit))
    for named in machine.catalog.assets.values():
        letters += [
            {
                "id": f"{named.name}/{row['path']}",
                "asset": named.name,
                "job": None,
                "stage": "land",
                "reason": row["reason"],
                "payload": row["path"],
                "attempts": 1,
                "state": "parked",
                "traceparent": "",
            }
            for row in rejected_files(machine, named)
            if not asset or named.name == asset
        ]
    for name in parked_by(machine):
        job = machine.catalog.jobs[name]
        transaction = machine.stores[job.home].begin(exclusive=False)
        try:
            parked = standing(transaction, job)
        finally:
            transaction.rollback()
        letters += [
            {
                "id": f"{job.name}/{row.asset}/{row.rid}",
                "asset": row.asset,
                "job": job.name,
                "stage": "transform",
                "reason": row.reason,
                "payload": row.payload,
                "attempts": 1,
                "state": "parked",
                "traceparent": of_row(machine.ledger, machine.catalog.assets, row.asset, row.offset),
            }
            for row in parked
            if not asset or row.asset == asset
        ]
    return letters[:limit]


# ------------------------------------------------------------------------------------------- steering


def moved(machine: Machine, name: str, start: str) -> Progress:
    """Move a job's cursors forward: to the heads ("now") or to an offset. Raises UserError for moving back."""
    job = machine.catalog.jobs[name]
    store = machine.stores[job.home]
    transaction = store.begin()
    try:
        before = transaction.progress(name)
        cursors = dict(before.cursors) if before is not None else {}
        for asset in job.inputs:
            head = machine.loop.state.head(asset)
            target = head if start == "now" else _offset(start)
            if not cursors.get(asset, 0) <= target <= head:
                raise UserError(
                    f"`{asset}` is read to {cursors.get(asset, 0)} and reaches {head}: {target} is not between",
                    mend="a cursor never moves back; use `tidemill replay` for what was read already",
                )
            cursors[asset] = target
        _hand_over_pinned(transaction, job, before, cursors)
        base = before or Progress(name, job.version)
        progress = replace(base, cursors=cursors, pinned=None, opens={})
        transaction.settle(progress, before)
        known = before.cursors if before is not None else {}
        skip(transaction, job, [Span(asset, known.get(asset, 0), cursors[asset]) for asset in job.inputs])
        transaction.commit()
    finally:
        transaction.rollback()
    machine.watch.forget(name, "held")  # what was held is passed over
    machine.journal.alarms.pop(("held", name), None)
    return progress


def _hand_over_pinned(transaction: Transaction, job: Job, before: Progress | None, cursors: Mapping[str, int]) -> None:
    """A run that was pinned, and may have acted, is passed over as it is: a backfill does it under the key it has.

    Raises UserError where a backfill has a slice of its own to finish first.
    """
    pinned = (before.pinned or {}) if before is not None and job.is_outside and job.gate is None else {}
    if before is None or not pinned or any(to > cursors.get(asset, 0) for asset, (_, to) in pinned.items()):
        return
    known = transaction.progress(backfill_of(job.name))
    if known is not None and known.pinned is not None:
        raise UserError(
            f"a slice of a backfill of `{job.name}` was begun and is not finished, and so is a run that would be passed over",
            mend=f"finish it first: tidemill backfill {job.name}, or go on from the run: tidemill resume {job.name}",
        )
    transaction.settle(Progress(backfill_of(job.name), job.version, pinned=pinned), known)


def release(machine: Machine) -> list[str]:
    """Let go what waits for a person now, durably: the work that was pinned, and late rows behind gates (rules 21, 26).

    Returns the jobs concerned, those that are held for another reason among them: they are to be tried again.
    """
    progress = machine.ledger.positions().progress
    pinned = {name: pinned_key(done) for name, done in progress.items() if done.pinned is not None}
    released = []
    for name, job in machine.loop.state.jobs.items():
        late = _late(machine, job)
        is_pinned = name in pinned and job.phase in (Phase.IDLE, Phase.HELD)
        if late:
            machine.ledger.note("let_go", name, late)
        if is_pinned:
            machine.ledger.note("released", name, pinned[name])
        if late or is_pinned or job.phase is Phase.HELD:
            released.append(name)
    return [*released, *_release_replays(machine, progress)]


def _release_replays(machine: Machine, progress: Mapping[str, Progress]) -> list[str]:
    """Let go the replays and backfills that wait: exactly what was chosen."""
    going = {name: known for name, known in progress.items() if name == replay_of(name.partition("@")[0])}
    waiting = {name: known.version for name, known in going.items() if known.pinned is not None}
    waiting |= {backfill_of(name): said["token"] for name, said in machine.ledger.notes("backfill").items()}
    machine.ledger.note_all("released", waiting)
    return list(waiting)


def _late(machine: Machine, job: JobState) -> LetGo:
    holds = job.job.gate is not None and job.job.gate.on_late is Late.HOLD
    return machine.services.looker.held_late(job.job.name) if holds else {}


def _offset(text: str) -> int:
    if not text.isdigit():
        raise UserError(f"`{text}` is not a place to resume from", mend="use last, now, or an offset")
    return int(text)


def restart_parked_count(machine: Machine, name: str) -> None:
    """Parked rows count towards too many only from the job's cursor on (rule 14)."""
    job = machine.catalog.jobs[name]
    state = machine.loop.state.jobs.get(name)
    if state is not None and job.inputs:
        machine.ledger.note("counts_from", name, max(state.cursors.get(asset, 0) for asset in job.inputs))


def backup(machine: Machine, target: Path) -> dict[str, Any]:
    """Copy both stores consistently: the tables first, so that no cursor in the copy is ahead of its log."""
    target.mkdir(parents=True, exist_ok=True)
    machine.journal.flush()
    files = [machine.tables.backup(target)]
    ledger = target / "ledger.db"
    machine.ledger.backup(ledger)
    files.append(ledger)
    (target / "backup.json").write_text(json.dumps({"project": machine.definitions.name, "at": machine.clock.now()}))
    files.append(target / "backup.json")
    return {
        "target": str(target),
        "files": [path.name for path in files],
        "bytes": sum(path.stat().st_size for path in files),
    }
