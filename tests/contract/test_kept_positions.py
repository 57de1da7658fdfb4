"""Between the positions that trimming must keep, it forgets."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tidemill.core.change import Became, Slice
from tidemill.core.errors import StateCorrupt
from tidemill.core.ports import Store
from tidemill.stores.duckdb import DuckDBStore
from tidemill.testing.contract.probe import head, reading, rows, state, write
from tidemill.testing.memory import MemoryStore

STORES: dict[str, Callable[[], Store]] = {"duckdb": lambda: DuckDBStore(":memory:"), "memory": MemoryStore}


@pytest.mark.parametrize("made", STORES.values(), ids=STORES)
def test_what_lies_between_kept_positions_is_forgotten(made: Callable[[], Store]) -> None:
    store = made()
    store.claim()
    for number in range(10):
        write(store, "t", Became(rows((1, f"n{number}")), ("id",)))
    last = head(store, "t").offset
    assert store.trim("t", last, [4, 7]) == 9 - 2
    assert [row["name"] for at in (4, 7, last) for row in state(store, "t", at).values()] == ["n2", "n5", "n9"]
    for at in (3, 5, 6, last - 1):
        with reading(store) as reader, pytest.raises(StateCorrupt):
            reader.read(Slice("t", 0, at))
    write(store, "t", Became(rows((1, "later")), ("id",)))
    assert store.trim("t", last + 1, [3, 7]) == 1 + 1, "what went once does not come back"
    assert [row["name"] for row in state(store, "t", 7).values()] == ["n5"]
    for at in (3, 4):
        with reading(store) as reader, pytest.raises(StateCorrupt):
            reader.read(Slice("t", 0, at))
    store.close()
