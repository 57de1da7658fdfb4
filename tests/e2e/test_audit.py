"""Counts that must follow: of every event of a log each reader can say what became of it, and who cannot is found."""

from __future__ import annotations

import json
import sqlite3
import time
from datetime import UTC, datetime
from typing import Any

import duckdb
import pytest

from tests.e2e.conftest import ORDERS, STOCK, Project, alarms, order, ran, rows, until
from tidemill.core.errors import UserError
from tidemill.core.ports import Progress
from tidemill.project.mill import Mill

WORDS = ("log", "taken", "parked", "skipped", "passed_over", "waiting", "missing")
TOTALS = "-- mode: realtime\nselect customer, count(*) as n, sum(amount) as total from orders group by customer"
LARGE = "-- mode: realtime\nselect id, amount from orders where amount > 2"
PICKY = """import tidemill as tm
@tm.job(inputs="orders", output="picked", mode="realtime")
def picked(row: dict) -> dict | None:
    if row["customer"] == "bad":
        raise ValueError("bad")
    return {"id": row["id"]} if row["amount"] % 2 else None
"""
SEND = """import tidemill as tm
@tm.job(inputs="orders", outputs="sent", mode="realtime")
def send(run: tm.Run) -> None:
    run.changes("orders")
"""


def by_hand(project: Project, *statements: str) -> None:
    with duckdb.connect(str(project.folder / ".tidemill/tables.duckdb")) as tables:
        for statement in statements:
            tables.execute(statement)


def shop(project: Project, **files: str) -> None:
    project.write(
        {"tidemill.toml": ORDERS, **{f"jobs/{name.replace('_py', '.py')}": text for name, text in files.items()}}
    )
    with project.open() as mill:
        mill.emit("orders", [order(n, "ada" if n % 2 else "bob", n) for n in range(1, 7)])
        ran(mill)


def counts(reader: dict[str, Any]) -> dict[str, int]:
    return {word: reader[word] for word in WORDS if reader[word]}


def of(answer: dict[str, Any], job: str) -> dict[str, Any]:
    """The one reader of that job, whose counts add up to the log's."""
    (reader,) = [each for each in answer["readers"] if each["job"] == job]
    assert reader["log"] == sum(reader[word] for word in WORDS[1:])
    return dict(reader)


def ids(reader: dict[str, Any]) -> list[str]:
    return [row["id"] for row in reader["missing_ids"]]


def test_every_run_counts_what_came_in_and_what_became_of_it(project: Project) -> None:
    shop(project, **{"large.sql": LARGE, "picked_py": PICKY, "totals.sql": TOTALS})
    with project.open() as mill:
        mill.emit("orders", [order(7, "bad"), order(8, "eve", 1), order(9, "eve", 2)])
        ran(mill)
        found = {run["job"]: run for run in mill.runs(limit=3)}
        listed = {
            job: [run[word] for word in ("rows_in", "rows_out", "parked", "skipped")] for job, run in found.items()
        }
        assert listed == {"large": [3, 0, 0, 3], "picked": [3, 1, 1, 1], "totals": [3, 2, 0, 0]}
        assert {job: run["taken"] for job, run in found.items()} == {"large": 0, "picked": 1, "totals": 3}


KINDS = {
    "rows.sql": LARGE,
    "picked.py": PICKY,
    "sums.sql": TOTALS,
    "copies.sql": "-- mode: realtime\nselect item, level from stock",
    "ranked.sql": "-- mode: realtime\nselect id, rank() over (order by amount) as place from orders",
    "both.sql": "-- mode: realtime\nselect o.id, s.level from orders o join stock s on s.item = o.customer",
    "send.py": SEND,
    "whole.py": """import pyarrow as pa
import tidemill as tm
@tm.job(inputs="orders", output="counted", takes="full", mode="realtime")
def whole(orders: pa.Table) -> pa.Table:
    return pa.table({"n": [orders.num_rows]})
""",
}


def test_the_counts_of_every_run_of_every_kind_of_job_add_up(project: Project) -> None:
    project.write({"tidemill.toml": ORDERS + STOCK, **{f"jobs/{name}": text for name, text in KINDS.items()}})
    with project.open() as mill:
        for first in (1, 4):
            mill.emit("orders", [order(n, "bad" if n == 5 else "a", n) for n in range(first, first + 3)])
            mill.emit("stock", [{"item": "a", "level": first, "seq": first}, {"item": "b", "level": 1, "seq": 1}])
            ran(mill)
        runs = mill.runs()
        assert {run["job"] for run in runs} == {name.partition(".")[0] for name in KINDS}
        for run in runs:
            assert run["state"] == "succeeded"
            assert run["rows_in"] == sum(to - from_ for from_, to in run["inputs"].values())
            assert run["rows_in"] == run["taken"] + run["parked"] + run["skipped"]
        assert not [reason for reason in alarms(mill) if "add up" in reason]


