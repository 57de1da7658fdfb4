"""After a failure: try again, hold, or park.

Rules of this file:
  * decisions only: what happened goes in as values (also the jitter), what to do comes out;
  * a retry never changes what a run with outside effects takes: its range was pinned before the first attempt;
  * a record is parked only if the transform has succeeded on some record: a transform that never did is broken.

Theory of operation. `after_failure` maps a failure to one of the words of `Reaction`. Waits double from
`BACKOFF_BASE_SECONDS` to `BACKOFF_CAP_SECONDS`, with full jitter: the wait is uniform between 0 and that bound
(M. Brooker, "Exponential Backoff And Jitter", AWS Architecture Blog, 2015).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from tidemill.core.errors import Conflict, Fenced, JobFailed, PoisonRecord, RunCancelled, StorageFull, TidemillError

__all__ = [
    "BACKOFF_BASE_SECONDS",
    "BACKOFF_CAP_SECONDS",
    "HELD_RESTART_SECONDS",
    "PARKED_MAX",
    "PARKED_WINDOW",
    "Failure",
    "Reaction",
    "after_failure",
    "backoff_seconds",
    "failure_of",
    "stop_before",
]

BACKOFF_BASE_SECONDS = 0.5
BACKOFF_CAP_SECONDS = 60.0
HELD_RESTART_SECONDS = 60.0
"""New changes restart a held job at most once in this time (rule 13)."""
PARKED_WINDOW = 100
PARKED_MAX = 20
"""More than PARKED_MAX parked of the last PARKED_WINDOW input rows stops the job (rule 14)."""


class Failure(StrEnum):
    """What kind of failure an attempt met."""

    TRANSIENT = "transient"
    """May go away: the transform or the outside world raised."""
    FINAL = "final"
    """Will not go away by itself: broken definition, too many parked rows, contradicting state."""
    CONFLICT = "conflict"
    """Somebody else moved the cursor: look again at once."""
    STORAGE = "storage"
    """No room to write: wait for room, for ever."""
    FENCED = "fenced"
    """This process is no longer the owner."""
    CANCELLED = "cancelled"
    """A person cancelled the run."""
    WAITS = "waits"
    """Nothing failed: the run waits for a person (`hold_above`, `on_late: hold`)."""


class Reaction(StrEnum):
    """What the orchestrator does about it."""

    RETRY = "retry"
    HOLD = "hold"
    AGAIN = "again"
    STOP = "stop"


@dataclass(frozen=True, slots=True)
class Verdict:
    """A reaction, and for RETRY how long to wait first."""

    reaction: Reaction
    wait_seconds: float = 0.0


def failure_of(error: BaseException) -> Failure:
    """The kind of failure an exception means; the class decides, never its text."""
    table: tuple[tuple[type[BaseException], Failure], ...] = (
        (RunCancelled, Failure.CANCELLED),
        (Fenced, Failure.FENCED),
        (Conflict, Failure.CONFLICT),
        (StorageFull, Failure.STORAGE),
        (PoisonRecord, Failure.TRANSIENT),
        (JobFailed, Failure.TRANSIENT),
        (TidemillError, Failure.FINAL),
    )
    return next((kind for cls, kind in table if isinstance(error, cls)), Failure.TRANSIENT)


def backoff_seconds(attempt: int, jitter: float) -> float:
    """The wait after the `attempt`-th attempt (from 1); `jitter` is uniform in [0, 1)."""
    bound = min(BACKOFF_CAP_SECONDS, BACKOFF_BASE_SECONDS * 2.0 ** min(attempt - 1, 30))
    return bound * jitter


def after_failure(failure: Failure, attempt: int, retries: int, jitter: float) -> Verdict:
    """What to do after the `attempt`-th attempt failed in this way."""
    if failure is Failure.CONFLICT:
        return Verdict(Reaction.AGAIN)
    if failure is Failure.FENCED:
        return Verdict(Reaction.STOP)
    if failure is Failure.STORAGE:
        return Verdict(Reaction.RETRY, max(1.0, backoff_seconds(attempt, jitter)))
    if failure is Failure.TRANSIENT and attempt <= retries:
        return Verdict(Reaction.RETRY, backoff_seconds(attempt, jitter))
    return Verdict(Reaction.HOLD)


def stop_before(recent: Sequence[bool], fresh: Sequence[bool]) -> int | None:
    """How many of the `fresh` input rows may be committed before too many were parked; None: all of them.

    `recent` and `fresh` say of input rows, in the order of their offsets, whether they were parked. The answer is the
    index in `fresh` of the row that would make more than PARKED_MAX of the last PARKED_WINDOW rows parked.
    """
    window = list(recent[-PARKED_WINDOW:])
    for index, parked in enumerate(fresh):
        window.append(parked)
        if len(window) > PARKED_WINDOW:
            window.pop(0)
        if parked and sum(window) > PARKED_MAX:
            return index
    return None
