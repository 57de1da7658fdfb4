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
@click.option("--full", is_flag=True, help="A whole month of flights instead of some days.")
@click.option("--folder", default="", metavar="DIR", help="Keep the project here (default: a folder that is removed).")
def command(settings: Settings, full: bool, folder: str) -> int:
    """Replay real flights through a project, in all three modes, and compare with the right answer."""
    console = Console(stderr=settings.is_json)
    answer = late("tidemill.demo.show:run_demo")(full, Path(folder) if folder else None, console)
    if settings.is_json:
        print_json(answer)
    return 1 if answer is False or (isinstance(answer, dict) and answer.get("equal") is False) else 0
