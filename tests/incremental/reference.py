"""The right answer: plain DuckDB over the current base rows, which knows nothing of tidemill.

Rules of this file:
  * the text that is run is the user's own, never the canonical one;
  * tables are compared as bags, with their types and names; nothing is rounded. Only columns that a query names as
    `close` may differ in their last bits, because DuckDB's own text leaves those open: an average of decimals (1e-12
    relative: DuckDB divides by the count times the scale, the canonical form divides the exact sum) and what adds up
    floating point numbers in the order in which they happen to come (1e-9 relative);
  * published change sets are applied here as any reader would apply them: an old image must be the row that is there.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from tests.incremental.tables import Base, ChangeSet
from tidemill.core.change import OFFSET, RID, WEIGHT
from tidemill.core.model import Column

SHOWN_ROWS = 5


def quoted(name: str) -> str:
    """A name as a SQL identifier."""
    return '"' + name.replace('"', '""') + '"'


class Wrong(AssertionError):
    """A table, or what was published of it, is not what it must be."""


class Reference:
    """Current base rows in plain DuckDB, the answers to queries over them, and readers of published change sets."""

    def __init__(self, bases: Iterable[Base]) -> None:
        self.connection = duckdb.connect(config={"threads": 2})
        self.connection.execute("SET TimeZone = 'UTC'")
        # DuckDB 2.0.0 gives wrong quotients of decimal sums over whole partitions with it.
        self.connection.execute("SET disabled_optimizers = 'window_self_join'")
        self.bases = {base.name: base for base in bases}
        for base in self.bases.values():
            body = ", ".join(f"{quoted(name)} {kind}" for name, kind in base.columns.items())
            self.connection.execute(f"CREATE TABLE {_rows_of(base.name)} ({RID} VARCHAR, {body})")
            names = ", ".join(map(quoted, base.columns))
            self.connection.execute(f"CREATE VIEW {quoted(base.name)} AS SELECT {names} FROM {_rows_of(base.name)}")

    def close(self) -> None:
        """Forget everything."""
        self.connection.close()

    def write(self, changes: ChangeSet) -> None:
        """Let base rows come, change and go."""
        for name, edit in changes.items():
            touched = pa.table({RID: pa.array(edit.changed, pa.string())})
            self._given("touched", touched, f"DELETE FROM {_rows_of(name)} WHERE {RID} IN (SELECT {RID} FROM touched)")
            self._given("given", edit.rows, f"INSERT INTO {_rows_of(name)} SELECT * FROM given")

    def name(self, view: str, sql: str) -> None:
        """Let other queries read this one's answer under a name, as a job reads another job's output."""
        self.connection.execute(f"CREATE OR REPLACE VIEW {quoted(view)} AS {sql}")

    def count(self, relation: str) -> int:
        """How many rows a relation has."""
        [(count,)] = self._rows(f"SELECT count(*) FROM {relation}")
        return int(count)

    def check(self, sql: str, found: pa.Table, columns: Sequence[Column], close: Mapping[str, float]) -> int:
        """Compare a table (its rows and its columns as the product says they are) with the answer to `sql`.

        Returns how many rows the answer has. Raises Wrong.
        """
        self.connection.execute(f'CREATE OR REPLACE TEMP TABLE "@expected" AS {sql}')
        self._check_columns(columns)
        self._take("@found", found, columns)
        difference = self._difference("@found", "@expected", columns, close)
        if difference:
            raise Wrong(f"the table is not what the query says:\n{difference}")
        return self.count('"@expected"')

    def _check_columns(self, columns: Sequence[Column]) -> None:
        expected = [(name, _type(kind)) for name, kind, *_ in self._rows('DESCRIBE "@expected"')]
        found = [(column.name, _type(column.type)) for column in columns]
        if found != expected:
            raise Wrong(f"the columns are {found}, and must be {expected}")

    def _take(self, name: str, rows: pa.Table, columns: Sequence[Column]) -> None:
        """Arrow rows as a table in the types that the product says they have."""
        typed = ", ".join(f"{quoted(c.name)}::{c.type} AS {quoted(c.name)}" for c in columns)
        self._given("taken", rows, f"CREATE OR REPLACE TEMP TABLE {quoted(name)} AS SELECT {typed} FROM taken")

    def _difference(self, one: str, other: str, columns: Sequence[Column], close: Mapping[str, float]) -> str:
        """What is wrong with `one`, in words; empty where both are the same bag."""
        if close:
            return self._close_difference(one, other, columns, close)
        counts = self.count(quoted(one)), self.count(quoted(other))
        extra = self._extra(one, other)
        if counts[0] == counts[1] and not extra:
            return ""
        return (
            f"  {counts[0]} rows, expected {counts[1]}\n  too much: {extra[:SHOWN_ROWS]}\n"
            f"  missing:  {self._extra(other, one)[:SHOWN_ROWS]}"
        )

    def _extra(self, one: str, other: str) -> list[Any]:
        limit = f"LIMIT {SHOWN_ROWS}"
        return self._rows(f"(SELECT * FROM {quoted(one)} EXCEPT ALL SELECT * FROM {quoted(other)}) {limit}")

    def _close_difference(self, one: str, other: str, columns: Sequence[Column], close: Mapping[str, float]) -> str:
        """Pair the rows in the order of their exact columns, then of the close ones, and look at each pair."""
        exact = [quoted(c.name) for c in columns if c.name not in close]
        order = ", ".join([*exact, *map(quoted, close)])
        numbered = [
            f"{alias} AS (SELECT *, row_number() OVER (ORDER BY {order}) AS _n FROM {quoted(name)})"
            for alias, name in (("f", one), ("e", other))
        ]
        wrong = ["f._n IS NULL", "e._n IS NULL", *(f"f.{name} IS DISTINCT FROM e.{name}" for name in exact)]
        wrong += [_is_apart(quoted(name), tolerance) for name, tolerance in close.items()]
        text = (
            f"WITH {', '.join(numbered)} SELECT f, e FROM f FULL JOIN e USING (_n) WHERE {' OR '.join(wrong)} LIMIT 5"
        )
        found = self._rows(text)
        return "\n".join(f"  found {pair[0]}\n  expected {pair[1]}" for pair in found)

    # Readers of what is published.

    def follow(self, reader: str, columns: Sequence[Column]) -> None:
        """Begin to read an output's change sets, from nothing."""
        body = ", ".join(f"{quoted(c.name)} {c.type}" for c in columns)
        self.connection.execute(f"CREATE OR REPLACE TABLE {_read_by(reader)} ({RID} VARCHAR, {body})")

    def apply(self, reader: str, changes: pa.Table, columns: Sequence[Column], taken: tuple[int, int]) -> None:
        """Apply one published change set of (from, to]. Raises Wrong where it is not consolidated or does not fit."""
        names = [RID, *(quoted(c.name) for c in columns)]
        typed = [f"{quoted(c.name)}::{c.type} AS {quoted(c.name)}" for c in columns]
        hidden = [RID, OFFSET, WEIGHT]
        take = f'CREATE OR REPLACE TEMP TABLE "@changes" AS SELECT {", ".join(hidden + typed)} FROM taken'
        self._given("taken", changes, take)
        self._refuse('SELECT _rid FROM "@changes" GROUP BY _rid, _weight HAVING count(*) > 1', "has two of a row")
        outside = f'SELECT _rid FROM "@changes" WHERE _offset <= {taken[0]} OR _offset > {taken[1]}'
        self._refuse(outside, "has an offset outside its range")
        images = ", ".join(names)
        old = f'SELECT {images} FROM "@changes" WHERE {WEIGHT} < 0'
        new = f'SELECT {images} FROM "@changes" WHERE {WEIGHT} > 0'
        self._refuse(f"{old} INTERSECT {new}", "changes a row into itself")
        self._refuse(f"{old} EXCEPT SELECT {images} FROM {_read_by(reader)}", "removes a row that is not there")
        self.connection.execute(f"DELETE FROM {_read_by(reader)} WHERE {RID} IN (SELECT {RID} FROM ({old}))")
        there = f"SELECT {RID} FROM ({new}) WHERE {RID} IN (SELECT {RID} FROM {_read_by(reader)})"
        self._refuse(there, "adds a row that is there already")
        self.connection.execute(f"INSERT INTO {_read_by(reader)} {new}")

    def check_reader(self, reader: str, found: pa.Table, columns: Sequence[Column]) -> None:
        """Compare what a reader has with the table itself. Raises Wrong."""
        names = ", ".join(quoted(c.name) for c in columns)
        self.connection.execute(f'CREATE OR REPLACE TEMP VIEW "@read" AS SELECT {names} FROM {_read_by(reader)}')
        self._take("@found", found, columns)
        difference = self._difference("@read", "@found", columns, {})
        if difference:
            raise Wrong(f"the published change sets do not give the table:\n{difference}")

    def _refuse(self, sql: str, what: str) -> None:
        rows = self._rows(f"SELECT * FROM ({sql}) LIMIT {SHOWN_ROWS}")
        if rows:
            raise Wrong(f"the published change set {what}: {rows}")

    def _given(self, name: str, rows: pa.Table, sql: str) -> None:
        self.connection.register(name, rows)
        self.connection.execute(sql)
        self.connection.unregister(name)

    def _rows(self, sql: str) -> list[Any]:
        return self.connection.execute(sql).fetchall()


def _rows_of(base: str) -> str:
    return quoted(f"@base:{base}")


def _read_by(reader: str) -> str:
    return quoted(f"@reader:{reader}")


def _type(text: str) -> str:
    """A type as DuckDB itself spells it, whatever the case it was written in."""
    return str(duckdb.sqltype(text)).lower()


def _is_apart(name: str, tolerance: float) -> str:
    """The condition that two numbers differ by more than their last bits."""
    one, other = f"f.{name}", f"e.{name}"
    distance = (
        f"abs({one}::DOUBLE - {other}::DOUBLE) > {tolerance} * greatest(abs({one}::DOUBLE), abs({other}::DOUBLE))"
    )
    return f"(({one} IS NULL) <> ({other} IS NULL) OR ({one} <> {other} AND {distance}))"
