"""What a change set that is handed over does to an asset's rows and log (`Changed`)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pytest

from tidemill.core.change import RID, WEIGHT, Change, Changed, Images, Replaced, Slice, Statement
from tidemill.core.errors import ContractViolation, InvariantError, StateCorrupt
from tidemill.core.model import Column
from tidemill.core.ports import Head, Store, Table
from tidemill.testing.contract.making import STATEMENTS, Making
from tidemill.testing.contract.probe import COLUMNS, changes, contents, head, rows, state, state_in, write, writing

__all__ = ["Changing"]

Line = tuple[str, int, int, str | None]
MANY = 300
"""More lines than any store looks at one by one."""


def lines_of(*lines: Line) -> Any:
    """The lines of a change set as Arrow: identity, weight, then the values of `COLUMNS`."""
    return rows(*(line[2:] for line in lines), rid=[line[0] for line in lines], weight=[line[1] for line in lines])


def change(store: Store, *lines: Line, is_checked: bool = False, exclusive: bool = True, asset: str = "t") -> int:
    """Write a change set and commit; returns the number of changes."""
    with writing(store, exclusive=exclusive) as transaction:
        transaction.define(Table(asset, COLUMNS))
        return transaction.write(asset, Changed(lines_of(*lines), is_checked))


def row(number: int, name: str | None) -> dict[str, Any]:
    """One row of `COLUMNS`."""
    return {"id": number, "name": name}


def told(found: Sequence[Change]) -> list[tuple[int, str, Any, Any]]:
    """Changes in the order of their offsets."""
    return sorted((c.offset, c.rid, c.old, c.new) for c in found)


class Changing(Making):
    """Change sets: what they do, what they are refused for, and that nothing else moves."""

    @staticmethod
    def _three_rows(store: Store) -> None:
        assert change(store, ("b", 1, 2, "b"), ("a", 1, 1, "a"), ("c", 1, 3, None)) == 3

    def test_a_change_set_adds_changes_and_removes_rows(self, store: Store) -> None:
        """In the order of row identity; an update is one change with both images; the marker comes first."""
        for exclusive in (True, False):
            asset = f"t{exclusive}"
            given: list[Line] = [("b", 1, 2, "b"), ("a", 1, 1, "a"), ("c", 1, 3, None)]
            assert change(store, *given, exclusive=exclusive, asset=asset) == 3
            assert told(changes(store, asset, 0, 4)) == [
                (2, "a", None, row(1, "a")),
                (3, "b", None, row(2, "b")),
                (4, "c", None, row(3, None)),
            ]
            given = [("d", 1, 4, "d"), ("c", -1, 3, None), ("a", 1, 1, "A"), ("a", -1, 1, "a")]
            assert change(store, *given, exclusive=exclusive, asset=asset) == 3
            assert head(store, asset) == Head(7, 1, 3)
            assert state(store, asset) == {"a": row(1, "A"), "b": row(2, "b"), "d": row(4, "d")}
            assert told(changes(store, asset, 4, 7)) == [
                (5, "a", row(1, "a"), row(1, "A")),
                (6, "c", row(3, None), None),
                (7, "d", None, row(4, "d")),
            ]

    def test_lines_that_cancel_vanish(self, store: Store) -> None:
        """Whatever their order; what is left of nothing moves no head."""
        self._three_rows(store)
        assert change(store, ("a", -1, 1, "a"), ("a", 1, 1, "a"), ("x", 1, 9, None), ("x", -1, 9, None)) == 0
        assert head(store, "t") == Head(4, 1, 3)
        assert change(store, ("a", 1, 1, "a"), ("b", -1, 2, "b"), ("a", -1, 1, "a")) == 1
        assert told(changes(store, "t", 4, 5)) == [(5, "b", row(2, "b"), None)]

    def test_a_row_that_changes_several_times_changes_once(self, store: Store) -> None:
        """From its first old image to its last new one."""
        self._three_rows(store)
        steps = [("a", -1, 1, "a"), ("a", 1, 1, "m"), ("a", -1, 1, "m"), ("a", 1, 1, None)]
        assert change(store, *steps, ("a", -1, 1, None), ("a", 1, 1, "z")) == 1
        assert told(changes(store, "t", 4, 5)) == [(5, "a", row(1, "a"), row(1, "z"))]

    def test_the_weights_of_equal_lines_add_up(self, store: Store) -> None:
        """Two additions of one image are one too many, unless something takes one back."""
        self._three_rows(store)
        assert change(store, ("x", 1, 9, "x"), ("x", 1, 9, "x"), ("x", -1, 9, "x")) == 1
        with pytest.raises(ContractViolation, match="not unique"):
            change(store, ("y", 1, 9, "y"), ("y", 1, 9, "y"))
        assert sorted(state(store, "t")) == ["a", "b", "c", "x"]

    def test_an_identity_with_two_additions_is_refused(self, store: Store) -> None:
        """Up to five are named; nothing is changed, whether the row is removed as well or not."""
        self._three_rows(store)
        twice = [(f"twice{n}", 1, n, name) for n in range(8) for name in ("x", "y")]
        with pytest.raises(ContractViolation, match="not unique") as raised:
            change(store, *twice)
        assert 1 <= sum(f"twice{n}" in raised.value.message for n in range(8)) <= 5
        with pytest.raises(ContractViolation, match="a"):
            change(store, ("a", -1, 1, "a"), ("a", 1, 1, "x"), ("a", 1, 1, "y"))
        assert state(store, "t") == {"a": row(1, "a"), "b": row(2, "b"), "c": row(3, None)}

    def test_a_removal_of_what_is_not_there_is_refused(self, store: Store) -> None:
        """The asset is named, nothing is changed: not of an unknown row, not twice of one, not of an empty asset."""
        self._three_rows(store)
        wrong: list[list[Line]] = [
            [("x", -1, 9, "x")],
            [("x", -1, 9, "x"), ("x", 1, 9, "y")],
            [("a", -1, 1, "a"), ("x", -1, 9, "x")],
            [("a", -1, 1, "a"), ("a", -1, 1, "b")],
        ]
        for exclusive in (True, False):
            for lines in wrong:
                with pytest.raises(StateCorrupt, match="t: the change set removes a row that is not there"):
                    change(store, *lines, exclusive=exclusive)
            with pytest.raises(StateCorrupt, match="empty"):
                change(store, ("a", -1, 1, "a"), exclusive=exclusive, asset="empty")
        assert head(store, "t") == Head(4, 1, 3)
        assert state(store, "t") == {"a": row(1, "a"), "b": row(2, "b"), "c": row(3, None)}

    def test_a_refused_change_set_can_only_be_rolled_back(self, store: Store) -> None:
        """Half a change set is never committed."""
        self._three_rows(store)
        transaction = store.begin()
        with pytest.raises(StateCorrupt):
            transaction.write("t", Changed(lines_of(("n", 1, 1, "new"), ("x", -1, 9, "x"))))
        with pytest.raises(InvariantError):
            transaction.commit()
        transaction.rollback()
        assert sorted(state(store, "t")) == ["a", "b", "c"]

    def test_a_removed_row_is_found_by_its_identity(self, store: Store) -> None:
        """The values of a removal only cancel additions."""
        self._three_rows(store)
        assert change(store, ("a", -1, 77, "not what is there")) == 1
        assert sorted(state(store, "t")) == ["b", "c"]

    def test_a_taken_identity_is_refused_where_that_is_asked_for(self, store: Store) -> None:
        """A row that is removed as well gives its identity free; a new one is free."""
        self._three_rows(store)
        for exclusive in (True, False):
            with pytest.raises(ContractViolation, match="not unique: b"):
                change(store, ("b", 1, 5, "x"), ("n", 1, 6, "n"), is_checked=True, exclusive=exclusive)
        assert state(store, "t") == {"a": row(1, "a"), "b": row(2, "b"), "c": row(3, None)}
        assert change(store, ("b", 1, 5, "x"), ("b", -1, 2, "b"), ("n", 1, 6, "n"), is_checked=True) == 2
        assert change(store, ("n", -1, 6, "n"), is_checked=True) == 1
        assert change(store, ("n", 1, 6, "n"), is_checked=True) == 1
        assert state(store, "t")["b"] == row(5, "x")

    def test_null_and_not_a_number_are_equal_to_themselves(self, store: Store) -> None:
        """Such lines cancel too."""
        columns = (Column("id", "bigint"), Column("x", "double"))

        def given(*lines: tuple[str, int, int | None, float | None]) -> Changed:
            names = {RID: pa.string(), WEIGHT: pa.int8(), "id": pa.int64(), "x": pa.float64()}
            values = zip(*lines, strict=True)
            return Changed(pa.table({n: pa.array(list(v), names[n]) for n, v in zip(names, values, strict=True)}))

        assert write(store, "t", given(("a", 1, None, math.nan), ("b", 1, 1, None)), columns) == 2
        both = [(rid, weight, None, x) for rid in "ab" for x in (math.nan, None) for weight in (-1, 1)]
        assert write(store, "t", given(*both), columns) == 0
        assert write(store, "t", given(("a", -1, None, math.nan), ("b", -1, 1, None), ("b", 1, 1, 1.5)), columns) == 2
        assert head(store, "t") == Head(5, 1, 1)

    def test_an_empty_change_set_publishes_the_marker_once(self, store: Store) -> None:
        """The first write counts the marker even for no rows; after that nothing moves."""
        for _ in range(2):
            assert change(store) == 0
            assert head(store, "t") == Head(1, 1, 0)
        assert change(store, ("a", 1, 1, "a"), ("a", -1, 1, "a")) == 0
        assert head(store, "t") == Head(1, 1, 0)

    def test_a_change_set_may_have_many_rows(self, store: Store) -> None:
        """The same rules, whatever way is taken for few rows."""
        for exclusive in (True, False):
            asset = f"t{exclusive}"
            given: list[Line] = [(f"{n:04}", 1, n, str(n)) for n in range(MANY)]
            assert change(store, *reversed(given), exclusive=exclusive, asset=asset) == MANY
            found = told(changes(store, asset, 0, MANY + 1))
            assert found == [(n + 2, f"{n:04}", None, row(n, str(n))) for n in range(MANY)]
            moved: list[Line] = [
                line
                for n in range(MANY)
                for line in ((f"{n:04}", -1, n, str(n)), (f"{n:04}", 1, n, "new" if n % 3 else str(n)))
            ]
            updated = sum(1 for n in range(MANY) if n % 3)
            assert change(store, *moved, ("x", 1, 0, None), exclusive=exclusive, asset=asset) == updated + 1
            assert head(store, asset) == Head(MANY + 1 + updated + 1, 1, MANY + 1)
            gone: list[Line] = [(f"{n:04}", -1, n, "any") for n in range(MANY)]
            with pytest.raises(StateCorrupt, match=asset):
                change(store, *gone, ("y", -1, 0, None), exclusive=exclusive, asset=asset)
            with pytest.raises(ContractViolation, match="x"):
                change(store, *gone, ("x", 1, 1, None), is_checked=True, exclusive=exclusive, asset=asset)
            assert change(store, *gone, exclusive=exclusive, asset=asset) == MANY
            assert state(store, asset) == {"x": row(0, None)}

    def test_change_sets_follow_each_other_in_a_transaction(self, store: Store) -> None:
        """Each sees what the one before it did, also where images end in `commit`."""
        for exclusive in (True, False):
            asset = f"t{exclusive}"
            change(store, ("a", 1, 1, "a"), asset=asset)
            with writing(store, exclusive=exclusive) as transaction:
                transaction.write(asset, Changed(lines_of(("a", -1, 1, "a"), ("a", 1, 1, "b"))))
                transaction.write(asset, Changed(lines_of(("a", -1, 1, "b"), ("a", 1, 1, "c"), ("b", 1, 2, "b"))))
                assert state_in(transaction, asset) == {"a": row(1, "c"), "b": row(2, "b")}
                transaction.write(asset, Changed(lines_of(("a", -1, 1, "c")), is_checked=True))
                transaction.write(asset, Changed(lines_of(("a", 1, 1, "d")), is_checked=True))
            assert state(store, asset) == {"a": row(1, "d"), "b": row(2, "b")}
            assert head(store, asset) == Head(7, 1, 2)

    def test_changed_rows_belong_to_no_parent(self, store: Store) -> None:
        """So nothing that replaces the rows of a parent touches them."""
        self._three_rows(store)
        assert write(store, "t", Replaced(rows(parent=[], ordinal=[]), ["a", "b"])) == 0
        assert contents(store, "t") == [(1, "a"), (2, "b"), (3, None)]

    def test_a_statement_computes_a_change_set(self, store: Store) -> None:
        """Where the store has SQL: the lines of a slice, weights and all."""
        if STATEMENTS in self.gaps:
            return
        change(store, ("a", 1, 1, "a"), ("b", 1, 2, "b"), asset="in")
        change(store, ("a", -1, 1, "a"), ("a", 1, 1, "A"), ("b", -1, 2, "b"), ("c", 1, 3, "c"), asset="in")
        sql = 'SELECT _rid, _weight, id, name FROM "@input:in"'
        for from_, to, count in ((0, 3, 2), (3, 6, 3)):
            part = Slice("in", from_, to, Images.CHANGES)
            assert write(store, "t", Changed(Statement(sql, {"in": part}), is_checked=True)) == count
        assert state(store, "t") == {"a": row(1, "A"), "c": row(3, "c")}
