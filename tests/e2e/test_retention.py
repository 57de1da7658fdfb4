"""Retention: what is old goes, never what somebody still needs, and nothing that counted it becomes wrong."""

from __future__ import annotations

import time
from typing import Any

import duckdb
import pytest

from tests.e2e.conftest import ORDERS, STOCK, Project, ahead, job_state, order, ran, rows, settled
from tests.e2e.test_outside import sending
from tidemill.core.errors import Expired, TidemillError
from tidemill.project import sides
from tidemill.project.asking import Gone
from tidemill.project.mill import Mill
from tidemill.project.retention import forget_expired
from tidemill.project.watching import Watch, keep_house
from tidemill.runtime.again import Again

DAY = 86_400.0
KEPT = ORDERS.replace('id = "id"\n', 'id = "id"\nretention = "30d"\n', 1)
TOTALS = "-- mode: realtime\nselect customer, count(*) as n, sum(amount) as total from orders group by customer"
LARGE = "-- mode: realtime\nselect id, amount from orders where amount > 2"


def shop(project: Project, **jobs: str) -> None:
    files = {f"jobs/{name}.sql": text for name, text in ({"totals": TOTALS} | jobs).items()}
    project.write({"tidemill.toml": KEPT, **files})


def sells(mill: Mill, first: int, count: int = 5) -> None:
    """Take events and do what they make due: each is a day's."""
    for number in range(first, first + count):
        mill.emit("orders", [order(number, "ada" if number % 2 else "bob", number)])
    ran(mill)


def passed(mill: Mill, days: float = 31) -> int:
    """Let so many days pass, and forget what has expired by then."""
    aged(mill, days)
    return keep_house(mill.machine)


def aged(mill: Mill, days: float = 31) -> None:
    """Let what was recorded so far be older by so many days."""
    with mill.machine.ledger._writes() as connection:
        connection.execute("update blocks set at = at - ?", (days * DAY,))


def test_what_is_older_than_its_retention_goes_from_the_log_and_its_mirror(project: Project) -> None:
    shop(project)
    with project.open() as mill:
        sells(mill, 1)
        assert passed(mill, 29) == 0
        assert rows(mill, "select count(*) from orders") == [(5,)]
        assert passed(mill, 2) == 10
        assert mill.machine.ledger.floor("orders") == 5
        assert rows(mill, "select count(*) from orders") == [(0,)]
        sells(mill, 6, 1)
        assert rows(mill, "select id from orders") == [("o6",)]


def test_tables_keep_what_they_counted_and_go_on_counting(project: Project) -> None:
    shop(project, large=LARGE)
    with project.open() as mill:
        sells(mill, 1)
        assert passed(mill) > 0
        sells(mill, 6)
        assert sorted(rows(mill, "select * from totals")) == [("ada", 5, 25), ("bob", 5, 30)]
        assert rows(mill, "select count(*), sum(amount) from large") == [(8, 52)]
    with project.open() as mill:
        assert passed(mill) == 10
        sells(mill, 11, 1)
        assert sorted(rows(mill, "select * from totals")) == [("ada", 6, 36), ("bob", 5, 30)]


# ------------------------------------------------------------------------------------------ who still needs it


def retention(mill: Mill) -> dict[str, Any]:
    """What `status` says of the topic."""
    return next(dict(topic) for topic in mill.status()["retention"] if topic["asset"] == "orders")


def test_what_a_paused_job_has_not_read_stays_and_status_says_which_and_since_when(project: Project) -> None:
    shop(project, large=LARGE)
    with project.open() as mill:
        sells(mill, 1, 3)
        mill.pause("large")
        sells(mill, 4, 3)
        began = time.time() - 31 * DAY
        assert passed(mill) > 0
        told = retention(mill)
        [held] = told.pop("held_back")
        told["not_rebuildable"].sort()
        assert told == {"asset": "orders", "seconds": 30 * DAY, "expired": 3, "not_rebuildable": ["large", "totals"]}
        assert held["since"] == pytest.approx(began + 30 * DAY, abs=60)
        assert (held["job"], held["offset"], held["reason"]) == (
            "large",
            3,
            "it is paused, and has read up to offset 3",
        )
        assert "alarm: retention large: nothing of `orders` expires that follows offset 3" in alarm_lines(mill)
        mill.resume("large")
        ran(mill)
        assert (retention(mill)["expired"], retention(mill)["held_back"]) == (6, [])
        assert rows(mill, "select count(*) from large") == [(4,)]


