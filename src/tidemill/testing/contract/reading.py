"""What a slice shows, and what trimming forgets."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from tidemill.core.change import OFFSET, RID, WEIGHT, Appended, Became, Images, Replaced, Slice
from tidemill.core.errors import NotFound, StateCorrupt
from tidemill.core.model import Column
from tidemill.core.ports import Head, Store, Table
from tidemill.testing.contract.making import Making
from tidemill.testing.contract.probe import (
    COLUMNS,
    changes,
    contents,
    head,
    lines,
    reading,
    rows,
    state,
    state_in,
    write,
    writing,
)

__all__ = ["Reading"]

UTC = dt.UTC
KINDS: dict[str, tuple[Any, list[Any]]] = {
    "boolean": (pa.bool_(), [True, False, None]),
    "tinyint": (pa.int8(), [-128, 127, None]),
    "integer": (pa.int32(), [-(2**31), 2**31 - 1, None]),
    "bigint": (pa.int64(), [-(2**63), 2**63 - 1, None]),
    "hugeint": (pa.decimal128(38, 0), [Decimal(10**37), Decimal(-(10**37)), None]),
    "double": (pa.float64(), [0.1, -1e308, None]),
    "decimal(18,3)": (pa.decimal128(18, 3), [Decimal("123456789012345.678"), Decimal("-0.001"), None]),
    "varchar": (pa.string(), ["it's", "x" * 1_000_000, None]),
    "blob": (pa.binary(), [b"\x00\xff", b"", None]),
    "date": (pa.date32(), [dt.date(1, 1, 1), dt.date(9999, 12, 31), None]),
    "timestamp": (pa.timestamp("us"), [dt.datetime(2024, 2, 29, 1, 2, 3, 4), None]),  # noqa: DTZ001 - it has none
    "timestamp with time zone": (pa.timestamp("us", tz="UTC"), [dt.datetime(2024, 1, 1, 12, 0, tzinfo=UTC), None]),
    "bigint[]": (pa.list_(pa.int64()), [[1, None, 3], [], None]),
    "varchar[]": (pa.list_(pa.string()), [["a, b", "'"], ["a", "b"], None]),
}


class Reading(Making):
    """Slices, positions, exact values, trimming and dropping."""

    @staticmethod
    def _story(store: Store) -> None:
        """Offsets 2-4: 1, 2, 3 come; 5: 1 changes; 6: 2 goes; 7: 1 changes back; 8: 3 changes; 9: 4 comes."""
        write(store, "t", Became(rows((1, "a"), (2, "b"), (3, "c")), ("id",)))
        for given in (
            rows((1, "A"), (2, "b"), (3, "c")),
            rows((1, "A"), (3, "c")),
            rows((1, "a"), (3, "c")),
            rows((1, "a"), (3, "C")),
            rows((1, "a"), (3, "C"), (4, "d")),
        ):
            assert write(store, "t", Became(given, ("id",))) == 1

    def test_the_state_is_right_at_every_offset(self, store: Store) -> None:
        """`STATE` shows the rows as they are at `to`; before the first change there is none."""
        self._story(store)
        names = [sorted(str(values["name"]) for values in state(store, "t", at).values()) for at in range(10)]
        expected = ["", "", "a", "ab", "abc", "Abc", "Ac", "ac", "Ca", "Cad"]
        assert names == [sorted(text) for text in expected]

    def test_a_change_set_is_consolidated(self, store: Store) -> None:
        """Per row one old and one new image, never equal; a row has the offset of its last change."""
        self._story(store)
        found = [(c.offset, c.old and c.old["name"], c.new and c.new["name"]) for c in changes(store, "t", 4, 9)]
        assert sorted(found) == [(6, "b", None), (8, "c", "C"), (9, None, "d")]
        assert [c.new and c.new["name"] for c in changes(store, "t", 4, 5)] == ["A"]
        assert {(c.old is None) for c in changes(store, "t", 0, 9)} == {True}

    def test_a_row_that_came_and_went_within_is_no_change(self, store: Store) -> None:
        """And a row that was changed and then went has its last offset."""
        write(store, "t", Became(rows((1, "a")), ("id",)))
        for given in (rows((1, "b"), (2, "x")), rows((1, "b")), rows()):
            write(store, "t", Became(given, ("id",)))
        [change] = changes(store, "t", 2, head(store, "t").offset)
        assert (change.offset, change.old, change.new) == (6, {"id": 1, "name": "a"}, None)

    def test_added_shows_the_new_images_of_the_change_set(self, store: Store) -> None:
        """Neither removals, nor rows that ended as they began."""
        self._story(store)
        with reading(store) as reader:
            found = [(line[OFFSET], line["name"]) for line in lines(reader, Slice("t", 4, 9, Images.ADDED))]
        assert found == [(8, "C"), (9, "d")]

    def test_an_empty_range_is_empty(self, store: Store) -> None:
        """Also at 0, and with its columns."""
        self._story(store)
        with reading(store) as reader:
            for part in (Slice("t", 5, 5, Images.CHANGES), Slice("t", 5, 5, Images.ADDED), Slice("t", 0, 0)):
                table = pa.table(reader.read(part))
                assert table.num_rows == 0
                assert table.column_names[-2:] == ["id", "name"]

    def test_slices_have_these_columns_in_this_order(self, store: Store) -> None:
        """Hidden columns first; rows ordered by offset, then row identity."""
        self._story(store)
        with reading(store) as reader:
            shown = {
                images: pa.table(reader.read(Slice("t", 4, 9, images))) for images in ("state", "added", "changes")
            }
        assert shown["state"].column_names == shown["added"].column_names == [RID, OFFSET, "id", "name"]
        assert shown["changes"].column_names == [RID, OFFSET, WEIGHT, "id", "name"]
        assert [str(shown["changes"].schema.field(name).type) for name in (RID, OFFSET, WEIGHT)] == [
            "string",
            "int64",
            "int8",
        ]
        for table in shown.values():
            order = list(zip(table.column(OFFSET).to_pylist(), table.column(RID).to_pylist(), strict=True))
            assert order == sorted(order)

    def test_excluded_rows_do_not_show(self, store: Store) -> None:
        """In any kind of slice; identities may hold quotes."""
        write(store, "t", Appended(rows((1, "a"), (2, "b"), parent=["it's", 'q"'], ordinal=[0, 0])))
        with reading(store) as reader:
            for images in (Images.STATE, Images.ADDED, Images.CHANGES):
                found = lines(reader, Slice("t", 0, 3, images, excluding=("it's", "unknown")))
                assert [line["id"] for line in found] == [2]

    def test_only_released_values_show_as_they_were_when_released(self, store: Store) -> None:
        """Rule 21: late rows wait; values that were not released do not show; ungated inputs are as they are."""
        gate = tuple(Column(name, "varchar") for name in ("partition", "value", "input"))
        gate = (*gate, Column("position", "bigint"))
        write(store, "t", Appended(rows((1, "x"), (2, "y"), (3, "x"), parent=list("abc"), ordinal=[0, 0, 0])))
        write(store, "u", Appended(rows((1, "x"))))
        write(store, "t", Replaced(rows((9, "x"), parent=["a"], ordinal=[0]), ["a"]))
        released = {"partition": ["name"], "value": ["x"], "input": ["t"], "position": [3]}
        write(store, "j@gate", Appended(pa.table(released)), gate)
        with reading(store) as reader:
            shown = lines(reader, Slice("t", 0, 5, released="j"))
            assert [(line["id"], line["name"]) for line in shown] == [(1, "x")]
            assert len(lines(reader, Slice("u", 0, 2, released="j"))) == 1
            assert len(lines(reader, Slice("t", 0, 5, released="nobody"))) == 3

    def test_positions_beyond_the_head_are_refused(self, store: Store) -> None:
        """A cursor beyond its head never counts as zero."""
        self._story(store)
        with reading(store) as reader:
            for images in (Images.STATE, Images.ADDED, Images.CHANGES):
                with pytest.raises(StateCorrupt):
                    reader.read(Slice("t", 0, 10, images))
            assert len(state_in(reader, "t")) == 3

    def test_values_come_back_exactly(self, store: Store) -> None:
        """In the state, in old images and in new ones; the same again is no change."""
        for number, kind in enumerate(KINDS):
            self._comes_back(store, f"t{number}", kind)

    @staticmethod
    def _comes_back(store: Store, asset: str, kind: str) -> None:
        arrow, values = KINDS[kind]
        columns = (Column("id", "bigint"), Column("v", kind))
        given = pa.table({"id": list(range(len(values))), "v": pa.array(values, arrow)})
        write(store, asset, Became(given, ("id",)), columns)
        assert write(store, asset, Became(given, ("id",)), columns) == 0
        found = {line["id"]: line["v"] for line in state(store, asset).values()}
        assert [found[n] for n in range(len(values))] == values
        before = head(store, asset).offset
        write(store, asset, Became(given.slice(1), ("id",)), columns)
        [change] = changes(store, asset, before, before + 1)
        assert change.old == {"id": 0, "v": values[0]}
        write(store, asset, Appended(given.slice(0, 1)), columns)
        assert values[0] in [line["v"] for line in state(store, asset).values()]
        assert write(store, f"{asset}-bare", Became(given), columns) == len(values)
        assert write(store, f"{asset}-bare", Became(given), columns) == 0

    def test_names_may_be_awkward(self, store: Store) -> None:
        """Assets and columns are named by people."""
        columns = tuple(Column(name, "varchar") for name in ("select", "a b", 'q"q', "it's", "ü", "_x"))
        given = pa.table({column.name: ["v"] for column in columns})
        for asset in ("order", "a-b", "it's", 'say "x"', "job@parked", "ünï"):
            assert write(store, asset, Became(given, ('q"q', "it's")), columns) == 1
            assert write(store, asset, Became(given, ('q"q', "it's")), columns) == 0
            assert contents(store, asset) == [("v",) * 6]

    # Trimming and dropping.

    def test_trimming_forgets_only_ended_images(self, store: Store) -> None:
        """The current rows and everything above the floor stay; below it is refused."""
        self._story(store)
        above = {at: state(store, "t", at) for at in range(6, 10)}
        later = changes(store, "t", 6, 9)
        assert store.trim("t", 6) == 2
        assert {at: state(store, "t", at) for at in range(6, 10)} == above
        assert changes(store, "t", 6, 9) == later
        with reading(store) as reader:
            for part in (Slice("t", 0, 5), Slice("t", 5, 9, Images.CHANGES), Slice("t", 4, 9, Images.ADDED)):
                with pytest.raises(StateCorrupt):
                    reader.read(part)
        assert store.trim("t", 6) == 0
        assert store.trim("t", 3) == 0
        assert head(store, "t") == Head(9, 1, 3)

    def test_after_trimming_a_new_reader_still_gets_everything(self, store: Store) -> None:
        """Rule 27: (0, head] is the current rows, each keeping its last offset."""
        self._story(store)
        store.trim("t", 100)
        found = [(change.offset, change.new and change.new["name"]) for change in changes(store, "t", 0, 9)]
        assert sorted(found) == [(7, "a"), (8, "C"), (9, "d")]
        assert write(store, "t", Became(rows((1, "a"), (3, "C")), ("id",))) == 1
        assert [change.old for change in changes(store, "t", 9, 10)] == [{"id": 4, "name": "d"}]

    def test_the_floor_survives_a_reopening(self, store: Store) -> None:
        """What is forgotten stays forgotten."""
        self._story(store)
        store.trim("t", 6)
        again = self.reopen(store)
        with pytest.raises(StateCorrupt):
            state(again, "t", 5)
        assert len(state(again, "t", 6)) == 2
        again.close()

    def test_trimming_an_unknown_asset_is_refused(self, store: Store) -> None:
        """By name."""
        with pytest.raises(NotFound):
            store.trim("nothing", 1)

    def test_dropping_forgets_assets_and_jobs(self, store: Store) -> None:
        """A job's internal assets go with it; a dropped asset begins anew."""
        for asset in ("t", "u", "j@parked", "j@gate", "jj@gate"):
            write(store, asset, Appended(rows((1, "a"))))
        store.drop(assets=["t", "unknown"], jobs=["j", "nobody"])
        assert sorted(store.positions().heads) == ["jj@gate", "u"]
        with writing(store) as transaction:
            assert transaction.define(Table("t", COLUMNS)) == Head()
        assert state(store, "t") == {}
