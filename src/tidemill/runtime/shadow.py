"""One shadow: steps beside the live job, the comparison at equal cursors, and the take-over (rule 30).

Rules of this file:
  * a step reads a snapshot and is committed alone: the live job waits for nothing but that commit;
  * the comparison is of the step's own snapshot, in which both cursors are known, and is made only where they are equal;
  * what a shadow does stays its own: its tables, its parked rows, its failures;
  * a take-over is one transaction: rows, stages, parked rows and cursors, or nothing.

Theory of operation. The outputs and the cursors of the live job are committed together, so any snapshot of the tables shows
its result *and* the cursors that it stands for. A step therefore ends exactly at the live job's cursors of its own snapshot,
and compares there. A shadow that is faster than its live job leads: it goes to the heads, and where the live job has come to
the same cursors, or beyond, they are compared. Its first step is a rebuild at the live job's cursors (rule 25).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

from tidemill.core.change import RID, Slice, Statement
from tidemill.core.errors import UserError
from tidemill.core.event import Readiness, Start
from tidemill.core.model import Column, Home, Job, OnError
from tidemill.core.ports import Head, Plan, Progress, Reader, Store, Transaction
from tidemill.runtime.compare import SAMPLES, Comparison, Sides, compare
from tidemill.runtime.cut import Cut
from tidemill.runtime.gate import gate_asset
from tidemill.runtime.hidden import HiddenCatalog, Taking, Unhurried, hidden
from tidemill.runtime.mirror import Mirrors
from tidemill.runtime.parking import Parking
from tidemill.runtime.perform import Done, Performer
from tidemill.runtime.poison import is_of_transform, perform_without_poison
from tidemill.runtime.reconcile import DOUBTED, doubted
from tidemill.runtime.takeover import TakenOver, take_over
from tidemill.sql.bind import quoted

__all__ = ["Compared", "Shadow", "Stepped"]

_SHADOW = "@shadow"


@dataclass(frozen=True, slots=True)
class Compared:
    """The two sides at equal cursors: `missing` rows only the shadow has, `extra` ones only the live table.

    `columns` says how the columns differ ("" where they do not); what differs in its columns is never equal.
    """

    rows: Comparison
    columns: str = ""
    seconds: float = 0.0

    @property
    def is_equal(self) -> bool:
        """Whether both sides are the same."""
        return self.rows.is_equal and not self.columns


@dataclass(frozen=True, slots=True)
class Stepped:
    """What a step did; `compared` is None where the cursors were not equal."""

    done: Done
    seconds: float
    compared: Compared | None


class _Apart(Performer):
    """Performs the runs of one shadow on snapshots, up to where the live job is; compares before it commits."""

    def __init__(self, shadow: Shadow, catalog: HiddenCatalog, stores: Mapping[Home, Store]) -> None:
        unhurried = {home: cast(Store, Unhurried(store)) for home, store in stores.items()}
        super().__init__(catalog, unhurried, Mirrors(catalog, stores[Home.TABLES], stores[Home.LEDGER]))
        self._shadow = shadow
        self._compared: Compared | None = None

    def taken(self) -> Compared | None:
        """The last comparison, once."""
        found, self._compared = self._compared, None
        return found

    def perform(
        self,
        start: Start,
        run: str,
        *,
        exclusive: bool = False,  # noqa: ARG002 - the signature of every performer
        parking: Parking | None = None,
    ) -> Done:
        """Perform one run in a transaction that nobody waits for. Raises what went wrong; then nothing is committed."""
        transaction, ends = self._begun()
        try:
            done = self.join(replace(start, ends=ends), run, transaction, parking=parking, catches_up=False)
            live = transaction.progress(self._shadow.live.name)
            if live is not None and self._shadow.is_level(live, done.progress):
                self._compared = self._shadow.compared(transaction)
            transaction.commit()
            return done
        finally:
            transaction.rollback()

    def join(
        self,
        start: Start,
        run: str,
        transaction: Transaction,
        *,
        parking: Parking | None = None,
        catches_up: bool = True,
        is_trial: bool = False,
    ) -> Done:
        """Perform one run inside a transaction; the gate shows what the live one has released."""
        self._follow_gate(transaction)
        return super().join(start, run, transaction, parking=parking, catches_up=catches_up, is_trial=is_trial)

    def inspect(self, start: Start, transaction: Transaction, looks: Callable[..., Any]) -> Any:
        """Show what a run would take."""
        self._follow_gate(transaction)
        return super().inspect(start, transaction, looks)

    def _begun(self) -> tuple[Transaction, Mapping[str, int]]:
        """A transaction in which the copies of topics reach to where the step will end; copied first where they do not."""
        transaction = self.stores[Home.TABLES].begin()
        ends, lacks = self._ends(transaction)
        if not lacks:
            return transaction, ends
        transaction.rollback()
        self.mirrors.prepare(self._shadow.job, self.catalog.plan(self._shadow.job))
        transaction = self.stores[Home.TABLES].begin()
        return transaction, self._ends(transaction)[0]

    def _ends(self, transaction: Transaction) -> tuple[Mapping[str, int], bool]:
        shadow = self._shadow
        live, mine = transaction.progress(shadow.live.name), transaction.progress(shadow.job.name)
        ends = shadow.ends(live, mine) if live is not None and mine is not None else {}
        topics = self.mirrors.needed(shadow.job, self.catalog.plan(shadow.job))
        reached = {topic: mine.cursors.get(topic, 0) if mine is not None else 0 for topic in topics}
        lacks = any(
            topic not in ends or transaction.head(topic).offset < max(ends[topic], reached[topic]) for topic in topics
        )
        return ends, lacks

    def _follow_gate(self, transaction: Transaction) -> None:
        asset, live = gate_asset(self._shadow.job.name), gate_asset(self._shadow.live.name)
        if self._shadow.job.gate is not None and transaction.head(live).offset:
            cast(Taking, transaction).take_over(asset, live)


@dataclass(slots=True)
class Shadow:
    """A job (`job`, hidden) beside a live one. `stores` are the project's own; `shapes` gives the columns of all tables.

    `leads`: it may go ahead of the live job, for its mode is the faster one.
    """

    live: Job
    job: Job
    catalog: HiddenCatalog
    stores: Mapping[Home, Store]
    shapes: Callable[[], Mapping[str, tuple[Column, ...]]]
    leads: bool = False
    samples: int = SAMPLES
    cut: Cut = field(default_factory=Cut)
    _last: tuple[str, str] = ("", "")
    _performer: _Apart = field(init=False)

    def __post_init__(self) -> None:
        self._performer = _Apart(self, self.catalog, self.stores)

    @property
    def output(self) -> str:
        """The live table."""
        return self.live.outputs[0]

    @property
    def shared(self) -> list[str]:
        """The inputs that both read."""
        return [asset for asset in self.job.inputs if asset in self.live.inputs]

    # Stepping.

    def step(self, run: str, now: float) -> Stepped | None:
        """Take what there is to take, and compare; None where there is nothing to do. Raises what went wrong."""
        live, mine = self._known()
        if live is None or not live.run or live.version != self.live.version:
            return None  # the live job has not run, or is to be rebuilt first
        if mine is None or mine.version not in (self.job.version, self.job.version + DOUBTED):
            mine = self._seed(now)
        if not self._has_work(live, mine):
            return None
        begun = time.perf_counter()
        self._performer.taken()  # of a step that failed after it
        start = Start(self.job.name, 1, Readiness(True, ("beside the live job",)), now)
        done = self._performed(start, run)
        compared = self._performer.taken()
        seconds = time.perf_counter() - begun - (compared.seconds if compared is not None else 0.0)
        self._last = (live.run, done.progress.run)
        return Stepped(done, seconds, compared)

    def _performed(self, start: Start, run: str) -> Done:
        try:
            return self._performer.perform(start, run)
        except Exception as error:
            if self.job.on_error is not OnError.PARK or not is_of_transform(error):
                raise
            return perform_without_poison(self._performer, start, run, error)

    def _known(self) -> tuple[Progress | None, Progress | None]:
        reader = self.stores[Home.TABLES].begin(exclusive=False)
        try:
            return reader.progress(self.live.name), reader.progress(self.job.name)
        finally:
            reader.rollback()

    def _has_work(self, live: Progress, mine: Progress) -> bool:
        if mine.version != self.job.version or self._last != (live.run, mine.run):
            return True
        return self.leads and bool(self._news(mine))

    def _news(self, mine: Progress) -> list[str]:
        return [asset for asset in self.job.inputs if self._head(asset).offset > mine.cursors.get(asset, 0)]

    def _seed(self, now: float) -> Progress:
        """Let the shadow begin where the live job is: its first step makes the result anew there."""
        heads = {asset: self._head(asset) for asset in self.job.inputs if asset not in self.live.inputs}
        transaction = self.stores[Home.TABLES].begin()
        try:
            live, mine = transaction.progress(self.live.name), transaction.progress(self.job.name)
            assert live is not None, "the live job has run"
            cursors = {asset: live.cursors.get(asset, 0) for asset in self.shared}
            generations = {asset: live.generations[asset] for asset in self.shared if asset in live.generations}
            cursors |= {asset: head.offset for asset, head in heads.items()}
            generations |= {asset: head.generation for asset, head in heads.items()}
            seeded = doubted(Progress(self.job.name, self.job.version, cursors, generations, served_at=now))
            transaction.settle(seeded, mine)
            transaction.commit()
            return seeded
        finally:
            transaction.rollback()

    def _head(self, asset: str) -> Head:
        reader = self.stores[self.catalog.home(asset)].begin(exclusive=False)
        try:
            return reader.head(asset)
        finally:
            reader.rollback()

    def ends(self, live: Progress, mine: Progress) -> Mapping[str, int]:
        """Where a step ends: at the live job's cursors; at the heads where it leads and is not behind the live job."""
        behind = any(mine.cursors.get(asset, 0) < live.cursors.get(asset, 0) for asset in self.shared)
        ahead = any(mine.cursors.get(asset, 0) > live.cursors.get(asset, 0) for asset in self.shared)
        if self.leads and (ahead or not behind):
            return {}
        return {asset: max(live.cursors.get(asset, 0), mine.cursors.get(asset, 0)) for asset in self.shared}

    def is_level(self, live: Progress, mine: Progress) -> bool:
        """Whether both have read their common inputs equally far, each by its present definition."""
        if live.version != self.live.version or mine.version != self.job.version:
            return False
        return all(mine.cursors.get(asset, 0) == live.cursors.get(asset, 0) for asset in self.shared)

    # Comparing.

    def compared(self, reader: Reader, samples: int = 0) -> Compared:
        """Both tables as they are in this snapshot. Raises RunCancelled where `cut` ends it."""
        begun = time.perf_counter()
        plan, told = self.catalog.plan(self.job), self.shapes().get(self.output, ())
        mine = {column.name: column.type for column in plan.columns}
        shared = tuple(column for column in told if mine.get(column.name) == column.type)
        names = ", ".join([RID, *(quoted(column.name) for column in shared)])
        ours = Slice(hidden(self.output), 0, reader.head(hidden(self.output)).offset)
        wanted = Statement(f"SELECT {names} FROM {quoted(f'@input:{_SHADOW}')}", {_SHADOW: ours})
        live = Slice(self.output, 0, reader.head(self.output).offset)
        key, identity = self._pairs(plan, {column.name for column in shared})
        sides = Sides(shared, live, wanted, key, identity)
        with self.cut.over(cast(Taking, reader)):
            rows = compare(sides, cast(Taking, reader).evaluate, samples or self.samples)
        return Compared(rows, _columns_differ(told, plan.columns), time.perf_counter() - begun)

    def _pairs(self, plan: Plan, shared: set[str]) -> tuple[tuple[str, ...] | None, str]:
        """What makes two rows a pair: the key, else the input row that both belong to."""
        if plan.key is not None and set(plan.key) <= shared:
            return plan.key, ""
        of_live = self.catalog.live.plan(self.live)
        is_rowwise = plan.kind == of_live.kind == "rowwise" and self.job.inputs == self.live.inputs
        return None, RID if is_rowwise else ""

    def looked(self, samples: int) -> Compared | None:
        """Both tables compared now; None where the cursors are not equal. Changes nothing."""
        reader = self.stores[Home.TABLES].begin(exclusive=False)
        try:
            live, mine = reader.progress(self.live.name), reader.progress(self.job.name)
            is_level = live is not None and mine is not None and self.is_level(live, mine)
            return self.compared(reader, samples) if is_level else None
        finally:
            reader.rollback()

    # Taking over.

    def take_over(
        self, wanted: Job, run: str, may: Callable[[Compared], bool], before_commit: Callable[[], None]
    ) -> tuple[Compared, TakenOver | None]:
        """Let the live job go on as `wanted`, which this shadow ran: rows, stages, parked rows and cursors in one commit.

        Nothing is committed where `may` says no to the comparison. `before_commit` is called when everything is written and
        nobody else can commit. Raises UserError where the two are not at equal cursors, AssertionBroken where what the
        job asserts would not hold.
        """
        transaction = cast(Taking, self.stores[Home.TABLES].begin())
        try:
            live, mine = transaction.progress(self.live.name), transaction.progress(self.job.name)
            if live is None or mine is None or not self.is_level(live, mine):
                raise UserError(
                    f"`{self.live.name}` and its shadow have not read equally far yet",
                    mend=f"let both go on (tidemill run), then ask again: tidemill shadow {self.live.name} --promote",
                )
            compared = self.compared(transaction)
            if not may(compared):
                return compared, None
            taken = take_over(transaction, wanted, self.job, self.catalog.plan(self.job), run)
            before_commit()
            heads = transaction.commit()
        finally:
            transaction.rollback()
        return compared, replace(taken, heads={self.output: heads[self.output]})


def _columns_differ(live: tuple[Column, ...], mine: tuple[Column, ...]) -> str:
    """How the columns of the two differ, in words."""
    before, after = ({column.name: column.type for column in columns} for columns in (live, mine))
    told = [f"{name} {kind} is new" for name, kind in after.items() if name not in before]
    told += [f"{name} is gone" for name in before if name not in after]
    told += [
        f"{name} is {after[name]} instead of {kind}"
        for name, kind in before.items()
        if name in after and after[name] != kind
    ]
    return ", ".join(told)
