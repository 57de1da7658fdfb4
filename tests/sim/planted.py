"""Bugs planted on purpose, each in one small class: a simulator that lets one of them live proves nothing.

A bug is a `Machine` that makes one of its parts wrongly. Nothing of production is changed.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

from tidemill.core.change import PARENT, Output, Replaced
from tidemill.core.model import Asset, Job
from tidemill.core.ports import Head, Positions, Progress, Receipt, Store, Table, Transaction, Work
from tidemill.core.retention import Need
from tidemill.runtime.derived import DerivedReader
from tidemill.runtime.outside import Outside
from tidemill.runtime.perform import Snapshot
from tidemill.runtime.rows import as_table
from tidemill.testing.simulator.definitions import job_of
from tidemill.testing.simulator.fate import FatedStore, FatedTransaction
from tidemill.testing.simulator.machine import Machine
from tidemill.testing.simulator.outside import MemoryLog, Site
from tidemill.testing.simulator.words import JobSpec

__all__ = ["PLANTED"]


class WrongStore(FatedStore):
    """A store around another whose transactions are of the class `transactions`."""

    transactions: type[WrongTransaction]

    def __init__(self, inner: Store, transactions: type[WrongTransaction]) -> None:
        super().__init__(inner, inner.fate)  # type: ignore[attr-defined]
        self.transactions = transactions
        self.begun = 0

    def expire(self, asset: str, below: int) -> int:
        return self.inner.expire(asset, below)

    def begin(self, *, exclusive: bool = True) -> Transaction:
        self.begun += 1
        return self.transactions(self, self.inner.begin(exclusive=exclusive))


class WrongTransaction(FatedTransaction):
    """A transaction around another; it commits without meeting its fate a second time."""

    def __init__(self, store: WrongStore, inner: Transaction) -> None:
        super().__init__(store, inner)
        self.store = store
        self.late: list[Any] = []

    def commit(self) -> Mapping[str, Head]:
        return self.inner.commit()


class WrongTransactions(Machine):
    """A machine whose stores make wrong transactions."""

    transactions: ClassVar[type[WrongTransaction]]

    def wrap(self, store: Store) -> Store:
        return WrongStore(store, self.transactions)


# ------------------------------------------------------------------------------------ commits that fall apart


class CursorApart(WrongTransactions):
    """The cursor is committed in a transaction of its own, after the outputs."""

    class transactions(WrongTransaction):  # noqa: N801 - it stands for the attribute of the same name
        def settle(self, progress: Progress, expected: Progress | None) -> None:
            self.late.append((progress, expected))

        def commit(self) -> Mapping[str, Head]:
            heads = self.inner.commit()
            for progress, expected in self.late:
                second = self.store.inner.begin()
                try:
                    second.settle(progress, expected)
                    second.commit()
                finally:
                    second.rollback()
            return heads


class ParkedApart(WrongTransactions):
    """The parked set is committed after the cursor, in a transaction of its own."""

    class transactions(WrongTransaction):  # noqa: N801 - it stands for the attribute of the same name
        def define(self, table: Table) -> Head:
            if table.asset.endswith("@parked"):
                self.late.append(table)
                return Head()
            return super().define(table)

        def write(self, asset: str, output: Output) -> int:
            if asset.endswith("@parked"):
                self.late.append((asset, output))
                return 0
            return super().write(asset, output)

        def commit(self) -> Mapping[str, Head]:
            heads = self.inner.commit()
            if self.late:
                second = self.store.inner.begin()
                try:
                    for each in self.late:
                        second.define(each) if isinstance(each, Table) else second.write(*each)
                    second.commit()
                finally:
                    second.rollback()
            return heads


# ------------------------------------------------------------------------------------ positions that are wrong


class CursorBack(WrongTransactions):
    """After a restart, a job begins one change before the place it had reached."""

    class transactions(WrongTransaction):  # noqa: N801 - it stands for the attribute of the same name
        def progress(self, job: str) -> Progress | None:
            known = super().progress(job)
            if known is None or self.store.begun > 30:
                return known
            return replace(known, cursors={asset: max(0, at - 1) for asset, at in known.cursors.items()})

        def settle(self, progress: Progress, expected: Progress | None) -> None:
            super().settle(progress, self.inner.progress(progress.job) if expected is not None else None)


class LostForEver(Machine):
    """A lost notification is never healed: nobody looks whether something was missed."""

    def resync(self) -> None:
        return


class OldHeads(Machine):
    """After a restart the process believes the heads that the last one had noted, and not the stores."""

    def __init__(self, site: Site) -> None:
        self.believed: dict[str, Head] = dict(site.notes)
        super().__init__(site)

    def heads(self, held: Mapping[Any, Positions]) -> dict[str, Head]:
        found = super().heads(held)
        self.site.notes.update(found)
        return {name: self.believed.get(name, head) for name, head in found.items()}


class RenamedKeepsCursor(Machine):
    """A job goes on where the job of another name left off that wrote the same asset."""

    def forget(self, name: str) -> None:
        for store in self.inner.values():
            progress = store.positions().progress.get(name)
            if progress is not None:
                self.site.notes[name.partition("_")[0]] = progress
        super().forget(name)

    def define(self, spec: JobSpec) -> None:
        left = self.site.notes.get(spec.name.partition("_")[0])
        if left is not None and self.progress(spec) is None:
            job = job_of(spec)
            transaction = self.inner[job.home].begin()
            transaction.settle(replace(left, job=job.name, version=job.version), None)
            transaction.commit()
        super().define(spec)


class LongerRetry(WrongTransactions):
    """A run with outside effects that is tried again takes what came meanwhile too."""

    class transactions(WrongTransaction):  # noqa: N801 - it stands for the attribute of the same name
        def progress(self, job: str) -> Progress | None:
            known = super().progress(job)
            return None if known is None else replace(known, pinned=None)


# ------------------------------------------------------------------------------------------- rows that are wrong


class GateForgets(Machine):
    """Which values a gate has released is kept in memory, so it opens twice where a process dies in between."""

    def __init__(self, site: Site) -> None:
        if site.notes:
            for disk in site.disks.values():
                disk.tables = {name: stored for name, stored in disk.tables.items() if not name.endswith("@gate")}
        site.notes["was here"] = True
        super().__init__(site)


class RemovalsIgnored(WrongTransactions):
    """Rows whose input row is gone stay."""

    class transactions(WrongTransaction):  # noqa: N801 - it stands for the attribute of the same name
        def write(self, asset: str, output: Output) -> int:
            if isinstance(output, Replaced) and isinstance(output.parents, Sequence) and asset.startswith("t"):
                table = as_table(output.rows)  # type: ignore[arg-type]
                there = set(table.column(PARENT).to_pylist()) if PARENT in table.column_names else set()
                output = replace(output, rows=table, parents=tuple(p for p in output.parents if p in there))
            return super().write(asset, output)


# ------------------------------------------------------------------------------------- effects, the door, the clock


class RawRange(Machine):
    """A gated effect is handed the raw range: it sees rows of values that have not opened."""

    class Raw(Outside):
        def _act(self, work: Work, reader: Snapshot | DerivedReader, key: str) -> Mapping[str, str]:
            return super()._act(work, reader._inner if isinstance(reader, DerivedReader) else reader, key)

    def make_outside(self) -> Outside:
        made = super().make_outside()
        return self.Raw(made.catalog, made.stores, made.mirrors, made.effect_of, made.is_released)


class ValueForgotten(WrongTransactions):
    """Which value a gated run was begun for is not pinned with its range."""

    class transactions(WrongTransaction):  # noqa: N801 - it stands for the attribute of the same name
        def progress(self, job: str) -> Progress | None:
            known = super().progress(job)
            return None if known is None else replace(known, opens={})


class LetGoForGood(Machine):
    """Whoever lets one held run go lets all of them go."""

    def make_outside(self) -> Outside:
        return replace(super().make_outside(), is_released=lambda _key: bool(self.site.released))


class IdsInMemory(Machine):
    """Which events came before is known to the process alone, and not to the store that holds them."""

    class Door(MemoryLog):
        def __init__(self, store: Store, site: Site) -> None:
            super().__init__(store, site)
            self.seen: set[str] = set()

        def append(self, asset: Asset, events: bytes, *, source: str = "", mark: str = "") -> Receipt:
            receipt = super().append(asset, events, source=source, mark=mark)
            self.seen |= {json.loads(line)["id"] for line in events.splitlines()} if asset.id else set()
            return receipt

        def known_ids(self, asset: Asset, transaction: Transaction, head: int) -> set[str]:
            return self.seen

    def make_log(self, ledger: Store) -> MemoryLog:
        return self.Door(ledger, self.site)


class ClockTrusted(Machine):
    """What is heard while the clock shows less than it did is taken for old news."""

    latest = 0.0

    def hear(self, pick: int = 0) -> bool:
        if self.loop.posted and self.site.now < self.latest:
            self.loop.posted.pop()
            return True
        self.latest = self.site.now
        return super().hear(pick)


class UnreadExpires(Machine):
    """What is old expires, whoever has not read it."""

    def needs(self, topic: str, progress: Mapping[str, Progress]) -> list[Need]:
        return []


class GateTrimmed(Machine):
    """What a gate reads is trimmed as if it had released nothing."""

    def released(self, job: Job) -> Mapping[str, Mapping[str, int]]:
        return {}


PLANTED: dict[str, type[Machine]] = {
    "the cursor is not in the transaction": CursorApart,
    "the cursor moves back": CursorBack,
    "a lost notification is never healed": LostForEver,
    "an old head is trusted after a restart": OldHeads,
    "a gate opens twice": GateForgets,
    "a retry re-applies with a longer range": LongerRetry,
    "the parked set is committed apart from the cursor": ParkedApart,
    "a renamed job reuses a cursor": RenamedKeepsCursor,
    "removals are not passed on": RemovalsIgnored,
    "a gated effect sees the raw range": RawRange,
    "the value of a gated run is not pinned": ValueForgotten,
    "what one held run may, all may": LetGoForGood,
    "ids are forgotten with the process": IdsInMemory,
    "a clock that goes back makes news old": ClockTrusted,
    "what nobody has read expires": UnreadExpires,
    "what a gate released is trimmed away": GateTrimmed,
}
