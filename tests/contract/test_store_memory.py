"""The fake store passes the suite of its port; what it cannot do, it refuses by name."""

from __future__ import annotations

from tidemill.core.ports import Store
from tidemill.testing.contract import StoreContract
from tidemill.testing.contract.making import STATEMENTS
from tidemill.testing.memory import MemoryStore


class TestMemoryStore(StoreContract):
    gaps = frozenset({STATEMENTS})

    def make(self) -> Store:
        return MemoryStore()

    def reopen(self, store: Store) -> Store:
        assert isinstance(store, MemoryStore)
        return store.reopen()
