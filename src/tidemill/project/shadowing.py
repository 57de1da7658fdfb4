"""Shadows of an open project: started, worked at beside the live jobs, reported, and let go without a trace.

Rules of this file:
  * what there is of a shadow is noted in the ledger before anything of it is made, and forgotten after all of it is gone;
  * who works at a shadow holds `lock`, however long a comparison takes; who asks what was found waits for no work, only for
    figures that are being written down (`_writing`, taken after `lock`, never the other way round);
  * it works when the live jobs rest, and rests itself `REST_FACTOR` times as long as it worked;
  * what goes wrong with it is said in its report and tried again later; no alarm, no run, no reader hears of it.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from tidemill.core.errors import Conflict, NotFound, RunCancelled, TidemillError, UserError
from tidemill.core.model import Job, Mode, Takes
from tidemill.core.ports import RunRecord
from tidemill.project import reconciling
from tidemill.project.operations import Json
from tidemill.project.pilot import TOPIC, Pilot
from tidemill.project.reports import found, plain
from tidemill.project.shadowjobs import SAMPLES, Made, check_shadowable, made
from tidemill.project.wiring import Machine
from tidemill.runtime.compare import Comparison
from tidemill.runtime.hidden import hidden, of_hidden
from tidemill.runtime.parking import parked_asset
from tidemill.runtime.shadow import Compared, Stepped

__all__ = ["Flying", "Shadows"]

REST_FACTOR = 50
"""So many times as long as a step took the shadow rests: what it costs the live jobs has a bound."""
REST_SECONDS = 0.05
"""How long it rests at least."""
PATIENCE_SECONDS = 2.0
"""How long a step waits for the live jobs to rest; under load that never ends it works all the same."""
SAVE_SECONDS = 5.0
"""How often figures are kept where nothing else is new."""
KEEP_HOUSE_SECONDS = 60.0
AGAIN_SECONDS_MAX = 60.0
STEPS_MAX = 1_000
CUT_AGAIN_SECONDS = 0.05


@dataclass(slots=True)
class Flying:
    """A shadow at work. `basis` is what it was made from: where that is another, it is made anew."""

    pilot: Pilot
    live: Job
    made: Made | None
    basis: object = None
    moved_at: float | None = None
    served_at: float = 0.0
    rest_until: float = 0.0
    failures: int = 0
    saved_at: float = 0.0
    kept_house_at: float = 0.0
    seen: object = None


class Shadows:
    """All shadows of one open project. Any thread may call; one at a time works, and holds `lock`."""

    def __init__(self, machine: Machine, env: str) -> None:
        self.machine = machine
        self.env = env
        self.lock = threading.RLock()
        self._writing = threading.Lock()
        self._flying: dict[str, Flying] = {}
        self._heard: deque[RunRecord] = deque()
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._numbers = itertools.count(1)
        self._works = False

    # Opening and closing.

    def open(self, *, works: bool) -> None:
        """Take up the shadows that are noted; where the project works by itself, they do too."""
        self._works = works
        for note in self.machine.ledger.notes(TOPIC).values():
            self._take_up(Pilot.of_note(note))
        if self._flying:
            self._begin()

    def close(self) -> None:
        """Stop working; what was found is kept."""
        self._stop.set()
        self._wake.set()
        self._cut_short()
        while self._thread is not None and self._thread.is_alive():
            self._thread.join(CUT_AGAIN_SECONDS)
            self._cut_short()
        with self.lock:
            for flying in self._flying.values():
                with suppress(TidemillError):  # figures of a few seconds, at most
                    self.keep(flying)
                self._land(flying)

    def _cut_short(self) -> None:
        """End comparisons that go on: one may take as long as a rebuild, and is made again another time."""
        for flying in list(self._flying.values()):
            if flying.made is not None:
                flying.made.shadow.cut.cut()

    def _take_up(self, pilot: Pilot) -> Flying:
        live = self.machine.catalog.jobs.get(pilot.job)
        flying = Flying(pilot, live or Job(pilot.job, (), (pilot.output,), Takes.SQL, "", ""), None)
        self._flying[pilot.job] = flying
        self._make(flying)
        return flying

    def _begin(self) -> None:
        """Listen to what the live jobs do, and work beside them where the project works by itself."""
        if self.hear not in self.machine.journal.listeners:
            self.machine.journal.listeners.append(self.hear)
        if self._works and self._thread is None:
            self.machine.loop.listen(self._hear_news)
            self._thread = threading.Thread(target=self._work, name="tidemill-shadow", daemon=True)
            self._thread.start()
        self._wake.set()

    def hear(self, record: RunRecord) -> None:
        """A run was reported: of a job that has a shadow, it is news."""
        if record.state == "succeeded" and record.job in self._flying:
            self._heard.append(record)
            self._wake.set()

    def _hear_news(self) -> bool:
        self._wake.set()
        return not self._stop.is_set()

    # Making.

    def _make(self, flying: Flying) -> None:
        """Make the shadow from the definitions as they are; what is wrong is kept in the pilot."""
        pilot, live = flying.pilot, self.machine.catalog.jobs.get(flying.pilot.job)
        self._land(flying)
        if live is None:
            return
        flying.live = live
        try:
            check_shadowable(self.machine, live)
            flying.made = made(self.machine, self.env, pilot, live) if pilot.kind != "against" else None
        except TidemillError as error:
            pilot.error = str(error)
            return
        flying.basis = self._basis(flying)
        if flying.made is not None:
            job, catalog = flying.made.shadow.job, flying.made.shadow.catalog
            self.machine.beside[pilot.job] = job, catalog
            known = self.machine.tables.positions().progress.get(job.name)
            flying.served_at = known.served_at if known is not None else 0.0

    def _basis(self, flying: Flying) -> object:
        live = self.machine.catalog.jobs.get(flying.pilot.job)
        inputs = flying.made.shadow.job.inputs if flying.made is not None else ()
        assets = self.machine.catalog.assets
        return live, tuple(assets.get(name) for name in (*(live.inputs if live else ()), *inputs))

    def _land(self, flying: Flying) -> None:
        if flying.made is not None:
            flying.made.close()
            flying.made = None
        self.machine.beside.pop(flying.pilot.job, None)

    def refresh(self) -> None:
        """Make anew what was made from other definitions; a shadow of a job that is gone goes too."""
        for flying in list(self._flying.values()):
            name = flying.pilot.job
            if name not in self.machine.catalog.jobs and not self.machine.definitions.problems:
                self.forget(flying)
            elif self._basis(flying) != flying.basis:
                flying.pilot.error = ""
                self._make(flying)

    # Asking and steering.

    def of(self, job: str) -> Flying:
        """The shadow of a job. Raises NotFound."""
        found(self.machine.definitions.jobs, job, "job")
        flying = self._flying.get(job)
        if flying is None:
            raise NotFound(f"job `{job}` has no shadow", mend=f"start one: tidemill shadow {job} --mode realtime")
        return flying

    def start(self, job: str, kind: str, word: str, sql: str = "") -> Json:
        """Start a shadow, durably; it is built and compared at once where the live job has run."""
        live = found(self.machine.catalog.jobs, job, "job")
        with self.lock:
            if job in self._flying:
                raise UserError(
                    f"job `{job}` has a shadow already",
                    mend=f"look at it: tidemill shadow {job}; let it go: tidemill shadow {job} --abandon",
                )
            check_shadowable(self.machine, live)
            pilot = Pilot(job, kind, word, live.outputs[0], self.machine.clock.now(), sql)
            if kind == "against":
                found(self.machine.catalog.assets, word, "asset")
            elif kind == "mode" and Mode(word) is live.mode:
                raise UserError(f"job `{job}` is in mode {word} already", mend="name another mode")
            if kind != "against":
                made(self.machine, self.env, pilot, live).close()  # what is wrong with it is said before it is kept
            self.machine.ledger.note(TOPIC, job, pilot.note())
            flying = self._take_up(pilot)
            self._begin()
            self.settle(flying)
            return self.report(flying)

    def abandon(self, flying: Flying) -> Json:
        """Let a shadow go, and everything of it."""
        with self.lock:
            self.forget(flying)
        return {"job": flying.pilot.job, "abandoned": True}

    def forget(self, flying: Flying) -> None:
        """Forget a shadow: what there is of it goes, then its note, so that a crash between leaves nothing unknown."""
        name = flying.pilot.job
        self._flying.pop(name, None)
        self._land(flying)
        forget(self.machine, flying.pilot)

    def report(self, flying: Flying, samples: int = 0) -> Json:
        """What was found so far; `samples` asks for so many differing rows, looked up now where the cursors are equal."""
        self._take_heard()
        pilot = flying.pilot
        looked = self._looked(flying, samples) if samples else None
        lag = self._lag(flying)
        with self._writing:
            kept = pilot.note()
            names = ("job", "kind", "word", "started_at", "compared_at", "equal_since", "compared", "unequal")
            return {
                **{name: kept[name] for name in names},
                "equal": bool(pilot.equal),
                "rows": pilot.rows,
                "different": pilot.differing,
                "counts": {"shadow_only": pilot.missing, "live_only": pilot.extra, "changed": pilot.different},
                "different_most": pilot.different_most,
                "columns": pilot.columns,
                "samples": _shown(looked.rows) if looked is not None else pilot.samples,
                "lag_changes": lag,
                "parked": pilot.parked,
                "error": pilot.error,
                "live": pilot.live.shown(),
                "shadow": pilot.beside.shown(),
                "compare_seconds": round(pilot.compare_seconds, 6),
            }

    def _looked(self, flying: Flying, samples: int) -> Compared | None:
        with self.lock:
            return flying.made.shadow.looked(samples) if flying.made is not None else None

    def listed(self) -> list[dict[str, Any]]:
        """Every shadow as a job beside the jobs: for `map`, `status` and `check`."""
        return [self._as_job(flying) for flying in list(self._flying.values())]

    def _as_job(self, flying: Flying) -> dict[str, Any]:
        made, lag, now = flying.made, self._lag(flying), self.machine.clock.now()
        job = made.shadow.job if made is not None else None
        with self._writing:
            pilot, moved_at = flying.pilot, flying.moved_at
            return {
                "job": hidden(pilot.job),
                "shadow_of": pilot.job,
                "kind": pilot.kind,
                "word": pilot.word,
                "inputs": list(job.inputs) if job is not None else [pilot.word],
                "outputs": list(job.outputs) if job is not None else [],
                "mode": str(job.mode if job is not None else flying.live.mode),
                "state": "failed" if pilot.error else "idle",
                "lag_changes": lag,
                "lag_seconds": round(now - moved_at, 3) if moved_at is not None else 0.0,
                "freshness_seconds": round(now - pilot.compared_at, 3) if pilot.compared_at else None,
                "equal": bool(pilot.equal),
                "different": pilot.differing,
                "error": pilot.error,
            }

    def _lag(self, flying: Flying) -> int:
        made = flying.made
        if made is None:
            return 0
        progress = self.machine.tables.positions().progress
        live, mine = progress.get(made.shadow.live.name), progress.get(made.shadow.job.name)
        if live is None or mine is None:
            return 0
        return sum(max(0, live.cursors.get(asset, 0) - mine.cursors.get(asset, 0)) for asset in made.shadow.shared)

    # Working.

    def settle_all(self) -> None:
        """Do all that is due of every shadow (`tidemill run`)."""
        with self.lock:
            self.refresh()
            for flying in list(self._flying.values()):
                self.settle(flying)

    def settle(self, flying: Flying) -> None:
        """Do all that is due of one shadow: a moment of its own, as `tidemill run` is."""
        for _ in range(STEPS_MAX):
            if not self.work_at(flying, is_moment=True):
                break
        self.keep(flying)

    def work_at(self, flying: Flying, *, is_moment: bool = False) -> bool:
        """Take one step, where one is due; returns whether something was done. Never raises what the shadow got wrong."""
        with self.lock:
            self._take_heard()
            now = self.machine.clock.now()
            if not self._is_due(flying, now, is_moment):
                return False
            begun = time.monotonic()
            try:
                is_done = self._step(flying, now)
            except Conflict:
                return False  # somebody else committed first; it is due again
            except RunCancelled:
                return False  # the project is being closed; the step was thrown away, and is due again
            except Exception as error:  # noqa: BLE001 - whatever it is, it stays the shadow's own
                self._failed(flying, error)
                return False
            flying.failures = 0
            if is_done:
                flying.rest_until = time.monotonic() + max(REST_SECONDS, REST_FACTOR * (time.monotonic() - begun))
            return is_done

    def _failed(self, flying: Flying, error: Exception) -> None:
        flying.failures += 1
        reason = str(error) if isinstance(error, TidemillError) else f"{type(error).__name__}: {error}"
        is_new, flying.pilot.error = reason != flying.pilot.error, reason
        flying.rest_until = time.monotonic() + min(AGAIN_SECONDS_MAX, 0.5 * 2**flying.failures)
        if is_new:
            self.keep(flying)

    def _is_due(self, flying: Flying, now: float, is_moment: bool) -> bool:
        if flying.made is None:
            return flying.pilot.kind == "against" and not flying.pilot.error
        job = flying.made.shadow.job
        if flying.pilot.compared == 0:
            return True
        moments = self.machine.loop.state.moments
        if job.schedule and moments is not None:
            return moments(job.schedule, flying.served_at) <= now
        return job.mode is not Mode.MICROBATCH or is_moment or now >= flying.served_at + job.every_seconds

    def _step(self, flying: Flying, now: float) -> bool:
        if flying.made is None:
            return self._compare_with(flying, now)
        run = f"{int(now * 1000):011x}-shadow{next(self._numbers)}"
        stepped = flying.made.shadow.step(run, now)
        if stepped is None:
            return False
        self._take(flying, stepped)
        return True

    def _take(self, flying: Flying, stepped: Stepped) -> None:
        pilot, now = flying.pilot, self.machine.clock.now()
        heads = self.machine.tables.positions().heads
        parked, output = heads.get(parked_asset(hidden(pilot.job))), heads.get(hidden(flying.live.outputs[0]))
        with self._writing:
            waited = now - flying.moved_at if flying.moved_at is not None else stepped.seconds
            pilot.beside.add(stepped.done.rows_in, stepped.seconds, max(waited, stepped.seconds))
            flying.moved_at, flying.served_at = None, stepped.done.progress.served_at
            pilot.parked = parked.rows if parked is not None else 0
            is_new, pilot.error = bool(pilot.error), ""
            if stepped.compared is not None:
                rows = output.rows if output is not None else 0
                is_new |= pilot.take(stepped.compared, rows, now, _shown(stepped.compared.rows))
        if is_new or now >= flying.saved_at + SAVE_SECONDS:
            self.keep(flying)
        if now >= flying.kept_house_at + KEEP_HOUSE_SECONDS:
            flying.kept_house_at = now
            for name in of_hidden(heads, pilot.job, pilot.output):
                self.machine.tables.trim(name, heads[name].offset)

    def _compare_with(self, flying: Flying, now: float) -> bool:
        """Compare with another asset, where one of both moved since."""
        pilot, output = flying.pilot, flying.live.outputs[0]
        seen = [self.machine.loop.state.heads.get(name) for name in (output, pilot.word)]
        if seen == flying.seen:
            return False
        begun = time.perf_counter()
        compared = reconciling.compared_with(self.machine, flying.live, output, pilot.word, SAMPLES)
        found = Compared(compared, "", time.perf_counter() - begun)
        flying.seen = seen
        head = self.machine.tables.positions().heads.get(pilot.word)
        with self._writing:
            is_new = pilot.take(found, head.rows if head is not None else 0, now, _shown(compared))
        if is_new:
            self.keep(flying)
        return True

    def keep(self, flying: Flying) -> None:
        """Note what was found so far."""
        if flying.pilot.job in self._flying:
            flying.saved_at = self.machine.clock.now()
            with self._writing:
                kept = flying.pilot.note()
            self.machine.ledger.note(TOPIC, flying.pilot.job, kept)

    def _take_heard(self) -> None:
        """Count the live runs that were reported."""
        with self._writing:
            while self._heard:
                record = self._heard.popleft()
                flying = self._flying.get(record.job)
                if flying is not None and record.finished_at is not None:
                    seconds = max(0.0, record.finished_at - record.started_at)
                    flying.pilot.live.add(record.rows_in, seconds, seconds)
                    flying.moved_at = flying.moved_at or record.finished_at

    def _work(self) -> None:
        """Work beside the live jobs until told to stop."""
        while not self._stop.is_set():
            self._wake.wait(self._pause())
            self._wake.clear()
            with self.lock:
                self.refresh()
            for flying in list(self._flying.values()):
                if time.monotonic() >= flying.rest_until and not self._stop.is_set():
                    self._let_live_go_first()
                    self.work_at(flying)
            self._stop.wait(REST_SECONDS)

    def _pause(self) -> float:
        """How long nothing is due: news ends it earlier."""
        resting = [flying.rest_until - time.monotonic() for flying in list(self._flying.values())]
        return min([KEEP_HOUSE_SECONDS, *(rest for rest in resting if rest > 0)])

    def _let_live_go_first(self) -> None:
        ends_at = time.monotonic() + PATIENCE_SECONDS
        while self.machine.loop.state.is_busy and time.monotonic() < ends_at:
            if self._stop.wait(0.002):
                return


def forget(machine: Machine, pilot: Pilot) -> None:
    """Drop everything that there is of a shadow, then its note."""
    heads = machine.tables.positions().heads
    machine.tables.drop(assets=of_hidden(heads, pilot.job, pilot.output), jobs=(hidden(pilot.job),))
    machine.ledger.note(TOPIC, pilot.job, None)


def _shown(compared: Comparison) -> dict[str, Any]:
    """Samples as people and programs see them."""
    samples: Mapping[str, Any] = compared.samples
    return {
        "shadow_only": [plain(row) for row in samples.get("missing", ())],
        "live_only": [plain(row) for row in samples.get("extra", ())],
        "changed": [
            {"live": plain(pair["live"]), "shadow": plain(pair["expected"])} for pair in samples.get("different", ())
        ],
    }
