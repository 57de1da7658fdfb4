"""What a job asserts of its output holds before anything is published, or nothing is."""

from __future__ import annotations

from typing import Any

import pytest

from tests.e2e.conftest import ORDERS, Project, alarms, job_state, order, ran, rows, states
from tidemill.project.checking import check
from tidemill.project.mill import Mill

LEDGER = """[project]
name = "books"
[assets.bookings]
kind = "topic"
id = "id"
[assets.bookings.columns]
id = "varchar"
period = "varchar"
debit = "integer"
credit = "integer"
"""
BALANCED = "balanced: select period from ledger group by period having sum(debit) <> sum(credit)"
MODES = ["realtime", "microbatch", "batch"]


def booking(number: int, debit: int, credit: int, period: str = "may") -> dict[str, Any]:
    return {"id": f"b{number}", "period": period, "debit": debit, "credit": credit}


def books(project: Project, header: str, mode: str = "realtime") -> Project:
    text = f"-- mode: {mode}\n{header}\nselect id, period, debit, credit from bookings"
    total = "-- mode: realtime\nselect count(*) as n from bookings"
    return project.write({"tidemill.toml": LEDGER, "jobs/ledger.sql": text, "jobs/total.sql": total})


def cursor(mill: Mill, job: str) -> int:
    known = mill.machine.tables.positions().progress.get(job)
    return 0 if known is None else max(known.cursors.values(), default=0)


@pytest.mark.parametrize("mode", MODES)
def test_a_broken_assertion_publishes_nothing_and_keeps_the_cursor(project: Project, mode: str) -> None:
    books(project, f"-- assert: {BALANCED}", mode)
    with project.open() as mill:
        mill.emit("bookings", [booking(1, 5, 0), booking(2, 0, 5)])
        ran(mill)
        assert (len(rows(mill, "select * from ledger")), cursor(mill, "ledger")) == (2, 2)
        mill.emit("bookings", [booking(3, 7, 0, "june")])
        assert ran(mill)["failed"] == 1
        assert (len(rows(mill, "select * from ledger")), cursor(mill, "ledger")) == (2, 2)
        assert rows(mill, "select n from total") == [(3,)], "its neighbour goes on"
        assert job_state(mill, "ledger") == "held"
        told = mill.runs(job="ledger", limit=1)[0]["error"]
        assert '"balanced"' in told
        assert '{"period": "june"}' in told
        assert "tidemill retry ledger" in told
        assert any('"balanced"' in reason for reason in alarms(mill))
        assert '"balanced"' in mill.explain("ledger")["last_start"]["error"]
        mill.emit("bookings", [booking(4, 0, 7, "june")])
        assert ran(mill)["failed"] == 0
        assert (len(rows(mill, "select * from ledger")), cursor(mill, "ledger")) == (4, 4)
        assert not any('"balanced"' in reason for reason in alarms(mill))


def test_in_a_shared_commit_the_neighbours_of_a_blocked_job_are_committed_once(project: Project) -> None:
    books(project, f"-- assert: {BALANCED}")
    many = {f"jobs/n{i}.sql": "-- mode: realtime\nselect count(*) as n from bookings" for i in range(4)}
    project.write(many)
    with project.open() as mill:
        mill.emit("bookings", [booking(1, 5, 0)])
        ran(mill)
        assert [rows(mill, f"select n from n{i}") for i in range(4)] == [[(1,)]] * 4
        assert cursor(mill, "ledger") == 0
        succeeded = [job for job, state in states(mill) if state == "succeeded"]
        assert sorted(succeeded) == ["n0", "n1", "n2", "n3", "total"]


