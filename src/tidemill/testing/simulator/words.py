"""The words of a history: what is defined, and what happens, as plain frozen values that print as they are written.

Rules of this file:
  * faults are inputs: a crash, a lost notification, a second owner is an action like any other;
  * an action means something wherever it stands: choices are numbers taken modulo what there is to choose from, and an
    action that has nothing to act on does nothing, so that any part of a history is a history (this lets it shrink).
"""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = [
    "Action",
    "Apply",
    "Ask",
    "Crash",
    "Define",
    "Doom",
    "Emit",
    "Expire",
    "GateSpec",
    "Go",
    "History",
    "JobSpec",
    "LookAtFiles",
    "Meanwhile",
    "Pass",
    "Pause",
    "PutFile",
    "RemoveFile",
    "Rename",
    "Resume",
    "Resync",
    "SecondOwner",
    "SendAgain",
    "Settle",
    "SourceSpec",
    "Stumble",
    "Touch",
    "Trim",
    "Trouble",
]


# ----------------------------------------------------------------------------------------- definitions


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """An asset that comes from outside. `kind` is append, upsert, files or external.

    Rows of files have the partition columns `day` and `store` besides; `members` are the stores that make a day
    complete; with `retracts` a file that vanished takes its rows with it. The events of a topic with `has_ids` name
    themselves, and their sender sends again whatever was not acknowledged.
    """

    name: str
    kind: str
    members: tuple[str, ...] = ()
    retracts: bool = False
    has_ids: bool = False


@dataclass(frozen=True, slots=True)
class GateSpec:
    """A gate on `day`."""

    deadline: str = ""
    on_missing: str = "wait"
    on_late: str = "correct"


@dataclass(frozen=True, slots=True)
class JobSpec:
    """A job. `shape` names its transform (transforms.py), `factor` and `poison` are its parameters.

    `takes` is row, table, full, sql or run. A row whose `v % 13 == poison` makes the transform raise (-1: none).
    """

    name: str
    shape: str
    takes: str
    inputs: tuple[str, ...]
    output: str
    factor: int = 1
    poison: int = -1
    is_wide: bool = False
    is_keyed: bool = False
    to_topic: bool = False
    mode: str = "realtime"
    when: str = ""
    every: float = 300.0
    schedule: str = ""
    on: str = ""
    after: float = 0.0
    max_changes: int = 0
    on_error: str = "park"
    gate: GateSpec | None = None
    hold_above: int = 1_000


# --------------------------------------------------------------------------------------------- actions


@dataclass(frozen=True, slots=True)
class Emit:
    """Rows for a topic: (k, v), for an upsert topic (k, v, version), where v None deletes.

    `told` is what becomes of the notification: once, lost, or twice.
    """

    topic: str
    rows: tuple[tuple[str, int | None, int], ...]
    told: str = "once"


@dataclass(frozen=True, slots=True)
class SendAgain:
    """The sender of a topic whose events have ids sends the last of them once more."""

    topic: str
    events: int
    told: str = "once"


@dataclass(frozen=True, slots=True)
class PutFile:
    """A file is there, or has other content now; `rows` None is a file that does not parse."""

    asset: str
    day: str
    store: str
    rows: tuple[tuple[str, int], ...] | None


@dataclass(frozen=True, slots=True)
class RemoveFile:
    """A file is gone from the listing."""

    asset: str
    day: str
    store: str


@dataclass(frozen=True, slots=True)
class LookAtFiles:
    """The owner lists the files of an asset, once or a few times, and lands what is new and stable."""

    asset: str
    told: str = "once"
    looks: int = 2


@dataclass(frozen=True, slots=True)
class Touch:
    """An external asset changed."""

    asset: str
    told: str = "once"


@dataclass(frozen=True, slots=True)
class Pass:
    """Time passes; where it is less than nothing somebody sets the clock back."""

    seconds: float


@dataclass(frozen=True, slots=True)
class Go:
    """Steps of the process: for each even number the loop takes one of the events that wait, for each odd number a
    worker does one of the tasks that wait; the number says which. `is_old`: in the owner that was replaced."""

    picks: tuple[int, ...] = (0, 1)
    is_old: bool = False


@dataclass(frozen=True, slots=True)
class Settle:
    """Everything that waits is done, in order, while no time passes."""


@dataclass(frozen=True, slots=True)
class Crash:
    """The process dies and is started anew."""


@dataclass(frozen=True, slots=True)
class Doom:
    """The process dies at its N-th commit from now on this home: before it, or after it with the answer lost."""

    home: str
    is_after: bool
    commits: int = 1


@dataclass(frozen=True, slots=True)
class Stumble:
    """The N-th commit from now fails with an error that the process survives: undone, or done and the answer lost."""

    home: str
    is_after: bool
    commits: int = 1


@dataclass(frozen=True, slots=True)
class Trouble:
    """The next calls of a job's function meet an error of the world around it."""

    job: str
    calls: int = 1


@dataclass(frozen=True, slots=True)
class Meanwhile:
    """While the next function computes on its snapshot, another waiting task is done, or this action happens."""

    pick: int = 0
    action: Emit | Touch | None = None


@dataclass(frozen=True, slots=True)
class Define:
    """A job gets this definition, or is new."""

    spec: JobSpec


@dataclass(frozen=True, slots=True)
class Rename:
    """A job is removed, and one of another name that writes the same asset is defined."""

    before: str
    spec: JobSpec


@dataclass(frozen=True, slots=True)
class Pause:
    """A person pauses a job."""

    job: str


@dataclass(frozen=True, slots=True)
class Resume:
    """A person resumes or retries a job."""

    job: str


@dataclass(frozen=True, slots=True)
class Apply:
    """A person lets everything go that is held."""


@dataclass(frozen=True, slots=True)
class Ask:
    """`tidemill run`: all that has changes is due now."""


@dataclass(frozen=True, slots=True)
class Resync:
    """The owner reads the heads from the stores."""


@dataclass(frozen=True, slots=True)
class Trim:
    """The owner forgets images of tables that every reader is past (rule 27)."""


@dataclass(frozen=True, slots=True)
class Expire:
    """The owner forgets this share of every append topic, oldest first, as far as nobody needs it (rule 27)."""

    share: float


@dataclass(frozen=True, slots=True)
class SecondOwner:
    """A second process takes the project over while the first one goes on."""


Action = (
    Emit
    | SendAgain
    | PutFile
    | RemoveFile
    | LookAtFiles
    | Touch
    | Pass
    | Go
    | Settle
    | Crash
    | Doom
    | Stumble
    | Trouble
    | Meanwhile
    | Define
    | Rename
    | Pause
    | Resume
    | Apply
    | Ask
    | Resync
    | SecondOwner
    | Trim
    | Expire
)


@dataclass(frozen=True, slots=True)
class History:
    """What is defined at first, and what happens then."""

    sources: tuple[SourceSpec, ...]
    jobs: tuple[JobSpec, ...]
    actions: tuple[Action, ...] = field(default=())

    def __str__(self) -> str:
        lines = [*map(str, self.sources), *map(_terse, self.jobs), *map(_terse, self.actions)]
        return "\n".join(lines)


def _terse(value: object) -> str:
    """A value without the fields that say nothing new."""
    names = type(value).__dataclass_fields__  # type: ignore[attr-defined]
    said = [
        f"{name}={_terse(found) if isinstance(found, (JobSpec, GateSpec, Emit, Touch)) else repr(found)}"
        for name, about in names.items()
        if (found := getattr(value, name)) != about.default
    ]
    return f"{type(value).__name__}({', '.join(said)})"
