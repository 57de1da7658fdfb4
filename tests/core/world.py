"""A tiny world around the heart: stores that are dictionaries, runs that end when the test says so.

Rules of this file:
  * the truth (heads, progress, released values) is apart from what the heart was told, as it is in real life;
  * the world performs commands as the runtime does: a start takes (cursor, head] cut by its ends, a rebuild takes nothing
    new, an answer to a look is worked out from the truth when it is given;
  * after every step the invariants are checked, whatever the test is about.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from tidemill.core.event import (
    Alert,
    Command,
    Defined,
    Drained,
    Event,
    Failed,
    Finished,
    Landed,
    Look,
    Looked,
    Paused,
    Removed,
    Requested,
    Resumed,
    Start,
    Ticked,
)
from tidemill.core.model import Job
from tidemill.core.orchestrate import JobState, Phase, State, on_cursor, step
from tidemill.core.ports import Head, Progress
from tidemill.core.retry import Failure

__all__ = ["DAY", "World", "daily"]

DAY = 86_400.0
STEPS_TO_QUIET = 500


def daily(line: str, after: float) -> float:
    """Schedules for tests: the line is an hour of the day; the next such moment after a time."""
    moment = after // DAY * DAY + float(line) * 3_600
    return moment if moment > after else moment + DAY


@dataclass
class World:
    """Stores, runs and looks that are going on, and the heart."""

    state: State
    at: float = 0.0
    heads: dict[str, Head] = field(default_factory=dict)
    times: dict[str, list[float]] = field(default_factory=dict)
    progress: dict[str, Progress] = field(default_factory=dict)
    released: dict[str, int] = field(default_factory=dict)
    running: dict[str, tuple[Start, Job]] = field(default_factory=dict)
    looks: list[str] = field(default_factory=list)
    alerts: list[Alert] = field(default_factory=list)
    starts: list[Start] = field(default_factory=list)

    @classmethod
    def of(
        cls,
        *jobs: Job,
        moments: Callable[[str, float], float] | None = daily,
        only: frozenset[str] | None = None,
        at: float = 0.0,
    ) -> World:
        """A world where these jobs are defined and nothing has arrived."""
        world = cls(State(moments, only), at)
        for each in jobs:
            world.define(each)
        return world

    # ------------------------------------------------------------------------------------- telling

    def do(self, event: Event) -> list[str]:
        """Give the heart an event; returns what it asked for, as `job` for a start and `job?` for a look."""
        before = _positions(self.state)
        commands = step(self.state, event)
        said = [self._take(command) for command in commands]
        self.check(before)
        return [word for word in said if word]

    def _take(self, command: Command) -> str:
        if isinstance(command, Alert):
            self.alerts.append(command)
            return ""
        if isinstance(command, Look):
            assert command.job not in self.looks, f"{command.job} is looked at twice at once"
            self.looks.append(command.job)
            return f"{command.job}?"
        assert command.job not in self.running, f"{command.job} is started while it runs"
        job = self.state.jobs[command.job]
        assert not job.pauses, f"{command.job} is started while it is paused"
        assert self.state.only is None or command.job in self.state.only, f"{command.job} is started, but not asked for"
        self.running[command.job] = (command, job.job)
        self.starts.append(command)
        return command.job

    def define(self, job: Job, *, is_paused: bool = False, first_seen_at: float = 0.0) -> list[str]:
        return self.do(Defined(job, self.progress.get(job.name), self.at, first_seen_at, is_paused))

    def remove(self, name: str) -> list[str]:
        return self.do(Removed(name, self.at))

    def arrive(self, asset: str, count: int = 1, *, generation: int | None = None) -> None:
        """Changes arrive in the store; nobody is told."""
        head = self.heads.get(asset, Head())
        self.heads[asset] = Head(head.offset + count, generation or head.generation)
        self.times.setdefault(asset, []).extend([self.at] * count)

    def tell(self, asset: str, *, stirs: bool = False) -> list[str]:
        return self.do(Landed(asset, self.heads.get(asset, Head()), self.at, stirs))

    def land(self, *assets: str, count: int = 1) -> list[str]:
        """Changes arrive and the heart is told."""
        for asset in assets:
            self.arrive(asset, count)
        return [word for asset in assets for word in self.tell(asset)]

    def tick(self, at: float | None = None) -> list[str]:
        """Time goes on: to that moment, or to the next one the heart waits for."""
        moment = self.state.next_at() if at is None else at
        assert moment is not None, "the heart waits for no moment"
        self.at = max(self.at, moment)
        return self.do(Ticked(self.at))

    def pause(self, name: str) -> list[str]:
        return self.do(Paused(name, self.at))

    def resume(self, name: str) -> list[str]:
        return self.do(Resumed(name, self.at))

    def request(self, *names: str, is_forced: bool = False) -> list[str]:
        return self.do(Requested(self.at, names, is_forced))

    def drained(self) -> list[str]:
        return self.do(Drained(self.at))

    # ---------------------------------------------------------------------------------- performing

    def finish(self, name: str) -> list[str]:
        """The run of a job commits."""
        start, job = self.running.pop(name)
        return self.do(Finished(name, self._commit(start, job), self._wrote(job), self.at))

    def _commit(self, start: Start, job: Job) -> Progress:
        before = self.progress.get(job.name, Progress(job.name, job.version))
        cursors = dict(before.cursors)
        for asset in () if start.is_rebuild else job.inputs:
            cursor, head = cursors.get(asset, 0), self.head(asset)
            end = head if start.ends is None else max(cursor, min(head, start.ends.get(asset, head)))
            cursors[asset] = min(end, cursor + job.max_changes) if job.max_changes else end
        if job.on and start.on_offset is not None:
            cursors[on_cursor(job.on)] = max(start.on_offset, cursors.get(on_cursor(job.on), 0))
        if start.value:
            self.released[job.name] = max(self.released.get(job.name, 0), int(start.value))
        for asset in job.outputs:
            self.arrive(asset)
        generations = {asset: self.heads.get(asset, Head()).generation for asset in job.inputs}
        served_at = before.served_at if start.is_rebuild else start.at
        self.progress[job.name] = Progress(job.name, job.version, cursors, generations, "r", served_at)
        return self.progress[job.name]

    def _wrote(self, job: Job) -> Mapping[str, Head]:
        return {asset: self.heads[asset] for asset in job.outputs}

    def fail(self, name: str, failure: Failure = Failure.TRANSIENT, jitter: float = 1.0) -> list[str]:
        """An attempt of a job ends without a commit."""
        self.running.pop(name)
        progress = self.progress.get(name) if failure is Failure.CONFLICT else None
        return self.do(Failed(name, "r", failure, f"it was {failure}", self.at, jitter, progress))

    def see(self, name: str) -> Looked:
        """What a look finds now, before anybody is told."""
        job = self.state.jobs[name].job if name in self.state.jobs else None
        if job is None:
            return Looked(name, False, self.at)
        if job.gate is not None:
            return self._see_gate(job)
        ends, next_at = {}, None
        cursors = self.progress[name].cursors if name in self.progress else {}
        for asset in job.inputs:
            ends[asset] = cursors.get(asset, 0)
            for time in self.times.get(asset, [])[ends[asset] :]:
                if time + job.after_seconds > self.at:
                    next_at = min(time + job.after_seconds, next_at or time + job.after_seconds)
                    break
                ends[asset] += 1
        is_ready = any(end > cursors.get(asset, 0) for asset, end in ends.items())
        return Looked(name, is_ready, self.at, ends, next_at=next_at)

    def _see_gate(self, job: Job) -> Looked:
        """A gate of this world: the n-th value is complete once its inputs have 2 n changes together."""
        following = self.released.get(job.name, 0) + 1
        is_ready = sum(self.head(asset) for asset in job.inputs) >= 2 * following
        return Looked(job.name, is_ready, self.at, value=str(following) if is_ready else "")

    def answer(self, name: str, seen: Looked | None = None) -> list[str]:
        """A look is answered: with what is seen now, or was seen before."""
        answer = self.see(name) if seen is None else replace(seen, at=self.at)
        self.looks.remove(name)
        return self.do(answer)

    # ------------------------------------------------------------------------------------ checking

    def head(self, asset: str) -> int:
        return self.heads.get(asset, Head()).offset

    def quiet(self) -> None:
        """Tell everything, end everything well, let time pass; fails if that never ends or something is forgotten."""
        for asset in list(self.heads):
            self.tell(asset)
        for _ in range(STEPS_TO_QUIET):
            if self.running:
                self.finish(next(iter(self.running)))
            elif self.looks:
                self.answer(self.looks[0])
            elif (moment := self.state.next_at()) is not None and moment < self.at + 3 * DAY:
                self.tick()
            else:
                break
        else:
            raise AssertionError(f"the world does not come to rest: {self.starts[-5:]}")
        self.check_nothing_is_forgotten()

    def check_nothing_is_forgotten(self) -> None:
        """At rest, a job that could start has nothing to do."""
        for name, job in self.state.jobs.items():
            if job.phase is not Phase.IDLE or (self.state.only is not None and name not in self.state.only):
                assert job.phase in (Phase.IDLE, Phase.HELD, Phase.PAUSED), f"{name} is {job.phase} at rest"
                continue
            verdict = self.state.readiness(name, self.at)
            assert not verdict.is_ready, f"{name} is due at rest"
            assert not self.state.waits.pending(name), f"{name} waits at rest for {self.state.waits.pending(name)}"
            absent = [asset for asset in job.job.inputs if not self.head(asset)]
            if absent and job.condition == "all":
                continue
            if job.job.gate is not None:
                arrived = sum(self.head(asset) for asset in job.job.inputs)
                assert self.released.get(name, 0) >= arrived // 2, f"{name} forgot a value"
            elif not job.job.on and job.job.when in ("", "any"):
                news = [asset for asset in job.job.inputs if job.cursors.get(asset, 0) < self.head(asset)]
                assert not news, f"{name} forgot {news}"

    def check(self, before: tuple[dict[str, Head], dict[tuple[str, str, str], int]]) -> None:
        """The invariants that hold after every step."""
        heads, cursors = before
        now_heads, now_cursors = _positions(self.state)
        for asset, head in heads.items():
            now = now_heads[asset]
            assert (now.generation, now.offset) >= (head.generation, head.offset), f"the head of {asset} went back"
        for key, offset in cursors.items():
            assert now_cursors.get(key, offset) >= offset, f"the cursor of {key} went back"
        assert self.state.looking == set(self.looks)
        retrying = {name for name, job in self.state.jobs.items() if job.phase is Phase.RETRYING}
        assert self.state.active == set(self.running) | retrying
        for name, job in self.state.jobs.items():
            assert (job.phase is Phase.RUNNING) == (name in self.running), f"{name} is {job.phase}"
            assert not job.pauses or job.phase in (Phase.RUNNING, Phase.PAUSED), f"{name} is {job.phase} while paused"
            self._check_progress_is_sure(name, job)

    def _check_progress_is_sure(self, name: str, job: JobState) -> None:
        """A job that has something to wait for waits for something that will happen."""
        if job.phase is Phase.RETRYING:
            assert job.timer_at is not None, f"{name} is retried, but never woken"
        if job.phase is not Phase.IDLE or (self.state.only is not None and name not in self.state.only):
            return
        pending = self.state.waits.pending(name)
        verdict = self.state.readiness(name, self.at)
        is_awaited = name in self.looks or any(self._is_busy(upper) for upper in pending)
        if pending:
            assert is_awaited, f"{name} waits for {pending}, of which none is busy"
        elif verdict.is_ready:
            is_about_to_tick = job.timer_at is not None and job.timer_at <= self.at
            assert is_awaited or is_about_to_tick, f"{name} is due and nobody starts it"
        elif verdict.next_at is not None:
            assert job.timer_at is not None, f"{name} waits for {verdict.next_at}, but is never woken"
            assert job.timer_at <= verdict.next_at, f"{name} is woken too late"

    def _is_busy(self, name: str) -> bool:
        """Whether something will happen to the job, if only because its own wait will end."""
        job = self.state.jobs.get(name)
        is_about_to_tick = job is not None and job.timer_at is not None and job.timer_at <= self.at
        is_retrying = job is not None and job.phase is Phase.RETRYING
        is_itself = name in self.running or name in self.looks or is_retrying or is_about_to_tick
        return is_itself or any(self._is_busy(upper) for upper in self.state.waits.pending(name))


def _positions(state: State) -> tuple[dict[str, Head], dict[tuple[str, str, str], int]]:
    cursors = {
        (name, job.version, asset): offset for name, job in state.jobs.items() for asset, offset in job.cursors.items()
    }
    return dict(state.heads), cursors
