"""`replay` of a table in place: made anew beside in slices while its job goes on, then the difference is committed (rule 28)."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import duckdb
import pytest

from tests.e2e.conftest import DEADLINE_SECONDS, ORDERS, Project, order, ran, rows, until, watching
from tests.e2e.test_retention import KEPT, passed, retention
from tests.e2e.test_shadow_crashes import Crashed, crashes
from tests.e2e.test_side_tables import CODE, JOBS, TOTALS, killed, many
from tidemill.core.errors import TidemillError
from tidemill.project.mill import Mill

READER = "-- mode: realtime\nselect sum(total) as total from totals"


def traces(mill: Mill) -> list[str]:
    """Everything that a replay could leave behind."""
    held = mill.machine.tables.positions()
    names = [*held.heads, *held.progress, *mill.machine.tables.shapes()]
    return [*(name for name in names if "~" in name), *mill.machine.ledger.notes("anew")]


def head(mill: Mill, asset: str) -> int:
    return int(mill.machine.tables.positions().heads[asset].offset)


def edited(project: Project, sql: str) -> None:
    """Somebody writes past the engine."""
    with duckdb.connect(str(project.folder / ".tidemill/tables.duckdb")) as tables:
        tables.execute(sql)


COUNT = 12_000
"""So many orders are several slices beside live work, the first of which has 5,000."""
HALF = COUNT // 2
WANTED = [("ada", HALF, COUNT), ("bob", HALF, COUNT)]


def shop(project: Project, **jobs: str) -> None:
    project.write({"tidemill.toml": ORDERS, **{f"jobs/{name}.sql": text for name, text in jobs.items()}})
    with project.open() as mill:
        mill.emit("orders", [order(n, "ada" if n % 2 else "bob", n % 5) for n in range(COUNT)])
        ran(mill)


@pytest.mark.parametrize("job", ["totals", "large"])
def test_where_nothing_differs_a_replay_changes_nothing_and_leaves_nothing(project: Project, job: str) -> None:
    shop(project, **{job: JOBS[job][0]})
    with project.open() as mill:
        before = rows(mill, JOBS[job][1].format(job)), head(mill, job)
        done = mill.replay(job)
        assert (done["state"], done["runs"], done["changes"]) == ("finished", 1, 0)
        assert done["slices"] > 1
        assert (rows(mill, JOBS[job][1].format(job)), head(mill, job)) == before
        assert traces(mill) == []
        run = mill.runs(job=job, limit=1)[0]
        assert (run["state"], run["mode"], run["inputs"], run["readiness"]["rebuild"]) == (
            "succeeded", "replay", {"orders": [0, COUNT]}, True,
        )  # fmt: skip
        mill.emit("orders", [order(COUNT, "eve", 100)])
        assert ran(mill)["failed"] == 0
        assert mill.reconcile(job)["equal"]


def test_what_differs_comes_to_readers_as_ordinary_changes(project: Project) -> None:
    shop(project, totals=TOTALS, grand=READER)
    edited(project, "update store.totals set total = 1000 where customer = 'ada'")
    with project.open() as mill:
        assert rows(mill, "select total from totals order by 1") == [(1_000,), (COUNT,)]
        done = mill.replay("totals")
        assert (done["slices"] > 1, done["changes"]) == (True, 1)
        ran(mill)
        assert rows(mill, "select * from totals order by 1") == WANTED
        assert not any(run["readiness"]["rebuild"] for run in mill.runs(job="grand"))
        assert mill.reconcile("totals")["equal"]


def halving(project: Project, **words: str) -> None:
    """A job by row that cannot process the order of which the file `bad` says the amount."""
    code = CODE.replace("12 // (row['amount'] - 3)", "12 // (row['amount'] - int(open(HERE / 'bad').read()))")
    code = code.replace(
        "import tidemill as tm", "import pathlib\nimport tidemill as tm\nHERE = pathlib.Path(__file__).parent.parent"
    )
    for word, said in words.items():
        code = code.replace("mode='realtime'", f"mode='realtime', {word}={said}")
    project.write({"tidemill.toml": ORDERS, "jobs/halves.py": code, "bad": "100"})
    with project.open() as mill:
        mill.emit("orders", [order(n, "ada", n) for n in range(1, 7)])
        assert ran(mill)["failed"] == 0


def parked(mill: Mill) -> list[Any]:
    return [letter["reason"] for letter in mill.dead() if letter["state"] == "parked"]


def test_rows_that_were_parked_are_tried_again_and_those_that_fail_are_parked(project: Project) -> None:
    halving(project)
    with project.open() as mill:
        project.write({"bad": "5"})
        done = mill.replay("halves")
        assert (done["state"], done["parked"], done["changes"]) == ("finished", 1, 6)
        assert rows(mill, "select id from halves order by 1") == [("o1",), ("o2",), ("o3",), ("o4",), ("o6",)]
        assert len(parked(mill)) == 1
        project.write({"bad": "100"})
        assert mill.replay("halves")["parked"] == 0
        assert len(rows(mill, "select * from halves")) == 6
        assert parked(mill) == []


def test_a_killed_replay_goes_on_without_doing_finished_slices_again(
    project: Project, started: Callable[..., subprocess.Popen[str]]
) -> None:
    many(project, 12_000)
    called = killed(project, started, "replay", "halves")
    done = project.json("replay", "halves")
    assert (done["state"], done["changes"]) == ("finished", 0)
    assert len(project.lines("calls")) - called < 12_000 - 1_500
    assert project.json("reconcile", "halves")["equal"]


def test_the_job_goes_on_while_its_table_is_made_anew_and_a_pause_pauses_both(project: Project) -> None:
    many(project, 12_000)
    with watching(project) as mill, ThreadPoolExecutor(1) as threads:
        asking = threads.submit(mill.replay, "halves")
        until(lambda: len(project.lines("calls")) > 500, "slices")
        mill.emit("orders", [order(20_000, "eve", 15)])
        until(lambda: rows(mill, "select * from halves where id = 'o20000'"), "the live job")
        assert not asking.done()
        mill.pause("halves")
        assert asking.result(DEADLINE_SECONDS)["state"] == "paused"
        assert len(rows(mill, "select * from halves")) == 12_001
        with pytest.raises(TidemillError, match="is paused"):
            mill.replay("halves")
        mill.resume("halves")
        done = mill.replay("halves")
        assert (done["state"], done["changes"]) == ("finished", 0)
        assert traces(mill) == []


class Busy:
    """The tables, of which the live job takes one more event just before the transaction of the take-over."""

    def __init__(self, mill: Mill, job: str, event: dict[str, Any]) -> None:
        self._mill = mill
        self._tables = mill.machine.tables
        self._job = job
        self._head = mill.machine.ledger.head("orders")
        self.event: dict[str, Any] | None = event

    def begin(self, *, exclusive: bool = True) -> Any:
        if exclusive and self.event is not None and self._is_made():
            event, self.event = self.event, None
            self._mill.emit("orders", [event])
            ran(self._mill)
        return self._tables.begin(exclusive=exclusive)

    def _is_made(self) -> bool:
        known = self._tables.positions().progress.get(f"{self._job}~anew")
        return known is not None and known.cursors["orders"] >= self._head

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tables, name)


def test_what_comes_between_the_last_slice_and_the_commit_is_not_lost(project: Project) -> None:
    shop(project, totals=TOTALS)
    with project.open() as mill:
        busy = Busy(mill, "totals", order(COUNT + 1, "ada", 1))
        mill.machine.tables = busy  # type: ignore[assignment]
        done = mill.replay("totals")
        assert busy.event is None
        assert (done["state"], done["changes"], done["failed"]) == ("finished", 0, 0)
        assert rows(mill, "select * from totals order by 1") == [("ada", HALF + 1, COUNT + 1), ("bob", HALF, COUNT)]
        assert mill.reconcile("totals")["equal"]


def test_a_row_that_comes_before_the_commit_and_cannot_be_processed_is_parked(project: Project) -> None:
    halving(project)
    with project.open() as mill:
        busy = Busy(mill, "halves", order(100, "eve", 100))
        mill.machine.tables = busy  # type: ignore[assignment]
        done = mill.replay("halves")
        assert busy.event is None
        assert (done["state"], done["changes"], done["parked"]) == ("finished", 0, 1)
        assert (len(rows(mill, "select * from halves")), len(parked(mill))) == (6, 1)


def interrupted(mill: Mill, job: str) -> None:
    """A replay that died after its first slice."""
    tables, count = mill.machine.tables, [0]

    def told(said: dict[str, Any]) -> None:
        count[0] += 1
        raise Crashed("dead")

    with pytest.raises(Crashed):
        mill.replay(job, progress=told)
    assert count == [1]
    assert f"{job}~anew" in tables.positions().progress


def test_an_unfinished_replay_can_be_let_go(project: Project) -> None:
    shop(project, totals=TOTALS)
    with project.open() as mill:
        interrupted(mill, "totals")
    assert "totals: gone" in project.cli("replay", "totals", "--abandon").stdout
    assert "no replay of `totals` is unfinished" in project.cli("replay", "totals", "--abandon", code=2).stderr
    with project.open() as mill:
        assert traces(mill) == []
        assert rows(mill, "select * from totals order by 1") == WANTED


@pytest.mark.parametrize("becomes", ["another", "gone"])
def test_what_was_made_for_a_job_that_is_another_one_by_now_goes(project: Project, becomes: str) -> None:
    shop(project, totals=TOTALS)
    with project.open() as mill:
        interrupted(mill, "totals")
    if becomes == "gone":
        project.remove("jobs/totals.sql")
    else:
        project.write({"jobs/totals.sql": TOTALS.replace("sum(amount)", "max(amount)")})
    with project.open() as mill:
        ran(mill)
        assert traces(mill) == []


def test_a_definition_that_changes_meanwhile_ends_the_replay(project: Project) -> None:
    shop(project, totals=TOTALS)
    with watching(project) as mill:
        changed = TOTALS.replace("sum(amount)", "max(amount)")

        def told(said: dict[str, Any]) -> None:
            project.write({"jobs/totals.sql": changed})
            with contextlib.suppress(TidemillError):
                until(lambda: rows(mill, "select total from totals where customer = 'ada'") == [(4,)], "the new query")

        with pytest.raises(TidemillError, match="`totals` is to be made anew by itself meanwhile"):
            mill.replay("totals", progress=told)
        assert mill.replay("totals")["changes"] == 0
        assert rows(mill, "select * from totals order by 1") == [("ada", HALF, 4), ("bob", HALF, 4)]
        assert traces(mill) == []


def test_what_the_job_asserts_must_hold_of_what_was_made(project: Project) -> None:
    halving(project, assert_="['rows between 6 and 99']")
    with project.open() as mill:
        project.write({"bad": "5"})
        with pytest.raises(TidemillError, match="rows between"):
            mill.replay("halves")
        assert len(rows(mill, "select * from halves")) == 6
        assert parked(mill) == []
        project.write({"bad": "100"})
        assert mill.replay("halves", is_abandoned=True)["state"] == "abandoned"
        assert mill.replay("halves")["changes"] == 0


PAIRS = "select a.id, b.id as other from orders a join orders b on a.id = b.id where a.amount > 3"


def test_jobs_whose_work_cannot_be_cut_are_made_anew_in_one_run(project: Project) -> None:
    shop(project, totals=TOTALS, top=JOBS["top"][0], pairs=PAIRS)
    with project.open() as mill:
        for job in ("top", "pairs"):
            done = mill.replay(job)
            assert (done["failed"], done["changes"], "slices" in done) == (0, 0, False)
            assert mill.runs(job=job, limit=1)[0]["readiness"]["rebuild"]


def test_a_replay_that_dies_at_any_operation_is_right_and_goes_on(project: Project) -> None:
    shop(project, totals=TOTALS, grand=READER)
    edited(project, "update store.totals set total = 1000 where customer = 'ada'")
    for died in crashes(project, lambda mill: mill.replay("totals"), last=6):
        with died.open() as mill:
            assert ran(mill)["failed"] == 0
            table = rows(mill, "select * from totals order by 1")
            assert table in (WANTED, [("ada", HALF, 1_000), ("bob", HALF, COUNT)])
            if table == WANTED:
                assert traces(mill) == []
            done = mill.replay("totals")
            assert (done["state"], done["changes"]) == ("finished", int(table != WANTED))
            assert rows(mill, "select * from totals order by 1") == WANTED
            assert traces(mill) == []
            mill.emit("orders", [order(COUNT, "ada", 1)])
            ran(mill)
            assert mill.reconcile("totals")["equal"]


def test_what_set_the_job_off_does_not_set_it_off_again(project: Project) -> None:
    shop(project)
    toml = ORDERS + '\n[assets.day]\nkind = "external"\n'
    project.write({"tidemill.toml": toml, "jobs/totals.sql": TOTALS.replace("mode: realtime", "on: day")})
    with project.open() as mill:
        mill.touch("day")
        assert ran(mill)["runs"] == 1
        mill.emit("orders", [order(COUNT, "ada", 1)])
        assert mill.replay("totals")["changes"] == 0
    with project.open() as mill:
        assert ran(mill)["runs"] == 0
        mill.touch("day")
        assert ran(mill)["runs"] == 1
        assert rows(mill, "select n from totals where customer = 'ada'") == [(HALF + 1,)]


def test_a_pause_in_the_last_slice_is_heard_and_stands(project: Project) -> None:
    shop(project, totals=TOTALS)
    edited(project, "update store.totals set total = 1000 where customer = 'ada'")
    with project.open() as mill:

        def told(said: dict[str, Any]) -> None:
            if said["done"] == said["total"]:
                mill.pause("totals")

        assert mill.replay("totals", progress=told)["state"] == "paused"
        assert mill.explain("totals")["state"] == "paused"
        assert rows(mill, "select * from totals order by 1") != WANTED
        mill.resume("totals")
        done = mill.replay("totals")
        assert (done["state"], done["slices"], done["changes"]) == ("finished", 0, 1)
        assert rows(mill, "select * from totals order by 1") == WANTED


def test_what_is_asserted_and_only_warns_is_an_alarm(project: Project) -> None:
    halving(project, assert_="['warn rows between 6 and 99']")
    with project.open() as mill:
        assert "warned" not in mill.runs(job="halves", limit=1)[0]["readiness"]
        project.write({"bad": "5"})
        assert mill.replay("halves")["state"] == "finished"
        assert "rows between" in mill.runs(job="halves", limit=1)[0]["readiness"]["warned"][0]["name"]


def test_an_unfinished_replay_keeps_what_it_has_not_read_from_expiring(project: Project) -> None:
    project.write({"tidemill.toml": KEPT, "jobs/totals.sql": TOTALS})
    with project.open() as mill:
        mill.emit("orders", [order(n, "ada") for n in range(COUNT)])
        ran(mill)
        interrupted(mill, "totals")
        passed(mill)
        [held] = retention(mill)["held_back"]
        assert (held["job"], held["offset"]) == ("totals", 5_000)
        assert "a replay of it is not finished" in held["reason"]
        mill.replay("totals", is_abandoned=True)
        assert passed(mill) > 0
        assert retention(mill)["held_back"] == []
