"""One SELECT that does several things becomes several that do one.

Rules of this file:
  * from the inside out: filter and join, group, window, DISTINCT, ORDER BY with LIMIT;
  * the columns between two layers are called `_k0` ... (keys), `_a0` ... (aggregates), `_x0` ... (arguments).

Theory of operation. DuckDB evaluates the clauses of a SELECT in this order anyway, so a subquery at each step means the same.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlglot import exp

from tidemill.sql.keys import is_aggregate
from tidemill.sql.stages.flatten import Opaque
from tidemill.sql.stages.model import KEY
from tidemill.sql.stages.names import fresh_column, home_of

__all__ = ["aliased", "as_source", "has_aggregates", "has_windows", "is_grouped", "split_group", "ungrouped"]

_GROUPED = "tidemill_grouped"
_SETS_OF_KEYS = (exp.Cube, exp.Rollup, exp.GroupingSets)
_WRAPPERS = exp.Filter | exp.WithinGroup | exp.IgnoreNulls | exp.RespectNulls


def aliased(expression: exp.Expr, name: str) -> exp.Alias:
    """An expression under a quoted name."""
    return exp.Alias(this=expression, alias=exp.to_identifier(name, quoted=True))


def as_source(query: exp.Query, alias: str) -> exp.From:
    """FROM (query) AS alias."""
    named = exp.TableAlias(this=exp.to_identifier(alias, quoted=True))
    return exp.From(this=exp.Subquery(this=query, alias=named))


def _parts(select: exp.Select) -> list[exp.Expr]:
    clauses = [select.args.get(name) for name in ("having", "qualify", "order")]
    return [*select.expressions, *(clause for clause in clauses if clause is not None)]


def _own(node: exp.Expr) -> list[exp.Expr]:
    """The nodes of an expression without those of the queries inside it."""
    return [one for one in node.walk(prune=lambda one: isinstance(one, exp.Query)) if not isinstance(one, exp.Query)]


def has_aggregates(select: exp.Select) -> bool:
    """Whether a SELECT folds rows."""
    if select.args.get("group") is not None:
        return True
    return any(is_aggregate(node) for part in _parts(select) for node in _own(part))


def has_windows(select: exp.Select) -> bool:
    """Whether a SELECT has window functions of its own."""
    return any(isinstance(node, exp.Window) for part in _parts(select) for node in _own(part))


def is_grouped(select: exp.Expr) -> bool:
    """Whether this is the inner SELECT that `split_group` made."""
    return bool(select.meta.get(_GROUPED))


def ungrouped(inner: exp.Select) -> exp.Select:
    """A copy of that inner SELECT without its GROUP BY."""
    rows = inner.copy()
    rows.set("group", None)
    rows.meta.pop(_GROUPED, None)
    return rows


def split_group(select: exp.Select, alias: str) -> exp.Select:
    """A SELECT that aggregates as two: the inner one groups and aggregates, the outer one does the rest."""
    group = select.args.get("group")
    if group is not None and any(isinstance(key, _SETS_OF_KEYS) for key in group.expressions):
        raise Opaque("it groups by several sets of keys (ROLLUP, CUBE, GROUPING SETS)")
    lift = _Lift(select, alias, list(group.expressions) if group is not None else [])
    outer = lift.outer()
    outer.set("from_", as_source(lift.inner(), alias))
    _check_lifted(outer, alias)
    return outer


class _Lift:
    """Writes the expressions of a SELECT over the columns of its inner one."""

    def __init__(self, select: exp.Select, alias: str, keys: list[exp.Expr]) -> None:
        self._select = select
        self._alias = alias
        self._keys = keys
        self._aggregates: dict[exp.Expr, str] = {}

    def outer(self) -> exp.Select:
        """What is left to do above the group."""
        select = self._select
        shown = [aliased(self._lifted(part.unalias()), part.alias_or_name) for part in select.expressions]
        outer = exp.Select(expressions=shown)
        if select.args.get("having") is not None:
            outer.set("where", exp.Where(this=self._lifted(select.args["having"].this)))
        for clause in ("qualify", "order"):
            if select.args.get(clause) is not None:
                outer.set(clause, self._lifted(select.args[clause]))
        for clause in ("distinct", "limit", "offset"):
            if select.args.get(clause) is not None:
                outer.set(clause, select.args[clause].copy())
        return outer

    def inner(self) -> exp.Select:
        """The group: its keys, and the aggregates that the outer SELECT turned out to need."""
        keys = [aliased(key.copy(), f"{KEY}{number}") for number, key in enumerate(self._keys)]
        inner = exp.Select(expressions=[*keys, *(aliased(node, name) for node, name in self._aggregates.items())])
        for clause in ("from_", "where"):
            if self._select.args.get(clause) is not None:
                inner.set(clause, self._select.args[clause].copy())
        for clause in ("joins", "laterals"):
            if self._select.args.get(clause):
                inner.set(clause, [one.copy() for one in self._select.args[clause]])
        if self._keys:
            inner.set("group", exp.Group(expressions=[key.copy() for key in self._keys]))
        inner.meta[_GROUPED] = True
        return inner

    def _lifted(self, node: exp.Expr) -> exp.Expr:
        """The expression over the inner SELECT's columns."""
        if not isinstance(node, exp.Query) and node in self._keys and _is_of(node, self._select):
            return fresh_column(f"{KEY}{self._keys.index(node)}", self._alias)
        if _is_unit(node):
            name = self._aggregates.setdefault(node.copy(), f"_a{len(self._aggregates)}")
            return fresh_column(name, self._alias)
        return _with_children(node, self._outside if isinstance(node, exp.Query) else self._lifted)

    def _outside(self, node: exp.Expr) -> exp.Expr:
        """Inside a subquery only columns of this SELECT mean something."""
        if isinstance(node, exp.Column) and home_of(node) is self._select:
            return self._lifted(node)
        return _with_children(node, self._outside)


def _is_of(node: exp.Expr, select: exp.Select) -> bool:
    return all(home_of(column) is select for column in node.find_all(exp.Column))


def _core(node: exp.Expr) -> exp.Expr:
    while isinstance(node, _WRAPPERS):
        node = node.this
    return node


def _is_unit(node: exp.Expr) -> bool:
    """Whether a node is an aggregate with all that belongs to it (FILTER, WITHIN GROUP)."""
    return is_aggregate(_core(node)) and not isinstance(node.parent, _WRAPPERS)


def _with_children(node: exp.Expr, change: Callable[[exp.Expr], exp.Expr]) -> exp.Expr:
    """A copy of the node with its children changed; the originals keep their place, so that they can be asked for it."""
    made = node.copy()
    for name, value in node.args.items():
        if isinstance(value, exp.Expr):
            made.set(name, change(value))
        elif isinstance(value, list):
            made.set(name, [change(one) if isinstance(one, exp.Expr) else one for one in value])
    return made


def _check_lifted(outer: exp.Select, alias: str) -> None:
    for column in outer.find_all(exp.Column):
        if column.find_ancestor(exp.Select) is outer and column.table not in ("", alias):
            raise Opaque("it uses a column that is neither a group key nor aggregated")
