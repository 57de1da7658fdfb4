"""What a person should know of an open project without having asked for it (rule 33).

Rules of this file:
  * it only reads; an alarm stands as long as what it tells is so, in whichever process it came to be;
  * the same thing is told once, whoever noticed it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from tidemill.core.change import Slice
from tidemill.core.errors import DefinitionError
from tidemill.core.model import Asset, AssetKind
from tidemill.project.judging import overdue
from tidemill.project.promises import broken
from tidemill.project.reconciled import unequal
from tidemill.project.retention import alarms_of
from tidemill.project.wiring import Machine
from tidemill.runtime.landing import landings_asset
from tidemill.runtime.parking import parked_asset
from tidemill.runtime.rows import dicts
from tidemill.stores.sqlite.stopping import stops

__all__ = ["AT_DOOR_MAX", "RECEIVERS", "alarms", "parked", "parked_by", "rejected_files"]

AT_DOOR_MAX = 1_000
"""So many of the newest events parked at a door are counted."""
RECEIVERS = "alarm receiver"
"""Notes of the receivers of alarms that failed the last time: `{times, until, reason}`, by name."""

Said = dict[str, Any]


def alarms(machine: Machine) -> list[Said]:
    """The alarms that stand: `{kind, job, reason, at}`; `job` is "" where it is about an `asset`, or a file of it (`path`)."""
    told: dict[tuple[str, str], Said] = {}
    unloaded = _unloaded(machine.definitions.problems, machine.clock.now())
    for said in (
        *_noticed(machine),
        *unloaded,
        *_data(machine),
        *_warned(machine),
        *_unequal(machine),
        *_of_runs(machine),
        *broken(machine),
        *_undelivered(machine),
        *alarms_of(machine),
    ):
        told.setdefault((said["kind"], said["reason"]), said)
    return list(told.values())


def _noticed(machine: Machine) -> Iterator[Said]:
    for alert in list(machine.journal.alarms.values()):
        if alert.kind != "deadline":  # whether that still is so lies in the data
            is_asset = alert.job in machine.catalog.assets and alert.job not in machine.catalog.jobs
            about = {"job": "", "asset": alert.job} if is_asset else {"job": alert.job}
            yield {"kind": alert.kind, **about, "reason": alert.reason, "at": alert.at}
    for job, reason in overdue(machine):
        yield {"kind": "deadline", "job": job, "reason": reason, "at": machine.clock.now()}


def _unloaded(problems: Iterable[DefinitionError], now: float) -> Iterator[Said]:
    for problem in problems:
        yield {"kind": "definition", "job": "", "reason": str(problem), "at": now}


def _warned(machine: Machine) -> Iterator[Said]:
    """What the last run of a job broke of what it asserts, where that only warns."""
    asserting = [job for job in machine.catalog.jobs.copy().values() if any(one.is_warning for one in job.asserts)]
    if asserting:
        machine.journal.flush()
    for job in asserting:
        for record in machine.ledger.runs(job=job.name, state="succeeded", limit=1):
            for each in record.readiness.get("warned", ()):
                reason = f'job {job.name}: assertion "{each["name"]}": {each["reason"]}'
                yield {"kind": "assertion", "job": job.name, "reason": reason, "at": record.finished_at or 0.0}


def _undelivered(machine: Machine) -> Iterator[Said]:
    """Receivers of `[alarms]` to which alarms could not be delivered the last time."""
    for receiver, said in machine.ledger.notes(RECEIVERS).items():
        told = f"alarms could not be delivered to the {receiver}: {said['reason']}; they are tried again"
        yield {"kind": "undelivered", "job": "", "receiver": receiver, "reason": told, "at": machine.clock.now()}


def _of_runs(machine: Machine) -> Iterator[Said]:
    """What the last runs told: failed, empty, far from their history, uneven, too long, events skipped."""
    machine.journal.flush()
    yield from machine.watch.standing()


def _unequal(machine: Machine) -> Iterator[Said]:
    """Tables that were not what their inputs give when they were last looked at by schedule."""
    for job, reason, at in unequal(machine):
        yield {"kind": "reconciliation", "job": job, "reason": reason, "at": at}


def _data(machine: Machine) -> Iterator[Said]:
    """What came in and could not be taken: rejected files, events parked at the door, rows parked by jobs."""
    now = machine.clock.now()
    for asset in machine.catalog.assets.values():
        landings = _landings(machine, asset)
        for row in _rejected(landings):
            yield {
                "kind": "rejected file",
                "job": "",
                "asset": asset.name,
                "path": row["path"],
                "reason": row["reason"],
                "at": now,
            }
        if reason := _left_out(asset, landings):
            yield {"kind": "columns left out", "job": "", "asset": asset.name, "reason": reason, "at": now}
    letters = [letter for letter in machine.ledger.dead(limit=AT_DOOR_MAX) if letter["state"] == "parked"]
    for name, count in Counter(letter["asset"] for letter in letters).items():
        reason = parked(count, f"at the door of {name}")
        yield {"kind": "parked", "job": "", "asset": name, "reason": reason, "at": now}
        if name in machine.catalog.assets and stops(machine.catalog.assets[name]):
            reason = (
                f"`{name}` takes nothing until the event at its door is replayed or discarded: see tidemill dead list"
            )
            yield {"kind": "stopped topic", "job": "", "asset": name, "reason": reason, "at": now}
    for name, reason in machine.undeclared.standing(machine.catalog.assets):
        yield {"kind": "undeclared fields", "job": "", "asset": name, "reason": reason, "at": now}
    for job, count in parked_by(machine).items():
        yield {"kind": "parked", "job": job, "reason": parked(count, f"by job {job}"), "at": now}


def parked(count: int, where: str) -> str:
    """How many rows are parked, and where to look."""
    what = "1 row is" if count == 1 else f"{count} rows are"
    return f"{what} parked {where}: see tidemill dead list"


def parked_by(machine: Machine) -> dict[str, int]:
    """How many rows each job keeps parked, for the jobs that keep any."""
    held = machine.positions()
    counts = {}
    for job in machine.catalog.jobs.copy().values():
        head = held[job.home].heads.get(parked_asset(job.name))
        if head is not None and head.rows:
            counts[job.name] = head.rows
    return counts


def rejected_files(machine: Machine, asset: Asset) -> list[Said]:
    """The files of a files asset that were rejected and not mended since: `{path, reason}`."""
    return _rejected(_landings(machine, asset))


def _rejected(landings: list[Said]) -> list[Said]:
    return [{"path": row["path"], "reason": row["reason"]} for row in landings if row["state"] == "rejected"]


def _left_out(asset: Asset, landings: list[Said]) -> str:
    """One sentence about columns that landed files had and the asset does not take, or ""."""
    files = [row for row in landings if row["state"] == "landed" and row["reason"]]
    columns = sorted({name for row in files for name in str(row["reason"]).split(", ")})
    if not columns:
        return ""
    count = "1 file" if len(files) == 1 else f"{len(files)} files"
    return f"{count} of {asset.name} had columns that are left out: {', '.join(columns)}; declare them to have them"


def _landings(machine: Machine, asset: Asset) -> list[Said]:
    if asset.kind is not AssetKind.FILES:
        return []
    transaction = machine.tables.begin(exclusive=False)
    try:
        name = landings_asset(asset.name)
        head = transaction.head(name)
        return dicts(transaction.read(Slice(name, 0, head.offset))) if head.rows else []
    finally:
        transaction.rollback()
