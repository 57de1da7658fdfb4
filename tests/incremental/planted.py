"""Bugs planted on purpose, each in one small class: a proof that lets one of them live proves nothing.

A bug is a `Bench` that makes one of its parts wrongly; nothing of the product is changed. What a bug may do:
  * `work`: the engine is asked to work on something else than the performer said;
  * `output`: the store is handed something else than the engine made, of a job's table or of its stages (`JOB@...`);
  * `rewrite`: what was planned is written otherwise, wherever its text stands in a plan or in a statement;
  * `asked`: a statement, on its way to the store, is asked over other relations;
  * any method of `Bench` itself.
`queries` names queries of the market that must show the bug, `paces` the lanes that it takes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass, replace
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from tests.incremental.bench import Bench
from tests.incremental.history import MICROBATCH, REALTIME
from tidemill.core.change import PARENT, WEIGHT, ArrowStream, Output, Replaced, Slice, Statement
from tidemill.core.model import Asset, Column, Home, Job
from tidemill.core.ports import Engine, Head, Plan, Reader, Store, Table, Transaction, Work
from tidemill.runtime.catalog import Catalog
from tidemill.stores.duckdb import DuckDBStore

Ranges = Mapping[str, tuple[int, int]]


class WrongBench(Bench):
    """A bench with something wrong."""

    queries: ClassVar[tuple[str, ...]] = ()
    paces: ClassVar[tuple[str, ...]] = (REALTIME, MICROBATCH)

    def make_store(self, tables: DuckDBStore) -> Store:
        store: Any = WrongStore(tables, self)
        return store

    def make_engine(self, tables: DuckDBStore, catalog: Catalog) -> Engine:
        return WrongEngine(super().make_engine(tables, catalog), self)

    def rewrite(self, text: str) -> str:
        """A text of a plan or of a statement, as it shall be."""
        return text

    def work(self, work: Work) -> Work:
        """What the engine is to work on."""
        return work

    def output(self, asset: str, output: Output) -> Output:
        """What is written of it."""
        return output

    def asked(self, statement: Statement) -> Statement:
        """What the store is asked to compute."""
        return statement

    def table(self, table: Table) -> Table:
        """The shape that it is written in."""
        return table


class WrongEngine:
    """An engine around another, which is told something else and whose plans are rewritten."""

    def __init__(self, inner: Engine, bench: WrongBench) -> None:
        self._inner = inner
        self._bench = bench

    def plan(self, job: Job, inputs: Mapping[str, Asset]) -> Plan:
        plan: Plan = rewritten(self._inner.plan(job, inputs), self._bench.rewrite)
        return plan

    def compute(self, work: Work, reader: Reader) -> Any:
        return self._inner.compute(self._bench.work(work), reader)


def rewritten(part: Any, rewrite: Callable[[str], str]) -> Any:
    """A plan with every text in it rewritten; a word alone is a name and no text."""
    if isinstance(part, str):
        return rewrite(part) if " " in part else part
    if isinstance(part, tuple | list):
        return type(part)(rewritten(each, rewrite) for each in part)
    if isinstance(part, Mapping):
        return {name: rewritten(each, rewrite) for name, each in part.items()}
    if is_dataclass(part) and not isinstance(part, type):
        return replace(part, **{each.name: rewritten(getattr(part, each.name), rewrite) for each in fields(part)})
    return part


class WrongStore:
    """A store around another, whose transactions are handed something else."""

    home = Home.TABLES

    def __init__(self, inner: DuckDBStore, bench: WrongBench) -> None:
        self._inner = inner
        self._bench = bench

    def begin(self, *, exclusive: bool = True) -> Any:
        return WrongTransaction(self._inner.begin(exclusive=exclusive), self._bench)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class WrongTransaction:
    """A transaction around another. Base rows and mirrors go through it as they are."""

    def __init__(self, inner: Transaction, bench: WrongBench) -> None:
        self._inner = inner
        self._bench = bench

    def write(self, asset: str, output: Output) -> int:
        if asset not in self._bench.bases:
            rows: ArrowStream | Statement = output.rows
            if isinstance(rows, Statement):
                output = replace(output, rows=self._otherwise(rows))
            output = self._bench.output(asset, output)
        return self._inner.write(asset, output)

    def evaluate(self, statement: Statement) -> Any:
        inner: Any = self._inner
        return inner.evaluate(self._otherwise(statement))

    def _otherwise(self, statement: Statement) -> Statement:
        return self._bench.asked(replace(statement, sql=self._bench.rewrite(statement.sql)))

    def define(self, table: Table) -> Head:
        is_given = table.asset in self._bench.bases
        return self._inner.define(table if is_given else self._bench.table(table))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


def over(rows: Any, select: str) -> Statement:
    """A statement over the rows of another one; `select` reads them as `made`."""
    assert isinstance(rows, Statement)
    return replace(rows, sql=f"WITH made AS ({rows.sql}) {select}")


# ---------------------------------------------------------------------------------------- what a run takes


class InputForgotten(WrongBench):
    """Changes of a job's second input are taken, and not looked at."""

    queries = ("join_left", "group_of_join", "exists")

    def work(self, work: Work) -> Work:
        other = list(work.ranges)[-1]
        seen = self.__dict__.setdefault("seen", {}).setdefault(work.job.name, work.ranges[other][1])
        return replace(work, ranges={**work.ranges, other: (min(work.ranges[other][0], seen), seen)})


