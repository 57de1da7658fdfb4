"""What is kept of a shadow while its pilot lasts: what it is, since when, what was found, what both sides took.

Rules of this file:
  * plain values that go into one note of the ledger and come back the same: a pilot outlives the process;
  * times of runs are counted in classes, so that a pilot of a month takes no more room than one of a minute.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tidemill.runtime.shadow import Compared

__all__ = ["TOPIC", "Pilot", "Timing", "pilots_in"]

TOPIC = "shadow"
"""Where in the ledger's notes pilots are kept, by job."""

_CLASS_GROWTH = 1.1
"""Each class of durations ends so many times as late as the one before: percentiles are right to a tenth."""
_CLASS_FIRST_SECONDS = 0.0001


@dataclass(slots=True)
class Timing:
    """How many runs there were, what they took in, how long they worked, and how long news waited for them (seconds)."""

    runs: int = 0
    rows_in: int = 0
    seconds: float = 0.0
    latency_most_seconds: float = 0.0
    classes: dict[str, int] = field(default_factory=dict)

    def add(self, rows_in: int, seconds: float, latency_seconds: float) -> None:
        """Count one run."""
        self.runs += 1
        self.rows_in += rows_in
        self.seconds += seconds
        self.latency_most_seconds = max(self.latency_most_seconds, latency_seconds)
        place = math.log(max(latency_seconds, _CLASS_FIRST_SECONDS) / _CLASS_FIRST_SECONDS, _CLASS_GROWTH)
        name = str(math.ceil(place))
        self.classes[name] = self.classes.get(name, 0) + 1

    def percentile(self, percent: int) -> float | None:
        """The latency that so many of a hundred runs did not exceed, in seconds; None before the first run."""
        left = math.ceil(self.runs * percent / 100)
        for place in sorted(map(int, self.classes)):
            left -= self.classes[str(place)]
            if left <= 0:
                return min(self.latency_most_seconds, _CLASS_FIRST_SECONDS * _CLASS_GROWTH**place)
        return None

    def shown(self) -> dict[str, Any]:
        """As people and programs see it."""
        found = {"p50": self.percentile(50), "p99": self.percentile(99), "max": self.latency_most_seconds or None}
        return {
            "runs": self.runs,
            "rows_in": self.rows_in,
            "seconds": round(self.seconds, 6),
            "latency_seconds": {name: None if value is None else round(value, 6) for name, value in found.items()},
        }


@dataclass(slots=True)
class Pilot:
    """One shadow of one job. `kind` is mode, sql or against; `word` the mode, the file's name, or the asset; `output`
    is the live table.

    `equal` None: not compared yet. `promoting` is what a promotion that has begun must finish or undo.
    """

    job: str
    kind: str
    word: str
    output: str
    started_at: float
    sql: str = ""
    equal: bool | None = None
    equal_since: float | None = None
    compared_at: float | None = None
    compared: int = 0
    unequal: int = 0
    compare_seconds: float = 0.0
    rows: int = 0
    missing: int = 0
    extra: int = 0
    different: int = 0
    columns: str = ""
    different_most: int = 0
    samples: dict[str, Any] = field(default_factory=dict)
    parked: int = 0
    error: str = ""
    live: Timing = field(default_factory=Timing)
    beside: Timing = field(default_factory=Timing)
    promoting: dict[str, Any] | None = None

    @classmethod
    def of_note(cls, note: Mapping[str, Any]) -> Pilot:
        """The pilot that `note` kept."""
        timings = {name: Timing(**note[name]) for name in ("live", "beside")}
        return cls(**{**note, **timings})

    def note(self) -> dict[str, Any]:
        """What is kept of it."""
        return asdict(self)

    @property
    def differing(self) -> int:
        """How many rows differ, of whatever kind."""
        return self.missing + self.extra + self.different

    def take(self, found: Compared, rows: int, now: float, samples: Mapping[str, Any]) -> bool:
        """Take a comparison into account; returns whether it says something else than the one before."""
        before = (self.equal, self.differing, self.columns)
        self.missing, self.extra, self.different = found.rows.missing, found.rows.extra, found.rows.different
        self.columns, self.rows, self.samples = found.columns, rows, dict(samples)
        self.compared += 1
        self.compare_seconds += found.seconds
        self.compared_at = now
        self.equal = found.is_equal
        self.different_most = max(self.different_most, self.differing)
        if not found.is_equal:
            self.unequal += 1
            self.equal_since = None
        elif self.equal_since is None:
            self.equal_since = now
        return before != (self.equal, self.differing, self.columns)


def pilots_in(state: Path) -> list[Pilot]:
    """The pilots that a project's state keeps, whoever has it open; none where there is no ledger that can be read."""
    path = state / "ledger.db"
    if not path.is_file():
        return []
    try:
        with closing(sqlite3.connect(f"{path.resolve().as_uri()}?mode=ro", uri=True, timeout=5)) as ledger:
            notes = ledger.execute("select value from notes where topic = ? order by name", (TOPIC,)).fetchall()
    except sqlite3.Error:  # `doctor` says what is wrong with it
        return []
    return [Pilot.of_note(json.loads(note)) for (note,) in notes]
