"""The check by night is part of the job: at its moment the table is compared, and what was found is an asset."""

from __future__ import annotations

import duckdb
import pytest

from tests.e2e.conftest import ORDERS, Project, ahead, alarms, order, ran, rows, until, watching
from tidemill.project.checking import check
from tidemill.project.nightly import reconcile_due

TOTALS = (
    "-- mode: realtime\n-- reconcile: {moment}\nselect customer, sum(amount) as total from orders group by customer"
)
DAY = 86_400.0


def by_hand(project: Project, *statements: str) -> None:
    with duckdb.connect(str(project.folder / ".tidemill/tables.duckdb")) as tables:
        for statement in statements:
            tables.execute(statement)


def shop(project: Project, moment: str = '"03:00"') -> None:
    project.write({"tidemill.toml": ORDERS, "jobs/totals.sql": TOTALS.format(moment=moment)})
    with project.open() as mill:
        mill.emit("orders", [order(n, "ada" if n % 2 else "bob", n) for n in range(1, 7)])
        ran(mill)


def test_each_night_leaves_a_row_and_what_differs_is_an_alarm_until_it_is_mended(project: Project) -> None:
    shop(project)
    history = "select equal, missing, different from tidemill.reconciliations order by reconciled_at"
    with project.open() as mill:
        ran(mill)
        assert rows(mill, "select count(*) from tidemill.reconciliations") == [(0,)], "its moment has not come"
        ahead(mill, DAY)
        ran(mill)
        ran(mill)
        assert rows(mill, history) == [(True, 0, 0)]
        assert not alarms(mill)
    by_hand(project, "update store.totals set total = 99 where customer = 'ada'")
    with project.open() as mill:
        ahead(mill, 3 * DAY)
        ran(mill)
        assert rows(mill, history) == [(True, 0, 0), (False, 0, 1)], "missed moments are one"
        (told,) = alarms(mill)
        assert "job totals was reconciled: not what its inputs give: 1 different" in told
        mill.reconcile("totals", repair=True)
        assert not alarms(mill)
        assert "tidemill.reconciliations" in [asset["asset"] for asset in mill.status()["assets"]]


def test_it_is_served_while_somebody_works(project: Project) -> None:
    shop(project)
    with watching(project) as mill:
        ahead(mill, DAY)
        until(lambda: rows(mill, "select equal from tidemill.reconciliations") == [(True,)])


def test_a_moment_that_somebody_serves_is_not_served_again(project: Project) -> None:
    shop(project)
    with project.open() as mill:
        ahead(mill, DAY)
        with mill.machine.comparing:
            assert reconcile_due(mill.machine) == []
        assert reconcile_due(mill.machine) == ["totals"]
        assert reconcile_due(mill.machine) == []


COUNTED = "-- mode: realtime\nselect job, count(*) as nights from tidemill.reconciliations group by job"


def test_jobs_may_read_what_was_found(project: Project) -> None:
    shop(project)
    project.write({"jobs/nights.sql": COUNTED})
    assert not check(project.folder).problems
    with project.open() as mill:
        ahead(mill, DAY)
        ran(mill)
        ran(mill)
        assert rows(mill, "select * from nights") == [("totals", 1)]


def test_floats_within_the_declared_tolerance_are_equal_and_others_are_not(project: Project) -> None:
    average = "-- mode: realtime\n{}select customer, avg(amount)::double as mean from orders group by customer"
    project.write({"tidemill.toml": ORDERS, "jobs/means.sql": average.format("-- compare: tolerance 1e-9\n")})
    project.write({"jobs/exact.sql": average.format("")})
    keyless = "-- mode: realtime\n-- compare: tolerance 1e-9\nselect customer, amount / 3 as third from orders"
    project.write({"jobs/thirds.sql": keyless})
    with project.open() as mill:
        mill.emit("orders", [order(1, "ada", 3), order(2, "bob", 1)])
        ran(mill)
    for table, column in (("means", "mean"), ("exact", "mean"), ("thirds", "third")):
        by_hand(project, f"update store.{table} set {column} = {column} + 1e-13 where customer = 'ada'")
    with project.open() as mill:
        assert mill.reconcile("means")["equal"]
        assert mill.reconcile("thirds")["equal"]
        assert mill.reconcile("exact")["different"] == 1
    by_hand(project, "update store.means set mean = mean + 1e-6", "update store.thirds set third = 7")
    with project.open() as mill:
        assert mill.reconcile("means")["different"] == 2
        assert not mill.reconcile("thirds")["equal"]


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("-- reconcile: at night", "is not a schedule"),
        ("-- compare: tolerance 2", "is no tolerance"),
        ("-- compare: roughly", "is no tolerance"),
    ],
)
def test_what_cannot_be_read_is_told_with_what_is_allowed(project: Project, header: str, told: str) -> None:
    project.write({"tidemill.toml": ORDERS, "jobs/a.sql": f"{header}\nselect customer from orders"})
    [problem] = check(project.folder).problems
    assert told in problem.message
