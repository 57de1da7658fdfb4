"""`tidemill logs`: what a run printed."""

from __future__ import annotations

import click

from tidemill.cli.connect import ask
from tidemill.cli.output import print_json
from tidemill.cli.settings import Settings
from tidemill.cli.settings import command as declare


@declare("tidemill runs --limit 1", "tidemill logs 0193c2f4a01-000001")
@click.argument("run")
def command(settings: Settings, run: str) -> None:
    """Show what a run printed and logged, line by line."""
    lines = ask(settings, "logs", lambda mill: mill.logs(run))
    if settings.is_json:
        print_json(lines)
        return
    for line in lines:
        click.echo(line)
