"""The difference between the rows an asset has and the rows it shall have, as SQL.

Rules of this file:
  * text only: nothing here runs a statement;
  * identity is exact: NULL, '' and 'null' are three different key values, and (1, 23) is not (12, 3);
  * a row whose image stays the same is no difference; values are compared with IS DISTINCT FROM.

Theory of operation. The rows wanted get their identity (from the parent, the key or the content), and are joined in full
with the current rows in question. What remains after dropping equal pairs is the list of changes: a line that *closes*
ends the current image, a line that *opens* begins a new one, an update does both at one offset. The lines are kept in a
temporary table ordered by identity, and a line's place gives its offset.

A change set that is handed over as such needs no join: its images are consolidated into the same lines, and the statement
that ends images tells by its count whether each removal was there.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from tidemill.core.change import FROM, OFFSET, ORDINAL, PARENT, RID, UNTIL, WEIGHT
from tidemill.core.model import Column
from tidemill.sql.identity import key_identity
from tidemill.stores.duckdb.database import DUPLICATES, literal, quoted
from tidemill.stores.duckdb.layout import CURRENT, Held, table_name

__all__ = [
    "ROWS_NAME",
    "Source",
    "appending",
    "by_content",
    "closing",
    "consolidated",
    "current_images",
    "difference",
    "doubled",
    "given",
    "opening",
    "same_parents",
    "taken",
    "unlogged",
]

ROWS_NAME = "@rows"
_ROWS = quoted(ROWS_NAME)


@dataclass(frozen=True, slots=True)
class Source:
    """Where the rows of an output come from: the relation `"@rows"`, and the common table expressions it needs.

    `names` are its columns; `place` the expression of a row's place among them, from 1. `is_empty` rows may lack the
    asset's columns. `is_distinct` rows are known to bring each identity once, `is_traced` ones have a parent each.
    """

    tables: tuple[str, ...]
    names: Collection[str]
    place: str
    is_empty: bool = False
    is_distinct: bool = False
    is_traced: bool = False

    @property
    def prefix(self) -> str:
        """The WITH clause, or nothing."""
        return f"WITH {', '.join(self.tables)} " if self.tables else ""

    @property
    def parent(self) -> str:
        """What a row belongs to: its parent, or itself where it only brings its own identity."""
        return PARENT if PARENT in self.names else RID if RID in self.names else "NULL"

    def value(self, column: Column) -> str:
        """The value of one of the asset's columns."""
        return "NULL" if self.is_empty and column.name not in self.names else quoted(column.name)


def given(source: Source) -> str:
    """The identity that rows bring: their own, or that of the input row they belong to with their ordinal.

    The ordinal 0 is left out only of a parent without a slash: else ('p', 1) and ('p/1', 0) would be one row.
    """
    if RID in source.names:
        return RID
    if PARENT not in source.names:
        return "NULL"
    if ORDINAL not in source.names:
        return PARENT
    is_plain = f"{ORDINAL} = 0 AND NOT contains({PARENT}, '/')"
    return f"CASE WHEN {is_plain} THEN {PARENT} ELSE {PARENT} || '/' || {ORDINAL} END"


def doubled(held: Held, changes: int) -> str:
    """Up to five keys that rows changed after the asset's head share with another current row; so many changes are new.

    Where most rows are old only those are grouped that have a key of a new one: a hundred times as fast for one in ten
    million.
    """
    names = [f"_all.{quoted(name)}" for name in held.key or ()]
    texts = ", ".join(f"{name}::VARCHAR" for name in names)
    current, few = f"{UNTIL} = {CURRENT}", ""
    if changes < held.rows:
        new = f"SELECT * FROM {table_name(held.asset)} WHERE {current} AND {FROM} > {held.offset}"
        same = " AND ".join(f"{name} IS NOT DISTINCT FROM _new{name.removeprefix('_all')}" for name in names)
        few = f" SEMI JOIN ({new}) AS _new ON {same}"
    return (
        f"SELECT {texts} FROM {table_name(held.asset)} AS _all{few} WHERE _all.{current} GROUP BY {', '.join(names)} "
        f"HAVING count(*) > 1 AND max(_all.{FROM}) > {held.offset} ORDER BY ALL LIMIT 5"
    )


def by_content(held: Held) -> str:
    """The identity of a row that has neither: its content, and which of its equals it is."""
    content = key_identity([column.name for column in held.columns])
    return f"md5({content}) || '#' || row_number() OVER (PARTITION BY {content})"


