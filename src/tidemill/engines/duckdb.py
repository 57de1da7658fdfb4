"""The SQL engine: turns a SQL job's plan into statements that the tables store runs itself.

Rules of this file:
  * it computes nothing: rows stay in DuckDB, a run is statements over slices of its inputs;
  * row-wise plans see the new images of the change set and replace the outputs of the rows that changed; incremental
    plans maintain their stages (`engines/stages`); everything else, and every gated job and extract, is recomputed from
    the inputs as they are, and the store makes the difference;
  * result types are DuckDB's own (`describe`), never guessed.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Protocol, cast

import pyarrow as pa

from tidemill.core.change import Appended, ArrowStream, Became, Images, Output, Replaced, Slice, Statement
from tidemill.core.errors import DefinitionError, UserError
from tidemill.core.model import Asset, Column, Home, Job, Materialized
from tidemill.core.ports import Plan, Reader, Work
from tidemill.engines import kept
from tidemill.engines.stages import (
    Chooser,
    Layout,
    Maintenance,
    described,
    lay_out,
    needed,
    statements,
    summary,
    unfit_key,
)
from tidemill.engines.stages.maintain import Evaluating
from tidemill.sql import SqlPlan, plan

__all__ = ["DuckDBEngine", "Evaluator"]

_ABOUT = re.compile(r"with name (\w+) does not exist|'(\w+)\(|column \"(\w+)\"")
"""What a message of the database names: a function that is not there, one with other arguments, a column."""


class Evaluator(Protocol):
    """What the engine asks of the database beside the store's port."""

    def describe(self, sql: str, tables: Mapping[str, tuple[Column, ...]]) -> tuple[Column, ...]:
        """The exact columns of a statement over empty inputs of these shapes."""

    def evaluate(self, statement: Statement) -> pa.Table:
        """The rows of a statement whose relations are all handed over."""


class DuckDBEngine:
    """Plans and computes SQL jobs. `assets` answers with the definition of an input, `views` with all views' SQL.

    `written` gives the SQL of a job as the user wrote it, and the line it starts on: asked only to say where an error is.
    `plans` keeps what was compiled; without it everything is compiled anew.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        assets: Callable[[str], Asset],
        views: Callable[[], Mapping[str, str]],
        written: Callable[[Job], tuple[str, int] | None] = lambda _job: None,
        plans: kept.Plans | None = None,
    ) -> None:
        self._evaluator = evaluator
        self._assets = assets
        self._views = views
        self._written = written
        self._plans = plans
        self.chooser = Chooser()

    def plan(self, job: Job, inputs: Mapping[str, Asset]) -> Plan:
        """Decide how the job is maintained: as it is kept, or compiled now. Raises DefinitionError."""
        if self._plans is None:
            made = self._compiled(job, inputs)
            return replace(made, history=_history(made, inputs))
        name = kept.name_of(job, inputs, self._views())
        found = kept.read(self._plans.get(job.name, name))
        if found is None:
            found = self._compiled(job, inputs)
            self._plans.put(job.name, name, kept.written(found))
        return replace(found, history=_history(found, inputs))

    def _compiled(self, job: Job, inputs: Mapping[str, Asset]) -> Plan:
        schemas = {name: _schema(asset) for name, asset in inputs.items()}
        is_staged = job.gate is None and job.materialized is Materialized.TABLE and job.home is Home.TABLES
        retracting = [name for name, asset in inputs.items() if asset.can_retract] if is_staged else None
        place, line = job.place.file, max(1, job.place.line)
        try:
            is_file = job.materialized is Materialized.EXTRACT
            made = plan(
                job.transform,
                schemas,
                place,
                line,
                self._views(),
                retracting=retracting,
                key=job.key,
                keeps_order=is_file,
            )
        except DefinitionError as error:
            raise self._where_it_is_written(job, schemas) or error from error
        columns = self._described(job, made, inputs)
        _check_key(job, columns)
        if made.staged is not None:
            return self._staged(job, made, columns, inputs)
        key = job.key if job.key is not None else made.key
        kind = "recompute" if job.materialized is Materialized.EXTRACT else made.kind
        statement = made.statement if kind == made.kind else _recomputing(made)
        return Plan(kind, columns, key, made.reason, statement, is_mirrored=kind == "recompute")

    def _where_it_is_written(self, job: Job, schemas: Mapping[str, Any]) -> DefinitionError | None:
        """The same error with its line in the user's file; a job's own text has views put in and no lines left."""
        written = self._written(job)
        if written is None:
            return None
        try:
            plan(written[0], schemas, job.place.file, written[1], self._views())
        except DefinitionError as error:
            return error
        return None  # the file was changed since

    def _described(self, job: Job, made: SqlPlan, inputs: Mapping[str, Asset]) -> tuple[Column, ...]:
        """The columns; what only the database finds wrong (a function, a type) is said with its line too."""
        try:
            return self._columns(made, inputs)
        except UserError as error:
            text, line = self._written(job) or ("", max(1, job.place.line))
            message = error.message.partition("\n")[0]
            place = f"{job.place.file}:{line + _lines_before(text, message)}"
            raise DefinitionError(message, place=place, mend=error.mend) from error

    def _staged(self, job: Job, made: SqlPlan, columns: tuple[Column, ...], inputs: Mapping[str, Asset]) -> Plan:
        key = job.key if job.key is not None else made.key
        assert made.staged is not None
        layout = lay_out(job, made.staged, columns, inputs, self._evaluator.describe)
        if unfit := unfit_key(layout):
            reason = f"it groups by {unfit}, and the floating point numbers or intervals inside have several texts each"
            return Plan("recompute", columns, key, reason, made.statement, is_mirrored=True)
        whole = Plan(made.kind, columns, key, summary(layout), made.statement, is_mirrored=True)
        return replace(whole, tables=layout.tables, detail=layout)

    def _columns(self, made: SqlPlan, inputs: Mapping[str, Asset]) -> tuple[Column, ...]:
        if any(not asset.columns for asset in inputs.values()):
            return ()
        return self._evaluator.describe(made.canonical, {name: asset.columns for name, asset in inputs.items()})

    def stages(self, plan: Plan, job: str) -> list[dict[str, object]]:
        """The stages of an incremental plan for people, none for any other."""
        return described(plan.detail, self.chooser, job) if isinstance(plan.detail, Layout) else []

    def statements(self, plan: Plan) -> list[dict[str, str]]:
        """The statements of an incremental plan by stage; of any other the one it runs."""
        return statements(plan.detail) if isinstance(plan.detail, Layout) else [{"whole": plan.statement}]

    def compute(self, work: Work, reader: Reader) -> Iterable[tuple[str, Output]]:
        """The output as a statement over slices (rows are handed over where the input lives in the ledger)."""
        if work.plan.kind == "incremental":
            layout = cast(Layout, work.plan.detail)
            return Maintenance(work, layout, cast(Evaluating, reader), self.chooser).run()
        output = self._rowwise(work, reader) if work.plan.kind == "rowwise" else self._recompute(work)
        return [(work.job.outputs[0], output)] if output is not None else []

    def _recompute(self, work: Work) -> Output:
        return Became(self.statement(work), work.plan.key)

    def statement(self, work: Work) -> Statement:
        """The job's whole result at the end of the ranges."""
        relations: dict[str, Slice | ArrowStream] = {
            asset: Slice(asset, 0, to, Images.STATE, work.released, work.excluding.get(asset, ()))
            for asset, (_, to) in work.ranges.items()
        }
        return Statement(work.plan.statement, relations)

    def _rowwise(self, work: Work, reader: Reader) -> Output | None:
        ((name, (from_, to)),) = work.ranges.items()
        asset = self._assets(name)
        left_out = work.excluding.get(name, ())
        if work.whole:
            part = Slice(name, 0, to, Images.STATE, work.released, left_out)
            return Replaced(self._over(work, asset, part, reader), None)
        if to <= from_:
            return None
        added = Slice(name, from_, to, Images.ADDED, "", left_out)
        rows = self._over(work, asset, added, reader)
        if not asset.can_retract:
            return Appended(rows)
        changed = Slice(name, from_, to, Images.CHANGES)
        if asset.home is Home.TABLES:
            return Replaced(rows, changed)
        # An event that says the same again is added, and no change.
        return Replaced(rows, [*dict.fromkeys([*_row_ids(reader.read(changed)), *_row_ids(reader.read(added))])])

    def _over(self, work: Work, asset: Asset, part: Slice, reader: Reader) -> Statement | ArrowStream:
        is_stored = asset.home is Home.TABLES
        statement = Statement(work.plan.statement, {asset.name: part if is_stored else reader.read(part)})
        if work.job.home is Home.TABLES:
            return statement
        if is_stored:
            statement = Statement(work.plan.statement, {asset.name: reader.read(part)})
        rows: ArrowStream = self._evaluator.evaluate(statement)
        return rows


