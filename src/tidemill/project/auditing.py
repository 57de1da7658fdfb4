"""`audit` of an open project: every reader's counts beside the log's, the missing events by id, and the repair.

Rules of this file:
  * a pure job is first compared with what its whole inputs give (`reconcile`); only where that differs is something missing;
  * a job that acts outside leaves no rows here: what no run of it took is missing;
  * what a job was moved over is recorded with the move (`JOB@skipped`), until it is processed after all: it is no loss;
  * a time stands for the offset before it, which only topics know; every one is found before anything is counted.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from typing import Any

from tidemill.core.errors import TidemillError, UserError
from tidemill.core.model import AssetKind, Home, Job, Materialized
from tidemill.core.ports import Progress, Reader
from tidemill.project import reconciling
from tidemill.project.operations import Bound, Json
from tidemill.project.operations import Progress as Told
from tidemill.project.reconciled import learn
from tidemill.project.replaying import moment_of, offset_of
from tidemill.project.reports import found, plain
from tidemill.project.wiring import Machine
from tidemill.runtime.audit import Counting, Ranges, gaps
from tidemill.runtime.delivered import delivered, forgotten, runs_asset
from tidemill.runtime.parking import standing
from tidemill.runtime.perform import LazyReader
from tidemill.runtime.skipped import skipped

__all__ = ["audit"]

REPORTS_MAX = 100_000
"""So many reports of a job's newest runs are looked at; what lies before them is taken as read."""
_TOTALS = ("log", "taken", "parked", "skipped", "passed_over", "waiting", "missing")


def audit(
    machine: Machine,
    name: str = "",
    *,
    from_: Bound = 0,
    to: Bound = 0,
    repair: bool = False,
    progress: Told | None = None,
) -> Json:
    """The counts of every reader of an asset, of one job, or of all, over (from_, to].

    Raises UserError where nothing can lie between, and for a time over an asset that does not keep when its rows came.
    """
    start, end = ("" if word in (0, "0") else str(word) for word in (from_, to))
    _check_order(start, end)
    chosen = _readers(machine, name)
    bounds = {
        asset: (_offset(machine, asset, start), _offset(machine, asset, end))
        for _, assets in chosen
        for asset in assets
    }
    machine.journal.flush()
    readers = []
    for job, assets in chosen:
        one = _Audit(machine, job, bounds, progress)
        counted = one.counts(assets)
        if repair and any(reader["missing"] for reader in counted):
            counted = one.repaired(assets, counted)
        readers += counted
    return {
        "adds_up": not any(reader["missing"] or reader["error"] for reader in readers),
        **{word: sum(reader[word] for reader in readers) for word in _TOTALS},
        "repaired": sum(reader["repaired"] for reader in readers),
        "readers": readers,
    }


def _readers(machine: Machine, name: str) -> list[tuple[Job, list[str]]]:
    """The jobs that are audited, each with the inputs that are made of rows."""
    jobs, assets = machine.catalog.jobs, machine.catalog.assets
    if name and name not in jobs and name not in assets:
        found(jobs, name, "job or asset")
    chosen = [jobs[name]] if name in jobs else list(jobs.copy().values())
    only = "" if name in jobs else name
    read = [
        (job, [asset for asset in job.inputs if _has_rows(machine, asset) and only in ("", asset)]) for job in chosen
    ]
    return [(job, inputs) for job, inputs in read if inputs]


def _check_order(start: str, end: str) -> None:
    """Raise UserError where nothing can come after `start` and up to `end`; both say an offset or a time, or nothing."""
    if not start or not end or start.isdecimal() != end.isdecimal():
        return
    low, high = (int(word) if word.isdecimal() else moment_of(word) for word in (start, end))
    if high <= low:
        raise UserError(
            f"there is nothing after {'offset ' if start.isdecimal() else ''}{start} up to {end}",
            mend="give --from below --to",
        )


def _offset(machine: Machine, asset: str, word: str) -> int | None:
    """The offset that a bound says, which may lie beyond the head; None where it says nothing."""
    if word.isdecimal():
        return int(word)
    return offset_of(machine, asset, word) if word else None


def _has_rows(machine: Machine, asset: str) -> bool:
    return machine.catalog.is_rows(asset) and machine.catalog.assets[asset].kind is not AssetKind.CLOCK


