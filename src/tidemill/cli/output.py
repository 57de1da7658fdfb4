"""How answers are shown: JSON, a table on a terminal, aligned text elsewhere.

Rules of this file:
  * stdout is for the answer, stderr for what is said about it;
  * colour and boxes only where somebody looks (a terminal, no NO_COLOR, no TERM=dumb); text is never interpreted.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

__all__ = ["counted", "duration", "is_terminal", "listed", "moment", "print_json", "print_rows", "print_table", "say"]

COLOURS = {
    "succeeded": "green",
    "idle": "green",
    "ok": "green",
    "running": "cyan",
    "due": "cyan",
    "pending": "cyan",
    "retrying": "yellow",
    "paused": "yellow",
    "warn": "yellow",
    "held": "red",
    "failed": "red",
    "rejected": "red",
    "alarm": "red",
    "fail": "red",
    "cancelled": "yellow",
}

_STEPS = ((86_400.0, "d"), (3_600.0, "h"), (60.0, "m"))


def is_terminal(stream: Any) -> bool:
    """Whether somebody looks at a stream, on a terminal that can do more than lines."""
    return bool(stream.isatty()) and os.environ.get("TERM") != "dumb"


def print_json(value: Any) -> None:
    """Print a JSON value."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2 if sys.stdout.isatty() else None))


def say(text: str) -> None:
    """Say something that is not the answer."""
    click.echo(text, err=True)


def print_rows(rows: Sequence[Mapping[str, Any]], nothing: str = "no rows") -> None:
    """Print row objects as a table of all their columns."""
    columns = list(dict.fromkeys(name for row in rows for name in row))
    print_table(columns, [[row.get(name) for name in columns] for row in rows], nothing)


def print_table(columns: Sequence[str], rows: Sequence[Sequence[Any]], nothing: str = "nothing") -> None:
    """Print a table; where there are no rows, say so instead."""
    if not rows:
        say(nothing)
        return
    texts = [[shown(value) for value in row] for row in rows]
    if is_terminal(sys.stdout):
        _print_rich(columns, texts, rows)
    else:
        _print_plain(columns, texts, rows)


def _print_rich(columns: Sequence[str], texts: list[list[str]], rows: Sequence[Sequence[Any]]) -> None:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for index, name in enumerate(columns):
        table.add_column(Text(name), justify="right" if _is_number(rows, index) else "left", overflow="fold")
    for row in texts:
        table.add_row(*(Text(text, style=COLOURS.get(text, "")) for text in row))
    Console().print(table)


def _print_plain(columns: Sequence[str], texts: list[list[str]], rows: Sequence[Sequence[Any]]) -> None:
    lines = [list(columns), *texts]
    widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
    numbers = [_is_number(rows, index) for index in range(len(columns))]
    for line in lines:
        cells = zip(line, widths, numbers, strict=True)
        padded = (text.rjust(width) if number else text.ljust(width) for text, width, number in cells)
        click.echo("  ".join(padded).rstrip())


def _is_number(rows: Sequence[Sequence[Any]], index: int) -> bool:
    values = [row[index] for row in rows if row[index] is not None]
    return bool(values) and all(isinstance(value, int | float) and not isinstance(value, bool) for value in values)


def shown(value: Any) -> str:
    """A value as one line of text."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return " ".join(value.splitlines()) if value else ""
    if isinstance(value, list | dict):
        return json.dumps(value, ensure_ascii=False)
    return str(value)


def counted(count: int, what: str) -> str:
    """A count with its noun: 1 row, 2 rows."""
    return f"{count} {what}" if count == 1 else f"{count} {what}s"


def listed(names: Sequence[str]) -> str:
    """Names in a row."""
    return ", ".join(names)


def moment(seconds: float) -> str:
    """A time as text: ISO 8601, UTC, whole seconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def duration(seconds: float | None) -> str | None:
    """Seconds as a person says them: 250ms, 12s, 5m, 3h, 2d."""
    if seconds is None:
        return None
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    for step, unit in _STEPS:
        if seconds >= step:
            return f"{seconds / step:.3g}{unit}" if seconds < 10 * step else f"{seconds / step:.0f}{unit}"
    return f"{seconds:.3g}s"
