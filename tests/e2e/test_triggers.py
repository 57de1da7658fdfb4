"""When a job runs: conditions, moments, delays, gates, caps and priorities (rules 8, 13, 19 to 21)."""

from __future__ import annotations

import itertools
import json
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.e2e.conftest import ORDERS, Project, ahead, alarms, order, ran, rows, settled, states, until, watching
from tidemill.project.mill import Mill
from tidemill.project.watching import keep_house

THREE = "".join(
    f'[assets.{name}]\nkind = "topic"\n[assets.{name}.columns]\nn = "integer"\n'
    for name in ("left_", "right_", "other")
)


def three(when: str, mode: str = "realtime") -> dict[str, str]:
    return {
        "tidemill.toml": THREE,
        "jobs/j.sql": f"-- mode: {mode}\n-- when: {when}\n"
        "select (select count(*) from left_) l, (select count(*) from right_) r, (select count(*) from other) o",
    }


def emit(mill: Mill, *assets: str) -> None:
    for asset in assets:
        mill.emit(asset, [{"n": 1}])
    ran(mill)


def counts(mill: Mill) -> list[tuple[Any, ...]]:
    return rows(mill, "select l, r, o from j")


# Conditions.


def test_any_runs_on_news_in_any_input(project: Project) -> None:
    with project.write(three("any")).open() as mill:
        emit(mill, "right_")
        assert counts(mill) == [(0, 1, 0)]


def test_all_waits_for_a_first_arrival_in_every_input_then_runs_on_any_news(project: Project) -> None:
    with project.write(three("all", "batch")).open() as mill:
        emit(mill, "left_")
        emit(mill, "right_")
        assert counts(mill) == []
        assert "other" in " ".join(mill.explain("j")["because"])
        emit(mill, "other")
        assert counts(mill) == [(1, 1, 1)]
        emit(mill, "left_")
        assert counts(mill) == [(2, 1, 1)]


def test_each_waits_for_news_in_every_input(project: Project) -> None:
    with project.write(three("each")).open() as mill:
        emit(mill, "left_", "right_", "other")
        assert counts(mill) == [(1, 1, 1)]
        emit(mill, "left_", "right_")
        assert counts(mill) == [(1, 1, 1)]
        emit(mill, "other")
        assert counts(mill) == [(2, 2, 2)]


def test_an_expression_says_which_news_start_it(project: Project) -> None:
    with project.write(three("left_ & (right_ | other)")).open() as mill:
        emit(mill, "right_", "other")
        assert counts(mill) == []
        emit(mill, "left_")
        assert counts(mill) == [(1, 1, 1)]
        emit(mill, "left_")
        assert counts(mill) == [(1, 1, 1)]
        emit(mill, "other")
        assert counts(mill) == [(2, 1, 2)]


def test_all_waits_for_upstream_to_settle_and_not_for_a_job_that_failed(project: Project) -> None:
    project.write(
        {
            "tidemill.toml": ORDERS
            + '[jobs.bad]\ninputs = ["orders"]\noutputs = ["never"]\ncommand = ["false"]\nretries = 0\n',
            "jobs/one.sql": "-- mode: realtime\nselect id, amount from orders",
            "jobs/two.sql": "-- mode: realtime\nselect id, amount from one",
            "jobs/last.sql": "-- when: all\nselect (select count(*) from two) a, (select count(*) from orders) b",
        }
    )
    with project.open() as mill:
        for number in range(3):
            mill.emit("orders", [order(number)])
        settled(mill)
        ran(mill)
        assert rows(mill, "select a, b from last") == [(3, 3)]
        assert ("bad", "failed") in states(mill)


# Moments.


def test_every_holds_changes_back_until_its_moment_and_run_is_a_moment(project: Project) -> None:
    project.write(
        {"tidemill.toml": ORDERS, "jobs/n.sql": "-- mode: microbatch\n-- every: 10m\nselect count(*) n from orders"}
    )
    with project.open() as mill:
        ran(mill)
        mill.emit("orders", [order(1)])
        ran(mill)
        assert rows(mill, "select n from n") == [(1,)]
        mill.emit("orders", [order(2)])
        settled(mill)
        assert rows(mill, "select n from n") == [(1,)]
        explained = mill.explain("n")
        assert not explained["ready"]
        assert 0 < explained["next_at"] - time.time() <= 600
        ahead(mill, 590)
        settled(mill)
        assert rows(mill, "select n from n") == [(1,)]
        ahead(mill, 20)
        settled(mill)
        assert rows(mill, "select n from n") == [(2,)]
        runs = len(mill.runs())
        ahead(mill, 6_000)  # no change, no run
        settled(mill)
        assert len(mill.runs()) == runs


