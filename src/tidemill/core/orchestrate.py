"""The one function to read first: `step(state, event) -> commands`.

What it is for: deciding what runs next. All begins with an event coming in here and ends with the commands going out.

Rules of this file:
  * no clock, no input or output, no randomness: the time and the jitter come in with the event;
  * `state` belongs to the caller, who gives it to one `step` at a time; `step` changes it and nothing else;
  * the state is a cache: after any crash it is rebuilt from the stores by feeding `Defined` and `Landed` (rule 12);
  * heads and cursors only grow here; an event that says less than is known says nothing (lost, doubled and
    reordered notifications change nothing);
  * the cost of a step depends on what the event concerns, never on how many jobs there are.

Theory of operation. A job is in one `Phase`. `IDLE` jobs are judged (`_judge`) whenever something that concerns them
happens: an input's head moved, a moment came, an upstream job finished. The judgement is a `Readiness`: ready or not,
why, and the next moment that could change it. A ready job gets a `Start` and is `RUNNING` until `Finished` or `Failed`
comes back; what it reads is decided by the run itself, in its snapshot (rule 8), so a start carries no ranges except
the cuts of delays and gates. Where the answer lies in the data (`after`, `gate`), the step asks for a `Look` and judges
again when `Looked` comes back.

`when: all` waits until upstream has settled: how is in settle.py.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

from tidemill.core import when
from tidemill.core.event import (
    Alert,
    Backfilled,
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
    Readiness,
    Removed,
    Requested,
    Resumed,
    Start,
    Ticked,
)
from tidemill.core.gate import past_deadline
from tidemill.core.jobstate import JobState, Looking, Phase, on_cursor, watched
from tidemill.core.mapping import ObjectMapping
from tidemill.core.model import Job, Missing, Mode
from tidemill.core.ports import Head
from tidemill.core.retry import HELD_RESTART_SECONDS, Failure, Reaction, after_failure
from tidemill.core.settle import Unsettled, Waits

__all__ = ["JobState", "Phase", "State", "on_cursor", "step"]


Moments = Callable[[str, float], float]
"""(cron line, after) -> the next moment of the schedule after that time, in seconds; a pure function."""


class State:
    """Everything `step` knows: the mapping, the heads, the jobs, the timers and the waits."""

    def __init__(self, moments: Moments | None = None, only: frozenset[str] | None = None) -> None:
        """`moments` computes schedules; `only` restricts starts to these jobs (`tidemill run JOB ...`)."""
        self.mapping = ObjectMapping()
        self.heads: dict[str, Head] = {}
        self.jobs: dict[str, JobState] = {}
        self.active: set[str] = set()
        self.looking: set[str] = set()
        self.backfilled: set[str] = set()
        self.only = only
        self.drained: set[str] = set()
        self.waits = Waits(self.mapping, self.head)
        self.moments = moments
        self.turn = 0
        self.timers: list[tuple[float, str]] = []

    def head(self, asset: str) -> int:
        """The offset an asset's log is known to reach."""
        head = self.heads.get(asset)
        return 0 if head is None else head.offset

    def next_at(self) -> float | None:
        """The next moment at which a `Ticked` is wanted; None: nothing waits for time."""
        while self.timers:
            at, name = self.timers[0]
            job = self.jobs.get(name)
            if job is not None and job.timer_at == at:
                return at
            heapq.heappop(self.timers)
        return None

    @property
    def is_busy(self) -> bool:
        """Whether something is running, between retries, or being looked at."""
        return bool(self.active or self.looking)

    def readiness(self, name: str, at: float, looked: Looked | None = None) -> Readiness:
        """The present judgement of a job, for `explain`; `looked`: as if the data had answered so. Changes nothing."""
        job = self.jobs[name]
        if job.phase is not Phase.IDLE:
            return Readiness(False, (f"{job.phase.value}: {job.reason}" if job.reason else job.phase.value,))
        verdict = _due(self, job, at, looked)
        pending = self.waits.pending(name)
        if verdict.is_ready and pending:
            return Readiness(False, (f"waits for upstream to settle: {', '.join(sorted(pending))}",))
        return verdict


