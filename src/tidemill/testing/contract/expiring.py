"""Retention: the oldest rows go, nothing else changes, and nobody is shown a part for the whole."""

from __future__ import annotations

import contextlib

import pytest

from tidemill.core.change import Appended, Became, Images, Slice
from tidemill.core.errors import Expired, Fenced, NotFound
from tidemill.core.ports import Head, Progress, Store, Table
from tidemill.testing.contract.making import Making
from tidemill.testing.contract.probe import COLUMNS, contents, head, lines, reading, rows, write
from tidemill.testing.faults import FaultPlan, Faulty, Injected

__all__ = ["Expiring"]


def shown(store: Store, asset: str, from_: int, images: str = Images.ADDED) -> list[int]:
    """The ids in (from_, head]."""
    with reading(store) as reader:
        return [line["id"] for line in lines(reader, Slice(asset, from_, reader.head(asset).offset, images))]


def copy_and_forget(store: Store, topic: str) -> None:
    """A job that copies the topic to `out`, one row a run; after each run what it has read expires."""
    while True:
        transaction = store.begin()
        try:
            before = transaction.progress("copy")
            cursor = before.cursors[topic] if before else 0
            if cursor == transaction.head(topic).offset:
                return
            taken = lines(transaction, Slice(topic, cursor, cursor + 1, Images.ADDED))
            transaction.define(Table("out", COLUMNS))
            transaction.write("out", Appended(rows(*((line["id"], line["name"]) for line in taken))))
            transaction.settle(Progress("copy", "v", {topic: cursor + 1}, {topic: 1}, str(cursor + 1)), before)
            transaction.commit()
        finally:
            transaction.rollback()
        store.expire(topic, cursor + 1)


class Expiring(Making):
    """`Store.expire`, on an append topic or the mirror of one."""

    def test_the_oldest_rows_expire_and_that_is_no_change(self, store: Store) -> None:
        """Who reads on from there sees what was always there; the count of rows and the head say what went."""
        topic = self.topic(store, 1, 2, 3, 4, 5)
        later = [shown(store, topic, at, images) for at in (2, 3, 4) for images in (Images.ADDED, Images.CHANGES)]
        assert store.expire(topic, 2) == 2
        assert head(store, topic) == Head(5, 1, 3, 2)
        again = [shown(store, topic, at, images) for at in (2, 3, 4) for images in (Images.ADDED, Images.CHANGES)]
        assert again == later
        assert store.expire(topic, 4) == 2
        assert head(store, topic) == Head(5, 1, 1, 4)

    def test_a_slice_that_expired_rows_belong_to_is_refused(self, store: Store) -> None:
        """A part is never shown for the whole; what needs none of them is shown."""
        topic = self.topic(store, 1, 2, 3, 4, 5)
        store.expire(topic, 3)
        with reading(store) as reader:
            late = (Slice(topic, 2, 5, Images.CHANGES), Slice(topic, 1, 2, Images.ADDED), Slice(topic, 0, 2))
            for part in (Slice(topic, 0, 5), Slice(topic, 0, 3), Slice(topic, 0, 5, Images.ADDED), *late):
                with pytest.raises(Expired, match=f"`{topic}` has expired up to offset 3") as refused:
                    reader.read(part)
                assert (refused.value.asset, refused.value.offset) == (topic, 3)
            for part in (Slice(topic, 3, 3, Images.ADDED), Slice(topic, 0, 0)):
                assert lines(reader, part) == []
            assert [line["id"] for line in lines(reader, Slice(topic, 3, 5, Images.CHANGES))] == [4, 5]

    def test_to_expire_again_does_nothing(self, store: Store) -> None:
        """Nor does anything above the head; nothing comes back."""
        topic = self.topic(store, 1, 2, 3)
        assert [store.expire(topic, at) for at in (2, 2, 1, 0)] == [2, 0, 0, 0]
        assert store.expire(topic, 100) == 1
        assert head(store, topic) == Head(3, 1, 0, 3)
        self.topic(store, 4)
        assert (head(store, topic), shown(store, topic, 3)) == (Head(4, 1, 1, 3), [4])

    def test_what_has_expired_survives_a_reopening(self, store: Store) -> None:
        """Also that it is told."""
        topic = self.topic(store, 1, 2, 3)
        store.expire(topic, 2)
        again = self.reopen(store)
        assert (head(again, topic), shown(again, topic, 2)) == (Head(3, 1, 1, 2), [3])
        with pytest.raises(Expired):
            shown(again, topic, 0)
        again.close()

    def test_a_snapshot_goes_on_seeing_what_expires_meanwhile(self, store: Store) -> None:
        """And a transaction that began before commits."""
        topic = self.topic(store, 1, 2, 3)
        transaction = store.begin(exclusive=False)
        before = transaction.head(topic)
        store.expire(topic, 2)
        assert [line["id"] for line in lines(transaction, Slice(topic, 0, 3))] == [1, 2, 3]
        assert transaction.head(topic) == before
        transaction.define(Table("out", COLUMNS))
        transaction.write("out", Appended(rows((1, "a"))))
        transaction.commit()
        assert contents(store, "out") == [(1, "a")]

    def test_rows_that_may_change_do_not_expire(self, store: Store) -> None:
        """Of them only what ended is forgotten, as by `trim`."""
        write(store, "t", Became(rows((1, "a"), (2, "b")), ("id",)))
        write(store, "t", Became(rows((1, "A")), ("id",)))
        assert store.expire("t", 5) == 2
        assert head(store, "t") == Head(5, 1, 1)
        assert contents(store, "t") == [(1, "A")]

    def test_only_the_owner_lets_anything_expire(self, store: Store) -> None:
        """And nothing unknown does."""
        topic = self.topic(store, 1, 2)
        with pytest.raises(NotFound):
            store.expire("nothing", 1)
        other = self.twin(store)
        other.claim()
        with pytest.raises(Fenced):
            store.expire(topic, 1)
        assert head(other, topic).rows == 2
        other.close()

    def test_no_row_is_lost_or_doubled_whatever_fails_while_rows_expire(self) -> None:
        """The N-th operation, for N = 1, 2, 3 ... until it passes; then the process dies and the next goes on."""
        operation = 1
        while self._fails_at(operation):
            operation += 1
        assert operation > 3 * 8

    def _fails_at(self, operation: int) -> bool:
        store = self.make()
        store.claim()
        topic, struck = self.topic(store, 1, 2, 3), True
        with contextlib.suppress(Injected):
            copy_and_forget(Faulty(store, FaultPlan(operation=operation)), topic)
            struck = False
        again = self.reopen(store)
        again.claim()
        copy_and_forget(again, topic)
        again.expire(topic, 3)
        assert contents(again, "out") == [(1, "n1"), (2, "n2"), (3, "n3")]
        assert head(again, topic) == Head(3, 1, 0, 3)
        again.close()
        return struck
