"""Common table expressions become subqueries where they are read.

Rules of this file:
  * a CTE is put in wherever its name is bound to it; equal subqueries become one stage again later, by their text;
  * a recursive CTE cannot be put in: the whole query is then recomputed (`Opaque`);
  * a query that would grow beyond `NODES_MAX` nodes is recomputed too.
"""

from __future__ import annotations

from sqlglot import exp

from tidemill.sql.scope import binding

__all__ = ["NODES_MAX", "Opaque", "flatten"]

NODES_MAX = 20_000
"""Nodes of a query up to which its CTEs are put in."""


class Opaque(Exception):
    """This part of the query is recomputed as a whole; the text says why, for people."""


def flatten(tree: exp.Query) -> exp.Query:
    """The query without any WITH. Raises Opaque. Changes and returns `tree`."""
    if any(with_.args.get("recursive") for with_ in tree.find_all(exp.With)):
        raise Opaque("it is recursive (WITH RECURSIVE)")
    while with_ := _innermost(tree):
        owner = with_.parent
        assert owner is not None
        for cte in reversed(list(with_.expressions)):
            _put_in(tree, cte)
            cte.pop()
        owner.set("with_", None)
    return tree


def _innermost(tree: exp.Query) -> exp.With | None:
    """A WITH whose definitions hold no other."""
    found = list(tree.find_all(exp.With))
    return next((one for one in found if sum(1 for _ in one.find_all(exp.With)) == 1), None)


def _put_in(tree: exp.Query, cte: exp.CTE) -> None:
    for table in [found for found in tree.find_all(exp.Table) if isinstance(found.this, exp.Identifier)]:
        if binding(table) is not cte:
            continue
        alias = table.args.get("alias") or exp.TableAlias(this=exp.to_identifier(table.name, quoted=True))
        names = cte.args["alias"].args.get("columns")
        if names and not alias.args.get("columns"):
            alias.set("columns", [name.copy() for name in names])
        if table.args.get("pivots") or table.args.get("sample") or table.args.get("joins"):
            raise Opaque("it pivots or nests joins")
        table.replace(exp.Subquery(this=cte.this.copy(), alias=alias.copy()))
    if sum(1 for _ in tree.walk()) > NODES_MAX:
        raise Opaque(f"its common table expressions grow beyond {NODES_MAX} nodes")