# -------------------------------------------------------------------------------------------------- step


def step(state: State, event: Event) -> list[Command]:
    """Take one event into account; return what to do, most urgent first."""
    state.turn += 1
    commands: list[Command] = []
    _HANDLERS[type(event)](state, event, commands)
    if len(commands) > 1:
        commands.sort(key=_urgency)
    return commands


def _urgency(command: Command) -> tuple[int, int]:
    return (0, -command.priority) if isinstance(command, Start) else (1, 0)


def _on_landed(state: State, event: Landed, commands: list[Command]) -> None:
    if _raise_head(state, event.asset, event.head) or event.stirs:
        _judge_all(state, state.mapping.concerned(event.asset), event.at, commands)


def _raise_head(state: State, asset: str, head: Head) -> bool:
    known = state.heads.get(asset)
    if known is not None and (head.generation, head.offset) <= (known.generation, known.offset):
        return False
    state.heads[asset] = head
    return True


def _on_finished(state: State, event: Finished, commands: list[Command]) -> None:
    moved = [asset for asset, head in event.heads.items() if _raise_head(state, asset, head)]
    for asset in moved:
        _doubt_answers(state, asset)
    state.active.discard(event.job)
    job = state.jobs.get(event.job)
    if job is not None:
        was_rebuild = job.started is None or job.started.is_rebuild
        job.take(event.progress)
        _rest(state, job)
        job.reason, job.attempt, job.run = "", 0, ""
        if was_rebuild:
            _judge_readers(state, job.job, event.at, commands)
        # Before the job starts again on later news: its readers must not wait for that.
        _tick_off_after(state, event.job, event.at, commands)
        _judge(state, job, event.at, commands)
    for asset in moved:
        _judge_all(state, state.mapping.concerned(asset), event.at, commands)


def _rest(state: State, job: JobState) -> None:
    """Out of RUNNING or RETRYING into IDLE, or PAUSED where a person asked for it meanwhile."""
    state.active.discard(job.job.name)
    job.started = None
    job.phase = Phase.PAUSED if job.pauses else Phase.IDLE
    job.doubt()


def _doubt_answers(state: State, asset: str) -> None:
    """What was found in the data before this asset changed is no answer any more, for whoever starts in this step."""
    for name in state.mapping.concerned(asset):
        state.jobs[name].doubt()


def _on_failed(state: State, event: Failed, commands: list[Command]) -> None:
    job = state.jobs.get(event.job)
    if job is None:
        state.active.discard(event.job)
        return
    if event.progress is not None:
        job.take(event.progress)
    verdict = after_failure(event.failure, job.attempt, job.job.retries, event.jitter)
    is_retry = verdict.reaction is Reaction.RETRY
    if job.started is None or verdict.reaction is Reaction.AGAIN or (is_retry and job.pauses):
        job.is_forced = job.is_forced or (job.started is not None and job.started.is_forced)
        job.attempt, job.run, job.reason = 0, "", ""
        _rest(state, job)
        _judge_readers(state, job.job, event.at, commands)
    elif is_retry:
        job.run, job.reason = event.run, event.reason
        job.phase, job.retry_at = Phase.RETRYING, event.at + verdict.wait_seconds
    else:
        _hold(state, job, event, commands)
        _judge_readers(state, job.job, event.at, commands)
    _tick_off_after(state, event.job, event.at, commands)
    _judge(state, job, event.at, commands)


def _hold(state: State, job: JobState, event: Failed, commands: list[Command]) -> None:
    _rest(state, job)
    if job.phase is not Phase.PAUSED:
        job.phase = Phase.HELD
    job.held_at, job.attempt, job.is_forced = event.at, 0, False
    job.run, job.reason = event.run, event.reason
    needs_a_person = event.failure in (Failure.WAITS, Failure.FENCED)
    job.held_heads = {} if needs_a_person else {asset: state.head(asset) for asset in watched(job.job)}
    commands.append(Alert("held", job.job.name, job.reason, event.at))


