"""What a server has done since it began, in numbers: counted on the event loop, read by `/metrics`."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from dataclasses import dataclass, field

__all__ = ["BUCKETS_SECONDS", "Counts"]

BUCKETS_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)
"""Upper bounds of the commit times that are counted apart."""


@dataclass(slots=True)
class Counts:
    """The counters. `rows` by (asset, status), `answers` by status code, `commits` by bucket of BUCKETS_SECONDS."""

    rows: Counter[tuple[str, str]] = field(default_factory=Counter)
    answers: Counter[int] = field(default_factory=Counter)
    commits: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_SECONDS) + 1))
    commit_seconds: float = 0.0

    def committed(self, seconds: float) -> None:
        """One commit took so long."""
        self.commits[bisect_left(BUCKETS_SECONDS, seconds)] += 1
        self.commit_seconds += seconds
