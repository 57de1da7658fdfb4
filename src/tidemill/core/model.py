"""The nouns: assets, jobs and the words they are described with.

Rules of this file:
  * every noun is a frozen, slotted dataclass of plain values; no behaviour beyond properties of the value itself;
  * a word here means the same in the command line, the files, the SQL columns and the docs (docs/glossary.md);
  * times are seconds since the epoch (float, UTC), durations are seconds, offsets are integers counted from 1.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from tidemill.core.assertion import Assertion

__all__ = [
    "EVERY_DEFAULT_SECONDS",
    "HOLD_ABOVE_DEFAULT",
    "RETRIES_DEFAULT",
    "Asset",
    "AssetKind",
    "Column",
    "Gate",
    "Home",
    "Isolation",
    "Job",
    "Late",
    "Materialized",
    "Missing",
    "Mode",
    "OnBackfill",
    "OnError",
    "Place",
    "Semantics",
    "StartFrom",
    "Takes",
]

EVERY_DEFAULT_SECONDS = 300.0
"""`every` of a microbatch job that does not say."""

RETRIES_DEFAULT = 3
"""Attempts after the first one before a job is held (rule 13)."""

HOLD_ABOVE_DEFAULT = 1_000
"""A run that would touch more rows than this outside waits for `apply` (rule 26)."""


class Mode(StrEnum):
    """When a change set ends. It never changes the result (rule 16)."""

    REALTIME = "realtime"
    MICROBATCH = "microbatch"
    BATCH = "batch"


class AssetKind(StrEnum):
    """What an asset is; it decides where its log lives (rule 1)."""

    TOPIC = "topic"
    TABLE = "table"
    FILES = "files"
    VIEW = "view"
    EXTRACT = "extract"
    EXTERNAL = "external"
    CLOCK = "clock"


class Home(StrEnum):
    """The store that holds an asset's log, and so the cursors of the jobs that write it."""

    LEDGER = "ledger"
    TABLES = "tables"


class Semantics(StrEnum):
    """How the events of a topic add up: every row counts, or the latest row per key."""

    APPEND = "append"
    UPSERT = "upsert"


class Takes(StrEnum):
    """What a job's transform is given (rule 17)."""

    SQL = "sql"
    ROW = "row"
    TABLE = "table"
    FULL = "full"
    RUN = "run"
    COMMAND = "command"

    @property
    def is_outside(self) -> bool:
        """Whether the transform acts outside tidemill, so that it is at-least-once with stable keys (rule 10)."""
        return self in (Takes.RUN, Takes.COMMAND)


class Materialized(StrEnum):
    """What a SQL job's result becomes."""

    TABLE = "table"
    VIEW = "view"
    EXTRACT = "extract"


class OnError(StrEnum):
    """What happens to a record that a transform cannot process (rule 14)."""

    PARK = "park"
    STOP = "stop"


class Missing(StrEnum):
    """What a gate does when its deadline passes incomplete."""

    WAIT = "wait"
    RUN = "run"
    FAIL = "fail"


class Late(StrEnum):
    """What becomes of rows that arrive after their gate value was opened."""

    CORRECT = "correct"
    NEXT = "next"
    HOLD = "hold"


class OnBackfill(StrEnum):
    """How a reader takes an input that is being backfilled: slice by slice, or all at once when it is over (rule 28)."""

    FOLLOW = "follow"
    COALESCE = "coalesce"


class StartFrom(StrEnum):
    """Where a job with outside effects begins (rule 26)."""

    NOW = "now"
    BEGINNING = "beginning"


class Isolation(StrEnum):
    """Where a Python job's function runs."""

    THREAD = "thread"
    PROCESS = "process"


@dataclass(frozen=True, slots=True)
class Place:
    """Where a definition stands: a file relative to the project, and a line (1-based; 0 = the whole file)."""

    file: str = ""
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class Column:
    """One column of an asset's contract; `type` is DuckDB's name of the type, in lower case."""

    name: str
    type: str
    required: bool = False


@dataclass(frozen=True, slots=True)
class Range:
    """Which values a column may have: from `minimum` to `maximum`, both included; None is no bound.

    A bound is a number (whole, or a Decimal), or the ISO 8601 text of a time.
    """

    minimum: Any = None
    maximum: Any = None


