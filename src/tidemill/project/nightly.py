"""Reconciliations by schedule: a job that says `reconcile: "03:00"` is compared with the truth at that moment.

Rules of this file:
  * a moment is served once, also where it passed while nobody ran the project; missed moments collapse into one;
  * what was found is a row of `tidemill.reconciliations`; what is not equal is an alarm until it is equal again;
  * it only looks: a repair is a person's.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from tidemill.core.errors import RunCancelled, TidemillError
from tidemill.core.model import Job
from tidemill.project import reconciling
from tidemill.project.reconciled import NOTES
from tidemill.project.recording import keep, moment
from tidemill.project.schedule import moments_in
from tidemill.project.system import RECONCILIATIONS
from tidemill.project.wiring import Machine

__all__ = ["follow", "reconcile_due"]

LOG = logging.getLogger("tidemill.nights")
LOOK_SECONDS = 2.0
"""How often `follow` looks whether a moment has come."""
_COUNTS = ("missing", "extra", "different", "lag_changes")


def follow(machine: Machine, stop: threading.Event) -> None:
    """Serve every moment as it comes, until told to stop."""
    while not stop.wait(LOOK_SECONDS):
        try:
            reconcile_due(machine, stop.is_set)
        except Exception as error:  # noqa: BLE001 - what fails is told; the next look makes up for it
            LOG.error("reconciling by schedule failed: %s", error)


def reconcile_due(machine: Machine, is_stopping: Callable[[], bool] = lambda: False) -> list[str]:
    """Compare the jobs whose moment has come; returns their names. Whoever stops does not wait for all of it.

    A moment is served once: where somebody is at it, nothing is left to do.
    """
    if not machine.comparing.acquire(blocking=False):
        return []
    try:
        due = list(_due(machine))
        for job in due:
            _reconcile(machine, job, is_stopping)
    finally:
        machine.comparing.release()
    return [job.name for job in due]


def _due(machine: Machine) -> Iterator[Job]:
    jobs = [job for job in machine.catalog.jobs.copy().values() if job.reconcile]
    if not jobs:
        return
    notes, seen, now = machine.ledger.notes(NOTES), machine.ledger.notes("definition"), machine.clock.now()
    following = moments_in(machine.catalog.timezone)
    for job in jobs:
        served = notes.get(job.name, {}).get("served_at") or seen.get(job.name, {}).get("first_seen_at", now)
        if following(job.reconcile, float(served)) <= now and _has_run(machine, job):
            yield job


def _has_run(machine: Machine, job: Job) -> bool:
    known = machine.stores[job.home].positions().progress.get(job.name)
    return known is not None and bool(known.run)


def _reconcile(machine: Machine, job: Job, is_stopping: Callable[[], bool]) -> None:
    def go_on(_: object) -> None:
        if is_stopping():
            raise RunCancelled(f"the reconciliation of `{job.name}` was given up: its moment is served later")

    at, began = machine.clock.now(), time.monotonic()
    answer: dict[str, Any] = {"equal": None, **dict.fromkeys(_COUNTS), "samples": {}, "error": ""}
    try:
        answer |= reconciling.reconcile(machine, job.name, progress=go_on)
    except RunCancelled:
        return
    except TidemillError as error:
        answer["error"] = str(error)
    row = {
        "job": job.name,
        "reconciled_at": moment(at),
        "equal": answer["equal"],
        **{word: answer[word] for word in _COUNTS},
        "seconds": round(time.monotonic() - began, 3),
        "samples": json.dumps(answer["samples"]),
        "error": answer["error"],
    }
    keep(machine, RECONCILIATIONS, [row])
    said = {word: answer[word] for word in ("equal", "missing", "extra", "different", "error")}
    machine.ledger.note(NOTES, job.name, {**said, "served_at": at})