def test_what_became_of_every_event_adds_up(project: Project) -> None:
    shop(project, **{"large.sql": LARGE, "picked_py": PICKY, "totals.sql": TOTALS})
    with project.open() as mill:
        mill.emit("orders", [order(7, "bad")])
        ran(mill)
        mill.pause("totals")
        mill.emit("orders", [order(8)])
        ran(mill)
        answer = mill.audit("orders")
        assert answer["adds_up"]
        assert counts(of(answer, "large")) == {"log": 8, "taken": 4, "skipped": 4}
        assert counts(of(answer, "picked")) == {"log": 8, "taken": 4, "parked": 1, "skipped": 3}
        assert counts(of(answer, "totals")) == {"log": 8, "taken": 7, "waiting": 1}
        assert counts(of(mill.audit("large", from_=1, to=4), "large")) == {"log": 3, "taken": 2, "skipped": 1}
        assert [reader["job"] for reader in mill.audit("totals")["readers"]] == ["totals"]


def in_words(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="microseconds")


def test_a_time_stands_for_the_offset_that_had_come_before_it(project: Project) -> None:
    shop(project, **{"large.sql": LARGE, "totals.sql": TOTALS})
    with project.open() as mill:
        noon = max(time.time(), float(mill.machine.ledger.recorded_at("orders", 6) or 0) + 1e-6)
        until(lambda: time.time() > noon)
        mill.emit("orders", [order(n, "eve", n) for n in (7, 8)])
        ran(mill)
        before = of(mill.audit("large", to=in_words(noon)), "large")
        after = of(mill.audit("orders", from_=in_words(noon)), "totals")
        assert (before["from"], before["to"], counts(before)) == (0, 6, {"log": 6, "taken": 4, "skipped": 2})
        assert (after["from"], after["to"], counts(after)) == (6, 8, {"log": 2, "taken": 2})
        assert counts(of(mill.audit("large", from_=4, to=in_words(noon)), "large")) == {"log": 2, "taken": 2}
        assert counts(of(mill.audit("large", from_="2999-01-01"), "large")) == {}
        assert counts(of(mill.audit("large", to="2020-01-01"), "large")) == {}


def test_a_time_is_refused_where_nobody_keeps_when_rows_came(project: Project) -> None:
    shop(project, **{"large.sql": LARGE, "few.sql": "-- mode: realtime\nselect count(*) as n from large"})
    with project.open() as mill:
        with pytest.raises(UserError, match="when rows of `large` came is not kept"):
            mill.audit("few", from_="2026-01-01")
        assert mill.audit("few", from_=1)["adds_up"]
        with pytest.raises(UserError, match="`soon` is neither an offset nor a time"):
            mill.audit("large", to="soon")
        for low, high in ((3, "2"), ("2026-01-02", "2026-01-01")):
            with pytest.raises(UserError, match="there is nothing after"):
                mill.audit("large", from_=low, to=high)


def acknowledge(mill: Mill, job: str, to: int) -> None:
    """Let a job's cursor say that it read what it never saw, as a consumer does that acknowledges without processing."""
    store = mill.machine.stores[mill.machine.catalog.jobs[job].home]
    transaction = store.begin()
    known = transaction.progress(job)
    assert known is not None
    moved = Progress(job, known.version, {"orders": to}, known.generations, known.run, known.served_at, known.succeeded)
    transaction.settle(moved, known)
    transaction.commit()


@pytest.mark.parametrize("job", ["large", "totals", "send"])
def test_a_consumer_that_acknowledged_without_processing_is_found_with_the_ids(project: Project, job: str) -> None:
    files = {"large": ("large.sql", LARGE), "totals": ("totals.sql", TOTALS), "send": ("send_py", SEND)}
    shop(project, **dict([files[job]]))
    with project.open() as mill:
        mill.pause(job)
        mill.emit("orders", [order(n, "eve", 5) for n in (7, 8)])
        acknowledge(mill, job, 8)
    with project.open() as mill:
        mill.resume(job)
        mill.emit("orders", [order(9, "eve", 5)])
        ran(mill)
        answer = mill.audit(job)
        assert not answer["adds_up"]
        assert ids(of(answer, job)) == ["o7", "o8"]
        assert job in of(answer, job)["mend"]


