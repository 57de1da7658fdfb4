"""The names of a query's output columns: every one has a name, its own, spelled as a person would expect.

Rules of this file:
  * an expression without a name gets its function's, else `column_<place>`: never one that depends on layout;
  * an alias keeps the spelling it was written with, a column that of the input it comes from;
  * two columns of one name become `name` and `name_1`, as DuckDB has it when it makes a table of them;
  * names that tidemill keeps for itself are refused.
"""

from __future__ import annotations

from collections.abc import Mapping

from sqlglot import exp

from tidemill.core.errors import DefinitionError
from tidemill.sql.parse import line_of
from tidemill.sql.resolve import INPUT, Schemas, is_hidden

__all__ = ["Written", "name_outputs", "outermost", "spell_outputs", "written"]

_WRITTEN = "tidemill_written"


def outermost(tree: exp.Expr) -> exp.Select | None:
    """The SELECT that gives a query its column names: the leftmost one of a set operation."""
    while isinstance(tree, exp.Subquery | exp.SetOperation):
        tree = tree.this
    return tree if isinstance(tree, exp.Select) else None


def name_outputs(tree: exp.Query) -> None:
    """Give every unnamed output expression a name that does not depend on its layout: its function's, or its place."""
    select = outermost(tree)
    if select is None:
        return
    taken = {projection.output_name.lower() for projection in select.expressions}
    for index, projection in enumerate(select.expressions):
        if (
            projection.output_name
            or projection.is_star
            or projection.find(exp.Columns)
            or isinstance(projection, exp.Explode)
        ):
            continue
        name = _natural_name(projection, taken) or f"column_{index + 1}"
        taken.add(name)
        projection.replace(exp.alias_(projection.copy(), name, quoted=True))


def _natural_name(projection: exp.Expr, taken: set[str]) -> str:
    while isinstance(projection, exp.Window | exp.Filter | exp.Paren | exp.IgnoreNulls | exp.WithinGroup):
        projection = projection.this
    if not isinstance(projection, exp.Func) or isinstance(projection, exp.Binary | exp.Case | exp.Cast):
        return ""
    name = projection.this if isinstance(projection, exp.Anonymous) else projection.sql_name()
    return "" if str(name).lower() in taken else str(name).lower()


Written = Mapping[str, str]


def written(tree: exp.Query, schemas: Schemas) -> Written:
    """How columns are spelled, by lower-case name: as the inputs have them (the first in the catalogue wins), else as
    the first alias in the query has it. To be asked before names are normalised, which also remembers each alias."""
    used = {table.name for table in tree.find_all(exp.Table)}
    found: dict[str, str] = {}
    for asset, columns in schemas.items():
        if INPUT + asset.lower() in used:
            found = {**{column.lower(): column for column in columns or ()}, **found}
    for node in tree.find_all(exp.Alias, exp.TableAlias):
        names = [node.args.get("alias")] if isinstance(node, exp.Alias) else node.args.get("columns") or []
        for name in names:
            if isinstance(name, exp.Identifier):
                name.meta[_WRITTEN] = name.name
                found.setdefault(name.name.lower(), name.name)
    return found


def spell_outputs(tree: exp.Query, spelling: Written, place: str, line: int = 1) -> None:
    """Give the output columns their final names. Raises for a name that is hidden from users."""
    select, taken = outermost(tree), set[str]()
    for projection in select.expressions if select is not None else []:
        if not isinstance(projection, exp.Alias):
            continue
        alias = projection.args["alias"]
        if _is_given(alias) and _names_itself(projection.this):
            projection.replace(projection.this)
            continue
        name = alias.meta.get(_WRITTEN) or spelling.get(alias.name.lower(), alias.name)
        if is_hidden(name):
            raise DefinitionError(
                f"the output column {name!r} has a name that tidemill keeps for itself",
                place=f"{place}:{line_of(projection, line)}",
                mend="rename it",
            )
        projection.set("alias", exp.to_identifier(_free(name, taken), quoted=True))


def _is_given(alias: exp.Identifier) -> bool:
    """Whether resolving gave this name because there was none."""
    return _WRITTEN not in alias.meta and alias.name.startswith("_col_")


def _names_itself(expression: exp.Expr) -> bool:
    """Whether the engine makes columns, and their names, of this one expression."""
    return expression.find(exp.Columns) is not None or isinstance(expression, exp.Explode)


def _free(name: str, taken: set[str]) -> str:
    """The name itself, or with _1, _2 ... when it is taken."""
    free, number = name, 0
    while free.lower() in taken:
        number += 1
        free = f"{name}_{number}"
    taken.add(free.lower())
    return free