def test_a_schedule_serves_missed_moments_once_and_only_if_something_changed(project: Project) -> None:
    project.write({"tidemill.toml": ORDERS, "jobs/n.sql": "-- schedule: 02:00\nselect count(*) n from orders"})
    with project.open() as mill:
        mill.emit("orders", [order(1)])
        ran(mill)
        assert mill.runs() == []  # run respects schedules
        ahead(mill, 3 * 86_400)
        settled(mill)
        assert rows(mill, "select n from n") == [(1,)]
        assert len(mill.runs()) == 1
        ahead(mill, 3 * 86_400)
        settled(mill)
        assert len(mill.runs()) == 1
        mill.emit("orders", [order(2)])
        settled(mill)
        ahead(mill, 86_400)
        settled(mill)
        assert rows(mill, "select n from n") == [(2,)]


def test_on_starts_a_job_when_that_asset_changes_and_takes_all_there_is(project: Project) -> None:
    project.write(
        {
            "tidemill.toml": ORDERS + '[assets.end_of_day]\nkind = "external"\n',
            "jobs/n.sql": "-- on: end_of_day\nselect count(*) n from orders",
        }
    )
    with project.open() as mill:
        mill.emit("orders", [order(1), order(2)])
        ran(mill)
        assert mill.runs() == []
        mill.touch("end_of_day", "d1")
        ran(mill)
        assert rows(mill, "select n from n") == [(2,)]
        mill.emit("orders", [order(3)])
        ran(mill)
        assert len(mill.runs()) == 1
    with project.open() as mill:  # its cursor on the asset is kept
        ran(mill)
        assert len(mill.runs()) == 1
        mill.touch("end_of_day", "d2")
        ran(mill)
        assert rows(mill, "select n from n") == [(3,)]


def test_after_makes_each_change_due_so_long_after_its_event_time(project: Project) -> None:
    project.write(
        {
            "tidemill.toml": '[assets.seen]\nkind = "topic"\nevent_time = "seen_at"\n[assets.seen.columns]\nid = "varchar"\nseen_at = "timestamp"\n',
            "jobs/n.sql": "-- mode: realtime\n-- after: 1h\nselect id from seen",
        }
    )
    now = datetime.now(UTC).replace(tzinfo=None)
    with project.open() as mill:
        old, recent, future = (now - timedelta(hours=2), now - timedelta(minutes=50), now + timedelta(days=3))
        mill.emit("seen", [{"id": "old", "seen_at": old.isoformat()}, {"id": "recent", "seen_at": recent.isoformat()}])
        ran(mill)
        assert rows(mill, "select id from n") == [("old",)]
        ahead(mill, 11 * 60)
        settled(mill)
        assert rows(mill, "select id from n order by 1") == [("old",), ("recent",)]
        mill.emit("seen", [{"id": "future", "seen_at": future.isoformat()}])
        settled(mill)
        assert len(rows(mill, "select id from n")) == 2
        ahead(mill, 3_700)  # a time ahead of the clock counts from the arrival
        settled(mill)
        assert rows(mill, "select id from n where id = 'future'") == [("future",)]


def test_max_changes_cuts_a_backlog_into_several_runs(project: Project) -> None:
    project.write(
        {
            "tidemill.toml": ORDERS,
            "jobs/copy.sql": "-- max_changes: 4\nselect id, amount from orders",
            "jobs/total.sql": "-- max_changes: 4\nselect count(*) n from orders",
        }
    )
    with project.open() as mill:
        mill.pause("copy")
        mill.pause("total")
        mill.emit("orders", [order(n) for n in range(10)])
        mill.resume("copy")
        mill.resume("total")
        ran(mill)
        assert [tuple(run["inputs"]["orders"]) for run in reversed(mill.runs(job="copy"))] == [(0, 4), (4, 8), (8, 10)]
        assert len(mill.runs(job="total")) == 1  # a recompute takes everything; plan says so
        assert "max_changes does not apply" in {j["job"]: j["maintained"] for j in mill.plan()["jobs"]}["total"]
        assert rows(mill, "select count(*) from copy") == [(10,)]


