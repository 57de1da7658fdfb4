"""When a file counts as written to its end: it stayed as it is for a while.

Rules of this file:
  * a file is stable when two looks at least `delay_seconds` apart, and every look in between, show the same size and
    stamp; looks that follow each other faster prove nothing;
  * time is handed in; nothing here sleeps or reads a clock, and forgetting everything only costs one more look.
"""

from __future__ import annotations

from collections.abc import Iterable

from tidemill.core.ports import SourceFile

__all__ = ["DELAY_SECONDS", "Stability"]

DELAY_SECONDS = 0.5
"""How long a file must stay as it is before it counts as landed (rule 4)."""


class Stability:
    """Remembers how files looked before."""

    def __init__(self, delay_seconds: float = DELAY_SECONDS) -> None:
        self._delay_seconds = delay_seconds
        self._first: dict[str, tuple[int, str, float]] = {}

    def stable(self, files: Iterable[SourceFile], now: float) -> list[SourceFile]:
        """Those of these files that are stable now; files that are not among them are forgotten."""
        before, self._first = self._first, {}
        found = []
        for file in files:
            size, stamp, since = before.get(file.path, (-1, "", now))
            is_same = (size, stamp) == (file.size_bytes, file.stamp) and since <= now
            self._first[file.path] = (file.size_bytes, file.stamp, since if is_same else now)
            if is_same and now - since >= self._delay_seconds:
                found.append(file)
        return found
