"""Putting a project together: stores, engines, the heart's state and the loop, from definitions.

Rules of this file:
  * everything that could be another implementation is chosen here and nowhere else;
  * opening claims both stores, so that a process that was the owner before can commit nothing more;
  * the heart's state is built from the stores alone (rule 12).
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field, replace
from graphlib import TopologicalSorter
from pathlib import Path
from threading import Lock
from typing import Any

from tidemill.connectors.files import FilesSource
from tidemill.core.errors import DefinitionError, OperatorError, StateCorrupt, TidemillError, UpstreamError
from tidemill.core.event import Defined, Event, Landed
from tidemill.core.model import Asset, AssetKind, Column, Home, Job, Mode, StartFrom, Takes
from tidemill.core.orchestrate import State
from tidemill.core.ports import Head, Positions, Progress, Source, SourceFile, Store
from tidemill.core.schema import Policy, lost, policy_of
from tidemill.core.slices import Span
from tidemill.engines.duckdb import DuckDBEngine
from tidemill.engines.python import PythonEngine
from tidemill.project.definitions import Definitions
from tidemill.project.effects import Effects
from tidemill.project.plancache import PlanCache
from tidemill.project.runlogs import RunLogs
from tidemill.project.schedule import moments_in
from tidemill.project.sqljobs import written
from tidemill.project.system import SYSTEM
from tidemill.project.undeclared import Undeclared
from tidemill.project.watchkeeping import Watchkeeper
from tidemill.runtime.catalog import Catalog
from tidemill.runtime.gate import release
from tidemill.runtime.journal import LedgerJournal, settle_reports
from tidemill.runtime.landing import Landed as LandedFiles
from tidemill.runtime.landing import Landing, columns_of
from tidemill.runtime.look import Looker
from tidemill.runtime.loop import Loop, Services
from tidemill.runtime.mirror import Mirrors
from tidemill.runtime.outside import Outside
from tidemill.runtime.perform import Performer
from tidemill.runtime.skipped import skip
from tidemill.runtime.ticking import Ticker
from tidemill.runtime.workers import ThreadWorkers
from tidemill.stores.duckdb import DuckDBStore
from tidemill.stores.sqlite import SQLiteStore

__all__ = ["Machine", "SystemClock", "assemble"]


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """Seconds since the epoch."""
        return time.time()


@dataclass(slots=True)
class Machine:
    """An assembled project: everything that runs it.

    `pending` are the definitions that wait for `apply` (None: a removal).
    `beside` are jobs that nobody defined and that read assets all the same (shadows), by the job that they stand beside, each
    with the definitions that it sees.
    """

    definitions: Definitions
    state_folder: Path
    ledger: SQLiteStore
    tables: DuckDBStore
    catalog: Catalog
    sql: DuckDBEngine
    plans: PlanCache
    python: PythonEngine
    mirrors: Mirrors
    journal: LedgerJournal
    logs: RunLogs
    clock: SystemClock
    workers: ThreadWorkers
    loop: Loop
    services: Services
    effects: Effects
    undeclared: Undeclared
    ticker: Ticker
    watch: Watchkeeper
    landings: dict[str, Landing] = field(default_factory=dict)
    evolving: threading.Lock = field(default_factory=threading.Lock)
    pending: dict[str, Job | None] = field(default_factory=dict)
    forgetting: Lock = field(default_factory=Lock)
    """Held while what has expired is forgotten, and while somebody decides that it is still needed."""
    tending: Lock = field(default_factory=Lock)
    """Held while alarms are taken down and told."""
    taking_down: Lock = field(default_factory=Lock)
    """Held while dead letters are taken down."""
    comparing: Lock = field(default_factory=Lock)
    """Held while reconciliations are served whose moment has come."""
    beside: dict[str, tuple[Job, Catalog]] = field(default_factory=dict)

    @property
    def stores(self) -> dict[Home, SQLiteStore | DuckDBStore]:
        """Both stores by home."""
        return {Home.LEDGER: self.ledger, Home.TABLES: self.tables}

    def positions(self) -> dict[Home, Positions]:
        """What both stores know."""
        return {home: store.positions() for home, store in self.stores.items()}

    def stamp(self) -> tuple[object, object]:
        """Something that is another thing after each commit to either store; asking costs nothing."""
        return self.ledger.stamp, self.tables.stamp

    def keep_costs(self) -> None:
        """Note in the ledger what stages have cost, in one commit; nothing where nothing new was measured.

        A ledger that cannot be written loses measurements, nothing else.
        """
        jobs = self.catalog.jobs
        fresh = {job: costs for job, costs in self.sql.chooser.fresh().items() if job in jobs}
        with suppress(TidemillError):
            if fresh:
                self.ledger.note_all(
                    "cost", {job: {"version": jobs[job].version, "costs": costs} for job, costs in fresh.items()}
                )

    def close(self) -> None:
        """Finish what runs, then release the stores."""
        self.workers.stop()
        self.python.close()
        self.journal.close()
        self.keep_costs()
        self.tables.close()
        self.ledger.close()


def assemble(definitions: Definitions, *, only: frozenset[str] | None = None) -> Machine:
    """Open the stores of a project and build everything on them; starts no thread but the journal's."""
    folder = definitions.folder / ".tidemill"
    folder.mkdir(exist_ok=True)
    with ExitStack() as opened:  # what does not come together is closed again
        ledger = SQLiteStore(folder / "ledger.db")
        opened.callback(ledger.close)
        tables = DuckDBStore(folder / "tables.duckdb")
        opened.callback(tables.close)
        machine = _assembled(definitions, folder, ledger, tables, only)
        opened.pop_all()
        opened.callback(machine.close)
        for error in settle_shapes(machine, definitions.assets).values():
            raise error
        learn_columns(machine)
        complete_columns(machine, definitions.assets.values())
        opened.pop_all()
    return machine


