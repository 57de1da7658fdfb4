"""The texts of a region: all its rows, and the change set that one leaf causes.

Rules of this file:
  * the tree is linear: filters, projections, inner, cross and left joins, unnest and UNION ALL over leaves;
  * a row's identity is made of the identities of the rows it comes from, each with its length before it, so that no two
    lists of identities give the same text; rows that one input row unnests into are numbered by their content;
  * a change on the side of a LEFT JOIN that may be missing is the join after it minus the join before it, for the rows
    whose side of an equality occurs in the change set (every row, where the condition has no equality);
  * in the term of a leaf, the leaves before it are in their new state and those after it in their old one.

Theory of operation. Weights travel up the tree like a column. A join is linear in each of its sides but the one that may
be missing, so the term of a leaf is the query with the leaf's change set in its place; of a UNION ALL only the branch
with the leaf counts, the other ones stay as empty relations, because they have a say in the types.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from sqlglot import exp

from tidemill.sql.resolve import INPUT
from tidemill.sql.stages.lists import lists_first
from tidemill.sql.stages.model import DELTA, NEW, OLD, WEIGHT, Region, leaf_name
from tidemill.sql.stages.names import conjuncts, sources

__all__ = ["LEAF", "region_of"]

LEAF = "@leaf:"
"""What the tables of a region are called before it is written: this, then the relation."""
_RID = "_rid"
_NUMBERED = "@number:"


def region_of(tree: exp.Query, can_retract: Callable[[str], bool], *, has_identity: bool) -> Region:
    """The texts of a linear tree. `can_retract` tells of a relation whether its change sets remove rows."""
    tree = tree.copy()
    relations: list[str] = []
    optional: set[int] = set()
    for table in [table for table in tree.find_all(exp.Table) if table.name.startswith(LEAF)]:
        number = len(relations)
        relations.append(table.name.removeprefix(LEAF))
        table.set("this", exp.to_identifier(f"{_NUMBERED}{number}", quoted=True))
        if _is_optional(table):
            optional.add(number)
    writer = _Writer(tree, has_identity)
    retracts = bool(optional) or any(can_retract(relation) for relation in relations)
    return Region(
        leaves=tuple(relations),
        rows=writer.rows(),
        terms=tuple(writer.term(number) for number in range(len(relations))),
        has_identity=has_identity,
        retracts=retracts,
    )


def _is_optional(table: exp.Expr) -> bool:
    """Whether a leaf is anywhere below the side of a LEFT JOIN that may be missing."""
    node: exp.Expr | None = table
    while node is not None:
        parent = node.parent
        if isinstance(parent, exp.Join) and parent.this is node and str(parent.side or "").upper() == "LEFT":
            return True
        node = parent
    return False


class _Writer:
    """Writes one region."""

    def __init__(self, tree: exp.Query, has_identity: bool) -> None:
        self._tree = tree
        self._has_identity = has_identity

    def rows(self) -> str:
        """All rows, in the new state."""
        return _text(self._plain(self._tree, lambda _: NEW))

    def term(self, number: int) -> str:
        """The change set that this leaf causes."""
        return _text(self._weighted(self._tree, number))

    # Without weights.

    def _plain(self, query: exp.Expr, role_of: Callable[[int], str]) -> exp.Query:
        if isinstance(query, exp.Union):
            sides = [self._plain(side, role_of) for side in (query.this, query.expression)]
            return self._union(sides[0], sides[1])
        assert isinstance(query, exp.Select)
        select = query.copy()
        for source in sources(select):
            self._place(source, role_of)
        return self._identified(select)

    def _place(self, source: exp.Expr, role_of: Callable[[int], str]) -> None:
        if isinstance(source, exp.Subquery):
            source.set("this", self._plain(source.this, role_of))
        elif (number := _number(source)) is not None:
            _bind(source, role_of(number), number)

    def _identified(self, select: exp.Select, *weights: exp.Expr) -> exp.Query:
        """The SELECT with its identity and its weight, numbered where it unnests."""
        for weight in weights:
            select.append("expressions", exp.alias_(weight, WEIGHT, quoted=True))
        if not self._has_identity:
            return select
        select.append("expressions", exp.alias_(_identity(select), _RID, quoted=True))
        return _numbered(select, bool(weights)) if _unnests(select) else select

    def _union(self, left: exp.Query, right: exp.Query) -> exp.Query:
        if self._has_identity:
            _tag(left, "l")
            _tag(right, "r")
        return exp.Union(this=left, expression=right, distinct=False)

    # With weights.

    def _weighted(self, query: exp.Expr, number: int) -> exp.Query:
        if isinstance(query, exp.Union):
            sides = [
                self._weighted(side, number) if _has_leaf(side, number) else self._emptied(side)
                for side in (query.this, query.expression)
            ]
            return self._union(sides[0], sides[1])
        assert isinstance(query, exp.Select)
        place = next(n for n, source in enumerate(sources(query)) if _has_leaf(source, number))
        joins = query.args.get("joins") or []
        if place > 0 and str(joins[place - 1].side or "").upper() == "LEFT":
            return self._before_and_after(query, number, place)
        select = query.copy()
        for n, source in enumerate(sources(select)):
            if n != place:
                self._place(source, partial(_role, number, DELTA))
            elif isinstance(source, exp.Subquery):
                source.set("this", self._weighted(source.this, number))
            else:
                _bind(source, DELTA, number)
        weighted = exp.column(WEIGHT, table=sources(select)[place].alias_or_name, quoted=True)
        return self._identified(select, weighted)

    def _emptied(self, query: exp.Expr) -> exp.Query:
        """No row of a side in which nothing changed. It names change sets, so that nobody needs the side's rows for it."""
        inner = exp.Subquery(this=self._plain(query, lambda _: DELTA), alias=_alias("_e"))
        names = [*inner.this.named_selects]
        kept = [name for name in names if name != _RID]
        shown: list[exp.Expr] = [
            exp.alias_(exp.column(name, table="_e", quoted=True), name, quoted=True) for name in kept
        ]
        shown.append(exp.alias_(exp.cast(exp.Literal.number(0), "tinyint"), WEIGHT, quoted=True))
        if _RID in names:
            shown.append(exp.alias_(exp.column(_RID, table="_e", quoted=True), _RID, quoted=True))
        return exp.Select(expressions=shown, from_=exp.From(this=inner), where=exp.Where(this=exp.false()))

    def _before_and_after(self, query: exp.Select, number: int, place: int) -> exp.Query:
        """The join with the leaf as it is now, minus the join with the leaf as it was."""
        sides = []
        for role, weight in ((NEW, "1"), (OLD, "-1")):
            select = query.copy()
            restriction = self._restriction(select, number, place)
            role_of = partial(_role, number, role)
            for source in sources(select):
                self._place(source, role_of)
            if restriction is not None:
                select.where(restriction, copy=False)
            sides.append(self._identified(select, exp.cast(exp.Literal.number(weight), "tinyint")))
        return exp.Union(this=sides[0], expression=sides[1], distinct=False)

    def _restriction(self, select: exp.Select, number: int, place: int) -> exp.Expr | None:
        """Only rows whose side of an equality occurs in the change set can change."""
        join = select.args["joins"][place - 1]
        alias = join.this.alias_or_name
        equality = next((pair for one in conjuncts(join.args["on"]) if (pair := _equality(one, alias))), None)
        if equality is None:
            return None
        left, right = equality
        source = join.this.copy()
        if isinstance(source, exp.Subquery):
            source.set("this", _Writer(source.this, has_identity=False)._weighted(source.this, number))
        else:
            _bind(source, DELTA, number)
        changed = exp.Select(expressions=[right.copy()], from_=exp.From(this=source))
        return exp.In(this=left.copy(), query=exp.Subquery(this=changed))


