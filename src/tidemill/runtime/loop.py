"""The loop: events come in, the heart decides, commands go to workers, their outcomes come back as events.

Rules of this file:
  * `handle` is the only caller of `step`, and is called by one thread at a time;
  * a worker never touches the state: it performs one command and posts one event;
  * an outcome is posted whatever happened, so a job can never stay `running` for ever.

Theory of operation. `post` puts an event on a queue from any thread; `run` takes events off and handles them, waking at
the heart's next moment. `Start` and `Look` commands are given to `Workers` (threads in production, a deterministic list
in the simulator) in one of three lanes: `tables` (one thread: short transactions on the tables store, grouped into one
commit when several wait), `batch` (a few threads: long work on snapshots) and `outside` (many threads: waiting on the
outside world).
"""

from __future__ import annotations

import functools
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol, TypeVar

from tidemill.core.errors import DefinitionError, TidemillError
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
    Readiness,
    Start,
    Ticked,
)
from tidemill.core.model import Home, Mode, OnError, Takes
from tidemill.core.orchestrate import Phase, State, step
from tidemill.core.ports import Clock, Progress
from tidemill.core.retry import Failure, failure_of
from tidemill.runtime.look import Looker
from tidemill.runtime.outside import Outside, Pin, RunWaits
from tidemill.runtime.perform import Done, Performer
from tidemill.runtime.poison import is_of_transform, perform_without_poison
from tidemill.runtime.ticking import Ticker

__all__ = ["Journal", "Lane", "Loop", "Services", "Workers"]


class Lane:
    """Where a command is carried out."""

    TABLES = "tables"
    BATCH = "batch"
    OUTSIDE = "outside"


T = TypeVar("T")
Task = Callable[[], None]
Listener = Callable[[], bool]

_STATES = {Failure.WAITS: "held", Failure.CANCELLED: "cancelled"}
"""What a run that will not be tried again is called, where it is not simply failed."""


class Workers(Protocol):
    """Carries out tasks. Lane `tables` runs one task at a time, in order."""

    def submit(self, lane: str, task: Task, *, priority: int = 0) -> None:
        """Run the task soon; more urgent priorities first within a lane."""


class Journal(Protocol):
    """Keeps the reports of runs; never asked for the truth."""

    def begin(self, start: Start) -> str:
        """A run begins (or is tried again): returns its id."""

    def end(self, run: str, start: Start, done: Done) -> None:
        """A run was committed."""

    def fail(self, run: str, job: str, error: str, state: str) -> None:
        """An attempt failed; `state` is what the heart made of it: retrying, held or failed."""

    def alert(self, alert: Alert) -> None:
        """A person should know this."""


@dataclass(slots=True)
class Services:
    """What the loop needs to carry commands out."""

    performer: Performer
    outside: Outside
    looker: Looker
    journal: Journal
    clock: Clock
    jitter: Callable[[], float]
    counts_from: Callable[[str], int] = lambda _job: 0
    ticker: Ticker | None = None


def _taken_from(waiting: queue.SimpleQueue[T]) -> Iterator[T]:
    """Everything that waits now; each item goes to one of the threads that ask."""
    while True:
        try:
            yield waiting.get(block=False)
        except queue.Empty:
            return


@dataclass(frozen=True, slots=True)
class _Mark:
    """A place in the queue of events that somebody waits for."""

    waits_idle: bool
    reached: threading.Event = field(default_factory=threading.Event)


@dataclass(frozen=True, slots=True)
class _Listens:
    """Somebody wants to hear when logs move."""

    hear: Listener


