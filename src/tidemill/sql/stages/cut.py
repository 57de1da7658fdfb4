"""Cutting a canonical query into stages.

Rules of this file:
  * a linear part stays one text, however deep it is nested: only what is not linear becomes a stage of its own;
  * equal parts are one stage, so that what a query reads twice is maintained once;
  * what fits no rule is opaque: recomputed whole, with the reason in words, while the rest of the query is not.

Theory of operation. `inline` turns a query into a linear tree over leaves, bottom-up: inputs are leaves, and each group,
window, DISTINCT, set operation or LIMIT in it becomes a stage and is then a leaf. The outermost linear tree is the
output's stage; where it only renames the columns of one stage, that stage is the output.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace

from sqlglot import exp

from tidemill.sql.bind import quoted
from tidemill.sql.identity import key_identity
from tidemill.sql.resolve import INPUT
from tidemill.sql.rowwise import unnest_reason
from tidemill.sql.stages.flatten import Opaque, flatten
from tidemill.sql.stages.group import Grouping, grouping_of
from tidemill.sql.stages.joins import rewrite_joins
from tidemill.sql.stages.layers import aliased, as_source, has_aggregates, has_windows, is_grouped, split_group
from tidemill.sql.stages.model import NEW, OUTPUT, ROWS, Region, Stage, Staged, leaf_name
from tidemill.sql.stages.names import Fresh, fresh_column, subqueries
from tidemill.sql.stages.region import LEAF, region_of
from tidemill.sql.stages.subqueries import rewrite_subqueries
from tidemill.sql.stages.window import windowing_of

__all__ = ["cut"]

_ROWS = exp.to_identifier(INPUT + ROWS, quoted=True)


def cut(tree: exp.Query, retracting: Collection[str], key: tuple[str, ...] | None = None) -> Staged:
    """The stages of a canonical query over placeholders. Raises Opaque where it can only be recomputed as a whole.

    `retracting` are the inputs whose rows may change or go; `key` is the key of the output.
    """
    cutter = _Cutter(frozenset(retracting), key)
    tree = rewrite_joins(flatten(tree.copy()), cutter.fresh)
    cutter.output_of(cutter.inline(rewrite_subqueries(tree, cutter.fresh)))
    return Staged(tuple(cutter.stages))


Renaming = Callable[[dict[str, str], str], Stage]


@dataclass(slots=True)
class _Cutter:
    retracting: frozenset[str]
    key: tuple[str, ...] | None = None
    fresh: Fresh = field(default_factory=Fresh)
    stages: list[Stage] = field(default_factory=list)
    _views: dict[str, exp.Select] = field(default_factory=dict)
    _renaming: dict[str, Renaming] = field(default_factory=dict)

    # The output.

    def output_of(self, tree: exp.Query) -> None:
        """Make the linear tree the output: a stage of its own, or the stage whose columns it only renames."""
        mapping = self._only_renames(tree)
        if mapping is not None:
            last = self.stages[-1]
            self.stages[-1] = self._renaming[last.name](mapping, OUTPUT)
            return
        if not all(tree.named_selects):
            raise Opaque("its columns are not known by name")
        region = region_of(tree, self._can_retract, has_identity=True)
        self.stages.append(Stage(OUTPUT, "linear", region, tuple(tree.named_selects)))

    def _only_renames(self, tree: exp.Query) -> dict[str, str] | None:
        """Stage column -> output column, where the tree shows each column of the last stage exactly once."""
        mapping = _plain_columns(tree)
        if mapping is None or not self.stages:
            return None
        relation, names = mapping
        last = self.stages[-1]
        if relation != f"@{last.name}" or last.name not in self._renaming:
            return None
        if sorted(names) != sorted(last.columns) or len(set(names.values())) != len(names):
            return None
        is_group = last.rule == "group" or bool(last.accumulators)
        shown = {names[column] for _, column in last.keys} if is_group else None
        return names if (None if self.key is None else set(self.key)) == shown else None

    def _can_retract(self, relation: str) -> bool:
        if not relation.startswith("@"):
            return relation in self.retracting
        stage = next(stage for stage in self.stages if f"@{stage.name}" == relation)
        return stage.rule != "linear" or stage.region.retracts

    def _name(self) -> str:
        return str(len(self.stages) + 1)

    # Queries.

    def inline(self, query: exp.Expr) -> exp.Query:
        """A linear tree that gives the rows of the query."""
        while isinstance(query, exp.Subquery) and not query.args.get("limit") and not query.args.get("order"):
            query = query.this
        if not isinstance(query, exp.Query):
            raise Opaque("it pivots, samples or nests joins")
        before = list(self.stages)
        try:
            return self._set_operation(query) if isinstance(query, exp.SetOperation) else self._select(query)
        except Opaque as why:
            if len(self.stages) > len(before):
                self._forget(before)
            return self.opaque(query, str(why))

    def _forget(self, before: list[Stage]) -> None:
        """Stages that were made for what turned out to be opaque."""
        names = {stage.name for stage in before}
        self.stages = before
        self._renaming = {name: made for name, made in self._renaming.items() if name in names}
        self._views = {text: view for text, view in self._views.items() if _stage_of(view) in names}

    def _select(self, query: exp.Expr) -> exp.Query:
        if not isinstance(query, exp.Select):
            raise Opaque("it sorts or limits a query in parentheses")
        if query.args.get("limit") or query.args.get("offset"):
            return self._limited(query)
        if is_grouped(query):
            return self._once(query, self._group)
        query = query.copy()
        query.set("order", None)
        distinct = query.args.get("distinct")
        if distinct is not None:
            if distinct.args.get("on"):
                raise Opaque("it takes one row of each key in an order that is not its own (DISTINCT ON)")
            query.set("distinct", None)
            return self.inline(_distinct(query))
        if has_aggregates(query):
            return self.inline(split_group(query, self.fresh.alias()))
        if has_windows(query):
            return self._once(query, self._window)
        return self._linear(query)

    def _once(self, query: exp.Select, make: Callable[[exp.Select], exp.Select]) -> exp.Query:
        """The view of a stage; equal queries get the same stage."""
        text = _without_fresh_names(query.sql(dialect="duckdb"))
        if text not in self._views:
            self._views[text] = make(query)
        return self._views[text].copy()

    def _set_operation(self, query: exp.SetOperation) -> exp.Query:
        if query.args.get("limit") or query.args.get("offset"):
            return self._limited(query)
        names = query.named_selects
        if not all(names) or "*" in names or query.args.get("by_name"):
            raise Opaque("it combines queries by the names of their columns, or their columns are not known")
        is_distinct = bool(query.args.get("distinct"))
        if isinstance(query, exp.Union) and not is_distinct:
            left, right = self.inline(query.this), self.inline(query.expression)
            return exp.Union(this=left, expression=_renamed(right, left.named_selects), distinct=False)
        if not is_distinct:
            raise Opaque(f"it counts equal rows on both sides ({query.key.upper()} ALL)")
        if isinstance(query, exp.Union):
            both = exp.Union(this=query.this.copy(), expression=query.expression.copy(), distinct=False)
            return self.inline(_distinct(both))
        return self.inline(_by_sides(query))

    # Linear queries.

    def _linear(self, query: exp.Select) -> exp.Select:
        for part in (*query.expressions, query.args.get("where")):
            if part is not None and subqueries(part):
                raise Opaque("it has a subquery in an expression that has no exact form as a join")
            if part is not None and any(isinstance(node, exp.Columns) or _is_bare_star(node) for node in part.walk()):
                raise Opaque("its columns are chosen by a pattern")
        for node in query.find_all(exp.Explode, exp.Unnest):
            if node.find_ancestor(exp.Select) is query and (reason := unnest_reason(node)):
                raise Opaque(reason)
        if query.args.get("laterals") or query.args.get("pivots") or query.args.get("sample"):
            raise Opaque("it joins a lateral subquery, pivots or samples")
        for join in query.args.get("joins") or []:
            _check_join(join)
        if query.args.get("from_") is None:
            return query
        query.args["from_"].set("this", self._source(query.args["from_"].this))
        for join in query.args.get("joins") or []:
            join.set("this", self._source(join.this))
        return query

    def _source(self, source: exp.Expr) -> exp.Expr:
        if isinstance(source, exp.Subquery):
            if source.args.get("pivots") or source.args.get("sample") or source.args.get("joins"):
                raise Opaque("it pivots, samples or nests joins")
            return exp.Subquery(this=self.inline(source.this), alias=source.args.get("alias"))
        if isinstance(source, exp.Unnest):
            return source
        if not isinstance(source, exp.Table):
            raise Opaque(f"it reads {source.key.upper()}")
        if any(source.args.get(part) for part in ("pivots", "sample", "joins", "laterals")):
            raise Opaque("it pivots, samples or nests joins")
        if isinstance(source.this, exp.Identifier) and source.name.startswith(INPUT):
            return _leaf(source.name.removeprefix(INPUT), source.alias)
        if isinstance(source.this, exp.Identifier):
            raise Opaque(f"it reads {source.name!r} by a name that could not be put in")
        return source

    # Stages.

    def _group(self, inner: exp.Select) -> exp.Select:
        grouping = grouping_of(inner)
        return self._add_group(grouping, self.inline(grouping.rows))

    def _add_group(self, grouping: Grouping, rows: exp.Query) -> exp.Select:
        name = self._name()
        region = region_of(rows, self._can_retract, has_identity=False)
        state = grouping.state(retracts=region.retracts)

        def make(names: dict[str, str], called: str) -> Stage:
            keys = tuple((key, names[key]) for key in state.keys)
            accumulators = tuple(
                replace(one, column=names[one.column], counted=names.get(one.counted, "")) for one in state.accumulators
            )
            shown = [f"{key_identity([key for key, _ in keys])} AS _rid" if keys else "'[]' AS _rid"]
            shown += [f"{quoted(key)} AS {quoted(column)}" for key, column in keys]
            shown += [f"{one.whole} AS {quoted(one.column)}" for one in accumulators]
            groups = f" GROUP BY {', '.join(quoted(key) for key, _ in keys)}" if keys else ""
            block = f'SELECT {", ".join(shown)} FROM "{INPUT}{ROWS}"{groups}'
            columns = tuple(names[column] for column in state.columns)
            return Stage(called, state.rule, region, columns, keys, accumulators, block, state.reason)

        self.stages.append(make({column: column for column in state.columns}, name))
        self._renaming[name] = make
        view = exp.Select(expressions=[aliased(value.copy(), column) for column, value in state.shown.items()])
        return view.from_(_leaf(f"@{name}", "_s"), copy=False)

    def _window(self, query: exp.Select) -> exp.Select:
        windowing = windowing_of(query)
        region = region_of(self.inline(windowing.rows), self._can_retract, has_identity=True)
        rule = "keyed" if windowing.keys else "full"
        columns = (*windowing.columns, *windowing.extra)
        stage = Stage("", rule, region, columns, windowing.keys, (), windowing.block, windowing.reason)
        return self._add_block(stage, windowing.columns)

    def _add_block(self, stage: Stage, shown: tuple[str, ...]) -> exp.Select:
        """Keep a stage; its view gives the columns in `shown`."""
        name = self._name()

        def make(names: dict[str, str], called: str) -> Stage:
            renamed = tuple(names[column] for column in stage.columns)
            identity = ["_rid"] if stage.region.has_identity else []
            texts = [*identity, *(f"{quoted(column)} AS {quoted(names[column])}" for column in stage.columns)]
            block = stage.block if renamed == stage.columns else f"SELECT {', '.join(texts)} FROM ({stage.block})"
            keys = tuple((key, names[column]) for key, column in stage.keys)
            return replace(stage, name=called, columns=renamed, keys=keys, block=block)

        self.stages.append(make({column: column for column in stage.columns}, name))
        self._renaming[name] = make
        view = exp.Select(expressions=[aliased(fresh_column(column, "_s"), column) for column in shown])
        return view.from_(_leaf(f"@{name}", "_s"), copy=False)

    def _limited(self, query: exp.Query) -> exp.Query:
        """ORDER BY with LIMIT: the rows without it are maintained, and what is on top is recomputed."""
        inner = query.copy()
        order, limit, offset = (inner.args.get(name) for name in ("order", "limit", "offset"))
        for name in ("order", "limit", "offset"):
            inner.set(name, None)
        if order is None or isinstance(inner, exp.Subquery):
            raise Opaque("it takes a number of rows in no order (LIMIT)")
        names = tuple(inner.named_selects)
        if not all(names) or "*" in names or len(set(names)) != len(names):
            raise Opaque("it takes a number of rows (LIMIT), and their columns have no names")
        order = _over_outputs(order, inner, names)
        order.append("expressions", exp.Ordered(this=exp.column("_rid", quoted=True)))  # equal rows keep their places
        extra = tuple(name for name in inner.named_selects if name not in names)
        rows = self.inline(inner)
        region = region_of(rows, self._can_retract, has_identity=True)
        block = exp.Select(
            expressions=[
                exp.column("_rid", quoted=True),
                *(exp.column(name, quoted=True) for name in (*names, *extra)),
            ],
            from_=exp.From(this=exp.Table(this=_ROWS.copy())),
            order=order,
            limit=limit,
            offset=offset,
        )
        reason = "it takes a number of rows of the whole (LIMIT): recomputed from its maintained input"
        return self._add_block(Stage("", "full", region, (*names, *extra), (), (), _text(block), reason), names)

    def opaque(self, query: exp.Query, reason: str) -> exp.Select:
        """A stage that is recomputed whole, over the inputs themselves."""
        query = query.copy()
        names = tuple(query.named_selects)
        if not all(names) or "*" in names or len(set(names)) != len(names):
            raise Opaque(reason)
        leaves: list[str] = []
        for table in query.find_all(exp.Table):
            if isinstance(table.this, exp.Identifier) and table.name.startswith(INPUT):
                leaves.append(table.name.removeprefix(INPUT))
                table.set("this", exp.to_identifier(INPUT + leaf_name(NEW, len(leaves) - 1), quoted=True))
        region = Region(tuple(leaves), _text(query), (), has_identity=False, retracts=True)
        shown = ", ".join(quoted(name) for name in names)
        block = f'SELECT {shown} FROM "{INPUT}{ROWS}"'
        return self._add_block(Stage("", "full", region, names, (), (), block, reason), names)


def _without_fresh_names(text: str) -> str:
    """The text with the names that rewriting made up numbered by their place, so that copies of a part are equal."""
    places: dict[str, str] = {}
    return re.sub(r'"_q\d+"', lambda found: places.setdefault(found[0], f'"_q#{len(places)}"'), text)


def _text(query: exp.Expr) -> str:
    return query.sql(dialect="duckdb", comments=False)


def _leaf(relation: str, alias: str) -> exp.Table:
    named = exp.TableAlias(this=exp.to_identifier(alias, quoted=True))
    return exp.Table(this=exp.to_identifier(LEAF + relation, quoted=True), alias=named)


def _stage_of(view: exp.Select) -> str:
    table: exp.Table = view.args["from_"].this
    return table.name.removeprefix(f"{LEAF}@")


def _is_bare_star(node: exp.Expr) -> bool:
    return isinstance(node, exp.Star) and not isinstance(node.parent, exp.Count)


def _check_join(join: exp.Join) -> None:
    side, kind = str(join.side or "").upper(), str(join.kind or "").upper()
    if join.method or join.args.get("using") or side not in ("", "LEFT") or kind not in ("", "INNER", "CROSS"):
        raise Opaque(
            f"it joins in another way ({' '.join(word for word in (join.method, side, kind, 'JOIN') if word)})"
        )
    condition = join.args.get("on")
    if condition is not None and subqueries(condition):
        raise Opaque("a join's condition has a subquery")
    if side == "LEFT" and isinstance(join.this, exp.Unnest):
        raise Opaque("it joins an unnested list that may be missing")


def _plain_columns(tree: exp.Query) -> tuple[str, dict[str, str]] | None:
    """The one relation that a tree reads, and its columns with the names they get, where that is all the tree does."""
    if not isinstance(tree, exp.Select) or {name for name, value in tree.args.items() if value} - {
        "expressions",
        "from_",
    }:
        return None
    source = tree.args["from_"].this if tree.args.get("from_") is not None else None
    pairs = {
        part.unalias().name: part.alias_or_name for part in tree.expressions if isinstance(part.unalias(), exp.Column)
    }
    if source is None or len(pairs) != len(tree.expressions):
        return None
    if isinstance(source, exp.Table) and source.name.startswith(LEAF):
        return source.name.removeprefix(LEAF), pairs
    below = _plain_columns(source.this) if isinstance(source, exp.Subquery) else None
    if below is None:
        return None
    relation, names = below
    back = {shown: name for name, shown in names.items()}
    return relation, {back[name]: shown for name, shown in pairs.items() if name in back}


def _distinct(query: exp.Query) -> exp.Select:
    """SELECT DISTINCT as a group over all columns."""
    names = query.named_selects
    if not all(names) or "*" in names or len(set(names)) != len(names):
        raise Opaque("it removes duplicates (DISTINCT) of columns that are not known by name")
    columns = [fresh_column(name, "_d") for name in names]
    select = exp.Select(expressions=[aliased(column, name) for column, name in zip(columns, names, strict=True)])
    select.set("from_", as_source(query, "_d"))
    select.set("group", exp.Group(expressions=[column.copy() for column in columns]))
    return select


def _renamed(query: exp.Query, names: Sequence[str]) -> exp.Query:
    """The same rows under other column names."""
    if isinstance(query, exp.Union):
        left = _renamed(query.this, names)
        return exp.Union(this=left, expression=_renamed(query.expression, names), distinct=False)
    if len(query.expressions) != len(names):
        raise Opaque("it combines queries with different numbers of columns")
    made = query.copy()
    made.set("expressions", [aliased(part.unalias(), name) for part, name in zip(made.expressions, names, strict=True)])
    return made


def _by_sides(query: exp.SetOperation) -> exp.Select:
    """EXCEPT and INTERSECT: the rows of both sides, each marked with its side, grouped by all columns."""
    names = query.named_selects
    if len(set(names)) != len(names):
        raise Opaque(f"it compares rows whose columns have no names of their own ({query.key.upper()})")
    marked = [_marked(query.this, names, 1, 0), _marked(query.expression, names, 0, 1)]
    both = exp.Union(this=marked[0], expression=marked[1], distinct=False)
    columns = [fresh_column(name, "_e") for name in names]
    select = exp.Select(expressions=[aliased(column, name) for column, name in zip(columns, names, strict=True)])
    select.set("from_", as_source(both, "_e"))
    select.set("group", exp.Group(expressions=[column.copy() for column in columns]))
    is_left = exp.GT(this=exp.Sum(this=fresh_column("_l", "_e")), expression=exp.Literal.number(0))
    right = exp.Sum(this=fresh_column("_r", "_e"))
    zero = exp.Literal.number(0)
    is_right = (
        exp.EQ(this=right, expression=zero) if isinstance(query, exp.Except) else exp.GT(this=right, expression=zero)
    )
    select.set("having", exp.Having(this=exp.And(this=is_left, expression=is_right)))
    return select


def _marked(side: exp.Expr, names: Sequence[str], left: int, right: int) -> exp.Select:
    query = side.copy()
    while isinstance(query, exp.Subquery):
        query = query.this
    assert isinstance(query, exp.Query)
    _name_apart(query, names)
    shown = query.named_selects
    if len(shown) != len(names) or len(set(shown)) != len(shown) or not all(shown):
        raise Opaque("it compares queries whose columns have no names")
    select = exp.Select(
        expressions=[
            *(aliased(fresh_column(own, "_m"), name) for own, name in zip(shown, names, strict=True)),
            aliased(exp.Literal.number(left), "_l"),
            aliased(exp.Literal.number(right), "_r"),
        ]
    )
    return select.from_(as_source(query, "_m").this, copy=False)


def _name_apart(query: exp.Query, names: Sequence[str]) -> None:
    """Columns of one name get those of the other side, where no clause of the query can mean them by their own."""
    shown = query.named_selects
    is_free = isinstance(query, exp.Select) and not any(query.args.get(word) for word in ("order", "qualify", "having"))
    if is_free and len(set(shown)) != len(shown) == len(names) and "*" not in shown:
        renamed = [aliased(part.unalias(), name) for part, name in zip(query.expressions, names, strict=True)]
        query.set("expressions", renamed)


def _over_outputs(order: exp.Order, inner: exp.Query, names: Sequence[str]) -> exp.Order:
    """The order over output columns; what it sorts by beside them becomes a column of its own in `inner`."""
    outputs = (
        {part.unalias(): part.alias_or_name for part in inner.expressions} if isinstance(inner, exp.Select) else {}
    )
    made = order.copy()
    for number, key in enumerate(made.expressions):
        value = key.this if isinstance(key, exp.Ordered) else key
        if isinstance(value, exp.Literal) and value.is_int:
            column = exp.column(names[int(value.this) - 1], quoted=True)
        elif isinstance(value, exp.Column) and not value.table and value.name in names:
            column = exp.column(value.name, quoted=True)
        elif value in outputs:
            column = exp.column(outputs[value], quoted=True)
        else:
            column = exp.column(_extra(inner, value, number), quoted=True)
        value.replace(column)
    return made


def _extra(inner: exp.Query, value: exp.Expr, number: int) -> str:
    if not isinstance(inner, exp.Select) or inner.args.get("distinct"):
        raise Opaque("it sorts by what it does not show")
    by_name = {part.alias_or_name: part.unalias() for part in inner.expressions}
    value = value.copy()
    for column in list(value.find_all(exp.Column)):
        if not column.table and column.name in by_name:
            if column is value:
                value = by_name[column.name].copy()
            else:
                column.replace(by_name[column.name].copy())
    name = f"_o{number}"
    inner.append("expressions", aliased(value, name))
    return name
