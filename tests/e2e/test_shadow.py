"""Shadows: another mode or query beside the live one, compared at equal cursors, promoted only when equal (rule 30)."""

from __future__ import annotations

import threading

import duckdb
import pytest

from tests.e2e.conftest import ORDERS, STOCK, Project, order, ran, rows, settled, states, until, watching
from tidemill.core.change import Statement
from tidemill.core.errors import RunCancelled, TidemillError
from tidemill.project.mill import Mill

TOTALS = "-- mode: realtime\nselect customer, count(*) as n, sum(amount) as total from orders group by customer"
SAME = "-- mode: realtime\nselect customer, count(*) as n, sum(amount * 2) // 2 as total from orders group by customer"
OTHER = (
    "-- mode: realtime\nselect customer, count(*) as n, sum(greatest(amount, 3)) as total from orders group by customer"
)
READER = "-- mode: realtime\nselect sum(total) as grand from totals"


def shop(project: Project, text: str = TOTALS, **jobs: str) -> None:
    files = {f"jobs/{name}.sql": sql for name, sql in ({"totals": text} | jobs).items()}
    project.write({"tidemill.toml": ORDERS + STOCK, **files})
    with project.open() as mill:
        mill.emit("orders", [order(n, "ada" if n % 2 else "bob", n) for n in range(1, 7)])
        ran(mill)


def traces(mill: Mill) -> list[str]:
    """Everything that a shadow could leave behind."""
    held = mill.machine.tables.positions()
    names = [*held.heads, *held.progress, *mill.machine.tables.shapes()]
    noted = list(mill.machine.ledger.notes("shadow"))
    alarms = [each["reason"] for each in mill.status()["alarms"]]
    return [*(name for name in names if "~" in name), *noted, *alarms, *mill.machine.beside]


def test_another_mode_is_compared_at_equal_cursors_and_promoted_when_equal(project: Project) -> None:
    shop(project)
    with project.open() as mill:
        started = mill.shadow("totals", mode="batch")
        assert (started["equal"], started["rows"], started["different"]) == (True, 2, 0)
        mill.emit("orders", [order(7, "eve", 5)])
        ran(mill)
        report = mill.shadow("totals")
        assert (report["equal"], report["rows"], report["lag_changes"]) == (True, 3, 0)
        assert report["compared"] >= 2
        promoted = mill.shadow("totals", promote=True)
        assert promoted["promoted"]
        assert mill.mode("totals") == {"job": "totals", "mode": "batch", "override": True}
        assert traces(mill) == []
        mill.emit("orders", [order(8, "eve", 5)])
        ran(mill)
        assert rows(mill, "select n, total from totals where customer = 'eve'") == [(2, 10)]
        assert mill.reconcile("totals")["equal"]


def test_a_comparison_that_is_cut_short_counts_for_nothing_and_is_made_again(project: Project) -> None:
    shop(project)
    with project.open() as mill:
        mill.shadow("totals", mode="batch")
        before = mill.shadow("totals")
        made = mill.shadows.of("totals").made
        assert made is not None
        made.shadow.cut.cut()
        mill.emit("orders", [order(7, "eve", 5)])
        ran(mill)
        report = mill.shadow("totals")
        assert (report["compared"], report["lag_changes"], report["error"]) == (before["compared"], 1, "")
    with project.open() as mill:
        ran(mill)
        report = mill.shadow("totals")
        assert (report["equal"], report["rows"], report["lag_changes"]) == (True, 3, 0)
        assert report["compared"] > before["compared"]


def test_closing_a_project_ends_the_comparison_that_goes_on(project: Project) -> None:
    shop(project)
    with watching(project) as mill:
        mill.shadow("totals", mode="batch")
        made = mill.shadows.of("totals").made
        assert made is not None
        transaction, is_over = mill.machine.tables.begin(exclusive=False), threading.Event()

        def close() -> None:
            while not is_over.wait(0.05):  # what is interrupted before it began goes on
                mill.shadows.close()

        closing, cut = threading.Thread(target=close), made.shadow.cut

        def compare() -> None:
            with cut.over(transaction):
                closing.start()
                transaction.evaluate(Statement("SELECT sum(hash(range) % 7) AS n FROM range(20000000000)", {}))

        with pytest.raises(RunCancelled):
            compare()
        is_over.set()
        closing.join()
        transaction.rollback()


