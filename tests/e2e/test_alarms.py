"""Alarms that are on without being asked for (rule 33): each is provoked, told, and over once it is not so any more."""

from __future__ import annotations

from dataclasses import replace

import duckdb
import pytest

from tests.e2e.conftest import ORDERS, Project, ahead, job_state, order, ran, until
from tidemill.core.ports import Progress, RunRecord
from tidemill.project.mill import Mill
from tidemill.project.promises import notice

HOUR = 3_600.0


def told(mill: Mill, kind: str) -> list[str]:
    return [str(alarm["reason"]) for alarm in mill.status()["alarms"] if alarm["kind"] == kind]


def shop(project: Project, sql: str, header: str = "-- mode: batch", toml: str = ORDERS) -> None:
    project.write({"tidemill.toml": toml, "jobs/made.sql": f"{header}\n{sql}"})


LARGE = "select id, amount from orders where amount > 5"


def batches(project: Project, sizes: list[int], amount: int = 9) -> None:
    """One run for each of so many orders."""
    number = 0
    with project.open() as mill:
        for size in sizes:
            mill.emit("orders", [order(number + n, amount=amount) for n in range(size)])
            number += size
            ran(mill)


def test_a_batch_that_makes_nothing_although_it_always_did(project: Project) -> None:
    shop(project, LARGE)
    batches(project, [2, 3, 2])
    with project.open() as mill:
        assert told(mill, "empty") == []
        mill.emit("orders", [order(100, amount=1)])
        ran(mill)
        (reason,) = told(mill, "empty")
        assert reason == "job made: it took 1 rows and made none; the last 3 runs always made some"
        assert mill.explain("made")["alarms"] == [reason]
    with project.open() as mill:
        assert told(mill, "empty"), "another process knows it too"
        mill.emit("orders", [order(101, amount=9)])
        ran(mill)
        assert told(mill, "empty") == []


def test_a_count_far_from_the_last_runs(project: Project) -> None:
    shop(project, LARGE)
    batches(project, [2, 3, 2, 60])
    with project.open() as mill:
        assert told(mill, "counts") == ["job made: it made 60 rows; the last 3 runs made 2 to 3"]


def test_lag_beyond_the_promise(project: Project) -> None:
    shop(project, LARGE, "-- mode: realtime\n-- freshness: 1h")
    with project.open() as mill:
        mill.emit("orders", [order(1)])
        ran(mill)
        mill.machine.loop.state.only = frozenset()
        mill.emit("orders", [order(2)])
        ahead(mill, 2 * HOUR)
        assert told(mill, "lag") == ["job made is 1 changes behind, and its result is 2 h old: it promises 1 h"]
        mill.machine.loop.state.only = None
        ran(mill)
        assert told(mill, "lag") == []


def test_a_source_that_is_older_than_it_promises(project: Project) -> None:
    shop(project, LARGE, toml=ORDERS.replace('id = "id"', 'id = "id"\nfreshness = "30m"', 1))
    with project.open() as mill:
        mill.emit("orders", [order(1)])
        ran(mill)
        assert told(mill, "freshness") == []
        ahead(mill, HOUR)
        assert told(mill, "freshness") == ["nothing new in orders for 1 h: it promises 30 min"]
        mill.emit("orders", [order(2)])
        ran(mill)
        assert told(mill, "freshness") == []


def test_an_input_gone_silent(project: Project) -> None:
    shop(project, LARGE)
    with project.open() as mill:
        for number in range(6):
            mill.emit("orders", [order(number)])
            ran(mill)
            ahead(mill, HOUR / 2)
        assert told(mill, "silent") == []
        ahead(mill, 4 * HOUR)
        (reason,) = told(mill, "silent")
        assert reason.startswith(
            "orders has gone silent: nothing new for 4.5 h, and its longest pause lately was 30 min"
        )
        mill.emit("orders", [order(9)])
        notice(mill.machine)
        assert told(mill, "silent") == []


def report(mill: Mill, job: str, run: str, began: float, ended: float, taken: tuple[int, int] = (0, 1)) -> None:
    """A report as the journal writes it, of a run that went as the test says."""
    record = RunRecord(run, job, "succeeded", 1, {"orders": taken}, began, ended, taken[1] - taken[0], 1)
    mill.machine.journal._tell(record)
    mill.machine.journal.flush()


