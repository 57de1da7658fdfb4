"""Joins that are not linear in their left side, written with those that are.

Rules of this file:
  * RIGHT JOIN is LEFT JOIN with the sides exchanged; FULL JOIN is a LEFT JOIN and, beside it, the rows of the right side
    that match nothing; SEMI and ANTI JOIN are EXISTS and NOT EXISTS;
  * a comma binds weaker than JOIN: what stands before it is no part of the left side of a join after it;
  * DISTINCT ON is the first row of each key: row_number() over the key is 1;
  * what stays as it is (ASOF, POSITIONAL) makes its SELECT opaque later.

Theory of operation. To exchange sides, all that stands left of the join becomes one relation: a subquery that shows, under
names of its own, the columns that the rest of the SELECT reads.
"""

from __future__ import annotations

from sqlglot import exp

from tidemill.sql.stages.layers import aliased
from tidemill.sql.stages.names import Fresh, fresh_column, home_of, sources

__all__ = ["rewrite_joins"]


def rewrite_joins(tree: exp.Query, fresh: Fresh) -> exp.Query:
    """The query without RIGHT, FULL, SEMI and ANTI joins and without DISTINCT ON. Changes and returns `tree`."""
    for select in reversed(list(tree.find_all(exp.Select))):
        _settle_kinds(select)
        _rewrite_semi(select)
        while (place := _first_outer(select)) is not None:
            _rewrite_outer(select, place, fresh)
        _settle_commas(select)
        _rewrite_distinct_on(select)
    return tree


def _settle_kinds(select: exp.Select) -> None:
    """OUTER is no word of its own."""
    for join in select.args.get("joins") or []:
        if str(join.kind or "").upper() == "OUTER":
            join.set("kind", None)


def _settle_commas(select: exp.Select) -> None:
    """A comma is CROSS, where no join after it keeps its whole right side."""
    joins = select.args.get("joins") or []
    if not any(str(join.side or "").upper() in ("RIGHT", "FULL") for join in joins):
        for join in joins:
            if is_comma(join):
                join.set("kind", "CROSS")


def is_comma(join: exp.Join) -> bool:
    """Whether a join is written as a comma."""
    return not any(join.args.get(word) for word in ("kind", "side", "method", "on", "using"))


def _rewrite_semi(select: exp.Select) -> None:
    """SEMI and ANTI joins as conditions; those before a RIGHT or FULL JOIN belong to its left side, and wait for that."""
    joins = list(select.args.get("joins") or [])
    outer = [place for place, join in enumerate(joins) if str(join.side or "").upper() in ("RIGHT", "FULL")]
    for join in joins[outer[-1] + 1 if outer else 0 :]:
        kind = str(join.kind or "").upper()
        if (
            kind not in ("SEMI", "ANTI")
            or not join.args.get("on")
            or not isinstance(join.this, exp.Table | exp.Subquery)
        ):
            continue
        inner = exp.Select(expressions=[exp.Literal.number(1)])
        inner.set("from_", exp.From(this=join.this.copy()))
        inner.set("where", exp.Where(this=join.args["on"].copy()))
        exists: exp.Expr = exp.Exists(this=inner)
        join.pop()
        select.where(exists if kind == "SEMI" else exp.Not(this=exists), copy=False)


def _first_outer(select: exp.Select) -> int | None:
    joins = select.args.get("joins") or []
    for place, join in enumerate(joins):
        if str(join.side or "").upper() in ("RIGHT", "FULL") and not join.method and join.args.get("on"):
            comma = _comma_before(joins, place)
            is_own = comma is None or isinstance(joins[comma].this, exp.Table | exp.Subquery)
            return place if is_own else None
    return None


def _comma_before(joins: list[exp.Join], place: int) -> int | None:
    """The place of the last comma before a join: what stands before it is no part of the join's left side."""
    return max((number for number, join in enumerate(joins[:place]) if is_comma(join)), default=None)


def _rewrite_outer(select: exp.Select, place: int, fresh: Fresh) -> None:
    """Put one relation, and maybe a LEFT JOIN, in the place of a RIGHT or FULL JOIN and all that is left of it."""
    joins = list(select.args["joins"])
    comma = _comma_before(joins, place)
    begin = 0 if comma is None else comma + 1
    first = select.args["from_"].this if comma is None else joins[comma].this
    made, added = _outer(select, first, joins[begin : place + 1], fresh)
    later = [*added, *joins[place + 1 :]]
    if comma is None:
        select.set("from_", exp.From(this=made))
        select.set("joins", later)
    else:
        select.set("joins", [*joins[:comma], exp.Join(this=made), *later])


