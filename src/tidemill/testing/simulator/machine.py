"""One process that owns a site: production's loop, heart, performer, looker and landings over fakes.

Rules of this file:
  * nothing of production is imitated here but its wiring (`project/wiring.py`, `project/mill.py`), step by step;
  * every part is made by a method of its own, so that a planted bug is a subclass that makes one part otherwise.

Theory of operation. Events that are posted wait in `posted` until the history lets the loop hear them, tasks wait in
`workers` until the history lets a worker do them. A function that a job calls first gives way to what the history wants
to happen meanwhile: that is how a run's snapshot and its commit come to lie apart although there is one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa

from tidemill.core.change import OFFSET, Images, Output, Slice
from tidemill.core.errors import DefinitionError, InvariantError, StateCorrupt
from tidemill.core.event import Defined, Event, Failed, Finished, Landed, Looked, Removed, Start, Ticked
from tidemill.core.model import Asset, Home, Job, Takes
from tidemill.core.orchestrate import State
from tidemill.core.ports import Engine, Head, Plan, Positions, Progress, Reader, Store, Table, Work
from tidemill.core.retention import Need, may_go
from tidemill.engines.python import PythonEngine
from tidemill.runtime.catalog import Catalog
from tidemill.runtime.gate import released_positions
from tidemill.runtime.landing import Landing
from tidemill.runtime.look import Looker
from tidemill.runtime.loop import Loop, Services
from tidemill.runtime.mirror import Mirrors
from tidemill.runtime.outside import Effect, Outside
from tidemill.runtime.parking import Parking
from tidemill.runtime.perform import Done, Performer
from tidemill.runtime.retention import need_of
from tidemill.runtime.trimming import trims
from tidemill.testing.memory import MemoryStore
from tidemill.testing.simulator.definitions import asset_of, inner_takes, job_of, output_of
from tidemill.testing.simulator.fate import Fate, FatedStore
from tidemill.testing.simulator.outside import ListedFiles, ListWorkers, MemoryLog, Notebook, Site, SiteClock, observe
from tidemill.testing.simulator.transforms import function_of
from tidemill.testing.simulator.words import JobSpec

__all__ = ["HOUR", "Machine", "moments"]

HOUR = 3600.0


def moments(line: str, after: float) -> float:
    """Schedules of histories are `every N hours`, written as a cron line `0 */N * * *`."""
    step = float(line.split()[1].removeprefix("*/")) * HOUR
    return (after // step + 1.0) * step


class PostingLoop(Loop):
    """The loop, with a list in place of its queue."""

    def __init__(self, state: State, services: Services, workers: ListWorkers) -> None:
        super().__init__(state, services, workers)
        self.posted: list[Event] = []

    def post(self, event: Event) -> None:
        """Keep the event until the history lets the loop hear it."""
        self.posted.append(event)


class WatchedEngine(PythonEngine):
    """The Python engine; before it computes, what is to happen meanwhile happens."""

    def __init__(self, before: Callable[[str], None]) -> None:
        super().__init__()
        self._before = before

    def compute(self, work: Work, reader: Reader) -> Iterable[tuple[str, Output]]:
        """See `Engine.compute`."""
        self._before(work.job.name)
        return super().compute(work, reader)


class WatchedPerformer(Performer):
    """The performer; it notes errors that no history may bring about."""

    def __init__(self, catalog: Catalog, stores: Mapping[Home, Store], mirrors: Mirrors, site: Site) -> None:
        super().__init__(catalog, stores, mirrors)
        self._site = site

    def perform(self, start: Start, run: str, *, exclusive: bool = True, parking: Parking | None = None) -> Done:
        """See `Performer.perform`."""
        try:
            return super().perform(start, run, exclusive=exclusive, parking=parking)
        except (InvariantError, StateCorrupt, DefinitionError) as error:
            self._site.scandals.append(f"{start.job}: {type(error).__name__}: {error.message}")
            raise


class SqlInPython:
    """A stand-in for the SQL engine: the same places (lanes, mirrors, group commits), computed by the Python engine."""

    def __init__(self, inner: PythonEngine, spec_of: Callable[[str], JobSpec]) -> None:
        self._inner = inner
        self._spec_of = spec_of

    def plan(self, job: Job, inputs: Mapping[str, Asset]) -> Plan:
        """As the Python engine plans it, over mirrors."""
        return replace(self._inner.plan(self._as_python(job), inputs), is_mirrored=True)

    def compute(self, work: Work, reader: Reader) -> Iterable[tuple[str, Output]]:
        """As the Python engine computes it."""
        return self._inner.compute(replace(work, job=self._as_python(work.job)), reader)

    def _as_python(self, job: Job) -> Job:
        return replace(job, takes=inner_takes(self._spec_of(job.name)))


class Machine:
    """One process."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.clock = SiteClock(site)
        self.fate = Fate()
        self.inner: dict[Home, Store] = {home: self.open_store(home) for home in Home}
        self.stores: dict[Home, Store] = {
            home: self.wrap(FatedStore(store, self.fate)) for home, store in self.inner.items()
        }
        for store in self.inner.values():
            store.claim()
        self.log = self.make_log(self.inner[Home.LEDGER])
        self.door = self.make_log(self.stores[Home.LEDGER])
        self.interludes: list[Callable[[], None]] = []
        self.workers = ListWorkers()
        self.notebook = Notebook(site)
        self.python = WatchedEngine(self._compute_begins)
        self.catalog = Catalog(engines=self._engines())
        self.mirrors = Mirrors(self.catalog, self.stores[Home.TABLES], self.stores[Home.LEDGER])
        self.performer = self.make_performer()
        self.services = self._services()
        self.loop = PostingLoop(self.make_state(), self.services, self.workers)
        self.landings: dict[str, Landing] = {}
        self._declare()
        for event in self.opening_events():
            self.loop.handle(event)

    # ------------------------------------------------------------------- parts that a planted bug may replace

    def open_store(self, home: Home) -> Store:
        """A store over a disk of the site."""
        return MemoryStore(home, self.site.disks[home])

    def wrap(self, store: Store) -> Store:
        """A store as the runtime sees it."""
        return store

    def make_log(self, ledger: Store) -> MemoryLog:
        """The door; `door` meets the fate of its commits, `log` does not."""
        return MemoryLog(ledger, self.site)

    def make_performer(self) -> Performer:
        """The performer of pure jobs."""
        return WatchedPerformer(self.catalog, self.stores, self.mirrors, self.site)

    def make_outside(self) -> Outside:
        """The performer of jobs with outside effects."""
        return Outside(self.catalog, self.stores, self.mirrors, self._effect_of, self.site.released.__contains__)

    def make_looker(self) -> Looker:
        """What answers `Look`."""
        return Looker(self.catalog, self.stores, self.mirrors, lambda name: self.site.let_go.get(name, {}))

    def make_state(self) -> State:
        """The heart's state."""
        return State(moments)

    def opening_events(self) -> list[Event]:
        """What builds the heart's state from the stores: every head, then every job (rule 12)."""
        held = self.positions()
        landed = [Landed(name, head, self.site.now) for name, head in self.heads(held).items()]
        specs = list(self.site.jobs.values())
        return [*landed, *(self._defined(each, held[job_of(each).home].progress.get(each.name)) for each in specs)]

    def resync(self) -> None:
        """What an owner does from time to time: read the heads from the stores."""
        for name, head in self.heads(self.positions()).items():
            self.loop.post(Landed(name, head, self.site.now))

    # ----------------------------------------------------------------------------------------- from the stores

    def positions(self) -> dict[Home, Positions]:
        """What both stores know."""
        return {home: store.positions() for home, store in self.stores.items()}

    def heads(self, held: Mapping[Home, Positions]) -> dict[str, Head]:
        """The head of every asset, from the store it lives in."""
        found = {}
        for name, asset in self.catalog.assets.items():
            head = held[asset.home].heads.get(name)
            if head is not None:
                found[name] = head
        return found

    def progress(self, spec: JobSpec) -> Progress | None:
        """A job's progress, from the store."""
        return self.inner[job_of(spec).home].positions().progress.get(spec.name)

    # ------------------------------------------------------------------------------------------- what happens

    def hear(self, pick: int = 0) -> bool:
        """Let the loop take an event: of those about one thing (a job, an asset) the oldest."""
        posted = self.loop.posted
        if not posted:
            return False
        about = _about(posted[pick % len(posted)])
        event = next(each for each in posted if _about(each) == about)
        posted.remove(event)
        self.loop.handle(event)
        return True

    def work(self, pick: int = 0) -> bool:
        """Let a worker do a task."""
        task = self.workers.take(pick)
        if task is None:
            return False
        task()
        return True

    def tick(self) -> bool:
        """Say that time passed, if somebody waits for this moment."""
        at = self.loop.state.next_at()
        if at is None or at > self.site.now:
            return False
        self.loop.handle(Ticked(self.site.now))
        return True

    def define(self, spec: JobSpec) -> None:
        """Take a definition on while the process runs."""
        event = self._defined(spec, None)
        self._shape([self.catalog.assets[spec.output]])
        self.loop.handle(event)

    def forget(self, name: str) -> None:
        """A job is defined no more: what the stores know of it goes too."""
        self.catalog.remove(name)
        self.loop.handle(Removed(name, self.site.now))
        for store in self.stores.values():
            store.drop(jobs=[name])

    def land(self, asset: str, times: int) -> None:
        """List the files of an asset and land what is new; say so as often as told."""
        landing = self.landings.get(asset)
        if landing is None:
            source = ListedFiles(self.site, asset)
            tables = self.stores[Home.TABLES]
            landing = self.landings[asset] = Landing(self.catalog.assets[asset], source, tables, delay_seconds=0.0)
        found = landing.look(self.site.now)
        for _ in range(times if found.taken or found.rejected else 0):
            self.loop.post(Landed(asset, found.head, self.site.now, stirs=True))

    def trim(self) -> None:
        """Forget what every reader is past (as `project/watching.py` does)."""
        held = self.positions()
        progress = {**held[Home.TABLES].progress, **held[Home.LEDGER].progress}
        let_go = self.site.let_go
        for trim in trims(self.catalog, progress, self.loop.state.head, self.released, lambda job: let_go.get(job, {})):
            self.stores[Home.TABLES].trim(trim.asset, trim.below, trim.keep)

    def released(self, job: Job) -> Mapping[str, Mapping[str, int]]:
        """Where a job's gate has released the values of its inputs."""
        transaction = self.inner[job.home].begin(exclusive=False)
        try:
            return released_positions(transaction, job)
        finally:
            transaction.rollback()

    def expire(self, share: float) -> None:
        """Let a share of each append topic expire, as far as nobody needs it (as `project/retention.py` does)."""
        held = self.positions()
        progress = {**held[Home.TABLES].progress, **held[Home.LEDGER].progress}
        for source in self.site.sources.values():
            if source.kind != "append":
                continue
            ledger, head = self.stores[Home.LEDGER], held[Home.LEDGER].heads[source.name]
            below = may_go(int(head.offset * share), self.needs(source.name, progress))
            self._remember(source.name, head.expired, below)
            ledger.expire(source.name, below)
            if source.name in held[Home.TABLES].heads:
                self.stores[Home.TABLES].expire(source.name, ledger.positions().heads[source.name].expired)

    def needs(self, topic: str, progress: Mapping[str, Progress]) -> list[Need]:
        """What each job still needs of a topic."""
        jobs = [job for job in map(job_of, self.site.jobs.values()) if topic in job.inputs]
        needs = [need_of(self.catalog, job, topic, progress.get(job.name)) for job in jobs]
        return [need for need in needs if need is not None]

    def _remember(self, topic: str, from_: int, to: int) -> None:
        """Keep what is about to expire for the one who judges."""
        if to <= from_:
            return
        transaction = self.inner[Home.LEDGER].begin(exclusive=False)
        rows: list[dict[str, Any]] = pa.table(transaction.read(Slice(topic, from_, to, Images.ADDED))).to_pylist()
        transaction.rollback()
        self.site.gone.setdefault(topic, {}).update({row[OFFSET]: row for row in rows})

    # ------------------------------------------------------------------------------------------------- wiring

    def _engines(self) -> Mapping[Takes, Engine]:
        sql = SqlInPython(self.python, self.site.jobs.__getitem__)
        return {Takes.SQL: sql, **dict.fromkeys((Takes.ROW, Takes.TABLE, Takes.FULL, Takes.RUN), self.python)}

    def _services(self) -> Services:
        return Services(self.performer, self.make_outside(), self.make_looker(), self.notebook, self.clock, lambda: 0.5)

    def _declare(self) -> None:
        """Know the assets, and give topics and externals their shape."""
        known = [asset_of(source) for source in self.site.sources.values()]
        self.catalog.assets.update({asset.name: asset for asset in known})
        for spec in self.site.jobs.values():
            self._adopt(spec)
        self._shape(self.catalog.assets.values())

    def _shape(self, assets: Iterable[Asset]) -> None:
        transaction = self.inner[Home.LEDGER].begin()
        for asset in assets:
            if asset.home is Home.LEDGER:
                transaction.define(Table(asset.name, asset.columns, asset.key or None))
        transaction.commit()

    def _adopt(self, spec: JobSpec) -> None:
        job = job_of(spec)
        self.site.jobs[spec.name] = spec
        self.catalog.assets[spec.output] = output_of(spec)
        self.python.adopt([job], {job.name: function_of(spec)})
        self.catalog.put(job)

    def _defined(self, spec: JobSpec, progress: Progress | None) -> Defined:
        self._adopt(spec)
        first = self.site.first_seen.setdefault(spec.name, self.site.now)
        return Defined(job_of(spec), progress, self.site.now, first, spec.name in self.site.paused)

    def _effect_of(self, job: Job) -> Effect:
        def effect(work: Work, reader: Reader, key: str) -> Mapping[str, str]:
            self._give_way()
            versions = observe(self.site, work, reader, key)
            self._meet_trouble(job.name)
            return versions

        return effect

    def _compute_begins(self, job: str) -> None:
        self._give_way()
        self._meet_trouble(job)

    def _give_way(self) -> None:
        """Let happen what is to happen while a function computes."""
        if self.interludes and not any(store.lock.locked() for store in self.inner.values()):  # type: ignore[attr-defined]
            self.interludes.pop(0)()

    def _meet_trouble(self, job: str) -> None:
        """Raise what is to go wrong: before a transform computes, after an effect reached the outside."""
        if self.site.troubles.get(job, 0) > 0:
            self.site.troubles[job] -= 1
            raise OSError("the world around the function is in trouble")


def _about(event: Any) -> str:
    """What an event is about: events about one thing come in order."""
    if isinstance(event, (Finished, Failed, Looked)):
        return f"job {event.job}"
    return f"asset {event.asset}" if isinstance(event, Landed) else ""
