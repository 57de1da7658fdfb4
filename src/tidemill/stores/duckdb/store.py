"""The tables: the home of assets in DuckDB.

Rules of this file:
  * one `DuckDBStore` is one user of a site (site.py); a second one over the same file in this process shares it, and
    the one that claims fences the other off;
  * maintenance (`trim`, `drop`) goes through the commit lock and the epoch like any other commit.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from tidemill.core.change import FROM, OFFSET, PARENT, RID, UNTIL, WEIGHT, Statement
from tidemill.core.errors import Fenced, NotFound, OperatorError, UserError
from tidemill.core.model import Column, Home
from tidemill.core.ports import Positions
from tidemill.stores.duckdb.database import CATALOG, Session, literal, quoted
from tidemill.stores.duckdb.inputs import INPUT_PREFIX, Inputs
from tidemill.stores.duckdb.layout import CURRENT, Known, drop_asset, forget, load, save_floor, table_name, write_epoch
from tidemill.stores.duckdb.site import Site
from tidemill.stores.duckdb.slices import relation_types
from tidemill.stores.duckdb.transaction import DuckDBTransaction

__all__ = ["DuckDBStore"]


class DuckDBStore:
    """The tables in one DuckDB file, or in memory (`":memory:"`); see `tidemill.core.ports.Store`."""

    home = Home.TABLES

    def __init__(self, path: str | Path, *, site: Site | None = None) -> None:
        self._site = site.join() if site else Site.at(str(path))
        self._epoch = self._site.epoch
        self._transactions: weakref.WeakSet[DuckDBTransaction] = weakref.WeakSet()
        self._is_closed = False

    @property
    def path(self) -> str:
        """The file, or `":memory:"`."""
        return self._site.path

    def twin(self) -> DuckDBStore:
        """Another store object over the same open database, as another part of this process would have."""
        return DuckDBStore(self._site.path, site=self._site)

    def claim(self) -> int:
        """See `Store.claim`."""
        self._check_open()
        session = self._site.take_session()
        with self._site.fence:
            write_epoch(session, self._site.epoch + 1)
            self._site.epoch += 1
            self._epoch = self._site.epoch
        self._site.give_back(session)
        return self._epoch

    def positions(self) -> Positions:
        """See `Store.positions`."""
        known: Known = self._asked(load)
        return known.positions()

    def begin(self, *, exclusive: bool = True) -> DuckDBTransaction:
        """See `Store.begin`."""
        self._check_open()
        transaction = DuckDBTransaction(self._site, self._epoch, exclusive=exclusive)
        self._transactions.add(transaction)
        return transaction

    def trim(self, asset: str, below: int, keep: Sequence[int] = ()) -> int:
        """See `Store.trim`."""

        def trimming(session: Session, known: Known) -> tuple[int, Known]:
            held = known.tables.get(asset)
            if held is None:
                raise NotFound(f"the store has no asset {asset}")
            floor = min(below, held.offset)
            if floor <= held.floor:
                return 0, known
            kept = frozenset(at for at in keep if at < floor and (at >= held.floor or at in held.kept))
            count = session.run(f"DELETE FROM {table_name(asset)} WHERE {UNTIL} <= {floor}{_but_for(kept)}")
            trimmed = replace(held, floor=floor, kept=kept)
            save_floor(session, held, trimmed)
            return count, known.after({asset: trimmed}, {})

        held = self._site.known.tables.get(asset)
        if held is not None and min(below, held.offset, held.closed) <= held.floor:
            self._check_owner()
            return 0  # no image has ended since: whoever keeps house asks this of every asset
        return self._maintain(trimming)

    def expire(self, asset: str, below: int) -> int:
        """See `Store.expire`."""

        def expiring(session: Session, known: Known) -> tuple[int, Known]:
            held = known.tables[asset]
            expired = min(below, held.offset)
            count = session.run(f"DELETE FROM {table_name(asset)} WHERE {FROM} <= {expired}")
            left = replace(held, floor=max(held.floor, expired), expired=expired, gone=held.gone + count)
            save_floor(session, held, left)
            return count, known.after({asset: left}, {})

        held = self._site.known.tables.get(asset)
        if held is None or not held.is_mirror or held.key is not None:
            return self.trim(asset, below)
        if min(below, held.offset) <= held.expired:
            self._check_owner()
            return 0
        return self._maintain(expiring)

    def drop(self, *, assets: Sequence[str] = (), jobs: Sequence[str] = ()) -> None:
        """See `Store.drop`."""

        def dropping(session: Session, known: Known) -> tuple[int, Known]:
            internal = [name for name in known.tables if name.partition("@")[0] in jobs and "@" in name]
            gone = [name for name in dict.fromkeys((*assets, *internal)) if name in known.tables]
            for name in gone:
                drop_asset(session, name)
            forget(session, gone, jobs)
            return len(gone), known.without(gone, jobs)

        self._maintain(dropping)

    def close(self) -> None:
        """See `Store.close`."""
        if self._is_closed:
            return
        self._is_closed = True
        for transaction in list(self._transactions):
            transaction.rollback()
        self._site.leave()

    # Beyond the port.

    @property
    def stamp(self) -> object:
        """Something that is another thing after each commit."""
        return self._site.known

    def shapes(self) -> dict[str, tuple[Column, ...]]:
        """The columns of every asset."""
        return {name: held.columns for name, held in self._site.known.tables.items()}

    def head(self, asset: str) -> int:
        """The offset of the asset's last change; 0 for one that the store does not have."""
        held = self._site.known.tables.get(asset)
        return held.offset if held is not None else 0

    def floor(self, asset: str) -> int:
        """The offset up to which the asset's history is gone."""
        held = self._site.known.tables.get(asset)
        return held.floor if held is not None else 0

    def count(self, asset: str) -> int:
        """How many current rows there are, counted; `head` tells what the log says."""
        text = f"SELECT count(*) FROM {table_name(asset)} WHERE {UNTIL} = {CURRENT}"
        [(rows,)] = self._asked(lambda session: session.rows(text))
        return int(rows)

    def belonging(self, asset: str, parents: Sequence[str]) -> Any:
        """The current rows that belong to these input rows, their identity first, as an Arrow table."""
        held = self._site.known.tables[asset]
        names = ", ".join([RID, *held.names])
        listed = ", ".join(literal(parent) for parent in parents) or "NULL"
        text = f"SELECT {names} FROM {table_name(asset)} WHERE {UNTIL} = {CURRENT} AND {PARENT} IN ({listed})"
        return self._asked(lambda session: session.arrow(f"{text} ORDER BY {FROM}, {RID}"))

    def describe(self, sql: str, tables: Mapping[str, Sequence[Column]]) -> tuple[Column, ...]:
        """The columns a SQL text results in, over tables of these shapes, without any rows.

        The text may name a table plainly, or as a statement does: `"@input:<name>"`, with the hidden columns.
        """
        hidden = {RID: "VARCHAR", OFFSET: "BIGINT", WEIGHT: "TINYINT"}
        named = []
        for name, columns in tables.items():
            shape = {column.name: column.type for column in columns}
            named += [f"{quoted(name)} AS ({relation_types(shape)})"]
            named += [f"{quoted(INPUT_PREFIX + name)} AS ({relation_types(hidden | shape)})"]
        prefix = f"WITH {', '.join(named)} " if named else ""
        text = f"{prefix}SELECT * FROM ({sql.strip().rstrip(';')}\n)"
        shape_of: Callable[[Session], list[tuple[str, str]]] = lambda session: session.shape(text)  # noqa: E731
        return tuple(Column(name, _type_name(kind)) for name, kind in self._asked(shape_of))

    def evaluate(self, statement: Statement) -> Any:
        """The rows of a statement whose relations are all handed over, as an Arrow table."""

        def evaluating(session: Session) -> Any:
            inputs = Inputs(session, lambda _: None, {})
            try:
                return session.arrow(inputs.query(statement))
            finally:
                inputs.release()

        return self._asked(evaluating)

    def query(self, sql: str, relations: Mapping[str, str] | None = None) -> Any:
        """The result of one query over the current rows, as an Arrow table; anything but a query is refused.

        `relations` are names that stand for a SQL text of ours, for this query alone.
        """

        def asking(session: Session) -> Any:
            if not session.is_query(sql):
                raise UserError("only one query can be asked here", mend="write a single SELECT")
            made: list[str] = []
            try:
                for name, text in (relations or {}).items():
                    session.run(f"CREATE OR REPLACE TEMPORARY VIEW {quoted(name)} AS {text}")
                    made.append(name)
                session.run("BEGIN TRANSACTION READ ONLY")
                return session.arrow(sql)
            finally:
                session.rollback()
                for name in made:
                    session.run(f"DROP VIEW temp.{quoted(name)}")

        return self._asked(asking)

    def backup(self, target: str | Path) -> Path:
        """Write a consistent copy of the live store into a folder, and return the file; work goes on meanwhile."""
        folder = Path(target)
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "tables.duckdb"
        partial = folder / "tables.duckdb.partial"
        partial.unlink(missing_ok=True)
        self._asked(lambda session: _copy(session, partial))
        partial.replace(path)
        return path

    def _asked(self, question: Callable[[Session], Any]) -> Any:
        """Ask on a session of its own."""
        self._check_open()
        session = self._site.take_session()
        try:
            return question(session)
        finally:
            self._site.give_back(session)

    def _maintain(self, work: Callable[[Session, Known], tuple[int, Known]]) -> int:
        """Do maintenance as one commit."""
        self._check_open()
        site = self._site
        with site.lock:
            before = site.known
            session = site.writer
            session.begin()
            try:
                count, known = work(session, before)
                with site.fence:
                    self._check_owner()
                    site.commit(session, known)
            except BaseException:
                session.rollback()
                raise
        return count

    def _check_owner(self) -> None:
        if self._epoch != self._site.epoch:
            raise Fenced(f"epoch {self._epoch} is over: the owner is now {self._site.epoch}")

    def _check_open(self) -> None:
        if self._is_closed:
            raise OperatorError("the store is closed", mend="open it again")


def _but_for(kept: Iterable[int]) -> str:
    """What leaves the images alone that were current at one of these positions."""
    places = ", ".join(f"({at})" for at in sorted(kept))
    current = f"SELECT 1 FROM (VALUES {places}) k(place) WHERE k.place >= {FROM} AND k.place < {UNTIL}"
    return f" AND NOT EXISTS ({current})" if places else ""


def _copy(session: Session, target: Path) -> None:
    """Copy the database, as it is in one snapshot, into a file."""
    session.run(f"ATTACH {literal(str(target))} AS backup")
    try:
        session.run(f"COPY FROM DATABASE {CATALOG} TO backup")
        session.run("CHECKPOINT backup")
    finally:
        session.run("DETACH backup")


def _type_name(text: str) -> str:
    """DuckDB's name of a type in lower case, except for what stands in quotes (members of an enum, names)."""
    parts = text.split("'")
    return "'".join(part.lower() if n % 2 == 0 else part for n, part in enumerate(parts))
