"""A run writes what its engine yields, one output at a time, and tells the engine what earlier runs left out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import pytest

from tidemill.core.change import Appended, Changed, Images, Output, Replaced, Slice
from tidemill.core.event import Readiness, Start
from tidemill.core.model import Asset, AssetKind, Home, Job, Takes
from tidemill.core.ports import Plan, Reader, Table, Work
from tidemill.runtime.catalog import Catalog
from tidemill.runtime.mirror import Mirrors
from tidemill.runtime.parking import ParkedRow, Parking
from tidemill.runtime.perform import Done, Performer
from tidemill.testing.contract.probe import COLUMNS, contents, lines, rows, write
from tidemill.testing.memory import MemoryStore

JOB = Job("j", ("in",), ("out",), Takes.SQL, "", "1")
STAGE = "j@stage1"


class Staging:
    """An engine that keeps a stage beside its output and reads it back: the output is what the stage shows by then."""

    def __init__(self, *, is_planned: bool = True) -> None:
        self.works: list[Work] = []
        self._tables = {STAGE: Table(STAGE, COLUMNS)} if is_planned else {}

    def plan(self, job: Job, inputs: Mapping[str, Asset]) -> Plan:
        """A plan with a table of its own."""
        return Plan("recompute", COLUMNS, tables=self._tables)

    def compute(self, work: Work, reader: Reader) -> Iterable[tuple[str, Output]]:
        """The new rows into the stage, then everything that is in the stage by now into the output."""
        self.works.append(work)
        ((from_, to),) = work.ranges.values()
        new = lines(reader, Slice("in", from_, to, Images.ADDED, excluding=work.excluding.get("in", ())))
        shown = [(line["id"], line["name"]) for line in new]
        yield STAGE, Changed(rows(*shown, rid=[line["_rid"] for line in new], weight=[1] * len(new)))
        kept = lines(reader, Slice(STAGE, 0, reader.head(STAGE).offset))
        given = rows(*((line["id"], line["name"]) for line in kept), parent=[line["_rid"] for line in kept])
        yield "out", Replaced(given, None)


class World:
    """One job over a table, in stores of plain Python."""

    def __init__(self, engine: Staging) -> None:
        assets = {"in": Asset("in", AssetKind.TABLE, columns=COLUMNS), "out": Asset("out", AssetKind.TABLE)}
        catalog = Catalog(assets, {JOB.name: JOB}, {Takes.SQL: engine})
        self.catalog = catalog
        self.tables = MemoryStore()
        ledger = MemoryStore(Home.LEDGER)
        stores = {Home.TABLES: self.tables, Home.LEDGER: ledger}
        self._performer = Performer(catalog, stores, Mirrors(catalog, self.tables, ledger))

    def run(self, name: str, parking: Parking | None = None) -> Done:
        """Perform one run."""
        start = Start("j", 1, Readiness(True, ()), 0.0)
        return self._performer.perform(start, name, parking=parking)

    def put(self, *values: tuple[int, str], rid: list[str]) -> None:
        """Add rows to the input."""
        write(self.tables, "in", Appended(rows(*values, rid=rid)))


def test_a_later_output_reads_what_an_earlier_one_wrote() -> None:
    world = World(Staging())
    world.put((1, "a"), (2, "b"), rid=["r1", "r2"])
    world.run("first")
    assert contents(world.tables, "out") == [(1, "a"), (2, "b")]
    world.put((3, "c"), rid=["r3"])
    world.run("second")
    assert contents(world.tables, "out") == contents(world.tables, STAGE) == [(1, "a"), (2, "b"), (3, "c")]


def test_a_run_counts_the_changes_of_its_own_outputs() -> None:
    world = World(Staging())
    world.put((1, "a"), (2, "b"), rid=["r1", "r2"])
    done = world.run("first")
    assert done.rows_out == 2
    assert list(done.heads) == ["out"]


def test_an_internal_asset_without_a_planned_shape_is_an_error_and_nothing_is_written() -> None:
    world = World(Staging(is_planned=False))
    world.put((1, "a"), rid=["r1"])
    with pytest.raises(KeyError):
        world.run("first")
    assert sorted(world.tables.positions().heads) == ["in"]


def test_a_stage_lives_where_the_outputs_live() -> None:
    catalog = World(Staging()).catalog
    assert catalog.home(STAGE) is Home.TABLES
    assert catalog.home("j@stage:2") is Home.TABLES


def test_an_engine_is_told_which_rows_were_parked_when_the_run_began() -> None:
    engine = Staging()
    world = World(engine)
    world.put((1, "a"), (2, "bad"), rid=["r1", "r2"])
    world.run("first", Parking((ParkedRow("in", "r2", 3, "bad"),)))
    world.put((3, "bad too"), rid=["r3"])
    world.run("second", Parking((ParkedRow("in", "r3", 4, "bad"),)))
    assert [dict(work.excluding) for work in engine.works] == [{"in": ("r2",)}, {"in": ("r2", "r3")}]
    assert [dict(work.excluding_before) for work in engine.works] == [{}, {"in": ("r2",)}]
    assert contents(world.tables, "out") == [(1, "a")]
