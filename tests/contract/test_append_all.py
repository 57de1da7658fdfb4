"""Many senders, one commit: each gets the receipt of its own events, and nothing of it differs from sending alone."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.stores.sqlite.ledger import Clock, ndjson, stored, topic, upsert
from tidemill.core.errors import UserError
from tidemill.core.model import Asset, AssetKind
from tidemill.core.ports import Receipt, Refusal, Sending
from tidemill.stores.sqlite import SQLiteStore


@pytest.fixture
def store() -> Iterator[SQLiteStore]:
    store = SQLiteStore(now=Clock())
    yield store
    store.close()


def sending(asset: Asset, *events: Any, **more: Any) -> Sending:
    return Sending(asset, ndjson(*events).rstrip(b"\n"), len(events), **more)


def receipts(store: SQLiteStore, *sendings: Sending) -> list[Receipt]:
    found = store.append_all(sendings)
    assert all(isinstance(each, Receipt) for each in found), found
    return [each for each in found if isinstance(each, Receipt)]


EVENTS = st.sampled_from(
    [
        {"id": "a", "n": 1},
        {"id": "a", "n": 2},
        {"id": "b", "n": 1},
        {"id": "c", "n": 1, "receivedAt": "x"},
        {"id": "c", "n": 1},
        {"id": "d", "n": "not a number"},
        {"n": 1},
        "[1]",
    ]
)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(EVENTS, min_size=1, max_size=4), min_size=1, max_size=6))
def test_sent_together_gives_the_receipts_of_sent_one_after_the_other(batches: list[list[Any]]) -> None:
    together, alone = SQLiteStore(now=Clock()), SQLiteStore(now=Clock())
    asset = topic(id="id")
    try:
        found = receipts(together, *[sending(asset, *batch) for batch in batches])
        expected = [alone.append(asset, ndjson(*batch)) for batch in batches]
        assert found == expected
        assert stored(together) == stored(alone)
    finally:
        together.close()
        alone.close()


def test_a_duplicate_says_where_it_stood_and_what_it_repeats(store: SQLiteStore) -> None:
    asset = topic(id="id")
    store.append(asset, ndjson({"id": "a", "n": 1}, {"id": "b", "n": 2}))
    [first, second] = receipts(
        store, sending(asset, {"id": "z", "n": 1}, {"id": "b", "n": 2}), sending(asset, {"id": "a", "n": 1})
    )
    assert (first.accepted, first.duplicates, first.head) == (1, ((1, 2),), 3)
    assert (second.accepted, second.duplicates) == (0, ((0, 1),))


def test_a_stale_version_is_a_duplicate_of_nothing(store: SQLiteStore) -> None:
    store.append(upsert(), ndjson({"k": 1, "v": 5}))
    [receipt] = receipts(store, sending(upsert(), {"k": 1, "v": 4}))
    assert receipt.duplicates == ((0, 0),)


def test_a_strict_sending_is_refused_whole_and_leaves_no_trace(store: SQLiteStore) -> None:
    asset = topic(id="id")
    store.append(asset, ndjson({"id": "a", "n": 1}))
    [bad, other, good] = receipts(
        store,
        sending(asset, {"id": "b", "n": 1}, {"id": "a", "n": 2}, is_strict=True),
        sending(asset, {"id": "b", "n": 3}),
        sending(asset, {"id": "c", "n": 3}, is_strict=True),
    )
    assert (bad.accepted, bad.parked, [each.index for each in bad.refusals]) == (0, 0, [1])
    assert (other.accepted, good.accepted) == (1, 1)
    assert store.dead() == []
    assert len(stored(store)) == 3


def test_one_topics_wrong_definition_does_not_fail_the_others(store: SQLiteStore) -> None:
    store.touch("outside", "1")
    wrong = Asset("outside", AssetKind.TOPIC)
    [failed, fine] = store.append_all([sending(wrong, {"n": 1}), sending(topic(), {"n": 1})])
    assert isinstance(failed, UserError)
    assert isinstance(fine, Receipt)
    assert fine.accepted == 1
    assert len(stored(store)) == 1


def test_what_was_refused_before_is_parked_with_the_rest(store: SQLiteStore) -> None:
    refused = (Refusal(1, "it has no specversion", "{}"),)
    [receipt] = receipts(store, sending(topic(), {"n": 1}, refused=refused))
    assert (receipt.accepted, receipt.parked) == (1, 0)
    assert [letter["reason"] for letter in store.dead()] == ["it has no specversion"]


def test_a_note_of_the_receipt_is_kept_with_the_events(store: SQLiteStore) -> None:
    def keep(receipt: Receipt) -> tuple[str, str, Any]:
        return "answers", "k1", receipt.accepted

    receipts(store, sending(topic(), {"n": 1}, {"n": 2}, keep=keep), sending(topic(), {"n": 3}))
    assert store.notes("answers") == {"k1": 2}
