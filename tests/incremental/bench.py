"""A mill in miniature: real stores, the real SQL engine and the real performer, driven one change set at a time.

Rules of this file:
  * nothing of the product is imitated but its wiring (`project/wiring.py`); jobs are built from text as a project does;
  * a run goes through the `Performer`, so that cursors, first runs, rebuilds, snapshots and commits are the product's;
  * every part is made by a method of its own, so that a planted bug is a subclass that makes one part otherwise.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from tests.incremental.tables import TOPIC, UPSERT, Base, ChangeSet, Edit
from tidemill.core.change import Appended, Images, Replaced, Slice
from tidemill.core.errors import DefinitionError
from tidemill.core.event import Readiness, Start
from tidemill.core.model import Asset, AssetKind, Column, Home, Job, Place, Takes
from tidemill.core.ports import Engine, Head, Plan, Store, Table, Transaction
from tidemill.core.retention import may_go
from tidemill.engines.duckdb import DuckDBEngine
from tidemill.project.sqljobs import Cache, SqlFile, built
from tidemill.runtime.catalog import Catalog
from tidemill.runtime.mirror import Mirrors
from tidemill.runtime.perform import Done, Performer
from tidemill.runtime.retention import need_of
from tidemill.stores.duckdb import DuckDBStore
from tidemill.stores.sqlite import SQLiteStore

MEMORY = ":memory:"


class Bench:
    """Base assets, SQL jobs over them, and the machine that runs them. `path` is the file of the tables."""

    def __init__(self, bases: Iterable[Base], path: str | Path = MEMORY) -> None:
        self.bases = {base.name: base for base in bases}
        self.path = path
        self.ledger = SQLiteStore() if path == MEMORY else SQLiteStore(Path(path).with_suffix(".ledger"))
        self.tables = DuckDBStore(path)
        self.jobs: dict[str, Job] = {}
        self._runs = itertools.count(1)
        self._assets: dict[str, Asset] = {base.name: base.asset() for base in self.bases.values()}
        self._assemble()
        for base in self.bases.values():
            if base.kind in (TOPIC, UPSERT):
                self.ledger.append(self._assets[base.name], b"")

    def _assemble(self) -> None:
        self.ledger.claim()
        self.tables.claim()
        self.catalog = Catalog(assets=dict(self._assets))
        self.catalog.engines = {Takes.SQL: self.make_engine(self.tables, self.catalog)}
        stores: dict[Home, Store] = {Home.LEDGER: self.ledger, Home.TABLES: self.make_store(self.tables)}
        mirrors = Mirrors(self.catalog, stores[Home.TABLES], self.ledger)
        self.performer = Performer(self.catalog, stores, mirrors)
        for job in self.jobs.values():
            self.catalog.put(job)

    def make_engine(self, tables: DuckDBStore, catalog: Catalog) -> Engine:
        """The engine of SQL jobs."""
        return DuckDBEngine(tables, catalog.asset, dict)

    def make_store(self, tables: DuckDBStore) -> Store:
        """The tables as the performer sees them."""
        return tables

    def reopen(self) -> None:
        """End this process and begin the next one over the same files; tables in memory stay as they are."""
        if self.path == MEMORY:
            return
        self.close()
        self.ledger = SQLiteStore(Path(self.path).with_suffix(".ledger"))
        self.tables = DuckDBStore(self.path)
        self._assemble()

    def close(self) -> None:
        """Release the stores."""
        self.tables.close()
        self.ledger.close()

    # Definitions.

    def define(self, name: str, text: str) -> Plan:
        """Define a job from the text of its file; returns its plan. Raises DefinitionError."""
        read = Cache(None).read(text, f"jobs/{name}.sql")
        known = {asset.lower(): found for asset, found in self._assets.items()}
        draft, problems = built(SqlFile(name, f"jobs/{name}.sql", read), {}, lambda _: Place(), known)
        if draft is None:
            raise problems[0]
        job = draft.finished(self._assets)
        missing = [asset for asset in job.inputs if asset not in self._assets]
        if missing:
            raise DefinitionError(f"no asset is called {missing[0]}", place=name)
        for output in job.outputs:
            self._assets[output] = self.catalog.assets[output] = Asset(output, AssetKind.TABLE)
        self.jobs[name] = job
        self.catalog.put(job)
        return self.catalog.plan(job)

    def columns(self, asset: str) -> tuple[Column, ...]:
        """The columns that the store holds for an asset."""
        return self.tables.shapes()[asset]

    # Base rows.

    def write(self, changes: ChangeSet) -> None:
        """Commit one change set of base assets: tables in one transaction, topics through their door."""
        stored = {name: edit for name, edit in changes.items() if self.bases[name].kind not in (TOPIC, UPSERT)}
        if stored:
            transaction = self.tables.begin()
            try:
                for name, edit in stored.items():
                    self._write_table(transaction, self.bases[name], edit)
                transaction.commit()
            finally:
                transaction.rollback()
        for name, edit in changes.items():
            if name not in stored:
                self._emit(self.bases[name], edit)

    def _write_table(self, transaction: Transaction, base: Base, edit: Edit) -> None:
        asset = self._assets[base.name]
        head = transaction.define(Table(base.name, asset.columns, base.key or None))
        is_load = not head.rows and edit.rows.num_rows > 0
        transaction.write(base.name, Appended(edit.rows) if is_load else Replaced(edit.rows, edit.changed))

    def _emit(self, base: Base, edit: Edit) -> None:
        """Events in the order of the edit. An upsert topic has one key column, whose text is the row's identity."""
        events = [{name: row[name] for name in base.columns} for row in edit.rows.to_pylist()]
        kind = int if base.key and "INT" in base.columns[base.key[0]] else str
        events += [{base.key[0]: kind(rid), "_deleted": True} for rid in edit.gone]
        if not events:
            return
        lines = "\n".join(json.dumps(event, default=str) for event in events)
        receipt = self.ledger.append(self._assets[base.name], lines.encode())
        assert receipt.parked == 0, receipt.refusals

    # Runs.

    def run(self, name: str, *, exclusive: bool = True, is_rebuild: bool = False) -> Done:
        """Perform one run of a job, up to the heads of its inputs."""
        return self.performer.perform(self._start(name, is_rebuild), self._run_id(), exclusive=exclusive)

    def run_together(self, names: Sequence[str]) -> list[Done]:
        """Perform one run of each of these jobs in one transaction (group commit)."""
        transaction = self.performer.stores[Home.TABLES].begin()
        try:
            done = [self.performer.join(self._start(name, False), self._run_id(), transaction) for name in names]
            transaction.commit()
        finally:
            transaction.rollback()
        return done

    def _start(self, name: str, is_rebuild: bool) -> Start:
        return Start(name, 1, Readiness(True, ("the test says so",)), 0.0, is_rebuild=is_rebuild)

    def _run_id(self) -> str:
        return f"run-{next(self._runs)}"

    def has_news(self, name: str) -> bool:
        """Whether a job has something to read: the product starts none without."""
        cursors, job = self.cursors(name), self.jobs[name]
        return any(self.head(asset).offset > cursors.get(asset, 0) for asset in job.inputs)

    def cursors(self, name: str) -> dict[str, int]:
        """How far a job has read each of its inputs; empty before its first run."""
        progress = self.tables.positions().progress.get(name)
        return dict(progress.cursors) if progress is not None else {}

    def trim(self, floor_of: dict[str, int]) -> None:
        """Forget the history of assets below what their readers have read; `floor_of` has readers beside the jobs."""
        heads = self.tables.positions().heads
        for asset in [name for name in heads if "@" not in name and self._assets[name].home is Home.TABLES]:
            cursors = [self.cursors(job.name).get(asset, 0) for job in self.jobs.values() if asset in job.inputs]
            floor = min([*(at for at in cursors if at), floor_of.get(asset, heads[asset].offset)])
            self.tables.trim(asset, floor)

    def expire(self, choose: random.Random) -> int:
        """Let some of each topic's oldest events expire, as far as no job needs them; returns how many went."""
        gone, heads = 0, self.ledger.positions().heads
        for topic in [base.name for base in self.bases.values() if base.kind == TOPIC]:
            known = self.tables.positions().progress
            readers = [job for job in self.jobs.values() if topic in job.inputs]
            needs = [need_of(self.catalog, job, topic, known.get(job.name)) for job in readers]
            head = heads[topic].offset  # only whole blocks go, and the first is often most of the history
            below = may_go(choose.choice([head, choose.randint(0, head)]), [need for need in needs if need is not None])
            gone += self.ledger.expire(topic, below)
            if self.tables.head(topic):
                self.tables.expire(topic, self.ledger.floor(topic))
        return gone

    def has_expired(self, name: str) -> bool:
        """Whether rows of an input of the job have."""
        return any(self.head(asset).expired for asset in self.jobs[name].inputs)

    # What came of it.

    def rows(self, asset: str) -> pa.Table:
        """The current rows of an asset, as a query sees them."""
        found: pa.Table = self.tables.query(f'SELECT * FROM "{asset}"')
        return found

    def digest(self, asset: str) -> str:
        """A hash of an asset's current rows, whatever their order: equal where all bits are."""
        [row] = self.tables.query(
            f"SELECT md5(coalesce(string_agg(t, chr(10) ORDER BY t), '')) AS h "
            f'FROM (SELECT r::VARCHAR AS t FROM "{asset}" r)'
        ).to_pylist()
        return str(row["h"])

    def head(self, asset: str) -> Head:
        """The end of an asset's log."""
        store: Store = self.tables if self._assets[asset].home is Home.TABLES else self.ledger
        return store.positions().heads.get(asset, Head())

    def published(self, asset: str, from_: int, to: int) -> pa.Table:
        """The change set (from, to] that the asset's log shows to its readers."""
        transaction = self.tables.begin(exclusive=False)
        try:
            stream: Any = transaction.read(Slice(asset, from_, to, Images.CHANGES))
            return stream if isinstance(stream, pa.Table) else pa.table(stream)
        finally:
            transaction.rollback()
