"""Replays and backfills while one operation of a store after the other fails, as a crash would leave it.

After the N-th operation of either store nothing more is done; somebody else then goes on with what the stores hold. For
every N: what is made in tables is what the whole transform gives, and what went out went out under keys that tell.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import pyarrow as pa
import pytest

from tidemill.core.change import ORDINAL, PARENT, Appended, Images, Output, Slice
from tidemill.core.event import Readiness, Start
from tidemill.core.model import Asset, AssetKind, Home, Job, Takes
from tidemill.core.ports import Plan, Progress, Reader, Store, Work
from tidemill.core.slices import Span, left
from tidemill.runtime.again import Again
from tidemill.runtime.backfill import Backfill
from tidemill.runtime.backfilled import backfilled
from tidemill.runtime.beside import beside
from tidemill.runtime.catalog import Catalog
from tidemill.runtime.delivered import delivered, replay_of, runs_asset
from tidemill.runtime.mirror import Mirrors
from tidemill.runtime.outside import Outside
from tidemill.runtime.perform import Performer
from tidemill.runtime.skipped import skip
from tidemill.stores.sqlite import SQLiteStore
from tidemill.testing.contract.probe import COLUMNS, contents, lines, reading
from tidemill.testing.faults import FaultPlan, Faulty, Injected
from tidemill.testing.memory import MemoryStore

ROWS = 7
TOPIC = Asset("in", AssetKind.TOPIC, columns=COLUMNS)
MADE = Job("made", ("in",), ("out",), Takes.SQL, "", "1")
SENT = Job("sent", ("in",), ("mail",), Takes.RUN, "", "1", home=Home.LEDGER, rebuilds=False, max_changes=2)
WANTED = sorted(((n, f"n{n}!") for n in range(ROWS)), key=repr)


class Shouting:
    """An engine that works row by row."""

    def plan(self, job: Job, inputs: Mapping[str, Asset]) -> Plan:
        """Outputs belong to input rows."""
        return Plan("rowwise", COLUMNS)

    def compute(self, work: Work, reader: Reader) -> Iterable[tuple[str, Output]]:
        """Each row, louder."""
        ((asset, (from_, to)),) = work.ranges.items()
        read = lines(reader, Slice(asset, from_, to, Images.ADDED))
        made = {
            "id": pa.array([row["id"] for row in read], pa.int64()),
            "name": pa.array([f"{row['name']}!" for row in read], pa.string()),
            PARENT: pa.array([row["_rid"] for row in read], pa.string()),
            ORDINAL: pa.array([0] * len(read), pa.int64()),
        }
        yield work.job.outputs[0], Appended(pa.table(made))


@dataclass
class World:
    """What survives: two stores, and what went out (key, rows)."""

    ledger: SQLiteStore = field(default_factory=SQLiteStore)
    tables: MemoryStore = field(default_factory=MemoryStore)
    mails: list[tuple[str, tuple[int, ...]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.ledger.append(TOPIC, b"".join(b'{"id": %d, "name": "n%d"}\n' % (n, n) for n in range(ROWS)))

    def process(self, plan: FaultPlan, changes: int = 2) -> Process:
        """A process that ends where the plan says; its slices have so many changes."""
        return Process(self, {Home.LEDGER: Faulty(self.ledger, plan), Home.TABLES: Faulty(self.tables, plan)}, changes)


class Process:
    """One process over the stores; all it knows it reads from them."""

    def __init__(self, world: World, stores: Mapping[Home, Store], changes: int) -> None:
        self._changes = changes
        assets = {"in": TOPIC, "out": Asset("out", AssetKind.TABLE), "mail": Asset("mail", AssetKind.EXTERNAL)}
        self.catalog = Catalog(assets, {"made": MADE, "sent": SENT}, {Takes.SQL: Shouting()})
        self.stores = stores
        mirrors = Mirrors(self.catalog, stores[Home.TABLES], stores[Home.LEDGER])
        self.performer = Performer(self.catalog, stores, mirrors)
        self.outside = Outside(self.catalog, stores, mirrors, lambda _: self._act, lambda _: True)
        self._world = world

    def _act(self, work: Work, reader: Reader, key: str) -> Mapping[str, str]:
        from_, to = work.ranges["in"]
        rows = lines(reader, Slice("in", from_, to, Images.ADDED))
        self._world.mails.append((key, tuple(row["id"] for row in rows)))
        return {}

    def _run(self) -> str:
        return f"run of mail {len(self._world.mails)}"

    def make_beside(self) -> None:
        """`replay made --into again`."""
        twin, targets = beside(self.catalog, self.stores, MADE, "again"), {"in": ROWS}
        if twin.cursors is None:
            twin.begin(0)
        while left(twin.cursors or {}, targets):
            twin.step("run", 0.0, targets, self._changes)

    def fill(self) -> None:
        """`backfill made`."""
        work = Backfill(MADE, self.performer, self.outside)
        while spans := work.skipped():
            span = spans[0]
            work.fill(Span(span.asset, span.from_, min(span.to, span.from_ + self._changes)), "run")

    def send_history(self) -> None:
        """`backfill sent`."""
        work = Backfill(SENT, self.performer, self.outside)
        if (pinned := work.pinned) is not None:
            work.deliver(pinned, self._run(), 0.0)
        while spans := work.skipped():
            span = spans[0]
            work.deliver(
                work.pin(Span(span.asset, span.from_, min(span.to, span.from_ + self._changes))), self._run(), 0.0
            )

    def send(self) -> None:
        """What the job itself does."""
        for number in range((ROWS + 1) // 2):
            self.outside.perform(Start("sent", 1, Readiness(True, ()), 0.0), f"run{number}")

    def _is_sent_again(self) -> bool:
        with reading(self._world.ledger) as reader:
            known = reader.progress(replay_of("sent"))
        return known is not None and known.pinned is None

    def send_again(self) -> None:
        """`replay sent`."""
        work = Again(SENT, self.outside)
        if self._is_sent_again():  # only the answer was lost
            return
        going = work.progress or work.begin("first", 0, work.recorded()[-1].offset)
        for each in work.left(going):
            going = work.deliver(going, each, f"again{each.offset}")
        work.end(going)


def moved_over(world: World, job: Job) -> None:
    """The job's cursor stands at the head, and all before it was skipped."""
    store: Store = world.tables if job.home is Home.TABLES else world.ledger
    transaction = store.begin()
    transaction.settle(Progress(job.name, "1", {"in": ROWS}, {"in": 1}), None)
    skip(transaction, job, [Span("in", 0, ROWS)])
    transaction.commit()


