"""Side tables: what `replay --into` made beside the live tables, to be queried and compared with.

Rules of this file:
  * a side table is a note in the ledger and a table in the tables store: made for people, read by no job;
  * its name is nobody else's; where a definition takes the name later, the definition has it;
  * the note is there before the table: whatever a crash left is found again by it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidemill.core.errors import UserError
from tidemill.core.model import Asset, AssetKind
from tidemill.core.ports import Progress
from tidemill.project.assets import NAME
from tidemill.project.wiring import Machine
from tidemill.runtime.anew import twin_name

__all__ = ["ANEW", "SIDE", "check_name", "drop", "know_sides", "note_of", "read_up_to", "remember"]

SIDE = "side"
"""The topic of the notes: table -> {job, version, from, targets, state, parked}."""
ANEW = "anew"
"""The topic of the notes of tables that are made anew in place: job -> {version, inputs, outputs, slices, parked}."""


def know_sides(machine: Machine) -> None:
    """Let the side tables that there are be named in queries and comparisons."""
    shapes = machine.tables.shapes()
    for table in machine.ledger.notes(SIDE):
        if table not in machine.catalog.assets and table in shapes:
            machine.catalog.declare(Asset(table, AssetKind.TABLE, shapes[table], description="a side table"))


def note_of(machine: Machine, table: str) -> dict[str, Any]:
    """What is known of a side table; empty where there is none of that name."""
    return machine.ledger.noted(SIDE, table) or {}


def remember(machine: Machine, table: str, said: Mapping[str, Any]) -> None:
    """Keep what is known of a side table, durably."""
    machine.ledger.note(SIDE, table, dict(said))


def check_name(machine: Machine, table: str) -> None:
    """Raise UserError for a name that no table can have, or that something else has."""
    if not NAME.fullmatch(table):
        raise UserError(
            f"`{table}` is not a name for a table", mend="use letters, digits, _ and -, beginning with a letter"
        )
    taken = {name.lower(): name for name in (*machine.definitions.assets, *machine.definitions.jobs)}
    if table.lower() in taken:
        raise UserError(
            f"`{taken[table.lower()]}` is defined in this project: a replay never writes over it",
            mend="give the side table a name of its own",
        )


def drop(machine: Machine, table: str) -> None:
    """Let a side table go, with all that was kept for making it."""
    machine.tables.drop(assets=(table,), jobs=(table,))
    machine.catalog.assets.pop(table, None)
    machine.ledger.note(SIDE, table, None)


def read_up_to(machine: Machine, topic: str, progress: Mapping[str, Progress]) -> dict[str, int]:
    """How far each unfinished replay in place that reads this topic has read it, by job: what follows it still needs."""
    found = {}
    for job, note in machine.ledger.notes(ANEW).items():
        defined = machine.catalog.jobs.get(job)
        if topic in note["inputs"] and defined is not None and defined.version == note["version"]:
            known = progress.get(twin_name(job))
            found[job] = known.cursors.get(topic, 0) if known is not None else 0
    return found
