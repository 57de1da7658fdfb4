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
