"""Values that are equal and are written in several ways: one of them stands for all, the same one in every run.

Rules of this file:
  * to DuckDB 0.0 and -0.0 are equal, all NaN are, and a month and thirty days are; yet their texts differ, and which of
    them stands for a group is the one that happened to come first;
  * so where equal values become one (GROUP BY, DISTINCT, UNION, EXCEPT, INTERSECT, min, max, median, mode, histogram) the
    value is written in one way: zero without a sign, NaN without one, an interval as DuckDB normalises it; in lists,
    structs and maps too;
  * where each stays (list, arg_max, LIMIT, row_number), a last sort key tells equal ones apart (`telling_apart`);
  * what is written so has the type it had.

Theory: `canonical` does it where types show it, so that every mode shows the same value. The stages do it once more for
their keys by the types that DuckDB says (`normal_text`), because there a key's identity is made of its text.
"""

from __future__ import annotations

import re

from sqlglot import exp, parse_one

from tidemill.sql.exact import is_exact
from tidemill.sql.functions import ONE_FOR_ALL, name_of
from tidemill.sql.keys import is_aggregate

__all__ = ["is_spelled_deep_inside", "normal_text", "spell_equal_values", "telling_apart"]

_NUMBERS = tuple(exp.DataType.NUMERIC_TYPES)
_NESTED = re.compile(r"(real|float|double|interval)\b", re.IGNORECASE)
_FLOATING = (exp.DType.FLOAT, exp.DType.DOUBLE)
_LISTS = (exp.DType.ARRAY, exp.DType.LIST)
_PLAIN = (*exp.DataType.TEXT_TYPES, *exp.DataType.TEMPORAL_TYPES, exp.DType.BOOLEAN, exp.DType.UUID, exp.DType.ENUM)
_PLAIN = (*_PLAIN, exp.DType.TIME, exp.DType.JSON, exp.DType.BIT, exp.DType.BINARY, exp.DType.VARBINARY)
_VALUE = "_value"


def normal_text(name: str, kind: str) -> str:
    """The SQL text of a column (as it is written) of a DuckDB type, with its values written in one way; `name` itself
    where they are anyway."""
    return _text(name, exp.DataType.build(kind, dialect="duckdb")) if _NESTED.search(kind) else name


def is_spelled_deep_inside(kind: str) -> bool:
    """Whether values of a DuckDB type hold parts that are written in several ways, and that nothing here reaches."""
    return _NESTED.search(kind) is not None and normal_text("x", kind) == "x"


def _text(name: str, kind: exp.DataType, depth: int = 0) -> str:
    if kind.is_type(*_FLOATING):
        return f"CASE WHEN {name} = 0 OR isnan({name}) THEN abs({name}) ELSE {name} END"
    if kind.is_type(exp.DType.INTERVAL):
        return f"normalized_interval({name})"
    inner, parts = f'"e{depth}"', kind.expressions
    if kind.is_type(*_LISTS) and parts:
        made = _text(inner, parts[0], depth + 1)
        text = f"list_transform({name}, lambda {inner}: {made})"
        text = f"CAST({text} AS {kind.sql(dialect='duckdb')})" if kind.args.get("values") else text
        return text if made != inner else name
    if kind.is_type(exp.DType.MAP) and len(parts) == 2:
        fields = {"key": parts[0], "value": parts[1]}
        made = _struct_text(inner, fields, depth)
        return f"map_from_entries(list_transform(map_entries({name}), lambda {inner}: {made}))" if made else name
    if kind.is_type(exp.DType.STRUCT):
        made = _struct_text(inner, {part.name: part.args["kind"] for part in parts}, depth)
        whole = f"CASE WHEN {inner} IS NULL THEN NULL ELSE {made} END"
        return f"list_extract(list_transform([{name}], lambda {inner}: {whole}), 1)" if made else name
    return name


def _struct_text(name: str, fields: dict[str, exp.DataType], depth: int) -> str:
    """A struct with the fields of another in one way; empty where all of them are."""
    plain = {field: f"struct_extract({name}, {exp.Literal.string(field).sql()})" for field in fields}
    made = {field: _text(plain[field], kind, depth + 1) for field, kind in fields.items()}
    parts = [f"{exp.Literal.string(field).sql()}: {text}" for field, text in made.items()]
    return f"{{{', '.join(parts)}}}" if made != plain else ""