def _assembled(
    definitions: Definitions, folder: Path, ledger: SQLiteStore, tables: DuckDBStore, only: frozenset[str] | None
) -> Machine:
    """Everything on two open stores."""
    ledger.claim()
    tables.claim()
    clock = SystemClock()
    catalog = Catalog(assets={**SYSTEM, **definitions.assets}, timezone=definitions.timezone)
    logs = RunLogs(folder / "logs")
    python = PythonEngine(definitions.jobs.values(), definitions.functions, logs.opened)
    plans = PlanCache(folder / "plans")
    sql = DuckDBEngine(
        tables, catalog.asset, lambda: definitions.views, lambda job: written(definitions.folder, job), plans
    )
    sql.chooser.recall(_measured(ledger, definitions.jobs))
    catalog.engines = {Takes.SQL: sql, **dict.fromkeys((Takes.ROW, Takes.TABLE, Takes.FULL, Takes.RUN), python)}
    stores: dict[Home, Store] = {Home.LEDGER: ledger, Home.TABLES: tables}
    mirrors = Mirrors(catalog, tables, ledger)
    journal = LedgerJournal(ledger, catalog, clock, sql.chooser.rules_of_run)
    watch = Watchkeeper(ledger, stores, catalog.jobs, moments_in(definitions.timezone))
    journal.reported.append(watch.hear)
    effects = Effects(catalog, python, sql, definitions.folder, logs, ledger)
    performer = Performer(catalog, stores, mirrors, journal.trying)
    outside = Outside(
        catalog, stores, mirrors, effects.of, _is_released(ledger), performer.check_cancelled, journal.trying
    )
    looker = Looker(catalog, stores, mirrors, lambda name: ledger.notes("let_go").get(name, {}))
    services = Services(performer, outside, looker, journal, clock, random.random)
    services.ticker = ticker = Ticker(catalog, tables)
    services.counts_from = lambda name: int(ledger.notes("counts_from").get(name, 0))
    workers = ThreadWorkers()
    state = State(moments_in(definitions.timezone), only)
    return Machine(
        definitions=definitions,
        state_folder=folder,
        ledger=ledger,
        tables=tables,
        catalog=catalog,
        sql=sql,
        plans=plans,
        python=python,
        mirrors=mirrors,
        journal=journal,
        logs=logs,
        clock=clock,
        workers=workers,
        loop=Loop(state, services, workers),
        services=services,
        effects=effects,
        undeclared=Undeclared(ledger),
        ticker=ticker,
        watch=watch,
    )


