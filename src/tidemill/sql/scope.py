"""Which names in FROM are inputs, and which are bound inside the query.

Rules of this file:
  * a name is bound by the nearest WITH around it that defines it *before* the place it is used; names do not depend on
    case;
  * a CTE does not see itself: in `with orders as (select * from orders) ...` the inner `orders` is the input;
  * it sees itself only under WITH RECURSIVE and only as a set operation, as DuckDB has it.

Theory: from a table climb to the root. At each WITH on the way the definitions before the one we came from are
visible; at each query on the way, all definitions of its own WITH are.
"""

from __future__ import annotations

from sqlglot import exp

__all__ = ["binding", "is_input", "mark_input"]

_MARK = "tidemill_input"


def mark_input(table: exp.Table) -> None:
    """Fix that this table is an input, whatever CTEs come to stand around it (a view is put into its reader)."""
    table.meta[_MARK] = True


def is_input(table: exp.Table) -> bool:
    """Whether this table was marked as an input."""
    return bool(table.meta.get(_MARK))


def binding(table: exp.Table, *, through_mark: bool = False) -> exp.CTE | None:
    """The CTE that this table name refers to, or None when it names an input. `through_mark` asks what a marked input
    would refer to if its text stood alone."""
    if is_input(table) and not through_mark:
        return None
    name = table.name.lower()
    child: exp.Expr = table
    node = table.parent
    while node is not None:
        visible: list[exp.CTE] = []
        if isinstance(node, exp.With):
            visible = _before(node, child)
            child, node = node, node.parent
            if node is None:
                break
        elif node.args.get("with_") is not None:
            visible = node.args["with_"].expressions
        for cte in reversed(visible):
            if cte.alias.lower() == name:
                return cte
        child, node = node, node.parent
    return None


def _before(with_: exp.With, child: exp.Expr) -> list[exp.CTE]:
    """The definitions that the definition `child` of a WITH can see."""
    definitions: list[exp.CTE] = with_.expressions
    index = next(number for number, cte in enumerate(definitions) if cte is child)
    sees_itself = bool(with_.args.get("recursive")) and isinstance(child.this, exp.SetOperation)
    return definitions[: index + 1 if sees_itself else index]
