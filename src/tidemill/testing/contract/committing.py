"""Transactions: what is seen, what is committed, who wins, and who is fenced off."""

from __future__ import annotations

import threading
from dataclasses import replace

import pytest

from tidemill.core.change import Appended, Became, Replaced, Slice
from tidemill.core.errors import Conflict, ContractViolation, Fenced, InvariantError, OperatorError, StateCorrupt
from tidemill.core.ports import Head, Progress, Store, Table
from tidemill.testing.contract.making import Making
from tidemill.testing.contract.probe import (
    COLUMNS,
    contents,
    head,
    lines,
    progress,
    reading,
    rows,
    settle,
    state_in,
    write,
    writing,
)

__all__ = ["Committing"]

WAIT_SECONDS = 10.0


class Committing(Making):
    """Visibility, progress, compare-and-set, group commit, races and ownership."""

    def test_nothing_is_visible_before_commit(self, store: Store) -> None:
        """To others: neither rows, nor heads, nor progress."""
        write(store, "t", Appended(rows((1, "a"))))
        transaction = store.begin()
        transaction.write("t", Appended(rows((2, "b"))))
        transaction.settle(progress(t=3), None)
        assert contents(store, "t") == [(1, "a")]
        assert head(store, "t") == Head(2, 1, 1)
        assert store.positions().progress == {}
        transaction.commit()
        assert contents(store, "t") == [(1, "a"), (2, "b")]
        assert store.positions().progress == {"j": progress(t=3)}

    def test_a_transaction_sees_its_own_writes(self, store: Store) -> None:
        """Heads, rows and progress, so that one transaction can serve several runs."""
        self._sees_its_own_writes(store, exclusive=True)

    def test_a_transaction_beside_others_sees_its_own_writes(self, store: Store) -> None:
        """On its own snapshot."""
        self._sees_its_own_writes(store, exclusive=False)

    @staticmethod
    def _sees_its_own_writes(store: Store, *, exclusive: bool) -> None:
        write(store, "t", Became(rows((1, "a"), (2, "b")), ("id",)))
        with writing(store, exclusive=exclusive) as transaction:
            transaction.write("t", Became(rows((1, "A"), (3, "c")), ("id",)))
            assert transaction.head("t") == Head(6, 1, 2)
            assert sorted(row["name"] for row in state_in(transaction, "t").values()) == ["A", "c"]
            assert transaction.write("t", Became(rows((1, "A")), ("id",))) == 1
            transaction.settle(progress(t=7), None)
            assert transaction.progress("j") == progress(t=7)
        assert contents(store, "t") == [(1, "A")]
        assert head(store, "t") == Head(7, 1, 1)

    def test_a_rollback_forgets_everything(self, store: Store) -> None:
        """It is idempotent, and does nothing after a commit."""
        self._forgets_everything(store, exclusive=True)

    def test_a_rollback_beside_others_forgets_everything(self, store: Store) -> None:
        """On its own snapshot."""
        self._forgets_everything(store, exclusive=False)

    @staticmethod
    def _forgets_everything(store: Store, *, exclusive: bool) -> None:
        write(store, "t", Appended(rows((1, "a"))))
        transaction = store.begin(exclusive=exclusive)
        transaction.define(Table("new", COLUMNS))
        transaction.write("t", Replaced(rows(rid=[], parent=[]), None))
        transaction.settle(progress(t=3), None)
        transaction.rollback()
        transaction.rollback()
        assert store.positions().heads == {"t": Head(2, 1, 1)}
        assert store.positions().progress == {}
        done = store.begin(exclusive=exclusive)
        done.write("t", Appended(rows((2, "b"))))
        done.commit()
        done.rollback()
        assert contents(store, "t") == [(1, "a"), (2, "b")]

    def test_a_commit_tells_the_new_heads(self, store: Store) -> None:
        """Of the assets written."""
        transaction = store.begin()
        transaction.define(Table("t", COLUMNS))
        transaction.define(Table("u", COLUMNS))
        transaction.write("t", Appended(rows((1, "a"))))
        transaction.write("u", Appended(rows()))
        assert transaction.commit() == {"t": Head(2, 1, 1), "u": Head(1, 1, 0)}

    def test_a_snapshot_does_not_move(self, store: Store) -> None:
        """Whatever is committed, changed, or trimmed meanwhile."""
        write(store, "t", Became(rows((1, "a"), (2, "b")), ("id",)))
        with reading(store) as reader:
            assert reader.head("t").offset == 3
            write(store, "t", Became(rows((1, "A")), ("id",)))
            settle(store, progress(t=5))
            assert reader.head("t") == Head(3, 1, 2)
            assert reader.progress("j") is None
            assert sorted(row["name"] for row in state_in(reader, "t").values()) == ["a", "b"]
            with pytest.raises(StateCorrupt):
                reader.read(Slice("t", 0, 5))

    def test_a_transaction_that_is_over_does_nothing_more(self, store: Store) -> None:
        """Neither after a commit nor after a rollback."""
        for end in ("commit", "rollback"):
            transaction = store.begin()
            getattr(transaction, end)()
            with pytest.raises(InvariantError):
                transaction.commit()

    def test_a_failed_write_cannot_be_committed(self, store: Store) -> None:
        """Half a write is never published."""
        write(store, "t", Became(rows((1, "a")), ("id",)))
        transaction = store.begin()
        transaction.write("t", Became(rows((2, "b")), ("id",)))
        with pytest.raises(ContractViolation):
            transaction.write("t", Became(rows((1, "a"), (1, "b")), ("id",)))
        with pytest.raises(InvariantError):
            transaction.commit()
        transaction.rollback()
        assert contents(store, "t") == [(1, "a")]

    # Progress.

    def test_outputs_and_progress_are_one_commit(self, store: Store) -> None:
        """After the death of the process both are there, or neither is."""
        write(store, "t", Appended(rows((1, "a"))))
        with writing(store) as transaction:
            transaction.write("t", Appended(rows((2, "b"))))
            transaction.settle(progress(t=3), None)
        lost = store.begin()
        lost.write("t", Appended(rows((3, "c"))))
        lost.settle(progress(t=4, run="r2"), progress(t=3))
        again = self.reopen(store)
        again.claim()
        assert contents(again, "t") == [(1, "a"), (2, "b")]
        assert again.positions().progress == {"j": progress(t=3)}
        assert again.positions().heads == {"t": Head(3, 1, 2)}
        with writing(again) as transaction:
            assert transaction.write("t", Appended(rows((3, "c")))) == 1
        again.close()

    def test_progress_comes_back_as_it_was(self, store: Store) -> None:
        """Every field, also from storage after a reopening."""
        done = Progress("it's", "v'1", {"a b": 0, 'q"': 7}, {"a b": 1, 'q"': 2}, "r", 1.25, True, {"a b": (3, 9)})
        settle(store, done)
        assert store.positions().progress == {"it's": done}
        with reading(store) as reader:
            assert reader.progress("it's") == done
        again = self.reopen(store)
        assert again.positions().progress == {"it's": done}
        again.close()

    def test_progress_is_compared_and_set(self, store: Store) -> None:
        """On version, cursors and run; a job that is there is not None."""
        first = progress(a=1)
        settle(store, first)
        for wrong in (None, progress(a=2), progress(a=1, run="r0"), progress(a=1, version="v0"), progress(a=1, b=1)):
            with pytest.raises(Conflict):
                settle(store, progress(a=3, run="r9"), wrong)
        with pytest.raises(Conflict):
            settle(store, progress("other"), first)
        settle(store, progress(a=3, run="r2"), first)
        assert store.positions().progress == {"j": progress(a=3, run="r2")}

    def test_a_cursor_never_moves_back(self, store: Store) -> None:
        """Within one version and generation; another version has cursors of its own."""
        first = progress(a=5)
        settle(store, first)
        with pytest.raises(StateCorrupt):
            settle(store, progress(a=4, run="r2"), first)
        settle(store, progress(a=5, run="r2"), first)
        settle(store, progress(a=1, run="r3", version="v2"), progress(a=5, run="r2"))

    def test_a_cursor_never_passes_its_head(self, store: Store) -> None:
        """Of an input in this store, at the head that the transaction sees; inputs elsewhere are not known here."""
        write(store, "t", Appended(rows((1, "a"))))
        with pytest.raises(StateCorrupt):
            settle(store, progress(t=3))
        with writing(store) as transaction:
            transaction.write("t", Appended(rows((2, "b"))))
            transaction.settle(progress(t=3, elsewhere=10**12), None)
        assert store.positions().progress["j"].cursors == {"t": 3, "elsewhere": 10**12}

    # Several at once.

    def test_one_commit_serves_several_jobs(self, store: Store) -> None:
        """Group commit: a later run reads what an earlier one wrote; all are published together."""
        with writing(store) as transaction:
            for number, asset in enumerate("abc"):
                transaction.define(Table(asset, COLUMNS))
                transaction.write(asset, Appended(rows((number, asset))))
                transaction.settle(Progress(asset, "v1", {asset: 2}, {asset: 1}, "r1"), None)
            transaction.define(Table("d", COLUMNS))
            taken = [(line["id"], line["name"]) for asset in "ab" for line in lines(transaction, Slice(asset, 0, 2))]
            transaction.write("d", Appended(rows(*taken)))
            transaction.settle(progress("d", a=2, b=2), None)
        assert contents(store, "d") == [(0, "a"), (1, "b")]
        assert sorted(store.positions().progress) == ["a", "b", "c", "d"]

    def test_a_group_that_is_rolled_back_leaves_nothing(self, store: Store) -> None:
        """Then each can be run alone."""
        transaction = store.begin()
        for asset in "ab":
            transaction.define(Table(asset, COLUMNS))
            transaction.write(asset, Appended(rows((1, asset))))
            transaction.settle(progress(asset), None)
        transaction.rollback()
        assert store.positions().heads == {}
        assert store.positions().progress == {}
        write(store, "a", Appended(rows((1, "a"))))
        settle(store, progress("a"))
        assert head(store, "a") == Head(2, 1, 1)

    def test_of_two_racing_transactions_one_wins(self, store: Store) -> None:
        """The other is told, and nothing of it remains."""
        write(store, "t", Became(rows((1, "a"), (2, "b")), ("id",)))
        one, other = store.begin(exclusive=False), store.begin(exclusive=False)
        for number, transaction in enumerate((one, other)):
            assert transaction.progress("j") is None
            transaction.write("t", Became(rows((1, f"w{number}"), (9, "z")), ("id",)))
            transaction.settle(progress(t=3, run=f"r{number}"), None)
        one.commit()
        with pytest.raises(Conflict):
            other.commit()
        other.rollback()
        assert contents(store, "t") == [(1, "w0"), (9, "z")]
        assert store.positions().progress == {"j": progress(t=3, run="r0")}
        assert head(store, "t") == Head(6, 1, 2)

    def test_racing_for_a_job_alone_is_a_race_too(self, store: Store) -> None:
        """Two runs of one job that write different assets, or none."""
        one, other = store.begin(exclusive=False), store.begin(exclusive=False)
        for number, transaction in enumerate((one, other)):
            transaction.define(Table(f"t{number}", COLUMNS))
            transaction.write(f"t{number}", Appended(rows((1, "a"))))
            transaction.settle(progress(run=f"r{number}"), None)
        other.commit()
        with pytest.raises(Conflict):
            one.commit()
        assert sorted(store.positions().heads) == ["t1"]

    def test_transactions_on_different_assets_do_not_disturb_each_other(self, store: Store) -> None:
        """A long batch beside realtime commits: all of it arrives."""
        for asset in ("live", "batch"):
            write(store, asset, Became(rows((1, "a"), (2, "b")), ("id",)))
        settle(store, progress("live"))
        batch = store.begin(exclusive=False)
        batch.write("batch", Became(rows((1, "A")), ("id",)))
        batch.settle(progress("batch", live=3), None)
        for number in range(3):
            write(store, "live", Became(rows((1, f"x{number}")), ("id",)))
            before = store.positions().progress["live"]
            settle(store, progress("live", run=f"n{number}"), before)
        batch.commit()
        assert contents(store, "batch") == [(1, "A")]
        assert contents(store, "live") == [(1, "x2")]
        assert sorted(store.positions().progress) == ["batch", "live"]

    def test_a_waiting_batch_never_makes_a_realtime_commit_fail(self, store: Store) -> None:
        """Even on the same asset the exclusive one goes through; the batch is told."""
        write(store, "t", Became(rows((1, "a")), ("id",)))
        batch = store.begin(exclusive=False)
        batch.write("t", Became(rows((1, "batch")), ("id",)))
        write(store, "t", Became(rows((1, "live")), ("id",)))
        with pytest.raises(Conflict):
            batch.commit()
        assert contents(store, "t") == [(1, "live")]

    def test_trimming_disturbs_no_transaction(self, store: Store) -> None:
        """Maintenance may run at any time, and is not undone by what commits after it."""
        for name in "abc":
            write(store, "t", Became(rows((1, name)), ("id",)))
        batch = store.begin(exclusive=False)
        batch.write("t", Became(rows((1, "d")), ("id",)))
        assert store.trim("t", 3) == 1
        batch.commit()
        assert contents(store, "t") == [(1, "d")]
        with pytest.raises(StateCorrupt), reading(store) as reader:
            reader.read(Slice("t", 0, 2))
        assert store.trim("t", 4) == 1

    def test_exclusive_transactions_wait_for_each_other(self, store: Store) -> None:
        """And see the newest state."""
        write(store, "t", Became(rows((1, "a")), ("id",)))
        first = store.begin()
        seen: list[int] = []

        def second() -> None:
            with writing(store) as transaction:
                seen.append(transaction.head("t").offset)

        thread = threading.Thread(target=second)
        thread.start()
        first.write("t", Became(rows((1, "b")), ("id",)))
        assert seen == []
        first.commit()
        thread.join(WAIT_SECONDS)
        assert seen == [3]

    # Ownership and the end.

    def test_an_owner_is_fenced_off_by_the_next(self, store: Store) -> None:
        """What it had begun, and whatever it begins: commits, trims and drops."""
        write(store, "t", Became(rows((1, "a")), ("id",)))
        begun = store.begin(exclusive=False)
        begun.write("t", Became(rows((1, "stale")), ("id",)))
        other = self.twin(store)
        epoch = other.claim()
        with pytest.raises(Fenced):
            begun.commit()
        begun.rollback()
        with pytest.raises(Fenced):
            write(store, "t", Became(rows((1, "stale")), ("id",)))
        with pytest.raises(Fenced):
            store.trim("t", 1)
        with pytest.raises(Fenced):
            store.drop(assets=["t"])
        write(other, "t", Became(rows((1, "b")), ("id",)))
        assert contents(other, "t") == [(1, "b")]
        assert other.claim() == epoch + 1
        other.close()

    def test_claiming_fences_off_what_was_begun_before(self, store: Store) -> None:
        """Also by the same store; epochs only rise, also over a reopening."""
        first = store.claim()
        begun = store.begin(exclusive=False)
        begun.define(Table("t", COLUMNS))
        assert store.claim() == first + 1
        with pytest.raises(Fenced):
            begun.commit()
        begun.rollback()
        again = self.reopen(store)
        assert again.claim() == first + 2
        again.close()

    def test_closing_rolls_back_and_is_idempotent(self, store: Store) -> None:
        """A closed store says so."""
        transaction = store.begin()
        transaction.define(Table("t", COLUMNS))
        store.close()
        store.close()
        with pytest.raises(OperatorError):
            store.begin()
        with pytest.raises(OperatorError):
            store.positions()

    def test_storage_and_transactions_agree(self, store: Store) -> None:
        """`positions` is read from storage: it shows what transactions see."""
        write(store, "t", Appended(rows((1, "a"))))
        settle(store, replace(progress(t=2), succeeded=True, served_at=3.5))
        with reading(store) as reader:
            assert store.positions().heads == {"t": reader.head("t")}
            assert store.positions().progress == {"j": reader.progress("j")}