def _measured(ledger: SQLiteStore, jobs: Mapping[str, Job]) -> dict[str, Any]:
    """What the stages of each job have cost before, as far as the job is still what was measured."""
    return {
        name: said.get("costs")
        for name, said in ledger.notes("cost").items()
        if name in jobs and isinstance(said, dict) and said.get("version") == jobs[name].version
    }


def _is_released(ledger: SQLiteStore) -> Callable[[str], bool]:
    """Whether a person let the work of this idempotency key go: durable, for the run may outlive this process."""
    return lambda key: key in ledger.notes("released").values()


def learn_columns(machine: Machine) -> None:
    """Take the columns that outputs got from their first rows from the store that holds them."""
    shapes, progress = machine.tables.shapes(), machine.tables.positions().progress
    for job in machine.definitions.jobs.values():
        known = progress.get(job.name)
        if job.home is Home.TABLES and not job.columns and known is not None and known.version == job.version:
            machine.catalog.learn(job, shapes.get(job.outputs[0], ()))


def settle_shapes(machine: Machine, assets: Mapping[str, Asset]) -> dict[str, DefinitionError]:
    """Give topics their shapes, and say which assets cannot have theirs: what came in before would be lost (rule 6)."""
    held, heads = machine.tables.shapes(), machine.tables.positions().heads
    noted = machine.ledger.notes("topic")
    refused = {}
    for asset in assets.values():
        try:
            if asset.kind is AssetKind.TOPIC:
                _declare_topic(machine, asset, noted.get(asset.name))
            elif asset.kind is AssetKind.FILES and asset.name in heads and heads[asset.name].rows:
                _check_landed(asset, held.get(asset.name, ()))
        except DefinitionError as error:
            refused[asset.name] = error
    return refused


def _declare_topic(machine: Machine, topic: Asset, noted: object) -> None:
    """Make a topic known to the ledger with its shape, where that is new. Raises DefinitionError."""
    shape = repr((topic.columns, topic.key, topic.semantics, topic.version, topic.id, policy_of(topic)))
    if noted != shape:
        machine.ledger.append(topic, b"")
        machine.ledger.note("topic", topic.name, shape)


def with_schema(machine: Machine, topic: Asset) -> Asset:
    """A topic that evolves with all its columns, as the ledger has them, which the catalog knows from then on."""
    if policy_of(topic) is not Policy.EVOLVE:
        return topic
    versions = machine.ledger.schemas(topic.name)
    columns = versions[-1].columns if versions else topic.columns
    return machine.catalog.declare(replace(topic, columns=columns)) if columns != topic.columns else topic


def _check_landed(asset: Asset, held: tuple[Column, ...]) -> None:
    """Raise DefinitionError for a declaration that has no room for the rows that have landed."""
    columns = columns_of(asset)
    if policy_of(asset) is Policy.EVOLVE:  # columns that files added need not be declared
        columns += tuple(column for column in held if asset.column(column.name) is None)
    column = lost(held, columns) if columns else None
    if column is None:
        return
    now = asset.column(column.name)
    why = "is gone" if now is None else f"cannot become {now.type}"
    raise DefinitionError(
        f"asset {asset.name} has rows whose column {column.name} is {column.type}; it {why} without losing them",
        place=str(asset.place),
        mend=f"declare {column.name} as {column.type} or wider, or land the files under another asset name",
    )


