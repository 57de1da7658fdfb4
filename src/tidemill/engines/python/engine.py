"""The Python engine: functions over rows, over tables, over whole inputs, and functions that act outside.

Rules of this file:
  * it reads through the reader and returns outputs; it never writes, and all of a run is computed when it returns;
  * outputs of row-wise jobs belong to their input row: a changed row's outputs are replaced, a removed row's removed;
  * outputs of jobs by key belong to the key: `keyed.py` finds the keys that a change set touches, and their rows;
  * a row about to be parked (`Work.excluding`) has no outputs any more, so it counts as changed and is not called;
  * a version of a function is called only by that version: an unknown one is an error, never another's result.

Theory of operation. A row-wise run is one pass over the change set in chunks: the new images are handed to the
function, the identities of all images are what is replaced. Where the input can only grow there is nothing to replace.
What the engine must know of the inputs (which can retract, and their key) is decided in `plan` and travels in `Plan.statement`, so that `compute` needs nothing but its work and a reader.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from tidemill.core.change import HIDDEN, ORDINAL, PARENT, RID, WEIGHT, Appended, Became, Images, Output, Replaced, Slice
from tidemill.core.errors import DefinitionError, NotFound, PoisonRecord
from tidemill.core.model import Asset, Job, Takes
from tidemill.core.ports import Plan, Reader, Work
from tidemill.engines.python.apply import INDEX, Applied, keys_of
from tidemill.engines.python.calling import Caller, caller_of
from tidemill.engines.python.capture import captured
from tidemill.engines.python.columns import arrow_schema
from tidemill.engines.python.keyed import Affected, keyed_plan
from tidemill.engines.python.process import Workers
from tidemill.engines.python.run import Log, run_of
from tidemill.engines.python.spool import Spool
from tidemill.engines.python.table import TableCall, attributed, check_rowwise

__all__ = ["CHUNK_ROWS", "FunctionFailed", "PythonEngine"]

CHUNK_ROWS = 50_000
"""Input rows that a function is given at a time."""
CHECKED_SETS = 3
"""The first change sets of a `table` version that are computed twice to see that it is row-wise (rule 16)."""

_BELONGING = pa.schema([(PARENT, pa.string()), (ORDINAL, pa.int64())])

Function = Callable[..., Any]
OpenLog = Callable[[str], AbstractContextManager[Log | None]]
"""The log of a run, by its id: a function that takes a line, for as long as the context is open."""


class FunctionFailed(PoisonRecord):
    """A function raised on rows: `rows` are (input, row identity), `reasons` what it raised, `succeeded` how many went well."""

    def __init__(self, job: str, asset: str, failed: Sequence[tuple[str, str]], succeeded: int) -> None:
        others = f" (and {len(failed) - 1} more rows)" if len(failed) > 1 else ""
        super().__init__(f"job {job}: {failed[0][1]}, on row {failed[0][0]} of {asset}{others}")
        self.rows = tuple((asset, rid) for rid, _ in failed)
        self.reasons = tuple(reason for _, reason in failed)
        self.succeeded = succeeded


@dataclass(frozen=True, slots=True)
class _Shape:
    """What `plan` found out about the inputs."""

    retracting: tuple[str, ...] = ()
    input_key: tuple[str, ...] = ()

    def text(self) -> str:
        return json.dumps([self.retracting, self.input_key])

    @classmethod
    def read(cls, text: str) -> _Shape:
        return cls(*(tuple(part) for part in json.loads(text))) if text else cls()


class PythonEngine:
    """Runs the functions it has been given, each under its job's name and version."""

    def __init__(
        self,
        jobs: Iterable[Job] = (),
        functions: Mapping[str, Function] | None = None,
        open_log: OpenLog = lambda _run: nullcontext(),
    ) -> None:
        self._functions: dict[tuple[str, str], Function] = {}
        self._checked: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()
        self._workers = Workers()
        self._open_log = open_log
        self.adopt(jobs, functions or {})

    def adopt(self, jobs: Iterable[Job], functions: Mapping[str, Function]) -> None:
        """Know the functions of these jobs too; older versions stay known, for they may still be running."""
        with self._lock:
            self._functions |= {(job.name, job.version): functions[job.name] for job in jobs if job.name in functions}

    def plan(self, job: Job, inputs: Mapping[str, Asset]) -> Plan:
        """Row and table jobs are row-wise or by key, full jobs are recomputed; run jobs have no output rows."""
        if job.by:
            return keyed_plan(job, inputs)
        if job.takes in (Takes.ROW, Takes.TABLE) and len(job.inputs) != 1:
            raise DefinitionError(
                f"job {job.name} takes {job.takes} and has {len(job.inputs)} inputs",
                place=str(job.place),
                mend="give it one input, or say takes='full'",
            )
        shape = _Shape(
            tuple(name for name, asset in inputs.items() if asset.can_retract),
            inputs[job.inputs[0]].key if job.takes is Takes.TABLE else (),
        )
        if job.takes is Takes.TABLE and shape.retracting and not shape.input_key:
            raise DefinitionError(
                f"job {job.name} takes tables of {job.inputs[0]}, whose rows can change and have no key",
                place=str(job.place),
                mend="give the asset a key, or say takes='row' or takes='full'",
            )
        kind = "recompute" if job.takes is Takes.FULL else "rowwise"
        reason = "the function takes whole inputs" if job.takes is Takes.FULL else ""
        history = dict.fromkeys(inputs, reason) if reason else {}
        return Plan(kind, job.columns, _key(job), reason, shape.text(), history=history)

    def compute(self, work: Work, reader: Reader) -> Iterable[tuple[str, Output]]:
        """The outputs of one run; a run job's effects happen here, and it has no outputs.

        What the function prints goes to the run's log.
        """
        if work.job.takes is Takes.RUN:
            self.effect(work, reader)
            return ()
        with self._open_log(work.run) as log, captured(log):
            return self._computed(work, reader).items()

    def _computed(self, work: Work, reader: Reader) -> Mapping[str, Output]:
        takes = work.job.takes
        if work.job.by:
            return self._keyed(work, reader)
        if takes is Takes.ROW:
            return self._rowwise(work, reader, self._row_chunk)
        if takes is Takes.TABLE:
            return self._rowwise(work, reader, self._table_chunk)
        return self._full(work, reader)

    def effect(self, work: Work, reader: Reader, key: str = "") -> Mapping[str, Any]:
        """Run a job with outside effects once; `key` is its idempotency key. Its outputs have no versions of their own."""
        with self._open_log(work.run) as log, captured(log):
            run = run_of(work, reader, key=key, log=log)
            try:
                self._caller(work.job).run(run)
            finally:
                run.close()
        return {}

    def close(self) -> None:
        """End the worker processes."""
        self._workers.close()

    def _caller(self, job: Job) -> Caller:
        """How a run of this job calls its function. Raises NotFound for a version that is not loaded."""
        found = self._functions.get((job.name, job.version))
        if found is None:
            raise NotFound(
                f"the code of job {job.name} at version {job.version[:8]} is not loaded",
                mend="apply the new definition, or bring the old file back",
            )
        return caller_of(job, found, self._workers)

    def _rowwise(self, work: Work, reader: Reader, call_chunk: _Call) -> Mapping[str, Output]:
        """One pass over the change set, in chunks."""
        job, asset = work.job, work.job.inputs[0]
        shape, caller = _Shape.read(work.plan.statement), self._caller(job)
        retracts = asset in shape.retracting and not work.whole
        spools = {name: _spool(work) for name in job.outputs}
        excluded = set(work.excluding.get(asset, ()))
        parents: dict[str, None] = {}
        failed: list[tuple[str, str]] = []
        succeeded = 0
        for chunk in _chunks(reader.read(_part(work, asset, retracts))):
            parents |= dict.fromkeys(chunk.column(RID).to_pylist()) if retracts else {}
            images = _new_images(chunk, excluded if retracts else set())
            rids = images.column(RID).to_pylist()
            applied = call_chunk(work, caller, _visible(images), rids)
            failed += [(rids[failure.index], failure.reason) for failure in applied.failures]
            succeeded += applied.succeeded
            for spool, table in zip(spools.values(), applied.tables, strict=True):
                spool.add(table)
        if failed:
            raise FunctionFailed(job.name, asset, failed, succeeded)
        if work.whole:
            return {name: Replaced(spool, None) for name, spool in spools.items()}
        if retracts:
            return {name: Replaced(spool, tuple(parents)) for name, spool in spools.items()}
        return {name: Appended(spool) for name, spool in spools.items()}

    def _keyed(self, work: Work, reader: Reader) -> Mapping[str, Output]:
        """One call for each key that the change set touches."""
        job, affected, caller = work.job, Affected(work, reader), self._caller(work.job)
        if affected.is_empty and not affected.is_whole:
            return {}
        spools = {name: _spool(work) for name in job.outputs}
        failed: dict[str, str] = {}
        for chunk in affected.chunks():
            keys = [key for key, _, _ in keys_of(chunk)]
            applied = caller.keys(chunk, job.outputs, work.plan.columns)
            failed |= {keys[failure.index]: failure.reason for failure in applied.failures}
            for spool, table in zip(spools.values(), applied.tables, strict=True):
                spool.add(_belonging(table, keys))
        if failed:
            raise affected.failure(failed)
        return {name: Replaced(spool, affected.parents) for name, spool in spools.items()}

    def _row_chunk(self, work: Work, caller: Caller, images: pa.Table, rids: Sequence[str]) -> Applied:
        job = work.job
        applied = caller.rows(images, job.outputs, work.plan.columns)
        applied.tables = [_belonging(table, rids) for table in applied.tables]
        return applied

    def _table_chunk(self, work: Work, caller: Caller, images: pa.Table, rids: Sequence[str]) -> Applied:
        job = work.job
        if not rids:
            return Applied([pa.table({}) for _ in job.outputs])
        shape = _Shape.read(work.plan.statement)
        call = TableCall(job.name, lambda part: caller.tables([part], job.outputs, work.plan.columns).tables)
        tables = call(images)
        if self._is_to_check(job):
            check_rowwise(call, images, tables)
        key = shape.input_key if job.inputs[0] in shape.retracting else ()
        return Applied([attributed(call, table, images, rids, key) for table in tables], succeeded=len(rids))

    def _is_to_check(self, job: Job) -> bool:
        with self._lock:
            count = self._checked.get((job.name, job.version), 0)
            self._checked[job.name, job.version] = count + 1
        return count < CHECKED_SETS

    def _full(self, work: Work, reader: Reader) -> Mapping[str, Output]:
        job = work.job
        inputs = [_all(reader.read(_state(work, asset))) for asset in job.inputs]
        applied = self._caller(job).tables([_visible(table) for table in inputs], job.outputs, work.plan.columns)
        return {
            name: Became(_spooled(table), work.plan.key)
            for name, table in zip(job.outputs, applied.tables, strict=True)
        }


