"""Jobs that change together, keys of row-wise rows, and members that arrive after the rows they complete."""

from __future__ import annotations

from tests.e2e.conftest import ORDERS, Project, alarms, order, ran, rows, until, watching
from tests.e2e.test_definitions import eventually
from tests.e2e.test_triggers import landed, warmest, weather

TOTAL = {"jobs/total.sql": "-- mode: realtime\nselect customer, sum(amount) s from orders group by all"}
LAST = {"jobs/last.sql": "-- mode: realtime\nselect max(s) top from total"}
RENAMED = {
    "jobs/total.sql": "-- mode: realtime\nselect customer, sum(amount) renamed from orders group by all",
    "jobs/last.sql": "-- mode: realtime\nselect max(renamed) + 100 top from total",
}
STATIONS = (
    '[assets.stations]\nkind = "topic"\nkey = ["id"]\nsemantics = "upsert"\n[assets.stations.columns]\nid = "varchar"\n'
)


def test_a_job_and_its_reader_changed_while_nobody_looked_are_rebuilt_in_order(project: Project) -> None:
    project.write({"tidemill.toml": ORDERS, **TOTAL, **LAST})
    with project.open() as mill:
        mill.emit("orders", [order(1)])
        ran(mill)
    project.write(RENAMED)
    with project.open() as mill:
        assert ran(mill)["failed"] == 0
        assert rows(mill, "select top from last") == [(101,)]


def test_a_job_and_its_reader_changed_live_are_rebuilt_in_order(project: Project) -> None:
    project.write({"tidemill.toml": ORDERS, **TOTAL, **LAST})
    with watching(project) as mill:
        mill.emit("orders", [order(1)])
        eventually(mill, "select top from last", [(1,)])
        project.write({"jobs/total.sql": RENAMED["jobs/total.sql"]})
        until(lambda: alarms(mill))
        project.write(RENAMED)
        eventually(mill, "select top from last", [(101,)])


def test_a_declared_key_that_row_wise_rows_share_is_told_with_the_rows(project: Project) -> None:
    sql = "-- mode: realtime\n-- key: customer\nselect customer, amount from orders"
    project.write({"tidemill.toml": ORDERS, "jobs/j.sql": sql})
    with project.open() as mill:
        mill.emit("orders", [order(1, "ada"), order(2, "bob")])
        ran(mill)
        mill.emit("orders", [order(3, "ada", 2)])
        ran(mill)
        assert any("key is not unique" in run["error"] and "ada" in run["error"] for run in mill.runs())
        assert rows(mill, "select count(*) from j") == [(2,)]


def test_members_that_arrive_after_the_rows_open_the_gate(project: Project) -> None:
    project.write({**weather(STATIONS, complete='complete.station = "stations.id"'), **landed("x", "2024-01-01", 5)})
    with project.open() as mill:
        ran(mill)
        mill.emit("stations", [{"id": "x"}])
        ran(mill)
        assert warmest(mill) == [("2024-01-01", 5, 1)]
