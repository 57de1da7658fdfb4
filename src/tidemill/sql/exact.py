"""Whether a number is computed exactly, so that adding such numbers up has one result in every order.

Rules of this file:
  * exact is only what is known to be: integers, booleans and decimals, and what is made of them exactly; a column is
    followed to the expression that makes it; what nobody knows counts as floating point, which costs time and no bits;
  * literals are as in DuckDB: 1.5 is a decimal, 1e3 is floating point;
  * sum gives floating point over UHUGEINT, so that type is not exact.

Theory: sqlglot's inference is a guess that suits no one dialect: 1.5 is DOUBLE to it, the epoch of a timestamp an integer,
the least of a decimal and a double a decimal. So only types of columns of inputs and of casts are believed, and functions
that the table EXACT names.
"""

from __future__ import annotations

from sqlglot import exp

from tidemill.sql.functions import EXACT, name_of, written_name
from tidemill.sql.resolve import INPUT
from tidemill.sql.scope import binding

__all__ = ["is_exact"]

_TYPES = (
    exp.DType.BOOLEAN,
    exp.DType.TINYINT,
    exp.DType.SMALLINT,
    exp.DType.INT,
    exp.DType.BIGINT,
    exp.DType.INT128,
    exp.DType.UTINYINT,
    exp.DType.USMALLINT,
    exp.DType.UINT,
    exp.DType.UBIGINT,
    exp.DType.DECIMAL,
)
_INTEGERS = tuple(kind for kind in _TYPES if kind is not exp.DType.DECIMAL)
_DIGITS_MAX = 38
"""Digits of a number as it is written, beyond which DuckDB takes it for floating point."""
# What a function gives is of the kind of its arguments: these of the first, those of all.
_LIKE_FIRST = frozenset("round abs trunc floor ceil ceiling nullif sum min max any_value first last lag lead".split())
_LIKE_FIRST |= frozenset("first_value last_value nth_value arg_min arg_max".split())
_LIKE_ALL = frozenset("coalesce ifnull greatest least".split())
_NUMBERS = frozenset("count count_star count_if row_number rank dense_rank ntile".split())
_FLOATING_PARTS = frozenset("epoch julian jd".split())
_WRAPPERS = (exp.Paren, exp.Neg, exp.Window, exp.Filter, exp.Order, exp.Distinct, exp.IgnoreNulls, exp.RespectNulls)
_EXACTLY = (exp.Add, exp.Sub, exp.Mul, exp.Mod, exp.IntDiv, exp.BitwiseAnd, exp.BitwiseOr, exp.BitwiseXor)
_CONDITIONS = (exp.Predicate, exp.Connector, exp.Not, exp.Boolean)


def is_exact(expression: exp.Expr, types: tuple[exp.DType, ...] = _TYPES) -> bool:
    """Whether a resolved and annotated expression gives integers, booleans or decimals (or only `types`), and exactly."""
    if isinstance(expression, exp.Cast):
        return bool(expression.to.is_type(*types))
    if isinstance(expression, exp.Literal):
        return not expression.is_string and _is_exact_number(expression, types)
    if isinstance(expression, exp.Column):
        return _is_exact_column(expression, types)
    if isinstance(expression, exp.Dot):
        column = expression.find(exp.Column)
        is_field = column is not None and _is_of_input(column) and expression.type is not None
        return is_field and bool(expression.is_type(*types))
    if isinstance(expression, (exp.Null, *_CONDITIONS)):
        return True
    parts = _values(expression)
    return (bool(parts) and all(is_exact(part, _needed(expression, types)) for part in parts)) or _is_counted(
        expression
    )


def _is_exact_number(literal: exp.Literal, types: tuple[exp.DType, ...]) -> bool:
    """Whether a number as it is written is an integer or a decimal: with an exponent, or too many digits, it is neither."""
    digits = sum(character.isdigit() for character in literal.name)
    is_plain = "e" not in literal.name.lower() and digits <= _DIGITS_MAX
    return is_plain and (literal.is_int or types is _TYPES)


def _needed(expression: exp.Expr, types: tuple[exp.DType, ...]) -> tuple[exp.DType, ...]:
    """Whole division and its rest are exact among integers; of decimals they may be floating point."""
    return _INTEGERS if isinstance(expression, exp.IntDiv | exp.Mod) else types


