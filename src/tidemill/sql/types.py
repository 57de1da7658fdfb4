"""The columns of a query and their DuckDB types, where they are certain.

Rules of this file:
  * a type is claimed only where it cannot be otherwise: a column of an input, a cast, a count, and what passes one of
    these through; everything else is None, for a wrong type is worse than none and the engine knows the rest;
  * types are spelled as DuckDB spells them;
  * a query whose columns are chosen by a pattern, or by the fields of a struct, has no known columns (None).

Theory: sqlglot's inference is a good guess (sum(integer) is BIGINT to it and HUGEINT to DuckDB), so a column is
followed through subqueries and CTEs to the expression that makes it, instead of believing what it guessed on the way.
"""

from __future__ import annotations

import re

from sqlglot import exp

from tidemill.sql.outputs import outermost
from tidemill.sql.resolve import INPUT
from tidemill.sql.scope import binding

__all__ = ["columns_of"]


def columns_of(tree: exp.Query) -> dict[str, str | None] | None:
    """Output columns and their types, None where not certain; None for the whole where not even names are."""
    select = outermost(tree)
    if select is None or any(not isinstance(part, exp.Alias) or part.find(exp.Columns) for part in select.expressions):
        return None
    alone = _alone(tree)
    return {part.alias: _certain(part.this, select) if alone is select else None for part in select.expressions}


def _alone(tree: exp.Expr) -> exp.Select | None:
    """The SELECT that a query is, through parentheses; None for a set operation, which may widen types."""
    while isinstance(tree, exp.Subquery):
        tree = tree.this
    return tree if isinstance(tree, exp.Select) else None


def _certain(expression: exp.Expr, select: exp.Select) -> str | None:
    kind = expression.type
    if isinstance(expression, exp.Paren):
        return _certain(expression.this, select)
    if isinstance(expression, exp.Column):
        return _column_type(expression, select)
    if kind is None or kind.is_type(exp.DType.UNKNOWN, exp.DType.NULL):
        return None
    return _type_text(kind) if isinstance(expression, exp.Cast | exp.Count) else None


def _column_type(column: exp.Column, select: exp.Select) -> str | None:
    """The type of a column, followed to where it comes from."""
    if len(column.parts) != 2:
        return None
    relation = next((found for found in _relations(select) if found.alias_or_name == column.table), None)
    is_input = isinstance(relation, exp.Table) and relation.name.startswith(INPUT)
    if is_input or isinstance(relation, exp.Unnest):
        kind = column.type
        return None if kind is None or kind.is_type(exp.DType.UNKNOWN) else _type_text(kind)
    inner = _alone(_definition(relation)) if relation is not None else None
    made = next((part for part in inner.expressions if part.alias == column.name), None) if inner else None
    return _certain(made.this, inner) if isinstance(made, exp.Alias) and inner is not None else None


def _relations(select: exp.Select) -> list[exp.Expr]:
    from_ = select.args.get("from_")
    joins = [join.this for join in select.args.get("joins") or []]
    return [from_.this, *joins] if from_ is not None else joins


def _definition(relation: exp.Expr) -> exp.Expr:
    cte = binding(relation) if isinstance(relation, exp.Table) else None
    return cte.this if cte is not None else relation


_TYPE_WORDS = {"TEXT": "VARCHAR", "INT": "INTEGER", "REAL": "FLOAT", "INT128": "HUGEINT"}
_TYPE_WORD = re.compile(r"""\"(?:[^"]|"")*\"|'(?:[^']|'')*'|\w+""")


def _type_text(kind: exp.DataType) -> str:
    """A type as DuckDB itself spells it, whatever stands in quotes untouched."""
    return _TYPE_WORD.sub(lambda word: _TYPE_WORDS.get(word[0], word[0]), kind.sql(dialect="duckdb"))