@dataclass(slots=True)
class _Audit:
    """The audit of one job."""

    machine: Machine
    job: Job
    bounds: Mapping[str, tuple[int | None, int | None]]
    progress: Told | None

    def counts(self, assets: Sequence[str]) -> list[dict[str, Any]]:
        """The counts of each input, with the repair to type where something is missing."""
        differs, error = self._differs()
        machine, job = self.machine, self.job
        own = machine.stores[job.home].begin(exclusive=False)
        try:
            known = own.progress(job.name) or Progress(job.name, job.version)
            other = Home.LEDGER if job.home is Home.TABLES else Home.TABLES
            with closing(LazyReader(machine.stores[other])) as lazy:
                tables, ledger = (own, lazy) if job.home is Home.TABLES else (lazy, own)
                passed = {asset: self._passed_over(asset, known, own) for asset in assets}
                plan = machine.catalog.plan(job)
                counting = Counting(machine.catalog, job, plan, known, tables, ledger, own, standing(own, job), passed)
                return [self._counted(counting, asset, differs, error) for asset in assets]
        finally:
            own.rollback()

    def _counted(self, counting: Counting, asset: str, differs: bool, error: str) -> dict[str, Any]:
        home = counting.tables if self.machine.catalog.home(asset) is Home.TABLES else counting.ledger
        head, (from_, end) = home.head(asset).offset, self.bounds[asset]
        to = head if end is None else min(end, head)
        suspected = self._untaken(asset, counting) if differs else None
        one = asdict(counting.count(asset, min(from_ or 0, to), to, suspected))
        listed = [{"offset": row["offset"], "id": plain(row["id"])} for row in one.pop("listed")]
        return {
            "job": one.pop("job"),
            "asset": one.pop("asset"),
            "from": one.pop("from_"),
            **one,
            "missing_ids": listed,
            "repaired": 0,
            "error": error,
            "mend": self._mend() if listed else "",
        }

    def _is_pure(self) -> bool:
        return not self.job.is_outside and self.job.materialized is Materialized.TABLE

    def _differs(self) -> tuple[bool, str]:
        """Whether something may be missing, and why that cannot be told where it cannot."""
        if not self._is_pure():
            return True, ""
        known = self.machine.stores[self.job.home].positions().progress.get(self.job.name)
        if known is None or not known.run:
            return False, ""
        try:
            answer = reconciling.reconcile(self.machine, self.job.name, progress=self.progress)
        except TidemillError as error:
            return False, str(error)
        learn(self.machine, self.job.name, answer)
        return not answer["equal"], ""

    def _untaken(self, asset: str, counting: Counting) -> Ranges:
        """The ranges below the cursor that no run took and no person passed over."""
        covered = [*self._runs(asset, counting.own), *counting.passed_over.get(asset, [])]
        return gaps(covered, counting.progress.cursors.get(asset, 0))

    def _runs(self, asset: str, own: Reader) -> Ranges:
        """What runs took; of a job that acts outside as it was recorded with each, of others as it was reported."""
        if self.job.is_outside:
            to = own.head(runs_asset(self.job.name)).offset
            taken = [forgotten(own, self.job), *(each.ranges for each in delivered(own, self.job, 0, to))]
        else:
            reports = self.machine.ledger.runs(job=self.job.name, state="succeeded", limit=REPORTS_MAX)
            taken = [report.inputs for report in reports]
        return [ranges[asset] for ranges in taken if ranges.get(asset, (0, 0))[1]]

    def _passed_over(self, asset: str, known: Progress, own: Reader) -> Ranges:
        """What the job was moved over, or began behind, and no backfill has processed."""
        passed = [(span.from_, span.to) for span in skipped(own, self.job) if span.asset == asset]
        if not self.job.is_outside or self.job.gate is None:
            return passed
        runs = self._runs(asset, own)  # behind a gate only its values say what was never processed
        began = min((low for low, _ in runs), default=0 if known.run else known.cursors.get(asset, 0))
        return [*passed, (0, began)] if began else passed

    def _mend(self) -> str:
        if self._is_pure():
            return f"tidemill audit {self.job.name} --repair"
        return f"emit them again under new ids: `{self.job.name}` acts outside, and its cursor never goes back"

    def repaired(self, assets: Sequence[str], before: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The counts once the difference is committed; a job that acts outside is left as it is."""
        if not self._is_pure():
            return before
        answer = reconciling.reconcile(self.machine, self.job.name, repair=True, progress=self.progress)
        learn(self.machine, self.job.name, answer)
        again = self.counts(assets)
        return [{**reader, "repaired": answer["repaired"] if not index else 0} for index, reader in enumerate(again)]
