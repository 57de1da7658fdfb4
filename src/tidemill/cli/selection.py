"""Which jobs `--select` means: `job`, `+job` with all upstream of it, `job+` with all downstream, `+job+` with both."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from tidemill.core.errors import NotFound
from tidemill.project.operations import Operations

__all__ = ["selected"]


def selected(mill: Operations, jobs: Sequence[str], select: Sequence[str]) -> list[str]:
    """The jobs that were named, in the order of the mapping; none means all. Raises NotFound for a name of no job."""
    if not jobs and not select:
        return []
    mapping = mill.map()
    known = [job["job"] for job in mapping]
    wanted = {_known(name, known) for name in jobs}
    for pattern in select:
        wanted |= _matching(pattern, mapping, known)
    return [name for name in known if name in wanted]


def _matching(pattern: str, mapping: Sequence[Mapping[str, Any]], known: Sequence[str]) -> set[str]:
    name = _known(pattern.removeprefix("+").removesuffix("+"), known)
    found = {name}
    if pattern.startswith("+"):
        found |= _reached(name, mapping, "inputs", "outputs")
    if pattern.endswith("+"):
        found |= _reached(name, mapping, "outputs", "inputs")
    return found


def _reached(name: str, mapping: Sequence[Mapping[str, Any]], own: str, others: str) -> set[str]:
    """The jobs met by going from a job's assets to the jobs that hold them on the other side, again and again."""
    jobs = {job["job"]: job for job in mapping}
    found: set[str] = set()
    waiting = [name]
    while waiting:
        assets = set(jobs[waiting.pop()][own])
        met = {job["job"] for job in mapping if assets & set(job[others])} - found
        found |= met
        waiting += met
    return found


def _known(name: str, known: Iterable[str]) -> str:
    names = list(known)
    if name not in names:
        nearest = get_close_matches(name, names, n=1, cutoff=0.5)
        raise NotFound(
            f"there is no job {name}", mend=f"did you mean {nearest[0]}?" if nearest else "see: tidemill map"
        )
    return name
