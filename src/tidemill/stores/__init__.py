"""Where truth lives: the ledger (SQLite) and the tables (DuckDB)."""
