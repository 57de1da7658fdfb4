"""Every error tidemill raises on purpose, in one hierarchy that says who must act.

Rules of this file:
  * an error names the thing, the place and the mend: `TidemillError(message, place=..., mend=...)`;
  * the class says who must act: the user (a definition or a call is wrong), the operator (the machine or the
    state folder is in the way), the upstream (data that arrived is wrong), or us (an invariant broke);
  * the class, never the text, decides what the runtime does: retry, hold, park or stop.
"""

from __future__ import annotations

__all__ = [
    "AssertionBroken",
    "BrokenJob",
    "Conflict",
    "ContractViolation",
    "DefinitionError",
    "Expired",
    "Fenced",
    "InvariantError",
    "JobFailed",
    "NotFound",
    "OperatorError",
    "PoisonRecord",
    "RunCancelled",
    "StateCorrupt",
    "StateTooNew",
    "Stopped",
    "StorageFull",
    "TidemillError",
    "TooManyParked",
    "UpstreamError",
    "UserError",
]


class TidemillError(Exception):
    """The root of all deliberate errors.

    `message` says what is wrong and names the thing; `place` says where (file, or file:line); `mend` says what to do.
    """

    def __init__(self, message: str, *, place: str = "", mend: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.place = place
        self.mend = mend

    def __str__(self) -> str:
        head = f"{self.place}: {self.message}" if self.place else self.message
        return f"{head}\n  mend: {self.mend}" if self.mend else head


class UserError(TidemillError):
    """A definition, a command or a call is wrong. The user acts; trying again changes nothing. Exit code 2."""


class DefinitionError(UserError):
    """An asset or job does not load: the old definition is kept and an alarm raised."""


class RunCancelled(UserError):
    """A person cancelled this run: nothing of it is committed, and its job is paused."""


class NotFound(UserError):
    """A name that nothing answers to (asset, job, run, dead letter)."""


class BrokenJob(UserError):
    """A transform version that never succeeded on any record: its run fails, nothing is parked (rule 14)."""


class OperatorError(TidemillError):
    """The machine or the state folder is in the way (disk full, lock held, file corrupt). The operator acts."""


class StorageFull(OperatorError):
    """No room to write: the work stops, the state stays valid, and goes on when there is room."""


class StateCorrupt(OperatorError):
    """A stored state contradicts itself, such as a cursor beyond its head: the job stops, it never counts as zero."""


class Expired(OperatorError):
    """Rows that are needed are gone, because their retention is over: what was computed without them would be wrong.

    `asset` is whose rows they were, `offset` up to where they are gone.
    """

    asset: str = ""
    offset: int = 0


class StateTooNew(OperatorError):
    """The state folder was written by a newer tidemill."""


class JobFailed(TidemillError):
    """What a job itself runs (a function, a command) failed or ran out of time: it is tried again, then held."""


class UpstreamError(TidemillError):
    """Data that arrived is wrong. It is parked or rejected with the reason; nothing else stops."""


class ContractViolation(UpstreamError):
    """An event or row does not fit its asset's contract: parked at the door, before it gets an offset."""


class Stopped(UpstreamError):
    """A topic that stops at what it cannot take (`on_error = "stop"`) waits for a person: nothing that was sent is taken."""


class PoisonRecord(UpstreamError):
    """A record that a transform cannot process.

    Where the engine knows which ones, `rows` names them as (input, row identity) and `reasons` says why, one each.
    """

    rows: tuple[tuple[str, str], ...] = ()
    reasons: tuple[str, ...] = ()


class TooManyParked(UpstreamError):
    """More than 20 of the last 100 input rows were parked: the job stops until it is resumed (rule 14)."""


class AssertionBroken(UpstreamError):
    """What a job asserts of its output would not hold: nothing was committed, and the job waits for a person or for news."""


class Conflict(TidemillError):
    """A commit's compare-and-set failed: somebody else moved the cursor. The run is evaluated anew."""


class Fenced(Conflict):
    """The owner epoch moved on: this process no longer owns the project and must stop writing."""


class InvariantError(TidemillError):
    """One of our own invariants broke: a defect of tidemill. Nothing is committed."""
