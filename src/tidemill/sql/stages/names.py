"""Which SELECT a column belongs to, and what a SELECT reads.

Rules of this file:
  * a column is of the nearest SELECT around it that has its table's name among its sources;
  * a subquery in FROM does not see the sources beside it, a subquery in an expression does.
"""

from __future__ import annotations

from sqlglot import exp

__all__ = ["Fresh", "conjuncts", "fresh_column", "home_of", "is_subquery", "sources", "subqueries"]


class Fresh:
    """Names that nobody has used."""

    def __init__(self) -> None:
        self._count = 0

    def alias(self) -> str:
        """A new name for a relation."""
        self._count += 1
        return f"_q{self._count}"


def fresh_column(name: str, table: str) -> exp.Column:
    """A quoted column of a relation."""
    return exp.column(name, table=table, quoted=True)


def sources(select: exp.Select) -> list[exp.Expr]:
    """The relations in FROM and JOIN, in order."""
    from_ = select.args.get("from_")
    found = [from_.this] if from_ is not None else []
    found += [join.this for join in select.args.get("joins") or []]
    for lateral in select.args.get("laterals") or []:
        found.append(lateral)
    return found


def _names(select: exp.Select) -> set[str]:
    return {source.alias_or_name for source in sources(select)}


def home_of(column: exp.Column, within: exp.Expr | None = None) -> exp.Select | None:
    """The SELECT that has the column's table among its sources; None where none has, up to `within`."""
    below: exp.Expr | None = None
    child: exp.Expr = column
    node = column.parent
    while node is not None:
        if isinstance(node, exp.Select) and not _is_source(child, below) and column.table in _names(node):
            return node
        if node is within:
            return None
        below, child, node = child, node, node.parent
    return None


def _is_source(child: exp.Expr, below: exp.Expr | None) -> bool:
    """Whether the way up came through a relation in FROM or JOIN (a join's condition is none, a lateral sees all)."""
    if not isinstance(child, exp.From | exp.Join) or below is not child.this:
        return False
    return not isinstance(below, exp.Lateral | exp.Unnest)


def conjuncts(condition: exp.Expr | None) -> list[exp.Expr]:
    """The conditions that all have to hold."""
    while isinstance(condition, exp.Paren):
        condition = condition.this
    if isinstance(condition, exp.And):
        return [*conjuncts(condition.left), *conjuncts(condition.right)]
    return [] if condition is None else [condition]


def is_subquery(node: exp.Expr) -> bool:
    """Whether a node is a query in an expression."""
    return isinstance(node, exp.Subquery | exp.Exists) or (
        isinstance(node, exp.In) and node.args.get("query") is not None
    )


def subqueries(node: exp.Expr) -> list[exp.Expr]:
    """The outermost subqueries in an expression."""
    found: list[exp.Expr] = []
    stack = [node]
    while stack:
        here = stack.pop()
        if is_subquery(here) or isinstance(here, exp.Query):
            found.append(here)
        else:
            stack.extend(here.iter_expressions())
    return found
