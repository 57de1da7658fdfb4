"""Window functions: recomputed for the partitions that a change touches.

Rules of this file:
  * the key is what all windows of a SELECT are partitioned by in common; without that the block is recomputed whole;
  * QUALIFY stays in the block: it only looks at rows of the same partition;
  * rows that are equal in every column are told apart by their identities, or they would change places.
"""

from __future__ import annotations

from dataclasses import dataclass

from sqlglot import exp

from tidemill.sql.determine import has_total_order
from tidemill.sql.resolve import INPUT
from tidemill.sql.stages.flatten import Opaque
from tidemill.sql.stages.layers import aliased
from tidemill.sql.stages.model import KEY, ROWS
from tidemill.sql.stages.names import subqueries

__all__ = ["Windowing", "windowing_of"]


@dataclass(frozen=True, slots=True)
class Windowing:
    """A SELECT with windows taken apart: the linear SELECT below it, and the block over its rows.

    `keys` are pairs of a region's key column and the block's column that shows it; `extra` are the block's columns that
    the query itself does not show.
    """

    rows: exp.Select
    columns: tuple[str, ...]
    extra: tuple[str, ...]
    keys: tuple[tuple[str, str], ...]
    block: str
    reason: str


def windowing_of(query: exp.Select) -> Windowing:
    """Take a SELECT with window functions apart. Raises Opaque."""
    names = tuple(query.named_selects)
    if not all(names) or "*" in names or len(set(names)) != len(names):
        raise Opaque("it has window functions and columns that are not known by name")
    qualify = query.args.get("qualify")
    parts = [*query.expressions, *([qualify] if qualify is not None else [])]
    if any(subqueries(part) for part in parts):
        raise Opaque("it has window functions and a subquery in an expression")
    keys = _common_keys(parts)
    arguments: dict[exp.Expr, str] = {}
    block = exp.Select(
        expressions=[
            exp.column("_rid", quoted=True),
            *(aliased(_over_names(part.unalias(), arguments), part.alias_or_name) for part in query.expressions),
        ]
    )
    shown = {part.unalias(): part.alias_or_name for part in reversed(query.expressions)}
    pairs, extra = [], []
    for number, key in enumerate(keys):
        name = f"{KEY}{number}"
        if key not in shown:
            block.append("expressions", aliased(exp.column(name, quoted=True), name))
            extra.append(name)
        pairs.append((name, shown.get(key, name)))
    if qualify is not None:
        block.set("qualify", exp.Qualify(this=_over_names(qualify.this, arguments, names)))
    _tell_equal_rows_apart(block)
    block.set("from_", exp.From(this=exp.Table(this=exp.to_identifier(INPUT + ROWS, quoted=True))))
    rows = query.copy()
    rows.set("qualify", None)
    computed = [aliased(key.copy(), f"{KEY}{number}") for number, key in enumerate(keys)]
    computed += [aliased(argument.copy(), name) for argument, name in arguments.items()]
    rows.set("expressions", computed or [aliased(exp.Literal.number(1), "_one")])
    reason = "" if keys else "its window functions have no PARTITION BY in common"
    return Windowing(rows, names, tuple(extra), tuple(pairs), block.sql(dialect="duckdb", comments=False), reason)


def _tell_equal_rows_apart(block: exp.Select) -> None:
    """Rows that are equal in all columns keep their places from run to run: their identities come last in the order."""
    for window in block.find_all(exp.Window):
        order = window.args.get("order")
        if order is not None and has_total_order(window):
            order.append("expressions", exp.Ordered(this=exp.column("_rid", quoted=True)))


def _common_keys(parts: list[exp.Expr]) -> list[exp.Expr]:
    windows = [node for part in parts for node in part.find_all(exp.Window)]
    common = list(windows[0].args.get("partition_by") or [])
    for window in windows[1:]:
        partition = window.args.get("partition_by") or []
        common = [key for key in common if key in partition]
    return list(dict.fromkeys(common))


def _over_names(expression: exp.Expr, arguments: dict[exp.Expr, str], outputs: tuple[str, ...] = ()) -> exp.Expr:
    """The expression over plain names; in QUALIFY an output's own name stays."""
    holder = exp.Paren(this=expression.copy())
    for column in list(holder.find_all(exp.Column)):
        if not column.table and column.name in outputs:
            continue
        name = arguments.setdefault(column.copy(), f"_x{len(arguments)}")
        column.replace(exp.column(name, quoted=True))
    made: exp.Expr = holder.this
    return made
