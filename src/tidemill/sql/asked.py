"""Queries that people ask once: their text is run as it is written, but for what DuckDB cannot run.

Rules of this file:
  * a text changes only where joined rows are unnested, and only if every name in it is known; else it is as it was;
  * rows, their order and the names of columns stay those of the text; of two columns with one name the second gets a number.
"""

from __future__ import annotations

from sqlglot import exp

from tidemill.core.errors import DefinitionError
from tidemill.sql.bind import bind, quoted
from tidemill.sql.canonical import canonical_tree, spell_inputs, write
from tidemill.sql.parse import parse
from tidemill.sql.resolve import Schemas, name_inputs
from tidemill.sql.stages import lists_first

__all__ = ["as_asked"]


def as_asked(sql: str, schemas: Schemas) -> str:
    """The text that answers a query over relations of these columns (docs/design/0006)."""
    if "unnest" not in sql.lower():
        return sql
    try:
        tree = parse(sql, "query")
        if tree.find(exp.Join) is None:
            return sql
        inputs = name_inputs(tree, schemas, "query")
        tree, is_resolved = canonical_tree(tree, schemas, "query", keeps_order=True)
    except DefinitionError:
        return sql
    if not is_resolved:
        return sql
    spell_inputs(tree, inputs)
    return bind(write(lists_first(tree)), {asset: quoted(asset) for asset in inputs})