_Call = Callable[[Work, Caller, pa.Table, Sequence[str]], Applied]


def _key(job: Job) -> tuple[str, ...] | None:
    """Only a full job's rows are identified by their key; row-wise outputs belong to their input row."""
    return job.key if job.takes is Takes.FULL else None


def _part(work: Work, asset: str, retracts: bool) -> Slice:
    """The images a row-wise run reads. Over the whole, or over rows that only grow, what is excluded is not read."""
    from_, to = work.ranges[asset]
    excluding = tuple(work.excluding.get(asset, ()))
    if work.whole:
        return Slice(asset, 0, to, Images.STATE, work.released, excluding)
    if retracts:
        return Slice(asset, from_, to, Images.CHANGES, work.released)
    return Slice(asset, from_, to, Images.ADDED, work.released, excluding)


def _state(work: Work, asset: str) -> Slice:
    excluding = tuple(work.excluding.get(asset, ()))
    return Slice(asset, 0, work.ranges[asset][1], Images.STATE, work.released, excluding)


def _chunks(stream: Any, rows_max: int = CHUNK_ROWS) -> Iterator[pa.Table]:
    """The stream in tables of at most so many rows; a stream of no rows gives none."""
    kept: list[pa.RecordBatch] = []
    count = 0
    for whole in pa.RecordBatchReader.from_stream(stream):
        for start in range(0, whole.num_rows, rows_max):
            batch = whole.slice(start, rows_max)
            if count + batch.num_rows > rows_max:
                yield pa.Table.from_batches(kept)
                kept, count = [], 0
            kept.append(batch)
            count += batch.num_rows
    if kept:
        yield pa.Table.from_batches(kept)