class LastChangeLost(WrongBench):
    """The last change of a change set is taken, and not looked at."""

    queries = ("filter", "group_by", "running")

    def work(self, work: Work) -> Work:
        return replace(work, ranges={name: (from_, max(from_, to - 1)) for name, (from_, to) in work.ranges.items()})


class FirstChangeLost(WrongBench):
    """The first change of a change set is taken, and not looked at."""

    queries = ("project", "unnest_in_select")

    def work(self, work: Work) -> Work:
        return replace(work, ranges={name: (min(from_ + 1, to), to) for name, (from_, to) in work.ranges.items()})


class LongRangesCut(WrongBench):
    """Only the end of a long change set is looked at: realtime is right, a batch is not."""

    queries = ("project",)

    def work(self, work: Work) -> Work:
        cut = {name: (max(from_, to - 60) if from_ else 0, to) for name, (from_, to) in work.ranges.items()}
        return replace(work, ranges=cut)


class RebuildIsAnother(WrongBench):
    """A rebuild sees other rows than the increments saw."""

    queries = ("group_by", "project")

    def work(self, work: Work) -> Work:
        if not work.whole:
            return work
        return replace(work, ranges={name: (from_, to - 1) for name, (from_, to) in work.ranges.items()})


# ------------------------------------------------------------------------------------- what is made of it


class RemovalsIgnored(WrongBench):
    """Rows whose input row is gone stay."""

    queries = ("project", "unnest_left")

    def output(self, asset: str, output: Output) -> Output:
        if not isinstance(output, Replaced) or not isinstance(output.parents, Slice):
            return output
        there = replace(output.parents, images="added")
        return replace(output, parents=there)


class RowIdsCollide(WrongBench):
    """Rows that are not the same have the same identity."""

    queries = ("project", "unnest_in_from")

    def output(self, asset: str, output: Output) -> Output:
        if not isinstance(output, Replaced):
            return output
        return replace(output, rows=over(output.rows, f"SELECT * REPLACE (left({PARENT}, 1) AS {PARENT}) FROM made"))


class OtherTypes(WrongBench):
    """A table has wider types than its query."""

    queries = ("group_by",)

    def table(self, table: Table) -> Table:
        wide = tuple(Column(c.name, "hugeint" if c.type == "bigint" else c.type) for c in table.columns)
        return replace(table, columns=wide)


class NullIsLost(WrongBench):
    """NULL is compared as if it were a value like others: never equal to itself."""

    queries = ("join_on_null_safe", "struct_fields")

    def rewrite(self, text: str) -> str:
        return text.replace("IS NOT DISTINCT FROM", "=").replace("IS DISTINCT FROM", "<>")


# --------------------------------------------------------------------------------------- what is published


class OldImagesKept(WrongBench):
    """The published change sets do not say what went."""

    queries = ("group_by", "project")

    def published(self, asset: str, from_: int, to: int) -> pa.Table:
        changes = super().published(asset, from_, to)
        return changes.filter(pc.greater(changes[WEIGHT], 0))


class OldImagesInvented(WrongBench):
    """The published change sets show removed rows as they never were."""

    queries = ("group_by", "project")

    def published(self, asset: str, from_: int, to: int) -> pa.Table:
        changes = super().published(asset, from_, to)
        place = changes.schema.get_field_index(self.columns(asset)[0].name)
        values = pc.if_else(pc.greater(changes[WEIGHT], 0), changes.column(place), None)
        return changes.set_column(place, changes.schema.field(place), values)


PLANTED: Mapping[str, type[WrongBench]] = {
    "an input's changes are not looked at": InputForgotten,
    "the last change of a change set is lost": LastChangeLost,
    "the first change of a change set is lost": FirstChangeLost,
    "long change sets are cut": LongRangesCut,
    "a rebuild is another query": RebuildIsAnother,
    "removals are not passed on": RemovalsIgnored,
    "row ids collide": RowIdsCollide,
    "types are not the query's": OtherTypes,
    "NULL is not equal to NULL": NullIsLost,
    "old images are not published": OldImagesKept,
    "old images are published as they never were": OldImagesInvented,
}
