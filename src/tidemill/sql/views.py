"""Views have no log: their SQL is put into their readers.

Rules of this file:
  * a view is inlined where it is read, as a subquery under the name it was read by, recursively;
  * a view's names mean what they mean in the view: a CTE of the reader never captures a name inside a view;
  * what must not stand in a job must not stand in a view either; the error names the view;
  * views that read each other in a circle are an error that names the circle.

Theory: replace tables from the outside in. A view's own CTEs stay inside its subquery and need no care; a CTE of the
reader that would capture an input of the view gets another name, and the places that read it keep the old one as alias.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping

from sqlglot import exp

from tidemill.core.errors import DefinitionError
from tidemill.sql.analyse import analyse_tree
from tidemill.sql.parse import VIEW, parse
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
        if name not in views:
            mark_input(table)
            continue
        subquery = _inlined(table, name, views, path, place)
        table.replace(subquery)
        for inner in list(subquery.find_all(exp.Table)):
            if is_input(inner) and (capturer := binding(inner, through_mark=True)) is not None:
                _rename(capturer, tree)


def _inlined(table: exp.Table, name: str, views: Mapping[str, str], path: tuple[str, ...], place: str) -> exp.Subquery:
    if name in path:
        circle = " -> ".join([*path[path.index(name) :], name])
        raise DefinitionError(
            f"views read each other in a circle: {circle}",
            place=place,
            mend="make one of them a table (materialized: table)",
        )
    body = parse(views[name], name)
    analyse_tree(body, name).check(name)
    for identifier in body.find_all(exp.Identifier):
        identifier.meta[VIEW] = table.name
    _expand(body, views, (*path, name), place)
    subquery = exp.Subquery(this=body)
    for argument in ("pivots", "sample", "joins", "laterals"):
        if table.args.get(argument):
            subquery.set(argument, table.args[argument])
    alias = table.args.get("alias") or exp.TableAlias(this=exp.to_identifier(table.name, quoted=True))
    subquery.set("alias", alias)
    return subquery


def _rename(cte: exp.CTE, tree: exp.Query) -> None:
    """Give a CTE another name; what reads it keeps the old one as its alias."""
    readers = [table for table in tree.find_all(exp.Table) if binding(table) is cte]
    taken = {found.alias.lower() for found in tree.find_all(exp.CTE)} | {
        found.name.lower() for found in tree.find_all(exp.Table)
    }
    name = next(name for number in itertools.count(1) if (name := f"{cte.alias}_{number}").lower() not in taken)
    for table in readers:
        if not table.alias:
            alias = table.args.get("alias") or exp.TableAlias()
            alias.set("this", exp.to_identifier(table.name, quoted=True))
            table.set("alias", alias)
        table.set("this", exp.to_identifier(name, quoted=True))
    cte.args["alias"].set("this", exp.to_identifier(name, quoted=True))
