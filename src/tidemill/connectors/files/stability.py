"""When a file has landed: it stopped changing, it arrived whole, or its marker says so.

Rules of this file:
  * a file is stable when two looks at least `DELAY_SECONDS` apart show the same size and stamp, or when it arrived by
    a rename, or when the asset has a marker (then only marked files are listed at all);
  * time is handed in; nothing here sleeps or reads a clock, and forgetting everything only costs one more look.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tidemill.core.ports import SourceFile

__all__ = ["DELAY_SECONDS", "Look", "Stability"]

DELAY_SECONDS = 0.5
"""How long a file must stay as it is before it counts as landed."""


@dataclass(frozen=True, slots=True)
class Look:
    """What one look showed: files that have landed, and files that may still be written."""

    stable: tuple[SourceFile, ...]
    waiting: tuple[SourceFile, ...]


class Stability:
    """Remembers how files looked before."""

    def __init__(self, delay_seconds: float = DELAY_SECONDS) -> None:
        self._delay_seconds = delay_seconds
        self._first: dict[str, tuple[int, str, float]] = {}
        self._whole: set[str] = set()

    def arrived(self, path: str) -> None:
        """The file came into place by a rename, so it is whole."""
        self._whole.add(path)

    def look(self, files: Iterable[SourceFile], now: float) -> Look:
        """Sort the files that are there now; those that are gone are forgotten."""
        before, self._first = self._first, {}
        stable: list[SourceFile] = []
        waiting: list[SourceFile] = []
        for file in files:
            size, stamp, since = before.get(file.path, (-1, "", now))
            if (size, stamp) != (file.size_bytes, file.stamp) or since > now:
                since = now
            self._first[file.path] = (file.size_bytes, file.stamp, since)
            landed = now - since >= self._delay_seconds or file.path in self._whole
            (stable if landed else waiting).append(file)
        self._whole &= self._first.keys()
        return Look(tuple(stable), tuple(waiting))
