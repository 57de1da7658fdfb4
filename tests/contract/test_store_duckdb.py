"""The tables store passes the suite of its port: in memory, in a file, and where DuckDB does what Python can do."""

from __future__ import annotations

from pathlib import Path

import pytest

from tidemill.core.ports import Store
from tidemill.stores.duckdb import DuckDBStore
from tidemill.stores.duckdb.site import Site
from tidemill.testing.contract import StoreContract


class TestDuckDBStoreInMemory(StoreContract):
    def make(self) -> Store:
        return DuckDBStore(":memory:")

    def reopen(self, store: Store) -> Store:
        assert isinstance(store, DuckDBStore)
        twin = store.twin()
        store.close()
        return twin

    def twin(self, store: Store) -> Store:
        assert isinstance(store, DuckDBStore)
        return store.twin()


class TestDuckDBStoreConsolidatingInSQL(TestDuckDBStoreInMemory):
    def make(self) -> Store:
        return DuckDBStore(":memory:", site=Site(":memory:", images_max=0))


class TestDuckDBStoreInAFile(StoreContract):
    @pytest.fixture(autouse=True)
    def folder(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        self.base = tmp_path_factory.mktemp("stores")
        self.count = 0

    def make(self) -> Store:
        self.count += 1
        return DuckDBStore(self.base / f"{self.count}.duckdb")

    def reopen(self, store: Store) -> Store:
        assert isinstance(store, DuckDBStore)
        store.close()
        return DuckDBStore(store.path)

    def twin(self, store: Store) -> Store:
        assert isinstance(store, DuckDBStore)
        return DuckDBStore(store.path)


def test_a_path_may_be_a_path(tmp_path: Path) -> None:
    store = DuckDBStore(tmp_path / "new folder" / "store.duckdb")
    store.close()
    assert store.path.endswith("store.duckdb")
