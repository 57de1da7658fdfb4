"""Bugs planted in the maintenance of stages: the ways in which incremental SQL is wrong and looks right.

They are planted as those of planted.py are: in texts and relations on their way to the store, by the names that a
stage's statements give them (`d0` the change set of a leaf, `n0` and `o0` its state after and before it, `keys` the keys
that changed).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from tests.incremental.planted import WrongBench
from tidemill.core.change import RID, WEIGHT, ArrowStream, Images, Output, Slice, Statement
from tidemill.core.model import Asset, Job
from tidemill.core.ports import Engine, Plan, Reader, Work
from tidemill.runtime.catalog import Catalog
from tidemill.stores.duckdb import DuckDBStore

Relation = Slice | ArrowStream


class WrongRelations(WrongBench):
    """A bench whose statements read other relations than they name."""

    def relation(self, name: str, relation: Relation, others: Mapping[str, Relation]) -> Relation:
        """What is read under a name."""
        return relation

    def asked(self, statement: Statement) -> Statement:
        relations = statement.relations
        changed = {name: self.relation(name, relation, relations) for name, relation in relations.items()}
        return replace(statement, relations=changed)


class NewInsteadOfOldState(WrongRelations):
    """A term of a join meets the changes of the other input twice: it reads the new state where it needs the old."""

    queries = ("join_self", "join_three", "group_of_self_join")

    def relation(self, name: str, relation: Relation, others: Mapping[str, Relation]) -> Relation:
        if not (name.startswith("o") and name[1:].isdigit() and isinstance(relation, Slice)):
            return relation
        now = [other.to for other in others.values() if isinstance(other, Slice) and other.asset == relation.asset]
        return replace(relation, to=max(now))


class NullSideIgnored(WrongRelations):
    """Changes on the side of an outer join that may be missing change nothing."""

    queries = ("join_left", "join_left_where_null", "join_full")

    def relation(self, name: str, relation: Relation, others: Mapping[str, Relation]) -> Relation:
        is_changes = isinstance(relation, Slice) and relation.images == Images.CHANGES
        return replace(relation, from_=relation.to) if name == "d1" and is_changes else relation  # type: ignore[type-var]


class StageChangesLost(WrongRelations):
    """What changed in a stage is not passed on to the next one."""

    queries = ("group_of_group", "group_having", "cte_twice")

    def relation(self, name: str, relation: Relation, others: Mapping[str, Relation]) -> Relation:
        is_stage = isinstance(relation, Slice) and "@" in relation.asset and relation.images == Images.CHANGES
        return replace(relation, from_=relation.to) if is_stage else relation  # type: ignore[type-var]


class KeyNotRecomputed(WrongRelations):
    """One of the keys that changed is not looked at again."""

    queries = ("top_three", "median", "text_in_order")

    def relation(self, name: str, relation: Relation, others: Mapping[str, Relation]) -> Relation:
        return relation.slice(1) if name == "keys" and isinstance(relation, pa.Table) else relation


class NullKeyMissed(WrongBench):
    """Keys are compared with = alone, so the rows whose key is NULL are never looked at again."""

    queries = ("window_by_null_keys", "top_three", "distinct_on")

    def rewrite(self, text: str) -> str:
        return text.replace("IS NOT DISTINCT FROM", "=")


class RemovalsAddUp(WrongBench):
    """What goes from a group is not taken off its sums."""

    queries = ("group_by", "group_null_keys", "group_keyless")

    def rewrite(self, text: str) -> str:
        return text.replace("FILTER (WHERE _weight < 0)", "FILTER (WHERE _weight < -1)")


class FallenRowsStay(WrongBench):
    """A row that no longer is in the result (HAVING, WHERE of a later stage) stays; rows that change do change."""

    queries = ("group_having", "group_having_distinct", "new_sellers")

    def output(self, asset: str, output: Output) -> Output:
        if type(output).__name__ != "Changed" or "@" in asset or not isinstance(output.rows, pa.Table):
            return output
        lines = output.rows
        comes = lines.filter(pc.greater(lines[WEIGHT], 0))[RID]
        stays = pc.or_(pc.greater(lines[WEIGHT], 0), pc.is_in(lines[RID], value_set=comes.combine_chunks()))
        return replace(output, rows=lines.filter(stays))


class JoinedIdsCollide(WrongBench):
    """Rows of a join are told apart by the beginning of their identity alone."""

    queries = ("join_inner", "join_left", "join_range")

    def output(self, asset: str, output: Output) -> Output:
        rows = output.rows
        if isinstance(rows, Statement):
            cut = f"SELECT * REPLACE (left({RID}, 3) AS {RID}) FROM ({rows.sql})"
            return replace(output, rows=replace(rows, sql=cut))
        assert isinstance(rows, pa.Table)
        place = rows.schema.get_field_index(RID)
        return replace(output, rows=rows.set_column(place, RID, pc.utf8_slice_codeunits(rows[RID], 0, 3)))


class ExtremesNeverFall(WrongBench):
    """The least and the greatest value of a group survive the row that had them."""

    queries = ("group_min_max", "group_min_max_of_few")

    def make_engine(self, tables: DuckDBStore, catalog: Catalog) -> Engine:
        return PlanningOtherwise(super().make_engine(tables, catalog), _without_gone_extremes)


class PlanningOtherwise:
    """An engine around another, whose plans are made otherwise."""

    def __init__(self, inner: Engine, otherwise: Callable[[Any], Any]) -> None:
        self._inner = inner
        self._otherwise = otherwise

    def plan(self, job: Job, inputs: Mapping[str, Asset]) -> Plan:
        plan: Plan = self._otherwise(self._inner.plan(job, inputs))
        return plan

    def compute(self, work: Work, reader: Reader) -> Any:
        return self._inner.compute(work, reader)


def _without_gone_extremes(part: Any) -> Any:
    """A plan whose accumulators of extremes forget to look at what goes."""
    if isinstance(part, tuple):
        return tuple(map(_without_gone_extremes, part))
    if not is_dataclass(part) or isinstance(part, type):
        return part
    if getattr(part, "merge", "") in ("min", "max"):
        return replace(part, gone="")
    return replace(part, **{each.name: _without_gone_extremes(getattr(part, each.name)) for each in fields(part)})


PLANTED: Mapping[str, type[WrongBench]] = {
    "the new state stands for the old": NewInsteadOfOldState,
    "changes on the null side are ignored": NullSideIgnored,
    "a stage's changes are not passed on": StageChangesLost,
    "a key is not recomputed": KeyNotRecomputed,
    "NULL keys are missed": NullKeyMissed,
    "removals add up": RemovalsAddUp,
    "rows that fall out stay": FallenRowsStay,
    "ids of joined rows collide": JoinedIdsCollide,
    "extremes never fall": ExtremesNeverFall,
}