def _on_ticked(state: State, event: Ticked, commands: list[Command]) -> None:
    while (at := state.next_at()) is not None and at <= event.at:
        _, name = heapq.heappop(state.timers)
        job = state.jobs[name]
        job.timer_at = None
        job.doubt()
        _judge(state, job, event.at, commands)
        _tick_off_after(state, name, event.at, commands)


def _on_defined(state: State, event: Defined, commands: list[Command]) -> None:
    name = event.job.name
    condition = _condition(event.job)
    state.mapping.add(event.job)
    job = state.jobs.get(name)
    before = job.job if job is not None else None
    if job is None:
        # A run of a removed job may still be going on: it must end before the job starts again.
        phase = Phase.RUNNING if name in state.active else Phase.IDLE
        job = state.jobs[name] = JobState(event.job, condition, phase=phase)
    else:
        _redefine(state, job, event.job, condition)
    job.looking = Looking.VOID if name in state.looking else Looking.NO
    # What the runs of another version told is at least as new as what the loader read.
    is_known = event.progress is not None and event.progress.version == job.version
    if event.progress is not None and (is_known or event.takes_over or not job.has_run):
        job.take(event.progress)
    job.served_at = max(job.served_at, event.first_seen_at)
    if event.is_paused:
        _pause(state, job)
    _judge(state, job, event.at, commands)
    _wait_anew(state, name, event.at, commands)
    if before is not None:
        _judge_readers(state, before, event.at, commands)


def _redefine(state: State, job: JobState, definition: Job, condition: when.Condition | str) -> None:
    state.waits.end(definition.name)
    job.job, job.condition = definition, condition
    if job.phase is Phase.RUNNING:
        job.started = None
    elif job.phase is Phase.HELD:
        job.phase = Phase.IDLE
    elif job.phase is Phase.RETRYING and definition.rebuilds:
        _rest(state, job)
        job.attempt, job.run = 0, ""


def _condition(job: Job) -> when.Condition | str:
    word = job.when or ("all" if job.mode is Mode.BATCH else "any")
    return word if word in when.WORDS else when.parse(word)


def _on_removed(state: State, event: Removed, commands: list[Command]) -> None:
    state.waits.end(event.job)
    state.mapping.remove(event.job)
    job = state.jobs.pop(event.job, None)
    if job is not None and job.phase is not Phase.RUNNING:
        state.active.discard(event.job)
    _wait_anew(state, event.job, event.at, commands)
    if job is not None:
        _judge_readers(state, job.job, event.at, commands)


def _on_looked(state: State, event: Looked, commands: list[Command]) -> None:
    state.looking.discard(event.job)
    job = state.jobs.get(event.job)
    if job is None or not job.looking.is_out:
        return
    if job.looking is not Looking.VOID:
        job.looked, job.answers_from = event, job.asked_in
        _tell_overdue(job, event, commands)
    is_taken = job.looking is Looking.ASKED or (job.looking is Looking.STALE and event.is_ready)
    job.looking = Looking.ANSWERED if is_taken else Looking.NO
    _judge(state, job, event.at, commands)
    _tick_off_after(state, event.job, event.at, commands)


def _tell_overdue(job: JobState, event: Looked, commands: list[Command]) -> None:
    """Tell a person once of each value that is incomplete past its deadline."""
    new = [value for value in event.overdue if value not in job.overdue]
    job.overdue = frozenset(event.overdue)
    if new:
        reason = past_deadline(new, event.because)
        fails = job.job.gate is not None and job.job.gate.on_missing is Missing.FAIL
        commands.append(Alert("deadline", event.job, reason, event.at, is_failure=fails))


def _on_paused(state: State, event: Paused, commands: list[Command]) -> None:
    job = state.jobs.get(event.job)
    if job is None:
        return
    _pause(state, job)
    _judge_readers(state, job.job, event.at, commands)
    _tick_off_after(state, event.job, event.at, commands)


