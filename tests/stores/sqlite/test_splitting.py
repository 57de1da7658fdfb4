"""However the same events are cut into batches, the topic ends the same; and planted bugs do not get through."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.stores.sqlite.ledger import Clock, ndjson, rows, stored, topic, upsert
from tidemill.core.change import Images, Slice
from tidemill.core.model import Asset, Column
from tidemill.stores.sqlite import SQLiteStore, blocks, contract, topics

IDS = st.sampled_from(["a", "b", "c", "d", None])
NUMBERS = st.sampled_from([1, 2, "3", 4.0, 5.7, "x", None, 2**31])
EVENTS = st.lists(
    st.one_of(
        st.fixed_dictionaries({"id": IDS, "n": NUMBERS}),
        st.fixed_dictionaries({"id": IDS, "n": NUMBERS, "at": st.sampled_from(["2026-01-01T00:00:00Z", "2026-01-01"])}),
        st.sampled_from(["[1]", "{", '{"id":"a"}{"id":"b"}']),
    ),
    max_size=14,
)
KEYED = st.lists(
    st.fixed_dictionaries(
        {"k": st.sampled_from([1, 2, "1", None]), "v": st.sampled_from([1, 2, 3, "2", None])},
        optional={"x": st.sampled_from(["a", "b"]), "_deleted": st.booleans()},
    ),
    max_size=14,
)
CUTS = st.lists(st.integers(0, 14), max_size=6)
PLAIN = topic(Column("id", "varchar"), Column("n", "integer"), Column("at", "timestamp"))
WITH_IDS = topic(Column("id", "varchar"), Column("n", "integer"), Column("at", "timestamp"), id="id")
few = settings(max_examples=40, deadline=None, database=None, print_blob=True)


def final(asset: Asset, events: list[Any], cuts: list[int]) -> tuple[Any, ...]:
    """What a topic holds after its events came in these batches."""
    store = SQLiteStore(now=Clock())
    places = sorted({min(cut, len(events)) for cut in cuts} | {0, len(events)})
    totals = [0, 0, 0]
    try:
        for low, high in pairwise(places):
            receipt = store.append(asset, ndjson(*events[low:high]))
            assert receipt.accepted + receipt.duplicate + receipt.parked == high - low
            totals = [a + b for a, b in zip(totals, (receipt.accepted, receipt.duplicate, receipt.parked), strict=True)]
        if not store.positions().heads:
            return ()
        letters = sorted((letter["payload"], letter["attempts"], letter["column"]) for letter in store.dead())
        state = rows(store, asset.name, images=Images.STATE)
        return totals, stored(store, asset.name), state, rows(store, asset.name), store.positions(), letters
    finally:
        store.close()


@pytest.mark.parametrize("asset", [PLAIN, WITH_IDS], ids=["plain", "with ids"])
def test_any_cuts_give_the_same_topic(asset: Asset) -> None:
    @few
    @given(EVENTS, CUTS)
    def law(events: list[Any], cuts: list[int]) -> None:
        assert final(asset, events, cuts) == final(asset, events, list(range(15))) == final(asset, events, [])

    law()


@few
@given(KEYED, CUTS)
def test_any_cuts_give_the_same_upsert_topic(events: list[Any], cuts: list[int]) -> None:
    assert final(upsert(), events, cuts) == final(upsert(), events, list(range(15))) == final(upsert(), events, [])


@few
@given(st.lists(st.integers(1, 400), min_size=1, max_size=5), st.integers(0, 1000), st.integers(0, 1000))
def test_any_slice_of_any_blocks_is_exact(sizes: list[int], low: int, high: int) -> None:
    store = SQLiteStore()
    try:
        total = 0
        for size in sizes:
            store.append(topic(), ndjson(*({"n": n, "note": "x" * 400} for n in range(total + 1, total + size + 1))))
            total += size
        low, high = sorted((min(low, total), min(high, total)))
        reader = store.begin(exclusive=False)
        table = reader.read(Slice("t", low, high, Images.ADDED))
        expected = list(range(low + 1, high + 1))
        assert table.column("n").to_pylist() == expected  # type: ignore[attr-defined]
        assert table.column("_offset").to_pylist() == expected  # type: ignore[attr-defined]
        assert table.column("_rid").to_pylist() == [str(offset) for offset in expected]  # type: ignore[attr-defined]
        reader.rollback()
    finally:
        store.close()


# Planted bugs, each of which the tests above must catch.


def counts_no_line_breaks(self: contract.Contract, piece: bytes, count: int) -> bool:
    """As many values as lines is enough."""
    return True


def forgets_the_batch(connection: Any, number: int, wanted: str, column: str, values: Any) -> list[Any]:
    """Nothing is known of earlier ids and keys."""
    return []


def ignores_the_cut(connection: Any, number: int, from_: int, to: int) -> Any:
    """Whole blocks, whatever was asked for."""
    for first, count, payload in WHOLE(connection, number, 0, 2**40 - 1):
        if first <= to and first + count > from_:
            yield first, count, payload


WHOLE = blocks.payloads


def swapped(room: Any, name: str, bug: Any) -> Any:
    """The bug in place of what is right, for the time of a test."""
    right = getattr(room, name)
    setattr(room, name, bug)
    return right


@pytest.mark.parametrize(
    ("room", "name", "bug", "story"),
    [
        (contract.Contract, "_is_plain", counts_no_line_breaks, "lines"),
        (topics, "_matching", forgets_the_batch, "ids"),
        (topics, "_matching", forgets_the_batch, "versions"),
        (blocks, "payloads", ignores_the_cut, "slices"),
    ],
)
def test_a_planted_bug_is_caught(room: Any, name: str, bug: Any, story: str) -> None:
    right = swapped(room, name, bug)
    try:
        assert not is_right(story)
    finally:
        setattr(room, name, right)
    assert is_right(story)


def is_right(story: str) -> bool:
    """One example of each law, as small as it can be."""
    try:
        if story == "lines":
            events = ['{"id":"a"}{"id":"b"}', '{"id":', '"c"}']
            return final(PLAIN, events, []) == final(PLAIN, events, [1, 2])
        if story == "ids":
            same = [{"id": "a", "n": 1}, {"id": "a", "n": 1}]
            return final(WITH_IDS, same, []) == final(WITH_IDS, same, [1])
        if story == "versions":
            stale = [{"k": 1, "v": 2}, {"k": 1, "v": 1}]
            return final(upsert(), stale, []) == final(upsert(), stale, [1])
        store = SQLiteStore()
        store.append(topic(), ndjson({"n": 1}, {"n": 2}, {"n": 3}))
        found = [row["n"] for row in rows(store, from_=1)]
        store.close()
        return found == [2, 3]
    except Exception:  # noqa: BLE001 - a bug may show itself in any way
        return False
