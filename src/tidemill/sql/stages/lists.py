"""Lists are unnested where their rows are read, before those rows meet others in a join.

Rules of this file:
  * a query means the same before and after; what cannot be moved without knowing more stays where it is;
  * a list moves into the one relation that it is a column of, if every row of that relation which the joins make stays: what
    is computed may be no list of NULL where a join found nothing, or fail for a row that the join leaves out;
  * where that relation joins by itself, and where a list cannot move, the joined rows are put together (MATERIALIZED)
    before their lists are taken apart.

Theory: DuckDB 2.0.0 gives the columns that a hash join finds as references into one dictionary, and what follows may
take it for granted that every block of rows does. UNNEST does not keep to that: a block that comes of one row is a
constant. A join or a filter above it then ends with an internal error, and the whole database with it
(docs/design/0006). Above a relation that is only read, UNNEST breaks no promise.
"""

from __future__ import annotations

from sqlglot import exp

from tidemill.sql.rowwise import unnest_reason
from tidemill.sql.scope import binding
from tidemill.sql.stages.names import fresh_column, home_of, sources

__all__ = ["lists_first"]

_LIST, _ITEM = "@list", "@item"
_TOGETHER, _JOINED = "@together", "@joined"
_MANY_ROWS = ("group", "having", "qualify", "windows")
"""Clauses that see more than one row while the lists are still whole."""


def lists_first(tree: exp.Query) -> exp.Query:
    """The query with its lists unnested as early as can be. All names in it are resolved. Changes and returns `tree`."""
    if tree.find(exp.Unnest, exp.Explode) is None:
        return tree
    for select in list(tree.find_all(exp.Select)):
        if not _is_spelt_out(select):
            continue
        _name_item(select)
        while (place := _late(select)) is not None:
            _move(select, place)
        _put_joined_together(select)
    for select in tree.find_all(exp.Select):
        _put_together(select)
    return tree


def _is_spelt_out(select: exp.Select) -> bool:
    """Whether every output has a name of its own, and nothing is a row as a whole: else the names would show what moved."""
    named = all(isinstance(part, exp.Alias) for part in select.expressions)
    tables = {source.alias_or_name for source in sources(select)}
    rows = [*select.find_all(exp.TableColumn), *(one for one in select.find_all(exp.Column) if not one.table)]
    return named and not any(row.name in tables for row in rows)


def _name_item(select: exp.Select) -> None:
    """A list that the SELECT clause of a join unnests is unnested by its FROM clause."""
    lists = _lists(select)
    if len(lists) != 1 or unnest_reason(lists[0]) or not _joins(select) or _sees_many_rows(select):
        return
    if not isinstance(lists[0].this, exp.Column):
        return
    unnest = exp.Unnest(expressions=[lists[0].this.copy()], alias=_alias(_LIST, _ITEM))
    select.append("joins", exp.Join(this=unnest, kind="CROSS"))
    lists[0].replace(fresh_column(_ITEM, _LIST))


def _sees_many_rows(select: exp.Select) -> bool:
    is_clause = any(select.args.get(clause) for clause in _MANY_ROWS)
    return is_clause or any(part.find(exp.AggFunc, exp.Window) for part in select.expressions)


def _joins(node: exp.Expr) -> bool:
    """Whether rows meet others anywhere in here."""
    return any(not isinstance(join.this, exp.Unnest) for join in node.find_all(exp.Join))


# Lists that are moved.


def _late(select: exp.Select) -> int | None:
    """The place of a join of `select` that unnests a list which could have been unnested before."""
    if select.is_star:
        return None
    joins = select.args.get("joins") or []
    return next((place for place in range(len(joins)) if _origin(select, place) is not None), None)


def _origin(select: exp.Select, place: int) -> exp.Expr | None:
    """The relation that the list of a join comes from, if it is joined with others first and the list can move there."""
    join, before = select.args["joins"][place], select.args["joins"][:place]
    if not _is_movable(join) or all(isinstance(other.this, exp.Unnest) for other in before):
        return None
    tables = {column.table for column in join.this.find_all(exp.Column)}
    if len(tables) != 1 or join.this.find(exp.Query) or not all(_keeps_rows(other) for other in before):
        return None
    named = [source for source in sources(select)[: place + 1] if source.alias_or_name in tables]
    return named[0] if len(named) == 1 and isinstance(named[0], exp.Table | exp.Subquery) else None


def _is_movable(join: exp.Join) -> bool:
    """Whether a join does nothing but unnest one list under a name."""
    unnest, on = join.this, join.args.get("on")
    if not isinstance(unnest, exp.Unnest) or unnest_reason(unnest) or unnest.args.get("offset"):
        return False
    if [type(one) for one in unnest.expressions] != [exp.Column]:
        return False
    alias = unnest.args.get("alias")
    is_plain = not join.side and not join.method and join.kind in ("", "CROSS", "INNER") and on in (None, exp.true())
    return is_plain and alias is not None and len(alias.columns) == 1


def _keeps_rows(join: exp.Join) -> bool:
    """Whether each row that a join makes of a row before it is made of that row's copies too."""
    is_known = join.kind in ("", "CROSS", "INNER", "OUTER") and not join.method and not join.args.get("using")
    return is_known and str(join.side).upper() in ("", "LEFT")


