"""Whatever statement fails, wherever the process dies: all of an append is there, or nothing of it."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.stores.sqlite.ledger import ndjson, rows, topic, upsert
from tidemill.core.change import Appended
from tidemill.core.errors import OperatorError, StateCorrupt, StateTooNew, StorageFull
from tidemill.core.model import Column
from tidemill.core.ports import Progress, Table
from tidemill.stores.sqlite import SQLiteStore
from tidemill.testing.contract.probe import COLUMNS
from tidemill.testing.contract.probe import rows as given

KILLS = 4


class Fault:
    """Fails the N-th statement once it is armed."""

    def __init__(self) -> None:
        self.left = 0
        self.error: sqlite3.Error = sqlite3.OperationalError("disk I/O error")

    def __call__(self, statement: str) -> None:
        if self.left:
            self.left -= 1
            if not self.left:
                raise self.error


def append_with_everything(store: SQLiteStore) -> None:
    """One append that writes a block, ids, a dead letter and a mark."""
    store.append(topic(id="id"), ndjson({"id": "a"}, {"id": "old"}, {"id": "b"}, {"n": 1}), source="f", mark="2")


def append_upserts(store: SQLiteStore) -> None:
    store.append(upsert(id="x"), ndjson({"k": 1, "v": 2, "x": "1"}, {"k": 1, "v": 1, "x": "2"}, {"k": 2}))


def touch(store: SQLiteStore) -> None:
    store.touch("outside", "1")


def run_a_job(store: SQLiteStore) -> None:
    transaction = store.begin()
    try:
        transaction.define(Table("JOB@parked", COLUMNS))
        transaction.write("JOB@parked", Appended(given((1, "a"), (2, "b"), parent=["p", "q"], ordinal=[0, 0])))
        transaction.settle(Progress("JOB", "v", {"t": 1}, {"t": 1}, "r"), None)
        transaction.commit()
    finally:
        transaction.rollback()


def run_beside(store: SQLiteStore) -> None:
    transaction = store.begin(exclusive=False)
    try:
        transaction.define(Table("JOB@gate", COLUMNS))
        transaction.write("JOB@gate", Appended(given((1, "a"), parent=["p"], ordinal=[0])))
        transaction.settle(Progress("JOB", "v", {"t": 1}, {"t": 1}, "r"), None)
        transaction.commit()
    finally:
        transaction.rollback()


def expire(store: SQLiteStore) -> None:
    """What expires leaves a block, the content of its ids, and the count."""
    store.expire("t", 1)


def everything(store: SQLiteStore) -> list[object]:
    """All that the file says."""
    tables = ("assets", "blocks", "ids", "keys", "versions", "images", "marks", "progress", "dead")
    with store._reads() as connection:
        return [sorted(map(repr, connection.all(f"select * from {table}"))) for table in tables]


@pytest.mark.parametrize("act", [append_with_everything, append_upserts, touch, run_a_job, run_beside, expire])
def test_whatever_statement_fails_nothing_of_it_is_left(tmp_path: Path, act: Callable[[SQLiteStore], None]) -> None:
    done = filled(tmp_path / "done.db", Fault())
    act(done)
    expected = everything(done)
    done.close()
    number = 0
    while True:
        number += 1
        fault = Fault()
        store = filled(tmp_path / f"{number}.db", fault)
        before = everything(store)
        fault.left = number
        try:
            act(store)
        except OperatorError:
            assert everything(store) == before
            again = SQLiteStore(store.path, now=lambda: 5.0)
            assert everything(again) == before
            again.close()
            act(store)
            assert everything(store) == expected
            store.close()
        else:
            fault.left = 0
            assert everything(store) == expected
            store.close()
            break
    assert number > 4


def filled(path: Path, fault: Fault) -> SQLiteStore:
    store = SQLiteStore(path, now=lambda: 5.0, hook=fault)
    store.append(topic(id="id"), ndjson({"id": "old"}))
    return store


def test_a_full_disk_stops_the_append_and_nothing_else() -> None:
    fault = Fault()
    store = SQLiteStore(hook=fault)
    store.append(topic(), ndjson({"n": 1}))
    fault.error, fault.left = full(), 3
    with pytest.raises(StorageFull) as raised:
        store.append(topic(), ndjson({"n": 2}))
    assert raised.value.mend
    assert store.append(topic(), ndjson({"n": 3})).head == 2
    store.close()


def test_a_really_full_file_is_storage_full_and_recovers() -> None:
    """SQLite rolls such a transaction back by itself; ours must not stumble over that."""
    store = SQLiteStore()
    store.append(topic(), ndjson({"n": 1}))
    writer = store.take_turn()
    pages = writer.one("pragma page_count")[0]
    writer.execute(f"pragma max_page_count = {pages + 2}")
    store.end_turn()
    with pytest.raises(StorageFull):
        store.append(topic(), ndjson({"note": os.urandom(40_000).hex()}))
    writer.execute("pragma max_page_count = 1000000")
    assert store.append(topic(), ndjson({"n": 3})).head == 2
    assert [row["n"] for row in rows(store)] == [1, 3]
    store.close()


def full() -> sqlite3.Error:
    error = sqlite3.OperationalError("database or disk is full")
    error.sqlite_errorname = "SQLITE_FULL"
    return error


def test_a_file_that_is_no_database_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_bytes(b"this is not a database, whatever its name says" * 100)
    with pytest.raises(StateCorrupt) as raised:
        SQLiteStore(path)
    assert "backup" in raised.value.mend
    assert raised.value.place == str(path)


def test_a_newer_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    SQLiteStore(path).close()
    with sqlite3.connect(path) as raw:
        raw.execute("pragma user_version = 99")
    raw.close()
    with pytest.raises(StateTooNew):
        SQLiteStore(path)


def test_a_place_that_cannot_be_written_is_the_operators(tmp_path: Path) -> None:
    with pytest.raises(OperatorError):
        SQLiteStore(tmp_path / "no" / "such" / "folder" / "ledger.db")


CHILD = """
import sys
from tidemill.core.model import Asset, AssetKind, Column
from tidemill.stores.sqlite import SQLiteStore
store = SQLiteStore(sys.argv[1])
asset = Asset("t", AssetKind.TOPIC, columns=(Column("id", "varchar"), Column("n", "integer")), id="id")
n = store.append(asset, b"").head
while True:
    size = n % 7 + 1
    lines = b"".join(b'{"id":"%d","n":%d}\\n' % (i, i) for i in range(n + 1, n + size + 1))
    n = store.append(asset, lines, source="f", mark=str(n + size)).head
    print(n, flush=True)
"""


def test_after_kill_9_everything_acknowledged_is_there(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    for kill in range(KILLS):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(path)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        acknowledged = 0
        for _ in range(20 + 37 * kill):
            acknowledged = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        acknowledged = max([acknowledged, *(int(line) for line in child.stdout.read().splitlines() if line.strip())])
        child.wait()
        store = SQLiteStore(path)
        found = [row["n"] for row in rows(store)]
        assert found == list(range(1, len(found) + 1))
        assert acknowledged <= len(found) <= acknowledged + 7
        assert store.mark("t", "f") == str(len(found))
        known = topic(Column("id", "varchar"), Column("n", "integer"), id="id")
        again = ndjson(*({"id": str(n), "n": n} for n in found[-9:]))
        assert store.append(known, again).duplicate == min(9, len(found))
        store.close()
