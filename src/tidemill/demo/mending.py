"""The end of the demo: rows are lost behind the engine's back, a reconciliation finds exactly those and puts them back.

Rules of this file:
  * the loss is planted with DuckDB itself, in the file of the tables, while no project is open;
  * what is told was found and counted by `reconcile`; nothing of the planting is handed to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import duckdb

from tidemill.project.mill import Mill

__all__ = ["LOST_ROWS", "LOST_TABLE", "Mended", "lose", "mend"]

LOST_TABLE = "flight_state"
"""The table that loses rows; others are made from it."""
LOST_ROWS = 5


@dataclass(frozen=True, slots=True)
class Mended:
    """What a reconciliation found and did: rows lost, found missing, found otherwise wrong, put back; and the look after."""

    lost: int
    missing: int
    wrong: int
    repaired: int
    is_equal: bool

    @property
    def is_right(self) -> bool:
        """Whether exactly what was lost was found and put back."""
        return self.lost == self.missing == self.repaired > 0 and not self.wrong and self.is_equal


def lose(folder: Path) -> int:
    """Take rows out of a table behind the engine's back; returns how many. The project must not be open."""
    with duckdb.connect(str(folder / ".tidemill" / "tables.duckdb")) as tables:
        current = f"SELECT max(_until) FROM store.{LOST_TABLE}"
        lost = f"SELECT _rid FROM store.{LOST_TABLE} WHERE _until = ({current}) ORDER BY md5(_rid) LIMIT {LOST_ROWS}"
        text = f"DELETE FROM store.{LOST_TABLE} WHERE _until = ({current}) AND _rid IN ({lost})"
        row = tables.execute(text).fetchone()
    return int(row[0]) if row else 0


def mend(mill: Mill, lost: int, say: Callable[[str], None]) -> Mended:
    """Reconcile the table: look, repair, look again.

    A day's report was made of the rows that were there when its day ended; those put back are late rows of that day, and
    correct it when the next day ends.
    """
    found = mill.reconcile(LOST_TABLE)
    wrong = found["extra"] + found["different"]
    say(f"  tidemill reconcile {LOST_TABLE}: {found['missing']} missing, {wrong} otherwise wrong")
    repaired = mill.reconcile(LOST_TABLE, repair=True)["repaired"]
    mill.touch("end_of_day", "after the repair")
    mill.run()
    again = mill.reconcile(LOST_TABLE)
    say(
        f"  tidemill reconcile {LOST_TABLE} --repair: {repaired} put back; {'equal' if again['equal'] else 'NOT equal'}"
    )
    return Mended(lost, found["missing"], wrong, repaired, bool(again["equal"]))