def telling_apart(expression: exp.Expr) -> exp.Expr | None:
    """The sort key that tells equal values of a resolved and annotated expression apart; None where each has one text."""
    is_told = isinstance(expression, exp.Collate) or name_of(expression) == "signbit"
    if is_told or expression.find(exp.Column) is None or _is_normal(expression):
        return None
    kind = expression.type
    if kind is not None and kind.is_type(*_NUMBERS):
        return None if is_exact(expression) else _call("signbit", expression)
    if kind is not None and (kind.is_type(*_PLAIN) or _is_plain_inside(kind)):
        return None
    return exp.cast(expression.copy(), "varchar", dialect="duckdb")


def _is_plain_inside(kind: exp.DataType) -> bool:
    """Whether a type of lists or structs holds nothing but texts, times and exact numbers."""
    inner = [part for part in kind.find_all(exp.DataType) if part is not kind]
    nests = (*_LISTS, exp.DType.STRUCT, exp.DType.MAP)
    exact = [known for known in _NUMBERS if known not in _FLOATING]
    return bool(inner) and kind.is_type(*nests) and all(part.is_type(*_PLAIN, *exact, *nests) for part in inner)


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
    for function in list(tree.find_all(exp.Func)):
        _spell_argument(function)


def _spell_argument(function: exp.Func) -> None:
    """What an aggregate shows one of, for all that are equal to it."""
    holder: exp.Expr = function.parent if isinstance(function.parent, exp.WithinGroup) else function
    part = holder.args.get("expression") if holder is not function else next(function.iter_expressions(), None)
    bare = part.this if isinstance(part, exp.Order) else part
    is_distinct = isinstance(bare, exp.Distinct) and name_of(function) != "count"
    if part is None or not (is_distinct or name_of(function) in ONE_FOR_ALL):
        return
    keys: list[exp.Expr] = [key for key in part.expressions if isinstance(key, exp.Ordered)]
    values = bare.expressions if isinstance(bare, exp.Distinct) else [bare]
    for key in keys:
        if bare is None or key.this in values:
            key.set("this", _normal(key.this))
    for value in values:
        if isinstance(value, exp.Expr) and (normal := _normal(value)) is not value:
            value.replace(normal)


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
        is_normal = _is_normal(expression)
        return expression if is_normal else _typed(_call("normalized_interval", expression), expression)
    if not expression.is_type(*_NUMBERS):
        return _nested(expression)
    if is_exact(expression) or _is_normal(expression):
        return expression
    return _typed(_case(expression), expression)


def _nested(expression: exp.Expr) -> exp.Expr:
    """A list, struct or map with the parts inside it written in one way."""
    kind = expression.type
    if not isinstance(kind, exp.DataType) or _text(_VALUE, kind) == _VALUE:
        return expression
    inner = next(expression.this.iter_expressions(), None) if isinstance(expression, exp.Cast) else None
    is_normal = inner is not None and _rewritten(inner, kind) == expression
    return expression if is_normal else _typed(_rewritten(expression, kind), expression)


def _rewritten(expression: exp.Expr, kind: exp.DataType) -> exp.Expr:
    made = parse_one(_text(_VALUE, kind), dialect="duckdb")
    for column in list(made.find_all(exp.Column)):
        if column.name == _VALUE:
            column.replace(expression.copy())
    return made


def _call(name: str, argument: exp.Expr) -> exp.Expr:
    return exp.Anonymous(this=name, expressions=[argument.copy()])


def _case(value: exp.Expr) -> exp.Case:
    """Zero and NaN without their signs: a form that keeps the type of any number."""
    bare = exp.Paren(this=value.copy()) if isinstance(value, exp.Binary | exp.Unary) else value.copy()
    is_zero = exp.EQ(this=bare, expression=exp.Literal.number(0))
    has_sign = exp.Or(this=is_zero, expression=exp.IsNan(this=value.copy()))
    return exp.Case(ifs=[exp.If(this=has_sign, true=exp.Abs(this=value.copy()))], default=value.copy())


def _is_normal(expression: exp.Expr) -> bool:
    if isinstance(expression, exp.Anonymous) and expression.name.lower() == "normalized_interval":
        return True
    default = expression.args.get("default") if isinstance(expression, exp.Case) else None
    return default is not None and expression == _case(default)


def _typed(made: exp.Expr, like: exp.Expr) -> exp.Expr:
    made.type = like.type
    return made
