"""Whatever fails, nothing is lost and nothing is doubled."""

from __future__ import annotations

import pytest

from tidemill.core.change import Appended, Became, Images, Slice
from tidemill.core.errors import Conflict
from tidemill.core.ports import Progress, Store, Table
from tidemill.testing.contract.making import Making
from tidemill.testing.contract.probe import COLUMNS, contents, lines, rows, write, writing
from tidemill.testing.faults import FaultPlan, Faulty, Injected

__all__ = ["Failing"]

RUNS = 3


def run(store: Store) -> bool:
    """One run of a job that copies `in` to `out`: everything since its cursor; False where there is nothing to do."""
    transaction = store.begin()
    try:
        before = transaction.progress("copy")
        cursor = before.cursors["in"] if before else 0
        head = transaction.head("in").offset
        if head == cursor:
            return False
        part = Slice("in", cursor, min(head, cursor + 2), Images.ADDED)
        taken = [(line["id"], line["name"]) for line in lines(transaction, part)]
        transaction.define(Table("out", COLUMNS))
        transaction.write("out", Appended(rows(*taken)))
        number = int(before.run) + 1 if before else 1
        transaction.settle(Progress("copy", "v", {"in": part.to}, {"in": 1}, str(number)), before)
        transaction.commit()
        return True
    finally:
        transaction.rollback()


def drain(store: Store) -> None:
    """Run until there is nothing to do: soon, or the cursor does not move."""
    for _ in range(RUNS + 1):
        if not run(store):
            return
    raise AssertionError("the job does not come to its end")


class Failing(Making):
    """Faults as inputs: the N-th operation, before a commit, after a commit, and the next process finds it right."""

    EXPECTED = tuple((n, f"n{n}") for n in range(1, 5))

    def _filled(self) -> Store:
        store = self.make()
        store.claim()
        write(store, "in", Appended(rows(*self.EXPECTED)))
        return store

    def _survives(self, plan: FaultPlan) -> bool:
        """Run until the fault, let the process die, run on; returns whether the fault struck."""
        store = self._filled()
        struck = False
        try:
            drain(Faulty(store, plan))
        except Injected:
            struck = True
        again = self.reopen(store)
        again.claim()
        drain(again)
        assert contents(again, "out") == list(self.EXPECTED)
        assert again.positions().progress["copy"].run == str(RUNS)
        assert again.positions().heads["out"].rows == len(self.EXPECTED)
        again.close()
        return struck

    def test_the_nth_operation_may_fail(self) -> None:
        """For N = 1, 2, 3 ... until it passes."""
        operation = 1
        while self._survives(FaultPlan(operation=operation)):
            operation += 1
        assert operation > 7

    def test_a_commit_may_fail_before_it_happens(self) -> None:
        """Then nothing of it is there."""
        assert self._survives(FaultPlan(before_commit=1))

    def test_the_acknowledgement_of_a_commit_may_be_lost(self) -> None:
        """Then all of it is there, and the next run goes on behind it."""
        assert self._survives(FaultPlan(after_commit=1))

    def test_a_run_repeated_after_a_lost_acknowledgement_is_a_conflict(self) -> None:
        """Compare-and-set: it cannot be committed twice."""
        store = self._filled()
        for attempt in (Injected, Conflict):
            with pytest.raises(attempt):
                _commit_once(Faulty(store, FaultPlan(after_commit=1)))
        assert contents(store, "out") == [(1, "a")]
        store.close()


def _commit_once(store: Store) -> None:
    with writing(store) as transaction:
        transaction.define(Table("out", COLUMNS))
        transaction.write("out", Became(rows((1, "a")), ("id",)))
        transaction.settle(Progress("j", "v", {"in": 5}, {"in": 1}, "1"), None)