def _outer(select: exp.Select, first: exp.Expr, joins: list[exp.Join], fresh: Fresh) -> tuple[exp.Expr, list[exp.Join]]:
    """The relation that stands for `first` and these joins, of which the last is RIGHT or FULL, and what is joined to
    it. The columns that the SELECT reads are renamed."""
    *between, join = joins
    left = exp.Select(from_=exp.From(this=first.copy()), joins=[one.copy() for one in between])
    _rewrite_semi(left)
    left_names = [source.alias_or_name for source in sources(left)]
    right_name = join.this.alias_or_name
    condition, right, is_full = join.args["on"].copy(), join.this.copy(), str(join.side).upper() == "FULL"
    for one in (first.parent, *joins):
        assert one is not None
        one.pop()
    names = _names_of(select, condition, left_names, right_name)
    left_alias = fresh.alias()
    _show(left, names, left_names)
    condition = condition.transform(lambda node: _renamed(node, names, left_alias, left_names))
    if not is_full:
        _rename_in(select, names, left_alias, left_names)
        return right, [_left_join(_sub(left, left_alias), condition)]
    both = fresh.alias()
    _rename_in(select, names, both, [*left_names, right_name])
    return _sub(_full(_sub(left, left_alias), right, condition, names), both), []


Names = dict[tuple[str, str], str]


def _names_of(select: exp.Select, condition: exp.Expr, left: list[str], right: str) -> Names:
    """The columns of both sides that are read, each with a name of its own."""
    wanted = {*left, right}
    read = [column for column in select.find_all(exp.Column) if column.table in wanted and _is_free(column, select)]
    read += list(condition.find_all(exp.Column))
    found = dict.fromkeys((column.table, column.name) for column in read if column.table in wanted)
    return {pair: f"c{number}" for number, pair in enumerate(found)}


def _is_free(column: exp.Column, select: exp.Select) -> bool:
    """Whether a column is of the sources that were just taken out of the SELECT."""
    return home_of(column, select) is None


def _show(left: exp.Select, names: Names, tables: list[str]) -> None:
    shown = [aliased(fresh_column(name, table), new) for (table, name), new in names.items() if table in tables]
    left.set("expressions", [*shown, aliased(exp.true(), "m")])


def _sub(query: exp.Query, alias: str) -> exp.Subquery:
    return exp.Subquery(this=query, alias=exp.TableAlias(this=exp.to_identifier(alias, quoted=True)))


def _left_join(right: exp.Expr, condition: exp.Expr) -> exp.Join:
    return exp.Join(this=right, side="LEFT", on=condition)


def _renamed(node: exp.Expr, names: Names, alias: str, tables: list[str]) -> exp.Expr:
    if isinstance(node, exp.Column) and node.table in tables and (node.table, node.name) in names:
        return fresh_column(names[(node.table, node.name)], alias)
    return node


def _rename_in(select: exp.Select, names: Names, alias: str, tables: list[str]) -> None:
    """Columns of the sources that were taken out are columns of the relation that stands for them."""
    for column in list(select.find_all(exp.Column)):
        if column.table in tables and _is_free(column, select) and (column.table, column.name) in names:
            new = fresh_column(names[(column.table, column.name)], alias)
            parent = column.parent
            if isinstance(parent, exp.Select) and column.arg_key == "expressions":
                new = aliased(new, column.name)  # type: ignore[assignment]
            column.replace(new)


def _full(left: exp.Subquery, right: exp.Expr, condition: exp.Expr, names: Names) -> exp.Query:
    """All rows of the left side with what they match, then the rows of the right side that match nothing."""
    matched = exp.Select(
        expressions=[aliased(_of_side(left, right, column, new), new) for column, new in names.items()],
        from_=exp.From(this=left),
        joins=[_left_join(right, condition)],
    )
    is_right = {new: table == right.alias_or_name for (table, _), new in names.items()}
    unmatched = exp.Select(
        expressions=[
            aliased(fresh_column(name, table) if is_right[new] else exp.null(), new)
            for (table, name), new in names.items()
        ],
        from_=exp.From(this=right.copy()),
        joins=[_left_join(left.copy(), condition.copy())],
        where=exp.Where(this=exp.Is(this=fresh_column("m", left.alias), expression=exp.null())),
    )
    return exp.Union(this=matched, expression=unmatched, distinct=False)


def _of_side(left: exp.Subquery, right: exp.Expr, column: tuple[str, str], new: str) -> exp.Column:
    """A column of the join: the left side shows it under its new name, the right side under its own."""
    table, name = column
    return fresh_column(name, table) if table == right.alias_or_name else fresh_column(new, left.alias)


def _rewrite_distinct_on(select: exp.Select) -> None:
    distinct = select.args.get("distinct")
    on = distinct.args.get("on") if isinstance(distinct, exp.Distinct) else None
    if on is None or select.args.get("limit") or select.args.get("offset") or select.args.get("qualify"):
        return
    keys = list(on.expressions) if isinstance(on, exp.Tuple) else [on]
    order = select.args.get("order")
    outputs = {part.alias_or_name: part.unalias() for part in select.expressions}
    order = order.copy() if order is not None else exp.Order(expressions=[])
    for column in list(order.find_all(exp.Column)):
        if not column.table and column.name in outputs:
            column.replace(outputs[column.name].copy())
    number = exp.Window(this=exp.RowNumber(), partition_by=[key.copy() for key in keys], order=order, over="OVER")
    select.set("distinct", None)
    select.set("order", None)
    select.set("qualify", exp.Qualify(this=exp.EQ(this=number, expression=exp.Literal.number(1))))
