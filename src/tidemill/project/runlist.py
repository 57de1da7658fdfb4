"""Run reports as people ask for them.

Rules of this file:
  * a name that no job has and of which nothing ever ran is told so, and so is a state that there is not: an empty list
    would look like good news.
"""

from __future__ import annotations

from typing import Any

from tidemill.core.errors import UserError
from tidemill.project.operations import RUN_STATES
from tidemill.project.reports import found
from tidemill.project.tracing import with_traces
from tidemill.project.wiring import Machine
from tidemill.project.words import nearest
from tidemill.runtime.journal import as_json

__all__ = ["runs"]


def runs(machine: Machine, *, job: str, state: str, run: str, limit: int) -> list[dict[str, Any]]:
    """Run reports, newest first. Raises UserError for an unknown state, NotFound for a job that there never was."""
    if state and state not in RUN_STATES:
        hint = nearest(state, RUN_STATES)
        mend = f"write {hint}" if hint else f"the states are {', '.join(RUN_STATES)}"
        raise UserError(f"{state} is not a state of a run", mend=mend)
    machine.journal.flush()
    listed = [as_json(record) for record in machine.ledger.runs(job=job, state=state, run=run, limit=limit)]
    if job and not listed and not machine.ledger.runs(job=job, limit=1):
        found(machine.catalog.jobs, job, "job")
    return with_traces(machine.ledger, machine.catalog.assets, listed)
