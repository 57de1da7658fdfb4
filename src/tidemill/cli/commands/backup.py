"""`tidemill backup`: a consistent copy of the state."""

from __future__ import annotations

from pathlib import Path

import click

from tidemill.cli.connect import ask
from tidemill.cli.output import listed, print_json
from tidemill.cli.settings import Settings
from tidemill.cli.settings import command as declare
from tidemill.core.errors import UserError


@declare("tidemill backup backups/monday", "tidemill restore backups/monday")
@click.argument("target", metavar="DIR")
def command(settings: Settings, target: str) -> None:
    """Copy the state (rows, logs, cursors) to a new folder DIR, consistently, while work goes on."""
    folder = Path(target).resolve()
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise UserError(f"{target} is not empty", mend="name a new folder")
    answer = ask(settings, "backup", lambda mill: mill.backup(str(folder)))
    if settings.is_json:
        print_json(answer)
    else:
        click.echo(f"{answer['target']}: {listed([str(name) for name in answer['files']])}, {answer['bytes']} bytes")
