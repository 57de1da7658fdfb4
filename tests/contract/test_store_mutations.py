"""The suite is awake: a store with a planted bug fails it, each bug in the test that is about it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pytest

from tidemill.core.change import OFFSET, RID, WEIGHT, Appended, ArrowStream, Became, Changed, Images, Output, Slice
from tidemill.core.ports import Head, Progress, Store
from tidemill.testing.contract import StoreContract, failures
from tidemill.testing.contract.making import STATEMENTS
from tidemill.testing.images import Rows, Stored
from tidemill.testing.memory import MemoryStore, MemoryTransaction


class ProgressOutside(MemoryTransaction):
    """Progress is written at once, outside the transaction."""

    def settle(self, progress: Progress, expected: Progress | None) -> None:
        super().settle(progress, expected)
        disk = self._store.disk
        disk.jobs = {**disk.jobs, progress.job: progress}
        self._jobs = disk.jobs


class OutputsWithoutProgress(MemoryTransaction):
    """Outputs are committed, the cursor is not."""

    def settle(self, progress: Progress, expected: Progress | None) -> None:
        super().settle(progress, expected)
        self._settled.clear()


class NoCompare(MemoryTransaction):
    """Set without compare."""

    def settle(self, progress: Progress, expected: Progress | None) -> None:
        super().settle(progress, self.progress(progress.job))


class CursorsMayMoveBack(MemoryTransaction):
    """An unknown or older position is taken as it comes."""

    def _check_cursor(self, progress: Progress, current: Progress | None, asset: str, cursor: int) -> None:
        pass


class NullUnsafeRows(Rows):
    """NULL and '' are one key."""

    def identified(self, key: tuple[str, ...] | None) -> Any:
        values = self.values
        self.values = [tuple("" if value is None else value for value in row) for row in values]
        found = super().identified(key)
        self.values = values
        return found


class NullUnsafe(MemoryTransaction):
    rows_type = NullUnsafeRows


class RunningTogetherRows(Rows):
    """Key values are joined with a comma."""

    def identified(self, key: tuple[str, ...] | None) -> Any:
        if key is None or len(key) < 2:
            return super().identified(key)
        names = [column.name for column in self._columns]
        places = [names.index(name) for name in key]
        return {",".join(str(row[n]) for n in places): (None, None, row) for row in self.values}


class RunningTogether(MemoryTransaction):
    rows_type = RunningTogetherRows


class UncheckedRows(Rows):
    """A key that is there twice: the last row wins."""

    def _distinct(self, pairs: Iterable[tuple[str, int]]) -> Any:
        return {rid: (self.parents[place], None, self.values[place]) for rid, place in pairs}


class Unchecked(MemoryTransaction):
    rows_type = UncheckedRows


class UnconsolidatedRows(Rows):
    """Lines of a change set are taken as they come: the first of each side wins."""

    def consolidated(self) -> Any:
        lines: dict[tuple[str, int], Any] = {}
        for rid, weight, values in zip(self.rids, self.weights, self.values, strict=True):
            lines.setdefault((rid, weight), values)
        return {rid: [(lines[key], key[1]) for key in lines if key[0] == rid] for rid, _ in lines}


class Unconsolidated(MemoryTransaction):
    rows_type = UnconsolidatedRows


class Trusting(MemoryTransaction):
    """Whoever writes a change set is believed that identities are free."""

    def write(self, asset: str, output: Output) -> int:
        return super().write(asset, replace(output, is_checked=False) if isinstance(output, Changed) else output)


class Forgiving(MemoryTransaction):
    """A removal of what is not there is dropped."""

    def write(self, asset: str, output: Output) -> int:
        stored = self._stored(asset)
        if isinstance(output, Changed) and stored is not None:
            table = pa.table(output.rows)
            lines = zip(table.column(RID).to_pylist(), table.column(WEIGHT).to_pylist(), strict=True)
            kept = [place for place, (rid, weight) in enumerate(lines) if weight > 0 or rid in stored.current]
            output = Changed(table.take(kept), output.is_checked)
        return super().write(asset, output)


class LateEnd(Stored):
    """An image ends one offset too late."""

    def close(self, rid: str, offset: int) -> None:
        super().close(rid, offset + 1)


class UntilOffByOne(MemoryTransaction):
    stored_type = LateEnd


class UnpairedImages(MemoryTransaction):
    """The old image of an update is not shown."""

    def read(self, part: Slice) -> ArrowStream:
        table = pa.table(super().read(part))
        if part.images != Images.CHANGES:
            return table
        new = {line[RID] for line in table.to_pylist() if line[WEIGHT] == 1}
        kept = [n for n, line in enumerate(table.to_pylist()) if line[WEIGHT] == 1 or line[RID] not in new]
        return table.take(kept)


class FirstOffset(MemoryTransaction):
    """A consolidated change has the offset where its range begins, not that of its last change."""

    def read(self, part: Slice) -> ArrowStream:
        table = pa.table(super().read(part))
        if part.images != Images.CHANGES:
            return table
        offsets = [min(part.from_ + 1, offset) for offset in table.column(OFFSET).to_pylist()]
        return table.set_column(1, OFFSET, pa.array(offsets, pa.int64()))


class NoMarker(MemoryTransaction):
    """A first write publishes nothing of itself."""

    def write(self, asset: str, output: Output) -> int:
        stored = self._stored(asset)
        if stored is not None and not stored.is_marked:
            self._own(asset).is_marked = True
        return super().write(asset, output)


class EveryWriteIsAChange(MemoryTransaction):
    """Equal rows are written again."""

    def write(self, asset: str, output: Output) -> int:
        if isinstance(output, Became):
            super().write(asset, Became(output.rows.slice(0, 0), output.key))  # type: ignore[union-attr]
        return super().write(asset, output)


class MovingSnapshot(MemoryTransaction):
    """A reader sees what others commit."""

    def _open(self) -> Mapping[str, Stored]:
        super()._open()
        self._tables, self._jobs = self._store.disk.tables, self._store.disk.jobs
        return self._tables


class DirtyWrites(MemoryTransaction):
    """Rows are published before the commit."""

    def write(self, asset: str, output: Output) -> int:
        count = super().write(asset, output)
        disk = self._store.disk
        disk.tables = {**disk.tables, asset: self._written[asset].copy()}
        return count


class LastWins(MemoryTransaction):
    """Of two racing transactions the later one overwrites the first."""

    def _publish(self) -> None:
        disk = self._store.disk
        self._store.check_epoch(self._epoch)
        disk.tables = {**disk.tables, **self._written}
        disk.jobs = {**disk.jobs, **self._settled}


class Unfenced(MemoryTransaction):
    """A former owner may go on."""

    def _publish(self) -> None:
        self._epoch = self._store.disk.epoch
        super()._publish()


class ForgottenParents(MemoryTransaction):
    """Rows are appended without what they belong to."""

    def write(self, asset: str, output: Output) -> int:
        count = super().write(asset, output)
        if isinstance(output, Appended):
            stored = self._own(asset)
            stored.images = [replace(image, parent=None) for image in stored.images]
        return count


class OffsetsBeginAnew(MemoryTransaction):
    """A new generation counts its offsets from 0."""

    def define(self, table: Any) -> Head:
        before = self.head(table.asset).generation
        super().define(table)
        stored = self._stored(table.asset)
        assert stored is not None
        if stored.generation > before:
            stored.offset = stored.floor = 0
        return stored.head


class GreedyTrim(Stored):
    """Trimming forgets one offset too many."""

    def trim(self, floor: int, keep: Iterable[int] = ()) -> int:
        count = super().trim(floor + 1, keep)
        self.floor = floor
        return count


class TrimmedTooFar(MemoryTransaction):
    stored_type = GreedyTrim


# What is planted -> a test that is about it, and so must fail.
PLANTED: dict[type[MemoryTransaction], str] = {
    ProgressOutside: "test_nothing_is_visible_before_commit",
    OutputsWithoutProgress: "test_the_nth_operation_may_fail",
    NoCompare: "test_progress_is_compared_and_set",
    CursorsMayMoveBack: "test_a_cursor_never_moves_back",
    NullUnsafe: "test_keys_are_null_safe_and_exact",
    RunningTogether: "test_keys_of_several_columns_do_not_run_together",
    Unchecked: "test_a_key_that_is_not_unique_is_refused",
    Unconsolidated: "test_a_row_that_changes_several_times_changes_once",
    Trusting: "test_a_taken_identity_is_refused_where_that_is_asked_for",
    Forgiving: "test_a_removal_of_what_is_not_there_is_refused",
    UntilOffByOne: "test_replaying_any_cuts_gives_the_state",
    UnpairedImages: "test_a_change_set_is_consolidated",
    FirstOffset: "test_a_change_set_is_the_consolidated_log",
    NoMarker: "test_a_first_write_without_rows_still_publishes_the_marker",
    EveryWriteIsAChange: "test_becoming_makes_the_difference_by_key",
    MovingSnapshot: "test_a_snapshot_does_not_move",
    DirtyWrites: "test_a_rollback_forgets_everything",
    LastWins: "test_of_two_racing_transactions_one_wins",
    Unfenced: "test_an_owner_is_fenced_off_by_the_next",
    ForgottenParents: "test_replacing_changes_only_what_differs",
    OffsetsBeginAnew: "test_other_columns_begin_a_new_empty_generation",
    TrimmedTooFar: "test_trimming_changes_nothing_else",
}


class Sound(StoreContract):
    """The suite over the store as it is."""

    gaps = frozenset({STATEMENTS})
    transaction_type: type[MemoryTransaction] = MemoryTransaction

    def make(self) -> Store:
        kind = type("Planted", (MemoryStore,), {"transaction_type": self.transaction_type})
        store = kind()
        assert isinstance(store, MemoryStore)
        return store

    def reopen(self, store: Store) -> Store:
        assert isinstance(store, MemoryStore)
        return store.reopen()


@pytest.mark.parametrize("planted", PLANTED, ids=lambda planted: planted.__name__)
def test_a_planted_bug_is_caught(planted: type[MemoryTransaction]) -> None:
    contract = Sound()
    contract.transaction_type = planted
    assert failures(contract, PLANTED[planted]) == [PLANTED[planted]]


def test_without_a_planted_bug_nothing_fails() -> None:
    assert failures(Sound()) == []