def test_what_a_pure_job_missed_is_taken_by_the_repair(project: Project) -> None:
    shop(project, **{"totals.sql": TOTALS})
    with project.open() as mill:
        mill.pause("totals")
        mill.emit("orders", [order(7, "eve", 5)])
        acknowledge(mill, "totals", 7)
    with project.open() as mill:
        answer = mill.audit("totals", repair=True)
        assert (answer["adds_up"], answer["repaired"]) == (True, 1)
        assert rows(mill, "select total from totals where customer = 'eve'") == [(5,)]
        assert mill.audit()["adds_up"]


def test_events_dropped_behind_the_engines_back_are_listed(project: Project) -> None:
    shop(project, **{"large.sql": LARGE, "totals.sql": TOTALS})
    by_hand(project, "delete from store.large where amount in (3, 5)", "delete from store.orders where id = 'o4'")
    with project.open() as mill:
        answer = mill.audit()
        assert ids(of(answer, "large")) == ["o3", "o5"]
        assert ids(of(answer, "totals")) == ["o4"]
        assert mill.audit(repair=True)["adds_up"]
        assert rows(mill, "select count(*) from large") == [(4,)]


def test_what_a_person_let_a_job_pass_over_is_no_loss(project: Project) -> None:
    shop(project, send_py=SEND)
    with project.open() as mill:
        mill.pause("send")
        mill.emit("orders", [order(n) for n in (7, 8)])
        mill.resume("send", "now")
        mill.emit("orders", [order(9)])
        ran(mill)
        assert counts(of(mill.audit("send"), "send")) == {"log": 9, "taken": 7, "passed_over": 2}


def test_what_was_passed_over_and_backfilled_is_taken(project: Project) -> None:
    shop(project, send_py=SEND, **{"large.sql": LARGE, "totals.sql": TOTALS})
    with project.open() as mill:
        for job in ("send", "large", "totals"):
            mill.pause(job)
        mill.emit("orders", [order(n, "eve", 5) for n in (7, 8)])
        for job in ("send", "large", "totals"):
            mill.resume(job, "now")
        ran(mill)
        assert counts(of(mill.audit("totals"), "totals")) == {"log": 8, "taken": 6, "passed_over": 2}
        for job in ("send", "large", "totals"):
            assert mill.backfill(job)["state"] == "finished"
        answer = mill.audit()
        assert counts(of(answer, "send")) == {"log": 8, "taken": 8}
        assert counts(of(answer, "large")) == {"log": 8, "taken": 6, "skipped": 2}
        assert counts(of(answer, "totals")) == {"log": 8, "taken": 8}


@pytest.mark.parametrize("makes_anew", ["replay", "repair", "define", "promote"])
def test_a_result_made_of_whole_inputs_passes_nothing_over(project: Project, makes_anew: str) -> None:
    shop(project, **{"totals.sql": TOTALS})
    with project.open() as mill:
        mill.pause("totals")
        mill.emit("orders", [order(n, "eve", 5) for n in (7, 8)])
        mill.resume("totals", "now")
        ran(mill)
        if makes_anew == "replay":
            mill.replay("totals")
        elif makes_anew == "repair":
            assert mill.reconcile("totals", repair=True)["repaired"] == 1
        elif makes_anew == "promote":
            mill.shadow("totals", sql=TOTALS.replace("sum(amount)", "sum(amount + 0)"))
            assert mill.shadow("totals", promote=True, accept=1)["promoted"]
    if makes_anew == "define":
        project.write({"jobs/totals.sql": TOTALS.replace("sum(amount)", "sum(amount + 0)")})
        project.run()
    with project.open() as mill:
        assert counts(of(mill.audit("totals"), "totals")) == {"log": 8, "taken": 8}
        assert mill.backfill("totals")["runs"] == 0


def test_a_job_that_comes_under_the_name_of_one_that_went_has_a_history_of_its_own(project: Project) -> None:
    shop(project, send_py=SEND, **{"totals.sql": TOTALS})
    project.remove("jobs/send.py")
    with project.open() as mill:
        mill.emit("orders", [order(n) for n in (7, 8)])
        ran(mill)
    project.write({"jobs/send.py": SEND})
    with project.open() as mill:
        ran(mill)
        mill.emit("orders", [order(9)])
        ran(mill)
        assert counts(of(mill.audit("send"), "send")) == {"log": 9, "taken": 1, "passed_over": 8}
        assert alarms(mill) == []
        assert mill.backfill("send")["rows"] == 8
        assert counts(of(mill.audit("send"), "send")) == {"log": 9, "taken": 9}


