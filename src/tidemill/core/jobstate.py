"""What the heart knows of one job while it is at work.

Rules of this file:
  * everything here is a cache: it can be rebuilt from the stores and the definitions (rule 12);
  * only orchestrate.py changes a `JobState`; others may read it.
"""

from __future__ import annotations

from collections.abc import Sequence, Set
from dataclasses import dataclass, field
from enum import StrEnum

from tidemill.core import when
from tidemill.core.event import Looked, Start
from tidemill.core.model import Job, OnBackfill
from tidemill.core.ports import Progress

__all__ = ["JobState", "Looking", "Phase", "on_cursor", "watched"]


def on_cursor(asset: str) -> str:
    """The name under which a job keeps its cursor on the asset that starts it (`on`), apart from its inputs."""
    return f"on:{asset}"


def watched(job: Job) -> tuple[str, ...]:
    """The assets whose changes may start a job."""
    return (*job.inputs, job.on) if job.on else job.inputs


class Phase(StrEnum):
    """What a job is doing. `due` is not a phase: a due job is started in the same step."""

    IDLE = "idle"
    RUNNING = "running"
    RETRYING = "retrying"
    HELD = "held"
    PAUSED = "paused"


class Looking(StrEnum):
    """How far looking into the data for a job is."""

    NO = "no"
    ASKED = "asked"
    STALE = "stale"
    """Asked, and something happened since: where the answer is no, ask again."""
    VOID = "void"
    """Asked about an earlier definition: ask again, whatever the answer is."""
    ANSWERED = "answered"

    @property
    def is_out(self) -> bool:
        """Whether an answer is still to come."""
        return self in (Looking.ASKED, Looking.STALE, Looking.VOID)


@dataclass(slots=True)
class JobState:
    """What is known of one job. All of it can be rebuilt from the stores and the definitions."""

    job: Job
    condition: when.Condition | str
    version: str = ""
    cursors: dict[str, int] = field(default_factory=dict)
    generations: dict[str, int] = field(default_factory=dict)
    served_at: float = 0.0
    phase: Phase = Phase.IDLE
    pauses: bool = False
    attempt: int = 0
    run: str = ""
    retry_at: float = 0.0
    held_at: float = 0.0
    held_heads: dict[str, int] = field(default_factory=dict)
    reason: str = ""
    started: Start | None = None
    """What runs, or is between retries; None where what runs is of an earlier definition."""
    looking: Looking = Looking.NO
    looked: Looked | None = None
    overdue: frozenset[str] = frozenset()
    """The values past their deadline that a person was told of."""
    asked_in: int = 0
    """The step that asked for the look that is out."""
    answers_from: int = 0
    """The step that asked for the look that `looked` answers."""
    is_forced: bool = False
    timer_at: float | None = None
    has_run: bool = False

    @property
    def is_looked_at(self) -> bool:
        """Whether readiness lies in the data."""
        return self.job.after_seconds > 0 or self.job.gate is not None

    @property
    def coalesces(self) -> bool:
        """Whether it takes an input that is being backfilled all at once."""
        return self.job.on_backfill is OnBackfill.COALESCE

    @property
    def answer(self) -> Looked | None:
        """What was found in the data, where nothing happened since."""
        return self.looked if self.looking is Looking.ANSWERED else None

    def take(self, progress: Progress) -> None:
        """A progress that was committed: cursors of one version only grow."""
        if progress.version != self.version:
            self.cursors = dict(progress.cursors)
        else:
            for asset, offset in progress.cursors.items():
                self.cursors[asset] = max(offset, self.cursors.get(asset, 0))
        self.version = progress.version
        self.generations = dict(progress.generations)
        self.served_at = max(self.served_at, progress.served_at)
        self.has_run = True

    def doubt(self) -> None:
        """Something happened that the last look may not have seen."""
        if self.looking is Looking.ASKED:
            self.looking = Looking.STALE
        elif self.looking is Looking.ANSWERED:
            self.looking = Looking.NO

    def lacks_news(self, news: Set[str], absent: Sequence[str]) -> str:
        """Why changes in these inputs, and inputs that nothing came to yet, do not satisfy `when`; "" where they do."""
        if self.condition == "all" and absent:
            return f"waits for the first arrival of {', '.join(absent)}"
        if not news and not (self.job.gate is not None and self.has_run):
            return "no input has news"
        if self.condition == "each" and len(news) < len(set(self.job.inputs)):
            return f"waits for news in {', '.join(a for a in self.job.inputs if a not in news)} (each)"
        if isinstance(self.condition, when.Condition) and not when.holds(self.condition, news):
            return f"waits for news that fits `when: {self.job.when}`"
        return ""
