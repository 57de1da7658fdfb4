"""Compiled plans in the project's state folder, so that a warm start compiles nothing.

Rules of this file:
  * one file a job, replaced when its plan is: what is kept never grows beyond the jobs there are;
  * losing it only costs time: a file that is missing, damaged or about another definition is as good as none;
  * a file is written beside and renamed, and carries the hash of its content.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

__all__ = ["PlanCache"]

_SUFFIX = ".plan"


class PlanCache:
    """Plans in a folder. Any thread; of two that write at once either may stay."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def get(self, job: str, name: str) -> Any:
        """The plan of this job as plain data, if it is kept under this name and whole; else None."""
        try:
            head, _, body = self._path(job).read_bytes().partition(b"\n")
            return msgspec.json.decode(body) if head == _head(name, body) else None
        except (OSError, msgspec.DecodeError):
            return None

    def put(self, job: str, name: str, plan: Mapping[str, Any]) -> None:
        """Keep a plan in place of the one of this job; a folder that cannot be written is fine."""
        body = msgspec.json.encode(plan)
        path = self._path(job)
        beside = path.with_suffix(".tmp")
        with suppress(OSError):
            self.folder.mkdir(parents=True, exist_ok=True)
            beside.write_bytes(_head(name, body) + b"\n" + body)
            beside.replace(path)

    def keep_only(self, jobs: Collection[str]) -> int:
        """Forget the plans of all other jobs; returns how many went."""
        kept = {self._path(job) for job in jobs}
        gone = [path for path in self.folder.glob(f"*{_SUFFIX}") if path not in kept]
        for path in gone:
            path.unlink(missing_ok=True)
        return len(gone)

    def _path(self, job: str) -> Path:
        """The file of a job; a hash, for file names are shorter than names of jobs and may not tell case apart."""
        return self.folder / (hashlib.sha256(job.encode()).hexdigest()[:32] + _SUFFIX)


def _head(name: str, body: bytes) -> bytes:
    return f"{name} {hashlib.sha256(body).hexdigest()}".encode()
