"""The ledger passes the suite of the store port, in a file; what it cannot do, it refuses by name."""

from __future__ import annotations

import pytest

from tidemill.core.ports import Store
from tidemill.stores.sqlite import SQLiteStore
from tidemill.testing.contract import StoreContract
from tidemill.testing.contract.making import STATEMENTS, WIDENING


class TestSQLiteStoreInAFile(StoreContract):
    gaps = frozenset({STATEMENTS, WIDENING})

    @pytest.fixture(autouse=True)
    def folder(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        self.base = tmp_path_factory.mktemp("ledgers")
        self.count = 0

    def make(self) -> Store:
        self.count += 1
        return SQLiteStore(self.base / f"{self.count}.db")

    def reopen(self, store: Store) -> Store:
        assert isinstance(store, SQLiteStore)
        store.close()
        return SQLiteStore(store.path)

    def twin(self, store: Store) -> Store:
        assert isinstance(store, SQLiteStore)
        return SQLiteStore(store.path)
