"""What is remembered of the last reconciliation by schedule of each job, and whether it still stands (see nightly.py)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tidemill.project.wiring import Machine

__all__ = ["NOTES", "learn", "unequal"]

NOTES = "reconciled"
"""Notes by job: `{equal, missing, extra, different, error, served_at}`."""


def learn(machine: Machine, name: str, answer: dict[str, Any]) -> None:
    """A person reconciled: what was unequal at the last moment, or skipped, may be there now."""
    if answer["equal"] or answer["repaired"]:
        machine.watch.forget(name, "skipped")
    job = machine.catalog.jobs.get(name)
    note = machine.ledger.notes(NOTES).get(name) if job is not None else None
    if note is not None and not note["equal"] and (answer["equal"] or answer["repaired"]):
        machine.ledger.note(NOTES, name, {**note, "equal": True, "error": ""})


def unequal(machine: Machine) -> Iterator[tuple[str, str, float]]:
    """(job, what to say, when) for each job whose last reconciliation by schedule was not equal, or failed."""
    for name, note in machine.ledger.notes(NOTES).items():
        job = machine.catalog.jobs.get(name)
        if job is None or not job.reconcile or note["equal"]:
            continue
        found = ", ".join(f"{note[word]} {word}" for word in ("missing", "extra", "different") if note[word])
        told = (
            note["error"].partition("\n")[0] or f"not what its inputs give: {found or 'a copy that it reads differs'}"
        )
        yield name, f"job {name} was reconciled: {told}; see tidemill reconcile {name}", float(note["served_at"])