def _values(expression: exp.Expr) -> list[exp.Expr]:
    """The parts whose kind decides; none where the parts do not."""
    if isinstance(expression, _WRAPPERS):
        return [*expression.expressions] if isinstance(expression, exp.Distinct) else [expression.this]
    if isinstance(expression, _EXACTLY):
        return [expression.left, expression.right]
    if isinstance(expression, exp.Case):
        chosen = [part.args["true"] for part in expression.args["ifs"]]
        default = expression.args.get("default")
        return chosen if default is None else [*chosen, default]
    if isinstance(expression, exp.If):
        default = expression.args.get("false")
        return [expression.args["true"]] if default is None else [expression.args["true"], default]
    if isinstance(expression, exp.Subquery | exp.Select):
        query = _alone(expression)
        return [query.expressions[0].unalias()] if query is not None and len(query.expressions) == 1 else []
    if not isinstance(expression, exp.Func):
        return []
    name = name_of(expression)
    if name in _LIKE_ALL:
        return list(expression.iter_expressions())
    return [expression.this] if name in _LIKE_FIRST and isinstance(expression.this, exp.Expr) else []


def _is_counted(expression: exp.Expr) -> bool:
    """Whether a function gives whole numbers, whatever its arguments are."""
    if isinstance(expression, exp.Extract):
        return expression.name.lower() not in _FLOATING_PARTS
    if not isinstance(expression, exp.Func):
        return False
    return name_of(expression) in _NUMBERS or written_name(expression) in EXACT


def _alone(query: exp.Expr) -> exp.Select | None:
    while isinstance(query, exp.Subquery):
        query = query.this
    return query if isinstance(query, exp.Select) else None


def _is_exact_column(column: exp.Column, types: tuple[exp.DType, ...]) -> bool:
    relation = _relation(column)
    if relation is None:
        return False
    if _is_given(relation):
        return column.type is not None and bool(column.type.is_type(*types))
    cte = binding(relation) if isinstance(relation, exp.Table) else None
    if cte is not None and cte.parent is not None and cte.parent.args.get("recursive"):
        return False
    made = cte.this if cte is not None else relation.this if isinstance(relation, exp.Subquery) else None
    if not isinstance(made, exp.Query):
        return False
    alias = (cte if cte is not None else relation).args.get("alias")
    names = [name.name for name in alias.columns] if isinstance(alias, exp.TableAlias) else []
    if any(operation.args.get("by_name") for operation in made.find_all(exp.SetOperation)):
        return False  # a column's place differs from branch to branch
    branches = _branches(made)
    names = names or list(branches[0].named_selects)
    if names.count(column.name) != 1:
        return False
    place = names.index(column.name)
    return all(_shows(select, place, types) for select in branches)


def _is_given(relation: exp.Expr) -> bool:
    """Whether the types of a relation's columns come from the schema: an input, or a list of one that is unnested."""
    if isinstance(relation, exp.Unnest):
        parts = relation.expressions
        return len(parts) == 1 and isinstance(parts[0], exp.Column) and _is_of_input(parts[0])
    return isinstance(relation, exp.Table) and relation.name.startswith(INPUT)


def _is_of_input(column: exp.Column) -> bool:
    relation = _relation(column)
    return isinstance(relation, exp.Table) and relation.name.startswith(INPUT)


def _branches(query: exp.Query) -> list[exp.Query]:
    while isinstance(query, exp.Subquery):
        query = query.this
    if isinstance(query, exp.SetOperation):
        return [*_branches(query.this), *_branches(query.expression)]
    return [query]


def _shows(query: exp.Query, place: int, types: tuple[exp.DType, ...]) -> bool:
    """Whether the column at this place of a query is exact."""
    shown = query.expressions if isinstance(query, exp.Select) else []
    return place < len(shown) and is_exact(shown[place].unalias(), types)


def _relation(column: exp.Column) -> exp.Expr | None:
    """The relation that a column is of: of the nearest SELECT around it that reads one of its table's name."""
    node: exp.Expr | None = column.parent
    while node is not None:
        if isinstance(node, exp.Select) and (from_ := node.args.get("from_")) is not None:
            sources = [from_.this, *(join.this for join in node.args.get("joins") or [])]
            found = [source for source in sources if source.alias_or_name == column.table]
            if found:
                relation: exp.Expr = found[0]
                return relation
        node = node.parent
    return None