def alarm_lines(mill: Mill) -> str:
    return "\n".join(f"alarm: {alarm['kind']} {alarm['job']}: {alarm['reason']}" for alarm in mill.status()["alarms"])


WHOLE = {
    "a window over keys": "select id, customer, row_number() over (partition by customer order by id) as r from orders",
    "a join with what may change": "select o.id, s.item from orders o join stock s on o.customer = s.item",
    "the greatest of what a clock takes away": (
        "select max(amount) as most from orders, clock where amount > extract(year from clock.now) - 3000"
    ),
    "all rows": "select count(distinct customer) as customers from orders",
}


@pytest.mark.parametrize("text", WHOLE.values(), ids=WHOLE)
def test_a_job_that_needs_all_rows_keeps_them_and_check_warns_of_it(project: Project, text: str) -> None:
    clock = '[assets.clock]\nkind = "clock"\nevery = "1h"\n'
    project.write({"tidemill.toml": KEPT + STOCK + clock, "jobs/whole.sql": f"-- mode: realtime\n{text}"})
    warnings = project.json("check")["warnings"]
    assert any("whole needs all rows of orders" in warning["message"] for warning in warnings), warnings
    with project.open() as mill:
        sells(mill, 1)
        assert passed(mill) == 0
        [held] = retention(mill)["held_back"]
        assert (held["job"], held["offset"]) == ("whole", 0)
        [planned] = mill.plan()["jobs"]
        assert list(planned["history"]) == ["orders"]


def test_python_jobs_that_take_whole_inputs_or_keys_and_gates_keep_all_rows(project: Project) -> None:
    project.write(
        {
            "tidemill.toml": KEPT.replace("retention", 'complete.customer = ["ada", "bob"]\nretention'),
            "jobs/more.py": "import pyarrow as pa\nimport tidemill as tm\n"
            '@tm.job(inputs="orders", output="all_of_it", takes="full", mode="realtime")\n'
            "def full(orders: pa.Table) -> pa.Table:\n    return orders\n"
            '@tm.job(inputs="orders", output="by_customer", by="customer", mode="realtime")\n'
            "def keyed(orders: pa.Table) -> pa.Table:\n    return orders\n"
            '@tm.job(inputs="orders", output="one_by_one", mode="realtime")\n'
            "def single(row: dict) -> dict:\n    return row\n",
            "jobs/gated.sql": "-- gate: customer\nselect customer, count(*) as n from orders group by customer",
        }
    )
    with project.open() as mill:
        sells(mill, 1)
        assert passed(mill) == 0
        assert {held["job"] for held in retention(mill)["held_back"]} == {"full", "keyed", "gated"}


# ------------------------------------------------------------------------------------- what becomes impossible


def expired_shop(project: Project, **jobs: str) -> None:
    """Five events that have expired, two that have not."""
    shop(project, **jobs)
    with project.open() as mill:
        sells(mill, 1)
        passed(mill)
        sells(mill, 6, 2)


def failure(mill: Mill, job: str) -> str:
    return str(mill.explain(job)["last_start"]["error"])


