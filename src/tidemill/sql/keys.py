"""The key of a job's output, as far as the SQL itself says it.

Rules of this file:
  * GROUP BY: the output columns that are the group expressions, when every one of them is projected as it is;
  * DISTINCT and UNION: all output columns; an aggregate without GROUP BY has one row, key ();
  * anything else: None, and the table gets a hidden row id. A key is never guessed: a wrong key loses rows.
"""

from __future__ import annotations

from sqlglot import exp
from sqlglot.optimizer.normalize_identifiers import normalize_identifiers

from tidemill.sql.functions import AGGREGATES, name_of

__all__ = ["derive_key", "is_aggregate", "own_nodes"]


def derive_key(tree: exp.Expr) -> tuple[str, ...] | None:
    """The output columns whose values identify a row of this query, or None when the SQL does not say."""
    if isinstance(tree, exp.Subquery):
        return derive_key(tree.this)
    if isinstance(tree, exp.Union):
        return _all_columns(tree) if tree.args.get("distinct") else None
    if isinstance(tree, exp.SetOperation):
        return _all_columns(tree) if tree.args.get("distinct", True) else None
    if not isinstance(tree, exp.Select) or _multiplies(tree):
        return None
    return _select_key(tree)


def _select_key(tree: exp.Select) -> tuple[str, ...] | None:
    distinct = tree.args.get("distinct")
    group = tree.args.get("group")
    if distinct:
        return _all_columns(tree) if not distinct.args.get("on") else None
    if group is None:
        return () if any(is_aggregate(node) for node in own_nodes(tree)) else None
    if any(group.args.get(word) for word in ("rollup", "cube", "grouping_sets", "totals")):
        return None
    return _group_key(tree, _group_expressions(tree, group))


def _group_expressions(tree: exp.Select, group: exp.Group) -> list[exp.Expr]:
    """The expressions of a GROUP BY, with ALL, ordinals and output names resolved to what they stand for."""
    if group.args.get("all"):
        parts = [projection.unalias() for projection in tree.expressions]
        shown = [part for part in parts if part.find(exp.Column) and not _has_aggregate(part)]
        return [*shown, *_asked_by_having(tree)]
    named = {projection.alias.lower(): projection.this for projection in tree.expressions if projection.alias}
    columns = {projection.name.lower() for projection in tree.expressions if isinstance(projection, exp.Column)}
    found: list[exp.Expr] = []
    for expression in group.expressions:
        name = expression.name.lower() if isinstance(expression, exp.Column) and not expression.table else ""
        if isinstance(expression, exp.Literal) and expression.is_int:
            index = int(expression.this) - 1
            found.append(tree.expressions[index].unalias() if index < len(tree.expressions) else expression)
        else:
            found.append(expression if name in columns else named.get(name, expression))
    return found


def _asked_by_having(tree: exp.Select) -> list[exp.Expr]:
    """The columns outside of aggregates in HAVING: under GROUP BY ALL they are keys too, those below an alias as well."""
    having = tree.args.get("having")
    if having is None:
        return []
    aliases = {part.alias.lower(): part.this for part in tree.expressions if isinstance(part, exp.Alias)}
    within = having.walk(prune=lambda node: is_aggregate(node) or isinstance(node, exp.Query))
    asked = [node for node in within if isinstance(node, exp.Column)]
    meant = [node if node.table else aliases.get(node.name.lower(), node) for node in asked]
    return [column for part in meant if not _has_aggregate(part) for column in part.find_all(exp.Column)]


def _group_key(tree: exp.Select, groups: list[exp.Expr]) -> tuple[str, ...] | None:
    projected = [(_spelling(projection.unalias()), projection.alias_or_name) for projection in tree.expressions]
    names = [_projection_of(_spelling(group), projected) for group in groups]
    if not names:
        return () if any(is_aggregate(node) for node in own_nodes(tree)) else None
    return tuple(dict.fromkeys(names)) if all(names) else None


def _projection_of(group: tuple[str, str], projected: list[tuple[tuple[str, str], str]]) -> str:
    """The output column that shows a group expression, '' if none does. A column without a table is the one of that
    name, for where two have it the query does not resolve."""
    table, text = group
    for (its_table, its_text), name in projected:
        if text == its_text and (table == its_table or not table or not its_table):
            return name
    return ""


def _spelling(expression: exp.Expr) -> tuple[str, str]:
    """(table, text) by which an expression is known again; only columns have a table apart from their text."""
    bare = expression.unnest()
    if isinstance(bare, exp.Column) and len(bare.parts) <= 2:
        return bare.table.lower(), bare.name.lower()
    text = normalize_identifiers(bare.copy(), dialect="duckdb").sql(dialect="duckdb", comments=False)
    return "()", text


def _all_columns(tree: exp.Query) -> tuple[str, ...] | None:
    names = tree.named_selects
    if not names or "*" in names or not all(names) or len({name.lower() for name in names}) != len(names):
        return None
    return tuple(names)


def _multiplies(tree: exp.Select) -> bool:
    """Whether an unnest in the SELECT list makes several rows of one group."""
    return any(isinstance(node, exp.Explode | exp.Unnest) for part in tree.expressions for node in part.walk())


def _has_aggregate(expression: exp.Expr) -> bool:
    return any(is_aggregate(node) for node in _inside(expression))


def own_nodes(tree: exp.Select) -> list[exp.Expr]:
    """The nodes of one SELECT's lists and conditions, without those of the queries inside them."""
    parts = [*tree.expressions, tree.args.get("where"), tree.args.get("having"), tree.args.get("qualify")]
    order = tree.args.get("order")
    return [node for part in [*parts, order] if part is not None for node in _inside(part)]


def _inside(expression: exp.Expr) -> list[exp.Expr]:
    return [
        node
        for node in expression.walk(prune=lambda node: isinstance(node, exp.Query))
        if not isinstance(node, exp.Query)
    ]


def is_aggregate(node: exp.Expr) -> bool:
    """Whether this node folds rows: an aggregate function that is no window function."""
    if not isinstance(node, exp.Func) or not (isinstance(node, exp.AggFunc) or name_of(node) in AGGREGATES):
        return False
    if isinstance(node, exp.Lag | exp.Lead | exp.FirstValue | exp.LastValue | exp.NthValue | exp.RowNumber):
        return False
    parent = node.parent
    while isinstance(parent, exp.IgnoreNulls | exp.RespectNulls | exp.Filter | exp.WithinGroup):
        parent = parent.parent
    return not isinstance(parent, exp.Window)
