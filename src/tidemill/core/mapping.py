"""The object mapping: which job reads what, which job writes what, and what stands upstream of what.

Rules of this file:
  * it is the only place that knows the graph; jobs never name jobs, so edges exist only through assets;
  * one asset has at most one writer; the graph has no cycle; a mapping that would break either is refused whole;
  * adding, changing and removing one job costs its own edges (plus, for the cycle check, what it can reach).

Theory of operation. Three dictionaries are the mapping: `readers` (asset -> jobs that take it as input), `starters`
(asset -> jobs that it starts by `on`), `writer` (asset -> the job that writes it). Deciding what an event concerns is a
look-up, so its cost does not grow with the number of jobs.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter

from tidemill.core.errors import DefinitionError
from tidemill.core.model import Job

__all__ = ["ObjectMapping"]


class ObjectMapping:
    """Jobs and the assets between them."""

    def __init__(self) -> None:
        self.jobs: dict[str, Job] = {}
        self.readers: dict[str, dict[str, None]] = {}
        self.starters: dict[str, dict[str, None]] = {}
        self.writer: dict[str, str] = {}

    @classmethod
    def of(cls, jobs: Iterable[Job]) -> ObjectMapping:
        """A mapping of many jobs at once; one check for cycles. Raises DefinitionError."""
        mapping = cls()
        for job in jobs:
            mapping._link(job)
        mapping._check_acyclic()
        return mapping

    def add(self, job: Job) -> None:
        """Add a job, or put it in place of the one of that name. Raises DefinitionError and then changes nothing."""
        before = self.jobs.get(job.name)
        if before is not None and _edges(before) == _edges(job):
            self.jobs[job.name] = job
            return
        self.remove(job.name)
        try:
            self._link(job)
            if self._closes_circle(job):
                self._check_acyclic()
        except DefinitionError:
            self.remove(job.name)
            if before is not None:
                self._link(before)
            raise

    def remove(self, name: str) -> None:
        """Forget a job; nothing happens where there is none."""
        job = self.jobs.pop(name, None)
        if job is None:
            return
        for asset in job.inputs:
            _discard(self.readers, asset, name)
        for asset in _starters(job):
            _discard(self.starters, asset, name)
        for asset in job.outputs:
            if self.writer.get(asset) == name:
                del self.writer[asset]

    def concerned(self, asset: str) -> Iterator[str]:
        """The jobs that a change of this asset may start, in the order they were added."""
        yield from self.readers.get(asset, ())
        for job in self.starters.get(asset, ()):
            if job not in self.readers.get(asset, ()):
                yield job

    def producers(self, job: Job) -> Iterator[str]:
        """The jobs that write this job's inputs."""
        for asset in job.inputs:
            writer = self.writer.get(asset)
            if writer is not None:
                yield writer

    def upstream(self, job: Job) -> set[str]:
        """Every job from whose outputs this job's inputs derive."""
        found: set[str] = set()
        stack = list(self.producers(job))
        while stack:
            name = stack.pop()
            if name not in found:
                found.add(name)
                stack.extend(self.producers(self.jobs[name]))
        return found

    def downstream(self, name: str) -> set[str]:
        """Every job that derives from this job's outputs."""
        found: set[str] = set()
        stack = [name]
        while stack:
            for asset in self.jobs[stack.pop()].outputs:
                fresh = [reader for reader in self.readers.get(asset, ()) if reader not in found]
                found.update(fresh)
                stack.extend(fresh)
        return found

    def _link(self, job: Job) -> None:
        for asset in job.outputs:
            other = self.writer.get(asset)
            if other is not None and other != job.name:
                raise DefinitionError(
                    f"`{other}` and `{job.name}` both write `{asset}`",
                    place=str(job.place),
                    mend="give one of them another output: an asset has one writer",
                )
        self.jobs[job.name] = job
        for asset in job.inputs:
            self.readers.setdefault(asset, {})[job.name] = None
        for asset in _starters(job):
            self.starters.setdefault(asset, {})[job.name] = None
        for asset in job.outputs:
            self.writer[asset] = job.name

    def _closes_circle(self, job: Job) -> bool:
        """Whether the job stands upstream of itself: looks up and down in turns, and ends with the shorter side."""
        up, down = {job.name}, {job.name}
        to_ask, to_tell = list(self.producers(job)), list(self._consumers(job))
        while to_ask and to_tell:
            above, below = to_ask.pop(), to_tell.pop()
            if above in down or below in up:
                return True
            if above not in up:
                up.add(above)
                to_ask.extend(self.producers(self.jobs[above]))
            if below not in down:
                down.add(below)
                to_tell.extend(self._consumers(self.jobs[below]))
        return False

    def _consumers(self, job: Job) -> Iterator[str]:
        for asset in job.outputs:
            yield from self.readers.get(asset, ())

    def _check_acyclic(self) -> None:
        graph = {name: set(self.producers(job)) for name, job in self.jobs.items()}
        try:
            TopologicalSorter(graph).prepare()
        except CycleError as error:
            ring = error.args[1]
            raise DefinitionError(
                f"circular mapping: {' -> '.join(ring)}",
                place=str(self.jobs[ring[0]].place),
                mend="a job cannot read, even through others, what it writes",
            ) from error


def _discard(index: dict[str, dict[str, None]], asset: str, name: str) -> None:
    names = index.get(asset)
    if names is not None:
        names.pop(name, None)
        if not names:
            del index[asset]


def _starters(job: Job) -> tuple[str, ...]:
    """The assets besides its inputs whose changes concern a job."""
    return tuple(dict.fromkeys((job.on, *job.watches) if job.on else job.watches))


def _edges(job: Job) -> tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]:
    return job.inputs, job.outputs, _starters(job)