def test_a_job_of_higher_priority_starts_first(project: Project) -> None:
    command = 'command = ["python", "-c", "pass"]'
    names = ("low", "mid", "high")
    jobs = "".join(
        f'[jobs.{name}]\ninputs = ["day"]\noutputs = ["{name}_out"]\npriority = {index}\n{command}\n'
        for index, name in enumerate(names)
    )
    project.write({"tidemill.toml": f'[assets.day]\nkind = "external"\n{jobs}'})
    with project.open() as mill:
        mill.touch("day")
        ran(mill)
        assert [job for job, _ in sorted(((r["job"], r["run"]) for r in mill.runs()), key=lambda pair: pair[1])] == [
            "high",
            "mid",
            "low",
        ]


# Gates.

STATIONS = ("x", "y")


def weather(more: str = "", header: str = "", complete: str = 'complete.station = ["x", "y"]') -> dict[str, str]:
    return {
        "tidemill.toml": f'[assets.weather]\nkind = "files"\npath = "in/{{station}}/{{day}}.csv"\nformat = "csv"\n{complete}\n'
        f'[assets.weather.columns]\ndegrees = "integer"\n{more}',
        "jobs/warmest.sql": f"-- gate: day\n{header}select day, max(degrees) top, count(*) n from weather group by all",
    }


def landed(station: str, day: str, *degrees: int) -> dict[str, str]:
    return {f"in/{station}/{day}.csv": "degrees\n" + "".join(f"{each}\n" for each in degrees)}


def warmest(mill: Mill) -> list[tuple[Any, ...]]:
    return rows(mill, "select day, top, n from warmest order by day")


def test_a_gate_opens_a_value_only_when_every_member_has_arrived(project: Project) -> None:
    project.write({**weather(), **landed("x", "2024-01-01", 5), **landed("x", "2024-01-02", 7)})
    with project.open() as mill:
        ran(mill)
        assert warmest(mill) == []
        assert "2024-01-01" in " ".join(mill.explain("warmest")["because"])
        project.write(landed("y", "2024-01-02", 9))
        ran(mill)
        assert warmest(mill) == [("2024-01-02", 9, 2)]
        project.write(landed("y", "2024-01-01"))  # an empty file is an arrival
        ran(mill)
        assert warmest(mill) == [("2024-01-01", 5, 1), ("2024-01-02", 9, 2)]


def test_a_rejected_file_satisfies_no_gate(project: Project) -> None:
    project.write({**weather(), **landed("x", "2024-01-01", 5), "in/y/2024-01-01.csv": "degrees\nwarm\n"})
    with project.open() as mill:
        ran(mill)
        assert warmest(mill) == []
        project.write(landed("y", "2024-01-01", 6))
        ran(mill)
        assert warmest(mill) == [("2024-01-01", 6, 2)]


def test_the_members_may_be_a_column_of_another_asset(project: Project) -> None:
    stations = '[assets.stations]\nkind = "topic"\nkey = ["id"]\nsemantics = "upsert"\n[assets.stations.columns]\nid = "varchar"\n'
    project.write({**weather(stations, complete='complete.station = "stations.id"'), **landed("x", "2024-01-01", 5)})
    with project.open() as mill:
        ran(mill)
        assert warmest(mill) == []  # an empty list of members is incomplete
        mill.emit("stations", [{"id": "x"}, {"id": "y"}])
        ran(mill)
        assert warmest(mill) == []
        mill.emit("stations", [{"id": "y", "_deleted": True}])
    with project.open() as mill:
        ran(mill)
        assert warmest(mill) == [("2024-01-01", 5, 1)]


@pytest.mark.parametrize("on_missing", ["wait", "run", "fail"])
def test_a_deadline_decides_about_a_value_that_stays_incomplete(project: Project, on_missing: str) -> None:
    header = f"-- deadline: 06:00\n-- on_missing: {on_missing}\n"
    day = datetime.now(UTC).date()
    project.write({**weather(header=header), **landed("x", day.isoformat(), 5)})
    with project.open() as mill:
        ran(mill)
        assert warmest(mill) == []
        ahead(mill, 40 * 3_600)
        settled(mill)
        expected = [(day.isoformat(), 5, 1)] if on_missing == "run" else []
        assert warmest(mill) == expected
        assert any("deadline" in reason for reason in alarms(mill)) == (on_missing != "run")
        told = {"wait": [], "run": [("warmest", "succeeded")], "fail": [("warmest", "failed")]}
        assert states(mill) == told[on_missing]
        project.write(landed("y", day.isoformat(), 6))
        ran(mill)
        assert warmest(mill) == [(day.isoformat(), 6, 2)]
        assert not any("deadline" in reason for reason in alarms(mill))


