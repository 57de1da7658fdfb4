"""The tables: the DuckDB home of assets. `DuckDBStore(path)` is the store; everything else here is its inside."""

from __future__ import annotations

from tidemill.stores.duckdb.store import DuckDBStore

__all__ = ["DuckDBStore"]
