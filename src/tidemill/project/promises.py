"""Alarms that nobody's run tells: promises of freshness, runs that go on too long, inputs that went silent, copies with gaps.

Rules of this file:
  * they stand as long as they are so: each is computed from the stores and the clock when it is asked for;
  * when an input last moved is noted as it is seen to move (`notice`), in one commit for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tidemill.core.health import is_silent, too_long
from tidemill.core.model import AssetKind, Home
from tidemill.core.orchestrate import Phase
from tidemill.core.ports import Positions
from tidemill.project.watchkeeping import period
from tidemill.project.wiring import Machine, heads_of

__all__ = ["broken", "notice"]

MOVED = "moved"
"""Notes of when a source last moved: `{head, at, moves, pauses}`."""
PAUSE_SECONDS_MIN = 60.0
"""Shorter pauses between arrivals are not remembered."""
PAUSES_MAX = 20
_SOURCES = (AssetKind.TOPIC, AssetKind.FILES, AssetKind.EXTERNAL)

Said = dict[str, Any]


def notice(machine: Machine) -> None:
    """Note which sources have moved since the last time."""
    written = {output for job in machine.catalog.jobs.copy().values() for output in job.outputs}
    known, now, fresh = machine.ledger.notes(MOVED), machine.clock.now(), {}
    for name, head in heads_of(machine, machine.positions()).items():
        asset, before = machine.catalog.assets[name], known.get(name)
        if asset.kind not in _SOURCES or name in written or not head.offset:
            continue
        if before is None or head.offset > before["head"]:
            fresh[name] = _moved(before, head.offset, now)
    if fresh:
        machine.ledger.note_all(MOVED, fresh)


def _moved(before: Said | None, head: int, now: float) -> Said:
    if before is None:
        return {"head": head, "at": now, "moves": 1, "pauses": []}
    pause = now - before["at"]
    pauses = [*before["pauses"], pause] if pause >= PAUSE_SECONDS_MIN else before["pauses"]
    return {"head": head, "at": now, "moves": before["moves"] + 1, "pauses": pauses[-PAUSES_MAX:]}


def broken(machine: Machine) -> Iterator[Said]:
    """The alarms of this file that stand: `{kind, job, asset, reason, at}`."""
    held = machine.positions()
    yield from _late(machine, held)
    yield from _long(machine)
    yield from _quiet(machine)
    yield from _uncopied(machine, held)


def _late(machine: Machine, held: dict[Home, Positions]) -> Iterator[Said]:
    """Jobs that promise freshness and have not taken what waits for them."""
    now = machine.clock.now()
    for job in machine.catalog.jobs.copy().values():
        if not job.freshness_seconds:
            continue
        known, state = held[job.home].progress.get(job.name), machine.loop.state.jobs.get(job.name)
        cursors = known.cursors if known is not None else {}
        lag = sum(max(0, machine.loop.state.head(asset) - cursors.get(asset, 0)) for asset in job.inputs)
        since = known.served_at if known is not None and known.served_at else _first_seen(machine, job.name, now)
        if lag and now - since > job.freshness_seconds and (state is None or state.phase is not Phase.PAUSED):
            reason = (
                f"job {job.name} is {lag} changes behind, and its result is {_told(now - since)} old: "
                f"it promises {_told(job.freshness_seconds)}"
            )
            yield {"kind": "lag", "job": job.name, "reason": reason, "at": now}


def _first_seen(machine: Machine, job: str, now: float) -> float:
    return float(machine.ledger.notes("definition").get(job, {}).get("first_seen_at", now))


def _long(machine: Machine) -> Iterator[Said]:
    """Runs that go on for longer than the time until the next one."""
    now = machine.clock.now()
    for record in machine.journal.going():
        job = machine.catalog.jobs.get(record.job)
        if job is None or record.state != "running":
            continue
        reason = too_long(now - record.started_at, period(job, machine.watch.following, record.started_at))
        if reason:
            yield {"kind": "window", "job": job.name, "reason": f"job {job.name}: {reason}, and goes on", "at": now}


def _quiet(machine: Machine) -> Iterator[Said]:
    """Sources from which nothing came for longer than they promise, or than they ever paused."""
    now = machine.clock.now()
    for name, said in machine.ledger.notes(MOVED).items():
        asset = machine.catalog.assets.get(name)
        if asset is None:
            continue
        quiet = now - float(said["at"])
        promised = asset.freshness_seconds
        if promised and quiet > promised:
            reason = f"nothing new in {name} for {_told(quiet)}: it promises {_told(promised)}"
            yield {"kind": "freshness", "job": "", "asset": name, "reason": reason, "at": now}
        elif not promised and is_silent(said["pauses"], said["moves"], quiet):
            longest = max(said["pauses"], default=0.0)
            usual = f"its longest pause lately was {_told(longest)}" if longest else "it never paused for a minute"
            reason = f"{name} has gone silent: nothing new for {_told(quiet)}, and {usual}"
            yield {"kind": "silent", "job": "", "asset": name, "reason": reason, "at": now}


def _uncopied(machine: Machine, held: dict[Home, Positions]) -> Iterator[Said]:
    """Copies of topics that hold fewer events than the log had when they were copied."""
    for name, head in held[Home.TABLES].heads.items():
        asset = machine.catalog.assets.get(name)
        if asset is None or asset.kind is not AssetKind.TOPIC or asset.can_retract or not head.offset:
            continue
        expected, found = head.offset - machine.ledger.floor(name), machine.tables.count(name)
        if found < expected:
            reason = f"the copy of {name} that jobs read holds {found} of {expected} events: see tidemill audit {name}"
            yield {"kind": "counts", "job": "", "asset": name, "reason": reason, "at": machine.clock.now()}


def _told(seconds: float) -> str:
    """A time in the unit that suits it."""
    for unit, size in (("d", 86_400.0), ("h", 3_600.0), ("min", 60.0)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
