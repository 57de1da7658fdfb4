"""What an output is made of, as SQL: Arrow rows handed over, or a statement over slices.

Rules of this file:
  * a statement's relations become common table expressions with the same names, so that its text is never rewritten;
  * what is registered with a session is released when the statement is over;
  * the columns of a statement are asked for once per text and shape, then remembered.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import pyarrow as pa

from tidemill.core.change import OFFSET, ORDINAL, PARENT, RID, UNTIL, WEIGHT, ArrowStream, Images, Slice, Statement
from tidemill.core.errors import NotFound
from tidemill.sql.faithful import is_faithful
from tidemill.stores.duckdb.changes import IMAGES_MAX, consolidated, scan
from tidemill.stores.duckdb.database import Session, in_memory, literal, quoted, table_of
from tidemill.stores.duckdb.difference import ROWS_NAME, Source
from tidemill.stores.duckdb.layout import CURRENT, Held, table_name
from tidemill.stores.duckdb.slices import Gated, check, gate_of, has_old_images, relation
from tidemill.stores.duckdb.values import ROWS_MAX, as_values

__all__ = ["INPUT_PREFIX", "PLACE", "Inputs"]

INPUT_PREFIX = "@input:"
"""What the relations of a statement are called in its text, before their name."""

PLACE = "_place"
"""A column added to Arrow rows: a row's place among them, from 1."""


SHAPES_MAX = 10_000
"""Statements whose columns are remembered; some texts name rows, and would be remembered for ever."""

DISTINCT_ROWS_MAX = 1_000
"""Rows up to which it is cheaper to look for doubles here than in SQL."""


