"""The laws of logs, over random histories: however a log is cut, replaying the cuts gives the state.

Theory of operation. A history is a list of writes of all four kinds, over few rows and few values, so that rows
change back, go and return. A model (a dictionary of rows by identity) says what must be there; the store's own state
after each write is recorded and compared with what any later reading of that offset shows.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tidemill.core.change import (
    Appended,
    Became,
    Change,
    Changed,
    ChangeSet,
    Images,
    Output,
    Replaced,
    Slice,
    consolidate,
)
from tidemill.core.ports import Reader, Store
from tidemill.testing.contract.making import Making
from tidemill.testing.contract.probe import changes_in, lines, reading, rows, state, state_in, write

__all__ = ["HISTORIES", "Laws"]

HISTORIES = 25
"""Random histories a law is tried on."""

NAMES = st.sampled_from([None, "", "null", "a", "b", "it's"])
IDS = st.integers(0, 4)
PARENTS = st.sampled_from(["p", "q", "r", "s/1"])
State = Mapping[str, Mapping[str, Any]]

appended = st.tuples(st.just("appended"), st.lists(st.tuples(IDS, NAMES), max_size=3))
replaced = st.tuples(
    st.just("replaced"),
    st.lists(st.tuples(PARENTS, st.integers(0, 2), IDS, NAMES), max_size=4, unique_by=lambda row: row[:2]),
    st.one_of(st.none(), st.lists(PARENTS, max_size=3, unique=True)),
)
keyed = st.tuples(st.just("keyed"), st.lists(st.tuples(IDS, NAMES), max_size=5, unique_by=lambda row: row[0]))
named = st.tuples(st.just("named"), st.lists(st.tuples(IDS, NAMES), max_size=5, unique_by=lambda row: row[1]))
keyless = st.tuples(st.just("keyless"), st.lists(st.tuples(IDS, NAMES), max_size=5))
lines_of_change = st.tuples(st.integers(0, 3), st.one_of(st.none(), st.tuples(IDS, NAMES)), st.booleans())
changed = st.tuples(st.just("changed"), st.lists(lines_of_change, max_size=4, unique_by=lambda line: line[0]))
trimmed = st.tuples(st.just("trimmed"), st.integers(0, 12))
verbs = st.one_of(appended, replaced, keyed, named, keyless, changed)
histories = st.lists(verbs, min_size=1, max_size=7)
lawful = settings(
    max_examples=HISTORIES,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.differing_executors],
    print_blob=True,
)


def output_of(verb: Sequence[Any], before: State) -> Output:
    """The output that a drawn verb stands for, where the asset has these rows."""
    kind, content = verb[0], verb[1]
    if kind == "changed":
        return changed_of(content, before)
    if kind == "appended":
        return Appended(rows(*content))
    if kind == "replaced":
        parents, ordinals = [row[0] for row in content], [row[1] for row in content]
        return Replaced(rows(*(row[2:] for row in content), parent=parents, ordinal=ordinals), verb[2])
    return Became(rows(*content), {"keyed": ("id",), "named": ("name",), "keyless": None}[kind])


def changed_of(content: Sequence[tuple[int, tuple[int, str | None] | None, bool]], before: State) -> Output:
    """The change set that makes rows of its own what was drawn (None: gone), with lines that cancel where asked."""
    lines: list[tuple[str, int, tuple[Any, ...]]] = []
    for number, after, is_noisy in content:
        rid = f"c{number}"
        lines += [(rid, 1, (number, "passing"))] if is_noisy else []
        lines += [(rid, -1, tuple(before[rid].values()))] if rid in before else []
        lines += [(rid, 1, after)] if after is not None else []
        lines += [(rid, -1, (number, "passing"))] if is_noisy else []
    return Changed(
        rows(*(line[2] for line in lines), rid=[line[0] for line in lines], weight=[line[1] for line in lines])
    )


class Laws(Making):
    """Replay, consolidation, states of the past, and trimming."""

    def _told(self, history: Sequence[Sequence[Any]]) -> tuple[Store, dict[int, State]]:
        """Write a history; returns the store and the state it showed after each write, by head."""
        store = self.make()
        store.claim()
        seen: dict[int, State] = {0: {}}
        for verb in history:
            count = write(store, "t", output_of(verb, seen[max(seen)]))
            with reading(store) as reader:
                head = reader.head("t")
                seen[head.offset] = state_in(reader, "t")
                assert head.rows == len(seen[head.offset])
                assert count <= head.offset - list(seen)[-2] if len(seen) > 1 else True
        return store, seen

    @lawful
    @given(histories, st.data())
    def test_replaying_any_cuts_gives_the_state(self, history: list[Any], data: st.DataObject) -> None:
        """Rule 16: where the cuts are cannot change the result. Every change set fits the rows before it."""
        store, seen = self._told(history)
        with reading(store) as reader:
            head = reader.head("t").offset
            cuts = sorted(data.draw(st.sets(st.integers(0, head)), label="cuts") | {0, head})
            found: dict[str, Any] = {}
            for from_, to in itertools.pairwise(cuts):
                found = ChangeSet(tuple(changes_in(reader, "t", from_, to))).apply(found)
                assert found == seen.get(to, found)
            assert found == seen[head]
        store.close()

    @lawful
    @given(histories, st.data())
    def test_a_change_set_is_the_consolidated_log(self, history: list[Any], data: st.DataObject) -> None:
        """Cut as finely as can be and folded, the log is the change set; `ADDED` is its new half."""
        store, _ = self._told(history)
        with reading(store) as reader:
            head = reader.head("t").offset
            from_, to = sorted(data.draw(st.tuples(st.integers(0, head), st.integers(0, head)), label="range"))
            log = [change for at in range(from_, to) for change in changes_in(reader, "t", at, at + 1)]
            found = sorted(changes_in(reader, "t", from_, to), key=_order)
            assert found == consolidate(log)
            assert all(change.old != change.new for change in found)
            added = [line["_rid"] for line in lines(reader, Slice("t", from_, to, Images.ADDED))]
            assert added == [change.rid for change in found if change.new is not None]
        store.close()

    @lawful
    @given(histories)
    def test_every_state_of_the_past_can_be_read(self, history: list[Any]) -> None:
        """And each offset holds at most one change."""
        store, seen = self._told(history)
        with reading(store) as reader:
            for at, expected in seen.items():
                assert state_in(reader, "t", at) == expected
            for at in range(reader.head("t").offset):
                assert len(changes_in(reader, "t", at, at + 1)) <= 1
        store.close()

    @lawful
    @given(histories, st.integers(0, 12), histories)
    def test_trimming_changes_nothing_else(self, history: list[Any], below: int, more: list[Any]) -> None:
        """Above the floor everything reads as before; and what is written later is the same as without trimming."""
        store, seen = self._told(history)
        head = max(seen)
        with reading(store) as reader:
            floor = min(below, head)
            before = [_reading(reader, at, head) for at in range(floor, head + 1)]
        store.trim("t", below)
        with reading(store) as reader:
            assert [_reading(reader, at, head) for at in range(floor, head + 1)] == before
            assert {change.rid for change in changes_in(reader, "t", 0, head)} == set(seen[head])
        for verb in more:
            write(store, "t", output_of(verb, state(store, "t")))
        untouched, expected = self._told([*history, *more])
        with reading(store) as reader:
            assert _shape(state_in(reader, "t")) == _shape(expected[max(expected)])
        untouched.close()
        store.close()

    @lawful
    @given(histories, st.integers(0, 12), st.lists(st.integers(1, 12), max_size=3), histories)
    def test_positions_that_are_kept_read_as_before(
        self, history: list[Any], below: int, keep: list[int], more: list[Any]
    ) -> None:
        """The state at each of them, and the changes since, whatever is trimmed around them and written later."""
        store, seen = self._told(history)
        places = [at for at in keep if at <= max(seen)]
        with reading(store) as reader:
            before = [_since(reader, at, max(seen)) for at in places]
        store.trim("t", below, keep)
        store.trim("t", below + 1, keep)
        for verb in more:
            write(store, "t", output_of(verb, state(store, "t")))
        again = self.reopen(store)
        with reading(again) as reader:
            assert [_since(reader, at, max(seen)) for at in places] == before
        again.close()

    @lawful
    @given(histories)
    def test_becoming_a_state_and_back_leaves_no_trace(self, history: list[Any]) -> None:
        """A change set followed by its inverse is empty."""
        store, seen = self._told([*history, ("keyed", [(1, "a"), (2, None)])])
        start = max(seen)
        write(store, "t", output_of(("keyed", [(1, "b"), (3, "x")]), {}))
        write(store, "t", output_of(("keyed", [(2, None), (1, "a")]), {}))
        with reading(store) as reader:
            assert changes_in(reader, "t", start, reader.head("t").offset) == []
        store.close()


def _order(change: Change) -> tuple[int, str]:
    return (change.offset, change.rid)


def _reading(reader: Reader, at: int, head: int) -> tuple[State, list[Change]]:
    return state_in(reader, "t", at), changes_in(reader, "t", at, head)


def _since(reader: Reader, at: int, head: int) -> tuple[State, list[tuple[str, Any, Any]]]:
    """The state at a position and the changes since; of a row that went since, the offset may be an earlier one."""
    return state_in(reader, "t", at), sorted(
        ((c.rid, c.old, c.new) for c in changes_in(reader, "t", at, head)), key=repr
    )


def _shape(state: State) -> list[str]:
    return sorted(repr(sorted(row.items())) for row in state.values())