def _pause(state: State, job: JobState) -> None:
    job.pauses = True
    if job.phase is not Phase.RUNNING:
        _rest(state, job)
        state.waits.end(job.job.name)


def _on_resumed(state: State, event: Resumed, commands: list[Command]) -> None:
    job = state.jobs.get(event.job)
    if job is None:
        return
    job.pauses = False
    if event.progress is not None:
        job.take(event.progress)
    if job.phase in (Phase.PAUSED, Phase.HELD):
        job.phase, job.attempt, job.reason = Phase.IDLE, 0, ""
    if job.phase is Phase.RETRYING:
        job.retry_at = event.at
    job.doubt()
    _tick_off_after(state, event.job, event.at, commands)
    _judge(state, job, event.at, commands)


def _on_requested(state: State, event: Requested, commands: list[Command]) -> None:
    names = event.jobs or tuple(state.jobs)
    state.drained.update(names)
    for name in names:
        job = state.jobs.get(name)
        if job is None:
            continue
        job.is_forced = job.is_forced or event.is_forced
        if job.phase is Phase.HELD:
            job.phase, job.attempt = Phase.IDLE, 0
        _judge(state, job, event.at, commands)


def _on_backfilled(state: State, event: Backfilled, commands: list[Command]) -> None:
    """Readers that take a backfill all at once wait from here until it is over, or nobody goes on with it."""
    (state.backfilled.add if event.is_going else state.backfilled.discard)(event.job)
    if event.job in state.jobs and not event.is_going:
        _judge_readers(state, state.jobs[event.job].job, event.at, commands)


def _on_drained(state: State, _event: Drained, _commands: list[Command]) -> None:
    state.drained.clear()


_HANDLERS: dict[type, Callable[[State, Any, list[Command]], None]] = {
    Landed: _on_landed,
    Finished: _on_finished,
    Failed: _on_failed,
    Ticked: _on_ticked,
    Defined: _on_defined,
    Removed: _on_removed,
    Looked: _on_looked,
    Paused: _on_paused,
    Resumed: _on_resumed,
    Requested: _on_requested,
    Backfilled: _on_backfilled,
    Drained: _on_drained,
}


# ------------------------------------------------------------------------------------------- judgements


def _judge_all(state: State, names: Iterable[str], at: float, commands: list[Command]) -> None:
    for name in list(names):
        job = state.jobs[name]
        job.doubt()
        _judge(state, job, at, commands)
        _tick_off_after(state, name, at, commands)


def _judge(state: State, job: JobState, at: float, commands: list[Command]) -> None:
    """Start the job if it is ready; otherwise remember the next moment that could make it so."""
    if job.phase is Phase.RETRYING:
        _try_again(state, job, at, commands)
        return
    if job.phase is Phase.HELD:
        _leave_hold(state, job, at)
    if job.phase is not Phase.IDLE or not _may_start(state, job.job.name):
        return
    verdict = _due(state, job, at)
    if verdict.is_ready and job.is_looked_at and not _is_answered(state, job, commands):
        return
    if verdict.is_ready and _is_settled(state, job, at):
        _start(state, job, verdict, at, commands)
    elif not verdict.is_ready:
        state.waits.end(job.job.name)
        if verdict.next_at is not None:
            _wake(state, job, verdict.next_at)


def _may_start(state: State, name: str) -> bool:
    return state.only is None or name in state.only


def _try_again(state: State, job: JobState, at: float, commands: list[Command]) -> None:
    if at < job.retry_at:
        _wake(state, job, job.retry_at)
        return
    assert job.started is not None, "only a start that failed is tried again"
    job.attempt += 1
    job.phase = Phase.RUNNING
    command = replace(
        job.started,
        attempt=job.attempt,
        readiness=Readiness(True, (f"attempt {job.attempt} after: {job.reason}",)),
        at=at,
        run=job.run,
        is_rebuild=_needs_rebuild(state, job),
        may_take_news=_may_take_news(state, job, at),
        priority=job.job.priority,
    )
    if command.is_rebuild:
        command = replace(command, ends=None, value="", payload=None, on_offset=None)
    job.started = command
    commands.append(command)