def landing_of(machine: Machine, asset: Asset) -> Landing:
    """The landing of a files asset."""
    found = machine.landings.get(asset.name)
    if found is None or found.asset != asset:
        source: Source = FilesSource(asset, machine.definitions.folder)
        found = machine.landings[asset.name] = Landing(asset, source, machine.tables)
    return found


def complete_columns(machine: Machine, assets: Iterable[Asset]) -> None:
    """Let the catalog know the columns that files and events have brought."""
    for asset in list(assets):
        if asset.kind is AssetKind.FILES:
            with_columns(machine, asset)
        elif asset.kind is AssetKind.TOPIC:
            with_schema(machine, asset)


def with_columns(machine: Machine, asset: Asset) -> Asset:
    """A files asset with all its columns, which the catalog knows from then on.

    One that declares none gets those of its first file that reads, frozen from then on (rule: one schema); one whose
    files may add columns has those that they added.
    """
    evolves = policy_of(asset) is Policy.EVOLVE
    if asset.format == "binary" or (asset.columns and not evolves):
        return asset
    held = machine.tables.shapes().get(asset.name, ())
    declared = asset.columns or held or _inferred(asset, machine.definitions.folder)
    known = {column.name.lower() for column in declared}
    columns = declared + tuple(column for column in held if column.name.lower() not in known)
    return machine.catalog.declare(replace(asset, columns=columns)) if columns != asset.columns else asset


def _inferred(asset: Asset, folder: Path) -> tuple[Column, ...]:
    """The columns of the first file that reads; what is wrong with the others is said where they are landed."""
    source = FilesSource(asset, folder)
    files: list[SourceFile] = []
    with suppress(OperatorError, OSError):  # a place that cannot be reached is told when it is looked at for files
        files = sorted(source.list(), key=lambda file: file.path)
    for file in files:
        with suppress(UpstreamError, OSError):
            return source.infer(file)
    return ()


def land_once(machine: Machine, asset: Asset, *, trusts_all: bool = False) -> LandedFiles:
    """One look at a files asset; tells the loop what landed."""
    asset = with_columns(machine, asset)
    landing = landing_of(machine, asset)
    result = landing.look(time.monotonic(), trusts_all=trusts_all)
    if landing.asset != asset:
        machine.catalog.declare(landing.asset)
    if result.taken or result.rejected:
        machine.loop.post(Landed(asset.name, result.head, machine.clock.now(), stirs=True))
    return result


def opening_events(machine: Machine) -> list[Event]:
    """The events that build the heart's state from the stores: every head, then every job."""
    now = machine.clock.now()
    held = machine.positions()
    check_positions(machine, held)
    settle_reports(machine.ledger, {str(home): positions for home, positions in held.items()}, now)
    events: list[Event] = [Landed(name, head, now) for name, head in heads_of(machine, held).items()]
    said = Said.read(machine)
    is_first = not said.definitions
    jobs = from_the_sources_down(machine.definitions.jobs)
    events.extend([defined(machine, job, held[job.home], said, is_first=is_first) for job in jobs])
    said.keep(machine)
    return events


def from_the_sources_down(jobs: Mapping[str, Job]) -> list[Job]:
    """Jobs after those that write their inputs, so that a job that is judged finds its feeders known and due."""
    writers = {output: job.name for job in jobs.values() for output in job.outputs}
    graph = {job.name: [writers[name] for name in job.inputs if name in writers] for job in jobs.values()}
    return [jobs[name] for name in TopologicalSorter(graph).static_order()]


def check_positions(machine: Machine, held: Mapping[Home, Positions]) -> None:
    """Raise StateCorrupt where one store knows more of a log than the log itself: the two are of different days (rule 2).

    Nothing may go on then: what came in next would get offsets that readers believe to have read.
    """
    heads = heads_of(machine, held)
    readers = {
        (asset, f"job `{job.name}`"): offset
        for job in machine.definitions.jobs.values()
        if (known := held[job.home].progress.get(job.name)) is not None and known.version == job.version
        for asset, offset in known.cursors.items()
    }
    mirrors = {
        (name, "its mirror"): head.offset
        for name, head in held[Home.TABLES].heads.items()
        if name in machine.catalog.assets and machine.catalog.assets[name].kind is AssetKind.TOPIC
    }
    for (asset, reader), offset in {**readers, **mirrors}.items():
        head = heads.get(asset)
        if head is not None and offset > head.offset:
            raise StateCorrupt(
                f"{reader} has read `{asset}` to {offset}, but its log ends at {head.offset}",
                place=str(machine.state_folder),
                mend="the stores are not of one moment; restore both from one backup: tidemill restore",
            )