def test_what_warns_is_committed_and_told_until_it_holds_again(project: Project) -> None:
    books(project, f"-- assert: warn {BALANCED}")
    with project.open() as mill:
        mill.emit("bookings", [booking(1, 5, 0)])
        assert ran(mill)["failed"] == 0
        assert len(rows(mill, "select * from ledger")) == 1
        assert [reason for reason in alarms(mill) if '"balanced"' in reason]
    with project.open() as mill:
        assert [reason for reason in alarms(mill) if '"balanced"' in reason], "another process knows it too"
        mill.emit("bookings", [booking(2, 0, 5)])
        ran(mill)
        assert not alarms(mill)


CHECKS = {
    "not null period, debit": ([booking(1, 1, 1), {"id": "b2", "period": "may", "credit": 1}], '"id": "b2"'),
    "unique period, debit": ([booking(1, 1, 1), booking(2, 1, 2)], '"rows": 2'),
    "rows between 1 and 1": ([booking(1, 1, 1), booking(2, 1, 1)], "2 rows, not between 1 and 1"),
    "select id from ledger where debit > 3": ([booking(1, 4, 1)], '{"id": "b1"}'),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("said", CHECKS)
def test_each_kind_of_assertion_blocks_in_each_mode_and_shows_rows(project: Project, said: str, mode: str) -> None:
    events, shown = CHECKS[said]
    books(project, f"-- assert: {said}", mode)
    with project.open() as mill:
        mill.emit("bookings", events)
        assert ran(mill)["failed"] == 1
        told = mill.runs(job="ledger", limit=1)[0]["error"]
        assert f'assertion "{said}"' in told
        assert shown in told
        assert (rows(mill, "select * from ledger"), cursor(mill, "ledger")) == ([], 0)


@pytest.mark.parametrize("said", [*CHECKS, "rows within 10% of the last 2 runs"])
def test_what_holds_is_published(project: Project, said: str) -> None:
    books(project, f"-- assert: {said}")
    with project.open() as mill:
        mill.emit("bookings", [booking(1, 1, 1)])
        assert ran(mill)["failed"] == 0
        assert len(rows(mill, "select * from ledger")) == 1


def test_a_count_far_from_the_last_runs_is_not_published(project: Project) -> None:
    """The counts are of committed runs alone, and survive a restart."""
    books(project, "-- assert: rows within 50% of the last 2 runs")
    for number in range(1, 3):
        with project.open() as mill:
            mill.emit("bookings", [booking(number, 1, 1)])
            ran(mill)
    with project.open() as mill:
        mill.emit("bookings", [booking(number, 1, 1) for number in range(3, 9)])
        assert ran(mill)["failed"] == 1
        assert "8 rows, more than 50% away from the 1.5 of the last 2 runs" in mill.runs(job="ledger")[0]["error"]
        assert len(rows(mill, "select * from ledger")) == 2


def test_a_rebuild_that_breaks_an_assertion_leaves_the_old_result(project: Project) -> None:
    books(project, f"-- assert: {BALANCED}")
    with project.open() as mill:
        mill.emit("bookings", [booking(1, 5, 0), booking(2, 0, 5)])
        ran(mill)
    text = f"-- mode: realtime\n-- assert: {BALANCED}\nselect id, period, debit, credit * 2 as credit from bookings"
    project.write({"jobs/ledger.sql": text})
    with project.open() as mill:
        assert ran(mill)["failed"] == 1
        assert rows(mill, "select sum(debit), sum(credit) from ledger") == [(5, 5)]


def test_a_new_assertion_rebuilds_nothing_and_counts_from_the_next_run(project: Project) -> None:
    books(project, "")
    with project.open() as mill:
        mill.emit("bookings", [booking(1, 5, 0)])
        ran(mill)
    books(project, f"-- assert: {BALANCED}")
    with project.open() as mill:
        assert ran(mill)["runs"] == 0
        mill.emit("bookings", [booking(2, 5, 0)])
        assert ran(mill)["failed"] == 1


def test_a_row_that_cannot_be_processed_is_parked_although_parts_would_break_the_assertion(project: Project) -> None:
    """The search for it looks at parts of the change set, of which the assertion says nothing."""
    text = "\n".join(
        [
            "-- mode: realtime",
            f"-- assert: {BALANCED}",
            "select id, period, (100 / debit)::integer as debit, cast(period as integer) as year, credit from bookings",
        ]
    )
    project.write({"tidemill.toml": LEDGER, "jobs/ledger.sql": text})
    with project.open() as mill:
        mill.emit("bookings", [booking(1, 100, 0, "2026"), booking(2, 5, 5, "may"), booking(3, -100, 0, "2026")])
        assert ran(mill)["failed"] == 0, mill.runs(limit=1)[0]["error"]
        assert [row[0] for row in rows(mill, "select id from ledger order by id")] == ["b1", "b3"]


PYTHON = """import tidemill as tm
@tm.job(inputs="orders", output="large", mode="realtime", assert_=["unique customer", "warn few: rows between 0 and 1"])
def large(row: dict) -> dict | None:
    return {"customer": row["customer"], "amount": row["amount"]} if row["amount"] > 1 else None
"""


def test_a_python_job_says_it_in_its_decorator(project: Project) -> None:
    project.write({"tidemill.toml": ORDERS, "jobs/large.py": PYTHON})
    with project.open() as mill:
        mill.emit("orders", [order(1, "ada", 2), order(2, "bob", 3)])
        ran(mill)
        assert len(rows(mill, "select * from large")) == 2
        assert [reason for reason in alarms(mill) if '"few": 2 rows, not between 0 and 1' in reason]
        mill.emit("orders", [order(3, "ada", 2)])
        assert ran(mill)["failed"] == 1
        assert len(rows(mill, "select * from large")) == 2


def test_of_a_topic_what_the_run_adds_is_asserted(project: Project) -> None:
    declared = '[assets.large]\nkind = "topic"\n[assets.large.columns]\ncustomer = "varchar"\namount = "integer"\n'
    text = "-- mode: realtime\n-- output: large\n-- assert: not null customer\nselect customer, amount from orders"
    project.write({"tidemill.toml": ORDERS + declared, "jobs/send.sql": text})
    with project.open() as mill:
        mill.emit("orders", [order(1, "ada", 2)])
        ran(mill)
        mill.emit("orders", [{"id": "o2", "amount": 1}])
        assert ran(mill)["failed"] == 1
        assert rows(mill, "select customer from large") == [("ada",)]


def test_tidemill_toml_may_assert_too(project: Project) -> None:
    books(project, "")
    project.write({"tidemill.toml": f'{LEDGER}[jobs.ledger]\nassert = ["rows between 0 and 1"]\n'})
    with project.open() as mill:
        mill.emit("bookings", [booking(1, 1, 1), booking(2, 1, 1)])
        assert ran(mill)["failed"] == 1


WRONG = {
    "-- assert: all is well": "is not a check",
    "-- assert: rows between 9 and 1": "9 is above 1",
    "-- assert: select * from total": "reads total",
    "-- assert: select * from ledger where now() > period": "now()",
    "-- assert: not null perod": "perod",
    "-- assert: unique id\n-- assert: unique id": 'two assertions are called "unique id"',
    "-- assert: select * from": "",
}


@pytest.mark.parametrize("header", WRONG)
def test_what_cannot_be_asserted_is_told_by_check(project: Project, header: str) -> None:
    books(project, header)
    [problem] = check(project.folder).problems
    assert WRONG[header] in problem.message
    assert problem.place.startswith("jobs/ledger.sql")
    assert problem.mend


def test_a_command_has_no_rows_to_assert_of(project: Project) -> None:
    said = '[jobs.send]\ninputs = ["orders"]\ncommand = ["true"]\nassert = "rows between 1 and 2"\n'
    project.write({"tidemill.toml": ORDERS + said})
    [problem] = check(project.folder).problems
    assert "has none here" in problem.message
