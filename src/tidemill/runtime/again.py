"""Delivering again what a job with outside effects delivered (rule 28).

Rules of this file:
  * what is delivered are the recorded runs: their ranges, their values, their idempotency keys;
  * the replay has a cursor of its own over the job's recorded runs, moved after each delivery: a crash in between
    delivers that one again, under the same key;
  * the job's own cursors, its pinned run and its outputs are never touched.

Theory of operation. The cursor is the progress of `JOB@replay` in the ledger: `cursors` says up to which recorded run it
has come, `pinned` which runs it is about and is none once it is over, `version` tells one replay from another.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace

from tidemill.core.model import Home, Job
from tidemill.core.ports import Progress, Store, Transaction
from tidemill.runtime.delivered import Delivered, delivered, replay_of, runs_asset
from tidemill.runtime.outside import Outside

__all__ = ["Again"]


@dataclass(slots=True)
class Again:
    """Delivers recorded runs of one job again."""

    job: Job
    outside: Outside

    @property
    def progress(self) -> Progress | None:
        """The replay that is not over yet; None where there is none."""
        with self._reading() as reader:
            found = reader.progress(replay_of(self.job.name))
        return found if found is not None and found.pinned is not None else None

    def recorded(self, after: int = 0, to: int | None = None) -> list[Delivered]:
        """The recorded runs of (after, to], oldest first; without `to`, up to the last one."""
        with self._reading() as reader:
            end = reader.head(runs_asset(self.job.name)).offset if to is None else to
            return list(delivered(reader, self.job, after, end)) if end else []

    def begin(self, version: str, after: int, to: int) -> Progress:
        """Take the runs of (after, to] on, durably."""
        asset = runs_asset(self.job.name)
        fresh = Progress(replay_of(self.job.name), version, {asset: after}, pinned={asset: (after, to)})
        self._settle(fresh)
        return fresh

    def left(self, progress: Progress) -> list[Delivered]:
        """The runs that are still to be delivered."""
        asset = runs_asset(self.job.name)
        _, to = (progress.pinned or {})[asset]
        return self.recorded(progress.cursors[asset], to)

    def deliver(self, progress: Progress, each: Delivered, run: str) -> Progress:
        """Deliver one run again, then move the cursor behind it. Raises what the effect raised: the cursor stands."""
        self.outside.again(self.job, each.pinned, run)
        done = replace(progress, cursors={runs_asset(self.job.name): each.offset}, run=run)
        self._settle(done)
        return done

    def end(self, progress: Progress) -> None:
        """It is over, finished or not: what was delivered stays delivered."""
        self._settle(replace(progress, pinned=None))

    def _settle(self, progress: Progress) -> None:
        transaction = self._ledger.begin()
        try:
            transaction.settle(progress, transaction.progress(progress.job))
            transaction.commit()
        finally:
            transaction.rollback()

    @property
    def _ledger(self) -> Store:
        stores: Mapping[Home, Store] = self.outside.stores
        return stores[Home.LEDGER]

    @contextmanager
    def _reading(self) -> Iterator[Transaction]:
        reader = self._ledger.begin(exclusive=False)
        try:
            yield reader
        finally:
            reader.rollback()
