"""Every sentence of the `Log` port, and the rules about events (5, 6, 7, 14), as the ledger keeps them."""

from __future__ import annotations

import json
import random
import sqlite3
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tests.stores.sqlite.ledger import Clock, ndjson, rows, stored, topic, upsert, values
from tidemill.core.change import Images, Slice
from tidemill.core.errors import DefinitionError, UserError
from tidemill.core.model import Asset, AssetKind, Column, Home
from tidemill.core.ports import Receipt, Sending, Store
from tidemill.stores.sqlite import SQLiteStore
from tidemill.stores.sqlite.contract import DEPTH_MAX, EVENT_BYTES_MAX
from tidemill.testing.memory import MemoryStore
from tidemill.testing.simulator.definitions import asset_of
from tidemill.testing.simulator.outside import MemoryLog, Site
from tidemill.testing.simulator.words import SourceSpec

DAY = 86_400.0


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(clock: Clock) -> Iterator[SQLiteStore]:
    store = SQLiteStore(now=clock)
    yield store
    store.close()


def counts(receipt: Receipt) -> tuple[int, int, int]:
    assert len(receipt.refusals) == receipt.parked
    return receipt.accepted, receipt.duplicate, receipt.parked


# Events and receipts.


def test_events_get_the_next_offsets_in_their_order(store: SQLiteStore) -> None:
    assert store.append(topic(), ndjson({"n": 1}, {"n": 2})).head == 2
    assert store.append(topic(), ndjson({"n": 3})).head == 3
    assert [(row["_offset"], row["_rid"], row["n"]) for row in rows(store)] == [(1, "1", 1), (2, "2", 2), (3, "3", 3)]


def test_the_counts_of_a_receipt_add_up_to_what_was_sent(store: SQLiteStore) -> None:
    asset = topic(id="id")
    sent = ndjson({"id": "a", "n": 1}, {"id": "a", "n": 1}, {"id": "a", "n": 2}, {"id": "b", "n": 5.7}, "[1]", "{")
    assert counts(store.append(asset, sent)) == (1, 1, 4)


def test_blank_lines_are_no_events(store: SQLiteStore) -> None:
    assert counts(store.append(topic(), b'\n\n{"n":1}\r\n  \n{"n":2}')) == (2, 0, 0)
    assert store.append(topic(), b"").head == 2


def test_an_event_is_durable_when_the_call_returns(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "ledger.db")
    store.append(topic(), ndjson({"n": 1}))
    other = SQLiteStore(tmp_path / "ledger.db")
    assert [row["n"] for row in rows(other)] == [1]
    other.close()
    store.close()


def test_no_events_make_a_topic_known_with_its_shape(store: SQLiteStore) -> None:
    store.append(topic(), b"")
    assert rows(store) == []
    assert store.positions().heads["t"].offset == 0


def test_only_topics_take_events(store: SQLiteStore) -> None:
    with pytest.raises(UserError, match="external"):
        store.append(Asset("x", AssetKind.EXTERNAL), b"{}")


# What is stored.


def test_the_line_is_stored_as_it_was_sent(store: SQLiteStore) -> None:
    line = '{ "note" : "a\\u00e9",  "n":1, "extra": {"x": [1.10, 1e2]} }'
    store.append(topic(), line.encode())
    assert stored(store) == [line]


def test_a_line_is_rewritten_only_where_a_cast_changed_a_value(store: SQLiteStore) -> None:
    store.append(topic(), b'{"n": "5", "extra": 1.10, "big": 123456789012345678901234567890}')
    assert stored(store) == ['{"n":5,"extra":1.10,"big":123456789012345678901234567890}']


def test_without_columns_any_object_is_taken(store: SQLiteStore) -> None:
    asset = Asset("t", AssetKind.TOPIC)
    assert counts(store.append(asset, ndjson({"a": 1}, {"b": [1, {"c": None}]}, {}, "5", "null"))) == (3, 0, 2)
    assert [row["_rid"] for row in rows(store)] == ["1", "2", "3"]