@pytest.mark.parametrize("text", [LARGE, TOTALS], ids=["row by row", "in stages"])
def test_a_new_job_over_expired_rows_is_refused_and_may_begin_with_what_is_left(project: Project, text: str) -> None:
    expired_shop(project)
    project.write({"jobs/fresh.sql": text})
    with project.open() as mill:
        assert ran(mill)["failed"] == 1
        said = failure(mill, "fresh")
        assert "job `fresh` would begin with it, but the history of `orders` has expired up to offset 5" in said
        assert "tidemill resume fresh --from 5" in said
        assert job_state(mill, "fresh") == "held"
        mill.resume("fresh", "5")
        settled(mill)
        sells(mill, 8, 1)
        if text == LARGE:
            assert sorted(rows(mill, "select id from fresh")) == [("o6",), ("o7",), ("o8",)]
        else:
            assert sorted(rows(mill, "select * from fresh")) == [("ada", 1, 7), ("bob", 2, 14)]
        assert sorted(rows(mill, "select * from totals")) == [("ada", 4, 16), ("bob", 4, 20)]


@pytest.mark.parametrize("text", [LARGE, TOTALS], ids=["row by row", "in stages"])
def test_who_would_begin_within_what_has_expired_is_told_where_to_begin(project: Project, text: str) -> None:
    expired_shop(project)
    project.write({"jobs/fresh.sql": text})
    with project.open() as mill:
        assert ran(mill)["failed"] == 1
        mill.resume("fresh", "2")
        settled(mill)
        said = failure(mill, "fresh")
        assert "the history of `orders` has expired up to offset 5" in said
        assert "tidemill resume fresh --from 5" in said
        mill.resume("fresh", "5")
        settled(mill)
        assert rows(mill, "select count(*) from fresh") == [(2,)]


def test_a_changed_job_keeps_its_table_and_goes_on_with_its_former_definition(project: Project) -> None:
    expired_shop(project)
    before = [("ada", 4, 16), ("bob", 3, 12)]
    project.write({"jobs/totals.sql": TOTALS.replace("sum(amount)", "max(amount)")})
    with project.open() as mill:
        assert ran(mill)["failed"] == 1
        assert "job `totals` was changed, so that its result has to be made anew" in failure(mill, "totals")
        assert sorted(rows(mill, "select * from totals")) == before
    project.write({"jobs/totals.sql": TOTALS})
    with project.open() as mill:
        sells(mill, 8, 1)
        assert sorted(rows(mill, "select * from totals")) == [("ada", 4, 16), ("bob", 4, 20)]


def test_replay_and_reconcile_say_that_the_history_has_expired_and_status_knows_since_when(project: Project) -> None:
    expired_shop(project)
    with project.open() as mill:
        for doing in (mill.replay, mill.reconcile):
            with pytest.raises(Expired, match="the history of `orders` has expired"):
                doing("totals")
        with pytest.raises(Expired):
            mill.reconcile("totals", repair=True)
        assert (retention(mill)["expired"], retention(mill)["not_rebuildable"]) == (5, ["totals"])
        assert job_state(mill, "totals") == "idle"
        sells(mill, 8, 1)
        assert ("bob", 4, 20) in rows(mill, "select * from totals")
    told = project.cli("status").stdout
    assert "expired: orders up to offset 5" in told
    assert "cannot be made anew: totals, for orders has expired up to offset 5" in told


def test_a_repair_is_refused_where_a_reader_of_it_could_not_be_made_anew(project: Project) -> None:
    shop(
        project,
        stocked="-- mode: realtime\nselect item, level from stock where level >= 0",
        items="-- mode: realtime\nselect id as name from orders union all select item from stocked",
    )
    project.write({"tidemill.toml": KEPT + STOCK})
    with project.open() as mill:
        mill.emit("stock", [{"item": "a", "level": 1, "seq": 1}])
        sells(mill, 1)
        assert passed(mill) > 0
    with duckdb.connect(str(project.folder / ".tidemill/tables.duckdb")) as tables:
        tables.execute("update store.stocked set level = 99")
    with project.open() as mill:
        with pytest.raises(Expired, match="`items` reads what would be repaired and would have to be made anew"):
            mill.reconcile("stocked", repair=True)
        sells(mill, 6, 1)
        assert rows(mill, "select count(*) from items") == [(7,)]


