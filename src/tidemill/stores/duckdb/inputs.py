"""What an output is made of, as SQL: Arrow rows handed over, or a statement over slices.

Rules of this file:
  * a statement's relations become common table expressions with the same names, so that its text is never rewritten;
  * what is registered with a session is released when the statement is over;
  * the columns of a statement are asked for once per text and shape, then remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pyarrow as pa

from tidemill.core.change import UNTIL, ArrowStream, Slice, Statement
from tidemill.core.errors import NotFound
from tidemill.stores.duckdb.database import Session, literal, quoted, table_of
from tidemill.stores.duckdb.difference import ROWS_NAME, Source
from tidemill.stores.duckdb.layout import CURRENT, Held, table_name
from tidemill.stores.duckdb.slices import Gated, gate_of, relation

__all__ = ["INPUT_PREFIX", "PLACE", "Inputs"]

INPUT_PREFIX = "@input:"
"""What the relations of a statement are called in its text, before their name."""

PLACE = "_place"
"""A column added to Arrow rows: a row's place among them, from 1."""


class Inputs:
    """Resolves what outputs refer to, for one transaction."""

    def __init__(
        self, session: Session, held_of: Callable[[str], Held | None], shapes: dict[object, tuple[str, ...]]
    ) -> None:
        self._session = session
        self._held_of = held_of
        self._shapes = shapes
        self._registered: list[str] = []

    def slice(self, part: Slice) -> str:
        """A slice as a SELECT."""
        held = self._held_of(part.asset)
        if held is None:
            raise NotFound(f"the store has no asset {part.asset}", mend="define it before reading it")
        return relation(part, held, self._gated(part))

    def source(self, rows: ArrowStream | Statement) -> Source:
        """The rows of an output as the relation `"@rows"`."""
        return self._of_statement(rows) if isinstance(rows, Statement) else self._of_arrow(table_of(rows))

    def identities(self, parents: Any) -> str:
        """Row identities, given as text or as a slice, as the inside of an IN."""
        if isinstance(parents, Slice):
            return f"SELECT _rid FROM ({self.slice(parents)})"
        return ", ".join(map(literal, parents)) or "NULL"

    def release(self) -> None:
        """Forget what was registered."""
        while self._registered:
            self._session.unregister(self._registered.pop())

    def _of_arrow(self, table: Any) -> Source:
        names = tuple(table.column_names)
        placed = table.append_column(PLACE, pa.array(range(1, table.num_rows + 1), pa.int64()))
        self._register(ROWS_NAME, placed)
        return Source((), names, PLACE, is_empty=table.num_rows == 0)

    def _of_statement(self, statement: Statement) -> Source:
        tables = [self._relation(name, what) for name, what in statement.relations.items()]
        sql = statement.sql.strip().rstrip(";")
        key = (sql, self._shape_of(statement.relations))
        names = self._shapes.get(key)
        if names is None:
            prefix = f"WITH {', '.join(tables)} " if tables else ""
            names = tuple(name for name, _ in self._session.shape(f"{prefix}SELECT * FROM ({sql}\n)"))
            self._shapes[key] = names
        return Source((*tables, f"{quoted(ROWS_NAME)} AS (SELECT * FROM ({sql}\n))"), names, "row_number() OVER ()")

    def _relation(self, name: str, what: Slice | ArrowStream) -> str:
        name = name if name.startswith(INPUT_PREFIX) else INPUT_PREFIX + name
        if isinstance(what, Slice):
            return f"{quoted(name)} AS NOT MATERIALIZED ({self.slice(what)})"
        registered = f"@given:{len(self._registered)}"
        self._register(registered, table_of(what))
        return f"{quoted(name)} AS NOT MATERIALIZED (SELECT * FROM {quoted(registered)})"

    def _shape_of(self, relations: Mapping[str, Slice | ArrowStream]) -> tuple[object, ...]:
        return tuple((name, self._shape_of_one(what)) for name, what in relations.items())

    def _shape_of_one(self, what: Slice | ArrowStream) -> object:
        if not isinstance(what, Slice):
            return object()
        held = self._held_of(what.asset)
        return (what.asset, what.images, held.columns if held else ())

    def _gated(self, part: Slice) -> Gated | None:
        held = self._held_of(gate_of(part.released)) if part.released else None
        if held is None or not held.rows:
            return None
        of_input = f'FROM {table_name(held.asset)} WHERE {UNTIL} = {CURRENT} AND "input" = {literal(part.asset)}'
        partitions = tuple(name for (name,) in self._session.rows(f'SELECT DISTINCT "partition" {of_input} ORDER BY 1'))
        return Gated(f'SELECT "partition", "value", "position" {of_input}', partitions) if partitions else None

    def _register(self, name: str, table: Any) -> None:
        self._session.register(name, table)
        self._registered.append(name)
