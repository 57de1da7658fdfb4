"""What a failure costs: one job and what needs it, never a neighbour, and never a row that is fine (rules 13, 14)."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Sequence

import pytest

from tests.e2e.conftest import (
    ORDERS,
    AheadClock,
    Project,
    ahead,
    alarms,
    job_state,
    order,
    ran,
    rows,
    settled,
    states,
    until,
)
from tidemill.core.errors import StorageFull
from tidemill.core.ports import RunRecord
from tidemill.runtime.catalog import Catalog
from tidemill.runtime.journal import LedgerJournal

COUNT = {"jobs/total.sql": "-- mode: realtime\nselect count(*) n from orders"}


def failing(more: str = "") -> dict[str, str]:
    """A job that fails while the file `broken` exists, and a reader of what it writes."""
    return {
        "tidemill.toml": ORDERS
        + f'[jobs.push]\nmode = "realtime"\ninputs = ["orders"]\noutputs = ["pushed"]\nretries = 0\n{more}\n'
        'command = ["python", "push.py"]\n'
        '[jobs.after]\nmode = "realtime"\ninputs = ["pushed"]\noutputs = ["end_"]\ncommand = ["python", "-c", "pass"]\n',
        "push.py": "import pathlib, sys\nopen('tries.txt', 'a').write('x\\n')\nsys.exit(1 if pathlib.Path('broken').exists() else 0)\n",
        "broken": "yes",
        **COUNT,
    }


def test_a_failed_job_blocks_only_the_jobs_that_need_its_new_changes(project: Project) -> None:
    with project.write(failing()).open() as mill:
        mill.emit("orders", [order(1)])
        summary = ran(mill)
        assert summary["failed"] == 1
        assert rows(mill, "select n from total") == [(1,)]
        assert [job for job, _ in states(mill)].count("after") == 0
        assert job_state(mill, "push") == "held"
        assert any(alarm["job"] == "push" for alarm in mill.status()["alarms"])


def test_retries_are_tried_with_waits_and_then_the_job_is_held(project: Project) -> None:
    files = failing()
    files["tidemill.toml"] = files["tidemill.toml"].replace("retries = 0", "retries = 2")
    with project.write(files).open() as mill:
        mill.emit("orders", [order(1)])
        summary = ran(mill)
        assert (summary["runs"], summary["failed"]) == (2, 1)
        assert len(project.lines("tries.txt")) == 3
        (run,) = mill.runs(job="push")
        assert (run["state"], run["attempt"]) == ("failed", 3)


@pytest.mark.parametrize("how", ["retry", "resume"])
def test_a_person_lets_a_held_job_try_again(project: Project, how: str) -> None:
    with project.write(failing()).open() as mill:
        mill.emit("orders", [order(1)])
        ran(mill)
        project.remove("broken")
        getattr(mill, how)("push")
        settled(mill)
        assert [state for job, state in states(mill) if job == "push"] == ["failed", "succeeded"]
        assert [state for job, state in states(mill) if job == "after"] == ["succeeded"]
        assert alarms(mill) == []


def test_runs_that_fail_name_what_they_tried_to_take(project: Project) -> None:
    files = failing()
    files["tidemill.toml"] = files["tidemill.toml"].replace("retries = 0", "retries = 1")
    files["jobs/picky.py"] = (
        "import tidemill as tm\n"
        "@tm.job(inputs='orders', output='picked', mode='realtime', on_error='stop', retries=0)\n"
        "def picked(row: dict) -> dict:\n"
        "    return {'n': 1 / (row['amount'] - 5)}\n"
    )
    with project.write(files).open() as mill:
        mill.emit("orders", [order(1, amount=1), order(2, amount=2)])
        mill.emit("orders", [order(3, amount=5)])
        ran(mill)
        found = {run["job"]: (run["state"], run["attempt"], run["inputs"]) for run in mill.runs()}
        assert found["push"] == ("failed", 2, {"orders": [0, 3]})
        assert found["picked"] == ("failed", 1, {"orders": [0, 3]})
        mill.emit("orders", [order(4, amount=5)])
        mill.retry("picked")
        settled(mill)
        assert mill.runs(job="picked", limit=1)[0]["inputs"] == {"orders": [0, 4]}, "what it tried now"
        assert mill.explain("picked")["last_start"]["inputs"] == {"orders": [0, 4]}
    assert "tried orders: offsets 1 to 4" in project.cli("explain", "picked").stdout


def test_a_run_that_waits_for_a_person_names_what_it_would_take(project: Project) -> None:
    with project.write(failing("hold_above = 1")).open() as mill:
        mill.emit("orders", [order(1), order(2)])
        ran(mill)
        (run,) = mill.runs(job="push")
        assert (run["state"], run["inputs"]) == ("held", {"orders": [0, 2]})


def test_a_run_whose_process_died_names_what_it_had_begun_with(
    project: Project, started: Callable[..., subprocess.Popen[str]]
) -> None:
    files = failing()
    files["push.py"] = (
        "import pathlib\npathlib.Path('begun').touch()\nwhile pathlib.Path('broken').exists():\n    pass\n"
    )
    with project.write(files).open() as mill:
        mill.pause("push")
        mill.emit("orders", [order(1), order(2)])
        mill.machine.ledger.note("paused", "push", None)  # the next process does not know that it was
    process = started(project, "run")
    until((project.folder / "begun").exists, "the command")
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    project.remove("broken")
    project.run()
    with project.open() as mill:
        after, died = mill.runs(job="push")
        assert (died["state"], died["inputs"]) == ("failed", {"orders": [0, 2]})
        assert (after["state"], after["inputs"]) == ("succeeded", {"orders": [0, 2]})


def test_a_new_run_tries_a_held_job_again(project: Project) -> None:
    with project.write(failing()).open() as mill:
        mill.emit("orders", [order(1)])
        ran(mill)
        project.remove("broken")
        assert ran(mill)["succeeded"] == 2


def test_a_held_job_is_held_to_who_looks_and_due_once_it_was_changed(project: Project) -> None:
    with project.write(failing()).open() as mill:
        mill.emit("orders", [order(1)])
        ran(mill)
    told = project.json("explain", "push")
    assert (told["state"], told["ready"]) == ("held", True)  # a run tries it again
    project.write({"tidemill.toml": failing()["tidemill.toml"].replace('"push.py"', '"-B", "push.py"')})
    assert project.json("explain", "push")["state"] == "due"


def test_a_new_process_tries_a_held_job_again(project: Project) -> None:
    with project.write(failing()).open() as mill:
        mill.emit("orders", [order(1)])
        assert ran(mill)["failed"] == 1
    project.remove("broken")
    assert project.run()["failed"] == 0
    with project.open() as mill:
        assert job_state(mill, "push") == "idle"


def test_new_changes_restart_a_held_job_at_most_once_a_minute(project: Project) -> None:
    with project.write(failing()).open() as mill:
        mill.emit("orders", [order(1)])
        ran(mill)
        for number in range(2, 6):
            mill.emit("orders", [order(number)])
            settled(mill)
        assert len(project.lines("tries.txt")) == 1
        ahead(mill, 61)
        settled(mill)
        assert len(project.lines("tries.txt")) == 2
        project.remove("broken")
        ahead(mill, 61)  # no news since: it stays held
        settled(mill)
        assert len(project.lines("tries.txt")) == 2
        mill.emit("orders", [order(9)])
        settled(mill)
        ahead(mill, 61)
        settled(mill)
        assert job_state(mill, "push") == "idle"


def test_a_paused_job_starts_nothing_until_it_is_resumed_also_over_a_restart(project: Project) -> None:
    project.write({"tidemill.toml": ORDERS, **COUNT})
    with project.open() as mill:
        mill.emit("orders", [order(1)])
        ran(mill)
        assert mill.pause("total")["state"] == "paused"
        mill.emit("orders", [order(2)])
        ran(mill)
        assert rows(mill, "select n from total") == [(1,)]
    with project.open() as mill:
        ran(mill)
        assert rows(mill, "select n from total") == [(1,)]
        mill.resume("total")
        ran(mill)
        assert rows(mill, "select n from total") == [(2,)]


# Poison.

CAST = {
    "jobs/cast_.sql": "-- mode: {mode}\n-- on_error: {on_error}\nselect id, cast(customer as integer) number from orders"
}
PYTHON = {
    "jobs/cast_.py": "import tidemill as tm\n\n"
    "@tm.job(inputs='orders', output='cast_', mode='{mode}', on_error='{on_error}', retries=0, columns={{'id': 'varchar', 'number': 'integer'}})\n"
    "def cast_(row: dict) -> dict:\n    return {{'id': row['id'], 'number': int(row['customer'])}}\n"
}
BOTH = pytest.mark.parametrize("job", [CAST, PYTHON], ids=["sql", "python"])


def poisoned(job: dict[str, str], mode: str = "realtime", on_error: str = "park", more: str = "") -> dict[str, str]:
    said = {name: text.format(mode=mode, on_error=on_error) for name, text in job.items()}
    return {"tidemill.toml": ORDERS + more, **said}


@BOTH
@pytest.mark.parametrize("mode", ["realtime", "microbatch", "batch"])
def test_a_row_that_cannot_be_processed_parks_alone_in_every_mode(
    project: Project, job: dict[str, str], mode: str
) -> None:
    with project.write(poisoned(job, mode)).open() as mill:
        mill.emit("orders", [order(1, "1"), order(2, "two"), order(3, "3")])
        ran(mill)
        assert rows(mill, "select id, number from cast_ order by 1") == [("o1", 1), ("o3", 3)]
        (letter,) = mill.dead()
        assert (letter["job"], letter["asset"], letter["stage"]) == ("cast_", "orders", "transform")
        assert "two" in letter["payload"]
        assert "two" in letter["reason"]
        assert states(mill) == [("cast_", "succeeded")]
        assert mill.runs()[0]["parked"] == 1
    with project.open() as mill:
        ran(mill)
        assert len(mill.dead()) == 1


@BOTH
def test_on_error_stop_commits_nothing_of_the_change_set(project: Project, job: dict[str, str]) -> None:
    with project.write(poisoned(job, on_error="stop")).open() as mill:
        mill.emit("orders", [order(1, "1")])
        ran(mill)
        mill.emit("orders", [order(2, "2"), order(3, "three"), order(4, "4")])
        assert ran(mill)["failed"] == 1
        assert rows(mill, "select id from cast_") == [("o1",)]
        assert mill.dead() == []
        assert job_state(mill, "cast_") == "held"


@BOTH
def test_a_job_that_never_succeeded_on_a_record_is_broken_and_parks_nothing(
    project: Project, job: dict[str, str]
) -> None:
    with project.write(poisoned(job)).open() as mill:
        mill.emit("orders", [order(n, "bad") for n in range(5)])
        assert ran(mill)["failed"] == 1
        assert mill.dead() == []
        assert job_state(mill, "cast_") == "held"


@BOTH
def test_too_many_parked_rows_stop_the_job_with_the_prefix_committed_and_resume_goes_on(
    project: Project, job: dict[str, str]
) -> None:
    with project.write(poisoned(job)).open() as mill:
        mill.emit("orders", [order(n, "7" if n < 50 else "bad") for n in range(80)])
        mill.emit("orders", [order(n, "7") for n in range(80, 90)])
        ran(mill)
        assert rows(mill, "select count(*) from cast_") == [(50,)]
        assert len(mill.dead()) == 20
        assert job_state(mill, "cast_") == "held"
        assert "more than 20 of the last 100" in mill.runs(job="cast_")[0]["error"]
        mill.resume("cast_")
        settled(mill)
        assert rows(mill, "select count(*) from cast_") == [(60,)]
        assert len(mill.dead()) == 30
        assert job_state(mill, "cast_") == "idle"


LEVELS = (
    '[assets.levels]\nkind = "topic"\nkey = ["item"]\nsemantics = "upsert"\n'
    '[assets.levels.columns]\nitem = "varchar"\nlevel = "varchar"\n'
)


def test_a_parked_row_leaves_the_set_when_it_is_corrected_or_removed(project: Project) -> None:
    project.write(
        {"tidemill.toml": LEVELS, "jobs/n.sql": "-- mode: realtime\nselect item, cast(level as integer) n from levels"}
    )
    with project.open() as mill:
        mill.emit("levels", [{"item": "a", "level": "1"}, {"item": "b", "level": "x"}, {"item": "c", "level": "y"}])
        ran(mill)
        assert (rows(mill, "select * from n"), len(mill.dead())) == ([("a", 1)], 2)
        mill.emit("levels", [{"item": "b", "level": "2"}, {"item": "c", "_deleted": True}])
        ran(mill)
        assert (rows(mill, "select * from n order by 1"), mill.dead()) == ([("a", 1), ("b", 2)], [])
        mill.emit("levels", [{"item": "a", "level": "z"}])  # what was fine goes out when it goes bad
        ran(mill)
        assert (rows(mill, "select * from n"), len(mill.dead())) == ([("b", 2)], 1)


def test_a_parked_row_stays_out_of_a_recomputed_table_until_it_is_corrected(project: Project) -> None:
    project.write(
        {"tidemill.toml": LEVELS, "jobs/n.sql": "-- mode: realtime\nselect sum(cast(level as integer)) n from levels"}
    )
    with project.open() as mill:
        mill.emit("levels", [{"item": "a", "level": "1"}])
        ran(mill)
        mill.emit("levels", [{"item": "b", "level": "x"}, {"item": "c", "level": "5"}])
        ran(mill)
        assert (rows(mill, "select n from n"), len(mill.dead())) == ([(6,)], 1)
        mill.emit("levels", [{"item": "c", "level": "6"}])
        ran(mill)
        assert (rows(mill, "select n from n"), len(mill.dead())) == ([(7,)], 1)
        mill.emit("levels", [{"item": "b", "level": "10"}])
        ran(mill)
        assert (rows(mill, "select n from n"), mill.dead()) == ([(17,)], [])


def test_a_mended_job_tries_its_parked_rows_again(project: Project) -> None:
    project.write(
        {"tidemill.toml": LEVELS, "jobs/n.sql": "-- mode: realtime\nselect item, cast(level as integer) n from levels"}
    )
    with project.open() as mill:
        mill.emit("levels", [{"item": "a", "level": "1"}, {"item": "b", "level": "x"}])
        ran(mill)
        assert len(mill.dead()) == 1
    project.write(
        {"jobs/n.sql": "-- mode: realtime\nselect item, coalesce(try_cast(level as integer), 0) n from levels"}
    )
    with project.open() as mill:
        ran(mill)
        assert (rows(mill, "select * from n order by 1"), mill.dead()) == ([("a", 1), ("b", 0)], [])


def test_dead_letters_of_the_door_and_of_jobs_are_one_list(project: Project) -> None:
    with project.write(poisoned(CAST)).open() as mill:
        mill.emit("orders", [order(1, "1"), order(2, "x"), {"id": "o3", "customer": "c", "amount": "many"}])
        ran(mill)
    listed = project.json("dead", "list")
    assert sorted((letter["stage"], letter["job"] or "") for letter in listed) == [("door", ""), ("transform", "cast_")]
    assert all(
        set(letter) >= {"id", "asset", "job", "stage", "reason", "payload", "attempts", "state"} for letter in listed
    )


class FullForAWhile:
    """A ledger on a full disk, until there is room."""

    def __init__(self) -> None:
        self.has_room = False
        self.written: list[RunRecord] = []

    def record(self, runs: Sequence[RunRecord]) -> None:
        if not self.has_room:
            raise StorageFull("no room to write the ledger", mend="free some space")
        self.written += runs


def test_reports_that_find_no_room_are_written_later_and_nobody_waits_for_them() -> None:
    ledger = FullForAWhile()
    journal = LedgerJournal(ledger, Catalog(), AheadClock())  # type: ignore[arg-type]
    journal.fail("run-1", "job", "it broke", "failed")
    journal.flush()
    assert ("reports", "") in journal.alarms
    ledger.has_room = True
    until(lambda: [record.run for record in ledger.written] == ["run-1"])
    until(lambda: not journal.alarms)
    journal.fail("run-2", "job", "it broke", "failed")
    journal.close()
    assert [record.run for record in ledger.written] == ["run-1", "run-2"]
