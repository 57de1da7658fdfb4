"""The ledger passes the suite of the store port, in a file; what it cannot do, it refuses by name."""

from __future__ import annotations

import pytest

from tests.stores.sqlite.ledger import ndjson, topic
from tidemill.core.ports import Store
from tidemill.stores.sqlite import SQLiteStore
from tidemill.testing.contract import StoreContract
from tidemill.testing.contract.making import STATEMENTS, WIDENING
from tidemill.testing.contract.probe import COLUMNS


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

    def topic(self, store: Store, *ids: int) -> str:
        assert isinstance(store, SQLiteStore)
        for id_ in ids:
            store.append(topic(*COLUMNS), ndjson({"id": id_, "name": f"n{id_}"}))
        return "t"

    def twin(self, store: Store) -> Store:
        assert isinstance(store, SQLiteStore)
        return SQLiteStore(store.path)
