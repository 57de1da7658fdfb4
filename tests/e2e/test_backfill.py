"""`backfill`: history that was never processed, in slices, once, beside live work (rule 28)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.conftest import ORDERS, Project, job_state, order, ran, rows, settled, until, watching
from tests.e2e.test_outside import SEND, emit, sending, sent
from tidemill.core.errors import TidemillError
from tidemill.project import reading
from tidemill.project.mill import Mill

COUNT = {"jobs/n.sql": "-- mode: realtime\nselect count(*) as n from orders"}
LARGE = "-- mode: realtime\nselect id, amount from orders where amount > 2"


def ids(project: Project) -> list[str]:
    return [name for each in sent(project) for name in each["ids"]]


def late_comer(project: Project, more: str = "", before: int = 5) -> None:
    """A job with effects that began after so many orders."""
    project.write({"tidemill.toml": ORDERS, **COUNT})
    with project.open() as mill:
        emit(mill, 1, before)
        ran(mill)
    project.write(sending(more))
    project.run()
    assert sent(project) == []


def skipping(project: Project, job: str, more: str = "") -> None:
    """A job over orders 1 to 9 that was moved over 3 to 7."""
    project.write({"tidemill.toml": ORDERS + more, f"jobs/large.{'sql' if 'select' in job else 'py'}": job})
    with project.open() as mill:
        mill.emit("orders", [order(n, "ada", n) for n in range(1, 3)])
        ran(mill)
        mill.pause("large")
        mill.emit("orders", [order(n, "ada", n) for n in range(3, 8)])
        settled(mill)
        mill.resume("large", "now")
        mill.emit("orders", [order(n, "ada", n) for n in range(8, 10)])
        ran(mill)


def test_what_was_skipped_at_several_times_is_all_processed(project: Project) -> None:
    skipping(project, LARGE)
    with project.open() as mill:
        mill.pause("large")
        mill.emit("orders", [order(n, "ada", n) for n in range(10, 13)])
        settled(mill)
        mill.resume("large", "now")
        ran(mill)
        assert rows(mill, "select id from large") == [("o8",), ("o9",)]
        assert mill.backfill("large")["rows"] == 5 + 3
        assert rows(mill, "select count(*), min(amount), max(amount) from large") == [(10, 3, 12)]


def test_a_backfill_publishes_nothing_that_breaks_what_the_job_asserts(project: Project) -> None:
    project.write(
        {
            "tidemill.toml": ORDERS,
            "jobs/large.sql": f"-- assert: not null customer\n{LARGE}".replace("id,", "id, customer,"),
        }
    )
    with project.open() as mill:
        mill.emit("orders", [order(3, "ada", 3)])
        ran(mill)
        mill.pause("large")
        mill.emit("orders", [order(4, "bob", 4), {"id": "o5", "amount": 5}])
        settled(mill)
        mill.resume("large", "now")
        ran(mill)
        done = mill.backfill("large")
        assert done["state"] == "failed"
        assert '"not null customer"' in done["error"]
        assert done["left"]
        assert rows(mill, "select id from large") == [("o3",)]


def test_what_came_before_a_job_with_effects_began_is_delivered_once(project: Project) -> None:
    late_comer(project)
    with project.open() as mill:
        emit(mill, 6, 7)
        ran(mill)
        done = mill.backfill("send")
        assert (done["state"], done["succeeded"], done["left"]) == ("finished", 1, [])
        assert [each["ids"] for each in sent(project)] == [["o6", "o7"], [f"o{n}" for n in range(1, 6)]]
        assert mill.backfill("send")["runs"] == 0
        emit(mill, 8, 8)
        ran(mill)
        assert sorted(ids(project)) == [f"o{n}" for n in range(1, 9)]
        assert mill.replay("send")["succeeded"] == 3, "what a backfill delivered is recorded like any run"
    assert "nothing was skipped" in project.cli("backfill", "send").stdout
    labelled = [run for run in project.json("runs", "--job", "send") if run["mode"] == "backfill"]
    assert [run["inputs"] for run in labelled] == [{"orders": [0, 5]}]


def test_slices_are_as_short_as_max_changes_and_a_part_can_be_chosen(project: Project) -> None:
    late_comer(project, ", max_changes=2")
    with project.open() as mill:
        assert mill.backfill("send", start="1", end="4")["succeeded"] == 2
        assert [each["ids"] for each in sent(project)] == [["o2", "o3"], ["o4"]]
        assert mill.backfill("send", start="2999-01-01")["runs"] == 0
        assert mill.backfill("send", end="2999-01-01")["succeeded"] == 2
        assert [each["ids"] for each in sent(project)[2:]] == [["o1"], ["o5"]]


def test_a_large_backfill_waits_for_apply_and_only_what_was_chosen_is_let_go(project: Project) -> None:
    late_comer(project, ", hold_above=3")
    assert project.json("backfill", "send", "--to", "4")["state"] == "held"
    with project.open() as mill:
        assert "send@backfill" in mill.apply()["released"]
        assert mill.backfill("send")["state"] == "held", "more was let go than was looked at"
        mill.apply()
        assert mill.backfill("send", start="1")["state"] == "finished"
        assert mill.backfill("send")["rows"] == 1
    assert sorted(ids(project)) == [f"o{n}" for n in range(1, 6)]


def test_a_slice_that_fails_is_tried_again_as_it_was_pinned_and_then_it_goes_on(project: Project) -> None:
    late_comer(project, ", retries=0, max_changes=2")
    project.write({"broken": ""})
    with project.open() as mill:
        failed = mill.backfill("send")
        assert (failed["state"], failed["failed"], failed["left"]) == ("failed", 1, [["orders", 0, 5]])
        assert "the other side is down" in failed["error"]
        project.remove("broken")
        assert mill.backfill("send")["succeeded"] == 3
    first, again, *rest = sent(project)
    assert (first["key"], first["ids"]) == (again["key"], again["ids"])
    assert [each["ids"] for each in rest] == [["o3", "o4"], ["o5"]]


def test_a_slice_that_fails_again_is_told_like_the_first_time(project: Project) -> None:
    late_comer(project, ", retries=0, max_changes=2")
    project.write({"broken": ""})
    with project.open() as mill:
        first, second = mill.backfill("send"), mill.backfill("send")
    assert first == second
    assert (second["job"], second["state"], second["failed"]) == ("send", "failed", 1)


def test_a_run_that_was_pinned_and_passed_over_keeps_its_key(project: Project) -> None:
    """It may have acted before it failed: the receiver has to know it again."""
    project.write({**sending(", retries=0"), "broken": ""})
    with project.open() as mill:
        emit(mill, 1, 2)
        ran(mill)
        mill.pause("send")
        emit(mill, 3, 5)
        mill.resume("send", "now")
        project.remove("broken")
        emit(mill, 6, 6)
        ran(mill)
        assert mill.backfill("send")["succeeded"] == 2
    tried = sent(project)[0]
    assert [each["ids"] for each in sent(project)] == [["o1", "o2"], ["o6"], ["o1", "o2"], ["o3", "o4", "o5"]]
    assert sent(project)[2]["key"] == tried["key"]


def test_a_run_is_not_passed_over_before_the_slice_that_a_backfill_began(project: Project) -> None:
    """Both may have acted, and each has a key of its own to keep."""
    late_comer(project, ", retries=0")
    project.write({"broken": ""})
    with project.open() as mill:
        assert mill.backfill("send")["state"] == "failed"
        emit(mill, 6, 7)
        ran(mill)
        with pytest.raises(TidemillError, match="a slice of a backfill of `send` was begun") as refused:
            mill.resume("send", "now")
        assert "tidemill backfill send" in refused.value.mend
        project.remove("broken")
        assert mill.backfill("send")["state"] == "finished"
        mill.resume("send", "now")
        assert mill.backfill("send")["state"] == "finished"
    assert len({each["key"] for each in sent(project)}) == 2, "each range has one key, however often it was tried"
    assert sent(project)[-1]["ids"] == ["o6", "o7"]


def test_a_run_that_waited_for_a_person_and_was_passed_over_waits_in_a_backfill_too(project: Project) -> None:
    project.write(sending(", hold_above=3"))
    with project.open() as mill:
        emit(mill, 1, 5)
        ran(mill)
        mill.resume("send", "now")
        assert mill.backfill("send")["state"] == "held"
        assert sent(project) == []
        mill.apply()
        assert mill.backfill("send")["state"] == "finished"
        assert ids(project) == [f"o{n}" for n in range(1, 6)]


def test_a_killed_backfill_goes_on_and_repeats_only_the_slice_that_was_cut(
    project: Project, started: Callable[..., subprocess.Popen[str]]
) -> None:
    late_comer(project, ", max_changes=2")
    slow = SEND.replace("MORE", ", max_changes=2").replace(
        'if (HERE / "broken")', 'while "o3" in run.changes("orders")["id"].to_pylist() and (HERE / "broken")'
    )
    project.write({"jobs/send.py": slow.replace('raise RuntimeError("the other side is down")', "pass"), "broken": ""})
    process = started(project, "backfill", "send")
    until(lambda: len(sent(project)) == 2, "the second slice")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    project.remove("broken")
    assert project.json("backfill", "send")["state"] == "finished"
    assert [each["ids"] for each in sent(project)] == [["o1", "o2"], ["o3", "o4"], ["o3", "o4"], ["o5"]]
    assert len({each["key"] for each in sent(project)}) == 3


def test_rows_that_a_cursor_was_moved_over_are_processed_as_if_it_never_was(project: Project) -> None:
    skipping(project, LARGE)
    with project.open() as mill:
        assert rows(mill, "select id from large order by 1") == [("o8",), ("o9",)]
        assert mill.reconcile("large")["missing"] == 5
        done = mill.backfill("large", end="5")
        assert (done["state"], done["changes"], done["rows"]) == ("finished", 3, 3)
        assert mill.backfill("large")["changes"] == 2
        assert mill.reconcile("large")["equal"]
        assert mill.backfill("large")["runs"] == 0
        mill.emit("orders", [order(10, "ada", 10)])
        ran(mill)
        assert mill.reconcile("large")["equal"]


CODE = """import tidemill as tm