def wanted(source: Source, held: Held, identity: str, has_offsets: bool, parents: str) -> str:
    """The rows an asset shall have, with their identity, in the asset's own types."""
    columns = [
        f"{identity} AS {RID}",
        f"{source.parent}::VARCHAR AS {PARENT}",
        *([f"{OFFSET}::BIGINT AS {OFFSET}"] if has_offsets else []),
        *(f"CAST({source.value(column)} AS {column.type}) AS {quoted(column.name)}" for column in held.columns),
    ]
    chosen = f" WHERE {source.parent} IN ({parents})" if parents else ""
    return f"SELECT {', '.join(columns)} FROM {_ROWS}{chosen}"


def difference(
    source: Source,
    held: Held,
    identity: str,
    *,
    has_offsets: bool = False,
    parents: str = "",
    is_distinct: bool = False,
    is_content: bool = False,
) -> str:
    """The lines of the difference. Raises inside DuckDB where an identity is there twice."""
    new = wanted(source, held, identity, has_offsets, parents)
    scope = f" AND {PARENT} IN ({parents})" if parents else ""
    old = f"SELECT {', '.join([RID, *held.names])} FROM {table_name(held.asset)} WHERE {UNTIL} = {CURRENT}{scope}"
    changed = ["n._rid IS NULL", "o._rid IS NULL"]
    if not is_content:
        changed += [f"n.{name} IS DISTINCT FROM o.{name}" for name in held.names]
    columns = [
        f"coalesce(n.{RID}, o.{RID}) AS {RID}",
        "o._rid IS NOT NULL AS _closes",
        "n._rid IS NOT NULL AS _opens",
        f"n.{PARENT}",
        *([f"n.{OFFSET}"] if has_offsets else []),
        *(f"n.{name}" for name in held.names),
    ]
    is_checked = not (is_distinct or is_content)
    tables = [*source.tables, f"n AS {'MATERIALIZED' if is_checked else 'NOT MATERIALIZED'} ({new})", f"o AS ({old})"]
    twice = f"SELECT {RID} FROM n GROUP BY {RID} HAVING count(*) > 1"
    check = f" UNION ALL {_refusing(twice, len(held.columns) + has_offsets)}" if is_checked else ""
    return (
        f"WITH {', '.join(tables)} SELECT row_number() OVER () AS _place, * FROM ("
        f"SELECT {', '.join(columns)} FROM n FULL JOIN o ON n.{RID} = o.{RID} "
        f"WHERE {' OR '.join(changed)}{check} ORDER BY 1)"
    )


def consolidated(source: Source, held: Held, *, is_checked: bool) -> str:
    """The lines of a change set, as those of a difference; `_removals` says how many removals a line stands for.

    Raises inside DuckDB where an identity has two additions, or (`is_checked`) is added and taken.
    """
    names = ", ".join([RID, *held.names])
    values = ", ".join(
        f"CAST({quoted(column.name)} AS {column.type}) AS {quoted(column.name)}" for column in held.columns
    )
    lines = f"SELECT {RID}::VARCHAR AS {RID}, {WEIGHT}::BIGINT AS {WEIGHT}{values and ', ' + values} FROM {_ROWS}"
    images = f"SELECT {names}, sum({WEIGHT}) AS {WEIGHT} FROM ({lines}) GROUP BY {names} HAVING sum({WEIGHT}) <> 0"
    columns = [
        RID,
        f"bool_or({WEIGHT} < 0) AS _closes",
        f"bool_or({WEIGHT} > 0) AS _opens",
        f"NULL::VARCHAR AS {PARENT}",
        f"coalesce(-sum({WEIGHT}) FILTER ({WEIGHT} < 0), 0)::BIGINT AS _removals",
        *(f"any_value({name}) FILTER ({WEIGHT} > 0) AS {name}" for name in held.names),
    ]
    pairs = f"SELECT {', '.join(columns)} FROM i GROUP BY {RID}"
    tables = [*source.tables, f"i AS MATERIALIZED ({images})", f"n AS MATERIALIZED ({pairs})"]
    refused = f"SELECT {RID} FROM i WHERE {WEIGHT} > 0 GROUP BY {RID} HAVING sum({WEIGHT}) > 1"
    if is_checked and held.rows:
        refused += f" UNION {taken(held, 'SELECT _rid FROM n WHERE NOT _closes')}"
    return (
        f"WITH {', '.join(tables)} SELECT row_number() OVER () AS _place, * FROM ("
        f"SELECT * FROM n UNION ALL {_refusing(refused, len(held.columns) + 1)} ORDER BY 1)"
    )


