"""What is computed ends when it is cut short, and only that."""

from __future__ import annotations

import threading

import pytest

from tests.e2e.conftest import until
from tidemill.core.change import Statement
from tidemill.core.errors import OperatorError, RunCancelled
from tidemill.runtime.cut import Cut
from tidemill.runtime.rows import dicts
from tidemill.stores.duckdb import DuckDBStore

ENDLESS = Statement("SELECT sum(hash(range) % 7) AS n FROM range(20000000000)", {})
SHORT = Statement("SELECT 1 AS n", {})


class Heard:
    """A transaction that counts who interrupts it."""

    def __init__(self) -> None:
        self.interrupts = 0

    def interrupt(self) -> None:
        self.interrupts += 1


def test_a_statement_that_never_ends_is_ended_and_the_store_goes_on() -> None:
    store, cut, raised = DuckDBStore(":memory:"), Cut(), []
    transaction = store.begin(exclusive=False)

    def work() -> None:
        try:
            with cut.over(transaction):
                transaction.evaluate(ENDLESS)
        except RunCancelled as error:
            raised.append(error)
        finally:
            transaction.rollback()

    thread = threading.Thread(target=work)
    thread.start()

    def is_over() -> bool:
        cut.cut()
        return not thread.is_alive()

    until(is_over)
    assert len(raised) == 1
    again = store.begin(exclusive=False)
    assert dicts(again.evaluate(SHORT)) == [{"n": 1}]
    again.rollback()
    store.close()


def test_nothing_begins_after_the_cut_and_what_ended_is_not_interrupted() -> None:
    cut, before, after = Cut(), Heard(), Heard()
    with cut.over(before):
        pass
    cut.cut()
    assert before.interrupts == 0
    with pytest.raises(RunCancelled, match="the project is being closed"), cut.over(after):
        raise AssertionError("it began")


def test_what_fails_by_itself_fails_as_it_did() -> None:
    with pytest.raises(OperatorError, match="no room"), Cut().over(Heard()):
        raise OperatorError("no room", mend="make some")