# Refusals.


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("[1]", "must be a JSON object"),
        ('"x"', "must be a JSON object"),
        ("null", "must be a JSON object"),
        ('{"n":1', "line 2"),
        ('{"n":1}{"n":2}', "line 2"),
        ('{"n":NaN}', "malformed"),
        ('{"n":1,}', "malformed"),
        ('{"n":\x01}', "malformed"),
        ('{"note":"\\ud83d"}', "line 2"),
    ],
)
def test_a_malformed_line_is_refused_with_its_number_and_kept(store: SQLiteStore, line: str, reason: str) -> None:
    receipt = store.append(topic(), ndjson({"n": 1}, line, {"n": 2}))
    assert counts(receipt) == (2, 0, 1)
    [refusal] = receipt.refusals
    assert refusal.index == 1
    assert reason in refusal.reason
    assert "line 2" in refusal.reason
    [letter] = store.dead(asset="t")
    assert (letter["payload"], letter["stage"], letter["state"]) == (line, "door", "parked")
    assert [row["n"] for row in rows(store)] == [1, 2]


def test_an_object_over_two_lines_is_not_an_event(store: SQLiteStore) -> None:
    """Two objects on one line and one object on two: as many values as lines, and still three bad lines."""
    receipt = store.append(topic(), b'{"n":1}{"n":2}\n{"n":\n3}\n{"n":4}\n')
    assert counts(receipt) == (1, 0, 3)
    assert [row["n"] for row in rows(store)] == [4]


def test_bytes_that_are_no_text_are_refused(store: SQLiteStore) -> None:
    receipt = store.append(topic(), b'{"n":1}\n{"other":"\xff"}\n')
    assert counts(receipt) == (1, 0, 1)
    assert "UTF-8" in receipt.refusals[0].reason


def test_required_values_must_be_there(store: SQLiteStore) -> None:
    asset = topic(Column("n", "integer", required=True), Column("j", "json", required=True))
    sent = ndjson({"n": 1, "j": 1}, {"n": None, "j": 1}, {"j": 1}, {"n": 1, "j": None}, {"n": 1})
    assert counts(store.append(asset, sent)) == (1, 0, 4)
    assert counts(store.append(asset, sent[: sent.index(b"\n") + 1])) == (1, 0, 0)


def test_too_long_and_too_deep_events_are_refused(store: SQLiteStore) -> None:
    long = '{"note":"' + "x" * EVENT_BYTES_MAX + '"}'
    deep = '{"x":' + "[" * DEPTH_MAX + "]" * DEPTH_MAX + "}"
    fine = '{"x":' + "[" * (DEPTH_MAX - 1) + "]" * (DEPTH_MAX - 1) + "}"
    texts = '{"note":"' + "[" * 500 + '"}'
    receipt = store.append(topic(), ndjson(long, deep, fine, texts))
    assert counts(receipt) == (2, 0, 2)
    assert "bytes" in receipt.refusals[0].reason
    assert "deeper" in receipt.refusals[1].reason


def test_too_much_at_once_is_refused_whole(store: SQLiteStore) -> None:
    with pytest.raises(UserError, match="too many"):
        store.append(topic(), b" " * (257 << 20))


def test_a_refused_event_sent_again_counts_another_attempt(store: SQLiteStore, clock: Clock) -> None:
    store.append(topic(), b'{"n":5.7}')
    clock.at += 5
    store.append(topic(), b'{"n":5.7}')
    [letter] = store.dead()
    assert (letter["attempts"], letter["last_at"] - letter["first_at"], letter["column"]) == (2, 5, "n")


# Ids (rule 5).


def test_the_same_event_again_is_a_duplicate(store: SQLiteStore) -> None:
    asset = topic(id="id")
    sent = ndjson({"id": "a", "n": 1}, {"id": "b", "n": 2})
    assert counts(store.append(asset, sent)) == (2, 0, 0)
    assert counts(store.append(asset, sent)) == (0, 2, 0)
    assert store.positions().heads["t"].offset == 2