def _leave_hold(state: State, job: JobState, at: float) -> None:
    """New changes restart a held job, at most once a minute (rule 13)."""
    if any(state.head(asset) > head for asset, head in job.held_heads.items()):
        if at >= job.held_at + HELD_RESTART_SECONDS:
            job.phase, job.attempt = Phase.IDLE, 0
        else:
            _wake(state, job, job.held_at + HELD_RESTART_SECONDS)


def _start(state: State, job: JobState, readiness: Readiness, at: float, commands: list[Command]) -> None:
    is_rebuild, may_take_news = _needs_rebuild(state, job), _may_take_news(state, job, at)
    state.waits.end(job.job.name)
    looked = job.looked if job.is_looked_at and not is_rebuild else None
    job.phase, job.attempt, job.run, job.reason = Phase.RUNNING, 1, "", ""
    state.active.add(job.job.name)
    command = Start(
        job.job.name,
        1,
        readiness,
        at,
        ends=looked.ends if looked else None,
        value=looked.value if looked else "",
        payload=looked.payload if looked else None,
        on_offset=state.head(job.job.on) if job.job.on and not is_rebuild else None,
        is_rebuild=is_rebuild,
        is_forced=job.is_forced,
        may_take_news=may_take_news,
        priority=job.job.priority,
    )
    job.started, job.is_forced = command, False
    commands.append(command)


def _needs_rebuild(state: State, job: JobState) -> bool:
    """Whether a pure job's result was made by another version, or from an input generation that is gone (rule 25)."""
    if not job.has_run or not job.job.rebuilds:
        return False
    if job.version != job.job.version:
        return True
    return any(
        asset in state.heads and state.heads[asset].generation > generation
        for asset, generation in job.generations.items()
    )


def _due(state: State, job: JobState, at: float, looked: Looked | None = None) -> Readiness:
    """Whether everything but the data (delay, gate) and the upstream's settling lets the job start."""
    if _needs_rebuild(state, job):
        feeder = _changed_feeder(state, job)
        if feeder:
            return Readiness(False, (f"waits for `{feeder}`, which is rebuilt first",))
        return Readiness(True, ("its definition or an input's columns changed: rebuilt beside",))
    if job.is_forced:
        return Readiness(True, ("forced by a person",))
    if job.coalesces and (filling := state.backfilled.intersection(state.mapping.producers(job.job))):
        return Readiness(False, (f"waits for the backfill of `{min(filling)}` to end (on_backfill: coalesce)",))
    return _due_for_news(state, job, at, looked)


def _may_take_news(state: State, job: JobState, at: float) -> bool:
    """Whether a rebuild may go on to the heads, for a run of this moment might have taken what is new there."""
    if not _needs_rebuild(state, job) or job.is_looked_at or job.job.on or not _due_for_news(state, job, at).is_ready:
        return False
    is_settled = job.condition != "all" or state.waits.is_over(job.job, state.turn, _unsettled(state, at))
    state.waits.end(job.job.name)
    return is_settled


def _due_for_news(state: State, job: JobState, at: float, looked: Looked | None = None) -> Readiness:
    news = {asset for asset in job.job.inputs if state.head(asset) > job.cursors.get(asset, 0)}
    held_back = job.lacks_news(news, [asset for asset in job.job.inputs if not state.head(asset)])
    if held_back:
        return Readiness(False, (held_back,))
    if job.job.on and state.head(job.job.on) <= job.cursors.get(on_cursor(job.job.on), 0):
        return Readiness(False, (f"waits for `{job.job.on}` to change (on)",))
    moment = _moment(state, job)
    if moment > at:
        return Readiness(False, (f"waits for its moment ({job.job.schedule or 'every'})",), next_at=moment)
    looked = looked or job.answer
    if looked is not None and not looked.is_ready:
        return Readiness(False, looked.because or ("nothing is due in the data",), next_at=looked.next_at)
    found = looked.because if looked is not None else ()
    return Readiness(True, (f"news in {', '.join(sorted(news)) or 'its gate'}", *found))