def _role(number: int, role: str, leaf: int) -> str:
    """In the term of leaf `number`, which has this role: leaves before it are new, those after it old."""
    return role if leaf == number else NEW if leaf < number else OLD


def _text(query: exp.Query) -> str:
    return lists_first(query).sql(dialect="duckdb", comments=False)


def _alias(name: str) -> exp.TableAlias:
    return exp.TableAlias(this=exp.to_identifier(name, quoted=True))


def _number(source: exp.Expr) -> int | None:
    name = source.name if isinstance(source, exp.Table) else ""
    return int(name.removeprefix(_NUMBERED)) if name.startswith(_NUMBERED) else None


def _bind(table: exp.Expr, role: str, number: int) -> None:
    table.set("this", exp.to_identifier(INPUT + leaf_name(role, number), quoted=True))


def _has_leaf(node: exp.Expr, number: int) -> bool:
    return any(_number(table) == number for table in node.find_all(exp.Table))


def _equality(condition: exp.Expr, alias: str) -> tuple[exp.Expr, exp.Expr] | None:
    """The two sides of an equality between the rest of the join and the relation `alias`, in this order."""
    while isinstance(condition, exp.Paren):
        condition = condition.this
    if not isinstance(condition, exp.EQ):
        return None
    sides = [{column.table for column in side.find_all(exp.Column)} for side in (condition.left, condition.right)]
    if sides[1] == {alias} and sides[0] and alias not in sides[0]:
        return condition.left, condition.right
    if sides[0] == {alias} and sides[1] and alias not in sides[1]:
        return condition.right, condition.left
    return None


