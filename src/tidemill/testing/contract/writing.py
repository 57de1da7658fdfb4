"""What a write does to an asset's rows and log."""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from tidemill.core.change import ORDINAL, PARENT, Appended, Became, Images, Replaced, Slice, Statement
from tidemill.core.errors import ContractViolation, NotFound, StateCorrupt, UserError
from tidemill.core.model import Column
from tidemill.core.ports import Head, Store, Table
from tidemill.testing.contract.making import STATEMENTS, WIDENING, Making
from tidemill.testing.contract.probe import (
    COLUMNS,
    changes,
    contents,
    head,
    lines,
    reading,
    rows,
    state,
    write,
    writing,
)

__all__ = ["Writing"]

AWKWARD = (
    None,
    "",
    "null",
    '"null"',
    "NULL",
    "a,b",
    'say "hi"',
    "it's",
    "x/1",
    "#1",
    "[]",
    "é",
    "日本",
    "😀",
    "\\",
    " ",
)


def row(number: int, name: str | None) -> dict[str, Any]:
    """One row of `COLUMNS`."""
    return {"id": number, "name": name}


class Writing(Making):
    """Definitions, the three outputs, keys, offsets and markers."""

    # Definitions.

    def test_an_asset_that_never_changed_has_head_zero(self, store: Store) -> None:
        """`Head(0)` for an unknown asset."""
        with reading(store) as reader:
            assert reader.head("nothing") == Head()

    def test_an_unknown_asset_cannot_be_read_or_written(self, store: Store) -> None:
        """It is named, not guessed."""
        with reading(store) as reader, pytest.raises(NotFound):
            reader.read(Slice("nothing"))
        with reading(store) as transaction, pytest.raises(NotFound):
            transaction.write("nothing", Appended(rows((1, "a"))))

    def test_defining_the_same_shape_again_changes_nothing(self, store: Store) -> None:
        """`define` is idempotent."""
        write(store, "t", Appended(rows((1, "a"))))
        with writing(store) as transaction:
            assert transaction.define(Table("t", COLUMNS)) == Head(2, 1, 1)
        assert contents(store, "t") == [(1, "a")]

    @staticmethod
    def _redefined(store: Store, table: Table) -> Head:
        write(store, "t", Appended(rows((1, "a"), (2, "b"))))
        with writing(store) as transaction:
            return transaction.define(table)

    def test_other_columns_begin_a_new_empty_generation(self, store: Store) -> None:
        """Offsets go on counting over generations."""
        wider = (*COLUMNS, Column("more", "double"))
        assert self._redefined(store, Table("t", wider)) == Head(3, 2, 0)
        assert head(store, "t") == Head(3, 2, 0)
        assert state(store, "t") == {}

    def test_columns_that_widen_an_asset_keep_its_rows_and_history(self, store: Store) -> None:
        """They are null in every image there is, offsets and generation stay, and so does what readers have read."""
        write(store, "t", Appended(rows((1, "a"), (2, "b"))))
        wider = Table("t", (COLUMNS[0], Column("more", "double"), COLUMNS[1]), widens=True)
        with writing(store) as transaction:
            if WIDENING in self.gaps:
                assert transaction.define(wider) == Head(3, 2, 0)
                return
            assert transaction.define(wider) == Head(3, 1, 2)
            third = pa.table({"id": [3], "more": [1.5], "name": ["c"]})
            assert transaction.write("t", Appended(third)) == 1
            assert transaction.define(wider) == Head(4, 1, 3)
        assert contents(store, "t") == [(1, None, "a"), (2, None, "b"), (3, 1.5, "c")]
        assert [change.new for change in changes(store, "t", 1, 3)] == [
            {"id": 1, "more": None, "name": "a"},
            {"id": 2, "more": None, "name": "b"},
        ]
        with writing(store) as transaction:
            assert transaction.define(Table("t", COLUMNS, widens=True)).generation == 2

    def test_a_type_that_is_widened_keeps_the_rows_and_history(self, store: Store) -> None:
        """Values are what they were, in the wider type; a narrower type begins a new generation."""
        narrow = (Column("id", "integer"), Column("price", "decimal(5,2)"))
        wide = (Column("id", "bigint"), Column("price", "decimal(9,4)"))
        if WIDENING in self.gaps:
            return
        with writing(store) as transaction:
            transaction.define(Table("w", narrow))
            first = pa.table({"id": pa.array([1], pa.int32()), "price": pa.array(["1.25"]).cast(pa.decimal128(5, 2))})
            transaction.write("w", Appended(first))
        with writing(store) as transaction:
            assert transaction.define(Table("w", wide, widens=True)) == Head(2, 1, 1)
            third = pa.table({"id": [1 << 40], "price": pa.array(["12345.6789"]).cast(pa.decimal128(9, 4))})
            transaction.write("w", Appended(third))
        assert contents(store, "w") == [(1, Decimal("1.2500")), (1 << 40, Decimal("12345.6789"))]
        assert [change.new for change in changes(store, "w", 1, 2)] == [{"id": 1, "price": Decimal("1.2500")}]
        with writing(store) as transaction:
            assert transaction.define(Table("w", narrow, widens=True)).generation == 2

    def test_another_key_begins_a_new_generation(self, store: Store) -> None:
        """The key is part of the shape; no key and an empty key are two shapes."""
        assert self._redefined(store, Table("t", COLUMNS, ())).generation == 2
        with writing(store) as transaction:
            assert transaction.define(Table("t", COLUMNS, ("id",))).generation == 3

    def test_another_type_begins_a_new_generation(self, store: Store) -> None:
        """So does another order of columns, but a reader's requirement does not."""
        assert self._redefined(store, Table("t", (COLUMNS[0], Column("name", "blob")))).generation == 2

    def test_a_new_generation_is_read_from_where_it_begins(self, store: Store) -> None:
        """The old generation's history is gone, so older positions are refused; 0 is always the current rows."""
        self._redefined(store, Table("t", COLUMNS, ("id",)))
        with writing(store) as transaction:
            assert transaction.write("t", Became(rows((7, "g")), ("id",))) == 1
        assert head(store, "t") == Head(5, 2, 1)
        assert [change.new for change in changes(store, "t", 3, 5)] == [row(7, "g")]
        assert [change.new for change in changes(store, "t", 0, 5)] == [row(7, "g")]
        with pytest.raises(StateCorrupt):
            changes(store, "t", 2, 5)

    # Appended.

    def test_the_first_write_counts_one_marker_offset(self, store: Store) -> None:
        """The marker is 1 in a new asset; changes follow."""
        assert write(store, "t", Appended(rows((1, "a"), (2, "b")))) == 2
        assert head(store, "t") == Head(3, 1, 2)
        assert [change.offset for change in changes(store, "t", 0, 3)] == [2, 3]

    def test_a_first_write_without_rows_still_publishes_the_marker(self, store: Store) -> None:
        """Rule 27: readers learn that the asset was built, and is empty; a second time there is nothing to learn."""
        assert write(store, "t", Appended(rows())) == 0
        assert head(store, "t") == Head(1, 1, 0)
        for output in (Appended(rows()), Became(rows(), ("id",)), Replaced(rows(parent=[], ordinal=[]), None)):
            assert write(store, "t", output) == 0
            assert head(store, "t") == Head(1, 1, 0)

    def test_appended_rows_are_identified_by_parent_and_ordinal(self, store: Store) -> None:
        """Ordinals keep the outputs of one input row apart."""
        given = rows((1, "a"), (2, "b"), (3, "c"), parent=["p", "p", "q"], ordinal=[0, 1, 0])
        write(store, "t", Appended(given))
        found = state(store, "t")
        assert len(found) == 3
        assert found["p"] == row(1, "a")
        assert found["q"] == row(3, "c")

    def test_a_chain_of_parents_never_runs_together(self, store: Store) -> None:
        """('p', 1) and ('p/1', 0) are two rows: jobs that make several rows of one can follow each other."""
        given = rows((1, "a"), (2, "b"), (3, "c"), parent=["p", "p/1", "p/1"], ordinal=[1, 0, 1])
        assert write(store, "t", Replaced(given, ["p", "p/1"])) == 3
        assert write(store, "t", Replaced(given, ["p", "p/1"])) == 0
        assert contents(store, "t") == [(1, "a"), (2, "b"), (3, "c")]

    def test_appended_rows_keep_their_order(self, store: Store) -> None:
        """Offsets follow the rows' own order, not their identities."""
        write(store, "t", Appended(rows((1, "a"), (2, "b"), (3, "c"), parent=["z", "m", "b"], ordinal=[0, 0, 0])))
        with reading(store) as reader:
            assert [line["id"] for line in lines(reader, Slice("t", 0, 4))] == [1, 2, 3]

    def test_appended_rows_without_a_parent_get_new_identities(self, store: Store) -> None:
        """Equal rows stay two rows, over several writes."""
        for _ in range(2):
            write(store, "t", Appended(rows((1, "a"), (1, "a"))))
        assert contents(store, "t") == [(1, "a")] * 4

    def test_given_offsets_are_kept(self, store: Store) -> None:
        """Mirrors: the head becomes what is given, there is no marker, and gaps are fine."""
        given = rows((1, "a"), (2, "b"), rid=["x", "y"], offset=[2, 5])
        assert write(store, "m", Appended(given, head=7)) == 2
        assert head(store, "m") == Head(7, 1, 2)
        assert [(change.offset, change.rid) for change in changes(store, "m", 0, 7)] == [(2, "x"), (5, "y")]
        assert [change.rid for change in changes(store, "m", 2, 7)] == ["y"]
        assert write(store, "m", Appended(rows(rid=[], offset=[]), head=9)) == 0
        assert head(store, "m").offset == 9

    def test_a_given_head_cannot_be_behind(self, store: Store) -> None:
        """A mirror never goes back."""
        write(store, "m", Appended(rows((1, "a"), offset=[5]), head=7))
        with pytest.raises(StateCorrupt):
            write(store, "m", Appended(rows(offset=[]), head=6))
        assert head(store, "m").offset == 7

    def test_an_upserted_mirror_replaces_rows_at_given_offsets(self, store: Store) -> None:
        """A row that is gone is gone at the given head at the latest."""
        write(store, "m", Appended(rows((1, "a"), (2, "b"), rid=["x", "y"], offset=[1, 2]), head=2))
        assert write(store, "m", Replaced(rows((1, "A"), rid=["x"], offset=[4]), ["x", "y"], head=5)) == 2
        assert state(store, "m") == {"x": row(1, "A")}
        found = {change.rid: change for change in changes(store, "m", 2, 5)}
        assert (found["x"].offset, found["x"].old, found["x"].new) == (4, row(1, "a"), row(1, "A"))
        assert found["y"].new is None
        assert state(store, "m", 3) == {"x": row(1, "a"), "y": row(2, "b")}

    # Replaced.

    @staticmethod
    def _parents(store: Store) -> None:
        given = rows((1, "a"), (2, "b"), (3, "c"), (4, "d"), parent=["p", "p", "q", "r"], ordinal=[0, 1, 0, 0])
        write(store, "t", Appended(given))

    def test_replacing_changes_only_what_differs(self, store: Store) -> None:
        """Equal rows get no change, other parents are not touched, absent rows go."""
        self._parents(store)
        given = rows((1, "a"), (9, "z"), parent=["p", "q"], ordinal=[0, 0])
        assert write(store, "t", Replaced(given, ["p", "q"])) == 2
        assert contents(store, "t") == [(1, "a"), (4, "d"), (9, "z")]
        assert head(store, "t") == Head(7, 1, 3)
        found = {change.offset: (change.old, change.new) for change in changes(store, "t", 5, 7)}
        assert sorted(found) == [6, 7]
        assert sorted(found.values(), key=repr) == sorted([(row(2, "b"), None), (row(3, "c"), row(9, "z"))], key=repr)

    def test_replacing_with_the_same_is_no_change(self, store: Store) -> None:
        """A write that changes nothing moves no head."""
        self._parents(store)
        assert write(store, "t", Replaced(rows((4, "d"), parent=["r"], ordinal=[0]), ["r"])) == 0
        assert head(store, "t").offset == 5

    def test_replacing_takes_new_parents(self, store: Store) -> None:
        """A parent that had no rows may get some."""
        self._parents(store)
        assert write(store, "t", Replaced(rows((5, "e"), parent=["s"], ordinal=[0]), ["s", "unknown"])) == 1
        assert (5, "e") in contents(store, "t")

    def test_replacing_ignores_rows_of_other_parents(self, store: Store) -> None:
        """Only the rows with a named parent count."""
        self._parents(store)
        given = rows((1, "A"), (8, "x"), parent=["p", "r"], ordinal=[0, 1])
        write(store, "t", Replaced(given, ["p"]))
        assert contents(store, "t") == [(1, "A"), (3, "c"), (4, "d")]

    def test_replacing_nothing_with_nothing(self, store: Store) -> None:
        """No parents, no rows: no change. Rows may then lack the asset's columns."""
        self._parents(store)
        empty = pa.table({PARENT: pa.array([], pa.string()), ORDINAL: pa.array([], pa.int64())})
        assert write(store, "t", Replaced(empty, [])) == 0
        assert write(store, "t", Replaced(empty, ["p"])) == 2

    def test_replacing_every_row(self, store: Store) -> None:
        """`parents` None: the asset becomes exactly the rows, which keep their parents for later."""
        self._parents(store)
        given = rows((1, "a"), (3, "C"), parent=["p", "q"], ordinal=[0, 0])
        assert write(store, "t", Replaced(given, None)) == 3
        assert state(store, "t") == {"p": row(1, "a"), "q": row(3, "C")}
        assert write(store, "t", Replaced(rows(parent=[], ordinal=[]), ["q"])) == 1
        assert state(store, "t") == {"p": row(1, "a")}

    def test_replacing_the_parents_of_a_slice(self, store: Store) -> None:
        """The identities of a change set, old ones too, name the parents."""
        write(store, "in", Became(rows((1, "a"), (2, "b"), (3, "c")), ("id",)))
        ids = {values["id"]: rid for rid, values in state(store, "in").items()}
        given = [(number, str(number)) for number in (1, 2, 3)]
        write(store, "out", Appended(rows(*given, parent=[ids[n] for n, _ in given], ordinal=[0, 0, 0])))
        before = head(store, "in").offset
        write(store, "in", Became(rows((1, "A"), (3, "c")), ("id",)))
        part = Slice("in", before, head(store, "in").offset, Images.CHANGES)
        write(store, "out", Replaced(rows((1, "new"), parent=[ids[1]], ordinal=[0]), part))
        assert contents(store, "out") == [(1, "new"), (3, "3")]

    def test_rows_that_name_themselves(self, store: Store) -> None:
        """Files: `_rid` is the row, the parent its file."""
        given = rows((1, "a"), (2, "b"), rid=["f#1", "f#2"], parent=["f", "f"])
        write(store, "t", Replaced(given, ["f"]))
        assert write(store, "t", Replaced(rows((2, "b"), rid=["f#2"], parent=["f"]), ["f"])) == 1
        assert state(store, "t") == {"f#2": row(2, "b")}

    def test_an_identity_given_twice_is_refused(self, store: Store) -> None:
        """The door of rule 3: per row at most one image."""
        with pytest.raises(ContractViolation):
            write(store, "t", Replaced(rows((1, "a"), (2, "b"), parent=["p", "p"], ordinal=[0, 0]), ["p"]))

    # Became.

    def test_becoming_makes_the_difference_by_key(self, store: Store) -> None:
        """One change per key: an update is one change with both images."""
        write(store, "t", Became(rows((1, "a"), (2, "b"), (3, "c")), ("id",)))
        assert write(store, "t", Became(rows((4, "d"), (2, "B"), (1, "a")), ("id",))) == 3
        assert contents(store, "t") == [(1, "a"), (2, "B"), (4, "d")]
        pairs = [(change.old, change.new) for change in changes(store, "t", 4, 7)]
        assert sorted(pairs, key=repr) == sorted(
            [(row(2, "b"), row(2, "B")), (row(3, "c"), None), (None, row(4, "d"))], key=repr
        )

    def test_changes_are_numbered_by_identity(self, store: Store) -> None:
        """The order of the rows handed over does not matter."""
        orders = ([3, 1, 2], [2, 3, 1])
        for asset, order in zip("ab", orders, strict=True):
            write(store, asset, Became(rows(*((n, "x") for n in order)), ("id",)))
        assert [(c.offset, c.new) for c in changes(store, "a", 0, 4)] == [
            (c.offset, c.new) for c in changes(store, "b", 0, 4)
        ]

    def test_keys_are_null_safe_and_exact(self, store: Store) -> None:
        """NULL, '' and 'null' are three keys; every awkward name is its own."""
        given = [(number, name) for number, name in enumerate(AWKWARD)]
        write(store, "t", Became(rows(*given), ("name",)))
        assert write(store, "t", Became(rows(*given), ("name",))) == 0
        assert write(store, "t", Became(rows(*((n + 1, name) for n, name in given)), ("name",))) == len(AWKWARD)
        assert contents(store, "t") == sorted(((n + 1, name) for n, name in given), key=repr)

    def test_keys_of_several_columns_do_not_run_together(self, store: Store) -> None:
        """('a', 'b,c') is not ('a,b', 'c')."""
        columns = (Column("x", "varchar"), Column("y", "varchar"))
        pairs = [("a", "b,c"), ("a,b", "c"), ("a", None), (None, "a"), ('a","b', "c"), ("a", 'b","c')]
        given = pa.table({"x": [x for x, _ in pairs], "y": [y for _, y in pairs]})
        assert write(store, "t", Became(given, ("x", "y")), columns) == len(pairs)
        assert write(store, "t", Became(given, ("x", "y")), columns) == 0

    def test_an_empty_key_means_one_row(self, store: Store) -> None:
        """A global aggregate has exactly one row."""
        write(store, "t", Became(rows((1, "a")), ()))
        assert write(store, "t", Became(rows((2, "b")), ())) == 1
        [change] = changes(store, "t", 2, 3)
        assert (change.old, change.new) == (row(1, "a"), row(2, "b"))
        with pytest.raises(ContractViolation):
            write(store, "t", Became(rows((1, "a"), (2, "b")), ()))

    def test_a_key_that_is_not_unique_is_refused(self, store: Store) -> None:
        """Whatever is there already; up to five rows are named, and nothing is changed."""
        given = rows(*((n // 2, "x") for n in range(18)))
        for before in (0, 1, 9):
            asset = f"t{before}"
            write(store, asset, Became(rows(*((n, "x") for n in range(before))), ("id",)))
            with pytest.raises(ContractViolation) as raised:
                write(store, asset, Became(given, ("id",)))
            assert 1 <= sum(str(n) in raised.value.message for n in range(9)) <= 5
            assert len(contents(store, asset)) == before

    def test_a_double_of_an_equal_row_is_refused_too(self, store: Store) -> None:
        """Even where both are equal to the row that is there."""
        write(store, "t", Became(rows((1, "a")), ("id",)))
        with pytest.raises(ContractViolation):
            write(store, "t", Became(rows((1, "a"), (1, "a")), ("id",)))

    def test_without_a_key_equal_rows_are_counted(self, store: Store) -> None:
        """Identity is content and occurrence: one more, one less is one change."""
        write(store, "t", Became(rows((1, "a"), (1, "a"), (1, None))))
        assert write(store, "t", Became(rows((1, None), (1, "a"), (1, "a"), (1, "a")))) == 1
        assert write(store, "t", Became(rows((1, "a")))) == 3
        assert contents(store, "t") == [(1, "a")]

    def test_null_is_a_value_among_others(self, store: Store) -> None:
        """A value that becomes NULL, or stops being it, is a change; NULL that stays is none."""
        for name, count in (("a", 1), (None, 1), (None, 0), ("", 1), (None, 1)):
            assert write(store, "t", Became(rows((1, name)), ("id",))) == count

    def test_not_a_number_is_equal_to_itself(self, store: Store) -> None:
        """Else a table with one NaN would change with every run."""
        columns = (Column("id", "bigint"), Column("x", "double"))
        for number, count in ((math.nan, 1), (math.nan, 0), (1.5, 1), (math.inf, 1)):
            given = pa.table({"id": [1], "x": pa.array([number], pa.float64())})
            assert write(store, "t", Became(given, ("id",)), columns) == count

    def test_a_row_that_goes_and_comes_back_is_a_change_each_time(self, store: Store) -> None:
        """But not over both."""
        for given in (rows((1, "a")), rows(), rows((1, "a"))):
            write(store, "t", Became(given, ("id",)))
        assert head(store, "t") == Head(4, 1, 1)
        assert changes(store, "t", 2, 4) == []

    # Statements.

    def test_a_statement_is_computed_by_the_store(self, store: Store) -> None:
        """Or refused by name, where the store has no SQL."""
        write(store, "in", Became(rows((1, "a"), (2, "b"), (3, "c")), ("id",)))
        sql = 'SELECT id * 10 AS id, name, _rid AS _parent FROM "@input:in" WHERE id > 1 -- not the first'
        part = Slice("in", 0, head(store, "in").offset, Images.ADDED)
        if STATEMENTS in self.gaps:
            with pytest.raises(UserError):
                write(store, "out", Appended(Statement(sql, {"in": part})))
            return
        assert write(store, "out", Appended(Statement(sql, {"in": part}))) == 2
        assert contents(store, "out") == [(20, "b"), (30, "c")]
        given = Statement('SELECT sum(id) AS id, max(name) AS name FROM "@input:x"', {"x": rows((4, "p"), (5, "q"))})
        assert write(store, "sum", Became(given, ())) == 1
        assert contents(store, "sum") == [(9, "q")]
