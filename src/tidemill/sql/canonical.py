"""The one query that every mode runs, and the text by which a job is known to have changed.

Rules of this file:
  * the same meaning written with other comments, layout or case has the same text; another meaning has another;
  * a recompute over the same rows gives the same bits, whatever the threads and the order of the rows (see
    `determine.py`);
  * the order of a table's rows is nobody's: ORDER BY without LIMIT is dropped; a file's rows lie in an order, and
    keep it.

Theory: resolve names first (then nothing is written in two ways), determine second (then ties and sums have one
outcome), write last.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlglot import exp

from tidemill.sql.bind import bind, quoted
from tidemill.sql.determine import determine
from tidemill.sql.outputs import name_outputs, spell_outputs, written
from tidemill.sql.pivot import write_pivots
from tidemill.sql.resolve import INPUT, Schemas, name_inputs, resolve

__all__ = ["canonical", "canonical_tree", "spell_inputs", "write"]


def canonical(tree: exp.Query, schemas: Schemas, place: str = "sql", line: int = 1) -> str:
    """The canonical SQL of a parsed query, with inputs under their own names. Uses `tree` up."""
    name_inputs(tree, schemas, place, line)
    result, _ = canonical_tree(tree, schemas, place, line)
    spell_inputs(result, schemas)
    return bind(write(result), {asset: quoted(asset) for asset in schemas})


def canonical_tree(
    tree: exp.Query, schemas: Schemas, place: str, line: int = 1, *, keeps_order: bool = False
) -> tuple[exp.Query, bool]:
    """The canonical tree over placeholders, and whether every name in it is resolved."""
    tree = write_pivots(tree, schemas, place, line)
    name_outputs(tree)
    spelling = written(tree, schemas)
    tree, schema = resolve(tree, schemas, place, line)
    tree = determine(tree, schema, keeps_order=keeps_order)
    spell_outputs(tree, spelling, place, line)
    return tree, schema is not None


def spell_inputs(tree: exp.Query, names: Iterable[str]) -> None:
    """Placeholders with the names of their assets as the catalogue spells them."""
    spelling = {INPUT + name.lower(): INPUT + name for name in names}
    for table in tree.find_all(exp.Table):
        if table.name in spelling:
            table.set("this", exp.to_identifier(spelling[table.name], quoted=True))


def write(tree: exp.Expr) -> str:
    """The text of a canonical tree."""
    return tree.sql(dialect="duckdb", comments=False)
