"""Runs with outside effects that end together: one commit for all of them, and each its own outcome."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Barrier, Event

import pytest

from tests.e2e.conftest import until
from tidemill.core.errors import Conflict
from tidemill.core.event import Readiness, Start
from tidemill.core.model import Asset, AssetKind, Home, Job, Takes
from tidemill.core.ports import Progress, Reader, Work
from tidemill.runtime.catalog import Catalog
from tidemill.runtime.mirror import Mirrors
from tidemill.runtime.outside import Outside
from tidemill.runtime.perform import Done
from tidemill.stores.sqlite import SQLiteStore
from tidemill.testing.memory import MemoryStore

COUNT = 6


class World:
    """Jobs that all act at the same time; the first that is settled is held up until the others wait behind it."""

    def __init__(self) -> None:
        self._have_acted = Barrier(COUNT)
        self._are_over = Event()
        self._is_first_settled = Event()
        self.commits = 0
        self.intruder = ""
        self.ledger = SQLiteStore(hook=self._saw)
        names = [f"job{number}" for number in range(COUNT)]
        outputs = {name: Asset(f"of_{name}", AssetKind.EXTERNAL) for name in names}
        assets = {"start": Asset("start", AssetKind.EXTERNAL), **{asset.name: asset for asset in outputs.values()}}
        jobs = {name: Job(name, ("start",), (f"of_{name}",), Takes.RUN, "", "1", home=Home.LEDGER) for name in names}
        catalog = Catalog(assets, jobs)
        tables = MemoryStore()
        stores = {Home.LEDGER: self.ledger, Home.TABLES: tables}
        mirrors = Mirrors(catalog, tables, self.ledger)
        self.outside = Outside(catalog, stores, mirrors, lambda _: self._act, lambda _: True)
        self.ledger.touch("start", "one")

    def _saw(self, statement: str) -> None:
        if not self._are_over.is_set():
            return
        if statement == "begin immediate" and not self._is_first_settled.is_set():
            self._is_first_settled.set()
            until(lambda: len(self.outside._ending) == COUNT - 1, "the others to end")
        self.commits += statement == "commit"

    def _act(self, work: Work, _reader: Reader, _key: str) -> Mapping[str, str]:
        if work.job.name == self.intruder:
            self._move_its_cursor(work.job.name)
        self._have_acted.wait(timeout=30)
        self._are_over.set()
        if work.job.name == self.intruder:
            assert self._is_first_settled.wait(timeout=30)
        return {}

    def _move_its_cursor(self, job: str) -> None:
        transaction = self.ledger.begin()
        before = transaction.progress(job)
        transaction.settle(Progress(job, "1", {"start": 1}, {"start": 1}, "somebody else's"), before)
        transaction.commit()

    def run_all(self) -> dict[str, Future[Done]]:
        starts = [Start(f"job{number}", 1, Readiness(True, ()), 0.0) for number in range(COUNT)]
        with ThreadPoolExecutor(COUNT) as threads:
            return {start.job: threads.submit(self.outside.perform, start, f"run of {start.job}") for start in starts}


@pytest.fixture
def world() -> Iterator[World]:
    made = World()
    yield made
    made.ledger.close()


def test_runs_that_end_together_are_settled_in_one_commit(world: World) -> None:
    ended = world.run_all()
    assert world.commits == 2, "the one that came first, and all that came while it committed"
    for name, done in ended.items():
        assert done.result().heads[f"of_{name}"].offset == 1
        assert list(done.result().heads) == [f"of_{name}"]
        settled = world.ledger.positions().progress[name]
        assert (settled.run, settled.cursors, settled.pinned) == (f"run of {name}", {"start": 1}, None)


def test_one_that_cannot_be_settled_keeps_the_others_from_nothing(world: World) -> None:
    world.intruder = "job3"
    ended = world.run_all()
    failed = {name for name, done in ended.items() if done.exception() is not None}
    assert failed == {"job3"}
    assert isinstance(ended["job3"].exception(), Conflict)
    positions = world.ledger.positions()
    assert positions.progress["job3"].run == "somebody else's"
    assert {name for name in ended if f"of_{name}" in positions.heads} == ended.keys() - failed
