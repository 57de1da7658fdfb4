"""Checking: what loading cannot see, planning does; jobs that contradict others never reach the loop."""

from __future__ import annotations

from pathlib import Path

from tidemill.project.checking import check
from tidemill.project.mill import open_mill

SHOP = """
[project]
name = "shop"
[assets.orders]
kind = "topic"
id = "id"
[assets.orders.columns]
id = "varchar"
amount = "integer"
"""


def shop(folder: Path, jobs: dict[str, str]) -> Path:
    (folder / "jobs").mkdir()
    (folder / "tidemill.toml").write_text(SHOP)
    for name, sql in jobs.items():
        (folder / "jobs" / f"{name}.sql").write_text(sql)
    return folder


def test_an_unknown_column_is_told_with_its_place_and_the_nearest_name(tmp_path: Path) -> None:
    found = check(shop(tmp_path, {"wrong": "select amont from orders\n"}))

    (problem,) = found.problems
    assert (problem.message, problem.place) == ("unknown column 'amont'", "jobs/wrong.sql:1")
    assert problem.mend == "did you mean 'amount'?"


def test_only_the_broken_job_is_blamed_and_not_its_reader(tmp_path: Path) -> None:
    found = check(shop(tmp_path, {"wrong": "select amont from orders\n", "reader": "select amont from wrong\n"}))

    assert [problem.place for problem in found.problems] == ["jobs/wrong.sql:1"]


def test_checking_leaves_no_state_behind(tmp_path: Path) -> None:
    check(shop(tmp_path, {"right": "select amount from orders\n"})).check()

    assert not (tmp_path / ".tidemill").exists()


def test_a_project_with_a_circle_can_be_looked_at(tmp_path: Path) -> None:
    shop(tmp_path, {"a": "select amount from b\n", "b": "select amount from a\n", "c": "select amount from orders\n"})

    with open_mill(tmp_path) as mill:
        status = mill.status()

    assert "c" in [job["job"] for job in status["jobs"]]
    assert any("circular mapping" in alarm["reason"] for alarm in status["alarms"])


def test_a_project_with_two_writers_of_one_asset_can_be_looked_at(tmp_path: Path) -> None:
    shop(tmp_path, {"a": "select amount from orders\n", "b": "-- output: a\nselect amount from orders\n"})

    with open_mill(tmp_path) as mill:
        assert [job["job"] for job in mill.status()["jobs"]] == ["a"]


def test_a_key_that_the_query_does_not_make_is_told_before_it_runs(tmp_path: Path) -> None:
    found = check(shop(tmp_path, {"wrong": "-- key: idd\nselect id, amount from orders\n"}))

    (problem,) = found.problems
    assert problem.message == "job wrong: key names idd, which is not a column of its output"
    assert problem.mend == "write id"


def test_a_type_that_no_event_can_bring_is_told_with_its_column(tmp_path: Path) -> None:
    shop(tmp_path, {})
    (tmp_path / "tidemill.toml").write_text(SHOP + 'took = "interval"\n')

    (problem,) = check(tmp_path).problems
    assert "asset orders: columns: column took: events cannot bring interval" in problem.message
    assert problem.place == "tidemill.toml:7"


def test_a_project_with_a_job_that_reads_what_is_not_there_can_be_looked_at(tmp_path: Path) -> None:
    folder = shop(tmp_path, {"right": "select amount from orders\n", "lost": "select a from nowhere\n"})

    with open_mill(folder) as mill:
        assert {each["job"] for each in mill.map()} == {"right", "lost"}
        assert {each["asset"]: each["columns"] for each in mill.assets()}["right"] == {"amount": "integer"}
        assert "there is no asset nowhere" in mill.status()["alarms"][0]["reason"]


def test_one_event_may_be_emitted_alone(tmp_path: Path) -> None:
    with open_mill(shop(tmp_path, {})) as mill:
        assert mill.emit("orders", {"id": "a", "amount": 1})["accepted"] == 1
        assert mill.query("select * from orders") == [{"id": "a", "amount": 1}]