def test_a_missed_deadline_is_seen_by_whoever_asks(project: Project) -> None:
    yesterday = (datetime.now(UTC).date() - timedelta(days=2)).isoformat()
    project.write({**weather(header="-- deadline: 06:00\n"), **landed("x", yesterday, 5)})
    project.run()
    alarm = next(each for each in project.json("status")["alarms"] if each["kind"] == "deadline")
    assert (alarm["job"], yesterday in alarm["reason"], "weather: y" in alarm["reason"]) == ("warmest", True, True)
    assert f"{yesterday}: waiting for weather: y" in project.json("explain", "warmest")["because"]


def test_a_deadline_that_fails_is_a_failed_run_of_that_command(project: Project) -> None:
    yesterday = (datetime.now(UTC).date() - timedelta(days=2)).isoformat()
    project.write({**weather(header="-- deadline: 06:00\n-- on_missing: fail\n"), **landed("x", yesterday, 5)})
    project.write(landed("x", "2024-01-01", 1) | landed("y", "2024-01-01", 2))
    assert project.json("run", code=1)["failed"] == 1
    assert project.json("query", "select day from warmest") == [{"day": "2024-01-01"}]


def test_asking_knows_what_a_gate_knows_and_releases_nothing(project: Project) -> None:
    project.write({**weather(), **landed("x", "2024-01-01", 5)})
    project.run()
    for _ in range(2):
        asked = looked_at(project)
        assert asked == {"state": "idle", "ready": False, "planned": False, "dry": False}
        assert "2024-01-01: waiting for weather: y" in project.json("explain", "warmest")["because"]
    with project.open() as mill:
        mill.pause("warmest")
        project.write(landed("y", "2024-01-01", 6))
        mill.land(waits=False, trusts_all=True)
        mill.machine.ledger.note("paused", "warmest", None)
    assert looked_at(project) == {"state": "due", "ready": True, "planned": True, "dry": True}
    assert "2024-01-01: complete" in project.json("explain", "warmest")["because"]
    assert project.json("query", "select day from warmest") == []
    project.cli("run")
    assert looked_at(project) == {"state": "idle", "ready": False, "planned": False, "dry": False}
    assert len(project.json("runs")) == 1


def test_asking_knows_which_changes_are_still_within_their_delay(project: Project) -> None:
    project.write(
        {"tidemill.toml": ORDERS, "jobs/warmest.sql": "-- mode: realtime\n-- after: 1h\nselect id from orders"}
    )
    project.cli("emit", "orders", "--row", json.dumps(order(1)))
    assert looked_at(project) == {"state": "idle", "ready": False, "planned": False, "dry": False}


def looked_at(project: Project) -> dict[str, Any]:
    """What every command that only looks says of the job."""
    job = "warmest"
    return {
        "state": next(each["state"] for each in project.json("status")["jobs"] if each["job"] == job),
        "ready": project.json("explain", job)["ready"],
        "planned": next(each["ready"] for each in project.json("plan")["jobs"] if each["job"] == job),
        "dry": next(each["ready"] for each in project.json("run", "--dry-run")["jobs"] if each["job"] == job),
    }


def test_a_date_at_the_end_of_time_expects_no_million_days(project: Project) -> None:
    project.write({**weather(), **landed("x", "2024-01-01", 5), **landed("y", "2024-01-01", 6)})
    project.write(landed("x", "9999-12-31", 1))
    with project.open() as mill:
        ran(mill)
        assert warmest(mill) == [("2024-01-01", 6, 2)]
        told = mill.explain("warmest")["because"]
        assert "9999-12-31: waiting for weather: y" in told
        assert any("nothing landed between 2024-01-01 and 9999-12-31" in each and "1,000" in each for each in told)


def test_late_rows_correct_their_value_by_default(project: Project) -> None:
    project.write({**weather(), **landed("x", "2024-01-01", 5), **landed("y", "2024-01-01", 6)})
    with project.open() as mill:
        ran(mill)
        project.write(landed("x", "2024-01-01", 50, 1))
        ran(mill)
        assert warmest(mill) == [("2024-01-01", 50, 3)]