def taken(held: Held, identities: str) -> str:
    """The SELECT of those of these identities that current rows have."""
    return f"SELECT {RID} FROM {table_name(held.asset)} WHERE {UNTIL} = {CURRENT} AND {RID} IN ({identities})"


def current_images(held: Held) -> Source:
    """The current rows of an asset as the rows that another shall have."""
    names = (RID, PARENT, *(column.name for column in held.columns))
    listed = ", ".join(quoted(name) for name in names)
    text = f"{_ROWS} AS (SELECT {listed} FROM {table_name(held.asset)} WHERE {UNTIL} = {CURRENT})"
    return Source((text,), names, "0")


def same_parents(held: Held, other: Held) -> str:
    """The statement that lets rows belong to what the same rows of another asset belong to."""
    return (
        f"UPDATE {table_name(held.asset)} AS t SET {PARENT} = o.{PARENT} FROM {table_name(other.asset)} o "
        f"WHERE t.{UNTIL} = {CURRENT} AND o.{UNTIL} = {CURRENT} AND t.{RID} = o.{RID} "
        f"AND t.{PARENT} IS DISTINCT FROM o.{PARENT}"
    )


def unlogged(held: Held) -> str:
    """The statement that takes away current rows which no write of ours can have made."""
    current = f"{UNTIL} = {CURRENT}"
    place = f"row_number() OVER (PARTITION BY {RID} ORDER BY {FROM}, rowid)"
    second = f"SELECT rowid FROM {table_name(held.asset)} WHERE {current} QUALIFY {place} > 1"
    return (
        f"DELETE FROM {table_name(held.asset)} WHERE {current} "
        f"AND ({RID} IS NULL OR {FROM} > {held.offset} OR rowid IN ({second}))"
    )


def _refusing(refused: str, others: int) -> str:
    """No line, or an error that names up to five of the refused identities."""
    columns = ", ".join(
        [f"error({literal(DUPLICATES)} || string_agg({RID}, ', '))", "false", "false", *["NULL"] * (others + 1)]
    )
    return f"SELECT {columns} FROM ({refused} LIMIT 5) HAVING count(*) > 0"


def closing(held: Held, lines: str, base: int, head: int | None) -> str:
    """The statement that ends the images that the lines close."""
    until = f"{base} + d._place" if head is None else f"coalesce(d.{OFFSET}, {head})"
    return (
        f"UPDATE {table_name(held.asset)} AS t SET {UNTIL} = {until} FROM {quoted(lines)} d "
        f"WHERE t.{UNTIL} = {CURRENT} AND t.{FROM} <= {held.offset} AND t.{RID} = d.{RID} AND d._closes"
    )


def opening(held: Held, lines: str, base: int, head: int | None) -> str:
    """The statement that begins the images that the lines open."""
    from_ = f"{base} + _place" if head is None else OFFSET
    values = ", ".join([*held.names, RID, PARENT, from_, str(CURRENT)])
    return f"INSERT INTO {target(held)} SELECT {values} FROM {quoted(lines)} WHERE _opens ORDER BY _place"


def target(held: Held) -> str:
    """An asset's table with its columns, as an INSERT names it."""
    return f"{table_name(held.asset)} ({', '.join([*held.names, RID, PARENT, FROM, UNTIL])})"


def appending(held: Held, source: Source, base: int, *, has_offsets: bool) -> str:
    """The statement that adds rows as they come."""
    offset = OFFSET if has_offsets else f"{base} + {source.place}"
    if source.is_traced and ORDINAL not in source.names:  # the realtime run of a filter: DuckDB binds each word of it
        values = [*(source.value(column) for column in held.columns), PARENT, PARENT, offset, str(CURRENT)]
        return f"INSERT INTO {target(held)} {source.prefix}SELECT {', '.join(values)} FROM {_ROWS}"
    placed = f"SELECT *, {offset} AS _at FROM {_ROWS}"
    identity = f"coalesce({given(source)}, _at::VARCHAR)"
    values = [*(source.value(column) for column in held.columns), identity, source.parent, "_at", str(CURRENT)]
    return f"INSERT INTO {target(held)} {source.prefix}SELECT {', '.join(values)} FROM ({placed})"
