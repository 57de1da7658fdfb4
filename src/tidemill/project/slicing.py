"""Long work that a person asked for: one at a time of a job, in slices, live work first.

Rules of this file:
  * when a slice may begin and how long it is decides `core/slices.py`; here it is timed and waited for;
  * a pause is heard between two slices.
"""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

from tidemill.core import slices
from tidemill.core.errors import UserError
from tidemill.core.model import Mode
from tidemill.core.retry import Reaction, after_failure, failure_of
from tidemill.core.slices import Pace
from tidemill.project.wiring import Machine

__all__ = ["Going", "Pacer", "pace_of", "tried"]

T = TypeVar("T")

LOOK_SECONDS = 0.002
"""How often it is looked whether the live lane is free."""


@dataclass(slots=True)
class Going:
    """The jobs whose replay or backfill is going on in this process."""

    _jobs: set[str] = field(default_factory=set)
    _changing: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def one_of(self, job: str) -> Iterator[None]:
        """Within: nobody else replays this job. Raises UserError where somebody does."""
        with self._changing:
            if job in self._jobs:
                raise UserError(
                    f"a replay or backfill of `{job}` is going on",
                    mend=f"wait for it, or stop it: tidemill pause {job}",
                )
            self._jobs.add(job)
        try:
            yield
        finally:
            with self._changing:
                self._jobs.discard(job)


def tried(act: Callable[[int], T], retries: int) -> T:
    """What `act(attempt)` gives, tried again with the waits of a job's runs. Raises what the last attempt raised."""
    pause = threading.Event()
    for attempt in itertools.count(1):
        try:
            return act(attempt)
        except Exception as error:
            verdict = after_failure(failure_of(error), attempt, retries, random.random())
            if verdict.reaction is not Reaction.RETRY:
                raise
        pause.wait(verdict.wait_seconds)
    raise AssertionError("attempts are counted for ever")


@dataclass(slots=True)
class Pacer:
    """Times slices: live work goes first, and a person who paused the job stops it between two of them."""

    machine: Machine
    job: str
    pace: Pace
    _turn: int = 0
    _busy_at: float = field(default_factory=time.monotonic)

    def is_stopped(self) -> bool:
        """Whether a person paused the job."""
        return bool(self.machine.ledger.noted("paused", self.job))

    def take(self, work: Callable[[int], int]) -> None:
        """Do one slice once the live lane is free: `work(changes)` says how many changes it took."""
        self._let_live_work_first()
        began = time.monotonic()
        took = work(self.pace.changes)
        now = time.monotonic()
        self.pace = self.pace.after(took, now - began, self._quiet_seconds(now))

    def _quiet_seconds(self, now: float) -> float:
        """How long the loop has had nothing to do but to hear of slices."""
        turn = self.machine.loop.state.turn
        if turn - self._turn > 1:
            self._busy_at = now
        self._turn = turn
        return now - self._busy_at

    def _let_live_work_first(self) -> None:
        pause = threading.Event()
        pause.wait(self.pace.rest_seconds)
        ends_at = time.monotonic() + self.pace.wait_seconds_max
        while self._is_live_busy() and time.monotonic() < ends_at:
            pause.wait(0.002)

    def _is_live_busy(self) -> bool:
        """Whether a realtime job runs: a nightly batch may take hours, and has workers of its own."""
        jobs = self.machine.catalog.jobs
        active = [jobs.get(name) for name in tuple(self.machine.loop.state.active)]
        return any(job is not None and job.mode is Mode.REALTIME for job in active)


def pace_of(machine: Machine, beside: Pace = slices.BESIDE) -> Pace:
    """`beside`, short slices, where jobs start by themselves meanwhile; long ones where nobody else works."""
    return slices.ALONE if machine.loop.state.only is not None else beside
