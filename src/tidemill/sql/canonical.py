"""The one query that every mode runs, and the text by which a job is known to have changed.

Rules of this file:
  * the same meaning written with other comments, layout or case has the same text; another meaning has another;
  * a recompute over the same rows gives the same bits, whatever the threads and the order of the rows (see
    `determine.py`);
  * the order of a table's rows is nobody's: ORDER BY without LIMIT is dropped.

Theory: resolve names first (then nothing is written in two ways), determine second (then ties and sums have one
outcome), write last.
"""

from __future__ import annotations

from sqlglot import exp

from tidemill.sql.determine import determine
from tidemill.sql.resolve import INPUT, Schemas, name_inputs, resolve

__all__ = ["canonical", "canonical_tree", "write"]


def canonical(tree: exp.Query, schemas: Schemas, place: str = "sql", line: int = 1) -> str:
    """The canonical SQL of a parsed query, with inputs under their own names. Uses `tree` up."""
    name_inputs(tree, schemas, place, line)
    result, _ = canonical_tree(tree, schemas, place, line)
    return write(plain_names(result, schemas))


def canonical_tree(tree: exp.Query, schemas: Schemas, place: str, line: int = 1) -> tuple[exp.Query, bool]:
    """The canonical tree over placeholders, and whether every name in it is resolved."""
    _name_outputs(tree)
    tree, schema = resolve(tree, schemas, place, line)
    return determine(tree, schema), schema is not None


def plain_names(tree: exp.Query, schemas: Schemas) -> exp.Query:
    """Placeholders back to the names of the assets, as the catalogue spells them."""
    spelling = {asset.lower(): asset for asset in schemas}
    for table in tree.find_all(exp.Table):
        if table.name.startswith(INPUT):
            asset = spelling[table.name.removeprefix(INPUT)]
            table.set("this", exp.to_identifier(asset, quoted=True))
    return tree


def write(tree: exp.Expr) -> str:
    """The text of a canonical tree."""
    return tree.sql(dialect="duckdb", comments=False)


def outermost(tree: exp.Expr) -> exp.Select | None:
    """The SELECT that gives a query its column names: the leftmost one of a set operation."""
    while isinstance(tree, exp.Subquery | exp.SetOperation):
        tree = tree.this
    return tree if isinstance(tree, exp.Select) else None


def _name_outputs(tree: exp.Query) -> None:
    """Give every unnamed output expression a name that does not depend on its layout: its function's, or its place."""
    select = outermost(tree)
    if select is None:
        return
    taken = {projection.output_name.lower() for projection in select.expressions}
    for index, projection in enumerate(select.expressions):
        if projection.output_name or projection.is_star or isinstance(projection, exp.Explode | exp.Columns):
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
