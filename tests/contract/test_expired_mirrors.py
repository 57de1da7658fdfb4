"""The copy of a topic knows what had expired before it could be copied."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tidemill.core.change import Appended, Images, Slice
from tidemill.core.errors import Expired
from tidemill.core.ports import Head, Store
from tidemill.stores.duckdb import DuckDBStore
from tidemill.testing.contract.probe import head, lines, reading, rows, write
from tidemill.testing.memory import MemoryStore

STORES: dict[str, Callable[[], Store]] = {"duckdb": lambda: DuckDBStore(":memory:"), "memory": MemoryStore}


@pytest.mark.parametrize("made", STORES.values(), ids=STORES)
def test_a_mirror_is_told_what_will_never_come(made: Callable[[], Store]) -> None:
    store = made()
    store.claim()
    write(store, "m", Appended(rows(), head=7, expired=7))
    write(store, "m", Appended(rows((8, "h"), offset=[8]), head=8))
    assert head(store, "m") == Head(8, 1, 1, 7)
    with reading(store) as reader:
        with pytest.raises(Expired):
            reader.read(Slice("m", 0, 8))
        assert [line["id"] for line in lines(reader, Slice("m", 7, 8, Images.CHANGES))] == [8]
    store.close()


@pytest.mark.parametrize("made", STORES.values(), ids=STORES)
def test_what_has_expired_stays_so_while_the_mirror_is_written(made: Callable[[], Store]) -> None:
    store = made()
    store.claim()
    write(store, "m", Appended(rows((1, "a"), (2, "b"), offset=[1, 2]), head=2))
    writer = store.begin(exclusive=False)
    writer.write("m", Appended(rows((3, "c"), offset=[3]), head=3))
    assert store.expire("m", 1) == 1
    writer.commit()
    assert head(store, "m") == Head(3, 1, 2, 1)
    store.close()