def test_a_loss_beside_what_was_passed_over_is_found_and_told(project: Project) -> None:
    """That the end of a gap was passed over says nothing of its beginning."""
    shop(project, send_py=SEND)
    with project.open() as mill:
        mill.pause("send")
        mill.emit("orders", [order(n) for n in (7, 8)])
        acknowledge(mill, "send", 7)
    with project.open() as mill:
        mill.resume("send", "now")
        mill.emit("orders", [order(9)])
        ran(mill)
        assert ids(of(mill.audit("send"), "send")) == ["o7"]
        assert [reason for reason in alarms(mill) if "offsets 7 to 7 of orders" in reason]


def test_a_backfill_raises_no_alarm_of_skipped_events(project: Project) -> None:
    shop(project, send_py=SEND)
    with project.open() as mill:
        mill.pause("send")
        mill.emit("orders", [order(n) for n in (7, 8)])
        mill.resume("send", "now")
        mill.emit("orders", [order(9)])
        ran(mill)
        mill.backfill("send")
    with project.open() as mill:
        mill.emit("orders", [order(10)])
        ran(mill)
        assert alarms(mill) == []


@pytest.mark.parametrize("left", ["delete from runs where run = ?", "update runs set state = 'running' where run = ?"])
def test_a_report_that_was_lost_with_its_process_is_no_loss(project: Project, left: str) -> None:
    """Reports are written beside the work, so the last one may be missing, or not know how its run ended."""
    shop(project, send_py=SEND)
    with project.open() as mill:
        mill.emit("orders", [order(7)])
        ran(mill)
        last = mill.runs(job="send", limit=1)[0]
    body = json.dumps({**last, "state": "running", "inputs": {}})
    with sqlite3.connect(project.folder / ".tidemill/ledger.db") as ledger:
        ledger.execute("update runs set body = ? where run = ?", (body, last["run"]))
        ledger.execute(left, (last["run"],))
    ledger.close()
    with project.open() as mill:
        mill.emit("orders", [order(8)])
        ran(mill)
        assert counts(of(mill.audit("send"), "send")) == {"log": 8, "taken": 8}


def test_what_lies_before_a_new_job_with_outside_effects_is_no_loss(project: Project) -> None:
    shop(project, **{"totals.sql": TOTALS})
    project.write({"jobs/send.py": SEND})
    with project.open() as mill:
        assert counts(of(mill.audit("send"), "send")) == {"log": 6, "passed_over": 6}
        mill.emit("orders", [order(7)])
        ran(mill)
        assert counts(of(mill.audit("send"), "send")) == {"log": 7, "taken": 1, "passed_over": 6}


def test_readers_of_upsert_topics_and_tables_are_counted_too(project: Project) -> None:
    low = "-- mode: realtime\nselect item, level from stock where level < 5"
    project.write(
        {
            "tidemill.toml": ORDERS + STOCK,
            "jobs/low.sql": low,
            "jobs/count.sql": "-- mode: realtime\nselect count(*) as n from low",
        }
    )
    with project.open() as mill:
        mill.emit("stock", [{"item": i, "level": n, "seq": 1} for n, i in enumerate("abcdefgh")])
        ran(mill)
        mill.emit("stock", [{"item": "a", "level": 9, "seq": 2}])
        ran(mill)
        answer = mill.audit()
        assert answer["adds_up"]
        assert counts(of(answer, "low")) == {"log": 8, "taken": 4, "skipped": 4}
        assert counts(of(answer, "count")) == {"log": 4, "taken": 4}


def test_the_command_lists_the_missing_and_ends_with_1(project: Project) -> None:
    shop(project, **{"large.sql": LARGE})
    assert "the counts add up" in project.cli("audit").stdout
    by_hand(project, "delete from store.large where amount = 3")
    done = project.cli("audit", "large", code=1)
    assert "1 event missing: o3 (offset 3)" in done.stdout
    assert "tidemill audit large --repair" in done.stderr
    assert project.json("audit", "orders", "--from", "3")["missing"] == 0
    assert project.json("audit", "orders", "--to", "2020-01-01")["log"] == 0
    assert "neither an offset nor a time" in project.cli("audit", "--from", "soon", code=2).stderr
    assert "repaired: 1 row" in project.cli("audit", "large", "--repair").stdout
    assert "there is no job or asset `larg`" in project.cli("audit", "larg", code=2).stderr
