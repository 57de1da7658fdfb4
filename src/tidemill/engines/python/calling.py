"""Where a function is called: right here, in a thread that may be abandoned, or in a process that may be killed.

Rules of this file:
  * `timeout` bounds the whole run, however many chunks it is called for;
  * a thread that takes too long is abandoned: it goes on, but nobody looks at its result, and its run answers no more;
  * a process that takes too long is killed, with whatever it was doing;
  * the choice of place never changes a result: the same tables go in and come out.
"""

from __future__ import annotations

import contextvars
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

import pyarrow as pa

from tidemill.core.errors import TidemillError, UserError
from tidemill.core.model import Column, Isolation, Job
from tidemill.engines.python.apply import Applied, apply_keys, apply_rows, apply_tables
from tidemill.engines.python.definition import Definition
from tidemill.engines.python.process import ProcessTimedOut, Workers
from tidemill.engines.python.run import Run

__all__ = ["Caller", "RunTimedOut", "caller_of"]

T = TypeVar("T")
Function = Callable[..., Any]


class RunTimedOut(TidemillError):
    """A run took longer than its job's timeout."""


class Caller(Protocol):
    """Calls one job's function for one run."""

    def rows(self, chunk: pa.Table, outputs: Sequence[str], columns: Sequence[Column]) -> Applied:
        """Row by row."""

    def keys(self, chunk: pa.Table, outputs: Sequence[str], columns: Sequence[Column]) -> Applied:
        """Key by key: `PARENT` says which key a row has."""

    def tables(self, tables: Sequence[pa.Table], outputs: Sequence[str], columns: Sequence[Column]) -> Applied:
        """Once, on whole tables."""

    def run(self, run: Run) -> None:
        """Once, with a run."""


def caller_of(job: Job, function: Function, workers: Workers) -> Caller:
    """How this run calls its function."""
    deadline = time.monotonic() + job.timeout_seconds if job.timeout_seconds else None
    if job.isolation is not Isolation.PROCESS:
        return _InThread(job, function, deadline)
    if not isinstance(function, Definition) or function.origin is None:
        raise UserError(
            f"job {job.name}: isolation: process needs a function from a file", mend="put the job into jobs/*.py"
        )
    return _InProcess(job, function, deadline, workers)


def _too_long(job: Job) -> RunTimedOut:
    mend = "raise timeout, lower max_changes, or see what the function waits for"
    return RunTimedOut(f"job {job.name} took longer than {job.timeout_seconds:g} s", mend=mend)


class _InThread:
    """Calls here; with a timeout in a thread of its own."""

    def __init__(self, job: Job, function: Function, deadline: float | None) -> None:
        self._job = job
        self._function = function
        self._deadline = deadline

    def rows(self, chunk: pa.Table, outputs: Sequence[str], columns: Sequence[Column]) -> Applied:
        return self._within(lambda: apply_rows(self._function, chunk, outputs, columns))

    def keys(self, chunk: pa.Table, outputs: Sequence[str], columns: Sequence[Column]) -> Applied:
        return self._within(lambda: apply_keys(self._function, chunk, outputs, columns))

    def tables(self, tables: Sequence[pa.Table], outputs: Sequence[str], columns: Sequence[Column]) -> Applied:
        return self._within(lambda: apply_tables(self._function, tables, outputs, columns))

    def run(self, run: Run) -> None:
        self._within(lambda: self._function(run))

    def _within(self, call: Callable[[], T]) -> T:
        """The result of the call, if it comes in time."""
        if self._deadline is None:
            return call()
        results: list[T] = []
        errors: list[BaseException] = []

        def work() -> None:
            try:
                results.append(call())
            except BaseException as error:  # noqa: BLE001 - it is raised again by who waits
                errors.append(error)

        context = contextvars.copy_context()  # what it prints is still its run's
        thread = threading.Thread(target=context.run, args=(work,), name=f"tidemill {self._job.name}", daemon=True)
        thread.start()
        thread.join(max(0.0, self._deadline - time.monotonic()))
        if errors:
            raise errors[0]
        if not results:
            raise _too_long(self._job)
        return results[0]


class _InProcess:
    """Calls in a worker process."""

    def __init__(self, job: Job, definition: Definition, deadline: float | None, workers: Workers) -> None:
        self._job = job
        self._definition = definition
        self._deadline = deadline
        self._workers = workers

    def rows(self, chunk: pa.Table, outputs: Sequence[str], columns: Sequence[Column]) -> Applied:
        return self._call("rows", [chunk], outputs, columns)

    def keys(self, chunk: pa.Table, outputs: Sequence[str], columns: Sequence[Column]) -> Applied:
        return self._call("keys", [chunk], outputs, columns)

    def tables(self, tables: Sequence[pa.Table], outputs: Sequence[str], columns: Sequence[Column]) -> Applied:
        return self._call("tables", tables, outputs, columns)

    def run(self, run: Run) -> None:
        try:
            self._workers.run(self._definition, run, self._deadline)
        except ProcessTimedOut:
            raise _too_long(self._job) from None

    def _call(
        self, kind: str, tables: Sequence[pa.Table], outputs: Sequence[str], columns: Sequence[Column]
    ) -> Applied:
        try:
            return self._workers.apply(self._definition, kind, tables, outputs, columns, deadline=self._deadline)
        except ProcessTimedOut:
            raise _too_long(self._job) from None
