"""Shadows and crashes: whatever dies at whichever store operation, the live table is right and a promotion done or not.

Each test draws `TIDEMILL_CRASHES` of the operations (all of them with `all`, as in `make soak`) and dies before or after each.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import Project, order, ran, rows
from tests.e2e.test_shadow import OTHER, READER, shop, traces
from tests.seeds import first_seed
from tidemill.core.errors import OperatorError
from tidemill.project.mill import Mill
from tidemill.project.shadowing import Shadows

CRASHES = os.environ.get("TIDEMILL_CRASHES", "4")
EDGES = (
    "begin",
    "read",
    "head",
    "progress",
    "write",
    "settle",
    "take_over",
    "commit",
    "drop",
    "note",
    "notes",
    "positions",
)
NEVER = 10**9
SEED = first_seed()


class Crashed(OperatorError):
    """The process that a test plays is dead."""


class Counter:
    """Counts store operations; from the N-th on nothing happens any more. `after`: the N-th itself still does."""

    def __init__(self, dies_at: int, *, after: bool = False) -> None:
        self.dies_at = dies_at
        self.after = after
        self.count = 0

    @property
    def is_dead(self) -> bool:
        return self.count >= self.dies_at

    def around(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def called(*arguments: Any, **named: Any) -> Any:
            if self.is_dead:
                raise Crashed("dead")
            self.count += 1
            if self.is_dead and not self.after:
                raise Crashed("dead")
            found = call(*arguments, **named)
            if self.is_dead:
                raise Crashed("dead")
            return Dying(found, self) if call.__name__ == "begin" else found

        return called


class Dying:
    """A store, or a transaction, whose operations are counted."""

    def __init__(self, inner: Any, counter: Counter) -> None:
        self._inner = inner
        self._counter = counter

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        return self._counter.around(found) if name in EDGES else found


def acted(project: Project, counter: Counter, act: Callable[[Mill], Any]) -> int:
    """Let a process that dies at the operation that the counter says open the project and act; how far it came."""
    with project.open() as mill:
        machine = mill.machine
        mill.shadows.close()
        machine.tables, machine.ledger = Dying(machine.tables, counter), Dying(machine.ledger, counter)  # type: ignore[assignment]
        mill.shadows = Shadows(machine, "")
        with contextlib.suppress(Crashed):
            mill.shadows.open(works=False)
            act(mill)
        return counter.count


def crashes(project: Project, act: Callable[[Mill], Any], *, last: int = 0) -> Iterator[Project]:
    """Copies of the project in which the act died, each at another operation. `last`: so many of the last ones are drawn too."""
    folder = project.folder.parent

    def copy(name: str) -> Project:
        return Project(Path(shutil.copytree(project.folder, folder / name)))

    total = acted(copy("whole"), Counter(NEVER), act)
    points = [(number, after) for number in range(1, total + 1) for after in (False, True)]
    if CRASHES != "all":
        drawn = random.Random(SEED).sample(points, min(len(points), int(CRASHES)))
        points = [*drawn, *points[len(points) - 2 * last :: 2]]
    for number, after in points:
        died = copy(f"seed-{SEED}-died-{'after' if after else 'before'}-{number}-of-{total}")
        acted(died, Counter(number, after=after), act)
        yield died
        shutil.rmtree(died.folder)


def is_new(project: Project) -> bool:
    return (project.folder / "jobs/totals.sql").read_text() == OTHER


def check_live(mill: Mill, *, is_new: bool) -> None:
    """What is live is what its file says, in its table, at its reader, and by the truth; nothing is made anew for that."""
    totals = [("ada", 3, 11), ("bob", 3, 13)] if is_new else [("ada", 3, 9), ("bob", 3, 12)]
    assert rows(mill, "select * from totals order by 1") == totals
    assert ran(mill)["failed"] == 0
    assert rows(mill, "select * from totals order by 1") == totals
    assert rows(mill, "select * from grand") == [(sum(row[2] for row in totals),)]
    assert mill.reconcile("totals")["equal"]
    assert not any(run["readiness"]["rebuild"] for run in mill.runs(job="totals"))


def has_shadow(mill: Mill) -> bool:
    """Whether there is a shadow; where there is none, there is no trace of it."""
    is_there = bool(mill.shadows.listed())
    assert is_there or traces(mill) == []
    return is_there


@pytest.fixture
def shadowed(project: Project) -> Project:
    """A project with a shadow of another query."""
    shop(project, grand=READER)
    with project.open() as mill:
        mill.shadow("totals", sql=OTHER, file="new.sql")
    return project


def test_a_start_that_dies_leaves_a_shadow_or_nothing(project: Project) -> None:
    shop(project, grand=READER)
    for died in crashes(project, lambda mill: mill.shadow("totals", sql=OTHER, file="new.sql")):
        with died.open() as mill:
            check_live(mill, is_new=False)
            if has_shadow(mill):
                report = mill.shadow("totals")
                assert (report["error"], report["different"], report["compared"] > 0) == ("", 2, True)


def test_a_promotion_that_dies_is_done_or_not_done(shadowed: Project) -> None:
    outcomes = set()
    for died in crashes(shadowed, lambda mill: mill.shadow("totals", promote=True, accept=2), last=8):
        with died.open() as mill:
            is_done = is_new(died)
            assert has_shadow(mill) != is_done
            check_live(mill, is_new=is_done)
        assert not list(died.folder.glob("jobs/.*"))
        outcomes.add(is_done)
    assert outcomes == {True, False}


def test_a_promoted_mode_that_dies_is_done_or_not_done(project: Project) -> None:
    shop(project, grand=READER)
    with project.open() as mill:
        mill.shadow("totals", mode="batch")
    outcomes = set()
    for died in crashes(project, lambda mill: mill.shadow("totals", promote=True), last=5):
        with died.open() as mill:
            is_done = mill.mode("totals")["mode"] == "batch"
            assert has_shadow(mill) != is_done
            check_live(mill, is_new=False)
        outcomes.add(is_done)
    assert outcomes == {True, False}


def test_an_abandoned_shadow_that_dies_is_there_or_gone(shadowed: Project) -> None:
    for died in crashes(shadowed, lambda mill: mill.shadow("totals", abandon=True)):
        with died.open() as mill:
            check_live(mill, is_new=False)
            if has_shadow(mill):
                assert mill.shadow("totals")["different"] == 2
                mill.shadow("totals", abandon=True)
            assert traces(mill) == []


def test_a_step_that_dies_is_made_again(shadowed: Project) -> None:
    with shadowed.open() as mill:
        mill.shadows.close()
        mill.emit("orders", [order(7, "eve", 3)])
        assert mill.machine.loop.when_idle().wait(20)
    for died in crashes(shadowed, lambda mill: mill.shadows.settle_all()):
        with died.open() as mill:
            ran(mill)
            report = mill.shadow("totals")
            assert (report["error"], report["different"], report["rows"], report["lag_changes"]) == ("", 2, 3, 0)
            assert mill.reconcile("totals")["equal"]