def test_a_job_that_begins_to_need_all_rows_after_they_expired_is_refused(project: Project) -> None:
    expired_shop(project)
    project.write({"jobs/whole.sql": "-- mode: realtime\nselect count(distinct customer) as c from orders"})
    with project.open() as mill:
        assert ran(mill)["failed"] == 1
        said = failure(mill, "whole")
        assert "needs all of its rows" in said
        assert "let it read a table that a job makes of what is new" in said


# --------------------------------------------------------------------------------------------------- besides


def test_who_follows_changes_and_comes_too_late_is_told_where_to_go_on(project: Project) -> None:
    expired_shop(project)
    with project.open() as mill:
        with pytest.raises(Gone, match="up to offset 5 have expired") as gone:
            mill.changes("orders", 2, 100)
        assert gone.value.mend == "go on from 5, or begin again from 0, which is what is left"
        for from_ in (0, 5):
            changes, to = mill.changes("orders", from_, 100)
            assert ([change["offset"] for change in changes], to) == ([6, 7], 7)


def test_a_topic_that_gets_a_column_after_rows_expired_goes_on(project: Project) -> None:
    expired_shop(project)
    project.write({"tidemill.toml": KEPT + 'note = "varchar"\n'})
    with project.open() as mill:
        sells(mill, 8, 1)
        assert sorted(rows(mill, "select * from totals")) == [("ada", 4, 16), ("bob", 4, 20)]
        assert rows(mill, "select id, note from orders order by id") == [("o6", None), ("o7", None), ("o8", None)]


def test_of_a_topic_with_keys_history_goes_and_current_rows_stay(project: Project) -> None:
    kept = STOCK.replace('semantics = "upsert"', 'semantics = "upsert"\nretention = "1d"')
    whole = "-- mode: realtime\nselect max(level) as most from stock"
    project.write({"tidemill.toml": '[project]\nname = "shop"\n' + kept, "jobs/most.sql": whole})
    with project.open() as mill:
        for number in range(1, 6):
            mill.emit("stock", [{"item": "a", "level": number, "seq": number}])
            ran(mill)
        assert passed(mill) == 4 + 3
        mill.emit("stock", [{"item": "b", "level": 3, "seq": 1}])
        ran(mill)
        assert sorted(rows(mill, "select item, level from stock")) == [("a", 5), ("b", 3)]
        assert rows(mill, "select * from most") == [(5,)]
        assert mill.replay("most")["failed"] == 0
        assert mill.status()["retention"][0]["not_rebuildable"] == []


def test_a_pass_forgets_a_bounded_number_and_the_next_goes_on(project: Project) -> None:
    shop(project)
    with project.open() as mill:
        sells(mill, 1, 6)
        aged(mill)
        assert [forget_expired(mill.machine, most=4, at_once=2) for _ in range(3)] == [4 + 4, 2 + 2, 0]
        assert rows(mill, "select count(*), sum(n) from totals") == [(2, 6)]


def test_a_replay_beside_that_is_not_finished_keeps_what_it_has_not_read(project: Project) -> None:
    shop(project)
    with project.open() as mill:
        sells(mill, 1)
        note = {"job": "totals", "version": "", "from": 0, "targets": {"orders": 5}, "state": "working"}
        sides.remember(mill.machine, "again", note)
        assert passed(mill) == 0
        [held] = retention(mill)["held_back"]
        assert (held["job"], held["offset"]) == ("totals", 0)
        assert held["reason"] == "replay --into again is at work, and has read up to offset 0"
        sides.remember(mill.machine, "again", note | {"state": "finished"})
        assert passed(mill) == 10
        with pytest.raises(Expired, match="cannot be made anew without losing rows"):
            mill.replay("totals", into="again")


def test_a_part_that_has_not_expired_is_replayed_beside(project: Project) -> None:
    expired_shop(project, large=LARGE)
    with project.open() as mill:
        with pytest.raises(Expired):
            mill.replay("large", into="again", start="4")
        assert mill.replay("large", into="again", start="5")["rows"] == 2


