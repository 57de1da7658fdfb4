"""Files that change their columns: history stays, stars take new columns in, and everything comes to rest."""

from __future__ import annotations

import pytest

from tests.e2e.conftest import Project, alarms, ran, rows, until, watching
from tidemill.core.errors import DefinitionError

SHOP = """
[project]
name = "shop"
[assets.sales]
kind = "files"
path = "in/{day}.csv"
schema = "evolve"
[assets.sales.columns]
store = "varchar"
amount = "integer"
[jobs.send]
inputs = ["sales"]
outputs = ["sent"]
mode = "realtime"
command = ["sh", "-c", "echo \\"$TIDEMILL_RUN\\" >> sent.log"]
"""
TOTAL = "-- mode: realtime\nselect store, sum(amount) as amount from sales group by store\n"
COPY = "-- mode: {mode}\nselect * from sales\n"
COUNTS = "-- mode: realtime\nselect day, count(*) as n from (select * from sales) group by day\n"


@pytest.mark.parametrize("mode", ["realtime", "batch"])
def test_a_column_that_a_file_adds_keeps_what_was_there(project: Project, mode: str) -> None:
    jobs = {"jobs/total.sql": TOTAL, "jobs/copy.sql": COPY.format(mode=mode), "jobs/counts.sql": COUNTS}
    project.write({"tidemill.toml": SHOP, **jobs, "in/1.csv": "store,amount\nA,1\nB,2\n"})
    with project.open() as mill:
        assert ran(mill)["failed"] == 0
        before = {row["job"]: row["inputs"] for row in mill.runs()}
        project.write({"in/2.csv": "store,amount,clerk\nA,10,eve\n"})
        assert ran(mill)["failed"] == 0
        assert rows(mill, "select store, amount, clerk from copy order by amount") == [
            ("A", 1, None), ("B", 2, None), ("A", 10, "eve"),
        ]  # fmt: skip
        assert rows(mill, "select store, amount::integer from total order by store") == [("A", 11), ("B", 2)]
        assert rows(mill, "select day, n from counts order by day") == [("1", 2), ("2", 1)]
        assert ran(mill)["runs"] == 0
        (sent,) = [row["inputs"]["sales"] for row in mill.runs() if row["job"] == "send"][:1]
        assert sent[0] == before["send"]["sales"][1]  # it goes on: nothing that was sent is sent again
    with project.open() as mill:  # and it is known after a restart, before another file comes
        assert rows(mill, "select clerk from sales order by clerk") == [("eve",), (None,), (None,)]
        project.write({"in/3.csv": "AMOUNT,Clerk,store\n5,bob,C\n"})
        assert ran(mill)["failed"] == 0
        assert rows(mill, "select clerk from copy where store = 'C'") == [("bob",)]
        assert ran(mill)["runs"] == 0


def test_a_column_that_is_declared_later_keeps_what_was_there(project: Project) -> None:
    strict = SHOP.replace('schema = "evolve"\n', "")
    project.write(
        {"tidemill.toml": strict, "jobs/copy.sql": COPY.format(mode="realtime"), "in/1.csv": "store,amount\nA,1\n"}
    )
    assert project.run()["failed"] == 0
    project.write({"tidemill.toml": strict.replace("[jobs.send]", 'clerk = "varchar"\n[jobs.send]')})
    project.write({"in/2.csv": "clerk,store,amount\neve,A,10\n"})
    with project.open() as mill:
        assert ran(mill)["failed"] == 0
        assert rows(mill, "select amount, clerk from copy order by amount") == [(1, None), (10, "eve")]


def test_columns_that_are_left_out_are_told(project: Project) -> None:
    project.write({"tidemill.toml": SHOP.replace("evolve", "ignore"), "in/1.csv": "store,amount,clerk\nA,1,eve\n"})
    with project.open() as mill:
        ran(mill)
        assert rows(mill, "select * from sales") == [("A", 1, "1")]
        (said,) = [alarm["reason"] for alarm in mill.status()["alarms"]]
        assert said == "1 file of sales had columns that are left out: clerk; declare them to have them"


PLAIN = SHOP.replace('schema = "evolve"\n', "")


def test_a_type_that_is_widened_keeps_what_has_landed(project: Project) -> None:
    project.write({"tidemill.toml": PLAIN, "jobs/total.sql": TOTAL, "in/1.csv": "store,amount\nA,1\n"})
    project.run()
    project.write({"tidemill.toml": PLAIN.replace('"integer"', '"bigint"'), "in/2.csv": "store,amount\nA,5000000000\n"})
    with project.open() as mill:
        assert ran(mill)["failed"] == 0
        assert rows(mill, "select amount from sales order by 1") == [(1,), (5_000_000_000,)]
        assert rows(mill, "select amount::bigint from total") == [(5_000_000_001,)]


@pytest.mark.parametrize(
    ("after", "why"),
    [('amount = "varchar"\n', "it cannot become varchar"), ("", "it is gone")],
    ids=["another type", "no column"],
)
def test_a_shape_without_room_for_what_has_landed_is_refused(project: Project, after: str, why: str) -> None:
    """It would have begun a new table, and every row of the files before would have been gone."""
    project.write({"tidemill.toml": PLAIN, "in/1.csv": "store,amount\nA,1\n"})
    project.run()
    project.write({"tidemill.toml": PLAIN.replace('amount = "integer"\n', after)})
    with pytest.raises(DefinitionError, match=f"asset sales has rows whose column amount is integer; {why}"):
        project.open()
    project.write({"tidemill.toml": PLAIN})
    with project.open() as mill:
        assert rows(mill, "select store, amount from sales") == [("A", 1)]


def test_while_it_runs_such_a_shape_keeps_the_old_one_and_is_told(project: Project) -> None:
    project.write({"tidemill.toml": PLAIN, "jobs/total.sql": TOTAL, "in/1.csv": "store,amount\nA,1\n"})
    with watching(project) as mill:
        until(lambda: rows(mill, "select store from sales"))
        project.write(
            {"tidemill.toml": PLAIN.replace('"integer"', '"varchar"'), "jobs/copy.sql": COPY.format(mode="realtime")}
        )
        until(lambda: any("cannot become varchar" in each for each in alarms(mill)))
        project.write({"in/2.csv": "store,amount\nB,2\n"})
        until(lambda: len(rows(mill, "select * from copy")) == 2)  # the rest of the load was taken
        project.write({"tidemill.toml": PLAIN})
        until(lambda: not any("cannot become varchar" in each for each in alarms(mill)))
