"""`Mill`: an open project, and everything that can be asked of it (see operations.py).

Rules of this file:
  * it wires operations to the machine and decides nothing: deciding is the heart's, shapes are in reports.py;
  * any thread may call; the loop has a thread of its own, and every change of its state goes through events.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec

from tidemill.core.errors import NotFound, OperatorError, TidemillError, UserError
from tidemill.core.event import Defined, Landed, Paused, Requested, Resumed, Ticked
from tidemill.core.model import Asset, AssetKind, Job, Mode
from tidemill.core.ports import Head, Receipt, RunRecord
from tidemill.project import (
    anew,
    auditing,
    backfilling,
    delivering,
    evolving,
    letters,
    living,
    nightly,
    promoting,
    querying,
    reconciling,
    reports,
    runlist,
    sides,
    wiring,
)
from tidemill.project.alarms import alarms
from tidemill.project.checking import drop_contradictions
from tidemill.project.loading import load
from tidemill.project.operations import Bound, Json, Progress
from tidemill.project.owner import Owner, acquire
from tidemill.project.reconciled import learn
from tidemill.project.replay import Asked, replay
from tidemill.project.served import ServedMachine
from tidemill.project.shadowing import Shadows
from tidemill.project.slicing import Going
from tidemill.project.undeclared import told
from tidemill.project.watching import Watch, keep_house
from tidemill.project.wiring import Machine
from tidemill.runtime.journal import as_json
from tidemill.runtime.stability import DELAY_SECONDS

__all__ = ["Mill", "open", "open_mill"]

TOLD_AFTER_RUN = ("assertion", "definition", "landing", "parked", "reconciliation", "rejected file", "reports")
"""The alarms that a run tells at its end; what became of jobs it has told already."""

_KNOWS_SECONDS_MAX = 5.0
"""How long a question waits for the loop; then it is answered from what is known, for a stuck loop must be seen."""

Events = bytes | dict[str, Any] | Iterable[dict[str, Any]]
LIVE = ("run", "watch", "serve")
"""What a project is opened for where jobs start by themselves."""


def open_mill(
    folder: str | Path,
    env: str = "",
    *,
    only: Iterable[str] = (),
    mode: str = "command",
    progress: Progress | None = None,
) -> Mill:
    """Open a project as its owner. The caller holds the project's lock (owner.py). Raises what is wrong with it.

    Opened for a "command", or for one run ("once"), no job starts unless `run` asks for it; for "run" (by a Python
    program), "watch" and "serve" what is due runs. `progress` is told of every run as long as the project is open.
    """
    definitions = load(folder, env or None)
    drop_contradictions(definitions)
    if mode in ("run", "once") or not definitions.jobs:
        definitions.check()
    starts = frozenset(only) or None
    machine = wiring.assemble(definitions, only=starts if mode in LIVE else frozenset())
    try:
        if promoting.recover(machine):
            definitions = load(folder, env or None)
            drop_contradictions(definitions)
            machine.close()
            machine = wiring.assemble(definitions, only=starts if mode in LIVE else frozenset())
        if progress is not None:
            machine.journal.listeners.append(lambda record: progress(as_json(record)))
        return Mill(machine, env, mode)
    except BaseException:
        machine.close()
        raise


def open(folder: str | Path, env: str = "") -> Mill:
    """Open a project from Python: `tm.open("flights")` gives `.emit()`, `.query()` and `.run()`.

    Raises OperatorError where another process owns the project, DefinitionError where it does not load.
    """
    owner = acquire(folder, command="python")
    if not isinstance(owner, Owner):
        raise OperatorError(
            f"process {owner.pid} owns this project ({owner.command})",
            mend="stop it, or use the command line beside it",
        )
    try:
        mill = open_mill(folder, env, mode="run")
    except BaseException:
        owner.release()
        raise
    mill.on_close = owner.release
    return mill


class Mill(ServedMachine):
    """An open project; a context manager."""

    def __init__(self, machine: Machine, env: str = "", opened_for: str = "command") -> None:
        super().__init__(machine)
        self.env = env
        self.opened_for = opened_for
        self._closing = threading.Lock()
        self._running = threading.Lock()
        self._is_closed = False
        self._watch: Watch | None = None
        self._going = Going()
        self.on_close: Callable[[], None] = lambda: None
        self.shadows = Shadows(machine, env)
        if opened_for in ("run", "watch"):
            living.forget_absent(machine)
        for event in wiring.opening_events(machine):
            machine.loop.post(event)
        sides.know_sides(machine)
        anew.recover(machine)
        self._thread = threading.Thread(target=machine.loop.run, name="tidemill-loop", daemon=True)
        self._thread.start()
        self.shadows.open(works=opened_for in LIVE)

    def __enter__(self) -> Mill:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    @property
    def folder(self) -> Path:
        """The project's folder."""
        return self.machine.definitions.folder

    # --------------------------------------------------------------------------------------- changes in

    def emit(self, asset: str, data: Events, *, source: str = "", mark: str = "") -> Json:
        """Hand events (NDJSON bytes, or dictionaries; one alone, too) to a topic; durable on return."""
        topic = self._asset(asset)
        if topic.kind is AssetKind.EXTERNAL:
            return self.touch(asset)
        if topic.kind is not AssetKind.TOPIC:
            raise UserError(f"`{asset}` is a {topic.kind.value}: events go to topics", mend="name a topic")
        if not isinstance(data, bytes):
            events = [data] if isinstance(data, dict) else data
            data = b"".join(msgspec.json.encode(event) + b"\n" for event in events)
        receipt = evolving.append(self.machine, topic, data, source=source, mark=mark)
        extra = self.machine.undeclared.look(topic, data)
        return {**self._received(asset, receipt), "warning": told(topic, extra) if extra else ""}

    def touch(self, asset: str, version: str = "") -> Json:
        """Say that an external asset changed."""
        if self._asset(asset).kind is not AssetKind.EXTERNAL:
            raise UserError(f"`{asset}` is not external", mend="give rows to emit, or land a file")
        return self._received(asset, self.machine.ledger.touch(asset, version))

    def _received(self, asset: str, receipt: Receipt) -> Json:
        if receipt.accepted:
            self.machine.loop.post(Landed(asset, Head(receipt.head), self.machine.clock.now()))
        results = [
            {"index": r.index, "status": "parked", "reason": r.reason, "column": r.column} for r in receipt.refusals
        ]
        return {
            "accepted": receipt.accepted,
            "duplicate": receipt.duplicate,
            "parked": receipt.parked,
            "head": receipt.head,
            "results": results,
        }

    def mark(self, asset: str, source: str) -> str:
        """The last mark kept for `source` with `emit`, or ""."""
        return self.machine.ledger.mark(asset, source)

    def land(self, *, waits: bool = True, trusts_all: bool = False) -> list[dict[str, Any]]:
        """List all files assets and land what is new; `waits` looks again until every file is stable.

        `trusts_all` takes files at the first look: for a caller that knows that they arrived by rename.
        """
        assets = [asset for asset in self.machine.catalog.assets.values() if asset.kind is AssetKind.FILES]
        return [self._land(asset, waits=waits, trusts_all=trusts_all) for asset in assets]

    def _land(self, asset: Asset, *, waits: bool, trusts_all: bool) -> dict[str, Any]:
        taken: list[str] = []
        rejected: dict[str, str] = {}
        while True:
            result = wiring.land_once(self.machine, asset, trusts_all=trusts_all)
            taken += result.taken
            rejected |= result.rejected
            if result.is_settled or not waits:
                return {"asset": asset.name, "taken": taken, "rejected": rejected, "settled": result.is_settled}
            threading.Event().wait(DELAY_SECONDS)

    # --------------------------------------------------------------------------------------- running

    def run(self, jobs: Sequence[str] = (), *, force: bool = False, progress: Progress | None = None) -> Json:
        """Do all that is due and stop when idle."""
        if self._watch is not None:
            self._watch.refresh()
        for name in jobs:
            self._job(name)
        counts = _Counts(progress)
        rejected: set[str] = set()
        self._tick()
        with self._running:  # one at a time: each says for itself which jobs may start
            self.machine.journal.listeners.append(counts.hear)
            try:
                for landed in self.land():
                    for reason in landed["rejected"].values():
                        counts.tell({"run": "", "job": landed["asset"], "state": "rejected", "error": reason})
                        rejected.add(reason)
                self._drain(tuple(jobs), force)
                self.shadows.settle_all()
            finally:
                self.machine.journal.listeners.remove(counts.hear)
        self.machine.journal.flush()
        with contextlib.suppress(TidemillError):  # a store that has no room is told where the work meets it
            nightly.reconcile_due(self.machine)
            delivering.tend(self.machine)
        keep_house(self.machine)
        for alarm in alarms(self.machine):
            if alarm["kind"] in TOLD_AFTER_RUN and alarm["reason"] not in rejected:
                told = {"kind": alarm["kind"], "error": alarm["reason"]}
                counts.tell({"run": "", "job": alarm["job"], "state": "alarm", **told})
        return counts.summary()

    def _drain(self, jobs: tuple[str, ...], force: bool) -> None:
        """Do all that is due of these jobs, or of all."""
        state = self.machine.loop.state
        allowed, state.only = state.only, frozenset(jobs) or None
        try:
            self.machine.loop.post(Requested(self.machine.clock.now(), jobs, force))
            self._until_idle()
        finally:
            state.only = allowed
        if jobs and allowed is None:  # what came meanwhile for the others was not judged
            now = self.machine.clock.now()
            for name, head in wiring.heads_of(self.machine, self.machine.positions()).items():
                self.machine.loop.post(Landed(name, head, now, stirs=True))

    def watch(self, stop: threading.Event) -> None:
        """Follow files, definitions and time until told to stop; what a change makes due runs at once."""
        self._tick()
        self.machine.loop.post(Requested(self.machine.clock.now()))
        self.machine.loop.when_idle()
        self._watch = Watch(self.machine, self.env, applies_at_once=self.opened_for != "serve")
        self._let_clocks_tick(True)
        others = [
            threading.Thread(target=follow, args=(self.machine, stop), name=name, daemon=True)
            for name, follow in (("tidemill-nights", nightly.follow), ("tidemill-alarms", delivering.follow))
        ]
        for thread in others:
            thread.start()
        try:
            self._watch.run(stop)
        finally:
            stop.set()  # where following has failed, nobody else says so
            self._let_clocks_tick(False)
            for thread in others:
                thread.join()

    def _tick(self) -> None:
        """Let the clock assets show the present."""
        now = self.machine.clock.now()
        for asset, head in self.machine.ticker.tick(now).items():
            self.machine.loop.post(Landed(asset, head, now))

    def _let_clocks_tick(self, is_running: bool) -> None:
        """Let the clock assets tick by themselves, or only when asked; the loop looks when the next one is due."""
        self.machine.ticker.is_running = is_running
        self.machine.loop.post(Ticked(self.machine.clock.now()))

    def _until_idle(self) -> None:
        idle = self.machine.loop.when_idle()
        while not idle.wait(0.2):
            if not self._thread.is_alive():
                raise RuntimeError("the loop ended unexpectedly")

    # --------------------------------------------------------------------------------------- asking

    def query(self, sql: str) -> list[Json]:
        """The rows of a query over assets."""
        return reports.plain_rows(self.arrow(sql))

    def arrow(self, sql: str) -> Any:
        """The rows of a query over assets, as an Arrow table."""
        return querying.answer(self.machine, sql)

    def map(self) -> list[Json]:
        """The object mapping; shadows stand in it as what they are."""
        names = ("job", "inputs", "outputs", "mode", "shadow_of")
        shadows = [{name: each[name] for name in names} for each in self.shadows.listed()]
        return [*reports.mapping(self.machine), *shadows]

    def assets(self) -> list[Json]:
        """Every asset."""
        return reports.assets(self.machine)

    def status(self) -> Json:
        """Lag and freshness per asset and job, and the alarms."""
        self._know_all()
        status = reports.status(self.machine)
        names = "job mode state lag_changes lag_seconds freshness_seconds shadow_of equal different".split()
        status["jobs"] += [{name: each[name] for name in names} for each in self.shadows.listed()]
        return status

    def runs(self, *, job: str = "", state: str = "", run: str = "", limit: int = 100) -> list[Json]:
        """Run reports, newest first. Raises NotFound for a job that there never was, UserError for an unknown state."""
        return runlist.runs(self.machine, job=job, state=state, run=run, limit=limit)

    def logs(self, run: str) -> list[str]:
        """What a run printed or logged."""
        if not self.runs(run=run, limit=1):
            raise NotFound(f"there is no run {run}", mend="list them with: tidemill runs")
        return self.machine.logs.read(run)

    def explain(self, job: str) -> Json:
        """Why a job runs, or does not."""
        self._job(job)
        self._know_all()
        self.machine.journal.flush()
        return reports.explain(self.machine, job)

    def dead(self, *, asset: str = "", limit: int = 100) -> list[Json]:
        """Dead letters: parked at the door, and parked by jobs."""
        return reports.dead_letters(self.machine, asset, limit)

    def plan(self) -> Json:
        """What would run, and how each job is maintained."""
        self._know_all()
        return reports.plan(self.machine)

    def audit(
        self, name: str = "", *, from_: Bound = 0, to: Bound = 0, repair: bool = False, progress: Progress | None = None
    ) -> Json:
        """Each reader's counts beside the log's."""
        return auditing.audit(self.machine, name, from_=from_, to=to, repair=repair, progress=progress)

    def reconcile(
        self, name: str, *, repair: bool = False, against: str = "", progress: Progress | None = None
    ) -> Json:
        """A job's rows beside what its whole inputs give, and the repair."""
        answer = reconciling.reconcile(self.machine, name, repair=repair, against=against, progress=progress)
        if not against:
            learn(self.machine, reconciling.writer_of(self.machine, name).name, answer)
        return answer

    def replay(
        self,
        job: str,
        *,
        start: str = "",
        into: str = "",
        is_dry: bool = False,
        rate: float = 0.0,
        is_abandoned: bool = False,
        progress: Progress | None = None,
    ) -> Json:
        """Do again what a job did, with its present code."""
        asked = Asked(start, into, is_dry, rate, is_abandoned)
        with self._going.one_of(job):
            run = partial(self.run, (job,), progress=progress)
            return replay(self.machine, self._job(job), asked, run, progress)

    def shadow(
        self,
        job: str,
        *,
        mode: str = "",
        sql: str = "",
        file: str = "",
        against: str = "",
        samples: int = 0,
        promote: bool = False,
        equal_for: float = 0.0,
        accept: int = 0,
        abandon: bool = False,
    ) -> Json:
        """Start, report, promote or abandon the shadow of a job."""
        kinds = {"mode": mode, "sql": file or sql, "against": against}
        asked = [kind for kind, word in kinds.items() if word]
        if len(asked) + promote + abandon > 1:
            raise UserError("one at a time", mend="start with --mode, --sql or --against; then --promote or --abandon")
        if asked:
            self._know_all()
            word = str(_mode(mode)) if mode else against or file or "query"
            return self.shadows.start(job, asked[0], word, sql)
        if promote:
            return promoting.promote(self.shadows, job, self.mode, equal_for=equal_for, accept=accept)
        flying = self.shadows.of(job)
        return self.shadows.abandon(flying) if abandon else self.shadows.report(flying, samples)

    def backfill(
        self,
        job: str,
        *,
        start: str = "",
        end: str = "",
        partitions: Sequence[str] = (),
        progress: Progress | None = None,
    ) -> Json:
        """Process what a job never processed."""
        chosen = backfilling.Chosen(start, end, tuple(partitions))
        with self._going.one_of(job):
            run = partial(self.run, (job,), progress=progress)
            return backfilling.backfill(self.machine, self._job(job), chosen, run, progress)

    def replay_dead(self, ids: Sequence[str]) -> Json:
        """Send events that were parked at the door through it again."""
        done = []
        for letter in letters.parked(self.machine, ids):
            answer, receipt = letters.replay(self.machine, letter)
            if receipt.accepted:
                self._received(letter["asset"], receipt)
            done.append(answer)
        return done

    def edit_dead(self, id: str, payload: str) -> Json:
        """Change a parked event before it is replayed."""
        return letters.edit(self.machine, id, payload)

    def discard_dead(self, ids: Sequence[str]) -> Json:
        """Let parked events count as settled without being taken."""
        return letters.discard(self.machine, ids)

    # --------------------------------------------------------------------------------------- steering

    def mode(self, job: str, word: str | None = None) -> Json:
        """The mode of a job, after overriding it where a word is given."""
        written = self._job(job)
        if word is not None:
            chosen = _mode(word)
            said = None if chosen is written.mode else {"word": str(chosen), "file": str(written.mode)}
            self.machine.ledger.note("mode", job, said)
            changed = self._overridden(written)
            self.machine.catalog.put(changed)
            self.machine.loop.post(Defined(changed, None, self.machine.clock.now()))
        now = self._overridden(written).mode
        return {"job": job, "mode": str(now), "override": now is not written.mode}

    def pause(self, job: str) -> Json:
        """Start no more runs of the job."""
        self._job(job)
        self.machine.ledger.note("paused", job, True)
        return self._tell(job, Paused(job, self.machine.clock.now()))

    def resume(self, job: str, start: str = "last") -> Json:
        """Let the job run again."""
        self._job(job)
        self.machine.ledger.note("paused", job, None)
        progress = reports.moved(self.machine, job, start) if start != "last" else None
        reports.restart_parked_count(self.machine, job)
        self.machine.watch.forget(job, "skipped")
        return self._tell(job, Resumed(job, self.machine.clock.now(), progress))

    def retry(self, job: str) -> Json:
        """Judge a held or retrying job again at once."""
        self._job(job)
        return self._tell(job, Resumed(job, self.machine.clock.now()))

    def cancel(self, run: str) -> Json:
        """Cancel a run that is going on: nothing of it is committed, and its job is paused."""
        found = self.runs(run=run, limit=1)
        if not found:
            raise NotFound(f"there is no run {run}", mend="list them with: tidemill runs --state running")
        job, state = str(found[0]["job"]), str(found[0]["state"])
        if state not in ("running", "retrying"):
            raise UserError(f"run {run} is {state}: it is over", mend="see: tidemill runs --state running")
        self.pause(job)
        self.machine.services.performer.cancelled.add(run)
        self.machine.effects.end(run)
        if state == "retrying":
            self.machine.journal.fail(run, job, "cancelled by a person", "cancelled")
        return {"run": run, "state": "cancelled"}

    def apply(self) -> Json:
        """Apply the definitions that wait for it, and let held runs go: exactly the ranges that were pinned."""
        applied = living.apply_pending(self.machine)
        held = reports.release(self.machine)
        for name in held:  # of a replay nobody but itself knows
            self.machine.loop.post(Resumed(name, self.machine.clock.now()))
        return {"applied": applied, "released": held}

    def backup(self, target: str) -> Json:
        """A consistent copy of the state, cursors included."""
        return reports.backup(self.machine, Path(target))

    def close(self) -> None:
        """Finish what runs and release everything; idempotent."""
        with self._closing:
            if self._is_closed:
                return
            self._is_closed = True
        self.shadows.close()
        self.machine.loop.stop()
        self._thread.join()
        self.machine.close()
        self.on_close()

    # --------------------------------------------------------------------------------------- helpers

    def _asset(self, name: str) -> Asset:
        return reports.found(self.machine.catalog.assets, name, "asset")

    def _job(self, name: str) -> Job:
        return reports.found(self.machine.definitions.jobs, name, "job")

    def _overridden(self, job: Job) -> Job:
        return wiring.overridden(self.machine, job, self.machine.ledger.notes("mode").get(job.name))

    def _know_all(self) -> None:
        """Wait until the loop has taken up what it was told: just after opening it may not know every job yet."""
        self.machine.loop.when_handled().wait(_KNOWS_SECONDS_MAX)

    def _tell(self, job: str, event: Paused | Resumed) -> Json:
        self.machine.loop.post(event)
        handled = self.machine.loop.when_handled()
        handled.wait()
        return {"job": job, "state": reports.job_state(self.machine, job)}


class _Counts:
    """Counts the runs that end while it listens."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._outcome: dict[str, str] = {}
        self._changes = 0

    def tell(self, said: dict[str, Any]) -> None:
        """Tell whoever follows."""
        if self._progress is not None:
            self._progress(said)

    def hear(self, record: RunRecord) -> None:
        """One report."""
        if self._progress is not None:
            self._progress(as_json(record))
        if record.state == "succeeded":
            self._changes += record.rows_out
        if record.state not in ("running", "retrying"):
            self._outcome[record.run] = record.state

    def summary(self) -> dict[str, int]:
        """The counts of the outer contract."""
        succeeded = sum(1 for state in self._outcome.values() if state == "succeeded")
        failed = len(self._outcome) - succeeded
        return {"runs": len(self._outcome), "succeeded": succeeded, "failed": failed, "changes": self._changes}


def _mode(word: str) -> Mode:
    try:
        return Mode(word)
    except ValueError:
        raise UserError(f"`{word}` is not a mode", mend="use realtime, microbatch or batch") from None
