"""Random queries whose answer is one: whatever would be left open (ties, order, float sums) is closed or marked.

Rules of this file:
  * every choice comes from the `Random` handed in; scopes say which columns are in reach;
  * windows that number rows are ordered by all that is in reach, LIMIT by all that is shown;
  * what may differ in its last bits (averages of decimals, float sums) is shown and never looked into.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace

from tests.incremental.fuzz.schema import kind_of
from tests.incremental.fuzz.tree import Combined, Item, Join, Relation, Select, Tree, With
from tests.incremental.queries import CLOSE, LOOSE
from tests.incremental.tables import Base

Scope = Sequence[tuple[str, str]]
"""Columns in reach, as (text, kind)."""

_KINDS = ("int", "dec", "text", "ts", "date", "bool", "float")
_CONSTANTS: Mapping[str, tuple[str, ...]] = {
    "int": ("0", "1", "3", "5", "-1"),
    "huge": ("0", "3", "12"),
    "dec": ("0", "2.5", "10.0", "7.50"),
    "text": ("'a'", "'b'", "''", "'zz'"),
    "ts": ("(timestamp '2026-01-01 12:00:00')", "(timestamp '2026-01-02 06:00:00')"),
    "date": ("(date '2026-01-02')", "(date '2026-01-04')"),
    "bool": ("true", "false"),
    "float": ("0.25", "1.0", "100.0"),
}
_OPAQUE: Mapping[str, str] = {"list": "['p']", "lists": "null", "big": "12.5"}
"""Kinds that are shown and folded, never compared with a constant; and a value of each."""


class Grammar:
    """Makes queries over some base tables."""

    def __init__(self, bases: Mapping[str, Base], choose: random.Random) -> None:
        self._tables = {
            name: {column: kind_of(kind) for column, kind in base.columns.items()} for name, base in bases.items()
        }
        self._choose = choose
        self._aliases = 0

    def query(self) -> Tree:
        """A query at the top."""
        chance = self._choose.random()
        if chance < 0.12:
            return self._combined()
        if chance < 0.22:
            return self._with()
        return self._select(depth=2)

    def name(self, name: str, tree: Tree) -> None:
        """Let later queries read this one's answer, as far as it is exact, like a table."""
        self._tables[name] = {item.name: item.kind for item in tree.items if not item.tolerance}

    # Queries.

    def _combined(self, depth: int = 1) -> Tree:
        is_deep = depth > 0 and self._choose.random() < 0.2
        left = self._combined(depth - 1) if is_deep else self._select(depth=depth, is_exact=True)
        kinds = [item.kind for item in left.items]
        right = self._select(depth=0, kinds=kinds)
        how = self._choose.choice(
            ["union", "union all", "union all", "except", "intersect", "except all", "intersect all"]
        )
        return Combined(how, left, right)

    def _with(self, depth: int = 2, *, is_exact: bool = False) -> Tree:
        named = self._named(depth)
        columns = {item.name: item.kind for item in named.items}
        tables, name = self._tables, self._alias("c")
        self._tables = {name: columns, f"{name} ": columns} | tables  # it is there twice, to be chosen more often
        body = (
            self._with(depth - 1) if depth > 1 and self._choose.random() < 0.25 else self._select(1, is_exact=is_exact)
        )
        self._tables = tables
        return With(name, named, body)

    def _named(self, depth: int) -> Tree:
        """What stands under a name in a WITH: mostly a SELECT, now and then a set operation or a WITH of its own."""
        chance = self._choose.random()
        if chance < 0.15:
            return self._combined(0)
        if chance < 0.25 and depth > 1:
            return self._with(depth - 1, is_exact=True)
        return self._select(depth=1, is_exact=True)

    def _select(self, depth: int, *, kinds: Sequence[str] = (), is_exact: bool = False) -> Select:
        """A SELECT; of these kinds where they are given; `is_exact` for one that others look into."""
        source, joins, scope = self._from(depth)
        where = tuple(self._predicate(scope, depth) for _ in range(self._choose.choice([0, 0, 0, 1, 1, 2])))
        made = Select((), source, joins, where)
        if kinds:
            return replace(made, items=self._items([(self._of_kind(scope, kind), kind) for kind in kinds]))
        chance = self._choose.random()
        if chance < 0.45:
            made = self._grouped(made, scope)
        elif chance < 0.65:
            made = self._windowed(made, scope)
        else:
            made = self._plain(made, scope)
        if is_exact:
            exact = tuple(item for item in made.items if not item.tolerance)
            made = replace(made, items=exact or self._items([("1", "int")]))
        return self._ended(made) if depth < 2 or self._choose.random() < 0.5 else made

    def _ended(self, made: Select) -> Select:
        """Now and then the first rows only; the order is by all that is shown, so it is total."""
        is_exact = not any(item.tolerance for item in made.items)
        if made.tail or not is_exact or self._choose.random() > 0.08:
            return made
        order = [f"{place} {self._choose.choice(['', 'desc', 'nulls first'])}".strip() for place in self._places(made)]
        return replace(made, tail=f"order by {', '.join(order)} limit {self._choose.choice([3, 7, 20])}")

    def _places(self, made: Select) -> list[int]:
        places = list(range(1, len(made.items) + 1))
        self._choose.shuffle(places)
        return places

    def _plain(self, made: Select, scope: Scope) -> Select:
        shown = [self._expression(scope) for _ in range(self._choose.randint(1, 4))]
        if self._choose.random() < 0.15:
            shown.append(self._scalar_subquery(scope))
        made = replace(made, items=self._items(shown))
        chance = self._choose.random()
        if chance < 0.2:
            return replace(made, distinct="distinct")
        lists = [sql for sql, kind in scope if kind == "list"]
        if lists and chance > 0.9:
            return replace(made, items=self._items([*shown, (f"unnest({self._choose.choice(lists)})", "text")]))
        if chance < 0.27:
            order = ", ".join(str(place) for place in range(1, len(made.items) + 1))
            return replace(made, distinct=f"distinct on ({made.items[0].sql})", tail=f"order by {order}")
        return made

    def _grouped(self, made: Select, scope: Scope) -> Select:
        possible = [kind for kind in ("int", "text", "date", "bool", "ts", "float") if self._has(scope, kind)]
        count = self._choose.choice([0, 1, 1, 1, 2]) if possible else 0
        keys = [self._expression(scope, possible) for _ in range(count)]
        folded = [self._aggregate(scope) for _ in range(self._choose.randint(1, 3))]
        having = []
        if self._choose.random() < 0.25:
            having = [self._choose.choice(["count(*) > 1", "count(*) < 4", self._having(scope)])]
        items = (*self._items(keys), *(replace(item, name=f"a{n}") for n, item in enumerate(folded)))
        group = tuple(sql for sql, _ in keys)
        if group and all("." in sql for sql in group) and self._choose.random() < 0.2:
            group = ("all",)
            having = [*having, *([f"{keys[0][0]} is not null"] if self._choose.random() < 0.3 else [])]
        return replace(made, items=items, group=group, having=tuple(having))

    def _having(self, scope: Scope) -> str:
        return f"max({self._column(scope, 'int')}) {self._choose.choice(['>', '<', '<>'])} 4"

    def _windowed(self, made: Select, scope: Scope) -> Select:
        shown = [self._expression(scope) for _ in range(self._choose.randint(1, 2))]
        windows = [self._window(scope)]
        # One that numbers is enough: of equal rows, two would leave open which of them has which pair of numbers.
        if self._choose.random() < 0.33:
            windows.append(self._window(scope, numbers=False))
        items = self._items([*shown, *windows])
        if self._choose.random() < 0.35:
            number = f"{self._choose.choice(['row_number', 'rank'])}() over ({self._partition(scope)} order by {self._total(scope)})"
            return replace(made, items=self._items(shown), qualify=(f"{number} <= {self._choose.randint(1, 3)}",))
        if self._choose.random() < 0.25:
            return self._named_window(made, scope, shown)
        return replace(made, items=items)

    def _named_window(self, made: Select, scope: Scope, shown: Sequence[tuple[str, str]]) -> Select:
        over = f"w as ({self._partition(scope)} order by {self._total(scope)})"
        any_, kind = self._expression(scope, _KINDS)
        forms = [("row_number() over w", "int"), (f"lag({any_}) over w", kind), (f"lead({any_}, 2) over w", kind)]
        return replace(made, items=self._items([*shown, *self._choose.sample(forms, 2)]), window=(over,))

    # From.

    def _from(self, depth: int) -> tuple[Relation, tuple[Join, ...], Scope]:
        source = self._relation(depth)
        before: Scope = []
        scope = self._reach(source)
        joins: list[Join] = []
        for _ in range(self._choose.choice([0, 0, 1, 1, 2] if depth else [0, 0, 1])):
            if joins and self._choose.random() < 0.1:  # a comma binds weaker: joins after it do not see what is before
                relation = self._relation(0)
                joins.append(Join("comma", relation))
                before, scope = [*before, *scope], self._reach(relation)
            join, scope = self._join(scope, depth, is_first=not joins, has_comma=bool(before))
            joins.append(join)
        scope = [*before, *scope]
        lists = [sql for sql, kind in scope if kind == "list"]
        if lists and self._choose.random() < 0.4:
            unnested = Relation(self._alias("u"), {"e": "text"})
            joins.append(Join("unnest", unnested, self._choose.choice(lists)))
            scope = [*scope, *self._reach(unnested)]
        elif depth and self._choose.random() < 0.05:
            lateral = self._lateral(scope)
            joins.append(Join("cross", lateral))
            scope = [*scope, *self._reach(lateral)]
        return source, tuple(joins), scope

    def _lateral(self, scope: Scope) -> Relation:
        """A subquery that looks at the row beside it."""
        table, reach, _ = self._other()
        inner, outer = self._column(reach, "int"), self._column(scope, "int")
        shown, kind = self._expression(reach, ["int", "text", "dec"])
        return Relation(
            self._alias("l"), {"e": kind}, f"lateral (select {shown} as e from {table} where {inner} = {outer})"
        )

    def _alias(self, letter: str = "x") -> str:
        self._aliases += 1
        return f"{letter}{self._aliases}"

    def _relation(self, depth: int) -> Relation:
        if depth and self._choose.random() < 0.25:
            is_select = self._choose.random() < 0.85
            query: Tree = self._select(depth - 1, is_exact=True) if is_select else self._combined(0)
            return Relation(self._alias(), {item.name: item.kind for item in query.items}, query=query)
        table = self._choose.choice([name for name, columns in self._tables.items() if columns])
        return Relation(self._alias(), self._tables[table], table.strip())

    def _reach(self, relation: Relation) -> Scope:
        return [(f"{relation.alias}.{name}", kind) for name, kind in relation.columns.items()]

    def _join(self, scope: Scope, depth: int, *, is_first: bool, has_comma: bool) -> tuple[Join, Scope]:
        relation = self._relation(depth - 1 if depth else 0)
        reach = self._reach(relation)
        how = self._choose.choice(
            ["inner", "inner", "inner", "left", "left", "left", "right", "full", "semi", "anti", "cross"]
        )
        if how == "cross" and is_first:
            return Join("cross", relation), [*scope, *reach]
        how = "inner" if how == "cross" else how
        is_merged = ("k", "int") in scope
        owners = [sql for sql, _ in scope if sql.endswith(".k")]
        may_merge = not has_comma and relation.columns.get("k") == "int" and (is_merged or len(owners) == 1)
        if may_merge and self._choose.random() < (0.6 if is_merged else 0.25):
            merged = [] if is_merged else [("k", "int")]
            shown = scope if how in ("semi", "anti") else [*merged, *scope, *reach]
            return Join(how, relation, "using (k)"), shown
        condition = self._condition(scope, reach)
        return Join(how, relation, condition), scope if how in ("semi", "anti") else [*scope, *reach]

    def _condition(self, scope: Scope, reach: Scope) -> str:
        """A join's condition: one or two equalities, maybe more beside."""
        kinds = [kind for kind in ("int", "text", "date") if self._has(scope, kind) and self._has(reach, kind)]
        if not kinds:
            return "true" if len(scope) < 4 else f"{scope[0][0]} is not null and {reach[0][0]} is null"
        kind = self._choose.choice(kinds)
        compared = self._choose.choice(["=", "=", "=", "=", "=", "is not distinct from"])
        parts = [f"{self._column(scope, kind)} {compared} {self._column(reach, kind)}"]
        chance = self._choose.random()
        if chance < 0.15:
            parts.append(
                f"{self._column(scope, kind)} {self._choose.choice(['<', '>=', '<>'])} {self._column(reach, kind)}"
            )
        elif chance < 0.3:
            parts.append(self._simple([*scope, *reach]))
        return " and ".join(parts)

    # Expressions.

    def _items(self, shown: Sequence[tuple[str, str]]) -> tuple[Item, ...]:
        return tuple(Item(sql, f"c{place}", kind) for place, (sql, kind) in enumerate(shown))

    def _has(self, scope: Scope, kind: str) -> bool:
        return any(of == kind for _, of in scope)

    def _column(self, scope: Scope, kind: str) -> str:
        """A column of this kind, or a constant where there is none."""
        found = [sql for sql, of in scope if of == kind]
        if found:
            return self._choose.choice(found)
        return _OPAQUE[kind] if kind in _OPAQUE else self._choose.choice(_CONSTANTS[kind])

    def _expression(self, scope: Scope, kinds: Sequence[str] = ()) -> tuple[str, str]:
        """A column, or something made of columns, of one of these kinds (default: any that is in reach)."""
        reachable = [kind for _, kind in scope if not kinds or kind in kinds]
        kind = self._choose.choice(reachable) if reachable else self._choose.choice(list(kinds) or ["int"])
        return self._of_kind(scope, kind), kind

    def _of_kind(self, scope: Scope, kind: str) -> str:
        if kind == "huge" or kind in _OPAQUE or self._choose.random() < 0.6:
            return self._column(scope, kind)
        column, choose = self._column(scope, kind), self._choose
        forms: Mapping[str, Sequence[str]] = {
            "int": (f"{column} + 1", f"{column} % 3", f"coalesce({column}, 0)", f"-{column}",
                    f"length({self._column(scope, 'text')})", f"case when {self._simple(scope)} then {column} end"),
            "dec": (f"{column} * 2", f"coalesce({column}, 0.5)", f"case when {self._simple(scope)} then {column} else 1.5 end"),
            "text": (f"upper({column})", f"{column} || '-'", f"coalesce({column}, '?')", f"left({column}, 1)",
                     f"{self._column(scope, 'int')}::varchar"),
            "ts": (f"time_bucket(interval 6 hour, {column})", f"{column} + interval 1 hour", f"date_trunc('day', {column})"),
            "date": (f"{self._column(scope, 'ts')}::date", f"({column} + 1)::date", f"coalesce({column}, date '2026-01-01')"),
            "bool": (f"not {column}", f"coalesce({column}, false)", self._simple(scope)),
            "float": (f"{column} * 0.5", f"{self._column(scope, 'int')} / 4", f"round({column}, 2)"),
        }  # fmt: skip
        return f"({choose.choice(forms[kind])})"

    def _simple(self, scope: Scope) -> str:
        """A condition over columns in reach, without subqueries."""
        kind = self._choose.choice([kind for _, kind in scope if kind in _CONSTANTS] or ["int"])
        column, other = self._column(scope, kind), self._choose.choice(_CONSTANTS[kind])
        forms = [
            f"{column} {self._choose.choice(['=', '<', '>', '>=', '<>', '<>'])} {other}",
            f"{column} {self._choose.choice(['<', '<>', '='])} {self._column(scope, kind)}",
            f"{column} is {self._choose.choice(['', 'not '])}null",
            f"{column} in ({', '.join(_CONSTANTS[kind][:2])})",
            f"{column} is distinct from {other}",
        ]
        return f"({self._choose.choice(forms)})"

    def _predicate(self, scope: Scope, depth: int) -> str:
        chance = self._choose.random()
        if depth and chance < 0.3:
            return self._subquery(scope)
        if chance < 0.45:
            return f"({self._simple(scope)} or {self._simple(scope)})"
        if chance < 0.55:
            return f"not {self._simple(scope)}"
        return self._simple(scope)

    def _other(self) -> tuple[str, Scope, str]:
        """A table for a subquery: its name in FROM, its columns, and its alias."""
        table = self._choose.choice([name for name, columns in self._tables.items() if columns])
        relation = Relation(self._alias("s"), self._tables[table], table.strip())
        return str(relation), self._reach(relation), relation.alias

    def _subquery(self, scope: Scope) -> str:
        table, reach, _ = self._other()
        kind = "int" if self._has(scope, "int") else self._choose.choice([kind for _, kind in scope])
        kind = kind if kind in _CONSTANTS else "int"
        inner, outer = self._column(reach, kind), self._column(scope, kind)
        where = f" where {self._simple(reach)}" if self._choose.random() < 0.5 else ""
        and_ = where.replace(" where", " and")
        folded = self._choose.choice(
            [f"max({inner})", f"min({inner})", "count(*)" if kind == "int" else f"max({inner})"]
        )
        forms = [
            f"exists (select 1 from {table} where {inner} = {outer}{and_})",
            f"not exists (select 1 from {table} where {inner} = {outer}{and_})",
            f"exists (select 1 from {table} where {inner} = {outer} and {self._column(reach, kind)} <> {self._column(scope, kind)})",
            f"{outer} in (select {inner} from {table}{where})",
            f"{outer} not in (select {inner} from {table}{where})",
            f"{outer} {self._choose.choice(['>', '<=', '='])} (select {folded} from {table}{where})",
            f"{outer} {self._choose.choice(['>', '<=', '='])} (select {folded} from {table} where {inner} = {outer}{and_})",
            f"(select count(*) from {table} where {inner} = {outer}{and_}) {self._choose.choice(['= 0', '> 1', '< 3'])}",
        ]
        return self._choose.choice(forms)

    def _scalar_subquery(self, scope: Scope) -> tuple[str, str]:
        table, reach, _ = self._other()
        joined = f"{self._column(reach, 'int')} = {self._column(scope, 'int')}"
        return self._choose.choice(
            [
                (f"(select count(*) from {table} where {joined})", "int"),
                (f"(select max({self._column(reach, 'dec')}) from {table} where {joined})", "dec"),
                (f"(select min({self._column(reach, 'int')}) from {table})", "int"),
                (f"coalesce((select sum({self._column(reach, 'int')}) from {table} where {joined}), -1)", "huge"),
            ]
        )

    def _aggregate(self, scope: Scope) -> Item:
        integer, decimal, real = (self._column(scope, kind) for kind in ("int", "dec", "float"))
        any_, kind = self._expression(scope, _KINDS)
        text = self._column(scope, "text")
        forms = [
            ("count(*)", "int", 0.0),
            (f"count({any_})", "int", 0.0),
            (f"min({any_})", kind, 0.0),
            (f"max({any_})", kind, 0.0),
            (f"count(distinct {any_})", "int", 0.0),
            (f"bool_or({self._simple(scope)})", "bool", 0.0),
        ]
        if self._has(scope, "int"):
            forms += [(f"sum({integer})", "huge", 0.0), (f"sum(distinct {integer})", "huge", 0.0)]
            forms += [(f"avg({integer})", "float", 0.0)]
        if self._has(scope, "dec"):
            forms += [(f"sum({decimal})", "big", 0.0), (f"avg({decimal})", "float", CLOSE)]
            forms += [(f"median({decimal})", "float", 0.0)]
        if self._has(scope, "float"):
            forms += [(f"sum({real})", "float", LOOSE)]
        if self._has(scope, "text"):
            forms += [(f"string_agg({text}, ',' order by {text})", "text", 0.0)]
            forms += [(f"list({text} order by {text})", "lists", 0.0)]
        sql, of, tolerance = self._choose.choice(forms)
        if self._choose.random() < 0.15:
            sql = f"{sql} filter (where {self._simple(scope)})"
        return Item(sql, "a", of, tolerance)

    # Windows.

    def _partition(self, scope: Scope) -> str:
        columns = [
            self._expression(scope, ["int", "text", "bool", "date"])[0]
            for _ in range(self._choose.choice([1, 1, 1, 2]))
        ]
        return "" if self._choose.random() < 0.1 else f"partition by {', '.join(columns)}"

    def _total(self, scope: Scope) -> str:
        """An order that leaves no ties: by something, then by all that is in reach."""
        first = f"{self._expression(scope, _KINDS)[0]} {self._choose.choice(['', 'desc', 'nulls first'])}".strip()
        return ", ".join([first, *(sql for sql, _ in scope)])

    def _window(self, scope: Scope, *, numbers: bool = True) -> tuple[str, str]:
        choose, partition, total = self._choose, self._partition(scope), self._total(scope)
        integer, any_ = self._column(scope, "int"), self._expression(scope, _KINDS)
        frame = choose.choice(["rows between 2 preceding and current row", "rows unbounded preceding", ""])
        by = self._expression(scope, ["int", "ts", "date"])
        steps = {"int": "1", "ts": "interval 3 hour", "date": "interval 1 day"}
        span = f"range between {steps.get(by[1], '1')} preceding and current row"
        forms = [
            (f"rank() over ({partition} order by {by[0]})", "int"),
            (f"dense_rank() over ({partition} order by {by[0]} desc)", "int"),
            (f"sum({integer}) over ({partition} order by {by[0]} {span})", "huge"),
            (f"count(*) over ({partition})", "int"),
            (f"max({any_[0]}) over ({partition})", any_[1]),
            (f"count(*) over ({partition} order by {by[0]})", "int"),
        ]
        if numbers:
            forms += [
                (f"row_number() over ({partition} order by {total})", "int"),
                (f"lag({any_[0]}) over ({partition} order by {total})", any_[1]),
                (f"first_value({any_[0]}) over ({partition} order by {total})", any_[1]),
                (f"ntile(3) over ({partition} order by {total})", "int"),
                (f"sum({integer}) over ({partition} order by {total} {frame})", "huge"),
            ]
        return choose.choice(forms)
