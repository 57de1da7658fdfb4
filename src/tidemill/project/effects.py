"""What runs with outside effects do: call a function, start a command, write an extract.

Rules of this file:
  * an effect gets the pinned work, a reader and the idempotency key; it answers with the versions its outputs have now;
  * it may be called again with the same key: nothing here remembers that it was called.
"""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import pyarrow as pa

from tidemill.connectors.extract import write_extract
from tidemill.core.change import RID, Images, Slice, Statement
from tidemill.core.model import AssetKind, Job, Takes
from tidemill.core.ports import Ledger, Reader, Work
from tidemill.engines.command import end_command, run_command
from tidemill.engines.duckdb import DuckDBEngine
from tidemill.engines.python import PythonEngine
from tidemill.project.runlogs import RunLogs
from tidemill.project.tracing import of_work
from tidemill.runtime.catalog import Catalog
from tidemill.runtime.outside import Effect

__all__ = ["Effects"]


class _Evaluates(Protocol):
    def evaluate(self, statement: Statement) -> pa.Table: ...


def _path(rid: str) -> str:
    """The file that a row identity of a files asset names: `path`, or `path#hash#occurrence`."""
    return rid.rsplit("#", 2)[0] if rid.count("#") >= 2 else rid


@dataclass(slots=True)
class Effects:
    """Chooses the effect of a job."""

    catalog: Catalog
    python: PythonEngine
    sql: DuckDBEngine
    folder: Path
    logs: RunLogs
    ledger: Ledger
    _processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def of(self, job: Job) -> Effect:
        """The effect of this job's runs."""
        if job.takes is Takes.RUN:
            return self._call
        if job.takes is Takes.COMMAND:
            return self._command
        return self._extract

    def _call(self, work: Work, reader: Reader, key: str) -> Mapping[str, str]:
        return self.python.effect(self._traced(work), reader, key)

    def _command(self, work: Work, reader: Reader, key: str) -> Mapping[str, str]:
        try:
            run_command(
                self._traced(work),
                key,
                folder=self.folder,
                log=self.logs.path(work.run),
                files=self._files(work, reader),
                started=lambda process: self._processes.__setitem__(work.run, process),
            )
        finally:
            self._processes.pop(work.run, None)
        return {}

    def is_going(self, run: str) -> bool:
        """Whether the command of a run has been started and has not ended."""
        return run in self._processes

    def end(self, run: str) -> None:
        """End the command of a run, where it is one that is going on."""
        process = self._processes.get(run)
        if process is not None:
            end_command(process)

    def _traced(self, work: Work) -> Work:
        return replace(work, traceparents=of_work(self.ledger, self.catalog.assets, work))

    def _files(self, work: Work, reader: Reader) -> dict[str, list[str]]:
        """The files whose rows changed in the run's range, per files input."""
        found = {}
        for name, (from_, to) in work.ranges.items():
            if self.catalog.assets[name].kind is AssetKind.FILES and to > from_:
                rows = pa.table(reader.read(Slice(name, from_, to, Images.CHANGES)))
                found[name] = sorted({_path(rid) for rid in rows.column(RID).to_pylist()})
        return found

    def _extract(self, work: Work, reader: Reader, key: str) -> Mapping[str, str]:
        del key
        name = work.job.outputs[0]
        asset = self.catalog.assets[name]
        rows = reader.evaluate(self.sql.statement(work))  # type: ignore[attr-defined]
        return {name: write_extract(rows, self.folder / asset.path, asset.format or "csv")}
