"""What is shown while runs go on: a live list on a terminal, a line per run elsewhere, with `--json` only trouble.

Rules of this file:
  * all of it goes to stderr; a progress is a context manager and is called from any thread;
  * what could not be taken (a file, a definition, a row) is told whatever the answer's form: an answer of counts alone
    would look like plain success;
  * failing to show never ends the work.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any

import click
from rich.console import Console
from rich.live import Live as Screen
from rich.table import Table
from rich.text import Text

from tidemill.cli.output import COLOURS

__all__ = ["Live", "RunLines", "Tally", "TroubleLines", "line_of"]

_SHOWN_MAX = 12
_TROUBLE = ("alarm", "rejected")


class Tally:
    """Counts what the reports of a run tell beside its answer, and hands them on."""

    def __init__(self, show: Callable[[dict[str, Any]], None]) -> None:
        self._show = show
        self.parked = 0
        self.rejected = 0
        self.unloaded = 0
        self.held = 0

    def __call__(self, said: dict[str, Any]) -> None:
        """One report."""
        if said["state"] == "succeeded":
            self.parked += said.get("parked") or 0
        self.rejected += said["state"] == "rejected"
        self.unloaded += said.get("kind") == "definition"
        self.held += said["state"] == "held"
        self._show(said)


class RunLines:
    """A line for each run that ended, for each that is tried again, and for trouble."""

    def __enter__(self) -> RunLines:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Nothing to end."""

    def __call__(self, said: dict[str, Any]) -> None:
        """One report."""
        if said["state"] != "running":
            click.echo(line_of(said), err=True)


class TroubleLines(RunLines):
    """Lines for trouble alone: beside an answer that a program reads."""

    def __call__(self, said: dict[str, Any]) -> None:
        """One report."""
        if said["state"] in _TROUBLE or said.get("parked"):
            super().__call__(said)


class Live:
    """The newest runs, redrawn as they go on."""

    def __init__(self) -> None:
        self._runs: dict[str, dict[str, Any]] = {}
        self._changing = threading.Lock()
        self._screen = Screen(
            console=Console(stderr=True), refresh_per_second=8, get_renderable=self._table,
            redirect_stdout=False, redirect_stderr=False,
        )  # fmt: skip

    def __enter__(self) -> Live:
        self._screen.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._screen.stop()

    def __call__(self, said: dict[str, Any]) -> None:
        """One report."""
        name = said["run"] or said["error"]
        with self._changing:
            self._runs.pop(name, None)
            self._runs[name] = said

    def _table(self) -> Table:
        table = Table(box=None, show_header=False, pad_edge=False)
        with self._changing:
            newest = list(self._runs.values())
        if len(newest) > _SHOWN_MAX:
            table.add_row("", Text(f"... {len(newest) - _SHOWN_MAX} runs before", style="dim"))
        for said in newest[-_SHOWN_MAX:]:
            rows = "" if said["state"] in ("running", *_TROUBLE) else ", ".join(_counts(said)) or "0 rows"
            state = Text(said["state"], style=COLOURS.get(said["state"], ""))
            table.add_row(state, Text(said["job"]), rows, Text(_reason(said), style="red"))
        return table


def line_of(said: dict[str, Any]) -> str:
    """A report as a line of words."""
    reason = _reason(said)
    if said["state"] == "alarm":
        return f"{said['kind']}: {reason}"
    counts = ", ".join(_counts(said))
    line = f"{said['state']} {said['job']}" + (f" ({counts})" if counts else "") + (f": {reason}" if reason else "")
    return f"{line}: see tidemill dead list" if said.get("parked") else line


def _counts(said: dict[str, Any]) -> list[str]:
    counts = {"rows": said.get("rows_out") or 0, "parked": said.get("parked") or 0}
    return [f"{count} {word}" for word, count in counts.items() if count]


def _reason(said: dict[str, Any]) -> str:
    return str(said.get("error") or "").partition("\n")[0]
