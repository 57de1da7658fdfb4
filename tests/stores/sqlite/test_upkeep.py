"""Upkeep: trimming, forgetting ids, the write-ahead log, copies of a live file."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from tests.stores.sqlite.ledger import Clock, ndjson, rows, topic, upsert
from tidemill.core.change import Appended, Images, Slice
from tidemill.core.errors import Expired, InvariantError, StateCorrupt, UserError
from tidemill.core.ports import RunRecord, Table
from tidemill.stores.sqlite import SQLiteStore
from tidemill.testing.contract.probe import COLUMNS
from tidemill.testing.contract.probe import rows as given

DAY = 86_400.0


def count(store: SQLiteStore, table: str) -> int:
    with store._reads() as connection:
        found: int = connection.one(f"select count(*) from {table}")[0]
        return found


def test_only_whole_blocks_are_trimmed() -> None:
    store = SQLiteStore()
    for low in (1, 4):
        store.append(topic(), ndjson(*({"n": n} for n in range(low, low + 3))))
    assert store.trim("t", 2) == 0
    assert store.trim("t", 4) == 3
    with pytest.raises(Expired, match="`t` has expired up to offset 3"):
        rows(store)
    assert (store.positions().heads["t"].rows, store.positions().heads["t"].offset) == (3, 6)
    with pytest.raises(Expired, match="`t` has expired up to offset 3"):
        rows(store, from_=2)
    assert [row["n"] for row in rows(store, from_=3)] == [4, 5, 6]
    store.close()


def test_trimming_an_upsert_topic_keeps_its_current_rows() -> None:
    store = SQLiteStore()
    for event in ({"k": 1, "v": 1}, {"k": 2, "v": 1}, {"k": 1, "v": 2}, {"k": 3, "v": 1}):
        store.append(upsert(), ndjson(event))
    before = rows(store, "u", images=Images.STATE)
    assert store.trim("u", 4) == 1
    assert rows(store, "u", images=Images.STATE) == before
    store.close()


def test_ids_are_forgotten_after_the_window() -> None:
    clock = Clock()
    store = SQLiteStore(now=clock)
    asset = topic(id="id", dedup_window_seconds=DAY)
    for day in range(12):
        store.append(asset, ndjson(*({"id": f"{day}-{n}"} for n in range(1500))))
        clock.at += DAY / 2
    assert count(store, "ids") <= 4 * 1500
    store.close()


def test_the_write_ahead_log_stays_short(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "ledger.db")
    line = ndjson(*({"n": n, "note": f"{n * 7919 % 100_003:x}" * 30} for n in range(5_000)))
    longest = 0
    for _ in range(60):
        store.append(topic(), line)
        longest = max(longest, (tmp_path / "ledger.db-wal").stat().st_size)
    store.close()
    assert longest < 140 << 20
    assert not (tmp_path / "ledger.db-wal").exists()


def test_a_copy_of_a_live_ledger_is_one_moment_of_it(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "ledger.db")
    ends = threading.Event()

    def write() -> None:
        while not ends.is_set():
            store.append(topic(), ndjson({"n": 1}, {"n": 2}), source="f", mark=str(store.positions().heads["t"].offset))

    store.append(topic(), ndjson({"n": 1}, {"n": 2}), source="f", mark="0")
    writer = threading.Thread(target=write)
    writer.start()
    for number in range(3):
        store.backup(tmp_path / f"{number}.db")
        twin = SQLiteStore(tmp_path / f"{number}.db")
        head = twin.positions().heads["t"].offset
        assert len(rows(twin)) == head
        assert int(twin.mark("t", "f")) == head - 2
        twin.close()
    ends.set()
    writer.join(30)
    store.close()


def test_asking_for_the_ledger_twice_in_one_thread_is_an_error_and_no_dead_lock() -> None:
    store = SQLiteStore()
    transaction = store.begin()
    for ask in (store.begin, lambda: store.append(topic(), b"{}"), lambda: store.note("a", "b", 1)):
        with pytest.raises(InvariantError, match="already holds"):
            ask()
    transaction.rollback()
    store.note("a", "b", 1)
    store.close()


def test_claiming_ends_the_threads_own_open_transaction() -> None:
    store = SQLiteStore()
    store.claim()
    transaction = store.begin()
    store.claim()
    with pytest.raises(Exception, match="took over"):
        transaction.commit()
    store.close()


def test_what_a_job_writes_to_a_topic_are_events() -> None:
    """In the order given, also from a snapshot; a topic takes nothing back."""
    store = SQLiteStore()
    asset = topic(*COLUMNS, name="out")
    store.append(asset, b"")
    for exclusive in (True, False):
        transaction = store.begin(exclusive=exclusive)
        store_rows = given((1, "b"), (2, "a"), parent=["p", "q"], ordinal=[0, 0])
        assert transaction.write("out", Appended(store_rows)) == 2
        transaction.commit()
    assert [(row["_offset"], row["id"], row["name"]) for row in rows(store, "out")] == [
        (1, 1, "b"),
        (2, 2, "a"),
        (3, 1, "b"),
        (4, 2, "a"),
    ]
    assert store.append(asset, ndjson({"id": 9})).head == 5
    store.close()


def test_a_table_of_rows_takes_no_events() -> None:
    store = SQLiteStore()
    transaction = store.begin()
    transaction.define(Table("t", COLUMNS))
    transaction.write("t", Appended(given((1, "a"))))
    transaction.commit()
    with pytest.raises(UserError, match="something else"):
        store.append(topic(), b"{}")
    store.close()


def test_a_snapshot_of_a_topic_does_not_move_while_events_come() -> None:
    store = SQLiteStore()
    store.append(topic(), ndjson({"n": 1}))
    reader = store.begin(exclusive=False)
    assert reader.head("t").offset == 1
    store.append(topic(), ndjson({"n": 2}))
    assert reader.head("t").offset == 1
    with pytest.raises(StateCorrupt):
        reader.read(Slice("t", 0, 2, Images.ADDED))
    reader.rollback()
    store.close()


# Records.


def test_run_reports_are_replaced_by_run_and_listed_newest_first() -> None:
    store = SQLiteStore()
    first = RunRecord("r1", "a", "running", inputs={"t": (0, 5)}, started_at=1.0, readiness={"because": ["x"]})
    store.record([first, RunRecord("r2", "b", "failed", started_at=2.0, error="no")])
    store.record([RunRecord("r1", "a", "succeeded", inputs={"t": (0, 5)}, started_at=1.0, finished_at=3.0)])
    assert [report.run for report in store.runs()] == ["r2", "r1"]
    assert [report.run for report in store.runs(limit=1)] == ["r2"]
    assert [report.state for report in store.runs(job="a")] == ["succeeded"]
    assert store.runs(state="running") == store.runs(run="r9") == []
    assert store.runs(run="r1")[0].inputs == {"t": (0, 5)}
    store.close()


def test_notes_are_kept_by_topic_and_name_until_none() -> None:
    store = SQLiteStore()
    for name, value in (("b", {"x": [1, None]}), ("a", "text"), ("b", 2), ("c", False)):
        store.note("paused", name, value)
    store.note("mode", "a", "batch")
    store.note("paused", "a", None)
    store.note("paused", "unknown", None)
    assert store.notes("paused") == {"b": 2, "c": False}
    assert store.notes("nothing") == {}
    store.close()


def test_dead_letters_are_listed_newest_first_by_asset() -> None:
    clock = Clock()
    store = SQLiteStore(now=clock)
    for name in ("t", "other", "t"):
        clock.at += 1
        store.append(topic(name=name), f'{{"n":"bad{clock.at}"}}'.encode())
    letters = store.dead(asset="t")
    assert [letter["last_at"] for letter in letters] == [1_000_003.0, 1_000_001.0]
    assert {"id", "asset", "job", "stage", "reason", "payload", "attempts", "state"} <= letters[0].keys()
    assert len(store.dead()) == 3
    assert len(store.dead(limit=1)) == 1
    store.close()


def test_what_is_old_enough_ends_with_the_first_block_that_is_not() -> None:
    """By when it was recorded; a clock that was set back makes nothing older than what came before it."""
    clock = Clock()
    store = SQLiteStore(now=clock)
    began = clock.at
    for day in (0, 1, 5, 2):
        clock.at = began + day * DAY
        store.append(topic(), ndjson({"n": day}, {"n": day}))
    assert [store.due("t", began + days * DAY, 100) for days in (-1, 0, 1.5, 4, 5)] == [0, 2, 4, 4, 8]
    assert store.due("t", began + 9 * DAY, 3) == 4
    assert [store.recorded_at("t", offset) for offset in (1, 4, 8, 9)] == [began, began + DAY, began + 2 * DAY, None]
    assert store.expire("t", 4) == 4
    assert (store.due("t", began + 9 * DAY, 3), store.recorded_at("t", 4)) == (8, None)
    assert (store.due("nothing", 0.0, 1), store.recorded_at("nothing", 1)) == (0, None)
    store.close()


def test_an_event_that_was_replaced_after_the_boundary_does_not_expire() -> None:
    """Who reads on from there is told the exact row that was there."""
    store = SQLiteStore()
    for event in ({"k": 1, "v": 1, "x": "a"}, {"k": 1, "v": 2, "x": "b"}, {"k": 2, "v": 1, "x": "c"}):
        store.append(upsert(), ndjson(event))
    store.append(upsert(), ndjson({"k": 1, "v": 3, "x": "d"}))
    assert store.expire("u", 3) == 1
    changed = rows(store, "u", from_=3, images=Images.CHANGES)
    assert [(row["_weight"], row["x"]) for row in changed] == [(-1, "b"), (1, "d")]
    assert store.positions().heads["u"].expired == 0
    assert store.expire("u", 4) == 1
    assert sorted(row["x"] for row in rows(store, "u", images=Images.STATE)) == ["c", "d"]
    store.close()


def test_a_key_that_never_changes_keeps_what_came_after_it_until_it_is_sent_again() -> None:
    """As docs/retention.md says: the log goes from its oldest end, up to the first block that holds a current row."""
    store = SQLiteStore()
    for event in ({"k": 1, "v": 1}, *({"k": 2, "v": version} for version in range(1, 6))):
        store.append(upsert(), ndjson(event))
    assert store.expire("u", 6) == 0
    store.append(upsert(), ndjson({"k": 1, "v": 1}))
    assert store.expire("u", 7) == 5
    assert [(row["k"], row["v"]) for row in rows(store, "u", images=Images.STATE)] == [(2, 5), (1, 1)]
    store.close()


def test_an_event_that_has_expired_is_not_found_by_its_id() -> None:
    store = SQLiteStore()
    asset = topic(id="id")
    store.append(asset, ndjson({"id": "a"}))
    store.append(asset, ndjson({"id": "b"}))
    store.expire("t", 1)
    assert store.event_of(asset, {"id": "a"}) is None
    assert store.event_of(asset, {"id": "b"}).num_rows == 1
    assert store.append(asset, ndjson({"id": "a"})).duplicate == 1
    store.close()