@pytest.mark.parametrize("header", ["-- mode: microbatch\n-- every: 5m", '-- mode: batch\n-- schedule: "*/5 * * * *"'])
def test_a_run_longer_than_its_period(project: Project, header: str) -> None:
    shop(project, LARGE, header)
    with project.open() as mill:
        now = mill.machine.clock.now()
        report(mill, "made", "r1", now - 400, now)
        assert told(mill, "window") == ["job made: a run took 400 s, longer than its period of 300 s"]
        report(mill, "made", "r2", now - 10, now)
        assert told(mill, "window") == []


SLOW = """import tidemill as tm, threading, pathlib
@tm.job(inputs="orders", output="slow", mode="microbatch", every="1m")
def slow(row: dict) -> dict:
    here = pathlib.Path(__file__).parent
    (here / "begun").touch()
    while not (here / "go").exists():
        threading.Event().wait(0.02)
    return row
"""


def test_a_run_that_goes_on_for_longer_than_its_period(project: Project) -> None:
    project.write({"tidemill.toml": ORDERS, "jobs/slow.py": SLOW})
    with project.open() as mill:
        mill.emit("orders", [order(1)])
        ahead(mill, 120.0)
        until((project.folder / "jobs/begun").exists)
        ahead(mill, 600.0)
        assert told(mill, "window")[0].endswith("longer than its period of 60 s, and goes on")
        project.write({"jobs/go": ""})
        until(lambda: job_state(mill, "slow") == "idle")


def test_a_held_job_is_known_to_every_process_until_it_succeeds(project: Project) -> None:
    shop(project, "select error('it is broken') as x from orders", "-- mode: realtime\n-- retries: 0")
    with project.open() as mill:
        mill.emit("orders", [order(1)])
        ran(mill)
    assert "it is broken" in project.json("status")["alarms"][0]["reason"]
    project.write({"jobs/made.sql": f"-- mode: realtime\n{LARGE}"})
    with project.open() as mill:
        ran(mill)
        assert told(mill, "held") == []


def test_a_reader_that_skipped_events_without_an_error(project: Project) -> None:
    shop(project, LARGE, "-- mode: realtime")
    with project.open() as mill:
        mill.emit("orders", [order(1, amount=9)])
        ran(mill)
        mill.machine.loop.state.only = frozenset()
        mill.emit("orders", [order(2), order(3)])
        transaction = mill.machine.tables.begin()
        known = transaction.progress("made")
        assert known is not None
        moved = Progress("made", known.version, {"orders": 3}, known.generations, known.run, known.served_at, True)
        transaction.settle(moved, known)
        transaction.commit()
    with project.open() as mill:
        mill.emit("orders", [order(4, amount=9)])
        ran(mill)
        assert told(mill, "skipped") == ["job made: no run took offsets 2 to 3 of orders: see tidemill audit made"]
        mill.audit("made", repair=True)
        assert told(mill, "skipped") == []


def test_a_run_whose_counts_do_not_add_up(project: Project) -> None:
    shop(project, LARGE, "-- mode: realtime")
    with project.open() as mill:
        mill.emit("orders", [order(1, amount=9)])
        ran(mill)
        assert told(mill, "uneven") == []
        (run,) = mill.machine.ledger.runs(job="made")
        doubled = replace(run, run="doubled", readiness={**run.readiness, "taken": 2})  # one event, and rows for two
        mill.machine.watch.hear([doubled])
        reason = "a run read 1 events, but 2 taken, 0 parked and 0 skipped do not add up to that"
        assert told(mill, "uneven") == [f"job made: {reason}"]
        mill.emit("orders", [order(2, amount=9)])
        ran(mill)
        assert told(mill, "uneven") == []


def test_what_a_person_let_a_job_pass_over_is_no_alarm(project: Project) -> None:
    shop(project, LARGE, "-- mode: realtime")
    with project.open() as mill:
        mill.emit("orders", [order(1)])
        ran(mill)
        mill.pause("made")
        mill.emit("orders", [order(2), order(3)])
        mill.resume("made", "now")
        mill.emit("orders", [order(4)])
        ran(mill)
        assert told(mill, "skipped") == []


def test_a_copy_of_a_topic_that_lost_events(project: Project) -> None:
    shop(project, "select customer, count(*) as n from orders group by customer", "-- mode: realtime")
    with project.open() as mill:
        mill.emit("orders", [order(n) for n in range(3)])
        ran(mill)
        assert told(mill, "counts") == []
    with duckdb.connect(str(project.folder / ".tidemill/tables.duckdb")) as tables:
        tables.execute("delete from store.orders where id = 'o1'")
    with project.open() as mill:
        reason = "the copy of orders that jobs read holds 2 of 3 events: see tidemill audit orders"
        assert told(mill, "counts") == [reason]
        mill.reconcile("made", repair=True)
        assert told(mill, "counts") == []
