"""A long backlog is copied in commits of its own, so that a run's transaction holds little in memory."""

from __future__ import annotations

from tidemill.core.model import Asset, AssetKind, Column, Home, Job, Mode, Takes
from tidemill.core.ports import Plan
from tidemill.runtime.catalog import Catalog
from tidemill.runtime.mirror import COPY_CHANGES, Mirrors
from tidemill.stores.sqlite import SQLiteStore
from tidemill.testing.memory import MemoryStore

TOPIC = Asset("t", AssetKind.TOPIC, (Column("n", "integer"),))
JOB = Job("j", ("t",), ("out",), Takes.SQL, "select count(*) from t", "1", mode=Mode.REALTIME, home=Home.TABLES)
PLAN = Plan("recompute", is_mirrored=True)


def ahead(events: int) -> int:
    """How far the mirror is, durably, after a backlog of so many events was prepared."""
    ledger, tables = SQLiteStore(), MemoryStore()
    try:
        ledger.append(TOPIC, b"".join(b'{"n":%d}\n' % number for number in range(events)))
        Mirrors(Catalog({"t": TOPIC}, {"j": JOB}), tables, ledger).prepare_ahead(JOB, PLAN)
        found = tables.positions().heads.get("t")
        return found.offset if found else 0
    finally:
        ledger.close()


def test_a_long_backlog_is_copied_ahead_but_for_its_last_part() -> None:
    assert ahead(2 * COPY_CHANGES + 7) == 2 * COPY_CHANGES


def test_a_short_backlog_is_left_to_the_run() -> None:
    assert ahead(10) == 0
