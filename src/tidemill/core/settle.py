"""When the upstream of a `when: all` job has settled (rule 20).

Rules of this file:
  * a wait begins when everything else holds, and takes the heads of the upstream sources at that moment as targets;
  * later news never adds to a wait, so a wait ends even under load;
  * a job that is held, paused or due later does not count: a nightly feeder or a failed one never stalls its readers;
  * another definition of an upstream job begins the wait anew: what was noted belongs to the mapping as it was.

Theory of operation. The jobs upstream are ticked off from the sources down. A job can be ticked off once the jobs that
write its inputs are, and it is not `unsettled` (running, between retries, or due below its targets). When it is ticked
off, the heads of its outputs at that moment become the targets of its readers. The wait is over when nothing is left.
Something happening to one job costs that job and what it lets go, not the whole upstream.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from tidemill.core.mapping import ObjectMapping
from tidemill.core.model import Job

__all__ = ["Unsettled", "Waits"]

Unsettled = Callable[[str, Mapping[str, int], int], bool]
"""(job, targets by asset, step the wait began in) -> whether the job has to do something before its readers go on."""


@dataclass(slots=True)
class _Wait:
    upstream: frozenset[str]
    begun_in: int
    pending: set[str]
    targets: dict[str, int]


class Waits:
    """All waits that are going on."""

    def __init__(self, mapping: ObjectMapping, head: Callable[[str], int]) -> None:
        self._mapping = mapping
        self._head = head
        self._waits: dict[str, _Wait] = {}
        self._waited_for: dict[str, dict[str, None]] = {}

    def pending(self, name: str) -> set[str]:
        """The jobs that this job still waits for."""
        wait = self._waits.get(name)
        return wait.pending if wait is not None else set()

    def is_over(self, job: Job, turn: int, unsettled: Unsettled) -> bool:
        """Whether the job's upstream has settled; begins a wait, in this step, where none is going on."""
        wait = self._waits.get(job.name)
        if wait is None:
            upstream = self._mapping.upstream(job)
            if not upstream:
                return True
            wait = self._begin(job.name, turn, frozenset(upstream))
            self._let_go(wait, list(upstream), unsettled)
        return not wait.pending

    def tick_off(self, name: str, unsettled: Unsettled) -> list[str]:
        """Something happened to this job; returns the waiting jobs whose wait is over now."""
        over = []
        for waiting in list(self._waited_for.get(name, ())):
            wait = self._waits[waiting]
            self._let_go(wait, [name], unsettled)
            if not wait.pending:
                over.append(waiting)
        return over

    def end(self, name: str) -> None:
        """Forget a job's wait: it starts, or is no longer due."""
        wait = self._waits.pop(name, None)
        for upper in wait.upstream if wait is not None else ():
            self._waited_for[upper].pop(name, None)
            if not self._waited_for[upper]:
                del self._waited_for[upper]

    def end_those_for(self, name: str) -> list[str]:
        """This job is another one now, or none: forget the waits that count on it; returns whose they were."""
        waiting = list(self._waited_for.get(name, ()))
        for each in waiting:
            self.end(each)
        return waiting

    def _begin(self, name: str, turn: int, upstream: frozenset[str]) -> _Wait:
        inputs = {asset for upper in upstream for asset in self._mapping.jobs[upper].inputs}
        targets = {asset: self._head(asset) for asset in inputs if self._mapping.writer.get(asset) not in upstream}
        wait = self._waits[name] = _Wait(upstream, turn, set(upstream), targets)
        for upper in upstream:
            self._waited_for.setdefault(upper, {})[name] = None
        return wait

    def _let_go(self, wait: _Wait, candidates: list[str], unsettled: Unsettled) -> None:
        while candidates:
            name = candidates.pop()
            if name not in wait.pending:
                continue
            job = self._mapping.jobs[name]
            if self._is_fed(wait, job) or unsettled(name, wait.targets, wait.begun_in):
                continue
            wait.pending.discard(name)
            for asset in job.outputs:
                wait.targets[asset] = self._head(asset)
                candidates.extend(self._mapping.readers.get(asset, ()))

    def _is_fed(self, wait: _Wait, job: Job) -> bool:
        return any(producer in wait.pending for producer in self._mapping.producers(job))