def test_content_is_compared_without_order_blanks_and_delivery_data(store: SQLiteStore) -> None:
    asset = topic(id="id")
    store.append(asset, b'{"id":"a","n":1,"note":"x","sentAt":"10:00","received_at":1}')
    again = b'{ "note": "\\u0078", "n": 1, "id": "a", "sentAt": "11:00", "headers": {"try": 2} }'
    assert counts(store.append(asset, again)) == (0, 1, 0)


def test_the_same_id_with_other_content_is_parked(store: SQLiteStore) -> None:
    asset = topic(id="id")
    store.append(asset, ndjson({"id": "a", "n": 1}))
    receipt = store.append(asset, ndjson({"id": "a", "n": 2}, {"id": "c", "n": 3}))
    assert counts(receipt) == (1, 0, 1)
    assert receipt.refusals[0].reason == "same id, other content"
    assert [row["n"] for row in rows(store)] == [1, 3]


def test_a_cast_does_not_make_the_content_another(store: SQLiteStore) -> None:
    asset = topic(id="id")
    store.append(asset, b'{"id":"a","n":"1"}')
    assert counts(store.append(asset, b'{"id":"a","n":1}')) == (0, 1, 0)


def test_doubles_inside_one_batch_are_found(store: SQLiteStore) -> None:
    sent = ndjson({"id": "a", "n": 1}, {"id": "a", "n": 1}, {"id": "a", "n": 2}, {"id": "b"})
    assert counts(store.append(topic(id="id"), sent)) == (2, 1, 1)


def test_an_event_without_an_id_is_refused_where_ids_are_declared(store: SQLiteStore) -> None:
    assert counts(store.append(topic(id="id"), ndjson({"n": 1}, {"id": None}, {"id": ""}))) == (1, 0, 2)


def test_ids_of_any_text_are_told_apart(store: SQLiteStore) -> None:
    ids = ["", " ", "a", "A", "é", "e\u0301", "\x00", "\x00a", "'", '"', "null", "1", "1.0", "x" * 5000]
    sent = ndjson(*({"id": each} for each in ids))
    assert counts(store.append(topic(id="id"), sent)) == (len(ids), 0, 0)
    assert counts(store.append(topic(id="id"), sent)) == (0, len(ids), 0)


def test_an_id_is_free_again_after_the_window(store: SQLiteStore, clock: Clock) -> None:
    asset = topic(id="id", dedup_window_seconds=DAY)
    store.append(asset, ndjson({"id": "a", "n": 1}))
    clock.at += DAY - 1
    assert counts(store.append(asset, ndjson({"id": "a", "n": 1}))) == (0, 1, 0)
    clock.at += 2
    assert counts(store.append(asset, ndjson({"id": "a", "n": 2}))) == (1, 0, 0)
    assert counts(store.append(asset, ndjson({"id": "a", "n": 1}))) == (0, 0, 1)


def test_ids_belong_to_their_topic(store: SQLiteStore) -> None:
    store.append(topic(id="id"), ndjson({"id": "a"}))
    assert counts(store.append(topic(id="id", name="other"), ndjson({"id": "a"}))) == (1, 0, 0)


def test_a_duplicate_is_known_although_its_block_is_trimmed(store: SQLiteStore) -> None:
    asset = topic(id="id")
    store.append(asset, ndjson({"id": "a", "n": 1, "sentAt": 1}))
    store.append(asset, ndjson({"id": "b", "n": 1}))
    assert store.trim("t", 1) == 1
    assert counts(store.append(asset, ndjson({"id": "a", "n": 1, "sentAt": 2}))) == (0, 1, 0)
    assert counts(store.append(asset, ndjson({"id": "a", "n": 2}))) == (0, 0, 1)


# Upsert topics (rule 6).


