"""What a topic does with fields and values that its columns have no room for, and what its old events say for ever."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest

from tests.seeds import first_seed
from tests.stores.sqlite.ledger import ndjson, rows, topic, upsert
from tidemill.core.errors import DefinitionError
from tidemill.core.model import Asset, Column
from tidemill.core.ports import Receipt, Sending
from tidemill.core.schema import SchemaDrift
from tidemill.stores.sqlite import SQLiteStore
from tidemill.stores.sqlite.contract import COLUMNS_MAX
from tidemill.testing.faults import Injected

SEED = first_seed()


@pytest.fixture
def store() -> Iterator[SQLiteStore]:
    store = SQLiteStore()
    yield store
    store.close()


def of(policy: str, *columns: tuple[str, str], **words: Any) -> Asset:
    return topic(*(Column(*each) for each in columns), options={"schema": policy}, **words)


def grown(store: SQLiteStore, asset: Asset, *events: object) -> tuple[Receipt, Asset]:
    """Send events as a project does: with the columns that they need."""
    while True:
        try:
            return store.append(asset, ndjson(*events)), asset
        except SchemaDrift as drift:
            known = store.schemas(asset.name)
            if known and known[-1].columns != asset.columns:
                asset = replace(asset, columns=known[-1].columns)
            else:
                asset = replace(asset, columns=drift.columns)
                store.append(asset, b"")


def types(asset: Asset) -> dict[str, str]:
    return {column.name: column.type for column in asset.columns}


def seen(store: SQLiteStore, *names: str) -> list[tuple[Any, ...]]:
    return [tuple(row.get(name) for name in names) for row in rows(store)]


def reasons(receipt: Receipt) -> list[tuple[int, str, str]]:
    return [(each.index, each.column, each.reason) for each in receipt.refusals]


# The three words.


def test_strict_parks_an_event_with_a_field_that_is_not_declared(store: SQLiteStore) -> None:
    receipt = store.append(of("strict", ("n", "integer")), ndjson({"n": 1}, {"n": 2, "x": None}, {"n": 3}))
    assert reasons(receipt) == [(1, "x", "the field x is not declared")]
    assert seen(store, "n") == [(1,), (3,)]


def test_strict_knows_the_fields_that_identify_an_event(store: SQLiteStore) -> None:
    asset = upsert(options={"schema": "strict"})
    receipt = store.append(
        asset, ndjson({"k": 1, "v": 1, "x": "a"}, {"k": 1, "v": 2, "_deleted": True}, {"k": 2, "v": 1, "z": 1})
    )
    assert receipt.accepted == 2
    assert [each.column for each in receipt.refusals] == ["z"]


def test_ignore_leaves_a_field_in_its_event(store: SQLiteStore) -> None:
    assert store.append(of("ignore", ("n", "integer")), ndjson({"n": 1, "x": 5})).accepted == 1
    assert list(rows(store)[0]) == ["_rid", "_offset", "n"]


def test_evolve_takes_nothing_before_the_topic_has_the_columns(store: SQLiteStore) -> None:
    asset = of("evolve", ("n", "integer"))
    with pytest.raises(SchemaDrift) as caught:
        store.append(asset, ndjson({"n": 1}, {"n": 2, "x": "a"}))
    assert caught.value.columns == (Column("n", "integer"), Column("x", "varchar"))
    assert store.head("t") == 0
    (answer,) = store.append_all([Sending(asset, ndjson({"n": 1, "x": "a"}), 1)])
    assert isinstance(answer, SchemaDrift)


def test_evolve_adds_a_column_and_widens_a_type(store: SQLiteStore) -> None:
    asset = of("evolve", ("n", "integer"), ("price", "decimal(5,2)"))
    _, asset = grown(store, asset, {"n": 1, "price": "1.25"})
    _, asset = grown(store, asset, {"n": 1 << 40, "price": "10000.125", "flag": True, "more": {"a": [1]}})
    assert types(asset) == {"n": "bigint", "price": "decimal(8,3)", "flag": "boolean", "more": "json"}
    assert [(n, str(price), flag, more) for n, price, flag, more in seen(store, "n", "price", "flag", "more")] == [
        (1, "1.250", None, None),
        (1 << 40, "10000.125", True, '{"a":[1]}'),
    ]


@pytest.mark.parametrize(
    ("values", "type_"),
    [
        ([1, 2], "bigint"),
        ([1, 2.5], "double"),
        ([1, 1 << 70], "hugeint"),
        (["a", None], "varchar"),
        (["a", 1], "json"),
        ([None, True], "boolean"),
    ],
)
def test_a_new_column_has_the_type_that_its_batch_tells(store: SQLiteStore, values: list[object], type_: str) -> None:
    receipt, asset = grown(store, of("evolve", ("n", "integer")), *({"n": 1, "x": value} for value in values))
    assert types(asset)["x"] == type_
    assert receipt.accepted == len(values)


def test_a_null_is_no_reason_for_a_column(store: SQLiteStore) -> None:
    receipt, asset = grown(store, of("evolve", ("n", "integer")), {"n": 1, "x": None})
    assert (receipt.accepted, types(asset)) == (1, {"n": "integer"})


CANNOT = {
    "a text in a number": ({"n": "many", "x": 1}, "n", '"many" is not a lossless integer'),
    "a fraction in whole numbers": ({"b": 1.5, "x": 1}, "b", "1.5 is not a lossless bigint"),
    "a required value is missing": ({"n": None, "x": 1}, "n", "a required value is missing"),
    "an id of another type": ({"n": 1, "id": 1.5, "x": 1}, "id", "1.5 is not a lossless bigint"),
    "another case of a column": ({"n": 1, "N": 2}, "N", "the field N and the column n are one name in SQL"),
    "a name that is ours": ({"n": 1, "_rid": 2}, "_rid", "the field '_rid' cannot become a column by its name"),
}


@pytest.mark.parametrize("case", CANNOT)
def test_what_no_change_makes_fit_is_parked_and_changes_nothing(store: SQLiteStore, case: str) -> None:
    event, column, reason = CANNOT[case]
    columns = (Column("n", "integer", True), Column("b", "bigint"), Column("id", "bigint"))
    asset = topic(*columns, options={"schema": "evolve"}, id="id")
    receipt, after = grown(store, asset, {"n": 1, "id": 1}, {"id": 2, **event}, {"n": 3, "id": 3})
    assert [(index, name) for index, name, _ in reasons(receipt)] == [(1, column)]
    assert reason in receipt.refusals[0].reason
    assert receipt.accepted == 2
    assert after == asset


def test_two_new_fields_of_one_name_in_sql_become_no_columns(store: SQLiteStore) -> None:
    receipt, asset = grown(store, of("evolve", ("n", "integer")), {"n": 1, "x": 1, "X": 2}, {"n": 2, "y": 1})
    assert list(types(asset)) == ["n", "y"]
    assert receipt.accepted + receipt.parked == 2


def test_events_cannot_bring_columns_without_end(store: SQLiteStore) -> None:
    event = {f"f{number}": 1 for number in range(COLUMNS_MAX + 5)}
    receipt, asset = grown(store, of("evolve", ("n", "integer")), {"n": 1, "x": 1}, {"n": 2, **event})
    assert len(asset.columns) < COLUMNS_MAX
    assert receipt.accepted + receipt.parked == 2


def test_senders_that_know_an_older_schema_lose_nothing(store: SQLiteStore) -> None:
    """Each was given another column meanwhile; the topic has both, and what they send is checked by both."""
    asset = of("evolve", ("n", "integer"))
    grown(store, asset, {"n": 1, "x": 5})
    receipt, asset = grown(store, asset, {"n": 2, "y": "a"})
    assert receipt.accepted == 1
    assert seen(store, "n", "x", "y") == [(1, 5, None), (2, None, "a")]
    late = of("evolve", ("n", "integer"), ("y", "varchar"))
    receipt, _ = grown(store, late, {"n": 3, "y": "b", "x": 6}, {"n": 4, "y": "c", "x": "none"})
    assert (receipt.accepted, [each.column for each in receipt.refusals]) == (1, ["x"])
    assert seen(store, "x", "y")[-1] == (6, "b")
    assert store.append(late, ndjson({"n": 5})).accepted == 1
    assert list(rows(store)[-1]) == ["_rid", "_offset", "n", "x", "y"]


# Versions.


def versions(store: SQLiteStore) -> list[tuple[int, int, list[str]]]:
    return [(each.version, each.since, [column.name for column in each.columns]) for each in store.schemas("t")]


def test_every_version_is_kept_with_the_offset_it_begins_behind(store: SQLiteStore) -> None:
    _, asset = grown(store, of("evolve", ("n", "integer")), {"n": 1}, {"n": 2})
    _, asset = grown(store, asset, {"n": 3, "x": 1})
    grown(store, asset, {"n": 1 << 40})
    assert versions(store) == [(1, 0, ["n"]), (2, 2, ["n", "x"]), (3, 3, ["n", "x"])]
    assert [each.columns[0].type for each in store.schemas("t")] == ["integer", "integer", "bigint"]
    assert store.schemas("nobody") == []


def test_a_version_that_no_event_has_is_replaced(store: SQLiteStore) -> None:
    store.append(of("ignore", ("n", "integer")), b"")
    store.append(of("ignore", ("n", "integer"), ("x", "integer")), b"")
    assert versions(store) == [(1, 0, ["n", "x"])]


def test_a_field_that_is_declared_later_is_a_column_from_the_head_on(store: SQLiteStore) -> None:
    store.append(of("ignore", ("n", "integer")), ndjson({"n": 1, "x": "never checked"}))
    store.append(of("ignore", ("n", "integer"), ("x", "integer")), ndjson({"n": 2, "x": 5}))
    assert seen(store, "n", "x") == [(1, None), (2, 5)]


def test_a_column_that_comes_back_shows_its_old_values(store: SQLiteStore) -> None:
    both = of("ignore", ("n", "integer"), ("x", "integer"))
    store.append(both, ndjson({"n": 1, "x": 1}))
    store.append(of("ignore", ("n", "integer")), ndjson({"n": 2, "x": "not a column now"}))
    assert seen(store, "n", "x") == [(1, None), (2, None)]
    store.append(both, ndjson({"n": 3, "x": 3}))
    assert seen(store, "n", "x") == [(1, 1), (2, None), (3, 3)]


def test_a_column_comes_back_only_with_room_for_its_old_values(store: SQLiteStore) -> None:
    store.append(of("ignore", ("n", "integer"), ("x", "integer")), ndjson({"n": 1, "x": 1}))
    store.append(of("ignore", ("n", "integer")), ndjson({"n": 2}))
    with pytest.raises(DefinitionError, match="column x cannot become varchar: version 1 has it as integer"):
        store.append(of("ignore", ("n", "integer"), ("x", "varchar")), b"")
    store.append(of("ignore", ("n", "integer"), ("x", "bigint")), ndjson({"n": 3, "x": 1 << 40}))
    assert seen(store, "x") == [(1,), (None,), (1 << 40,)]


def test_an_upsert_topic_reads_old_rows_with_their_own_version(store: SQLiteStore) -> None:
    asset = upsert(options={"schema": "evolve"})
    _, asset = grown(store, asset, {"k": 1, "v": 1, "x": "a"}, {"k": 2, "v": 1, "x": "b"})
    _, asset = grown(store, asset, {"k": 1, "v": 2, "x": "c", "z": 7})
    found = [(row["k"], row["x"], row["z"]) for row in rows(store, "u")]
    assert sorted(found) == [(1, "c", 7), (2, "b", None)]


@pytest.mark.parametrize("draw", range(8))
def test_whatever_changes_every_event_says_what_it_said_when_it_was_taken(store: SQLiteStore, draw: int) -> None:
    """Random events into a topic that evolves: each row has the values of its event, and nulls beside them."""
    seed = SEED + draw
    random_ = random.Random(seed)
    asset = of("evolve", ("n", "tinyint"))
    sent: list[dict[str, Any]] = []
    for _ in range(30):
        batch = [_event(random_) for _ in range(random_.randint(1, 3))]
        receipt, asset = grown(store, asset, *batch)
        refused = {each.index for each in receipt.refusals}
        sent += [event for index, event in enumerate(batch) if index not in refused]
    found = rows(store)
    assert len(found) == len(sent)
    for row, event in zip(found, sent, strict=True):
        said = {name: value for name, value in row.items() if not name.startswith("_") and value is not None}
        said = {name: json.loads(value) if types(asset)[name] == "json" else value for name, value in said.items()}
        assert said == {name: value for name, value in event.items() if value is not None}, f"seed {seed}"
    assert len(versions(store)) == len({since for _, since, _ in versions(store)})


def _event(random_: random.Random) -> dict[str, Any]:
    event: dict[str, Any] = {"n": random_.choice([1, 200, 70_000, 1 << 40, None])}
    for name in random_.sample("abcdefgh", random_.randint(0, 2)):
        event[name] = random_.choice([None, True, f"text {name}"]) if name < "e" else ord(name)
    return event


def test_a_crash_while_a_schema_changes_leaves_the_one_before(tmp_path: Any) -> None:
    """At every statement: the columns and their version are there both, or neither."""
    for stop_at in range(1, 40):
        path = tmp_path / f"{stop_at}.db"
        store = SQLiteStore(path)
        grown(store, of("evolve", ("n", "integer")), {"n": 1})
        store.close()
        counted = iter(range(1, 1_000))

        def hook(_: str, counted: Iterator[int] = counted, stop_at: int = stop_at) -> None:
            if next(counted) == stop_at:
                raise Injected(f"at statement {stop_at}")

        has_crashed = False
        with contextlib.ExitStack() as opened:
            try:
                store = SQLiteStore(path, hook=hook)
                opened.callback(store.close)
                grown(store, of("evolve", ("n", "integer")), {"n": 2, "x": 5})
            except Injected:
                has_crashed = True
        store = SQLiteStore(path)
        names = [column.name for column in store.schemas("t")[-1].columns]
        assert names in (["n"], ["n", "x"])
        grown(store, of("evolve", ("n", "integer")), {"n": 3, "x": 6})
        assert seen(store, "n", "x")[0] == (1, None)
        assert seen(store, "n", "x")[-1] == (3, 6)
        store.close()
        if not has_crashed:
            return
    raise AssertionError("it never came to its end")
