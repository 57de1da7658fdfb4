"""What each job still needs of a topic: the rows that retention must leave.

Rules of this file:
  * a job that is maintained from what is new needs what it has not read; where a run has begun, from where that begins;
  * a job that computes from all rows, now and then or always, needs all of them;
  * of a topic whose rows are updated the current rows never expire: who needs all rows has them.
"""

from __future__ import annotations

from tidemill.core.errors import TidemillError
from tidemill.core.model import Job
from tidemill.core.ports import Progress
from tidemill.core.retention import Need
from tidemill.runtime.catalog import Catalog

__all__ = ["need_of", "why_all"]


def need_of(
    catalog: Catalog, job: Job, topic: str, known: Progress | None, *, phase: str = "", is_waiting: bool = False
) -> Need | None:
    """What a job needs of a topic that it reads; None where it needs nothing that is there.

    `known` is its progress, `phase` what it is doing where it is not idle. `is_waiting`: another definition of it waits.
    """
    is_updated = not catalog.is_append_topic(topic)
    if known is not None and known.pinned is not None and topic in known.pinned:
        return Need(job.name, known.pinned[topic][0], "it has begun a run that is not settled")
    whole = (_gated(job) if is_updated else why_all(catalog, job, topic)) or (
        "" if is_updated else _why_anew(job, known, is_waiting)
    )
    if whole:
        return Need(job.name, 0, whole)
    read = known.cursors.get(topic, 0) if known is not None else 0
    if is_updated and not read:
        return None
    is_busy = f"it is {phase}, and" if phase else "it"
    return Need(job.name, read, f"{is_busy} has read up to offset {read}")


def why_all(catalog: Catalog, job: Job, topic: str) -> str:
    """Why a job may need all rows of an append topic at any time, in words; "" where it does not."""
    if topic not in job.inputs:
        return "it reads from it which members a value must have"
    try:
        return _gated(job) or catalog.plan(job).history.get(topic, "")
    except TidemillError as error:
        return f"it cannot be planned ({error.message})"


def _gated(job: Job) -> str:
    return "its gate takes the whole of a value, whenever that was recorded" if job.gate is not None else ""


def _why_anew(job: Job, known: Progress | None, is_waiting: bool) -> str:
    """Why a job's next run takes all rows."""
    if known is None:
        return "it has not run yet"
    if job.rebuilds and known.version != job.version:
        return "its result is to be made anew"
    return "its changed definition waits for apply" if is_waiting else ""
