"""From the text of a SQL job to all that is needed to run it: inputs, rule, columns, key and statement.

Rules of this file:
  * a plan is small, plain, frozen data that survives JSON; new rules add a `kind`, they do not change the others;
  * every mode runs `statement`; which relations stand for the inputs is decided by whoever runs it:
      - recompute: each input's relation shows exactly the user's columns of that asset;
      - rowwise: the one input's relation also has `_rid` (varchar), the identity of the input row, and the statement
        also gives `_parent` (that `_rid`) and, where a row can have several outputs, `_ordinal` (bigint from 0, the
        place among them);
  * the reason why a job is recomputed is said in words.

  * incremental: the query is cut into stages (`stages/`), each maintained from change sets; the statement is there too,
    for those who need the whole at once (gates, extracts).

Theory: analyse and refuse, put in views, resolve and determine (canonical.py), then ask whether the row-wise delta
rule applies (rowwise.py), else cut into stages; what is one opaque stage is simply recomputed.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from sqlglot import exp

from tidemill.sql.analyse import analyse_tree
from tidemill.sql.bind import bind, quoted
from tidemill.sql.canonical import canonical_tree, spell_inputs, write
from tidemill.sql.keys import derive_key
from tidemill.sql.parse import PARSER_VERSION, parse
from tidemill.sql.resolve import Schemas, name_inputs
from tidemill.sql.rowwise import reason_not_rowwise, with_lineage
from tidemill.sql.stages import Opaque, Staged, cut, lists_first
from tidemill.sql.types import columns_of
from tidemill.sql.views import expand

__all__ = ["PLAN_VERSION", "SqlPlan", "plan"]

# Changes when the same SQL would give another plan: a cache written by another version is planned anew.
PLAN_VERSION = f"6/{PARSER_VERSION}"

Kind = Literal["rowwise", "incremental", "recompute"]


@dataclass(frozen=True, slots=True)
class SqlPlan:
    """How one SQL job is maintained.

    `columns` maps output columns to DuckDB types (None where not inferable), or is None when an input's columns are
    not known yet; `key` is None where the SQL does not say one; `reason` says why it is not rowwise (''), and of a job that
    is recomputed though stages were asked for, why nothing of it can be maintained from changes.
    """

    inputs: tuple[str, ...]
    kind: Kind
    reason: str
    columns: Mapping[str, str | None] | None
    key: tuple[str, ...] | None
    canonical: str
    statement: str
    staged: Staged | None = None

    def to_dict(self) -> dict[str, Any]:
        """As plain JSON data, with the version that a reader must compare."""
        return {
            "version": PLAN_VERSION,
            "inputs": list(self.inputs),
            "kind": self.kind,
            "reason": self.reason,
            "columns": None if self.columns is None else dict(self.columns),
            "key": None if self.key is None else list(self.key),
            "canonical": self.canonical,
            "statement": self.statement,
            "staged": None if self.staged is None else self.staged.to_dict(),
        }

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> SqlPlan | None:
        """The stored plan, or None when another version stored it."""
        if data.get("version") != PLAN_VERSION:
            return None
        parts = {name: value for name, value in data.items() if name != "version"}
        key, staged = data["key"], data["staged"]
        parts |= {"inputs": tuple(data["inputs"]), "key": None if key is None else tuple(key)}
        return cls(**(parts | {"staged": None if staged is None else Staged.from_dict(staged)}))


def plan(
    sql: str,
    schemas: Schemas,
    place: str,
    line: int = 1,
    views: Mapping[str, str] | None = None,
    *,
    retracting: Collection[str] | None = None,
    key: tuple[str, ...] | None = None,
    keeps_order: bool = False,
) -> SqlPlan:
    """Plan the query in `sql`, which starts on `line` of the file `place`.

    `schemas` is the catalogue: every name a query may read, with its columns and their DuckDB types, or None where the
    columns are not known yet. `views` maps the names of views to their SQL; views need not be in `schemas`. `retracting`
    are the inputs whose rows may change or go; without it no stages are planned. `key`
    is the key that people declare for the output, where they do. `keeps_order` is for files, whose rows lie in an order.
    """
    tree = parse(sql, place, line)
    analyse_tree(tree, place, line).check(place)
    tree = expand(tree, views or {}, place)
    inputs = name_inputs(tree, schemas, place, line)
    tree, resolved = canonical_tree(tree, schemas, place, line, keeps_order=keeps_order)
    made = _planned(tree, inputs, resolved)
    return _staged(made, tree, retracting, key) if made.reason and resolved and retracting is not None else made


def _staged(made: SqlPlan, tree: exp.Query, retracting: Collection[str], key: tuple[str, ...] | None) -> SqlPlan:
    """The plan with stages, where any of them is cheaper than to recompute the whole; else with the reason why not."""
    try:
        staged = cut(tree, retracting, made.key if key is None else key)
    except Opaque as why:
        return replace(made, reason=str(why))
    if all(stage.rule == "full" and not stage.region.terms for stage in staged.stages):
        return replace(made, reason="; ".join(dict.fromkeys(stage.reason for stage in staged.stages if stage.reason)))
    return replace(made, kind="incremental", staged=staged)


def _planned(tree: exp.Query, inputs: tuple[str, ...], resolved: bool) -> SqlPlan:
    reason = reason_not_rowwise(tree, resolved)
    key, columns = derive_key(tree), columns_of(tree) if resolved else None
    spell_inputs(tree, inputs)
    text = write(tree)
    whole = lists_first(tree.copy()) if resolved else tree
    return SqlPlan(
        inputs=inputs,
        kind="recompute" if reason else "rowwise",
        reason=reason,
        columns=columns,
        key=key,
        canonical=bind(text, {asset: quoted(asset) for asset in inputs}),
        statement=write(whole if reason else with_lineage(tree)),
    )