def _all(stream: Any) -> pa.Table:
    return pa.RecordBatchReader.from_stream(stream).read_all()


def _new_images(chunk: pa.Table, excluded: set[str]) -> pa.Table:
    """The rows to call the function on."""
    if WEIGHT not in chunk.column_names:
        return chunk
    wanted = [
        weight > 0 and rid not in excluded
        for weight, rid in zip(chunk.column(WEIGHT).to_pylist(), chunk.column(RID).to_pylist(), strict=True)
    ]
    return chunk.filter(pa.array(wanted, pa.bool_()))


def _visible(table: pa.Table) -> pa.Table:
    return table.drop_columns([name for name in table.column_names if name in HIDDEN])


def _belonging(table: pa.Table, rids: Sequence[str]) -> pa.Table:
    """Row-by-row results with the row they belong to, and their place among its results."""
    indexes = table.column(INDEX).to_pylist()
    ordinals: list[int] = []
    before = -1
    for index in indexes:
        ordinals.append(ordinals[-1] + 1 if index == before else 0)
        before = index
    parents = pa.array([rids[index] for index in indexes], pa.string())
    table = table.drop_columns([INDEX]).add_column(0, PARENT, parents)
    return table.add_column(1, ORDINAL, pa.array(ordinals, pa.int64()))


def _spool(work: Work) -> Spool:
    """An empty spool that knows the declared columns, so that a result of no rows has them too."""
    spool = Spool(_BELONGING)
    if work.plan.columns and len(work.job.outputs) == 1:
        spool.add(pa.schema([*_BELONGING, *arrow_schema(work.plan.columns)]).empty_table())
    return spool


def _spooled(table: pa.Table) -> Spool:
    spool = Spool()
    spool.add(table)
    return spool
