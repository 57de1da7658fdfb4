"""What is shown while long work goes on in slices: a bar on a terminal, now and then a line elsewhere, nothing with `--json`.

Rules of this file:
  * all of it goes to stderr; a progress is a context manager and is called from any thread;
  * it shows how much is done of how much, for work that says so; anything else is a line.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from tidemill.cli.output import is_terminal, say
from tidemill.cli.settings import Settings

__all__ = ["following"]

LINE_SECONDS = 5.0
"""Without a terminal a line is said at most this often."""

Follow = Callable[[dict[str, Any]], None]


def following(settings: Settings) -> AbstractContextManager[Follow]:
    """What to follow long work with."""
    if settings.is_json:
        return _Quiet()
    return _Bar() if is_terminal(sys.stderr) else _Lines()


def _told(said: dict[str, Any]) -> str:
    """What goes on; alarms are about no job."""
    what = said.get("what") or said["state"]
    about = f"{said['job']}: {what}" if said["job"] else what
    return f"{about}: {said['error']}" if said.get("error") else about


class _Quiet:
    """With --json nothing is told meanwhile."""

    def __enter__(self) -> Follow:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Nothing to end."""

    def __call__(self, said: dict[str, Any]) -> None:
        """One report."""


class _Lines(_Quiet):
    """Lines; of slices one now and then."""

    def __init__(self) -> None:
        self._said_at = 0.0

    def __call__(self, said: dict[str, Any]) -> None:
        """One report."""
        if "done" not in said:
            say(_told(said))
        elif time.monotonic() - self._said_at >= LINE_SECONDS or said["done"] == said["total"]:
            self._said_at = time.monotonic()
            say(f"{_told(said)}: {said['done']:,} of {said['total']:,}")


class _Bar(_Quiet):
    """A bar with what is done of how much, and how long the rest will take."""

    def __init__(self) -> None:
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
        self._bar = Progress(*columns, console=Console(stderr=True), transient=True)
        self._task: TaskID | None = None

    def __enter__(self) -> Follow:
        self._bar.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._bar.stop()

    def __call__(self, said: dict[str, Any]) -> None:
        """One report."""
        if "done" not in said:
            self._bar.console.print(_told(said), markup=False, highlight=False)
            return
        if self._task is None:
            self._task = self._bar.add_task(_told(said), total=said["total"])
        self._bar.update(self._task, description=_told(said), completed=said["done"], total=said["total"])
