"""What comes into the heart (events, past tense) and what goes out of it (commands, imperative).

Rules of this file:
  * plain frozen values; every event carries the time it happened at, so that nothing in the heart needs a clock;
  * news (`Landed`, `Ticked`) may be lost, doubled or late without harm; `Finished` and `Failed` answer a `Start`, and
    `Looked` a `Look`, exactly once; a word about a job that is gone changes nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from tidemill.core.model import Job
from tidemill.core.ports import Head, Progress
from tidemill.core.retry import Failure

__all__ = [
    "Alert",
    "Backfilled",
    "Command",
    "Defined",
    "Drained",
    "Event",
    "Failed",
    "Finished",
    "Landed",
    "Look",
    "Looked",
    "Paused",
    "Readiness",
    "Removed",
    "Requested",
    "Resumed",
    "Start",
    "Ticked",
]


# ------------------------------------------------------------------------------------------------ events


@dataclass(frozen=True, slots=True)
class Landed:
    """An asset's log is known to reach `head`. `stirs`: its readers look again even if no row changed (an empty file)."""

    asset: str
    head: Head
    at: float
    stirs: bool = False


@dataclass(frozen=True, slots=True)
class Finished:
    """A run was committed: the job's progress now, and the heads of what it wrote."""

    job: str
    progress: Progress
    heads: Mapping[str, Head]
    at: float


@dataclass(frozen=True, slots=True)
class Failed:
    """An attempt ended without a commit. `jitter` is uniform in [0, 1); `progress` is given on a conflict."""

    job: str
    run: str
    failure: Failure
    reason: str
    at: float
    jitter: float = 1.0
    progress: Progress | None = None


@dataclass(frozen=True, slots=True)
class Ticked:
    """Time passed."""

    at: float


@dataclass(frozen=True, slots=True)
class Defined:
    """A job is new, or has another definition now. `first_seen_at` is when this definition was first seen, durably.

    `takes_over`: its progress was committed together with the definition, so its result need not be made anew.
    """

    job: Job
    progress: Progress | None
    at: float
    first_seen_at: float = 0.0
    is_paused: bool = False
    takes_over: bool = False


@dataclass(frozen=True, slots=True)
class Removed:
    """A job is no longer defined."""

    job: str
    at: float


@dataclass(frozen=True, slots=True)
class Looked:
    """The answer to `Look`: up to where inputs may be taken now (`ends`), and when the answer may change.

    For a gate, `value` is the value to take, `payload` what the run needs to release it, and `overdue` the values that
    are incomplete past their deadline.
    """

    job: str
    is_ready: bool
    at: float
    ends: Mapping[str, int] = field(default_factory=dict)
    value: str = ""
    payload: object = None
    next_at: float | None = None
    because: tuple[str, ...] = ()
    overdue: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Paused:
    """A person paused a job; what runs is finished first."""

    job: str
    at: float


@dataclass(frozen=True, slots=True)
class Resumed:
    """A person resumed, retried or released a job: held and paused jobs are judged again, waits are cut short."""

    job: str
    at: float
    progress: Progress | None = None


@dataclass(frozen=True, slots=True)
class Requested:
    """`tidemill run`: until `Drained`, microbatch jobs with changes are due at once, whatever their `every`.

    `jobs` empty means all. `is_forced` starts the named jobs even if nothing is due.
    """

    at: float
    jobs: tuple[str, ...] = ()
    is_forced: bool = False


@dataclass(frozen=True, slots=True)
class Backfilled:
    """A backfill of a job begins (`is_going`), or is over or interrupted."""

    job: str
    at: float
    is_going: bool


@dataclass(frozen=True, slots=True)
class Drained:
    """Nothing was due any more: the moment that `Requested` opened is over."""

    at: float


Event = (
    Landed
    | Finished
    | Failed
    | Ticked
    | Defined
    | Removed
    | Looked
    | Paused
    | Resumed
    | Requested
    | Backfilled
    | Drained
)


# ---------------------------------------------------------------------------------------------- commands


@dataclass(frozen=True, slots=True)
class Readiness:
    """Why a job starts, or does not. `next_at` is the next moment that could change the answer."""

    is_ready: bool
    because: tuple[str, ...]
    next_at: float | None = None


@dataclass(frozen=True, slots=True)
class Start:
    """Perform a run of the job. `run` is "" for a new one, else the id of the run that is tried again.

    A rebuild makes the result anew at the job's cursors. Where that meets a row it cannot process, and the readiness
    allows it (`may_take_news`), it is made at the heads (`takes_news`): the row may have been mended since.
    """

    job: str
    attempt: int
    readiness: Readiness
    at: float
    run: str = ""
    ends: Mapping[str, int] | None = None
    value: str = ""
    payload: object = None
    on_offset: int | None = None
    is_rebuild: bool = False
    is_forced: bool = False
    may_take_news: bool = False
    takes_news: bool = False
    priority: int = 0


@dataclass(frozen=True, slots=True)
class Look:
    """Find out, in the data, whether the job's delay or gate lets it start; answer with `Looked`."""

    job: str


@dataclass(frozen=True, slots=True)
class Alert:
    """Something a person should know (rule 33). `is_failure`: it counts as a run that failed (`on_missing: fail`)."""

    kind: str
    job: str
    reason: str
    at: float
    is_failure: bool = False


Command = Start | Look | Alert
