"""What could not be taken is seen without being looked for: in the answer of `run`, its exit code, status and explain."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import ORDERS, Project, Row, alarms, order, ran, rows, until, watching
from tidemill.core.errors import NotFound, UserError

FILES = '[assets.readings]\nkind = "files"\npath = "in/{site}.csv"\n'
COLUMNS = '[assets.readings.columns]\nsite = "varchar"\nname = "varchar"\nvalue = "integer"\n'
COUNT = {"jobs/count.sql": "-- mode: realtime\nselect count(*) as n from readings"}
HALVES = {
    "jobs/halves.py": "import tidemill as tm\n"
    "@tm.job(inputs='orders', output='halves', mode='realtime')\n"
    "def halves(row: dict) -> dict:\n    return {'id': row['id'], 'half': 100 // row['amount']}\n"
}
BROKEN = {"in/bad.csv": 'name,value\na,1\n"b,2\n'}


def emitted(project: Project, *events: Row) -> None:
    """Hand events in as another process does, which starts nothing."""
    project.cli("emit", "orders", *(word for event in events for word in ("--row", json.dumps(event))), code=None)


def test_a_rejected_file_fails_the_run_that_met_it_and_is_named_with_its_line(project: Project) -> None:
    project.write({"tidemill.toml": FILES + COLUMNS, **COUNT, **BROKEN})
    done = project.cli("run", code=1)
    assert done.stdout == "nothing was due, 1 file rejected\n"
    assert "rejected readings: in/bad.csv:3: " in done.stderr
    again = project.cli("run")  # this one did nothing wrong, and still says what stands
    assert again.stdout == "nothing was due\n"
    assert "rejected file: in/bad.csv:3: " in again.stderr
    assert "rejected file: in/bad.csv:3: " in project.cli("status").stderr
    assert "a file was rejected: in/bad.csv:3: " in project.cli("explain", "count").stdout


def test_json_keeps_its_shape_and_the_trouble_stands_beside_it(project: Project) -> None:
    project.write({"tidemill.toml": ORDERS + FILES + COLUMNS, **COUNT, **BROKEN, **HALVES})
    emitted(project, order(1, amount=4), order(2, amount=0))
    done = project.cli("run", "--json", code=1)
    assert done.stdout == '{"runs": 1, "succeeded": 1, "failed": 0, "changes": 1}\n'
    assert "rejected readings: in/bad.csv:3: " in done.stderr
    assert "succeeded halves (1 rows, 1 parked)" in done.stderr


def test_parked_rows_stand_in_the_line_of_the_run_in_the_sum_and_in_status(project: Project) -> None:
    project.write({"tidemill.toml": ORDERS, **HALVES})
    emitted(project, order(1, amount=4), order(2, amount=0), {**order(3), "amount": "x"})
    done = project.cli("run")
    assert "succeeded halves (1 rows, 1 parked): see tidemill dead list" in done.stderr
    assert done.stdout == "1 runs: 1 succeeded, 0 failed, 1 changes, 1 row parked\n"
    assert project.cli("runs").stdout.splitlines()[1].split()[-5:] == ["2", "1", "1", "0", "1"]
    told = project.cli("status").stderr
    assert "alarm: parked halves: 1 row is parked by job halves: see tidemill dead list" in told
    assert "alarm: parked: 1 row is parked at the door of orders: see tidemill dead list" in told
    explained = project.cli("explain", "halves").stdout
    assert [line.strip() for line in explained.splitlines() if "parked" in line] == [
        "1 row is parked by this job: see tidemill dead list"
    ]


def test_runs_of_a_job_or_a_state_that_there_is_not_are_no_empty_list(project: Project) -> None:
    project.write({"tidemill.toml": ORDERS, **HALVES})
    with project.open() as mill:
        assert mill.runs(job="halves", state="failed") == []
        with pytest.raises(NotFound, match="there is no job `halvs`"):
            mill.runs(job="halvs")
        with pytest.raises(UserError, match="suceeded is not a state of a run"):
            mill.runs(state="suceeded")
        mill.emit("orders", [order(1, amount=4)])
        ran(mill)
    project.remove("jobs/halves.py")
    with project.open() as mill:
        assert [run["state"] for run in mill.runs(job="halves")] == ["succeeded"]
        assert mill.runs(job="halves", state="failed") == []


def test_the_alarm_of_a_parked_row_is_over_when_it_is_mended(project: Project) -> None:
    stock = '[assets.stock]\nkind = "topic"\nkey = ["id"]\nsemantics = "upsert"\n[assets.stock.columns]\nid = "varchar"\namount = "integer"\n'
    project.write({"tidemill.toml": stock, "jobs/halves.py": HALVES["jobs/halves.py"].replace("orders", "stock")})
    with project.open() as mill:
        mill.emit("stock", [{"id": "a", "amount": 4}, {"id": "b", "amount": 0}])
        ran(mill)
        assert alarms(mill) == ["1 row is parked by job halves: see tidemill dead list"]
        mill.emit("stock", [{"id": "b", "amount": 5}])
        ran(mill)
        assert alarms(mill) == []


def test_a_rejected_file_that_is_taken_away_stands_no_more_and_the_rows_it_had_stay(project: Project) -> None:
    project.write({"tidemill.toml": FILES + COLUMNS, **COUNT, "in/x.csv": "name,value\na,1\n"})
    with project.open() as mill:
        ran(mill)
        project.write({"in/x.csv": "name,value\na,oops\n"})
        ran(mill)
        assert len(alarms(mill)) == 1
        project.remove("in/x.csv")
        ran(mill)
        assert alarms(mill) == []
        assert mill.dead() == []
        assert rows(mill, "select n from count") == [(1,)]
        project.write({"in/x.csv": "name,value\na,1\nb,2\n"})
        ran(mill)
        assert rows(mill, "select n from count") == [(2,)]


def test_columns_are_told_by_the_first_file_that_reads_and_the_broken_one_says_its_own_line(project: Project) -> None:
    project.write({"tidemill.toml": FILES, **COUNT, "in/a.csv": 'name,value\nx,1\n"y,2\n'})
    with project.open() as mill:
        (landed,) = mill.land(waits=False, trusts_all=True)
        assert landed["rejected"]["in/a.csv"].startswith("in/a.csv:3: ")
        project.write({"in/b.csv": "name,value\nx,1\n"})
        ran(mill)
        assert rows(mill, "select n from count") == [(1,)]
        project.write({"in/a.csv": "name,value\nx,1\ny,2\n"})
        ran(mill)
        assert rows(mill, "select n from count") == [(3,)]
        assert alarms(mill) == []


def test_under_watch_a_file_in_a_folder_elsewhere_is_found_by_watching(project: Project, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    project.write({"tidemill.toml": f"{FILES.replace('in/', f'{elsewhere}/')}{COLUMNS}", **COUNT})
    with watching(project) as mill:
        until(lambda: mill.machine.landings, "the first look")
        (elsewhere / "s.csv").write_text("name,value\na,1\n")
        until(lambda: rows(mill, "select n from count") == [(1,)])


def test_a_definition_saved_just_before_a_run_is_loaded_or_told(project: Project, started: Any) -> None:
    project.write({"tidemill.toml": ORDERS, "jobs/per.sql": "-- mode: realtime\nselect customer from orders"})
    process = started(project, "serve", "--port", "0", "--json")
    assert process.stdout.readline()
    project.json("emit", "orders", "--row", json.dumps(order(1)))
    until(lambda: project.json("query", "select * from per") == [{"customer": "ada"}])
    project.write({"jobs/per.sql": "-- mode: realtime\nselect customer,\n  amonut\nfrom orders"})
    done = project.cli("run", code=2)
    assert "definition: jobs/per.sql:3: unknown column 'amonut'" in done.stderr
    assert project.json("run", code=2)["failed"] == 0
    project.json("emit", "orders", "--row", json.dumps(order(2, "bob")))
    project.cli("run", code=2)
    assert len(project.json("query", "select * from per")) == 2  # the old definition works on
    project.write(
        {
            "jobs/per.sql": "-- mode: realtime\nselect customer from orders",
            "jobs/n.sql": "select 1 as one, id from orders",
        }
    )
    assert project.json("run")["failed"] == 0
    assert len(project.json("query", "select * from n")) == 2


def test_a_run_asked_for_right_after_a_save_knows_the_new_job(project: Project) -> None:
    project.write({"tidemill.toml": ORDERS})
    with watching(project) as mill:
        mill.emit("orders", [order(1)])
        for number in range(5):  # no notification is that quick five times in a row
            project.write({f"jobs/fresh_{number}.sql": "-- schedule: 02:00\nselect customer from orders"})
            mill.run([f"fresh_{number}"])
        assert len(mill.map()) == 5
