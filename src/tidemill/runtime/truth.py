"""What a job's outputs should be: its transform over its whole inputs, read from where the truth lives (rule 29).

Rules of this file:
  * topics are read from their logs in the ledger, never from their mirrors; tables and landed files from their rows as
    they were at the job's cursors; behind a gate only what was released; parked rows are left out;
  * a SQL job is computed by its whole statement, however it is maintained: nothing of the incremental path is used;
  * what has expired is said, never left out silently.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import pyarrow as pa

from tidemill.core.change import OFFSET, RID, ArrowStream, Images, Output, Slice, Statement
from tidemill.core.errors import Expired, StateCorrupt
from tidemill.core.model import AssetKind, Home, Job, Takes
from tidemill.core.ports import Head, Plan, Progress, Reader, Work
from tidemill.runtime.catalog import Catalog
from tidemill.runtime.gate import gated_inputs, of_values, released_positions
from tidemill.runtime.parking import standing
from tidemill.runtime.rows import as_table
from tidemill.sql.bind import quoted

__all__ = ["Truth", "parked_rows", "work_at"]


def parked_rows(reader: Reader, job: Job) -> dict[str, tuple[str, ...]]:
    """The identities of the rows that the job keeps parked, by input."""
    found: dict[str, tuple[str, ...]] = {}
    for row in standing(reader, job):
        found[row.asset] = (*found.get(row.asset, ()), row.rid)
    return found


def work_at(job: Job, plan: Plan, progress: Progress, run: str, excluding: Mapping[str, tuple[str, ...]]) -> Work:
    """The job's whole work at its own cursors."""
    ranges = {asset: (0, progress.cursors.get(asset, 0)) for asset in job.inputs}
    released = job.name if job.gate is not None else ""
    return Work(job, plan, ranges, run, whole=True, released=released, excluding=excluding)


@dataclass(slots=True)
class Truth:
    """A reader of inputs as they truly are, and of what a job makes of them; over one snapshot of both stores."""

    catalog: Catalog
    tables: Reader
    ledger: Reader
    _logs: dict[Slice, pa.Table] = field(default_factory=dict)

    def head(self, asset: str) -> Head:
        """The end of the asset's log."""
        return self._home(asset).head(asset)

    def read(self, part: Slice) -> ArrowStream:
        """The rows of a slice."""
        if not self._is_topic(part.asset) or part.images != Images.STATE:
            return self._checked(self._home(part.asset), part)
        rows: ArrowStream = self.log(part)
        return rows

    def evaluate(self, statement: Statement) -> ArrowStream:
        """The rows of a statement over inputs as they truly are (jobs by key)."""
        rows: ArrowStream = self.tables.evaluate(self._true(statement))  # type: ignore[attr-defined]
        return rows

    def log(self, part: Slice) -> pa.Table:
        """The state of a topic, from its log. Raises Expired where the log does not go back that far."""
        if part not in self._logs:
            gated = self._released(part) if part.released else None
            self._logs[part] = self._whole(replace(part, released="")) if gated is None else gated
        return self._logs[part]

    def outputs(self, work: Work) -> Mapping[str, Output]:
        """What the job's outputs should be: `Became`, or for row-wise work `Replaced` with `parents` None."""
        engine = self.catalog.engines[work.job.takes]
        if work.job.takes is Takes.SQL and work.plan.kind == "incremental":
            work = replace(work, plan=replace(work.plan, kind="recompute", detail=None))
        return {asset: replace(output, rows=self._rows(output)) for asset, output in engine.compute(work, self)}

    def typed(self, topic: str, rows: pa.Table) -> Statement:
        """Rows of a topic that went through Arrow, in the topic's types again."""
        columns = [f"CAST({quoted(c.name)} AS {c.type}) AS {quoted(c.name)}" for c in self.catalog.asset(topic).columns]
        return Statement(f"SELECT {', '.join([RID, OFFSET, *columns])} FROM {quoted('@input:@log')}", {"@log": rows})

    def _rows(self, output: Output) -> ArrowStream | Statement:
        """The rows of an output as something that can be read twice, its topics' slices replaced by their logs."""
        if isinstance(output.rows, Statement):
            return self._true(output.rows)
        rows: ArrowStream = as_table(output.rows)
        return rows

    def _true(self, statement: Statement) -> Statement:
        """The statement with the slices of topics replaced by their logs."""
        relations: dict[str, Slice | ArrowStream] = {}
        tables = []
        for name, what in statement.relations.items():
            if not (isinstance(what, Slice) and self._is_topic(what.asset)):
                relations[name] = self._present(what) if isinstance(what, Slice) else what
                continue
            typed = self.typed(what.asset, self.log(what))
            relations[f"@log:{name}"] = typed.relations["@log"]
            text = typed.sql.replace(quoted("@input:@log"), quoted(f"@input:@log:{name}"))
            tables.append(f"{quoted(f'@input:{name}')} AS ({text})")
        if not tables:
            return Statement(statement.sql, relations)
        return Statement(f"WITH {', '.join(tables)} SELECT * FROM ({statement.sql.strip().rstrip(';')}\n)", relations)

    def _present(self, part: Slice) -> Slice:
        """The slice, once it is sure that its history is there."""
        self._checked(self._home(part.asset), replace(part, from_=part.to, images=Images.ADDED, released=""))
        return part

    def _checked(self, home: Reader, part: Slice) -> ArrowStream:
        try:
            return home.read(part)
        except (StateCorrupt, Expired) as error:
            raise self._expired(part.asset, str(error)) from error

    def _whole(self, part: Slice) -> pa.Table:
        rows = as_table(self._checked(self.ledger, replace(part, excluding=())))
        if not self.catalog.assets[part.asset].can_retract and rows.num_rows < part.to:
            raise self._expired(part.asset, f"{part.to - rows.num_rows} of its first {part.to} events are gone")
        return without(rows, part.excluding)

    def _released(self, part: Slice) -> pa.Table | None:
        """What a gate released of a topic, each value as it was then; None where the gate does not concern it."""
        job = self.catalog.jobs[part.released]
        if part.asset not in {asset.name for asset in gated_inputs(self.catalog, job)} or job.gate is None:
            return None
        own = self.tables if job.home is Home.TABLES else self.ledger
        values = released_positions(own, job).get(part.asset, {})
        pieces = [self._whole(replace(part, to=0, released=""))]
        for position in sorted(set(values.values())):
            rows = self._whole(replace(part, to=min(position, part.to), released=""))
            pieces.append(of_values(rows, job.gate.column, [value for value, at in values.items() if at == position]))
        return pa.concat_tables(pieces)

    def _expired(self, asset: str, reason: str) -> Expired:
        return Expired(
            f"the history of `{asset}` has expired, so the truth cannot be computed again: {reason}",
            mend="nothing was changed; compare with what another system holds: tidemill reconcile --against",
        )

    def _home(self, asset: str) -> Reader:
        return self.tables if self.catalog.home(asset) is Home.TABLES else self.ledger

    def _is_topic(self, asset: str) -> bool:
        return "@" not in asset and self.catalog.assets[asset].kind is AssetKind.TOPIC


def without(rows: pa.Table, excluding: tuple[str, ...]) -> pa.Table:
    """The rows but for those of these identities."""
    if not excluding:
        return rows
    return rows.filter(pa.compute.invert(pa.compute.is_in(rows.column(RID), pa.array(excluding, pa.string()))))
