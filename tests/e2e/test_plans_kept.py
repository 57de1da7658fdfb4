"""What a project keeps of its plans: compiled once, measured from run to run, and gone without harm."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from tests.e2e.conftest import ORDERS, Project, order, ran, rows
from tidemill.core.model import Job, Semantics
from tidemill.engines import kept
from tidemill.project.mill import Mill

TOTAL = "-- mode: realtime\nselect customer, sum(amount) as s, max(amount) as m from orders group by all"
TOP = "select customer, rank() over (order by s desc) as place from total"


@pytest.fixture
def shop(project: Project) -> Project:
    """A project with two staged jobs that have run."""
    project.write({"tidemill.toml": ORDERS, "jobs/total.sql": TOTAL, "jobs/top.sql": TOP})
    with project.open() as mill:
        mill.emit("orders", [order(1, amount=4), order(2, amount=3)])
        assert ran(mill)["failed"] == 0
    return project


@contextmanager
def called() -> Iterator[set[tuple[str, str]]]:
    """The (file, function) of everything that is called within, in this thread and those begun within."""
    seen: set[tuple[str, str]] = set()

    def note(frame: FrameType, event: str, _argument: object) -> None:
        if event == "call":
            seen.add((Path(frame.f_code.co_filename).as_posix(), frame.f_code.co_name))

    before: Callable[..., Any] | None = sys.getprofile()
    threading.setprofile(note)
    sys.setprofile(note)
    try:
        yield seen
    finally:
        sys.setprofile(before)
        threading.setprofile(None)  # type: ignore[arg-type]


def compiling(seen: set[tuple[str, str]]) -> set[str]:
    """What of it is parsing SQL, cutting it, or asking for types."""
    parts = ("sqlglot/parser.py", "sqlglot/tokens.py", "sql/stages/cut.py", "stages/layout.py")
    found = {
        part for file, name in seen for part in parts if file.endswith(part) and name in ("parse", "cut", "lay_out")
    }
    return found | {name for file, name in seen if name == "describe" and file.endswith("stores/duckdb/store.py")}


def planned(mill: Mill) -> dict[str, str]:
    return {job["job"]: job["maintained"] for job in mill.plan()["jobs"]}


def kept_files(project: Project) -> list[Path]:
    return sorted((project.folder / ".tidemill" / "plans").glob("*.plan"))


def test_a_warm_start_parses_no_sql_and_asks_for_no_types(shop: Project) -> None:
    for path in kept_files(shop):
        path.unlink()
    with called() as cold, shop.open() as mill:
        first = planned(mill)
    with called() as warm, shop.open() as mill:
        mill.emit("orders", [order(3, amount=9)])
        assert ran(mill)["runs"] == 2
        assert planned(mill) == first
    assert compiling(cold) == {"sqlglot/parser.py", "sql/stages/cut.py", "stages/layout.py", "describe"}
    assert compiling(warm) == set()


@pytest.mark.parametrize("damage", [b"", b"{}", b"no plan\nat all"], ids=["emptied", "another", "nonsense"])
def test_a_damaged_plan_is_made_anew(shop: Project, damage: bytes) -> None:
    whole = [path.read_bytes() for path in kept_files(shop)]
    assert len(whole) == 2
    for path in kept_files(shop):
        path.write_bytes(damage)
    with shop.open() as mill:
        assert planned(mill)["total"].startswith("incremental")
    assert [path.read_bytes() for path in kept_files(shop)] == whole


def test_a_plan_with_a_changed_byte_is_not_believed(shop: Project) -> None:
    for path in kept_files(shop):
        path.write_bytes(path.read_bytes().replace(b"sum(", b"max("))
    with shop.open() as mill:
        mill.emit("orders", [order(3, amount=9), order(4, amount=5)])
        ran(mill)
        assert rows(mill, "select sum(s) from total") == [(21,)]


def test_every_part_that_makes_a_plan_makes_its_name(shop: Project) -> None:
    with shop.open() as mill:
        catalog = mill.machine.catalog
        job, orders = catalog.jobs["total"], catalog.asset("orders")

    def name(job: Job = job, views: dict[str, str] | None = None, **of_input: Any) -> str:
        return kept.name_of(job, {"orders": _with(orders, **of_input)}, views or {})

    others = [
        name(_with(job, transform=TOTAL.replace("max", "min"))),
        name(_with(job, key=("m",))),
        name(_with(job, outputs=("elsewhere",))),
        name(columns=orders.columns[:-1]),
        name(semantics=Semantics.UPSERT),
        name(views={"orders": "select 1"}),
    ]
    assert len({name(), *others}) == len(others) + 1
    assert name(views={"unread": "select 1"}) == name()


def _with(value: Any, **changed: Any) -> Any:
    return type(value)(**{name: changed.get(name, getattr(value, name)) for name in value.__dataclass_fields__})


def test_plans_of_jobs_that_are_gone_are_forgotten(shop: Project) -> None:
    shop.remove("jobs/top.sql")
    with shop.open() as mill:
        planned(mill)
        assert mill.machine.plans.keep_only(mill.machine.catalog.jobs) == 1
    assert len(kept_files(shop)) == 1


def costs(mill: Mill, job: str = "total") -> list[Any]:
    return [stage["costs"] for each in mill.plan()["jobs"] if each["job"] == job for stage in each["stages"]]


def test_what_stages_have_cost_is_known_after_a_restart(shop: Project) -> None:
    with shop.open() as mill:
        mill.emit("orders", [order(3, amount=9)])
        ran(mill)
        measured = costs(mill)
    assert {cost["rule"] for stage in measured for cost in stage} == {"merge", "whole"}
    with shop.open() as mill:
        assert costs(mill) == measured


def test_what_another_version_of_a_job_has_cost_is_not_believed(shop: Project) -> None:
    shop.write({"jobs/total.sql": TOTAL.replace("max", "min")})
    with shop.open() as mill:
        assert costs(mill) == [[]]


def test_costs_that_do_not_read_are_as_good_as_none(shop: Project) -> None:
    with shop.open() as mill:
        version = mill.machine.catalog.jobs["total"].version
        mill.machine.ledger.note("cost", "total", {"version": version, "costs": [["", "merge"], 7, None]})
    with shop.open() as mill:
        assert costs(mill) == [[]]


def test_a_run_says_by_which_rule_each_stage_was_maintained(shop: Project) -> None:
    with shop.open() as mill:
        assert mill.runs(job="total")[0]["readiness"]["stages"] == {"output": "whole"}
        mill.emit("orders", [order(3, amount=9)])
        ran(mill)
        assert mill.runs(job="total")[0]["readiness"]["stages"] == {"output": "merge"}
        assert mill.explain("total")["last_start"]["stages"] == {"output": "merge"}
    assert "maintained: output by merge" in shop.cli("explain", "total").stdout
