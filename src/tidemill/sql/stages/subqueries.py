"""Subqueries in expressions become joins, where that can be done exactly.

Rules of this file:
  * EXISTS, IN and scalar subqueries that aggregate become a join with a grouped relation: at most one row matches, so no
    row is doubled; NULLs mean what they mean in SQL, and an aggregate over nothing keeps its value (a count is 0);
  * a correlated subquery may refer to the row outside only by equalities in its own WHERE, an EXISTS also by one other
    comparison (some value below x exists exactly where the least one is below x);
  * what is left stays a subquery in an expression: its SELECT is recomputed as a whole.

Theory of operation. The equalities are the keys: the subquery is grouped by its side of them and joined on the other side.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from sqlglot import exp

from tidemill.sql.functions import name_of
from tidemill.sql.keys import is_aggregate
from tidemill.sql.stages.layers import aliased as alias_of
from tidemill.sql.stages.layers import has_aggregates, split_group
from tidemill.sql.stages.names import Fresh, conjuncts, fresh_column, home_of, subqueries

__all__ = ["rewrite_subqueries"]

_COUNTS = frozenset("count count_star approx_count_distinct regr_count".split())
_EXTREMES: dict[type[exp.Expr], tuple[str, ...]] = {
    exp.LT: ("lo",),
    exp.LTE: ("lo",),
    exp.GT: ("hi",),
    exp.GTE: ("hi",),
    exp.NEQ: ("lo", "hi"),
}
_MIRRORED: dict[type[exp.Expr], type[exp.Binary]] = {
    exp.LT: exp.GT,
    exp.LTE: exp.GTE,
    exp.GT: exp.LT,
    exp.GTE: exp.LTE,
    exp.NEQ: exp.NEQ,
}


class _Unfit(Exception):
    """This subquery has no exact form as a join."""


@dataclass(slots=True)
class _Correlation:
    """What ties a subquery to the row outside: pairs of (inner, outer) that are equal, and one other comparison."""

    equal: list[tuple[exp.Expr, exp.Expr]] = field(default_factory=list)
    other: tuple[type[exp.Binary], exp.Expr, exp.Expr] | None = None


def rewrite_subqueries(tree: exp.Query, fresh: Fresh) -> exp.Query:
    """The query with its subqueries turned into joins as far as that is exact. Changes and returns `tree`."""
    for select in reversed(list(tree.find_all(exp.Select))):
        if select.args.get("from_") is None:
            continue
        if _asks_after_grouping(select):
            outer = split_group(select, fresh.alias())
            tree = outer if select is tree else tree
            select.replace(outer)
            _rewrite_all(outer.args["from_"].this.this, fresh)
            _rewrite_all(outer, fresh)
        else:
            _rewrite_all(select, fresh)
    return tree


def _asks_after_grouping(select: exp.Select) -> bool:
    """Whether a SELECT aggregates and has subqueries that see what it aggregated."""
    parts = [*select.expressions, select.args.get("having"), select.args.get("qualify")]
    return has_aggregates(select) and any(subqueries(part) for part in parts if part is not None)


def _rewrite_all(select: exp.Select, fresh: Fresh) -> None:
    for part in (*select.expressions, select.args.get("where")):
        for node in subqueries(part) if part is not None else []:
            _rewrite(select, node, fresh)


def _rewrite(select: exp.Select, node: exp.Expr, fresh: Fresh) -> None:
    rule: Callable[[exp.Select, exp.Expr, Fresh], exp.Expr] | None = None
    if isinstance(node, exp.Exists):
        rule = _exists
    elif isinstance(node, exp.In):
        rule = _in
    elif isinstance(node, exp.Subquery) and not isinstance(node.parent, exp.Any | exp.All | exp.Array):
        rule = _scalar
    if rule is None or any(
        lambda_ for lambda_ in [node.find_ancestor(exp.Lambda, exp.Select)] if isinstance(lambda_, exp.Lambda)
    ):
        return
    joins = list(select.args.get("joins") or [])
    try:
        value = rule(select, node, fresh)
    except _Unfit:
        select.set("joins", joins)
        return
    node.replace(value)


def _query_of(node: exp.Expr) -> exp.Query:
    query = node.args["query"] if isinstance(node, exp.In) else node.this
    while isinstance(query, exp.Subquery):
        query = query.this
    if not isinstance(query, exp.Query):
        raise _Unfit
    return query.copy()


def _outer_columns(query: exp.Query) -> list[exp.Column]:
    """The columns in a (detached) query that are not its own."""
    return [column for column in query.find_all(exp.Column) if column.table and home_of(column, query) is None]


def _correlation(query: exp.Query, *, allows_other: bool = False) -> _Correlation:
    """Take what ties the query to the row outside out of its WHERE. Raises _Unfit where it is tied otherwise."""
    found = _Correlation()
    if not _outer_columns(query):
        return found
    if not isinstance(query, exp.Select) or query.args.get("where") is None:
        raise _Unfit
    kept = []
    for condition in conjuncts(query.args["where"].this):
        outer = {
            id(column) for column in condition.find_all(exp.Column) if column.table and home_of(column, query) is None
        }
        if not outer:
            kept.append(condition.copy())
        else:
            _tie(found, condition, outer, allows_other)
    query.set("where", exp.Where(this=exp.and_(*kept, copy=False)) if kept else None)
    if _outer_columns(query) or not found.equal:
        raise _Unfit
    return found


def _tie(found: _Correlation, condition: exp.Expr, outer: set[int], allows_other: bool) -> None:
    if not isinstance(condition, exp.Binary) or condition.find(exp.Query):
        raise _Unfit
    sides = [_side(condition.left, outer), _side(condition.right, outer)]
    if sorted(sides) != ["inner", "outer"]:
        raise _Unfit
    is_flipped = sides[0] == "outer"
    inner, out = (condition.right, condition.left) if is_flipped else (condition.left, condition.right)
    kind = type(condition)
    if kind is exp.EQ:
        found.equal.append((inner.copy(), out.copy()))
        return
    if not allows_other or found.other is not None or kind not in _EXTREMES:
        raise _Unfit
    found.other = (_MIRRORED[kind] if is_flipped else kind, inner.copy(), out.copy())


def _side(expression: exp.Expr, outer: set[int]) -> str:
    columns = list(expression.find_all(exp.Column))
    if not columns:
        return "neither"
    is_outer = [id(column) in outer for column in columns]
    return "outer" if all(is_outer) else "both" if any(is_outer) else "inner"


def _is_plain(query: exp.Query) -> bool:
    """Whether a query only filters and joins: its rows may be grouped in place."""
    clauses = ("group", "having", "qualify", "limit", "offset", "distinct")
    if not isinstance(query, exp.Select) or any(query.args.get(clause) for clause in clauses):
        return False
    return not any(
        is_aggregate(node) or isinstance(node, exp.Window) for part in query.expressions for node in part.walk()
    )


def _key_name(number: int) -> str:
    return f"_c{number}"


def _keys(tie: _Correlation) -> list[exp.Expr]:
    return [alias_of(inner.copy(), _key_name(number)) for number, (inner, _) in enumerate(tie.equal)]


def _grouped(query: exp.Select, tie: _Correlation, values: list[exp.Expr]) -> exp.Select:
    """The query grouped by what ties it, with these values."""
    query.set("expressions", [*_keys(tie), *values])
    if tie.equal:
        query.set("group", exp.Group(expressions=[inner.copy() for inner, _ in tie.equal]))
    query.set("order", None)
    return query


def _join(
    select: exp.Select, query: exp.Query, alias: str, tie: _Correlation, *more: exp.Expr, is_inner: bool = False
) -> None:
    """Join a relation that has at most one row per key."""
    source = exp.Subquery(this=query, alias=exp.TableAlias(this=exp.to_identifier(alias, quoted=True)))
    on = [exp.EQ(this=out.copy(), expression=fresh_column(_key_name(n), alias)) for n, (_, out) in enumerate(tie.equal)]
    on += list(more)  # type: ignore[arg-type]
    if on:
        join = exp.Join(this=source, on=exp.and_(*on, copy=False), side=None if is_inner else "LEFT")
    else:
        join = exp.Join(this=source, kind="CROSS")
    select.append("joins", join)


def _is_conjunct(select: exp.Select, node: exp.Expr) -> bool:
    """Whether rows for which the node is not true are dropped."""
    here = node.parent
    while isinstance(here, exp.And | exp.Paren):
        here = here.parent
    return isinstance(here, exp.Where) and here.parent is select


def _is_present(column: exp.Expr) -> exp.Expr:
    return exp.Not(this=exp.Is(this=column, expression=exp.null()))


def _or_false(condition: exp.Expr) -> exp.Expr:
    return exp.Coalesce(this=exp.Paren(this=condition), expressions=[exp.false()])


def _exists(select: exp.Select, node: exp.Expr, fresh: Fresh) -> exp.Expr:
    query, alias = _query_of(node), fresh.alias()
    if not _outer_columns(query):
        count = exp.Select(expressions=[alias_of(exp.Count(this=exp.Star(), big_int=True), "_n")])
        inner = exp.Subquery(this=query, alias=exp.TableAlias(this=exp.to_identifier("_w", quoted=True)))
        _join(select, count.from_(inner, copy=False), alias, _Correlation())
        return exp.Paren(this=exp.GT(this=fresh_column("_n", alias), expression=exp.Literal.number(0)))
    if not _is_plain(query):
        raise _Unfit
    tie = _correlation(query, allows_other=True)
    assert isinstance(query, exp.Select)
    if tie.other is None:
        is_inner = _is_conjunct(select, node)
        _join(select, _grouped(query, tie, []), alias, tie, is_inner=is_inner)
        return exp.true() if is_inner else exp.Paren(this=_is_present(fresh_column(_key_name(0), alias)))
    kind, value, out = tie.other
    bounds: list[exp.Expr] = [alias_of(exp.Min(this=value.copy()), "_lo"), alias_of(exp.Max(this=value.copy()), "_hi")]
    _join(select, _grouped(query, tie, bounds), alias, tie)
    tests = [kind(this=fresh_column(f"_{end}", alias), expression=out.copy()) for end in _EXTREMES[kind]]
    return _or_false(exp.or_(*tests, copy=False))


def _in(select: exp.Select, node: exp.Expr, fresh: Fresh) -> exp.Expr:
    """x IN (query): joined with the distinct values; where NULL and false must be told apart, with counts beside."""
    query, alias = _query_of(node), fresh.alias()
    value = node.this
    if isinstance(value, exp.Tuple) or value.find(exp.Query):
        raise _Unfit
    query, tie, shown = _values(query)
    match = exp.EQ(this=value.copy(), expression=fresh_column("_v", alias))
    distinct = exp.Select(
        expressions=[*(fresh_column(_key_name(n), "_w") for n in range(len(tie.equal))), fresh_column("_v", "_w")],
        distinct=exp.Distinct(),
    ).from_(shown(query.copy()), copy=False)
    for part in list(distinct.expressions):
        part.replace(alias_of(part.copy(), part.name))
    is_inner = _is_conjunct(select, node)
    _join(select, distinct, alias, tie, match, is_inner=is_inner)
    if is_inner:
        return exp.true()
    found = _is_present(fresh_column("_v", alias))
    if _is_filter(select, node):
        return exp.Paren(this=found)
    probe = fresh.alias()
    counts = [
        alias_of(exp.Count(this=exp.Star(), big_int=True), "_n"),
        alias_of(exp.Count(this=fresh_column("_v", "_w"), big_int=True), "_nn"),
    ]
    keys: list[exp.Expr] = [fresh_column(_key_name(n), "_w") for n in range(len(tie.equal))]
    counted = exp.Select(expressions=[*(alias_of(key, key.name) for key in keys), *counts]).from_(
        shown(query), copy=False
    )
    if keys:
        counted.set("group", exp.Group(expressions=[key.copy() for key in keys]))
    _join(select, counted, probe, tie)
    return _three_valued(value, found, probe)


def _values(query: exp.Query) -> tuple[exp.Query, _Correlation, Callable[[exp.Query], exp.Subquery]]:
    """The query giving its keys and its one value `_v`."""
    if not isinstance(query, exp.Select) or not _is_plain(query):
        if _outer_columns(query):
            raise _Unfit
        names = query.named_selects
        if len(names) != 1 or not names[0]:
            raise _Unfit
        inner = exp.Subquery(this=query, alias=exp.TableAlias(this=exp.to_identifier("_u", quoted=True)))
        query = exp.Select(expressions=[alias_of(fresh_column(names[0], "_u"), "_v")]).from_(inner, copy=False)
        tie = _Correlation()
    else:
        if len(query.expressions) != 1 or query.expressions[0].is_star:
            raise _Unfit
        tie = _correlation(query)
        query.set("expressions", [*_keys(tie), alias_of(query.expressions[0].unalias().copy(), "_v")])
        query.set("order", None)

    def shown(body: exp.Query) -> exp.Subquery:
        return exp.Subquery(this=body, alias=exp.TableAlias(this=exp.to_identifier("_w", quoted=True)))

    return query, tie, shown


def _is_filter(select: exp.Select, node: exp.Expr) -> bool:
    """Whether NULL and false mean the same where the node stands: in WHERE below AND and OR only."""
    here = node.parent
    while isinstance(here, exp.And | exp.Or | exp.Paren):
        here = here.parent
    return isinstance(here, exp.Where) and here.parent is select


def _three_valued(value: exp.Expr, found: exp.Expr, probe: str) -> exp.Expr:
    count = exp.Coalesce(this=fresh_column("_n", probe), expressions=[exp.Literal.number(0)])
    has_null = exp.NEQ(this=fresh_column("_n", probe), expression=fresh_column("_nn", probe))
    unknown = exp.or_(exp.Is(this=value.copy(), expression=exp.null()), has_null, copy=False)
    case = exp.Case(
        ifs=[
            exp.If(this=exp.EQ(this=count, expression=exp.Literal.number(0)), true=exp.false()),
            exp.If(this=found, true=exp.true()),
            exp.If(this=unknown, true=exp.null()),
        ],
        default=exp.false(),
    )
    return exp.Cast(this=case, to=exp.DataType.build("boolean"))


def _scalar(select: exp.Select, node: exp.Expr, fresh: Fresh) -> exp.Expr:
    """A scalar subquery that aggregates: it has exactly one row for every row outside."""
    query, alias = _query_of(node), fresh.alias()
    if not isinstance(query, exp.Select) or len(query.expressions) != 1:
        raise _Unfit
    if any(query.args.get(clause) for clause in ("group", "having", "qualify", "limit", "offset", "distinct")):
        raise _Unfit
    value = query.expressions[0].unalias()
    if any(isinstance(part, exp.Window) for part in value.walk()):
        raise _Unfit
    if not any(is_aggregate(part) for part in value.walk(prune=lambda part: isinstance(part, exp.Query))):
        raise _Unfit
    tie = _correlation(query)
    empty = _over_nothing(value) if tie.equal else None
    _join(select, _grouped(query, tie, [alias_of(value.copy(), "_v")]), alias, tie)
    column = fresh_column("_v", alias)
    if empty is None:
        return column
    is_missing = exp.Is(this=fresh_column(_key_name(0), alias), expression=exp.null())
    return exp.Case(ifs=[exp.If(this=is_missing, true=empty)], default=column)


def _over_nothing(value: exp.Expr) -> exp.Expr | None:
    """What an expression over aggregates gives where there are no rows; None where that is simply NULL."""
    if is_aggregate(value):
        return exp.Literal.number(0) if name_of(value) in _COUNTS else None
    made = value.copy()
    if is_aggregate(made) or any(isinstance(part, exp.Filter | exp.WithinGroup) for part in made.walk()):
        raise _Unfit
    for part in [part for part in made.walk() if isinstance(part, exp.Func) and is_aggregate(part)]:
        part.replace(exp.Literal.number(0) if name_of(part) in _COUNTS else exp.null())
    if next(made.find_all(exp.Column), None) is not None:
        raise _Unfit
    return made