def test_a_mode_takes_no_difference(project: Project) -> None:
    """The rows stay as they are where only the mode changes: who accepted a difference would not get it."""
    shop(project)
    with duckdb.connect(str(project.folder / ".tidemill/tables.duckdb")) as tables:
        tables.execute("update store.totals set total = 1000 where customer = 'ada'")
    with project.open() as mill:
        assert mill.shadow("totals", mode="batch")["different"] == 1
        assert not mill.shadow("totals", promote=True)["promoted"]
        with pytest.raises(TidemillError, match="a mode takes none of them") as refused:
            mill.shadow("totals", promote=True, accept=1)
        assert "tidemill reconcile totals --repair" in refused.value.mend
        assert mill.reconcile("totals", repair=True)["repaired"] == 1
        ran(mill)
        assert mill.shadow("totals", promote=True)["promoted"]


def test_who_asks_for_the_state_does_not_wait_for_a_shadow_that_works(project: Project) -> None:
    """A comparison of large tables takes its time: nobody who looks waits for it."""
    shop(project)
    with project.open() as mill:
        mill.shadow("totals", mode="batch")
        asked: list[object] = []

        def ask() -> None:
            asked.extend([mill.status(), mill.map(), mill.shadow("totals")["equal"]])

        with mill.shadows.lock:  # as whoever works at a shadow holds it
            asking = threading.Thread(target=ask)
            asking.start()
            until(lambda: not asking.is_alive(), "the answers")
        assert len(asked) == 3
        assert asked[2] is True


def test_a_changed_query_that_is_equal_is_taken_over_without_being_computed_again(project: Project) -> None:
    shop(project, grand=READER)
    with project.open() as mill:
        assert mill.shadow("totals", sql=SAME, file="new.sql")["equal"]
        mill.emit("orders", [order(7, "ada", 100)])
        ran(mill)
        before = states(mill)
        assert mill.shadow("totals", promote=True)["promoted"]
        settled(mill)
        assert states(mill) == before
        assert (project.folder / "jobs/totals.sql").read_text() == SAME
        assert traces(mill) == []
        mill.emit("orders", [order(8, "ada", 1)])
        ran(mill)
        assert rows(mill, "select * from totals order by 1") == [("ada", 5, 110), ("bob", 3, 12)]
        assert rows(mill, "select * from grand") == [(122,)]
        assert [mill.reconcile(job)["equal"] for job in ("totals", "grand")] == [True, True]
    with project.open() as mill:
        assert ran(mill)["runs"] == 0
        assert (
            mill.machine.catalog.jobs["totals"].version == mill.machine.positions()["tables"].progress["totals"].version
        )


def test_a_query_that_differs_says_so_and_is_promoted_only_by_who_accepts_exactly_that(project: Project) -> None:
    shop(project, grand=READER)
    with project.open() as mill:
        report = mill.shadow("totals", sql=OTHER, file="new.sql")
        assert (report["equal"], report["different"], report["counts"]["changed"]) == (False, 2, 2)
        assert report["samples"]["changed"][0] == {
            "live": {"customer": "ada", "n": 3, "total": 9},
            "shadow": {"customer": "ada", "n": 3, "total": 11},
        }
        refused = mill.shadow("totals", promote=True)
        assert (refused["promoted"], refused["reason"]) == (False, "2 rows differ")
        assert not mill.shadow("totals", promote=True, accept=1)["promoted"]
        assert rows(mill, "select * from totals order by 1") == [("ada", 3, 9), ("bob", 3, 12)]
        assert mill.shadow("totals", promote=True, accept=2)["promoted"]
        ran(mill)
        assert rows(mill, "select * from totals order by 1") == [("ada", 3, 11), ("bob", 3, 13)]
        assert rows(mill, "select * from grand") == [(24,)]
        assert mill.reconcile("totals")["equal"]


def test_a_shadow_is_abandoned_without_a_trace(project: Project) -> None:
    shop(project)
    with project.open() as mill:
        mill.shadow("totals", sql=OTHER, file="new.sql")
        assert traces(mill) != []
        assert mill.shadow("totals", abandon=True) == {"job": "totals", "abandoned": True}
        assert traces(mill) == []
        with pytest.raises(TidemillError, match="has no shadow"):
            mill.shadow("totals")
    with duckdb.connect(str(project.folder / ".tidemill/tables.duckdb")) as tables:
        assert tables.execute("select table_name from duckdb_tables() where table_name like '%~%'").fetchall() == []


