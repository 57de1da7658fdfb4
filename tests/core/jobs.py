"""Jobs for tests, in one line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tidemill.core.model import Gate, Job, Mode, Takes

__all__ = ["GATE", "job"]

GATE = Gate("day")


def job(name: str, inputs: Sequence[str] = (), outputs: Sequence[str] = (), **details: Any) -> Job:
    """A realtime job without retries' worth of detail; `details` are fields of `Job`."""
    details.setdefault("mode", Mode.REALTIME)
    details.setdefault("version", "1")
    return Job(name, tuple(inputs), tuple(outputs), Takes.SQL, "select 1", **details)
