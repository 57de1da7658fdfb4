"""A project that rests costs nothing that grows, and following it ends whole: what did not change is not planned, read or trimmed."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.e2e.conftest import ORDERS, Project, alarms, order, ran, until, watching
from tests.e2e.test_definitions import eventually
from tidemill.project import living
from tidemill.project.loading import load
from tidemill.project.watching import Watch

JOBS = {
    "jobs/total.sql": "-- mode: realtime\nselect customer, sum(amount) s from orders group by all",
    "jobs/top.sql": "-- mode: realtime\nselect max(s) top from total",
    "jobs/other.sql": "-- mode: realtime\nselect count(*) n from orders",
}


def concerned(project: Project, change: dict[str, str | bytes]) -> set[str]:
    """The jobs that a load would plan once these files have changed."""
    project.write({"tidemill.toml": ORDERS, **JOBS})
    with project.open() as mill:
        project.write(change)
        loaded = load(project.folder)
        return living._concerned(mill.machine, loaded, living.compare(mill.machine, loaded))


def test_a_load_that_changes_nothing_plans_nothing(project: Project) -> None:
    assert concerned(project, {}) == set()


def test_a_changed_job_is_planned_with_those_that_read_it_and_no_other(project: Project) -> None:
    changed = JOBS["jobs/total.sql"].replace("sum(amount)", "sum(amount) + 1")
    assert concerned(project, {"jobs/total.sql": changed}) == {"total", "top"}


def test_a_changed_asset_is_planned_for_all_who_read_from_it(project: Project) -> None:
    changed = ORDERS.replace('amount = "integer"', 'amount = "bigint"')
    assert concerned(project, {"tidemill.toml": changed}) == {"total", "top", "other"}


def test_where_nothing_was_committed_nothing_is_judged_again(project: Project) -> None:
    project.write({"tidemill.toml": ORDERS, **JOBS})
    with project.open() as mill:
        mill.emit("orders", [order(1)])
        ran(mill)
        watch = Watch(mill.machine, "", applies_at_once=True)
        loop = mill.machine.loop

        def judged() -> int:
            before = loop.state.turn
            watch._resync()
            assert loop.when_handled().wait(20)
            return loop.state.turn - before

        assert judged() > 0
        assert judged() == 0
        mill.machine.ledger.touch("nobody_says_so", "1")
        assert judged() > 0


def test_a_definition_that_vanishes_while_it_is_read_does_not_end_the_watching(project: Project) -> None:
    project.write({"tidemill.toml": ORDERS, **JOBS})
    with watching(project) as mill:
        mill.emit("orders", [order(1)])
        eventually(mill, "select n from other", [(1,)])
        gone = project.folder / "jobs" / "gone.sql"
        gone.symlink_to(Path("nowhere.sql"))
        until(lambda: any("gone.sql" in alarm for alarm in alarms(mill)), "an alarm")
        gone.unlink()
        project.write({"jobs/n.sql": "-- mode: realtime\nselect count(*) + 5 n from orders"})
        eventually(mill, "select n from n", [(6,)])


class Failing(threading.Event):
    """Fails whoever follows files and asks whether to stop; the others go on until it is set."""

    def is_set(self) -> bool:
        if threading.current_thread().name.startswith("following") and not super().is_set():
            raise RuntimeError("following failed")
        return super().is_set()


def test_following_that_fails_says_so_and_leaves_nobody_behind(project: Project) -> None:
    project.write({"tidemill.toml": ORDERS, **JOBS})
    stop = Failing()
    with project.open() as mill, ThreadPoolExecutor(1, thread_name_prefix="following") as threads:
        followed = threads.submit(mill.watch, stop)
        try:
            assert str(followed.exception(20)) == "following failed"
        finally:
            stop.set()
        assert not {thread.name for thread in threading.enumerate()} & {"tidemill-nights", "tidemill-alarms"}
