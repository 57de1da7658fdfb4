"""Values that are equal and are written in several ways: one of them stands for all, the same one in every run.

Rules of this file:
  * to DuckDB 0.0 and -0.0 are equal, all NaN are, and a month and thirty days are; yet their texts differ, and which of
    them stands for a group is the one that happened to come first;
  * so where equal values become one (GROUP BY, DISTINCT, UNION, EXCEPT, INTERSECT, min, max) the value is written in one
    way: zero without a sign, NaN without one, an interval as DuckDB normalises it;
  * what is written so has the type it had.

Theory: `canonical` does it where types show it, so that every mode shows the same value. The stages do it once more for
their keys by the types that DuckDB says (`normal_text`), because there a key's identity is made of its text.
"""

from __future__ import annotations

import re

from sqlglot import exp

from tidemill.sql.exact import is_exact
from tidemill.sql.keys import is_aggregate

__all__ = ["is_spelled_deep_inside", "normal_text", "spell_equal_values"]

_NUMBERS = tuple(exp.DataType.NUMERIC_TYPES)
_FLOATING = re.compile(r"(real|float|double)$", re.IGNORECASE)
_NESTED = re.compile(r"(real|float|double|interval)\b", re.IGNORECASE)


def normal_text(name: str, kind: str) -> str:
    """The SQL text of a column (as it is written) of a DuckDB type, with its values written in one way; `name` itself
    where they are anyway."""
    if _FLOATING.match(kind):
        return f"CASE WHEN {name} = 0 OR isnan({name}) THEN abs({name}) ELSE {name} END"
    return f"normalized_interval({name})" if kind.upper() == "INTERVAL" else name


def is_spelled_deep_inside(kind: str) -> bool:
    """Whether values of a DuckDB type hold, in lists or fields, parts that are written in several ways."""
    return _NESTED.search(kind) is not None and normal_text("x", kind) == "x"


def spell_equal_values(tree: exp.Query) -> None:
    """Write the values that become one in one way. `tree` is resolved and annotated, and changed."""
    for select in list(tree.find_all(exp.Select)):
        _spell_keys(select)
        if select.args.get("distinct") is not None and not select.args["distinct"].args.get("on"):
            _spell_columns(select)
    for operation in list(tree.find_all(exp.SetOperation)):
        if operation.args.get("distinct"):
            for select in _branches(operation):
                _spell_columns(select)
    for extreme in list(tree.find_all(exp.Min, exp.Max)):
        if extreme.this is not None and not extreme.expressions and is_aggregate(extreme):
            extreme.set("this", _normal(extreme.this))


def _branches(query: exp.Expr) -> list[exp.Select]:
    while isinstance(query, exp.Subquery):
        query = query.this
    if isinstance(query, exp.SetOperation):
        return [*_branches(query.this), *_branches(query.expression)]
    return [query] if isinstance(query, exp.Select) else []


def _spell_columns(select: exp.Select) -> None:
    for part in list(select.expressions):
        if isinstance(part, exp.Alias):
            part.set("this", _normal(part.this))


def _spell_keys(select: exp.Select) -> None:
    """The keys of a group, and every place above the group that shows one."""
    group = select.args.get("group")
    if group is None:
        return
    made = {key: _normal(key) for key in group.expressions}
    changed = {key: normal for key, normal in made.items() if normal is not key}
    if not changed:
        return
    for part in (*select.expressions, *(select.args.get(name) for name in ("having", "qualify", "order"))):
        if part is not None:
            _put_keys(part, changed)
    group.set("expressions", [made[key].copy() for key in group.expressions])


def _put_keys(part: exp.Expr, changed: dict[exp.Expr, exp.Expr]) -> None:
    stack = [part]
    while stack:
        node = stack.pop()
        if is_aggregate(node):
            continue
        if node in changed and node.parent is not None:
            node.replace(changed[node].copy())
        else:
            stack.extend(node.iter_expressions())


def _normal(expression: exp.Expr) -> exp.Expr:
    """The expression with its values written in one way; the expression itself where they are, or no type shows it."""
    if isinstance(expression, exp.Literal | exp.Null) or expression.type is None:
        return expression
    if expression.is_type(exp.DType.INTERVAL):
        is_normal = isinstance(expression, exp.Anonymous) and expression.name.lower() == "normalized_interval"
        return expression if is_normal else _typed(_call("normalized_interval", expression), expression)
    if not expression.is_type(*_NUMBERS) or is_exact(expression) or _is_normal(expression):
        return expression
    return _typed(_case(expression), expression)


def _call(name: str, argument: exp.Expr) -> exp.Expr:
    return exp.Anonymous(this=name, expressions=[argument.copy()])


def _case(value: exp.Expr) -> exp.Case:
    """Zero and NaN without their signs: a form that keeps the type of any number."""
    bare = exp.Paren(this=value.copy()) if isinstance(value, exp.Binary | exp.Unary) else value.copy()
    is_zero = exp.EQ(this=bare, expression=exp.Literal.number(0))
    has_sign = exp.Or(this=is_zero, expression=exp.IsNan(this=value.copy()))
    return exp.Case(ifs=[exp.If(this=has_sign, true=exp.Abs(this=value.copy()))], default=value.copy())


def _is_normal(expression: exp.Expr) -> bool:
    default = expression.args.get("default") if isinstance(expression, exp.Case) else None
    return default is not None and expression == _case(default)


def _typed(made: exp.Expr, like: exp.Expr) -> exp.Expr:
    made.type = like.type
    return made
