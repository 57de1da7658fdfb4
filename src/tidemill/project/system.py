"""Assets that tidemill keeps of itself: `tidemill.alarms`, `tidemill.dead` and `tidemill.reconciliations`.

Rules of this file:
  * they are tables like any other: they can be queried, followed, and read by jobs; nobody can write them;
  * they are there once something was written to them, or a job reads them;
  * in SQL they may be written plainly, `tidemill.alarms`, although a name with a dot is none that users can give.
"""

from __future__ import annotations

import re

from tidemill.core.model import Asset, AssetKind, Column

__all__ = ["ALARMS", "DEAD", "RECONCILIATIONS", "SYSTEM", "quoting"]

ALARMS = "tidemill.alarms"
DEAD = "tidemill.dead"
RECONCILIATIONS = "tidemill.reconciliations"


def _columns(text: str) -> tuple[Column, ...]:
    return tuple(Column(name, type_) for name, _, type_ in (part.strip().partition(" ") for part in text.split(",")))


SYSTEM = {
    ALARMS: Asset(
        ALARMS,
        AssetKind.TABLE,
        _columns(
            "alarm varchar, kind varchar, job varchar, asset varchar, reason varchar, state varchar, "
            "raised_at timestamp, told_at timestamp, resolved_at timestamp"
        ),
        key=("alarm",),
        description="Every alarm, from when it was raised to when it was resolved.",
    ),
    DEAD: Asset(
        DEAD,
        AssetKind.TABLE,
        _columns(
            "id varchar, asset varchar, job varchar, stage varchar, reason varchar, payload varchar, "
            "attempts bigint, state varchar, traceparent varchar, first_at timestamp, last_at timestamp"
        ),
        key=("id",),
        description="Every dead letter: what could not be taken, why, and what became of it.",
    ),
    RECONCILIATIONS: Asset(
        RECONCILIATIONS,
        AssetKind.TABLE,
        _columns(
            "job varchar, reconciled_at timestamp, equal boolean, missing bigint, extra bigint, different bigint, "
            "lag_changes bigint, seconds double, samples varchar, error varchar"
        ),
        key=("job", "reconciled_at"),
        description="What the reconciliations by schedule found.",
    ),
}
"""By name."""

_QUOTED = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|(?<![\w.])tidemill\.(?:alarms|dead|reconciliations)\b""", re.IGNORECASE
)


def quoting(sql: str) -> str:
    """The text with the names of these assets in double quotes, where they stand plainly."""
    if "tidemill." not in sql.lower():
        return sql
    return _QUOTED.sub(lambda found: f'"{found[0].lower()}"' if found[0][:1] in "tT" else found[0], sql)
