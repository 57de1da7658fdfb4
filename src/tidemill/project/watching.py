"""Following a project while it runs: files that land, definitions that change, and what notifications missed.

Rules of this file:
  * a notification only says that it is worth looking; listings, loads and the stores are the truth;
  * everything is looked at once at the start and again every `RESYNC_SECONDS`, so a lost notification is healed;
  * nothing here costs more with more jobs: what did not change is not loaded or judged, and looking at everything again
    takes at most one part in `REST_FACTOR` of the time.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

import watchfiles

from tidemill.core.errors import TidemillError
from tidemill.core.event import Alert, Landed, Ticked
from tidemill.core.model import Asset, AssetKind, Job
from tidemill.core.ports import Positions
from tidemill.project import living, wiring
from tidemill.project.loading import load
from tidemill.project.retention import forget_expired
from tidemill.project.toml import FILE
from tidemill.project.wiring import Machine
from tidemill.runtime.delivered import RUNS_MAX, forget_oldest, runs_asset
from tidemill.runtime.gate import released_positions
from tidemill.runtime.stability import DELAY_SECONDS
from tidemill.runtime.trimming import trims

__all__ = ["RESYNC_SECONDS", "Watch", "keep_house"]

RESYNC_SECONDS = 60.0
"""How often everything is looked at again, whatever was notified."""
REST_FACTOR = 200
"""So many times as long as that took nobody looks again: what a project costs that rests does not grow with its size."""
DEBOUNCE_MILLISECONDS = 50


class Watch:
    """Follows one project until told to stop."""

    def __init__(self, machine: Machine, env: str, *, applies_at_once: bool) -> None:
        self._machine = machine
        self._env = env
        self._applies_at_once = applies_at_once
        self._unsettled: set[str] = {asset.name for asset in self._files()}
        self._wake = threading.Event()
        self._has_other_assets = False
        self._reloading = threading.Lock()
        self._loaded: frozenset[tuple[str, int, int]] = frozenset()
        self._seen: object = None

    def run(self, stop: threading.Event) -> None:
        """Follow until `stop` is set."""
        listener = threading.Thread(target=self._listen, args=(stop,), name="tidemill-watch", daemon=True)
        listener.start()
        next_resync = time.monotonic() + RESYNC_SECONDS
        while not stop.is_set():
            begun = time.monotonic()
            is_resync = begun >= next_resync
            if is_resync:
                self._resync()
            self._land()
            if is_resync:
                ended = time.monotonic()
                next_resync = ended + max(RESYNC_SECONDS, (ended - begun) * REST_FACTOR)
            self._sleep(stop, next_resync)
        listener.join(timeout=2.0)

    def _sleep(self, stop: threading.Event, until: float) -> None:
        """Until something is worth looking at; files that are not settled are looked at again soon."""
        wait = DELAY_SECONDS if self._unsettled else max(0.0, until - time.monotonic())
        ends_at = time.monotonic() + wait
        while not stop.is_set() and (left := ends_at - time.monotonic()) > 0:
            if self._wake.wait(min(left, 1.0)):
                self._wake.clear()
                return

    def _files(self) -> list[Asset]:
        return [asset for asset in self._machine.catalog.assets.values() if asset.kind is AssetKind.FILES]

    def _land(self) -> None:
        for name in sorted(self._unsettled):
            asset = self._machine.catalog.assets.get(name)
            if asset is None or self._look(asset):
                self._unsettled.discard(name)

    def _look(self, asset: Asset) -> bool:
        """Look once; returns whether everything there has been taken."""
        try:
            return wiring.land_once(self._machine, asset).is_settled
        except (OSError, TidemillError) as error:
            now = self._machine.clock.now()
            self._machine.journal.alert(Alert("landing", asset.name, str(error), now))
            return False

    # --------------------------------------------------------------------------------- notifications

    def _listen(self, stop: threading.Event) -> None:
        """Listen to the project's folder and to those of files assets elsewhere; anew when these are others."""
        while not stop.is_set():
            self._has_other_assets = False
            folders = self._folders()
            for number, batch in enumerate(self._changes(folders, stop)):
                self._heard(batch, is_first=number == 0)
                if self._has_other_assets and self._folders() != folders:
                    break

    def _folders(self) -> set[Path]:
        """What is listened to. A folder elsewhere that does not exist yet is found by the next listing of everything."""
        project = self._machine.definitions.folder
        starts = (asset.path.partition("{")[0] for asset in self._files() if "://" not in asset.path)
        found = {(project / start / "file" if start.endswith("/") else project / start).parent for start in starts}
        return {project, *(folder for folder in found if folder.is_dir() and not folder.is_relative_to(project))}

    def _changes(self, folders: set[Path], stop: threading.Event) -> Iterator[set[tuple[watchfiles.Change, str]]]:
        folder = self._machine.definitions.folder
        return watchfiles.watch(
            *folders,
            watch_filter=lambda _, path: not _is_ours(folder, Path(path)),
            debounce=DEBOUNCE_MILLISECONDS,
            step=DEBOUNCE_MILLISECONDS,
            rust_timeout=1_000,
            yield_on_timeout=True,
            stop_event=stop,
            raise_interrupt=False,
        )

    def _heard(self, batch: set[tuple[watchfiles.Change, str]], *, is_first: bool) -> None:
        folder = self._machine.definitions.folder
        changed = [Path(path) for _, path in batch]
        paths = [path.relative_to(folder) if path.is_relative_to(folder) else path for path in changed]
        # nobody was told what changed before the first look, which comes after a second at most
        if is_first or any(_is_definition(path) for path in paths):
            self._reload()
        self._hint(path for path in paths if not _is_definition(path))

    def _hint(self, paths: Iterable[Path]) -> None:
        if any(True for _ in paths):
            self._unsettled.update(asset.name for asset in self._files())
            self._wake.set()

    def refresh(self) -> None:
        """Take in definitions that were saved a moment ago and not heard of yet: who asks for a run means them too."""
        if _stamps(self._machine.definitions.folder) != self._loaded:
            self._reload()

    def _reload(self) -> None:
        with self._reloading:
            self._loaded = _stamps(self._machine.definitions.folder)
            self._take_definitions()

    def _take_definitions(self) -> None:
        machine = self._machine
        self._has_other_assets = True
        try:
            loaded = load(machine.definitions.folder, self._env or None)
            living.reload(machine, loaded, applies_at_once=self._applies_at_once)
        except (OSError, TidemillError) as error:  # a file may vanish while it is read; another notification follows
            machine.journal.alert(Alert("definition", "", str(error), machine.clock.now()))
        self._unsettled.update(asset.name for asset in self._files())
        self._wake.set()
        machine.loop.post(Ticked(machine.clock.now()))  # a clock may be new, or tick more often

    def _resync(self) -> None:
        """Heal what notifications lost: list all files and, where anything was committed since the last time, read
        all heads."""
        machine = self._machine
        self._has_other_assets = True
        self._unsettled.update(asset.name for asset in self._files())
        forget_expired(machine)  # which time brings about, and no commit
        seen = machine.stamp()
        if seen == self._seen:
            return
        self._seen = seen
        for name, head in wiring.heads_of(machine, machine.positions()).items():
            machine.loop.post(Landed(name, head, machine.clock.now()))
        keep_house(machine)


