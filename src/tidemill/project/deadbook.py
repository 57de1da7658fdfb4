"""Dead letters as an asset, `tidemill.dead`: what `tidemill dead list` shows, as rows with a log of their own.

Rules of this file:
  * the ledger, the parked rows of jobs and the landings are the truth; the table says what they said when it was last
    looked: where alarms are tended (after a run, and while a project is followed) and before a query that names it;
  * only what changed is written, so that its log tells each letter's story once; a letter that is listed no more was
    mended, and stays as `settled`;
  * letters about rows of this table are left out: a job that reads it and cannot would write to itself for ever.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tidemill.project.recording import keep, moment
from tidemill.project.reports import dead_letters
from tidemill.project.system import DEAD, SYSTEM
from tidemill.project.wiring import Machine

__all__ = ["LETTERS_MAX", "take_down"]

LETTERS_MAX = 10_000
"""So many letters are taken down, the newest of those parked at doors first."""
_NAMES = tuple(column.name for column in SYSTEM[DEAD].columns)
_EMPTY = {"attempts": 0}
"""What stands where a letter says nothing, where that is not the empty text."""


def take_down(machine: Machine, letters_max: int = LETTERS_MAX) -> None:
    """Write what has changed among the dead letters. One at a time: what was looked at later is not overwritten."""
    with machine.taking_down:
        listed = dead_letters(machine, "", letters_max)
        letters = {said["id"]: _row(said) for said in listed if said["asset"] != DEAD}
        known = _known(machine)
        changed = [row for id_, row in letters.items() if known.get(id_) != row]
        if len(listed) < letters_max:  # else nobody knows whether those that are not listed were mended
            gone = [row for id_, row in known.items() if id_ not in letters and row["state"] == "parked"]
            changed += [{**row, "state": "settled"} for row in gone]
        keep(machine, DEAD, changed)


def _known(machine: Machine) -> dict[str, dict[str, Any]]:
    if not machine.tables.head(DEAD):
        return {}
    rows = machine.tables.query(f'SELECT * FROM "{DEAD}"').to_pylist()
    return {row["id"]: {name: row[name] for name in _NAMES} for row in rows}


def _row(said: Mapping[str, Any]) -> dict[str, Any]:
    times = {name: moment(said.get(name)) for name in ("first_at", "last_at")}
    return {name: times[name] if name in times else said.get(name) or _EMPTY.get(name, "") for name in _NAMES}
