"""Retention of an open project: what of its topics has expired, what is forgotten, and who holds that back.

Rules of this file:
  * an event is as old as its record in the ledger; its event time is data, and says nothing here;
  * the log goes first, its mirror follows to where the log begins: a death between the two leaves a mirror that has more
    than the log, which is right, and the next pass goes on;
  * a pass forgets a bounded number of events, a part a commit, so that whoever emits meanwhile waits for little.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from tidemill.core.jobstate import Phase
from tidemill.core.model import Asset, AssetKind, Job
from tidemill.core.ports import Head, Progress
from tidemill.core.retention import Need, in_order, may_go
from tidemill.project.sides import SIDE, read_up_to
from tidemill.project.wiring import Machine
from tidemill.runtime.again import Again
from tidemill.runtime.backfill import Backfill, backfill_of
from tidemill.runtime.retention import need_of

__all__ = ["EXPIRING_MAX", "alarms_of", "expired_inputs", "forget_expired", "told"]

EXPIRING_MAX = 1_000_000
"""So many events of a topic, about, are forgotten in one pass."""
EXPIRING_AT_ONCE = 20_000
"""So many of them, about, in one commit."""


def _retained(machine: Machine) -> list[Asset]:
    """The topics of which something has expired, or may."""
    topics = [asset for asset in machine.catalog.assets.copy().values() if asset.kind is AssetKind.TOPIC]
    heads = machine.ledger.positions().heads
    return [topic for topic in topics if topic.retention_seconds or (topic.name in heads and heads[topic.name].expired)]


def forget_expired(machine: Machine, most: int = EXPIRING_MAX, at_once: int = EXPIRING_AT_ONCE) -> int:
    """Forget what is older than its topic's retention and needed by nobody; returns how many events and rows went.

    About `most` events of a topic go in this pass, about `at_once` in one commit. While a definition cannot be read nothing
    goes: what its job has not read is known to nobody.
    """
    if machine.definitions.problems:
        return 0
    topics = [asset for asset in machine.catalog.assets.copy().values() if asset.retention_seconds]
    return sum(_forget(machine, topic, most, at_once) for topic in topics)


def _forget(machine: Machine, topic: Asset, most: int, at_once: int) -> int:
    """Forget what may go of one topic. Where nothing is old enough, nothing but that is asked."""
    name, gone = topic.name, 0
    with machine.forgetting:
        floor = machine.ledger.floor(name)
        below = _boundary(machine, topic, floor, most)
        for stop in (*range(floor + at_once, below, at_once), below):
            gone += machine.ledger.expire(name, stop) if stop > floor else 0
        if machine.tables.head(name):
            gone += machine.tables.expire(name, machine.ledger.floor(name))
    return gone


def _boundary(machine: Machine, topic: Asset, floor: int, most: int) -> int:
    """The offset up to which events are older than their retention, and needed by nobody."""
    if _overdue_since(machine, topic, floor) is None:
        return floor
    needed = may_go(machine.ledger.head(topic.name), _needs(machine, topic))
    if needed <= floor:
        return floor
    return min(needed, machine.ledger.due(topic.name, machine.clock.now() - topic.retention_seconds, most))


def _overdue_since(machine: Machine, topic: Asset, after: int) -> float | None:
    """Since when the event after this offset is older than its retention; None where it is not, or there is none."""
    at = machine.ledger.recorded_at(topic.name, after + 1)
    since = None if at is None else at + topic.retention_seconds
    return since if since is not None and since <= machine.clock.now() else None


# ---------------------------------------------------------------------------------------------- who needs what


def _needs(machine: Machine, topic: Asset) -> Iterator[Need]:
    """What each job still needs of a topic."""
    progress = {job: known for held in machine.positions().values() for job, known in held.progress.items()}
    for job in machine.catalog.jobs.copy().values():
        if topic.name not in job.inputs and topic.name not in job.watches:
            continue
        state = machine.loop.state.jobs.get(job.name)
        phase = "" if state is None or state.phase is Phase.IDLE else str(state.phase)
        waiting = machine.pending.get(job.name)
        is_waiting = waiting is not None and waiting.rebuilds
        known = progress.get(job.name)
        need = need_of(machine.catalog, job, topic.name, known, phase=phase, is_waiting=is_waiting)
        if need is not None:
            yield need
        if job.is_outside and (left := _to_deliver_again(machine, job, topic.name)):
            yield Need(job.name, min(left), "a replay of it is not finished")
        if skipped := _to_backfill(machine, job, topic.name, progress):
            yield Need(job.name, min(skipped), "its backfill is not finished")
    for live, (shadow, catalog) in machine.beside.copy().items():
        need = need_of(catalog, shadow, topic.name, progress.get(shadow.name)) if topic.name in shadow.inputs else None
        if need is not None:
            has = f"has read up to offset {need.offset}" if need.offset else f"needs all rows ({need.reason})"
            yield Need(live, need.offset, f"its shadow {has}")
    for name, read in read_up_to(machine, topic.name, progress).items():
        yield Need(name, read, f"a replay of it is not finished, and has read up to offset {read}")
    for table, note in machine.ledger.notes(SIDE).items():
        if note.get("state") == "working" and topic.name in note.get("targets", {}):
            known = progress.get(table)
            read = known.cursors.get(topic.name, 0) if known is not None else note["from"]
            yield Need(note["job"], read, f"replay --into {table} is at work, and has read up to offset {read}")


def _to_deliver_again(machine: Machine, job: Job, topic: str) -> list[int]:
    """Where in a topic the recorded runs begin that an unfinished replay of the job has not delivered yet."""
    again = Again(job, machine.services.outside)
    going = again.progress
    left = again.left(going) if going is not None else []
    return [each.ranges[topic][0] for each in left if topic in each.ranges]


def _to_backfill(machine: Machine, job: Job, topic: str, progress: Mapping[str, Progress]) -> list[int]:
    """Where in a topic that begins which a backfill that has begun has not processed yet; what nobody asked for may go."""
    name, services = job.name, machine.services
    has_begun = name in machine.loop.state.backfilled or backfill_of(name) in progress
    if not has_begun and machine.ledger.noted("backfill", name) is None:
        return []
    spans = Backfill(job, services.performer, services.outside).skipped()
    return [span.from_ for span in spans if span.asset == topic]


def _holders(machine: Machine, topic: Asset) -> list[dict[str, Any]]:
    """Who holds retention back now: `{job, offset, since, reason}`, `since` in seconds since the epoch."""
    floor, listed = machine.ledger.floor(topic.name), []
    for need in in_order(_needs(machine, topic)) if topic.retention_seconds else ():
        since = _overdue_since(machine, topic, max(need.offset, floor))
        if since is not None:
            said = {"job": need.reader, "offset": need.offset, "since": round(since, 3), "reason": need.reason}
            listed.append(said)
    return listed


def alarms_of(machine: Machine) -> Iterator[dict[str, Any]]:
    """What is older than its retention and stays, because a job needs it: `{kind, job, reason, at}`."""
    for topic in [asset for asset in machine.catalog.assets.copy().values() if asset.retention_seconds]:
        for held in _holders(machine, topic):
            reason = f"nothing of `{topic.name}` expires that follows offset {held['offset']}: {held['reason']}"
            yield {"kind": "retention", "job": held["job"], "asset": topic.name, "reason": reason, "at": held["since"]}


def told(machine: Machine) -> list[dict[str, Any]]:
    """Of each retained topic `{asset, seconds, expired, held_back, not_rebuildable}`.

    `expired` is the offset up to which events are gone, `held_back` who keeps more than `seconds` ask for, `not_rebuildable`
    the jobs whose results cannot be made anew without what is gone.
    """
    heads = machine.ledger.positions().heads
    jobs = [job for job in machine.catalog.jobs.copy().values() if job.rebuilds and not job.is_outside]
    return [
        {
            "asset": topic.name,
            "seconds": topic.retention_seconds or None,
            "expired": machine.ledger.floor(topic.name),
            "held_back": _holders(machine, topic),
            "not_rebuildable": [job.name for job in jobs if topic.name in expired_inputs(heads, job)],
        }
        for topic in _retained(machine)
    ]


def expired_inputs(heads: Mapping[str, Head], job: Job) -> dict[str, int]:
    """The inputs whose rows have expired, each with the offset up to which: without them a result cannot be made anew.

    `heads` are those of the ledger.
    """
    return {name: heads[name].expired for name in job.inputs if name in heads and heads[name].expired}
