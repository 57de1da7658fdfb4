"""What is defined now: assets, jobs, and how each job is maintained.

Rules of this file:
  * a plan is made once per job version, when first needed, after the plans of the jobs upstream (which give the tables
    their columns); nothing here touches a store;
  * what nobody declared is learned from the first rows, and frozen for that version of the job;
  * replacing a definition forgets its plan and the plans that were made from its columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from threading import RLock

from tidemill.core.errors import DefinitionError
from tidemill.core.model import Asset, AssetKind, Column, Home, Job, Takes
from tidemill.core.ports import Engine, Plan, Table
from tidemill.runtime.landing import columns_of

__all__ = ["Catalog"]


@dataclass(slots=True)
class Catalog:
    """Assets, jobs and engines by name."""

    assets: dict[str, Asset] = field(default_factory=dict)
    jobs: dict[str, Job] = field(default_factory=dict)
    engines: Mapping[Takes, Engine] = field(default_factory=dict)
    timezone: str = "UTC"
    _plans: dict[str, tuple[str, Plan]] = field(default_factory=dict)
    _writers: dict[str, str] | None = None
    _learned: dict[str, tuple[str, tuple[Column, ...]]] = field(default_factory=dict)
    _lock: RLock = field(default_factory=RLock)

    def put(self, job: Job) -> None:
        """Define a job, or put another definition in its place."""
        with self._lock:
            before = self.jobs.get(job.name)
            self.jobs[job.name] = job
            self._writers = None
            if before is None or before.version != job.version:
                self._plans.clear()

    def remove(self, name: str) -> None:
        """Forget a job."""
        with self._lock:
            self.jobs.pop(name, None)
            self._writers = None
            self._plans.clear()

    def plan(self, job: Job) -> Plan:
        """How the job is maintained. Raises DefinitionError."""
        with self._lock:
            known = self._plans.get(job.name)
            if known is not None and known[0] == job.version:
                return known[1]
            engine = self.engines.get(job.takes)
            if engine is None:
                return Plan("outside")
            lacking = [name for name in job.inputs if name not in self.assets]
            if lacking:
                raise DefinitionError(
                    f"job {job.name}: there is no asset {lacking[0]}",
                    place=str(job.place),
                    mend=f"declare [assets.{lacking[0]}] in tidemill.toml, or add the job that writes it",
                )
            plan = engine.plan(job, {name: self.asset(name) for name in job.inputs})
            version, columns = self._learned.get(job.name, ("", ()))
            if not plan.columns and version == job.version:
                plan = replace(plan, columns=columns)
            self._plans[job.name] = (job.version, plan)
            return plan

    def declare(self, asset: Asset) -> Asset:
        """Put an asset's definition in place of the one of its name; what was planned from that is planned anew."""
        with self._lock:
            self.assets[asset.name] = asset
            self._plans.clear()
        return asset

    def learn(self, job: Job, columns: tuple[Column, ...]) -> None:
        """The columns of an undeclared output, known from its first rows and frozen from then on for this version."""
        with self._lock:
            if columns and self._learned.get(job.name) != (job.version, columns):
                self._learned[job.name] = (job.version, columns)
                self._plans.clear()

    def asset(self, name: str) -> Asset:
        """An asset with its columns as far as they are known: a table's come from the job that writes it."""
        asset = self.assets[name]
        if asset.kind is AssetKind.FILES:
            return replace(asset, columns=columns_of(asset))
        if asset.kind is not AssetKind.TABLE or asset.columns:
            return asset
        writer = self._writer(name)
        if writer is None:
            return asset
        plan = self.plan(writer)
        return replace(asset, columns=plan.columns, key=plan.key or asset.key)

    def table(self, name: str) -> Table:
        """The shape that an asset of the tables store has, exactly as whoever writes it defines it."""
        asset = self.asset(name)
        writer = self._writer(name) if asset.kind is AssetKind.TABLE else None
        return Table(name, asset.columns, self.plan(writer).key if writer is not None else None)

    def _writer(self, name: str) -> Job | None:
        with self._lock:
            if self._writers is None:
                tables = [job for job in self.jobs.values() if job.home is Home.TABLES]
                self._writers = {output: job.name for job in tables for output in job.outputs}
            return self.jobs.get(self._writers.get(name, ""))

    def home(self, name: str) -> Home:
        """The store that an asset's log lives in; an internal asset lives where its job or its files do."""
        owner, _, part = name.partition("@")
        if part in ("parked", "gate", "counts", "runs", "skipped", "backfilled") or part.startswith("stage"):
            return self.jobs[owner].home
        return self.assets[owner].home

    def is_rows(self, name: str) -> bool:
        """Whether the asset's log is made of rows (and not of versions)."""
        return self.assets[name].kind in (AssetKind.TOPIC, AssetKind.TABLE, AssetKind.FILES, AssetKind.CLOCK)

    def is_append_topic(self, name: str) -> bool:
        """Whether the asset is a topic whose rows are only ever added."""
        asset = self.assets[name]
        return asset.kind is AssetKind.TOPIC and not asset.can_retract