def test_late_rows_may_join_the_next_value(project: Project) -> None:
    project.write(
        {**weather(header="-- on_late: next\n"), **landed("x", "2024-01-01", 5), **landed("y", "2024-01-01", 6)}
    )
    with project.open() as mill:
        ran(mill)
        project.write(landed("x", "2024-01-01", 50))
        ran(mill)
        assert warmest(mill) == [("2024-01-01", 6, 2)]
        project.write({**landed("x", "2024-01-02", 1), **landed("y", "2024-01-02", 2)})
        ran(mill)
        assert warmest(mill) == [("2024-01-01", 50, 2), ("2024-01-02", 2, 2)]


def test_held_late_rows_wait_for_apply_each_time(project: Project) -> None:
    project.write(
        {**weather(header="-- on_late: hold\n"), **landed("x", "2024-01-01", 5), **landed("y", "2024-01-01", 6)}
    )
    with project.open() as mill:
        ran(mill)
        project.write(landed("x", "2024-01-01", 50))
        ran(mill)
        assert warmest(mill) == [("2024-01-01", 6, 2)]
        assert "late rows" in " ".join(mill.explain("warmest")["because"])
        mill.apply()
        ran(mill)
        assert warmest(mill) == [("2024-01-01", 50, 2)]
        project.write(landed("x", "2024-01-01", 70))
        ran(mill)
        assert warmest(mill) == [("2024-01-01", 50, 2)]


def test_late_rows_that_a_person_let_go_while_nothing_ran_go_with_the_next_run(project: Project) -> None:
    project.write(
        {**weather(header="-- on_late: hold\n"), **landed("x", "2024-01-01", 5), **landed("y", "2024-01-01", 6)}
    )
    project.run()
    project.write(landed("x", "2024-01-01", 50))
    project.run()
    assert project.json("apply")["released"] == ["warmest"]
    project.write(landed("x", "2024-01-01", 70))  # these nobody has let go
    with project.open() as mill:
        ran(mill)
        assert warmest(mill) == [("2024-01-01", 50, 2)]
        assert "late rows" in " ".join(mill.explain("warmest")["because"])
    with project.open() as mill:  # what was let go is used up, whoever comes
        ran(mill)
        assert warmest(mill) == [("2024-01-01", 50, 2)]
        assert mill.apply()["released"] == ["warmest"]
        ran(mill)
        assert warmest(mill) == [("2024-01-01", 70, 2)]
        assert mill.apply()["released"] == []


def test_what_a_gate_reads_is_trimmed_and_what_it_released_stays_as_it_was_then(project: Project) -> None:
    project.write(
        {**weather(header="-- on_late: hold\n"), **landed("x", "2024-01-01", 5), **landed("y", "2024-01-01", 6)}
    )
    with project.open() as mill:
        ran(mill)
        for degrees in (50, 60, 70):
            project.write(landed("x", "2024-01-01", degrees))
            ran(mill)
        images = "select degrees from store.weather where degrees > 10"
        assert len(mill.machine.tables.query(images)) == 3
        project.write({**landed("x", "2024-01-02", 1), **landed("y", "2024-01-02", 2)})
        ran(mill)
        keep_house(mill.machine)
        assert mill.machine.tables.query(images).to_pylist() == [{"degrees": 70}]
    with project.open() as mill:
        assert warmest(mill) == [("2024-01-01", 6, 2), ("2024-01-02", 2, 2)]
        assert mill.reconcile("warmest")["equal"]
        mill.apply()
        ran(mill)
        assert warmest(mill) == [("2024-01-01", 70, 2), ("2024-01-02", 2, 2)]


def test_a_gate_gives_the_same_over_restarts(project: Project) -> None:
    project.write({**weather(), **landed("x", "2024-01-01", 5), **landed("y", "2024-01-01", 6)})
    project.run()
    project.write({**landed("x", "2024-01-02", 1), **landed("x", "2024-01-01", 9)})
    project.run()
    project.write(landed("y", "2024-01-02", 2))
    with project.open() as mill:
        ran(mill)
        assert warmest(mill) == [("2024-01-01", 9, 2), ("2024-01-02", 2, 2)]
        runs = len(mill.runs())
        ran(mill)
        assert len(mill.runs()) == runs


