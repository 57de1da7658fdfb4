"""What is shown while runs go on: a live list on a terminal, a line per run elsewhere, nothing with `--json`.

Rules of this file:
  * all of it goes to stderr; a progress is a context manager and is called from any thread;
  * failing to show never ends the work.
"""

from __future__ import annotations

import threading
from types import TracebackType
from typing import Any

import click
from rich.console import Console
from rich.live import Live as Screen
from rich.table import Table
from rich.text import Text

from tidemill.cli.output import COLOURS

__all__ = ["Live", "RunLines"]

_SHOWN_MAX = 12


class RunLines:
    """A line for each run that ended, and for each that is tried again."""

    def __enter__(self) -> RunLines:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """Nothing to end."""

    def __call__(self, said: dict[str, Any]) -> None:
        """One report."""
        if said["state"] != "running":
            click.echo(_line(said), err=True)


class Live:
    """The newest runs, redrawn as they go on."""

    def __init__(self) -> None:
        self._runs: dict[str, dict[str, Any]] = {}
        self._changing = threading.Lock()
        self._screen = Screen(console=Console(stderr=True), refresh_per_second=8, get_renderable=self._table)

    def __enter__(self) -> Live:
        self._screen.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._screen.stop()

    def __call__(self, said: dict[str, Any]) -> None:
        """One report."""
        with self._changing:
            self._runs.pop(said["run"], None)
            self._runs[said["run"]] = said

    def _table(self) -> Table:
        table = Table(box=None, show_header=False, pad_edge=False)
        with self._changing:
            newest = list(self._runs.values())
        if len(newest) > _SHOWN_MAX:
            table.add_row("", Text(f"... {len(newest) - _SHOWN_MAX} runs before", style="dim"))
        for said in newest[-_SHOWN_MAX:]:
            rows = "" if said["state"] == "running" else f"{said.get('rows_out') or 0} rows"
            state = Text(said["state"], style=COLOURS.get(said["state"], ""))
            table.add_row(state, Text(said["job"]), rows, Text(_reason(said), style="red"))
        return table


def _line(said: dict[str, Any]) -> str:
    rows = f" ({said['rows_out']} rows)" if said.get("rows_out") else ""
    reason = _reason(said)
    return f"{said['state']} {said['job']}{rows}" + (f": {reason}" if reason else "")


def _reason(said: dict[str, Any]) -> str:
    return str(said.get("error") or "").partition("\n")[0]