@tm.job(inputs='orders', output='large', mode='realtime', columns={'id': 'varchar', 'part': 'integer'}MORE)
def large(row: dict) -> dict:
    return {'id': row['id'], 'part': 60 // (row['amount'] - 5)}
"""


def test_a_row_of_history_that_cannot_be_processed_is_parked_like_any_other(project: Project) -> None:
    skipping(project, CODE.replace("MORE", ""))
    with project.open() as mill:
        done = mill.backfill("large")
        assert (done["state"], done["parked"], done["changes"]) == ("finished", 1, 4)
        assert [(letter["job"], letter["id"]) for letter in mill.dead()] == [("large", "large/orders/5")]
        assert mill.reconcile("large")["equal"]
        assert len(rows(mill, "select * from large")) == 8


def test_where_a_bad_row_stops_the_job_it_stops_the_backfill_before_it(project: Project) -> None:
    skipping(project, CODE.replace("MORE", ", on_error='stop', max_changes=1"))
    with project.open() as mill:
        done = mill.backfill("large")
        assert (done["state"], done["left"]) == ("failed", [["orders", 4, 7]])
        (failed,) = mill.runs(state="failed")
        assert (failed["mode"], failed["inputs"]) == ("backfill", {"orders": [4, 5]})
        project.write({"jobs/large.py": CODE.replace("MORE", "").replace("- 5", "- 50")})
    project.run()
    with project.open() as mill:
        mill.backfill("large")
        assert mill.reconcile("large")["equal"], "a rebuild has processed it meanwhile, and nothing is there twice"


def test_a_topic_that_a_job_writes_gets_history_once(project: Project) -> None:
    topic = '\n[assets.large]\nkind = "topic"\n[assets.large.columns]\nid = "varchar"\namount = "integer"\n'
    project.write({"tidemill.toml": ORDERS + topic, "jobs/large.sql": LARGE})
    with project.open() as mill:
        mill.pause("large")
        mill.emit("orders", [order(n, "ada", n) for n in range(1, 8)])
        settled(mill)
        mill.resume("large", "now")
        mill.emit("orders", [order(8, "ada", 8)])
        ran(mill)
        assert mill.backfill("large")["changes"] == 5
        assert mill.backfill("large")["changes"] == 0
        with pytest.raises(TidemillError, match="which only grows") as refused:
            mill.replay("large")
        assert "tidemill replay large --into TABLE" in refused.value.mend
        assert mill.replay("large", into="large_again")["rows"] == 6
        assert [row for (row,) in rows(mill, "select id from large order by 1")] == [f"o{n}" for n in range(3, 9)]


def test_a_table_whose_rows_rest_on_many_is_made_anew_and_its_readers_get_the_difference(project: Project) -> None:
    skipping(project, "-- mode: realtime\nselect customer, sum(amount) as total from orders group by customer")
    project.write({"jobs/top.sql": "-- mode: realtime\nselect max(total) as top from large"})
    with project.open() as mill:
        ran(mill)
        with pytest.raises(TidemillError, match="no result of a part of its input"):
            mill.backfill("large", end="4")
        assert mill.backfill("large")["state"] == "finished"
        ran(mill)
        assert rows(mill, "select * from top") == [(45,)]
        assert mill.reconcile("large")["equal"]
        assert mill.backfill("large")["runs"] == 0


def test_a_gated_job_gets_values_that_were_complete_before_it_began(project: Project) -> None:
    files = '[assets.sheets]\nkind = "files"\npath = "in/{site}/{day}.csv"\ncomplete.site = ["a", "b"]\n[assets.sheets.columns]\nhours = "integer"\n'
    code = SEND.replace("MORE", ", gate='day'").replace("orders", "sheets").replace("realtime", "batch")
    code = code.replace('run.changes("sheets")["id"]', 'run.changes("sheets")["hours"]')
    project.write(
        {"tidemill.toml": f'[project]\nname = "pay"\n{files}', "jobs/n.sql": "select count(*) as n from sheets"}
    )
    for day, hours in (("01", 4), ("02", 5), ("03", 6)):
        for site in "ab":
            project.write({f"in/{site}/2026-01-{day}.csv": f"hours\n{hours}\n"})
    project.run()
    project.write({"jobs/send.py": code.replace("gate=", "hold_above=1, gate=")})
    with project.open() as mill:
        ran(mill)
        assert mill.backfill("send", partitions=["2026-01-02"])["state"] == "held"
    project.write({"jobs/send.py": code.replace("gate=", "hold_above=6, gate=")})
    with project.open() as mill:
        ran(mill)
        assert sent(project) == []
        with pytest.raises(TidemillError, match="`2026-01-09` is no value that `send` never took"):
            mill.backfill("send", partitions=["2026-01-09"])
        assert mill.backfill("send", partitions=["2026-01-02"])["succeeded"] == 1
        assert [each["ids"] for each in sent(project)] == [[5, 5]]
        assert mill.backfill("send")["succeeded"] == 2
        assert [each["ids"] for each in sent(project)] == [[5, 5], [4, 4], [6, 6]]
        assert mill.backfill("send")["runs"] == 0
        project.write({"in/a/2026-01-04.csv": "hours\n7\n", "in/b/2026-01-04.csv": "hours\n7\n"})
        ran(mill)
        assert [each["ids"] for each in sent(project)][3:] == [[7, 7]]


def test_commands_are_given_history_too(project: Project) -> None:
    code = "import os; open('told.txt', 'a').write(os.environ['TIDEMILL_RUN'] + '\\n')\n"
    job = '\n[jobs.tell]\ninputs = ["orders"]\noutputs = ["told"]\ncommand = ["python", "tell.py"]\nmode = "realtime"\n'
    project.write({"tidemill.toml": ORDERS, **COUNT, "tell.py": code})
    with project.open() as mill:
        emit(mill, 1, 3)
        ran(mill)
    project.write({"tidemill.toml": ORDERS + job})
    project.run()
    assert project.json("backfill", "tell")["succeeded"] == 1
    [told] = map(json.loads, project.lines("told.txt"))
    assert told["inputs"]["orders"] == {"from": 0, "to": 3, "files": []}


def labelled(mill: Mill, asset: str, from_: int = 0) -> list[tuple[Any, bool]]:
    """(id, whether it is of a backfill) of the changes of an asset, as a reader sees them."""
    found, _ = reading.changes(mill.machine, asset, from_, 1_000)
    return [(change["after"].get("id"), change["source"]["backfill"]) for change in found]


def test_changes_that_a_backfill_wrote_say_so_and_go_on_saying_so(project: Project) -> None:
    skipping(project, LARGE.replace("realtime", "realtime\n-- max_changes: 2"))
    with project.open() as mill:
        before = mill.machine.tables.head("large")
        mill.backfill("large", end="5")
        mill.emit("orders", [order(10, "ada", 10)])
        ran(mill)
        mill.backfill("large")
        news = [("o8", False), ("o9", False)]
        history = [("o3", True), ("o4", True), ("o5", True), ("o10", False), ("o6", True), ("o7", True)]
        assert labelled(mill, "large", before) == history
        assert labelled(mill, "large") == news + history
        assert len(mill.machine.tables.query('select * from store."large@backfilled" where _until > 999999')) == 2
    with project.open() as mill:
        assert labelled(mill, "large") == news + history


def test_a_row_that_changes_after_a_backfill_is_news_again(project: Project) -> None:
    skipping(project, LARGE)
    with project.open() as mill:
        mill.backfill("large")
        project.write({"jobs/large.sql": LARGE.replace("amount from", "amount * 10 as amount from")})
    project.run()
    with project.open() as mill:
        assert not any(is_history for _, is_history in labelled(mill, "large"))


def test_what_is_made_anew_for_its_history_says_so(project: Project) -> None:
    skipping(project, "-- mode: realtime\nselect customer as id, sum(amount) as total from orders group by customer")
    with project.open() as mill:
        assert labelled(mill, "large") == [("ada", False)]
        mill.backfill("large")
        assert labelled(mill, "large") == [("ada", True)]


def test_topics_and_outside_things_that_a_backfill_wrote_say_so(project: Project) -> None:
    topic = '\n[assets.large]\nkind = "topic"\n[assets.large.columns]\nid = "varchar"\namount = "integer"\n'
    project.write({**sending(), "tidemill.toml": ORDERS + topic, "jobs/large.sql": LARGE})
    with project.open() as mill:
        for job in ("large", "send"):
            mill.pause(job)
        mill.emit("orders", [order(n, "ada", n) for n in range(1, 5)])
        settled(mill)
        for job in ("large", "send"):
            mill.resume(job, "now")
        mill.emit("orders", [order(n, "ada", n) for n in range(5, 7)])
        ran(mill)
        for job in ("large", "send"):
            mill.backfill(job)
        assert [is_history for _, is_history in labelled(mill, "sent")] == [False, True]
        assert sorted(labelled(mill, "large")) == [("o3", True), ("o4", True), ("o5", False), ("o6", False)]


SLOW = """import pathlib
import tidemill as tm

HERE = pathlib.Path(__file__).parent

@tm.job(inputs='orders', output='large', mode='realtime', columns={'id': 'varchar'}, max_changes=2)
def large(row: dict) -> dict:
    while row['id'] == 'o6' and (HERE / 'stuck').exists():
        (HERE / 'reached').touch()
    return {'id': row['id']}
"""


def test_labels_of_a_killed_backfill_are_those_of_what_it_has_committed(
    project: Project, started: Callable[..., subprocess.Popen[str]]
) -> None:
    skipping(project, SLOW)
    project.write({"jobs/stuck": ""})
    process = started(project, "backfill", "large")
    until((project.folder / "jobs/reached").exists, "the second slice")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    project.remove("jobs/stuck")
    news = [("o1", False), ("o2", False), ("o8", False), ("o9", False)]
    with project.open() as mill:
        assert labelled(mill, "large") == [*news, ("o3", True), ("o4", True)]
        mill.backfill("large")
        assert labelled(mill, "large") == [*news, *((f"o{n}", True) for n in range(3, 8))]


WAITING = SLOW.replace("'o6'", "'o5'").replace(
    "(HERE / 'stuck').exists():\n        (HERE / 'reached').touch()",
    "(HERE / 'stuck').exists():\n        (HERE / 'reached').touch()\n        if (HERE / 'go').exists():\n            break",
)


def test_events_that_come_into_a_topic_within_a_slice_are_no_history(project: Project) -> None:
    topic = '\n[assets.large]\nkind = "topic"\n[assets.large.columns]\nid = "varchar"\n'
    skipping(project, WAITING.replace(", columns={'id': 'varchar'}, max_changes=2", ""), topic)
    with project.open() as mill:
        project.write({"jobs/stuck": ""})
        filling = threading.Thread(target=mill.backfill, args=("large",))
        filling.start()
        until((project.folder / "jobs/reached").exists, "the slice")
        coming = threading.Thread(target=mill.emit, args=("large", [{"id": "new"}]))
        coming.start()
        coming.join(0.5)  # it may have to wait for the slice
        project.write({"jobs/go": ""})
        filling.join()
        coming.join()
        found = labelled(mill, "large")
        assert {name for name, is_history in found if is_history} == {f"o{n}" for n in range(3, 8)}
        assert len(found) == 10


def test_readers_that_follow_and_that_coalesce_end_with_the_same_rows(project: Project) -> None:
    skipping(project, LARGE.replace("realtime", "realtime\n-- max_changes: 1"))
    sums = "select amount % 2 as odd, count(*) as n, sum(amount) as total from large group by odd"
    copies = "select id, amount + 1 as more from large"
    for word in ("follow", "coalesce"):
        head = f"-- mode: realtime\n-- on_backfill: {word}\n"
        project.write({f"jobs/sums_{word}.sql": head + sums, f"jobs/copies_{word}.sql": head + copies})
    with watching(project) as mill:
        settled(mill)
        assert mill.backfill("large")["succeeded"] == 5
        settled(mill)
        for name in ("sums", "copies"):
            followed, taken_at_once = (
                rows(mill, f"select * from {name}_{w} order by 1") for w in ("follow", "coalesce")
            )
            assert followed == taken_at_once
        assert rows(mill, "select sum(n), sum(total) from sums_coalesce") == [(7, 42)]
        assert all(
            mill.reconcile(f"{name}_{w}")["equal"] for name in ("sums", "copies") for w in ("follow", "coalesce")
        )


def readers(project: Project, word: str) -> list[Any]:
    """What a reader's runs took, while its input was backfilled in slices of one."""
    skipping(project, LARGE.replace("realtime", "realtime\n-- max_changes: 1"))
    project.write({"jobs/seen.sql": f"-- mode: realtime\n-- on_backfill: {word}\nselect count(*) as n from large"})
    with watching(project) as mill:
        settled(mill)
        before = len(mill.runs(job="seen"))
        assert mill.backfill("large")["succeeded"] == 5
        settled(mill)
        assert rows(mill, "select n from seen") == [(7,)]
        return [run["inputs"]["large"] for run in reversed(mill.runs(job="seen"))][before:]


def test_a_reader_follows_a_backfill_slice_by_slice(project: Project) -> None:
    assert len(readers(project, "follow")) > 1


def test_a_reader_that_coalesces_takes_a_backfill_at_once(project: Project) -> None:
    [(from_, to)] = readers(project, "coalesce")
    assert to - from_ == 5


def test_a_paused_job_is_not_backfilled_and_goes_on_once_resumed(project: Project) -> None:
    late_comer(project)
    with project.open() as mill:
        mill.pause("send")
        with pytest.raises(TidemillError, match="is paused"):
            mill.backfill("send")
        mill.resume("send")
        assert mill.backfill("send")["state"] == "finished"
        assert job_state(mill, "send") == "idle"