def _lines_before(text: str, message: str) -> int:
    """How many lines stand before the function or column that a message of the database is about."""
    about = _ABOUT.search(message)
    found = re.search(rf"\b{re.escape(about[1] or about[2] or about[3])}\b", text, re.IGNORECASE) if about else None
    return text.count("\n", 0, found.start()) if found else max(0, len(text) - len(text.lstrip("\n")))


def _history(plan: Plan, inputs: Mapping[str, Asset]) -> Mapping[str, str]:
    """The inputs whose rows are read again."""
    if isinstance(plan.detail, Layout):
        return needed(plan.detail.stages)
    return dict.fromkeys(inputs, "it is computed over all rows") if plan.kind == "recompute" else {}


def _schema(asset: Asset) -> dict[str, str] | None:
    return {column.name: column.type for column in asset.columns} or None


def _check_key(job: Job, columns: Sequence[Column]) -> None:
    """Raise DefinitionError for a key of columns that the job does not make."""
    known = {column.name.lower(): column.name for column in columns}
    for name in job.key or ():
        if name.lower() not in known:
            near = difflib.get_close_matches(name.lower(), known, 1)
            raise DefinitionError(
                f"job {job.name}: key names {name}, which is not a column of its output",
                place=str(job.place),
                mend=f"write {known[near[0]]}" if near else f"the columns are {', '.join(known.values())}",
            )


def _recomputing(made: SqlPlan) -> str:
    """The statement of a row-wise plan without its lineage: the canonical query over the inputs."""
    text = made.canonical
    for name in made.inputs:
        quoted = '"' + name.replace('"', '""') + '"'
        text = text.replace(f"FROM {quoted}", f'FROM "@input:{name}"', 1)
    return text


def _row_ids(stream: ArrowStream) -> list[str]:
    table = stream if isinstance(stream, pa.Table) else pa.table(stream)
    return list(dict.fromkeys(table.column("_rid").to_pylist()))