class Inputs:
    """Resolves what outputs refer to, for one transaction."""

    def __init__(
        self,
        session: Session,
        held_of: Callable[[str], Held | None],
        shapes: dict[object, tuple[str, ...]],
        images_max: int = IMAGES_MAX,
    ) -> None:
        self._session = session
        self._held_of = held_of
        self._shapes = shapes
        self._images_max = images_max
        self._registered: list[str] = []
        self._scanned: dict[str, Any] = {}

    def slice(self, part: Slice) -> str:
        """A slice as a SELECT."""
        held = self._held(part)
        if has_old_images(part, held) and all(is_faithful(column.type) for column in held.columns):
            table = self._small(part, held)
            if table is not None:
                return self._typed(table, held)
        return relation(part, held, self._gated(part))

    def read(self, part: Slice) -> Any:
        """A slice as an Arrow table, ordered by offset then row identity."""
        held = self._held(part)
        table = self._small(part, held) if has_old_images(part, held) else None
        if table is not None:
            return table
        weight = f", {WEIGHT}" if part.images == Images.CHANGES else ""
        is_short = part.images != Images.STATE and part.to - part.from_ <= self._images_max
        asked = self._session.few if is_short else self._session.arrow
        return asked(f"{relation(part, held, self._gated(part))} ORDER BY {OFFSET}, {RID}{weight}")

    def _held(self, part: Slice) -> Held:
        held = self._held_of(part.asset)
        if held is None:
            raise NotFound(f"the store has no asset {part.asset}", mend="define it before reading it")
        check(part, held)
        return held

    def _small(self, part: Slice, held: Held) -> Any:
        """A change set of few rows, consolidated here; None where there are many."""
        if not self._images_max:
            return None
        text = scan(part, held, self._images_max)
        if text not in self._scanned:
            self._scanned[text] = self._session.few(text)
        images = self._scanned[text]
        return consolidated(part, images) if images.num_rows <= self._images_max else None

    def source(self, rows: ArrowStream | Statement) -> Source:
        """The rows of an output as the relation `"@rows"`."""
        if isinstance(rows, Statement):
            return self._of_statement(rows)
        held = in_memory(rows)
        return self._of_arrow(held) if isinstance(held, pa.Table) else self._of_stream(held)

    def query(self, statement: Statement) -> str:
        """A statement with what it refers to, as one SELECT; its columns are not asked for."""
        _, tables = self._relations(statement)
        rows = f"{quoted(ROWS_NAME)} AS ({statement.sql.strip().rstrip(';')}\n)"
        return f"WITH {', '.join([*tables, rows])} SELECT * FROM {quoted(ROWS_NAME)}"

    def few_rows(self, rows: Any) -> Any:
        """The rows of an output as an Arrow table, where they are few; None where they are many."""
        if not self._images_max:
            return None
        if isinstance(rows, Statement):
            rows = self._session.few(f"{self.query(rows)} LIMIT {ROWS_MAX + 1}")
        return rows if isinstance(rows, pa.Table) and rows.num_rows <= ROWS_MAX else None

    def identities(self, parents: Sequence[str] | Slice) -> list[str] | str:
        """Row identities: a list where they are few enough to be looked at, else the SELECT of a slice."""
        if not isinstance(parents, Slice):
            return list(parents)
        held = self._held(parents)
        table = self._small(parents, held) if has_old_images(parents, held) else None
        if table is None:
            return f"SELECT {RID} FROM ({self.slice(parents)})"
        return list(dict.fromkeys(table.column(RID).to_pylist()))

    def release(self) -> None:
        """Forget what was registered."""
        while self._registered:
            self._session.unregister(self._registered.pop())

    def _of_arrow(self, table: Any) -> Source:
        names = tuple(table.column_names)
        placed = table.append_column(PLACE, pa.array(range(1, table.num_rows + 1), pa.int64()))
        values = as_values(ROWS_NAME, placed)
        if values is None:
            self._register(ROWS_NAME, placed)
        return Source((values,) if values else (), names, PLACE, table.num_rows == 0, _is_distinct(table))

    def _of_stream(self, reader: Any) -> Source:
        """Rows that are read while they are written, because they may not fit in memory."""
        self._register(ROWS_NAME, reader)
        return Source((), tuple(reader.schema.names), "row_number() OVER ()")

    def _of_statement(self, statement: Statement) -> Source:
        relations, tables = self._relations(statement)
        sql = statement.sql.strip().rstrip(";")
        key = (sql, self._shape_of(relations))
        names = self._shapes.get(key)
        if names is None:
            prefix = f"WITH {', '.join(tables)} " if tables else ""
            names = tuple(name for name, _ in self._session.shape(f"{prefix}SELECT * FROM ({sql}\n)"))
            if len(self._shapes) >= SHAPES_MAX:
                self._shapes.clear()
            self._shapes[key] = names
        rows = f"{quoted(ROWS_NAME)} AS ({sql}\n)"
        return Source((*tables, rows), names, "row_number() OVER ()", is_traced=PARENT in names)

    def _relations(self, statement: Statement) -> tuple[dict[str, Any], list[str]]:
        """What a statement refers to, and each as a common table expression."""
        relations = {
            name: what if isinstance(what, Slice) else table_of(what) for name, what in statement.relations.items()
        }
        return relations, [self._relation(name, what) for name, what in relations.items()]

    def _relation(self, name: str, what: Any) -> str:
        name = name if name.startswith(INPUT_PREFIX) else INPUT_PREFIX + name
        if isinstance(what, Slice):
            return f"{quoted(name)} AS NOT MATERIALIZED ({self.slice(what)})"
        return as_values(name, what) or f"{quoted(name)} AS NOT MATERIALIZED ({self._given(what)})"

    def _typed(self, table: Any, held: Held) -> str:
        """Rows of an asset that went through Arrow, in the asset's types again."""
        hidden = table.column_names[: -len(held.columns) or None]
        values = [f"CAST({quoted(column.name)} AS {column.type}) AS {quoted(column.name)}" for column in held.columns]
        return f"SELECT {', '.join([*hidden, *values])} FROM ({self._given(table)})"

    def _given(self, table: Any) -> str:
        """Rows handed over, as a SELECT."""
        registered = f"@given:{len(self._registered)}"
        values = as_values(registered, table)
        if values is not None:
            return f"WITH {values} SELECT * FROM {quoted(registered)}"
        self._register(registered, table)
        return f"SELECT * FROM {quoted(registered)}"

    def _shape_of(self, relations: Mapping[str, Any]) -> tuple[object, ...]:
        return tuple((name, self._shape_of_one(what)) for name, what in relations.items())

    def _shape_of_one(self, what: Any) -> object:
        if not isinstance(what, Slice):
            return tuple((field.name, str(field.type)) for field in what.schema)
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


def _is_distinct(table: Any) -> bool:
    """Whether rows, if they are few, bring each identity once."""
    bringing = [name for name in (RID, PARENT, ORDINAL) if name in table.column_names]
    if not bringing or table.num_rows > DISTINCT_ROWS_MAX:
        return False
    identities = [table.column(name).to_pylist() for name in bringing[: 1 if bringing[0] == RID else 2]]
    return len(set(zip(*identities, strict=True))) == int(table.num_rows)
