"""Clock assets: time is a row, and what follows from its passing follows from a change, in every mode alike."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.e2e.conftest import Project, Row, ahead, ran, rows, settled, until, watching
from tidemill.project.mill import Mill
from tidemill.runtime.ticking import shown_at

MODES = ("realtime", "microbatch", "batch")
HOUR, DAY = 3_600.0, 86_400.0
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

ASSETS = """[project]
name = "shop"
[assets.clock]
kind = "clock"
every = "1h"
[assets.orders]
kind = "topic"
id = "id"
[assets.orders.columns]
id = "varchar"
customer = "varchar"
ordered_at = "timestamp"
"""
RECENT = "select id, customer from orders, clock where ordered_at > clock.now - interval 7 days"
COUNTED = (
    "select customer, count(*) as n from orders, clock where ordered_at > clock.now - interval 7 days group by all"
)


def shop(project: Project) -> Project:
    jobs = {f"jobs/recent_{mode}.sql": f"-- mode: {mode}\n{RECENT}\n" for mode in MODES}
    jobs |= {f"jobs/counted_{mode}.sql": f"-- mode: {mode}\n{COUNTED}\n" for mode in MODES}
    return project.write({"tidemill.toml": ASSETS, **jobs})


def order(number: int, at: datetime, customer: str = "ada") -> Row:
    return {"id": f"o{number}", "customer": customer, "ordered_at": at.isoformat()}


def present(mill: Mill) -> datetime:
    return datetime.fromtimestamp(mill.machine.clock.now(), UTC).replace(tzinfo=None)


def recent(mill: Mill, mode: str) -> tuple[list[Any], list[Any]]:
    found = rows(mill, f"select * from recent_{mode} order by all")
    return [row[0] for row in found], rows(mill, f"select * from counted_{mode} order by all")


def ticks(mill: Mill) -> int:
    return next(int(asset["head"]) for asset in mill.status()["assets"] if asset["asset"] == "clock")


def test_the_last_seven_days_retract_as_time_passes_equal_in_three_modes(project: Project) -> None:
    with shop(project).open() as mill:
        begin = present(mill)
        ages = [6.9, 6.5, 5.1, 3.1, 0.0]
        mill.emit(
            "orders", [order(n, begin - timedelta(days=age), "ada" if n % 2 else "bob") for n, age in enumerate(ages)]
        )
        ran(mill)
        assert [recent(mill, mode)[0] for mode in MODES] == [["o0", "o1", "o2", "o3", "o4"]] * 3
        for days in (1, 1, 3, 3):
            ahead(mill, days * DAY)
            ran(mill)
            since = shown_at(HOUR, mill.machine.clock.now()) - timedelta(days=7)
            left = [f"o{n}" for n, age in enumerate(ages) if begin - timedelta(days=age) > since]
            counts = {who: sum(int(o[1:]) % 2 == odd for o in left) for who, odd in (("ada", 1), ("bob", 0))}
            expected = left, [(who, n) for who, n in sorted(counts.items()) if n]
            assert [recent(mill, mode) for mode in MODES] == [expected] * 3
        assert recent(mill, "batch") == ([], [])
        assert rows(mill, "select count(*), max(now) from clock")[0][0] == 1
        kinds = {job["job"]: str(job["maintained"]) for job in mill.plan()["jobs"]}
        assert not [job for job, how in kinds.items() if how.startswith("recompute")]


def test_missed_ticks_are_one_tick_and_a_tick_that_shows_nothing_new_is_none(project: Project) -> None:
    with shop(project).open() as mill:
        ran(mill)
        first = ticks(mill)
        assert ran(mill)["runs"] == 0
        assert ticks(mill) == first
        ahead(mill, 100 * HOUR)
        ran(mill)
        assert ticks(mill) == first + 1
        assert rows(mill, "select now from clock") == [(shown_at(HOUR, mill.machine.clock.now()).isoformat(),)]


def test_a_clock_that_is_set_back_does_not_tick_until_time_has_passed_what_it_shows(project: Project) -> None:
    with shop(project).open() as mill:
        ahead(mill, 10 * HOUR)
        ran(mill)
        shown, head = rows(mill, "select now from clock"), ticks(mill)
        ahead(mill, -5 * HOUR)
        ran(mill)
        assert (rows(mill, "select now from clock"), ticks(mill)) == (shown, head)
        ahead(mill, 7 * HOUR)
        ran(mill)
        assert ticks(mill) == head + 1


def test_a_restart_goes_on_from_the_moment_that_is_stored(project: Project) -> None:
    with shop(project).open() as mill:
        mill.emit("orders", [order(1, present(mill))])
        ahead(mill, 2 * DAY)
        ran(mill)
        shown, head = rows(mill, "select now from clock"), ticks(mill)
    with project.open() as mill:  # by the clock of the machine two days earlier
        ran(mill)
        assert (rows(mill, "select now from clock"), ticks(mill)) == (shown, head)
        ahead(mill, 8 * DAY)
        ran(mill)
        assert [recent(mill, mode)[0] for mode in MODES] == [[]] * 3


def test_a_tick_alone_starts_a_realtime_job_while_the_project_is_watched(project: Project) -> None:
    with watching(shop(project)) as mill:
        mill.emit("orders", [order(1, present(mill))])
        until(lambda: recent(mill, "realtime")[0] == ["o1"])
        settled(mill)
        before = ticks(mill)
        ahead(mill, 8 * DAY)
        until(lambda: recent(mill, "realtime") == ([], []))
        until(lambda: ticks(mill) == before + 1)
        runs = [run for run in mill.runs(job="recent_realtime") if run["inputs"]["clock"][1] == ticks(mill)]
        assert len(runs) == 1


def test_a_clock_ticks_by_itself_where_it_is_due(project: Project) -> None:
    with watching(shop(project).write({"tidemill.toml": ASSETS.replace("1h", "1s")})) as mill:
        first = until(lambda: ticks(mill))
        until(lambda: ticks(mill) > first + 1)


def test_a_clock_that_is_added_while_the_project_is_watched_ticks(project: Project) -> None:
    other = ASSETS.replace("[assets.clock]", "[assets.hours]")
    with watching(project.write({"tidemill.toml": other.replace('"1h"', '"2h"')})) as mill:
        until(lambda: rows(mill, "select count(*) from hours") == [(1,)])
        project.write(
            {
                "tidemill.toml": other.replace(
                    "[assets.orders]", '[assets.days]\nkind = "clock"\nevery = "1d"\n[assets.orders]'
                )
            }
        )
        until(lambda: "days" in mill.machine.catalog.assets and rows(mill, "select count(*) from days") == [(1,)])


@pytest.mark.parametrize(
    ("written", "message"),
    [
        ('kind = "clock"', "it does not say how often it ticks"),
        ('kind = "clock"\nevery = "0.5s"', "a clock ticks once a second at most"),
        ('kind = "clock"\nevery = "1h"\ncolumns = { at = "timestamp" }', "a clock has one column, now, which is given"),
        ('kind = "clock"\nevery = "1h"\nkey = ["now"]', "key says nothing for kind clock"),
    ],
)
def test_what_a_clock_cannot_be_is_refused(project: Project, written: str, message: str) -> None:
    project.write({"tidemill.toml": f'[project]\nname = "shop"\n[assets.clock]\n{written}\n'})
    assert message in project.cli("check", code=2).stderr


def test_the_refusal_of_now_names_a_mend_that_works(project: Project) -> None:
    project.write(
        {
            "tidemill.toml": ASSETS,
            "jobs/recent.sql": "select id from orders where ordered_at > now() - interval 7 days\n",
        }
    )
    said = project.cli("check", code=2).stderr
    assert 'kind = "clock", every = "1h"' in said
    mend = said.partition("select ... ")[2].splitlines()[0]
    project.write({"jobs/recent.sql": f"select id {mend}\n"})
    project.cli("check")


def test_ls_status_and_map_show_the_clock_and_events_are_refused(project: Project) -> None:
    shop(project).cli("run")
    assert [asset["kind"] for asset in project.json("ls")["assets"] if asset["asset"] == "clock"] == ["clock"]
    status = next(asset for asset in project.json("status")["assets"] if asset["asset"] == "clock")
    assert (status["kind"], status["rows"]) == ("clock", 1)
    assert all("clock" in job["inputs"] for job in project.json("map"))
    assert "`clock` is a clock" in project.cli("emit", "clock", "--row", "{}", code=2).stderr


def test_what_a_clock_shows_is_cut_in_utc() -> None:
    at = datetime(2026, 1, 5, 13, 59, 59, 999_999, UTC).timestamp()
    assert shown_at(HOUR, at) == datetime.fromisoformat("2026-01-05T13:00:00")
    assert shown_at(1.5, at) == datetime.fromisoformat("2026-01-05T13:59:58.500000")
    assert shown_at(DAY, at) == datetime.fromisoformat("2026-01-05")