@dataclass(frozen=True, slots=True)
class Asset:
    """Something that changes and is tracked: a topic, table, file set, view, extract, or a thing held elsewhere.

    `complete` maps a partition column to the members that make one value complete: a tuple of literals, or the
    text `asset.column`. `ranges` says of columns of topics and files which values are taken. What is older than `retention_seconds` may be forgotten (0: nothing is). `options` are reader options of the format (for csv: `delimiter`, `null`, `encoding`, ...).
    """

    name: str
    kind: AssetKind
    columns: tuple[Column, ...] = ()
    key: tuple[str, ...] = ()
    event_time: str = ""
    id: str = ""
    semantics: Semantics = Semantics.APPEND
    version: str = ""
    path: str = ""
    format: str = ""
    options: Mapping[str, object] = field(default_factory=dict)
    ranges: Mapping[str, Range] = field(default_factory=dict)
    complete: Mapping[str, tuple[str, ...] | str] = field(default_factory=dict)
    restate: str = "replace"
    on_delete: str = "keep"
    marker: str = ""
    sql: str = ""
    every_seconds: float = 0.0
    dedup_window_seconds: float = 7 * 86_400.0
    retention_seconds: float = 0.0
    freshness_seconds: float = 0.0
    description: str = ""
    owner: str = ""
    tags: tuple[str, ...] = ()
    place: Place = Place()

    @property
    def home(self) -> Home:
        """Where this asset's change log lives (rule 1)."""
        return Home.TABLES if self.kind in (AssetKind.TABLE, AssetKind.FILES, AssetKind.CLOCK) else Home.LEDGER

    @property
    def can_retract(self) -> bool:
        """Whether a change of this asset can remove or replace a row that was there before."""
        if self.kind is AssetKind.TOPIC:
            return self.semantics is Semantics.UPSERT
        return self.kind in (AssetKind.TABLE, AssetKind.FILES, AssetKind.CLOCK)

    def column(self, name: str) -> Column | None:
        """The column of that name, or None."""
        return next((column for column in self.columns if column.name == name), None)


@dataclass(frozen=True, slots=True)
class Gate:
    """What must be complete before a run: one value of the partition column `column` at a time (rule 21).

    `deadline` is a clock time ("06:00") on the day after the value, in the project's time zone; "" is none.
    """

    column: str
    deadline: str = ""
    on_missing: Missing = Missing.WAIT
    on_late: Late = Late.CORRECT


@dataclass(frozen=True, slots=True)
class Job:
    """A definition: reads `inputs`, writes `outputs`, by a transform. It never names another job.

    `transform` is what the engine needs: the canonical SQL, `file.py:function`, or the command as JSON.
    `version` identifies the transform: another version means another result (rule 24).
    `by` are the columns of the input by whose values a Python function is called, once for all rows of each (none: ()).
    `watches` are assets that list the members which complete its gate: their changes make it look again.
    `when` is "" (the mode's default), "any", "all", "each" or an expression over inputs with `&` and `|`.
    `home` is the store of the outputs; `rebuilds` whether another version makes the result anew, or only goes on
    with new code from its cursor (run jobs, commands and append-topic outputs, rule 25).
    `reconcile` is when its result is compared with its whole inputs (a cron line or ""), `tolerance` how far apart
    floating-point numbers may then be (relative above 1, absolute below).
    `schedule` is a five-field cron line or "" ; `on` an asset whose change starts the job; `after_seconds` a delay.
    """

    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    takes: Takes
    transform: str
    version: str
    mode: Mode = Mode.BATCH
    materialized: Materialized = Materialized.TABLE
    key: tuple[str, ...] | None = None
    by: tuple[str, ...] = ()
    columns: tuple[Column, ...] = ()
    home: Home = Home.TABLES
    rebuilds: bool = True
    when: str = ""
    schedule: str = ""
    every_seconds: float = EVERY_DEFAULT_SECONDS
    on: str = ""
    watches: tuple[str, ...] = ()
    after_seconds: float = 0.0
    gate: Gate | None = None
    on_error: OnError = OnError.PARK
    retries: int = RETRIES_DEFAULT
    timeout_seconds: float = 0.0
    isolation: Isolation = Isolation.THREAD
    max_changes: int = 0
    priority: int = 0
    freshness_seconds: float = 0.0
    start_from: StartFrom = StartFrom.NOW
    on_backfill: OnBackfill = OnBackfill.FOLLOW
    hold_above: int = HOLD_ABOVE_DEFAULT
    asserts: tuple[Assertion, ...] = ()
    reconcile: str = ""
    tolerance: float = 0.0
    description: str = ""
    owner: str = ""
    tags: tuple[str, ...] = ()
    place: Place = Place()

    @property
    def is_outside(self) -> bool:
        """Whether a run acts outside tidemill: a command or a run job (rule 10)."""
        return self.takes.is_outside
