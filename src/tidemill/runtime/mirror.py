"""Mirrors: the typed copies of topics in the tables store, which stateful SQL reads.

Rules of this file:
  * a mirror keeps the topic's own offsets, so a cursor means the same in both;
  * a mirror's head is its progress: what is copied and how far commit together, so copying again copies nothing twice;
  * a mirror is derived: the ledger is the truth (reconcile reads that, never the mirror).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from tidemill.core.change import OFFSET, RID, WEIGHT, Appended, ArrowStream, Images, Replaced, Slice, Statement
from tidemill.core.model import AssetKind, Home, Job, Semantics
from tidemill.core.ports import Plan, Store, Table, Transaction
from tidemill.runtime.catalog import Catalog
from tidemill.runtime.rows import as_table, row_ids, table_of

__all__ = ["COPY_CHANGES", "Mending", "Mirrors"]

_NOTHING = pa.schema([pa.field(RID, pa.string()), pa.field(OFFSET, pa.int64())])
COPY_CHANGES = 25_000
"""Events copied at a time, so that memory stays flat."""


class Mending(Transaction, Protocol):
    """A transaction of the tables store that can also put right what was changed behind its log."""

    def tidy(self, asset: str) -> int:
        """Take away current rows that no log made, and count the rows anew; returns how many went."""

    def empty(self, asset: str) -> None:
        """Forget all rows of a mirror, history included, so that it is filled again from 0."""

    def evaluate(self, statement: Statement) -> ArrowStream:
        """The rows of a statement in this snapshot."""


class Mirrors:
    """Brings topics' mirrors to the heads of their logs."""

    def __init__(self, catalog: Catalog, tables: Store, ledger: Store) -> None:
        self._catalog = catalog
        self._tables = tables
        self._ledger = ledger
        self._made: set[str] = set()

    def needed(self, job: Job, plan: Plan) -> list[str]:
        """The topics that a run of this job reads from their mirrors."""
        return [name for name in job.inputs if plan.is_mirrored and self._is_topic(name)]

    def _is_topic(self, name: str) -> bool:
        return self._catalog.assets[name].kind is AssetKind.TOPIC

    def prepare(self, job: Job, plan: Plan) -> None:
        """Make a job's inputs ready in a transaction of their own, before a snapshot is taken."""
        mirrored = self.needed(job, plan)
        if not mirrored and all(name in self._made for name in self._tables_read(job)):
            return
        transaction = self._tables.begin()
        try:
            if self.prepare_within(job, plan, transaction):
                transaction.commit()
        finally:
            transaction.rollback()

    def prepare_ahead(self, job: Job, plan: Plan) -> None:
        """Copy a long backlog in commits of its own, so that the run's own transaction holds little in memory."""
        for topic in self.needed(job, plan):
            while self._is_copied_ahead(topic):
                pass

    def _is_copied_ahead(self, topic: str) -> bool:
        """Copy one part of a long backlog; whether there was one."""
        ledger = self._ledger.begin(exclusive=False)
        try:
            head = ledger.head(topic).offset
        finally:
            ledger.rollback()
        if head <= COPY_CHANGES:
            return False
        transaction = self._tables.begin()
        try:
            if head - transaction.head(topic).offset <= COPY_CHANGES:
                return False
            self.catch_up(topic, transaction, most=COPY_CHANGES)
            transaction.commit()
            return True
        finally:
            transaction.rollback()

    def prepare_within(self, job: Job, plan: Plan, transaction: Transaction) -> int:
        """Make a job's inputs ready inside a transaction of the tables store; returns how much that changed.

        Mirrors are brought to head; a table that nothing was ever written to exists, and is empty.
        """
        made = 0
        for name in self._tables_read(job):
            if name not in self._made:
                made += self._make(name, transaction)
        return made + sum(self.catch_up(name, transaction) for name in self.needed(job, plan))

    def _tables_read(self, job: Job) -> list[str]:
        return [name for name in job.inputs if self._catalog.assets[name].home is Home.TABLES]

    def _make(self, name: str, transaction: Transaction) -> int:
        if transaction.head(name).offset:
            self._made.add(name)
            return 0
        shape = self._catalog.table(name)
        if not shape.columns:
            return 0
        transaction.define(shape)
        return 1

    def catch_up_all(self, topics: Iterable[str]) -> None:
        """Bring these topics' mirrors to head, in one transaction."""
        names = [name for name in topics if self._is_topic(name)]
        if not names:
            return
        transaction = self._tables.begin()
        try:
            copied = sum(self.catch_up(name, transaction) for name in names)
            if copied:
                transaction.commit()
        finally:
            transaction.rollback()

    def refill(self, topic: str, transaction: Mending, stops: Iterable[int]) -> None:
        """Copy a topic's whole log again into its emptied mirror, which history at `stops` can be read from.

        A mirror keeps one image a key and copied part; so a part ends wherever a reader stands.
        """
        transaction.empty(topic)
        for stop in sorted(set(stops)):
            have = transaction.head(topic).offset
            if stop > have:
                self.catch_up(topic, transaction, most=stop - have)
        self.catch_up(topic, transaction)

    def catch_up(self, topic: str, transaction: Transaction, *, most: int = 0) -> int:
        """Copy what the mirror lacks, inside a transaction of the tables store; returns how much there is to commit.

        With `most` only so many events, where no other shape makes the mirror begin anew.
        The mirror of a topic without events exists, and is empty: to make it counts as one.
        """
        reader = self._ledger.begin(exclusive=False)
        try:
            head, have = reader.head(topic).offset, transaction.head(topic).offset
            asset = self._catalog.assets[topic]
            is_upsert = asset.semantics is Semantics.UPSERT
            before = transaction.head(topic).generation
            shape = Table(topic, asset.columns, asset.key if is_upsert else None, widens=True)
            names = [column.name for column in asset.columns]
            is_anew = transaction.define(shape).generation != before
            if not head:
                # It is a mirror from the start: cursors of readers of the topic itself may stand beyond its head.
                transaction.write(topic, Replaced(table_of(_NOTHING, []), [], head=0))
            # With other columns it begins anew, and empty: all of the topic is copied again that has not expired.
            end = min(head, have + most) if most and not is_anew else head
            begin, expired = 0 if is_anew else have, reader.head(topic).expired
            if begin < expired:
                transaction.write(topic, Appended(table_of(_NOTHING, []), head=max(expired, have), expired=expired))
                begin = expired
            for low in range(begin, end, COPY_CHANGES):
                high = min(low + COPY_CHANGES, end)
                if is_upsert:
                    changes = as_table(reader.read(Slice(topic, low, high, Images.CHANGES)))
                    added = _only(changes.filter(pc.greater(changes.column(WEIGHT), 0)), names)
                    transaction.write(topic, Replaced(added, row_ids(changes), head=max(high, have)))
                else:
                    rows = as_table(reader.read(Slice(topic, low, high, Images.ADDED)))
                    transaction.write(topic, Appended(_only(rows, names), head=max(high, have)))
            return max(0, head - have) or int(not have or is_anew)
        finally:
            reader.rollback()


def _only(rows: pa.Table, names: list[str]) -> pa.Table:
    """The rows with these columns alone: a topic that evolves may have one more, which no event has a value of yet."""
    return rows.select([RID, OFFSET, *names])
