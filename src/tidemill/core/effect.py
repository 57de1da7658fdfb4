"""The keys by which the outside world recognises work that it has seen before (rule 10).

Rules of this file:
  * a key depends on the work alone: never on the attempt, the process, the mode or the day;
  * every other room takes its keys from here, so that a run, its report and its release by a person agree.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

from tidemill.core.ports import Progress

__all__ = ["idempotency_key", "pinned_key", "row_key"]


def idempotency_key(job: str, ranges: Mapping[str, tuple[int, int]], value: str = "") -> str:
    """The key of a run: the same for the same job, ranges and, behind a gate, the same partition value."""
    taken = sorted((asset, *span) for asset, span in ranges.items())
    said = json.dumps([job, taken, value] if value else [job, taken])
    return hashlib.sha256(said.encode()).hexdigest()


def pinned_key(progress: Progress) -> str:
    """The key of the run that a job's progress has pinned."""
    return idempotency_key(progress.job, progress.pinned or {}, next(iter(progress.opens), ""))


def row_key(job: str, output: str, asset: str, rid: str, offset: int) -> str:
    """The key of one row's effect: it survives another cut of the change sets, and so a change of mode."""
    said = json.dumps([job, output, asset, rid, offset], ensure_ascii=False)
    return hashlib.sha256(said.encode()).hexdigest()
