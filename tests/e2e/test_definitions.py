"""Definitions that change while the project runs, or between two runs of it (rules 24 to 26)."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.e2e.conftest import ORDERS, Project, alarms, job_state, order, ran, rows, until, watching
from tidemill.project.mill import Mill

TOTAL = {"jobs/total.sql": "-- mode: realtime\nselect customer, sum(amount) s from orders group by all"}
PYTHON = """import tidemill as tm

@tm.job(inputs="orders", output="marked", mode="realtime", columns={"id": "varchar", "mark": "varchar"})
def marked(row: dict) -> dict:
    return {"id": row["id"], "mark": "one"}
"""
SOON = 5.0


def eventually(mill: Mill, sql: str, expected: list[tuple[Any, ...]]) -> None:
    """The rows become these. A table that is not there yet has none."""
    found: list[Any] = []

    def holds() -> bool:
        try:
            found[:] = [rows(mill, sql)]
        except Exception as error:  # noqa: BLE001 - it may not be there yet
            found[:] = [error]
        return found == [expected]

    try:
        until(holds, sql, SOON)
    except AssertionError:
        raise AssertionError(
            f"{sql}: {found} instead of {expected}; alarms: {alarms(mill)}; runs: {mill.runs()}"
        ) from None


@pytest.fixture
def shop(project: Project) -> Project:
    return project.write({"tidemill.toml": ORDERS, **TOTAL, "jobs/marked.py": PYTHON})


def test_a_new_job_begins_with_what_is_there(shop: Project) -> None:
    with watching(shop) as mill:
        mill.emit("orders", [order(1), order(2, "bob", 5)])
        eventually(mill, "select s from total order by 1", [(1,), (5,)])
        shop.write({"jobs/n.sql": "-- mode: realtime\nselect count(*) n from orders"})
        eventually(mill, "select n from n", [(2,)])
        shop.write({"jobs/more.py": PYTHON.replace("marked", "more")})
        eventually(mill, "select count(*) from more", [(2,)])


def test_a_changed_job_is_rebuilt_and_its_readers_get_the_difference(shop: Project) -> None:
    shop.write({"jobs/last.sql": "-- mode: realtime\nselect max(s) top from total"})
    with watching(shop) as mill:
        mill.emit("orders", [order(1), order(2, "bob", 5)])
        eventually(mill, "select top from last", [(5,)])
        shop.write(
            {"jobs/total.sql": "-- mode: realtime\nselect customer, sum(amount) * 10 s from orders group by all"}
        )
        eventually(mill, "select top from last", [(50,)])
        shop.write({"jobs/marked.py": PYTHON.replace('"one"', '"two"')})
        eventually(mill, "select distinct mark from marked", [("two",)])
        mill.emit("orders", [order(3, "cyd", 7)])
        eventually(mill, "select top, (select count(*) from marked where mark = 'two') from last", [(70, 3)])


def test_a_changed_column_rebuilds_its_readers(shop: Project) -> None:
    shop.write({"jobs/last.sql": "-- mode: realtime\nselect customer, s from total"})
    with watching(shop) as mill:
        mill.emit("orders", [order(1)])
        eventually(mill, "select s from last", [(1,)])
        shop.write(
            {
                "jobs/total.sql": "-- mode: realtime\nselect customer, sum(amount)::varchar s, 1 more from orders group by all"
            }
        )
        eventually(mill, "select s from last", [("1",)])
        eventually(mill, "select more from total", [(1,)])
        mill.emit("orders", [order(2)])
        eventually(mill, "select s from last", [("2",)])


def test_a_file_that_does_not_load_keeps_the_old_job_and_raises_an_alarm(shop: Project) -> None:
    with watching(shop) as mill:
        mill.emit("orders", [order(1)])
        eventually(mill, "select s from total", [(1,)])
        shop.write(
            {
                "jobs/total.sql": "-- mode: realtime\nselect customer, sum(amount s from orders",
                "jobs/marked.py": "def broken(:\n",
            }
        )
        until(
            lambda: any("total.sql" in each["job"] or "total.sql" in each["reason"] for each in mill.status()["alarms"])
        )
        until(
            lambda: any("marked.py" in each["job"] or "marked.py" in each["reason"] for each in mill.status()["alarms"])
        )
        mill.emit("orders", [order(2)])
        eventually(mill, "select s, (select count(*) from marked) from total", [(2, 2)])
        shop.write({**TOTAL, "jobs/marked.py": PYTHON})
        until(lambda: alarms(mill) == [], "the alarms are over once it loads", SOON)


def test_a_broken_toml_keeps_everything_running(shop: Project) -> None:
    with watching(shop) as mill:
        shop.write({"tidemill.toml": "[assets.orders\n"})
        until(lambda: alarms(mill))
        mill.emit("orders", [order(1)])
        eventually(mill, "select s from total", [(1,)])
        shop.write({"tidemill.toml": ORDERS})
        until(lambda: alarms(mill) == [], "the alarms are over once it loads", SOON)


def test_a_change_that_makes_a_reader_unplannable_is_refused(shop: Project) -> None:
    shop.write({"jobs/last.sql": "-- mode: realtime\nselect max(s) top from total"})
    with watching(shop) as mill:
        mill.emit("orders", [order(1)])
        eventually(mill, "select top from last", [(1,)])
        changed = {"jobs/total.sql": "-- mode: realtime\nselect customer, sum(amount) renamed from orders group by all"}
        shop.write(changed)
        until(lambda: alarms(mill))
        mill.emit("orders", [order(2)])
        eventually(mill, "select top from last", [(2,)])


def test_a_removed_job_stops_and_its_table_stays(shop: Project) -> None:
    with watching(shop) as mill:
        mill.emit("orders", [order(1)])
        eventually(mill, "select s, (select count(*) from marked) from total", [(1, 1)])
        shop.remove("jobs/marked.py")
        until(lambda: [each["job"] for each in mill.map()] == ["total"])
        mill.emit("orders", [order(2)])
        eventually(mill, "select s from total", [(2,)])
        assert [each["job"] for each in mill.status()["jobs"]] == ["total"]


def test_a_renamed_job_starts_from_the_beginning(shop: Project) -> None:
    with watching(shop) as mill:
        mill.emit("orders", [order(1), order(2)])
        eventually(mill, "select s from total", [(2,)])
        shop.write({"jobs/sums.sql": "-- mode: realtime\nselect customer, sum(amount) s from orders group by all"})
        shop.remove("jobs/total.sql")
        eventually(mill, "select s from sums", [(2,)])
        until(lambda: sorted(each["job"] for each in mill.map()) == ["marked", "sums"])


def test_a_comment_or_a_new_mode_changes_no_result_and_starts_nothing(shop: Project) -> None:
    with watching(shop) as mill:
        mill.emit("orders", [order(1)])
        eventually(mill, "select s, (select count(*) from marked) from total", [(1, 1)])
        runs = len(mill.runs())
        shop.write(
            {
                "jobs/total.sql": "-- mode: batch\n-- description: said anew\nSELECT customer,\n  sum(amount) s -- all\nFROM orders GROUP BY ALL\n"
            }
        )
        until(lambda: {each["job"]: each["mode"] for each in mill.map()}["total"] == "batch")
        assert len(mill.runs()) == runs


def test_a_definition_changed_while_nothing_ran_is_rebuilt_at_the_next_run(shop: Project) -> None:
    with shop.open() as mill:
        mill.emit("orders", [order(1)])
        ran(mill)
    shop.write({"jobs/total.sql": "-- mode: realtime\nselect customer, sum(amount) + 1 s from orders group by all"})
    with shop.open() as mill:
        ran(mill)
        assert rows(mill, "select s from total") == [(2,)]
    shop.write({**TOTAL, "jobs/marked.py": PYTHON.replace('"one"', '"two"')})
    with shop.open() as mill:
        ran(mill)
        assert rows(mill, "select s, (select mark from marked) from total") == [(1, "two")]


def test_a_mode_said_on_the_command_line_holds_until_the_files_own_mode_changes(shop: Project) -> None:
    with shop.open() as mill:
        assert mill.mode("total", "batch") == {"job": "total", "mode": "batch", "override": True}
    with shop.open() as mill:
        assert mill.mode("total")["mode"] == "batch"
    shop.write({"jobs/total.sql": TOTAL["jobs/total.sql"].replace("realtime", "microbatch")})
    with shop.open() as mill:
        assert mill.mode("total") == {"job": "total", "mode": "microbatch", "override": False}


def test_a_new_asset_and_its_reader_come_to_a_running_project(shop: Project) -> None:
    with watching(shop) as mill:
        mill.emit("orders", [order(1)])
        more = '[assets.visits]\nkind = "topic"\n[assets.visits.columns]\nn = "integer"\n'
        shop.write({"jobs/n.sql": "-- mode: realtime\nselect count(*) n from visits", "tidemill.toml": ORDERS + more})
        until(lambda: "visits" in {each["asset"] for each in mill.assets()})
        mill.emit("visits", [{"n": 1}])
        eventually(mill, "select n from n", [(1,)])


def test_under_serve_rebuilds_removals_and_outside_effects_wait_for_apply(shop: Project, started: Any) -> None:
    process = started(shop, "serve", "--port", "0")
    until(
        lambda: (
            (shop.folder / ".tidemill/address").exists()
            and '"address": ""' not in (shop.folder / ".tidemill/address").read_text()
        )
    )
    shop.write({"events.ndjson": '{"id": "o1", "customer": "ada", "amount": 1}\n'})
    shop.cli("emit", "orders", "--file", str(shop.folder / "events.ndjson"))

    def asked(sql: str) -> Any:
        done = shop.cli("query", sql, "--json", code=None)
        return json.loads(done.stdout) if done.returncode == 0 else done.stderr

    until(lambda: asked("select s from total") == [{"s": 1}])
    shop.write(
        {
            "jobs/total.sql": TOTAL["jobs/total.sql"].replace("sum(amount)", "sum(amount) * 100"),
            "jobs/n.sql": "-- mode: realtime\nselect count(*) n from orders",
        }
    )
    shop.remove("jobs/marked.py")
    until(lambda: asked("select n from n") == [{"n": 1}])  # a new pure job starts at once
    assert asked("select s from total") == [{"s": 1}]
    plan = shop.json("plan")
    assert sorted(each["job"] for each in plan["changes"]) == ["marked", "total"]
    assert "marked" in {each["job"] for each in shop.json("map")}
    applied = shop.json("apply")
    assert sorted(applied["applied"]) == ["marked", "total"]
    until(lambda: asked("select s from total") == [{"s": 100}])
    assert "marked" not in {each["job"] for each in shop.json("map")}
    assert process.poll() is None


def test_a_held_job_runs_again_when_its_definition_is_mended(shop: Project) -> None:
    shop.write(
        {"jobs/bad.py": PYTHON.replace("marked", "bad").replace('{"id": row["id"], "mark": "one"}', 'row["nothing"]')}
    )
    with watching(shop) as mill:
        mill.emit("orders", [order(1)])
        until(lambda: job_state(mill, "bad") == "held")
        shop.write({"jobs/bad.py": PYTHON.replace("marked", "bad")})
        eventually(mill, "select count(*) from bad", [(1,)])


def test_check_plans_every_job_and_names_the_nearest_column(project: Project) -> None:
    project.write({"tidemill.toml": ORDERS, "jobs/j.sql": "select\n  custmer\nfrom orders"})
    said = project.cli("check", code=2).stderr
    assert [word for word in ("jobs/j.sql", "custmer", "customer") if word not in said] == [], said


def test_check_says_what_is_missing_once_and_goes_on(project: Project) -> None:
    project.write(
        {
            "tidemill.toml": ORDERS,
            "jobs/a.sql": "select count(*) n from order_s",
            "jobs/b.sql": "select max(n) n from a",
            "jobs/c.sql": "select custmer from orders",
        }
    )
    said = project.cli("check", code=2).stderr
    assert [word for word in ("jobs/a.sql", "jobs/c.sql") if word not in said] == [], said
    assert "Traceback" not in said