def crashes(prepared: Callable[[], World], work: Callable[[Process], None]) -> Iterator[World]:
    """A world for each operation, and each commit, that can fail: after the crash somebody else went on to the end."""
    for kind in ("operation", "before_commit", "after_commit"):
        number = 0
        while True:
            number += 1
            world = prepared()
            try:
                work(world.process(FaultPlan(**{kind: number})))
            except Injected:
                work(world.process(FaultPlan(), changes=3))  # another machine, another pace
                yield world
            else:
                assert number > 3, f"nothing failed at {kind} {number}"
                break


def test_a_side_table_is_right_whatever_operation_failed() -> None:
    for world in crashes(World, Process.make_beside):
        assert contents(world.tables, "again") == WANTED
        assert "out" not in world.tables.positions().heads


def test_a_backfilled_table_is_the_whole_transform_whatever_operation_failed() -> None:
    def prepared() -> World:
        world = World()
        moved_over(world, MADE)
        return world

    for world in crashes(prepared, Process.fill):
        assert contents(world.tables, "out") == WANTED
        assert is_all_history(world.tables, MADE)


def is_all_history(store: Store, job: Job) -> bool:
    """Whether all that was ever written is labelled, and no offset that nothing was written at."""
    (output,) = job.outputs
    with reading(store) as reader:
        head = reader.head(output).offset
        return backfilled(reader, job, output, head) == [(0, head)]


def test_history_goes_out_in_slices_of_one_key_each_and_at_most_one_is_repeated() -> None:
    def prepared() -> World:
        world = World()
        moved_over(world, SENT)
        return world

    for world in crashes(prepared, Process.send_history):
        assert all_went_out(world.mails)
        assert len(world.mails) - len(set(world.mails)) <= 1
        with reading(world.ledger) as reader:
            runs = list(delivered(reader, SENT, 0, reader.head(runs_asset("sent")).offset))
        assert is_all_history(world.ledger, SENT)
        ends = [0, *(run.ranges["in"][1] for run in runs)]
        assert [run.ranges["in"] for run in runs] == list(zip(ends, [*ends[1:]], strict=False))
        assert ends[-1] == ROWS
        assert {run.key for run in runs} == {key for key, _ in world.mails}


def test_what_went_out_goes_out_again_under_its_keys_and_at_most_one_is_repeated() -> None:
    def prepared() -> World:
        world = World()
        world.process(FaultPlan()).send()
        return world

    first = prepared().mails
    assert all_went_out(first)
    for world in crashes(prepared, Process.send_again):
        again = world.mails[len(first) :]
        assert list(dict.fromkeys(again)) == first
        assert len(again) <= len(first) + 1
        assert world.ledger.positions().progress["sent"].cursors == {"in": ROWS}


def all_went_out(mails: list[tuple[str, tuple[int, ...]]]) -> bool:
    """Whether every row went out, each under one key, and a key always meant the same rows."""
    distinct = dict.fromkeys(mails)
    rows = Counter(row for _, sent in distinct for row in sent)
    return len({key for key, _ in distinct}) == len(distinct) and rows == Counter(range(ROWS))


@pytest.mark.parametrize("job", [MADE, SENT], ids=lambda job: job.name)
def test_the_harness_sees_a_crash_that_loses_work(job: Job) -> None:
    world = World()
    moved_over(world, job)
    process = world.process(FaultPlan(operation=12))
    with pytest.raises(Injected):
        (process.fill if job is MADE else process.send_history)()
    assert "out" not in world.tables.positions().heads or contents(world.tables, "out") != WANTED
    assert not all_went_out(world.mails)
