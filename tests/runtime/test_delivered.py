"""The recorded runs of a job with outside effects: the oldest are forgotten, and nothing that somebody still needs."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tidemill.core.model import Home, Job, Takes
from tidemill.core.ports import Progress, Store
from tidemill.runtime.delivered import (
    delivered,
    forget_oldest,
    forgotten,
    record,
    replay_of,
    runs_asset,
)
from tidemill.stores.sqlite import SQLiteStore
from tidemill.testing.memory import MemoryStore

JOB = Job("send", ("orders",), ("sent",), Takes.RUN, "", "1", home=Home.LEDGER)


@pytest.fixture(params=[SQLiteStore, MemoryStore])
def store(request: pytest.FixtureRequest) -> Store:
    return request.param()  # type: ignore[no-any-return]


def settle(store: Store, first: int, last: int, opens: Mapping[int, str] | None = None) -> None:
    """Runs that each took one change; behind a gate, some opened a value."""
    transaction = store.begin()
    for number in range(first, last + 1):
        value = (opens or {}).get(number, "")
        pinned = Progress("send", "1", pinned={"orders": (number - 1, number)}, opens={value: {}} if value else {})
        record(transaction, JOB, pinned, Progress("send", "1", run=f"run{number}", served_at=float(number)))
    transaction.commit()


def kept(store: Store, after: int = 0) -> list[str]:
    reader = store.begin(exclusive=False)
    try:
        return [each.run for each in delivered(reader, JOB, after, reader.head(runs_asset("send")).offset)]
    finally:
        reader.rollback()


def offset_of(store: Store, run: str) -> int:
    reader = store.begin(exclusive=False)
    try:
        recorded = delivered(reader, JOB, 0, reader.head(runs_asset("send")).offset)
        return next(each.offset for each in recorded if each.run == run)
    finally:
        reader.rollback()


def test_the_newest_runs_stay_and_what_the_others_read_is_known(store: Store) -> None:
    settle(store, 1, 52)
    assert forget_oldest(store, JOB, 50) == 0, "a few more than the limit are let be"
    settle(store, 53, 53)
    assert forget_oldest(store, JOB, 50) == 3
    assert kept(store) == [f"run{number}" for number in range(4, 54)]
    assert kept(store, after=offset_of(store, "run50")) == ["run51", "run52", "run53"]
    reader = store.begin(exclusive=False)
    assert forgotten(reader, JOB) == {"orders": (0, 3)}
    reader.rollback()
    settle(store, 54, 60)
    forget_oldest(store, JOB, 50)
    assert kept(store)[0] == "run11"
    reader = store.begin(exclusive=False)
    assert forgotten(reader, JOB) == {"orders": (0, 10)}
    reader.rollback()


def test_behind_a_gate_one_run_of_each_value_stays(store: Store) -> None:
    settle(store, 1, 30, {1: "mon", 2: "tue", 4: "mon", 29: "wed"})
    forget_oldest(store, JOB, 20)
    assert kept(store)[:3] == ["run2", "run4", "run11"]


def test_what_a_replay_has_to_deliver_stays(store: Store) -> None:
    settle(store, 1, 30)
    asset, name = runs_asset("send"), replay_of("send")
    going = Progress(name, "1", {asset: offset_of(store, "run5")}, pinned={asset: (0, 30)})
    transaction = store.begin()
    transaction.settle(going, None)
    transaction.commit()
    assert forget_oldest(store, JOB, 20) == 5
    assert kept(store)[0] == "run6"