def test_a_stale_version_gets_no_offset_and_an_equal_one_wins(store: SQLiteStore) -> None:
    sent = ndjson({"k": 1, "v": 5, "x": "a"}, {"k": 1, "v": 4, "x": "stale"}, {"k": 1, "v": 5, "x": "b"})
    receipt = store.append(upsert(), sent)
    assert (counts(receipt), receipt.head) == ((2, 1, 0), 2)
    assert counts(store.append(upsert(), ndjson({"k": 1, "v": 3}, {"k": 1, "v": 6, "x": "c"}))) == (1, 1, 0)
    assert values(store, "u", Images.STATE) == [{"k": 1, "v": 6, "x": "c"}]


def test_versions_are_compared_as_their_type_says(store: SQLiteStore) -> None:
    """9 is before 10, also as text in a bigint column; 08:00+02:00 is before 07:00Z."""
    assert counts(store.append(upsert(), b'{"k":1,"v":"10"}\n{"k":1,"v":"9"}\n')) == (1, 1, 0)
    columns = (Column("k", "integer"), Column("v", "timestamptz"))
    asset = Asset("z", AssetKind.TOPIC, columns=columns, key=("k",), version="v", semantics=upsert().semantics)
    early, late = '{"k":1,"v":"2026-01-01T08:00:00+02:00"}', '{"k":1,"v":"2026-01-01T07:00:00Z"}'
    assert counts(store.append(asset, ndjson(late, early))) == (1, 1, 0)
    assert counts(store.append(asset, ndjson(early))) == (0, 1, 0)


def test_null_keys_and_null_versions_are_parked(store: SQLiteStore) -> None:
    receipt = store.append(upsert(), ndjson({"v": 1}, {"k": None, "v": 1}, {"k": 1}, {"k": 1, "v": 1}))
    assert counts(receipt) == (1, 0, 3)
    assert [refusal.column for refusal in receipt.refusals] == ["k", "k", "v"]


def test_a_deletion_is_a_tombstone(store: SQLiteStore) -> None:
    store.append(upsert(), ndjson({"k": 1, "v": 1, "x": "a"}, {"k": 2, "v": 1}, {"k": 1, "v": 2, "_deleted": True}))
    assert store.positions().heads["u"].rows == 1
    assert [row["k"] for row in rows(store, "u", images=Images.STATE)] == [2]
    found = [(row["_rid"], row["_offset"], row["_weight"], row["k"]) for row in rows(store, "u", 0, Images.CHANGES)]
    assert found == [("[2]", 2, 1, 2)]
    assert counts(store.append(upsert(), ndjson({"k": 1, "v": 1, "x": "stale"}))) == (0, 1, 0)
    store.append(upsert(), ndjson({"k": 1, "v": 3, "x": "back"}))
    assert store.positions().heads["u"].rows == 2


def changes_of(store: Store, from_: int, to: int) -> list[tuple[Any, ...]]:
    """(identity, offset, weight, k, v, n) of every image in (from_, to] of the topic `u`."""
    reader = store.begin(exclusive=False)
    try:
        table = pa.table(reader.read(Slice("u", from_, to, Images.CHANGES)))
        return list(
            zip(*(table.column(name).to_pylist() for name in ("_rid", "_offset", "_weight", *"kvn")), strict=True)
        )
    finally:
        reader.rollback()


@pytest.mark.parametrize("seed", range(20))
def test_a_change_of_an_upsert_topic_carries_the_exact_old_image(store: SQLiteStore, seed: int) -> None:
    """As the store in memory tells it, which keeps every image of a row, whatever part of the log is asked for."""
    chance, asset = random.Random(seed), asset_of(SourceSpec("u", "upsert"))
    memory = MemoryStore(Home.LEDGER)
    memory.claim()
    door, head = MemoryLog(memory, Site()), 0
    while head < 14:
        batch = [
            {"k": chance.choice("abc"), "v": chance.randrange(3), "n": head + number}
            for number in range(chance.randint(1, 4))
        ]
        sent = ndjson(*({**event, "_deleted": True} if chance.random() < 0.3 else event for event in batch))
        head = door.append(asset, sent).head
        assert store.append(asset, sent).head == head
    for from_ in range(head + 1):
        for to in range(max(from_, 1), head + 1):
            assert changes_of(store, from_, to) == changes_of(memory, from_, to), (from_, to)