def heads_of(machine: Machine, held: Mapping[Home, Positions]) -> dict[str, Head]:
    """The head of every asset, from the store it lives in (a topic's mirror does not count)."""
    found = {}
    for name, asset in machine.catalog.assets.items():
        head = held[asset.home].heads.get(name)
        if head is not None:
            found[name] = head
    return found


@dataclass(slots=True)
class Said:
    """What is kept about jobs beside their definitions: when first seen, paused, their mode overridden."""

    definitions: dict[str, Any]
    paused: dict[str, Any]
    modes: dict[str, Any]
    fresh: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, machine: Machine) -> Said:
        """All of it, in three reads however many jobs there are."""
        notes = machine.ledger.notes
        return cls(notes("definition"), notes("paused"), notes("mode"))

    def keep(self, machine: Machine) -> None:
        """Keep what is new, in one commit."""
        machine.ledger.note_all("definition", self.fresh)
        self.fresh = {}


def defined(machine: Machine, job: Job, held: Positions, said: Said, *, is_first: bool) -> Defined:
    """The event of a job's definition, with what people said about it (mode, pause) and where it starts."""
    job = overridden(machine, job, said.modes.get(job.name))
    job = replace(job, watches=watched_members(machine, job))
    machine.catalog.put(job)
    note = said.definitions.get(job.name)
    now = machine.clock.now()
    progress = held.progress.get(job.name)
    if note is None:
        note = said.fresh[job.name] = {"first_seen_at": now, "version": job.version}
        if progress is None and not is_first and job.is_outside and job.start_from is StartFrom.NOW:
            progress = start_now(machine, job)
    return Defined(job, progress, now, float(note["first_seen_at"]), job.name in said.paused)


def watched_members(machine: Machine, job: Job) -> tuple[str, ...]:
    """The assets that list the members of a gated job's inputs (`complete.site = "stores.id"`)."""
    if job.gate is None:
        return ()
    listed = [members for name in job.inputs for members in machine.catalog.assets[name].complete.values()]
    sources = [members.partition(".")[0] for members in listed if isinstance(members, str)]
    return tuple(dict.fromkeys(name for name in sources if name not in job.inputs))


def overridden(machine: Machine, job: Job, said: dict[str, Any] | None) -> Job:
    """The job with the mode that a person gave it, until the file's own mode changes."""
    if said is None:
        return job
    if said["file"] != str(job.mode):
        machine.ledger.note("mode", job.name, None)
        return job
    return replace(job, mode=Mode(said["word"]))


def start_now(machine: Machine, job: Job) -> Progress:
    """Let a new job with outside effects begin at the present heads, behind what its gate would open now (rule 26)."""
    heads = heads_of(machine, machine.positions())
    progress = Progress(
        job.name,
        job.version,
        {asset: heads[asset].offset for asset in job.inputs if asset in heads},
        {asset: heads[asset].generation for asset in job.inputs if asset in heads},
    )
    opening = machine.services.looker.opened_by_now(job.name, machine.clock.now()) if job.gate is not None else None
    transaction = machine.ledger.begin()
    try:
        if opening is not None:
            release(transaction, job, opening)
        transaction.settle(progress, None)
        if opening is None:  # behind a gate what was never processed are values: those that no run took
            skip(transaction, job, [Span(asset, 0, to) for asset, to in progress.cursors.items()])
        transaction.commit()
    finally:
        transaction.rollback()
    return progress