def _changed_feeder(state: State, job: JobState) -> str:
    """A job that writes an input and must itself be rebuilt first; "" where none is, or it is held or paused."""
    for name in state.mapping.producers(job.job):
        feeder = state.jobs.get(name)
        if feeder is not None and feeder.phase not in (Phase.HELD, Phase.PAUSED) and _needs_rebuild(state, feeder):
            return name
    return ""


def _judge_readers(state: State, job: Job, at: float, commands: list[Command]) -> None:
    """A rebuild that readers may wait for is over, or will not happen: judge them even if nothing moved."""
    readers = {name: None for asset in job.outputs for name in state.mapping.readers.get(asset, ())}
    _judge_all(state, readers, at, commands)


def _moment(state: State, job: JobState) -> float:
    """The earliest time the job's pace lets it start: 0 where it has none."""
    definition = job.job
    if definition.schedule and state.moments is not None:
        return state.moments(definition.schedule, job.served_at)
    if definition.mode is Mode.MICROBATCH and not definition.on:
        return 0.0 if definition.name in state.drained else job.served_at + definition.every_seconds
    return 0.0


def _is_answered(state: State, job: JobState, commands: list[Command]) -> bool:
    """Whether the data has been looked at since something last happened; asks for a look where not."""
    if _needs_rebuild(state, job) or job.looking is Looking.ANSWERED:
        return True
    if job.looking is Looking.NO:
        job.looking, job.asked_in = Looking.ASKED, state.turn
        state.looking.add(job.job.name)
        commands.append(Look(job.job.name))
    return False


def _wake(state: State, job: JobState, at: float) -> None:
    if job.timer_at != at:
        job.timer_at = at
        heapq.heappush(state.timers, (at, job.job.name))


# ------------------------------------------------------------------------------------ settling of upstream


def _is_settled(state: State, job: JobState, at: float) -> bool:
    """Whether a `when: all` job's upstream has settled; begins the wait where it has not."""
    if job.condition != "all" or job.is_forced or _needs_rebuild(state, job):
        return True
    return state.waits.is_over(job.job, state.turn, _unsettled(state, at))


def _tick_off_after(state: State, upper: str, at: float, commands: list[Command]) -> None:
    """Something happened to `upper`: tick it off in the waits for it, and judge those whose wait is over."""
    job = state.jobs.get(upper)
    if job is not None and job.phase not in (Phase.RUNNING, Phase.RETRYING):
        for name in state.waits.tick_off(upper, _unsettled(state, at)):
            _judge(state, state.jobs[name], at, commands)


def _wait_anew(state: State, upper: str, at: float, commands: list[Command]) -> None:
    """`upper` is another job now, or none: the waits that counted on it begin again."""
    for name in state.waits.end_those_for(upper):
        _judge(state, state.jobs[name], at, commands)


def _unsettled(state: State, at: float) -> Unsettled:
    return lambda name, targets, begun_in: _is_unsettled(state, name, targets, begun_in, at)


def _is_unsettled(state: State, name: str, targets: Mapping[str, int], begun_in: int, at: float) -> bool:
    """Whether an upstream job is running, between retries, being looked at, or due below its targets (rule 20)."""
    job = state.jobs[name]
    if not _may_start(state, name):
        return False
    if job.phase in (Phase.RUNNING, Phase.RETRYING):
        return True
    if job.looking.is_out:
        # A no to a look that was asked since the wait began stands, whatever news came after it.
        return job.looked is None or job.looked.is_ready or job.answers_from < begun_in
    # Whether a gate has another value to take is not in its cursors: it is looked at first.
    is_below = job.job.gate is not None or any(job.cursors.get(a, 0) < targets.get(a, 0) for a in job.job.inputs)
    return is_below and job.phase is Phase.IDLE and _due(state, job, at).is_ready