def test_under_watch_a_change_is_a_row_within_a_second(project: Project) -> None:
    project.write({"tidemill.toml": ORDERS, "jobs/n.sql": "-- mode: realtime\nselect count(*) n from orders"})
    with watching(project) as mill:
        mill.emit("orders", [order(1)])
        until(lambda: rows(mill, "select n from n") == [(1,)], seconds=5)


def test_under_watch_a_microbatch_waits_for_its_period(project: Project) -> None:
    project.write(
        {"tidemill.toml": ORDERS, "jobs/n.sql": "-- mode: microbatch\n-- every: 1s\nselect count(*) n from orders"}
    )
    with watching(project) as mill:
        for number in range(20):
            mill.emit("orders", [order(number)])
            until(lambda number=number: mill.status()["assets"][0]["head"] == number + 1)
        until(lambda: rows(mill, "select n from n") == [(20,)])
        started = sorted(run["started_at"] for run in mill.runs())
        assert all(later - earlier >= 0.99 for earlier, later in itertools.pairwise(started))


def test_running_one_job_leaves_the_others_alone_and_loses_nothing(project: Project) -> None:
    project.write(
        {
            "tidemill.toml": ORDERS,
            "jobs/one.sql": "-- mode: microbatch\nselect count(*) n from orders",
            "jobs/two.sql": "-- mode: realtime\nselect count(*) n from orders",
        }
    )
    with project.open() as mill:
        mill.pause("two")
        mill.emit("orders", [order(1)])
        mill.resume("two")
        settled(mill)
        assert ran(mill, ["one"])["runs"] == 1
        assert rows(mill, "select n from two") == [(1,)]


def test_running_one_job_under_watch_costs_the_others_no_change(project: Project) -> None:
    project.write(
        {
            "tidemill.toml": ORDERS
            + '[assets.day]\nkind = "external"\n[jobs.slow]\ninputs = ["day"]\ncommand = ["python", "slow.py"]\n',
            "slow.py": "import pathlib, time\npathlib.Path('begun').write_text('')\n"
            "while not pathlib.Path('go').exists(): time.sleep(0.02)\n",
            "jobs/total.sql": "-- mode: realtime\nselect count(*) n from orders",
        }
    )
    with watching(project) as mill:
        mill.touch("day")
        until((project.folder / "begun").exists)
        asking = [threading.Thread(target=mill.run, args=(jobs,)) for jobs in (["slow"], [], ["slow"])]
        for thread in asking:
            thread.start()
        for number in range(3):
            mill.emit("orders", [order(number)])
            settle_for = mill.machine.loop.when_handled()
            assert settle_for.wait(5)
        project.write({"go": ""})
        for thread in asking:
            thread.join(20)
        until(lambda: rows(mill, "select n from total") == [(3,)])
        mill.emit("orders", [order(9)])
        until(lambda: rows(mill, "select n from total") == [(4,)])


def test_run_with_a_name_starts_no_other_job(project: Project) -> None:
    names = ("one", "two")
    project.write(
        {
            "tidemill.toml": ORDERS,
            **{f"jobs/{name}.sql": "-- mode: realtime\nselect count(*) n from orders" for name in names},
        }
    )
    project.cli("emit", "orders", "--row", '{"id": "o1", "customer": "a", "amount": 1}')
    project.cli("run", "one")
    assert [run["job"] for run in project.json("runs")] == ["one"]
    project.cli("run")
    assert [run["job"] for run in project.json("runs")] == ["two", "one"]


def test_asking_starts_nothing(project: Project) -> None:
    project.write({"tidemill.toml": ORDERS, "jobs/one.sql": "-- mode: realtime\nselect count(*) n from orders"})
    project.cli("emit", "orders", "--row", '{"id": "o1", "customer": "a", "amount": 1}')
    for words in (
        ("status",),
        ("plan",),
        ("run", "--dry-run"),
        ("explain", "one"),
        ("check",),
        ("query", "select n from one"),
    ):
        project.cli(*words)
    assert project.json("runs") == []


@pytest.mark.parametrize("said", ["02:00", '"02:00"', "0 2 * * 1-5", '"0 2 * * *"'])
def test_a_schedule_may_be_quoted_or_not(project: Project, said: str) -> None:
    project.write({"tidemill.toml": ORDERS, "jobs/one.sql": f"-- schedule: {said}\nselect count(*) n from orders"})
    project.cli("check")
