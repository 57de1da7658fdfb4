"""Auditing one reader of one log: of the events in a range, which were taken, put aside, left out, and which are missing.

Rules of this file:
  * the log is counted where it lives, the reader by what it left behind: its runs' ranges, its parked set, its copy of the
    topic, its rows; nobody's word is taken for both sides;
  * a pure job whose result is what its whole inputs give has missed nothing, whatever its reports say;
  * it only reads, one snapshot of each store.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import pyarrow as pa
import pyarrow.compute as pc

from tidemill.core.change import OFFSET, ORDINAL, PARENT, RID, ArrowStream, Images, Replaced, Slice, Statement
from tidemill.core.model import Home, Job
from tidemill.core.ports import Plan, Progress, Reader
from tidemill.runtime.catalog import Catalog
from tidemill.runtime.compare import given_identity
from tidemill.runtime.mirror import Mending
from tidemill.runtime.parking import ParkedRow
from tidemill.runtime.rows import as_table
from tidemill.runtime.truth import Truth, parked_rows, work_at
from tidemill.sql.bind import quoted

__all__ = ["MISSING_SHOWN", "Counting", "Counts", "Ranges", "gaps"]

MISSING_SHOWN = 20
"""So many missing events are listed."""

Ranges = list[tuple[int, int]]
"""Ranges of offsets, each (from, to]: without the first, with the last."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What became of the events of one input in (from_, to], as far as one job is concerned; they add up to `log`.

    `skipped` are rows that a row-by-row job makes nothing of, `passed_over` those that a person let it start behind,
    `waiting` those beyond its cursor. `listed` are the first of the missing ones: `{offset, id}`.
    """

    job: str
    asset: str
    from_: int
    to: int
    log: int = 0
    taken: int = 0
    parked: int = 0
    skipped: int = 0
    passed_over: int = 0
    waiting: int = 0
    missing: int = 0
    listed: Sequence[Mapping[str, Any]] = field(default_factory=list)


def gaps(covered: Iterable[tuple[int, int]], to: int) -> Ranges:
    """What lies between ranges, from the end of the first to `to`; nothing before the first is known of."""
    found: Ranges = []
    reached: int | None = None
    for low, high in sorted((low, high) for low, high in covered if high > low or low == 0):
        if reached is not None and low > reached:
            found.append((reached, low))
        reached = max(high, reached or 0)
    if reached is not None and reached < to:
        found.append((reached, to))
    return found


@dataclass(slots=True)
class Counting:
    """Counts for one job, over one snapshot of both stores; `own` is that of the job's home."""

    catalog: Catalog
    job: Job
    plan: Plan
    progress: Progress
    tables: Reader
    ledger: Reader
    own: Reader
    parked: Sequence[ParkedRow] = ()
    passed_over: Mapping[str, Ranges] = field(default_factory=dict)

    def count(self, asset: str, from_: int, to: int, suspected: Ranges | None) -> Counts:
        """The counts of one input. `suspected` are ranges that no run took, or None where nothing is missing."""
        log = self._log(asset, from_, to)
        offsets, cursor = log.column(OFFSET), self.progress.cursors.get(asset, 0)
        seen = log.filter(pc.less_equal(offsets, cursor))
        parked = _is_among(seen, RID, [row.rid for row in self.parked if row.asset == asset])
        passed = _is_within(seen, self.passed_over.get(asset, []))
        rest = seen.filter(pc.invert(pc.or_(parked, passed)))
        made, lacking = self._parents()
        lost = _none(rest)
        if suspected is not None:
            lost = pc.or_(_is_within(rest, suspected), pc.or_(self._is_uncopied(asset, rest, from_), lacking(rest)))
        skipped = pc.and_(pc.invert(made(rest)), pc.invert(lost))
        missing, left_out, count = rest.filter(lost), pc.sum(skipped).as_py() or 0, seen.num_rows
        return Counts(
            self.job.name,
            asset,
            from_,
            to,
            log=log.num_rows,
            taken=rest.num_rows - missing.num_rows - left_out,
            parked=pc.sum(parked).as_py() or 0,
            skipped=left_out,
            passed_over=count - rest.num_rows - (pc.sum(parked).as_py() or 0),
            waiting=log.num_rows - count,
            missing=missing.num_rows,
            listed=self._listed(asset, missing),
        )

    def _log(self, asset: str, from_: int, to: int) -> pa.Table:
        """The events, or the rows that changed last, in the range, where they truly are."""
        home = self.tables if self.catalog.home(asset) is Home.TABLES else self.ledger
        rows = as_table(home.read(Slice(asset, from_, to, Images.ADDED)))
        return rows.select([RID, OFFSET, *self._called(asset)])

    def _called(self, asset: str) -> list[str]:
        """The columns by which people call a row."""
        definition = self.catalog.asset(asset)
        return [definition.id] if definition.id else list(definition.key)

    def _listed(self, asset: str, rows: pa.Table) -> list[dict[str, Any]]:
        names = self._called(asset)
        listed = []
        for row in rows.sort_by(OFFSET).slice(0, MISSING_SHOWN).to_pylist():
            values = [row[name] for name in names]
            listed.append(
                {"offset": row[OFFSET], "id": (values[0] if len(values) == 1 else values) if values else row[RID]}
            )
        return listed

    def _is_uncopied(self, asset: str, rows: pa.Table, from_: int) -> pa.ChunkedArray:
        """Which rows are not in the copy of the topic that the job reads."""
        has_copy = self.plan.is_mirrored and self.job.home is Home.TABLES
        if not has_copy or self.catalog.home(asset) is Home.TABLES or not rows.num_rows:
            return _none(rows)
        to = self.tables.head(asset).offset
        copied = as_table(self.tables.read(Slice(asset, min(from_, to), to, Images.ADDED)))
        is_copied = pc.is_in(rows.column(OFFSET), copied.column(OFFSET))
        return pc.and_(pc.less_equal(rows.column(OFFSET), to), pc.invert(is_copied))

    def _parents(self) -> tuple[Any, Any]:
        """Two tests of input rows: whether the job makes something of them, and whether that is not all there.

        Only rows of row-by-row jobs are told apart; of any other everything goes into the whole.
        """
        is_traced = self.plan.kind == "rowwise" and self.job.gate is None and self.job.home is Home.TABLES
        if not is_traced or not self.progress.run:
            return (lambda rows: pc.invert(_none(rows))), _none
        truth = Truth(self.catalog, self.tables, self.ledger)
        work = work_at(self.job, self.plan, self.progress, self.progress.run, parked_rows(self.own, self.job))
        made: list[str] = []
        lacking: list[str] = []
        for output, rows in truth.outputs(work).items():
            if isinstance(rows, Replaced):
                found = self._compared(output, rows.rows)
                made += found.column("parent").to_pylist()
                lacking += found.filter(found.column("is_lacking")).column("parent").to_pylist()
        return (lambda rows: _is_among(rows, RID, made)), (lambda rows: _is_among(rows, RID, lacking))

    def _compared(self, output: str, wanted: ArrowStream | Statement) -> pa.Table:
        """Per input row that something is made of: whether some of that is not there."""
        relations: dict[str, Slice | ArrowStream] = {"@live": Slice(output, 0, self.own.head(output).offset)}
        if isinstance(wanted, Statement):
            relations |= wanted.relations
            text = f"({wanted.sql.strip().rstrip(';')}\n)"
            names = [PARENT, ORDINAL] if ORDINAL in wanted.sql else [PARENT]
        else:
            relations["@wanted"], text = wanted, quoted("@input:@wanted")
            names = as_table(wanted).column_names
        made = f"SELECT {PARENT}, {given_identity(names)} AS _id FROM {text}"
        statement = (
            f"SELECT {PARENT} AS parent, count(_live.{RID}) < count(*) AS is_lacking FROM ({made}) AS _made "
            f"LEFT JOIN {quoted('@input:@live')} AS _live ON _live.{RID} = _made._id GROUP BY {PARENT}"
        )
        return as_table(cast(Mending, self.tables).evaluate(Statement(statement, relations)))


def _none(rows: pa.Table) -> pa.ChunkedArray:
    return pa.chunked_array([pa.repeat(pa.scalar(False), rows.num_rows)], pa.bool_())


def _is_among(rows: pa.Table, column: str, values: Sequence[str]) -> pa.ChunkedArray:
    return pc.is_in(rows.column(column), pa.array(values, pa.string()))


def _is_within(rows: pa.Table, ranges: Ranges) -> pa.ChunkedArray:
    """Which rows have an offset in one of the ranges."""
    within, offsets = _none(rows), rows.column(OFFSET)
    for low, high in ranges:
        within = pc.or_(within, pc.and_(pc.greater(offsets, low), pc.less_equal(offsets, high)))
    return within
