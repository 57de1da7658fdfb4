"""Playing a history: each action does what its words say, and at the end everything that was in the way is removed.

Rules of this file:
  * hints may be lost or doubled; outcomes are only ever lost with their process;
  * a process that dies is started anew at once, from the site alone;
  * what a history did to the sources is remembered here, apart from what the stores say (`Site.emitted`).

Theory of operation. `play` goes through the actions. `heal` is the end of every history: the world calms down, a good
row arrives everywhere without anybody being told, the owner looks around as it does from time to time, and time passes
until nothing wants it any more. After that only definitions may still hold something back, and the oracle knows which.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

from tidemill.core.effect import pinned_key
from tidemill.core.event import Drained, Landed, Paused, Requested, Resumed
from tidemill.core.model import Home
from tidemill.core.orchestrate import JobState, Phase
from tidemill.core.ports import Head
from tidemill.runtime.gate import LetGo
from tidemill.testing.simulator import words
from tidemill.testing.simulator.definitions import asset_of
from tidemill.testing.simulator.fate import Died
from tidemill.testing.simulator.machine import HOUR, Machine
from tidemill.testing.simulator.outside import MemoryLog, Site
from tidemill.testing.simulator.transforms import raises
from tidemill.testing.simulator.words import History, SourceSpec

__all__ = ["MachineFactory", "Player", "Restless"]

MachineFactory = Callable[[Site], Machine]
STEPS_MAX = 3_000
SENDINGS_MAX = 20
HOLDS_MAX = 200
"""How often in the end a person is asked about a run that touches too much."""
TIMES = {"once": 1, "lost": 0, "twice": 2}


class Restless(AssertionError):
    """Something goes on for ever although nothing new happens."""


class Player:
    """Plays one history."""

    def __init__(
        self, history: History, factory: MachineFactory = Machine, check: Callable[[Player], None] | None = None
    ) -> None:
        self.history = history
        self.factory = factory
        self.check = check
        self.site = Site()
        self.site.sources = {source.name: source for source in history.sources}
        self.site.jobs = {spec.name: spec for spec in history.jobs}
        self.machine = factory(self.site)
        self.old: Machine | None = None
        self.names = [source.name for source in history.sources]
        self.unacknowledged: list[tuple[SourceSpec, Sequence[object], str]] = []

    def play(self) -> None:
        """All actions, then the healing."""
        for action in self.history.actions:
            self._survive(lambda: self._do(action))  # noqa: B023 - called at once
        self.heal()

    def _survive(self, step: Callable[[], object]) -> None:
        """Do something; a process that dies of it is started anew."""
        try:
            step()
        except Died:
            self.restart()

    def restart(self) -> None:
        """The process is gone; the next one finds the site."""
        self.old = None
        self.machine = self.factory(self.site)
        waiting, self.unacknowledged = self.unacknowledged, []
        for source, events, told in waiting:
            self._send_until_acknowledged(source, events, told)
        self.check_moment()

    def check_moment(self) -> None:
        """What must be true at every moment is true at this one."""
        if self.check is not None:
            self.check(self)

    def _do(self, action: words.Action) -> None:
        handler: Callable[[words.Action], None] = getattr(self, f"_{type(action).__name__.lower()}")
        handler(action)

    # -------------------------------------------------------------------------------------------- the sources

    def _emit(self, action: words.Emit) -> None:
        source = self.site.sources.get(action.topic)
        if source is None:
            return
        is_upsert = source.kind == "upsert"
        events = [_event(row, is_upsert, self.site.now) for row in action.rows]
        self.site.emitted.setdefault(action.topic, []).extend(action.rows)
        if source.has_ids:
            sent = self.site.sent.setdefault(action.topic, [])
            named = [{**event, "id": f"e{len(sent) + number}"} for number, event in enumerate(events)]
            sent.extend(named)
            self._send_until_acknowledged(source, named, action.told)
        else:
            self._take(self.machine.log, source, events, action.told)

    def _send_until_acknowledged(self, source: SourceSpec, events: Sequence[object], told: str) -> None:
        """What a careful sender does: where no answer came, it cannot know, and sends the same again."""
        for _ in range(SENDINGS_MAX):
            try:
                self._take(self.machine.door, source, events, told)
            except OSError:
                continue
            except Died:
                self.unacknowledged.append((source, events, told))
                raise
            return
        raise Restless(f"{source.name}: nothing could be sent in {SENDINGS_MAX} tries")

    def _take(self, log: MemoryLog, source: SourceSpec, events: Sequence[object], told: str) -> None:
        lines = [json.dumps(event) for event in events]
        receipt = log.append(asset_of(source), "\n".join(lines).encode())
        for _ in range(TIMES[told] if receipt.accepted else 0):
            self.machine.loop.post(Landed(source.name, Head(receipt.head), self.site.now))

    def _sendagain(self, action: words.SendAgain) -> None:
        source, sent = self.site.sources.get(action.topic), self.site.sent.get(action.topic, [])
        if source is not None and sent:
            self._send_until_acknowledged(source, sent[-action.events :], action.told)

    def _touch(self, action: words.Touch) -> None:
        if action.asset in self.site.sources:
            receipt = self.machine.log.touch(action.asset, f"touch-{self.site.number()}")
            for _ in range(TIMES[action.told]):
                self.machine.loop.post(Landed(action.asset, Head(receipt.head), self.site.now))

    def _putfile(self, action: words.PutFile) -> None:
        if action.asset in self.site.sources:
            files = self.site.files.setdefault(action.asset, {})
            files[action.day, action.store] = (self.site.number(), action.rows)

    def _removefile(self, action: words.RemoveFile) -> None:
        self.site.files.get(action.asset, {}).pop((action.day, action.store), None)

    def _lookatfiles(self, action: words.LookAtFiles) -> None:
        if action.asset in self.site.sources:
            for _ in range(action.looks):
                with suppress(OSError):
                    self.machine.land(action.asset, TIMES[action.told])

    # ------------------------------------------------------------------------------------------- the process

    def _pass(self, action: words.Pass) -> None:
        self.site.now += action.seconds
        self.machine.tick()

    def _go(self, action: words.Go) -> None:
        for pick in action.picks:
            process = self.old if action.is_old else self.machine
            if process is not None:
                (process.work if pick % 2 else process.hear)(pick // 2)

    def _settle(self, _action: words.Settle) -> None:
        self.settle()

    def _crash(self, _action: words.Crash) -> None:
        raise Died

    def _doom(self, action: words.Doom) -> None:
        self.machine.fate.coming.append((action.home, action.is_after, action.commits, True))

    def _stumble(self, action: words.Stumble) -> None:
        self.machine.fate.coming.append((action.home, action.is_after, action.commits, False))

    def _trouble(self, action: words.Trouble) -> None:
        self.site.troubles[action.job] = action.calls

    def _meanwhile(self, action: words.Meanwhile) -> None:
        machine = self.machine

        def interlude() -> None:
            if action.action is not None:
                self._do(action.action)
            else:
                machine.work(action.pick)

        machine.interludes.append(interlude)

    def _resync(self, _action: words.Resync) -> None:
        self.machine.resync()

    def _trim(self, _action: words.Trim) -> None:
        self.machine.trim()

    def _expire(self, action: words.Expire) -> None:
        with suppress(OSError):
            self.machine.expire(action.share)

    def _secondowner(self, _action: words.SecondOwner) -> None:
        self.old, self.machine = self.machine, self.factory(self.site)

    # -------------------------------------------------------------------------------------------- the people

    def _define(self, action: words.Define) -> None:
        if all(spec.output != action.spec.output or name == action.spec.name for name, spec in self.site.jobs.items()):
            self.machine.define(action.spec)

    def _rename(self, action: words.Rename) -> None:
        if self.site.jobs.pop(action.before, None) is None:
            return
        self.site.first_seen.pop(action.before, None)
        self.site.paused.discard(action.before)
        self.machine.forget(action.before)
        self.machine.define(action.spec)

    def _pause(self, action: words.Pause) -> None:
        if action.job in self.site.jobs:
            self.site.paused.add(action.job)
            self.machine.loop.post(Paused(action.job, self.site.now))

    def _resume(self, action: words.Resume) -> None:
        if action.job in self.site.jobs:
            self.site.paused.discard(action.job)
            self.machine.loop.post(Resumed(action.job, self.site.now))

    def _apply(self, _action: words.Apply) -> None:
        with suppress(OSError):
            self.let_go()

    def let_go(self) -> None:
        """Let everything go that is held now, durably (as `tidemill apply`)."""
        progress = self.machine.positions()[Home.LEDGER].progress
        for name, job in self.machine.loop.state.jobs.items():
            late = self._held_late(name, job)
            if late:
                self.site.let_go[name] = late
            if job.phase is Phase.HELD and name in progress and progress[name].pinned is not None:
                self.site.released.add(pinned_key(progress[name]))
            if late or job.phase is Phase.HELD:
                self.machine.loop.post(Resumed(name, self.site.now))

    def _held_late(self, name: str, job: JobState) -> LetGo:
        holds = job.job.gate is not None and job.job.gate.on_late == "hold"
        return self.machine.services.looker.held_late(name) if holds else {}

    def _ask(self, _action: words.Ask) -> None:
        self.machine.loop.post(Requested(self.site.now))

    # --------------------------------------------------------------------------------------------- the end

    def settle(self) -> None:
        """Do everything that waits, in order, while no time passes."""
        for _ in range(STEPS_MAX):
            machine = self.machine
            if not (machine.hear() or machine.work() or machine.tick()):
                return
        raise Restless(f"still busy after {STEPS_MAX} steps: {self._busy()}")

    def _busy(self) -> str:
        state = self.machine.loop.state
        return ", ".join(f"{name} is {state.jobs[name].phase}: {state.jobs[name].reason}" for name in state.active)

    def heal(self) -> None:
        """Remove everything that was in the way, and let all of it happen."""
        self.old = None
        self.site.troubles.clear()
        self.machine.fate.coming.clear()
        self.machine.interludes.clear()
        self.check_moment()
        self.settle()
        for name in sorted(self.site.paused):
            self._resume(words.Resume(name))
        for source in self.site.sources.values():
            self._send_good_row(source)
        self._look_around()
        self.let_go()
        self.let_time_pass()
        self.machine.loop.post(Requested(self.site.now))
        self.let_time_pass()
        # A run that was tried again until now released its value as it was at first: its late rows are asked about now.
        self.let_go()
        self.let_time_pass()
        self._let_all_go()
        self._uncap()
        self._let_all_go()

    def _let_all_go(self) -> None:
        """Each run that touches too much outside waits for a person, who lets one go after the other."""
        for _ in range(HOLDS_MAX):
            held = [name for name, job in self.machine.loop.state.jobs.items() if job.phase is Phase.HELD]
            if not any(self.site.jobs[name].takes == "run" for name in held):
                return
            self.let_go()
            self.let_time_pass()
        raise Restless(f"still held after {HOLDS_MAX} times: {held}")

    def _look_around(self) -> None:
        for source in self.site.sources.values():
            if source.kind == "files":
                self.machine.land(source.name, 0)
                self.machine.land(source.name, 0)
        self.machine.resync()
        self.machine.loop.post(Requested(self.site.now))
        self.settle()

    def let_time_pass(self) -> None:
        """Go from moment to moment until nothing waits for one, or only the clock's own (schedules)."""
        ends_at = self.site.now + 100 * HOUR
        for _ in range(STEPS_MAX):
            self.settle()
            at = self.machine.loop.state.next_at()
            if at is None or at > ends_at:
                break
            self.site.now = max(self.site.now, at)
        self.site.now = max(self.site.now, ends_at)
        self.settle()
        if not self.machine.loop.state.is_busy:
            self.machine.loop.handle(Drained(self.site.now))
        self.settle()

    def _uncap(self) -> None:
        """A job that takes a few changes at a time may meet only bad ones: it is broken until it may take more."""
        held = [name for name, job in self.machine.loop.state.jobs.items() if job.phase is Phase.HELD]
        capped = [self.site.jobs[name] for name in held if self.site.jobs[name].max_changes]
        for spec in capped:
            self.machine.define(replace(spec, max_changes=0))
        if capped:
            self.let_time_pass()

    def force(self, jobs: list[str]) -> None:
        """`tidemill run --force` of jobs that are not due by their own definition."""
        self._uncap()
        self.machine.loop.post(Requested(self.site.now, tuple(jobs), is_forced=True))
        self.settle()
        self.machine.loop.handle(Drained(self.site.now))
        self.settle()
        self._let_all_go()

    def _send_good_row(self, source: SourceSpec) -> None:
        """A row that no reader of the source refuses, without telling anybody."""
        readers = [spec for spec in self.site.jobs.values() if source.name in spec.inputs]
        good = next(v for v in range(100, 200) if not any(raises(spec, ("z", v)) for spec in readers))
        if source.kind == "external":
            self._touch(words.Touch(source.name, "lost"))
        elif source.kind == "files":
            self._mend_files(source.name)
            for store in source.members or ("s1",):
                self._putfile(words.PutFile(source.name, "2024-03-01", store, (("z", good),)))
        else:
            self._emit(words.Emit(source.name, (("z", good, 1_000),), "lost"))

    def _mend_files(self, asset: str) -> None:
        for (day, store), (_, rows) in list(self.site.files.get(asset, {}).items()):
            if rows is None:
                self._putfile(words.PutFile(asset, day, store, (("m", 1),)))


def _event(row: tuple[str, int | None, int], is_upsert: bool, now: float) -> dict[str, object]:
    k, v, third = row
    if not is_upsert:
        return {"k": k, "v": v, "at": now + third}
    return {"k": k, "v": v, "n": third, **({"_deleted": True} if v is None else {})}