def _is_ours(folder: Path, path: Path) -> bool:
    if not path.is_relative_to(folder):
        return False
    parts = path.relative_to(folder).parts
    return not parts or parts[0] == ".tidemill" or "__pycache__" in parts


def _is_definition(path: Path) -> bool:
    return path.name == FILE or (path.parts[:1] == ("jobs",) and path.suffix in (".sql", ".py"))


def _stamps(folder: Path) -> frozenset[tuple[str, int, int]]:
    """What changes when a definition is saved: every file of definitions with its time and size."""
    paths = [folder / FILE, *(path for path in (folder / "jobs").rglob("*") if path.suffix in (".sql", ".py"))]
    stamps = set()
    for path in paths:
        with contextlib.suppress(OSError):  # it went just now
            found = path.stat()
            stamps.add((str(path), found.st_mtime_ns, found.st_size))
    return frozenset(stamps)


def keep_house(machine: Machine) -> int:
    """Trim table logs below their slowest readers (rule 27), forget what has expired of topics, and the logs of old runs;
    returns how many images and events went.

    What stages have cost is noted, and plans of jobs that are gone are forgotten.
    """
    machine.logs.trim()
    machine.keep_costs()
    machine.plans.keep_only(machine.catalog.jobs)
    trimmed = forget_expired(machine)
    ledger = machine.ledger.positions()
    _forget_runs(machine, ledger)
    progress = {**machine.tables.positions().progress, **ledger.progress}
    let_go = machine.ledger.notes("let_go")
    head, released = machine.loop.state.head, partial(_released, machine)
    beside = [job for job, _ in machine.beside.copy().values()]
    for trim in trims(machine.catalog, progress, head, released, lambda job: let_go.get(job, {}), beside=beside):
        trimmed += machine.tables.trim(trim.asset, trim.below, trim.keep)
    return trimmed + _keep_stages(machine)


def _forget_runs(machine: Machine, ledger: Positions) -> None:
    """Forget the oldest of the runs that jobs with outside effects could deliver again."""
    for job in machine.catalog.jobs.copy().values():
        recorded = ledger.heads.get(runs_asset(job.name)) if job.is_outside else None
        if recorded is not None and recorded.rows > RUNS_MAX:
            with machine.forgetting:  # a replay that begins needs what it chose
                forget_oldest(machine.ledger, job)


def _released(machine: Machine, job: Job) -> Mapping[str, Mapping[str, int]]:
    """Where a job's gate has released the values of its inputs."""
    transaction = machine.stores[job.home].begin(exclusive=False)
    try:
        return released_positions(transaction, job)
    finally:
        transaction.rollback()


def _keep_stages(machine: Machine) -> int:
    """Trim the stages of incremental jobs, which nobody else reads, and drop those of plans that are no more."""
    trimmed, unused = 0, []
    for name, head in machine.tables.positions().heads.items():
        owner, _, part = name.partition("@")
        job = machine.catalog.jobs.get(owner)
        if not part.startswith("stage") or job is None or job.is_outside:
            continue
        if name in machine.catalog.plan(job).tables:
            trimmed += machine.tables.trim(name, head.offset)
        else:
            unused.append(name)
    if unused:
        machine.tables.drop(assets=unused)
    return trimmed
