"""The ledger: one SQLite file with the hot log, the records of runs, and the progress of jobs that write there.

`SQLiteStore` implements the ports `Store` (home: ledger), `Log` and `Ledger`. Read first: `store.py`, then `log.py`
(the door) and `contract.py` (what an event must look like).
"""

from __future__ import annotations

from tidemill.stores.sqlite.store import SQLiteStore

__all__ = ["SQLiteStore"]