def test_a_shadow_survives_a_restart_and_goes_on(project: Project) -> None:
    shop(project)
    with project.open() as mill:
        since = mill.shadow("totals", sql=SAME, file="new.sql")["equal_since"]
    with project.open() as mill:
        mill.emit("orders", [order(7, "eve", 5)])
        ran(mill)
        report = mill.shadow("totals")
        assert (report["equal"], report["rows"], report["equal_since"], report["lag_changes"]) == (True, 3, since, 0)


def test_a_shadow_that_fails_or_parks_harms_nobody_but_itself(project: Project) -> None:
    shop(project)
    broken = "-- mode: realtime\n-- on_error: stop\nselect customer, count(*) as n, sum(10 // (amount - 7)) as total, error('x') as e from orders where amount = 7 group by customer"
    with project.open() as mill:
        before = rows(mill, "select * from totals order by 1")
        mill.shadow("totals", sql=broken, file="new.sql")
        mill.emit("orders", [order(7, "eve", 7)])
        ran(mill)
        report = mill.shadow("totals")
        assert "x" in report["error"]
        assert mill.status()["alarms"] == []
        assert all(run["job"] == "totals" and run["state"] == "succeeded" for run in mill.runs())
        assert rows(mill, "select * from totals order by 1") == [*before, ("eve", 1, 7)]
        assert not mill.shadow("totals", promote=True)["promoted"]


def test_a_shadow_works_beside_a_live_job_that_never_rests(project: Project) -> None:
    shop(project)
    with watching(project) as mill:
        mill.shadow("totals", sql=SAME, file="new.sql")
        for number in range(10, 60):
            mill.emit("orders", [order(number, f"c{number % 5}", 1)])
        until(lambda: mill.shadow("totals")["rows"] == 7 and mill.shadow("totals")["lag_changes"] == 0)
        assert mill.shadow("totals")["unequal"] == 0
        assert mill.shadow("totals")["live"]["runs"] > 0


def test_a_shadow_is_shown_as_one(project: Project) -> None:
    shop(project)
    with project.open() as mill:
        mill.shadow("totals", mode="microbatch")
        (mapped,) = [each for each in mill.map() if "shadow_of" in each]
        assert mapped == {
            "job": "totals~shadow",
            "inputs": ["orders"],
            "outputs": ["totals~shadow"],
            "mode": "microbatch",
            "shadow_of": "totals",
        }
        (told,) = [each for each in mill.status()["jobs"] if "shadow_of" in each]
        assert (told["shadow_of"], told["equal"], told["different"], told["state"]) == ("totals", True, 0, "idle")
        assert "totals~shadow" not in [each["asset"] for each in mill.assets()]
        with pytest.raises(TidemillError, match="there is no asset"):
            mill.query('select * from "totals~shadow"')


def warnings(project: Project) -> list[dict[str, str]]:
    """What `check` warns of that is about shadows."""
    return [each for each in project.json("check")["warnings"] if "shadow" in each["message"]]


def test_check_shows_shadows_and_warns_of_those_that_cannot_work_any_more(project: Project) -> None:
    shop(project)
    assert project.json("check")["shadows"] == []
    with project.open() as mill:
        mill.shadow("totals", sql=OTHER, file="new.sql")
        found = project.json("check")  # while somebody else has the project
        assert found["shadows"] == [{"job": "totals", "kind": "sql", "word": "new.sql"}]
        assert found["ok"]
        assert warnings(project) == []
    assert "totals has a shadow: sql new.sql" in project.cli("check").stdout
    text = "-- mode: realtime\nselect customer, count(*) as n from orders group by customer"
    project.write({"tidemill.toml": ORDERS.replace("amount", "price"), "jobs/totals.sql": text})
    assert project.json("check")["ok"], "nothing rests on a shadow"
    [warning] = warnings(project)
    assert "the shadow of totals (sql new.sql) cannot work" in warning["message"]
    assert "amount" in warning["message"]
    assert "tidemill shadow totals --abandon" in warning["mend"]
    project.write({"jobs/others.sql": text})
    project.remove("jobs/totals.sql")
    [warning] = warnings(project)
    assert "there is no job totals any more" in warning["message"]


def test_check_knows_what_a_shadow_is_compared_with(project: Project) -> None:
    shop(project, nightly=TOTALS)
    with project.open() as mill:
        mill.shadow("totals", against="nightly")
    assert warnings(project) == []
    project.remove("jobs/nightly.sql")
    [warning] = warnings(project)
    assert "there is no asset nightly" in warning["message"]
