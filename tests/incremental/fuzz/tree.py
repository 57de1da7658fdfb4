"""Queries as trees that can be written down and made smaller.

Rules of this file:
  * expressions are text; what can be left out (columns, conditions, joins, clauses, whole queries) is a node;
  * `smaller` gives every tree that lacks one such part; whether it still is a query is for DuckDB to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace


@dataclass(frozen=True)
class Item:
    """A column of a result. `tolerance` is 0 where every bit counts (see reference.py)."""

    sql: str
    name: str
    kind: str
    tolerance: float = 0.0


@dataclass(frozen=True)
class Relation:
    """A named table, or a query in parentheses; `columns` maps what it shows to kinds."""

    alias: str
    columns: Mapping[str, str]
    table: str = ""
    query: Tree | None = None

    def __str__(self) -> str:
        return f"{self.table} {self.alias}" if self.query is None else f"({self.query}) {self.alias}"


@dataclass(frozen=True)
class Join:
    """One join: `how` as SQL says it, or `comma`; `on` the condition, "" for none, or `using (...)`."""

    how: str
    relation: Relation
    on: str = ""

    def __str__(self) -> str:
        if self.how == "comma":
            return f", {self.relation}"
        if self.how == "unnest":
            return f", unnest({self.on}) as {self.relation.alias}(e)"
        condition = "" if not self.on else f" {self.on}" if self.on.startswith("using") else f" on {self.on}"
        return f" {self.how} join {self.relation}{condition}"


@dataclass(frozen=True)
class Select:
    """One SELECT."""

    items: tuple[Item, ...]
    source: Relation
    joins: tuple[Join, ...] = ()
    where: tuple[str, ...] = ()
    group: tuple[str, ...] = ()
    having: tuple[str, ...] = ()
    window: tuple[str, ...] = ()
    qualify: tuple[str, ...] = ()
    distinct: str = ""
    tail: str = ""

    def __str__(self) -> str:
        shown = ", ".join(f"{item.sql} as {item.name}" for item in self.items)
        distinct = f"{self.distinct} " if self.distinct else ""
        clauses = [
            f"select {distinct}{shown} from {self.source}{''.join(map(str, self.joins))}",
            *_clause("where", " and ", self.where),
            *_clause("group by", ", ", self.group),
            *_clause("having", " and ", self.having),
            *_clause("window", ", ", self.window),
            *_clause("qualify", " and ", self.qualify),
            *([self.tail] if self.tail else []),
        ]
        return " ".join(clauses)


@dataclass(frozen=True)
class Combined:
    """Two queries put together: union, union all, except, intersect ..."""

    how: str
    left: Tree
    right: Tree

    @property
    def items(self) -> tuple[Item, ...]:
        """The columns of the result, named by the left query."""
        pairs = zip(self.left.items, self.right.items, strict=True)
        return tuple(replace(one, tolerance=max(one.tolerance, other.tolerance)) for one, other in pairs)

    def __str__(self) -> str:
        return f"({self.left}) {self.how} ({self.right})"


@dataclass(frozen=True)
class With:
    """A query that reads another one by name, maybe more than once."""

    name: str
    named: Tree
    body: Tree

    @property
    def items(self) -> tuple[Item, ...]:
        """The columns of the body."""
        return self.body.items

    def __str__(self) -> str:
        named, body = f"with {self.name} as ({self.named})", str(self.body)
        return f"{named}, {body.removeprefix('with ')}" if isinstance(self.body, With) else f"{named} {body}"


Tree = Select | Combined | With


def _clause(word: str, between: str, parts: tuple[str, ...]) -> list[str]:
    return [f"{word} {between.join(parts)}"] if parts else []


def smaller(tree: Tree) -> Iterator[Tree]:
    """Every tree that lacks one part of this one, the large parts first."""
    if isinstance(tree, Combined):
        yield from (tree.left, tree.right)
        yield from (replace(tree, left=left) for left in smaller(tree.left))
        yield from (replace(tree, right=right) for right in smaller(tree.right))
    elif isinstance(tree, With):
        yield from (tree.named, tree.body)
        yield from (replace(tree, named=named) for named in smaller(tree.named))
        yield from (replace(tree, body=body) for body in smaller(tree.body))
    else:
        yield from _smaller_select(tree)


def _smaller_select(tree: Select) -> Iterator[Tree]:
    relations = [tree.source, *(join.relation for join in tree.joins)]
    yield from (relation.query for relation in relations if relation.query is not None)
    for place in range(len(tree.joins)):
        yield replace(tree, joins=_without(tree.joins, place))
    for word in ("where", "group", "having", "window", "qualify"):
        parts = getattr(tree, word)
        yield from (replace(tree, **{word: _without(parts, place)}) for place in range(len(parts)))
    if tree.distinct:
        yield replace(tree, distinct="")
    if tree.tail:
        yield replace(tree, tail="")
    for place in range(len(tree.items) if len(tree.items) > 1 else 0):
        yield replace(tree, items=_without(tree.items, place))
    yield from (replace(tree, source=relation) for relation in _smaller_relation(tree.source))
    for place, join in enumerate(tree.joins):
        for relation in _smaller_relation(join.relation):
            joins = (*tree.joins[:place], replace(join, relation=relation), *tree.joins[place + 1 :])
            yield replace(tree, joins=joins)


def _smaller_relation(relation: Relation) -> Iterator[Relation]:
    if relation.query is not None:
        yield from (replace(relation, query=query) for query in smaller(relation.query))


def _without(parts: tuple, place: int) -> tuple:  # type: ignore[type-arg]
    return (*parts[:place], *parts[place + 1 :])