def test_an_event_that_says_the_same_again_is_no_change(store: SQLiteStore) -> None:
    asset = upsert()
    store.append(asset, ndjson({"k": 1, "v": 1, "x": None}))
    store.append(asset, ndjson({"x": None, "v": 1, "k": 1}, {"k": 2, "v": 1, "x": "new"}))
    assert [(row["_rid"], row["_weight"]) for row in rows(store, "u", 1, Images.CHANGES)] == [("[2]", 1)]


def test_the_old_image_is_read_with_the_columns_of_its_time(store: SQLiteStore) -> None:
    store.append(upsert(), ndjson({"k": 1, "v": 1, "x": "a", "y": "not declared yet"}))
    wider = replace(upsert(), columns=(*upsert().columns, Column("y", "varchar")))
    store.append(wider, ndjson({"k": 1, "v": 2, "x": "b", "y": "c"}))
    found = rows(store, "u", 1, Images.CHANGES)
    assert [(row["_weight"], row["x"], row["y"]) for row in found] == [(-1, "a", None), (1, "b", "c")]


def test_a_row_whose_event_was_trimmed_away_is_removed_by_its_key(store: SQLiteStore) -> None:
    store.append(upsert(), ndjson({"k": 1, "v": 1, "x": "a"}))
    store.append(upsert(), ndjson({"k": 2, "v": 1, "x": "b"}))
    store.append(upsert(), ndjson({"k": 1, "v": 2, "_deleted": True}))
    store.trim("u", 1)
    found = rows(store, "u", 1, Images.CHANGES)
    assert [(row["_rid"], row["_weight"], row["k"], row["x"]) for row in found] == [
        ("[2]", 1, 2, "b"),
        ("[1]", -1, 1, None),
    ]