def _move(select: exp.Select, place: int) -> None:
    """Unnest the list of a join inside the relation that it comes from."""
    origin, join = _origin(select, place), select.args["joins"][place]
    assert origin is not None
    name, table, item = origin.alias_or_name, join.this.alias, join.this.args["alias"].columns[0].name
    renamed = f"{table}.{item}"
    within = set(map(id, join.find_all(exp.Column)))
    kept = dict.fromkeys(column.name for column in _columns(select, name) if id(column) not in within)
    for column in _columns(select, table):
        column.replace(fresh_column(renamed, name))
    if isinstance(origin.parent, exp.Join):
        origin.parent.set("side", None)  # a row without a list comes to nothing
        origin.parent.set("kind", None)
    join.pop()
    inner = exp.Select(expressions=[exp.alias_(fresh_column(one, name), one, quoted=True) for one in kept])
    inner.append("expressions", exp.alias_(fresh_column(item, table), renamed, quoted=True))
    origin.replace(exp.Subquery(this=inner, alias=_alias(name)))
    inner.set("from_", exp.From(this=origin))
    inner.set("joins", [join])


def _columns(select: exp.Select, table: str) -> list[exp.Column]:
    """The columns of one of the relations that a SELECT reads, wherever in it they are named."""
    found = [column for column in select.find_all(exp.Column) if column.table == table]
    return [column for column in found if home_of(column) is select]


def _alias(name: str, *columns: str) -> exp.TableAlias:
    names = [exp.to_identifier(column, quoted=True) for column in columns]
    return exp.TableAlias(this=exp.to_identifier(name, quoted=True), columns=names)


# Rows that are put together.


def _put_joined_together(select: exp.Select) -> None:
    """What a SELECT joins before it takes lists apart that could not be moved becomes one relation with its own rows."""
    before = _before_lists(select)
    if not any(not isinstance(join.this, exp.Unnest) for join in before) or select.is_star or _sees_many_rows(select):
        return
    parts = [select.args["from_"], *before]
    within = [column for part in parts for column in part.find_all(exp.Column)]
    if any(home_of(column) is None for column in within):
        return  # it names what is outside of the query
    tables, known = {source.alias_or_name for source in sources(select)[: len(parts)]}, set(map(id, within))
    outside = [column for table in tables for column in _columns(select, table) if id(column) not in known]
    names = dict.fromkeys(sorted((column.table, column.name) for column in outside))
    for column in outside:
        column.replace(fresh_column(f"{column.table}.{column.name}", _JOINED))
    shown = [exp.alias_(fresh_column(name, table), f"{table}.{name}", quoted=True) for table, name in names]
    inner = exp.Select(expressions=shown or [exp.alias_(exp.Literal.number(1), "_one")])
    for join in before:
        join.pop()
    inner.set("from_", select.args["from_"].pop())
    inner.set("joins", before)
    select.set("from_", exp.From(this=exp.Subquery(this=_materialized(inner), alias=_alias(_JOINED))))


def _before_lists(select: exp.Select) -> list[exp.Join]:
    """The joins of a SELECT before the first thing in it that takes lists of theirs apart; none where nothing does."""
    joins = list(select.args.get("joins") or [])
    for place, join in enumerate(joins):
        if join.side != "LEFT" and _takes_apart(join.this):
            return joins[:place]
    is_later = any(map(_takes_apart, select.args.get("laterals") or [])) or _lists(select)
    return joins if is_later else []


def _takes_apart(source: exp.Expr) -> bool:
    """Whether a relation is lists of the relations before it."""
    is_lateral = isinstance(source, exp.Unnest | exp.Lateral) and source.find(exp.Column) is not None
    return is_lateral and source.find(exp.Unnest, exp.Explode) is not None


def _lists(select: exp.Select) -> list[exp.Explode]:
    """The lists that the SELECT clause takes apart."""
    return [node for node in select.find_all(exp.Explode) if node.find_ancestor(exp.Select) is select]


def _materialized(query: exp.Expr) -> exp.Select:
    """The rows of a query, which are all there before the first is read."""
    named = exp.CTE(this=query, alias=_alias(_TOGETHER), materialized=True)
    table = exp.Table(this=exp.to_identifier(_TOGETHER, quoted=True))
    rows = exp.Select(expressions=[exp.Star()], from_=exp.From(this=table))
    rows.set("with_", exp.With(expressions=[named]))
    return rows


def _put_together(select: exp.Select) -> None:
    """The one relation that a SELECT reads and whose lists it unnests holds its own rows before that."""
    joins, from_ = select.args.get("joins") or [], select.args.get("from_")
    if from_ is None or not (isinstance(joins[0].this, exp.Unnest) if joins else _lists(select)):
        return
    source = from_.this
    if isinstance(source, exp.Subquery) and _streams(source.this):
        source.set("this", _materialized(source.this))
    elif isinstance(source, exp.Table) and (cte := binding(source)) is not None and _streams(cte.this):
        cte.set("materialized", True)


def _streams(query: exp.Expr) -> bool:
    """Whether the rows of a query may come straight out of a join."""
    from_ = query.args.get("from_")
    is_together = from_ is not None and from_.this.name == _TOGETHER
    return _joins(query) and not query.args.get("group") and not is_together
