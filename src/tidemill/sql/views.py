"""Views have no log: their SQL is put into their readers.

Rules of this file:
  * a view is inlined where it is read, as a subquery under the name it was read by, recursively;
  * a view's names mean what they mean in the view: a CTE of the reader never captures a name inside a view;
  * views that read each other in a circle are an error that names the circle.

Theory: replace tables bottom-up. The text of a view is parsed once per reader and copied per place; a view's own CTEs
stay inside its subquery, so scoping needs no renaming except where a reader's CTE would capture an input of the view.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlglot import exp

from tidemill.core.errors import DefinitionError
from tidemill.sql.parse import parse
from tidemill.sql.scope import binding, is_input, mark_input

__all__ = ["expand"]


def expand(tree: exp.Query, views: Mapping[str, str], place: str = "sql") -> exp.Query:
    """The query with every view it reads put in as a subquery. Changes and returns `tree`."""
    if views:
        _expand(tree, {name.lower(): sql for name, sql in views.items()}, (), place)
    return tree


def _expand(tree: exp.Query, views: Mapping[str, str], path: tuple[str, ...], place: str) -> None:
    for table in [table for table in tree.find_all(exp.Table) if not is_input(table)]:
        if not isinstance(table.this, exp.Identifier) or binding(table) is not None:
            continue
        name = table.name.lower()
        mark_input(table)
        if name in views:
            table.replace(_inlined(table, name, views, path, place))


def _inlined(table: exp.Table, name: str, views: Mapping[str, str], path: tuple[str, ...], place: str) -> exp.Subquery:
    if name in path:
        circle = " -> ".join([*path[path.index(name) :], name])
        raise DefinitionError(
            f"views read each other in a circle: {circle}",
            place=place,
            mend="make one of them a table (materialized: table)",
        )
    body = parse(views[name], name)
    _expand(body, views, (*path, name), place)
    subquery = exp.Subquery(this=body)
    for argument in ("pivots", "sample", "joins", "laterals"):
        if table.args.get(argument):
            subquery.set(argument, table.args[argument])
    alias = table.args.get("alias") or exp.TableAlias(this=exp.to_identifier(table.name, quoted=True))
    subquery.set("alias", alias)
    return subquery