def test_a_ledger_of_the_schema_before_finds_its_old_images(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    store = SQLiteStore(path)
    store.append(upsert(), ndjson({"k": 1, "v": 1, "x": "a"}, {"k": 2, "v": 1, "x": "b"}))
    store.append(upsert(), ndjson({"k": 1, "v": 2, "x": "c"}, {"k": 2, "v": 2, "_deleted": True}))
    expected = rows(store, "u", 2, Images.CHANGES)
    store.close()
    with sqlite3.connect(path) as raw:
        raw.execute("drop table earlier")
        raw.execute("drop table schemas")
        raw.execute("drop table traces")
        raw.execute("alter table dead drop column traceparent")
        raw.execute("pragma user_version = 1")
    raw.close()
    store = SQLiteStore(path)
    assert rows(store, "u", 2, Images.CHANGES) == expected
    assert [row["x"] for row in expected] == ["a", "c", "b"]
    store.close()


def test_a_ledger_of_the_schema_before_knows_the_versions_of_its_topics(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    store = SQLiteStore(path)
    store.append(topic(), ndjson({"n": 1, "m": 1}))
    store.append(topic(*topic().columns, Column("m", "integer")), ndjson({"n": 2, "m": 2}))
    expected = rows(store)
    store.close()
    with sqlite3.connect(path) as raw:
        raw.execute("drop table schemas")
        raw.execute("drop table traces")
        raw.execute("alter table dead drop column traceparent")
        raw.execute("pragma user_version = 2")
    raw.close()
    store = SQLiteStore(path)
    assert rows(store) == expected
    assert [(each.version, each.since) for each in store.schemas("t")] == [(1, 0), (2, 1)]
    assert [row["m"] for row in expected] == [None, 2]
    store.close()


def test_a_ledger_of_the_schema_before_keeps_traces_from_now_on(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    store = SQLiteStore(path)
    store.append(topic(), ndjson({"n": 1}, {"n": "x"}))
    store.close()
    with sqlite3.connect(path) as raw:
        raw.execute("drop table traces")
        raw.execute("alter table dead drop column traceparent")
        raw.execute("pragma user_version = 3")
    raw.close()
    store = SQLiteStore(path)
    store.append_all([Sending(topic(), ndjson({"n": 2}, {"n": "y"}), traceparent="a")])
    assert store.traces("t", [(0, 1), (1, 2), (0, 2)]) == [[], ["a"], ["a"]]
    assert [letter["traceparent"] for letter in store.dead()] == ["a", ""]
    store.close()


def test_events_of_many_senders_in_one_commit_keep_each_their_own_trace(store: SQLiteStore) -> None:
    asset = topic(id="id")
    sent = [
        Sending(asset, ndjson({"id": "a", "n": 1}), 1, traceparent="one"),
        Sending(asset, ndjson({"id": "b", "n": "x"}, {"id": "c", "n": 1}), 2, traceparent="two"),
        Sending(asset, ndjson({"id": "a", "n": 1}), 1, traceparent="repeats"),
        Sending(asset, ndjson({"id": "d", "n": 1}), 1),
        Sending(asset, ndjson({"id": "e", "n": "y"}), 1, traceparent="four"),
    ]
    receipts = store.append_all(sent)
    assert [receipt.head for receipt in receipts if isinstance(receipt, Receipt)] == [1, 2, 2, 3, 3]
    assert store.traces("t", [(offset, offset + 1) for offset in range(4)]) == [["one"], ["two"], [], []]
    assert store.traces("t", [(0, 3), (1, 3), (2, 3)]) == [["two", "one"], ["two"], []]
    letters = {json.loads(letter["payload"])["id"]: letter["traceparent"] for letter in store.dead()}
    assert letters == {"b": "two", "e": "four"}


def test_the_newest_ten_traces_of_a_range_are_told_and_none_of_another_asset(store: SQLiteStore) -> None:
    for number in range(15):
        store.append_all([Sending(topic(), ndjson({"n": 1}, {"n": 2}), traceparent=f"t{number // 2}")])
    store.append_all([Sending(replace(topic(), name="other"), ndjson({"n": 1}), traceparent="other")])
    assert store.traces("t", [(0, 30), (0, 5), (29, 30), (4, 4)]) == [
        ["t7", "t6", "t5", "t4", "t3", "t2", "t1", "t0"],
        ["t1", "t0"],
        ["t7"],
        [],
    ]
    for number in range(12):
        store.append_all([Sending(topic(), ndjson({"n": 1}), traceparent=f"u{number}")])
    assert store.traces("t", [(0, 42)]) == [[f"u{number}" for number in range(11, 1, -1)]]
    assert store.traces("nothing", [(0, 9)]) == [[]]


def test_a_trace_goes_with_its_events(store: SQLiteStore) -> None:
    for name in ("a", "b", "c"):
        store.append_all([Sending(topic(), ndjson({"n": 1}, {"n": 2}), traceparent=name)])
    store.trim("t", 4)
    assert store.traces("t", [(0, 6)]) == [["c"]]
    store.drop(assets=["t"])
    assert store.traces("t", [(0, 6)]) == [[]]


def test_without_a_version_the_last_one_wins(store: SQLiteStore) -> None:
    asset = upsert(version="")
    store.append(asset, ndjson({"k": 1, "x": "a"}, {"k": 1, "x": "b"}))
    assert [row["x"] for row in rows(store, "u")] == ["b"]


def test_an_upsert_topic_with_ids_dedups_before_it_compares(store: SQLiteStore) -> None:
    asset = upsert(id="e")
    sent = ndjson({"e": "1", "k": 1, "v": 1}, {"e": "2", "k": 1, "v": 2})
    assert counts(store.append(asset, sent)) == (2, 0, 0)
    assert counts(store.append(asset, sent)) == (0, 2, 0)


ROLES = {
    "the id is the key": {"id": "k", "version": "v"},
    "the id is the version": {"id": "v", "version": "v"},
    "the key is the version": {"version": "k"},
    "one column is all": {"id": "k", "version": "k"},
}


@pytest.mark.parametrize("roles", ROLES.values(), ids=ROLES)
def test_one_column_may_be_key_version_and_id(store: SQLiteStore, roles: dict[str, str]) -> None:
    asset = upsert(**roles)
    sent = ndjson({"k": 1, "v": 5}, {"k": 2, "v": 6})
    assert counts(store.append(asset, sent)) == (2, 0, 0)
    assert [(row["k"], row["v"]) for row in rows(store, "u", images=Images.STATE)] == [(1, 5), (2, 6)]
    assert counts(store.append(asset, sent)) == ((0, 2, 0) if "id" in roles else (2, 0, 0))


def test_an_append_topic_may_name_its_id_as_key(store: SQLiteStore) -> None:
    asset = topic(id="n", key=("n",))
    assert counts(store.append(asset, ndjson({"n": 1}, {"n": 2}, {"n": 1}))) == (2, 1, 0)


# Marks, touches, shapes.


def test_a_mark_is_kept_with_its_block_and_source(store: SQLiteStore) -> None:
    assert store.mark("t", "file") == ""
    store.append(topic(), ndjson({"n": 1}), source="file", mark="10")
    store.append(topic(), b'{"n":5.7}', source="file", mark="20")
    store.append(topic(), ndjson({"n": 1}), source="other", mark="5")
    assert (store.mark("t", "file"), store.mark("t", "other"), store.mark("x", "file")) == ("20", "5", "")


def test_touching_with_the_same_version_is_a_duplicate(store: SQLiteStore) -> None:
    told = [store.touch("x", version) for version in ("1", "1", "2", "1", "", "")]
    assert [(receipt.accepted, receipt.duplicate, receipt.head) for receipt in told] == [
        (1, 0, 1),
        (0, 1, 1),
        (1, 0, 2),
        (1, 0, 3),
        (1, 0, 4),
        (1, 0, 5),
    ]
    assert [row["version"] for row in rows(store, "x")] == ["1", "2", "1", "", ""]


def test_columns_may_be_added_from_the_head_on(store: SQLiteStore) -> None:
    """What older events happen to have under that name stays invisible, of whatever type it is."""
    store.append(topic(Column("a", "integer")), ndjson({"a": 1, "b": "not a number"}))
    wider = topic(Column("a", "bigint"), Column("b", "integer"))
    store.append(wider, ndjson({"a": 2**40, "b": 7}))
    assert values(store) == [{"a": 1, "b": None}, {"a": 2**40, "b": 7}]
    assert store.positions().heads["t"].generation == 1


@pytest.mark.parametrize("columns", [(Column("a", "smallint"),), (Column("a", "varchar"),), (Column("a", "double"),)])
def test_a_type_with_events_is_never_narrowed(store: SQLiteStore, columns: tuple[Column, ...]) -> None:
    store.append(topic(Column("a", "bigint")), ndjson({"a": 1}))
    with pytest.raises(DefinitionError, match="cannot become"):
        store.append(topic(*columns), ndjson({"a": 2}))
    assert store.positions().heads["t"].offset == 1


def test_the_semantics_of_a_topic_with_events_are_fixed(store: SQLiteStore) -> None:
    store.append(upsert(), ndjson({"k": 1, "v": 1}))
    with pytest.raises(DefinitionError):
        store.append(upsert(key=("k", "x")), ndjson({"k": 1, "v": 2, "x": "a"}))


# Many callers.


def test_every_caller_of_a_group_gets_its_own_receipt(store: SQLiteStore) -> None:
    asset = topic(id="id")
    receipts: dict[int, Receipt] = {}

    def send(caller: int) -> None:
        sent = ndjson(*({"id": f"{caller}-{n}", "n": caller} for n in range(caller)), {"id": "shared"})
        receipts[caller] = store.append(asset, sent)

    threads = [threading.Thread(target=send, args=(caller,)) for caller in range(1, 13)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sum(receipt.duplicate for receipt in receipts.values()) == 11
    assert all(receipt.accepted + receipt.duplicate == caller + 1 for caller, receipt in receipts.items())
    found = rows(store)
    assert [row["_offset"] for row in found] == list(range(1, 12 * 13 // 2 + 2))
    assert {caller: sum(row["n"] == caller for row in found) for caller in receipts} == {c: c for c in receipts}