def test_what_is_to_be_delivered_again_does_not_expire_and_what_is_gone_is_refused(project: Project) -> None:
    project.write(sending())
    project.write({"tidemill.toml": KEPT})
    with project.open() as mill:
        for first in (1, 3, 5):
            mill.emit("orders", [order(first), order(first + 1)])
            ran(mill)
        again = Again(mill.machine.catalog.jobs["send"], mill.machine.services.outside)
        again.begin("v", 2, 4)  # a replay of the second and third run that died before it delivered
        assert passed(mill) == 2
        [held] = retention(mill)["held_back"]
        assert (held["job"], held["offset"], held["reason"]) == ("send", 2, "a replay of it is not finished")
        assert mill.replay("send")["succeeded"] == 2
        assert passed(mill) == 4
        with pytest.raises(TidemillError, match="the history of `orders` is gone"):
            mill.replay("send")


def test_what_becomes_old_while_nothing_is_committed_goes_too(project: Project) -> None:
    shop(project)
    with project.open() as mill:
        sells(mill, 1)
        watch = Watch(mill.machine, "", applies_at_once=True)
        watch._resync()
        ahead(mill, 31 * DAY)
        watch._resync()
        assert retention(mill)["expired"] == 5


def test_what_a_job_skipped_expires_until_its_backfill_has_begun(project: Project) -> None:
    shop(project, large=LARGE)
    with project.open() as mill:
        sells(mill, 1, 3)
        mill.pause("large")
        sells(mill, 4, 3)
        mill.resume("large", "now")
        settled(mill)
        state = mill.machine.loop.state
        state.backfilled.add("large")  # what the loop knows while one is at work
        assert passed(mill) == 3 + 3
        [held] = retention(mill)["held_back"]
        assert (held["job"], held["offset"], held["reason"]) == ("large", 3, "its backfill is not finished")
        assert mill.backfill("large")["state"] == "finished"
        assert rows(mill, "select count(*) from large") == [(4,)]
        state.backfilled.discard("large")
        assert passed(mill) == 3 + 3


SHADOW = TOTALS.replace("sum(amount)", "sum(amount * 2) // 2")


def test_a_shadow_outlives_what_expires_and_restarts(project: Project) -> None:
    shop(project)
    with project.open() as mill:
        sells(mill, 1)
        assert mill.shadow("totals", sql=SHADOW, file="new.sql")["equal"]
        assert passed(mill) == 10
    with project.open() as mill:
        sells(mill, 6, 1)
        report = mill.shadow("totals")
        assert (report["error"], report["equal"], report["lag_changes"]) == ("", True, 0)
        assert report["compared"] >= 2
        with pytest.raises(TidemillError, match="already"):
            mill.shadow("totals", sql=SHADOW, file="new.sql")
        assert mill.shadow("totals", promote=True)["promoted"]
        sells(mill, 7, 1)
        assert sorted(rows(mill, "select * from totals")) == [("ada", 4, 16), ("bob", 3, 12)]


def test_a_shadow_that_needs_all_rows_keeps_them_and_a_new_one_is_refused_where_they_are_gone(project: Project) -> None:
    shop(project)
    whole = TOTALS.replace("count(*)", "count(distinct id)")
    with project.open() as mill:
        sells(mill, 1)
        assert mill.shadow("totals", sql=whole, file="new.sql")["equal"]
        assert passed(mill) == 0
        [held] = retention(mill)["held_back"]
        assert (held["job"], held["offset"]) == ("totals", 0)
        assert "its shadow needs all rows" in held["reason"]
    with project.open() as mill:
        sells(mill, 6, 1)
        assert mill.shadow("totals")["equal"]
        mill.shadow("totals", abandon=True)
        assert passed(mill) > 0
        with pytest.raises(TidemillError, match="has expired up to offset 6, so a shadow of `totals` would lack rows"):
            mill.shadow("totals", sql=whole, file="new.sql")