class Loop:
    """One loop over one state."""

    def __init__(self, state: State, services: Services, workers: Workers) -> None:
        self.state = state
        self._services = services
        self._workers = workers
        self._events: queue.SimpleQueue[Event | _Mark | _Listens | None] = queue.SimpleQueue()
        self._waiting: list[threading.Event] = []
        self._listeners: list[Listener] = []
        self._lane: list[tuple[Start, str]] = []
        self._acting: queue.SimpleQueue[tuple[Start, str]] = queue.SimpleQueue()

    def post(self, event: Event) -> None:
        """Hand in an event from any thread."""
        self._events.put(event)

    def stop(self) -> None:
        """Make `run` return after the event it is handling; runs that go on are finished by their workers."""
        self._events.put(None)

    def when_handled(self) -> threading.Event:
        """An event that is set once everything posted before is handled."""
        mark = _Mark(waits_idle=False)
        self._events.put(mark)
        return mark.reached

    def when_idle(self) -> threading.Event:
        """An event that is set once everything posted before is handled and nothing runs, retries or is looked at."""
        mark = _Mark(waits_idle=True)
        self._events.put(mark)
        return mark.reached

    def listen(self, hear: Listener) -> None:
        """Call `hear` on the loop's own thread: once soon, then whenever a log has moved, until it returns False.

        It must not block; the state does not change while it looks at it.
        """
        self._events.put(_Listens(hear))

    def run(self) -> None:
        """Handle events until stopped."""
        while (event := self._next()) is not None:
            if isinstance(event, _Listens):
                self._listeners += [event.hear] if event.hear() else []
            elif not isinstance(event, _Mark):
                self.handle(event)
                if isinstance(event, Landed | Finished) and self._listeners:
                    self._listeners = [hear for hear in self._listeners if hear()]
            elif event.waits_idle:
                self._waiting.append(event.reached)
            else:
                event.reached.set()

    def _next(self) -> Event | _Mark | _Listens | None:
        try:
            return self._events.get(block=False)
        except queue.Empty:
            self._say_idle()
        at = self._next_at()
        wait = None if at is None else max(0.0, at - self._services.clock.now())
        try:
            return self._events.get(timeout=wait)
        except queue.Empty:
            return Ticked(self._services.clock.now())

    def _next_at(self) -> float | None:
        """When the heart or a clock asset wants to hear of time (seconds); None where nobody waits for it."""
        ticker = self._services.ticker
        moments = (self.state.next_at(), ticker.next_at() if ticker is not None else None)
        return min((at for at in moments if at is not None), default=None)

    def _say_idle(self) -> None:
        if self._waiting and not self.state.is_busy:
            self.handle(Drained(self._services.clock.now()))
            for idle in self._waiting:
                idle.set()
            self._waiting.clear()

    def handle(self, event: Event) -> None:
        """Take one event into account and send off what it asks for."""
        if isinstance(event, Ticked):
            self._let_clocks_tick(event.at)
        try:
            commands = step(self.state, event)
        except DefinitionError as error:  # the old definition stays, and a person is told (rule 24)
            name = event.job.name if isinstance(event, Defined) else ""
            self._services.journal.alert(Alert("definition", name, str(error), self._services.clock.now()))
            return
        if isinstance(event, Failed) and event.failure is not Failure.CONFLICT:
            self._services.journal.fail(event.run, event.job, event.reason, self._outcome(event))
        for command in commands:
            self._carry_out(command)

    def _let_clocks_tick(self, now: float) -> None:
        ticker = self._services.ticker
        if ticker is not None and ticker.is_due(now):
            ticker.expect(now)
            self._workers.submit(Lane.TABLES, functools.partial(self._tick, ticker, now))

    def _tick(self, ticker: Ticker, now: float) -> None:
        try:
            heads = ticker.tick(now)
        except Exception as error:  # noqa: BLE001 - a tick that fails is told; the next one makes up for it
            self._services.journal.alert(Alert("clock", "", str(error), now))
            return
        for asset, head in heads.items():
            self.post(Landed(asset, head, now))

    def _outcome(self, event: Failed) -> str:
        job = self.state.jobs.get(event.job)
        if job is not None and job.phase is Phase.RETRYING:
            return "retrying"
        return _STATES.get(event.failure, "failed")

    def _carry_out(self, command: Command) -> None:
        if isinstance(command, Start):
            self._start(command)
        elif isinstance(command, Look):
            self._workers.submit(Lane.BATCH, lambda: self._look(command))
        else:
            self._tell(command)

    def _tell(self, alert: Alert) -> None:
        """A person should know; what failed without a run stands among the runs all the same."""
        journal = self._services.journal
        journal.alert(alert)
        if alert.is_failure:
            start = Start(alert.job, 1, Readiness(False, (alert.reason,)), alert.at)
            journal.fail(journal.begin(start), alert.job, alert.reason, "failed")

    # ------------------------------------------------------------------------------------------ starting

    def _start(self, start: Start) -> None:
        run = self._services.journal.begin(start)
        lane = self._lane_of(start)
        if lane == Lane.OUTSIDE and self._is_outside(start.job):
            self._acting.put((start, run))
            self._workers.submit(Lane.OUTSIDE, self._act_waiting, priority=start.priority)
            return
        if lane != Lane.TABLES:
            self._workers.submit(
                lane, lambda: self._perform_alone(start, run, exclusive=False), priority=start.priority
            )
            return
        self._lane.append((start, run))
        self._workers.submit(Lane.TABLES, self._perform_waiting, priority=start.priority)

    def _lane_of(self, start: Start) -> str:
        job = self._services.performer.catalog.jobs[start.job]
        if self._is_outside(start.job):
            return Lane.OUTSIDE
        if job.takes is not Takes.SQL:
            return Lane.OUTSIDE
        return Lane.BATCH if job.mode is Mode.BATCH or start.is_rebuild else Lane.TABLES

    def _is_outside(self, name: str) -> bool:
        job = self._services.performer.catalog.jobs[name]
        return job.is_outside or job.materialized == "extract"

    def _act_waiting(self) -> None:
        """Begin every run with outside effects that waits: their ranges are pinned in one commit."""
        waiting = list(_taken_from(self._acting))
        pins = self._services.outside.pin_together([start for start, _ in waiting]) if len(waiting) > 1 else {}
        for start, run in waiting:
            task = functools.partial(self._act, start, run, pins.get(start.job))
            if (start, run) == waiting[-1]:
                task()
            else:
                self._workers.submit(Lane.OUTSIDE, task, priority=start.priority)

    def _act(self, start: Start, run: str, pin: Pin | None) -> None:
        try:
            done = self._services.outside.perform(start, run, pin)
        except BaseException as error:
            self._fail(start, run, error)
            if not isinstance(error, Exception):
                raise
        else:
            self._finish(start, run, done)

    def _perform_waiting(self) -> None:
        """Perform every start that waits for the tables lane: in one commit if all succeed, else each alone."""
        waiting, self._lane = self._lane, []
        groups: dict[Home, list[tuple[Start, str]]] = {}
        for start, run in waiting:
            job = self._services.performer.catalog.jobs.get(start.job)
            groups.setdefault(job.home if job is not None else Home.TABLES, []).append((start, run))
        for home, group in groups.items():
            if len(group) > 1 and self._perform_group(home, group):
                continue
            for start, run in group:
                self._perform_alone(start, run, exclusive=True)

    def _perform_group(self, home: Home, group: Sequence[tuple[Start, str]]) -> bool:
        performer = self._services.performer
        transaction = performer.stores[home].begin()
        try:
            done = [performer.join(start, run, transaction) for start, run in group]
            heads = transaction.commit()
        except Exception:  # noqa: BLE001 - whatever it was, it will show again when each run is performed alone
            return False
        finally:
            transaction.rollback()
        for (start, run), outcome in zip(group, done, strict=True):
            own = {asset: heads[asset] for asset in performer.catalog.jobs[start.job].outputs if asset in heads}
            self._finish(start, run, replace(outcome, heads=own))
        return True

    def _perform_alone(self, start: Start, run: str, *, exclusive: bool) -> None:
        try:
            done = self._perform(start, run, exclusive=exclusive)
        except BaseException as error:
            self._fail(start, run, error)
            if not isinstance(error, Exception):
                raise
        else:
            self._finish(start, run, done)

    def _perform(self, start: Start, run: str, *, exclusive: bool) -> Done:
        services = self._services
        try:
            return services.performer.perform(start, run, exclusive=exclusive)
        except Exception as error:
            job = services.performer.catalog.jobs[start.job]
            if not is_of_transform(error):
                raise
            if job.on_error is OnError.PARK:
                return perform_without_poison(services.performer, start, run, error, services.counts_from(start.job))
            if not start.may_take_news:
                raise
            return self._perform_at_heads(start, run, error, exclusive=exclusive)

    def _perform_at_heads(self, start: Start, run: str, original: Exception, *, exclusive: bool) -> Done:
        """A rebuild that met a bad row at its cursors: what came since may have mended it. Else raises `original`."""
        onward = replace(start, takes_news=True)
        try:
            return self._services.performer.perform(onward, run, exclusive=exclusive)
        except Exception as error:
            if is_of_transform(error):
                raise original from error
            raise

    # ------------------------------------------------------------------------------------------ outcomes

    def _finish(self, start: Start, run: str, done: Done) -> None:
        self._services.journal.end(run, start, done)
        self.post(Finished(start.job, done.progress, done.heads, self._services.clock.now()))

    def _fail(self, start: Start, run: str, error: BaseException) -> None:
        failure = Failure.WAITS if isinstance(error, RunWaits) else failure_of(error)
        reason = str(error) if isinstance(error, TidemillError) else f"{type(error).__name__}: {error}"
        progress = self._progress(start.job) if failure is Failure.CONFLICT else None
        now = self._services.clock.now()
        self.post(Failed(start.job, run, failure, reason, now, self._services.jitter(), progress))

    def _progress(self, name: str) -> Progress | None:
        job = self._services.performer.catalog.jobs[name]
        transaction = self._services.performer.stores[job.home].begin(exclusive=False)
        try:
            return transaction.progress(name)
        finally:
            transaction.rollback()

    def _look(self, command: Look) -> None:
        now = self._services.clock.now()
        try:
            answer = self._services.looker.look(command.job, now)
        except Exception as error:  # noqa: BLE001 - a look that fails is told and tried again, it never stops the loop
            answer = Looked(command.job, False, now, because=(f"looking failed: {error}",), next_at=now + 1.0)
        self.post(answer)