def _identity(select: exp.Select) -> exp.Expr:
    """What a row of this SELECT is called: the identities of the rows it comes from."""
    parts = []
    joins = select.args.get("joins") or []
    for place, source in enumerate(sources(select)):
        if isinstance(source, exp.Subquery) or (isinstance(source, exp.Table) and source.name.startswith(INPUT)):
            is_optional = place > 0 and str(joins[place - 1].side or "").upper() == "LEFT"
            parts.append((exp.column(_RID, table=source.alias_or_name, quoted=True), is_optional))
    if not parts:
        return exp.Literal.string("")
    if len(parts) == 1 and not parts[0][1]:
        return parts[0][0]
    return _concatenated([_piece(*part) for part in parts])


def _piece(column: exp.Expr, is_optional: bool) -> exp.Expr:
    length = exp.cast(exp.Anonymous(this="length", expressions=[column.copy()]), "varchar")
    text = _concatenated([length, exp.Literal.string(":"), column.copy()])
    return exp.Coalesce(this=text, expressions=[exp.Literal.string("-")]) if is_optional else text


def _concatenated(parts: list[exp.Expr]) -> exp.Expr:
    made = parts[0]
    for part in parts[1:]:
        made = exp.DPipe(this=made, expression=part, safe=True)
    return exp.Paren(this=made)


def _tag(query: exp.Query, tag: str) -> None:
    """Rows of the two sides of a UNION ALL have other names."""
    if isinstance(query, exp.Union):
        _tag(query.this, tag)
        _tag(query.expression, tag)
        return
    for projection in query.expressions:
        if isinstance(projection, exp.Alias) and projection.alias == _RID:
            projection.set("this", _concatenated([exp.Literal.string(tag), projection.this.copy()]))


def _unnests(select: exp.Select) -> bool:
    if any(isinstance(node, exp.Explode | exp.Unnest) for part in select.expressions for node in part.walk()):
        return True
    return any(
        isinstance(source, exp.Unnest) or (isinstance(source, exp.Table) and not source.name.startswith(INPUT))
        for source in sources(select)
    )


def _numbered(select: exp.Select, is_weighted: bool) -> exp.Select:
    """Rows that come from the same input rows, told apart by their place in the order of their content."""
    names = [name for name in select.named_selects if name != _RID]
    shown: list[exp.Expr] = [exp.alias_(exp.column(name, table="_u", quoted=True), name, quoted=True) for name in names]
    rid = exp.column(_RID, table="_u", quoted=True)
    partition: list[exp.Expr] = [rid.copy()]
    if is_weighted:
        partition.append(exp.column(WEIGHT, table="_u", quoted=True))
    order = exp.Order(
        expressions=[exp.Ordered(this=exp.column(name, table="_u", quoted=True)) for name in names if name != WEIGHT]
    )
    number = exp.Window(this=exp.RowNumber(), partition_by=partition, order=order, over="OVER")
    identity = _concatenated([rid, exp.Literal.string("/"), exp.cast(number, "varchar")])
    inner = exp.Subquery(this=select, alias=_alias("_u"))
    return exp.Select(expressions=[*shown, exp.alias_(identity, _RID, quoted=True)], from_=exp.From(this=inner))
