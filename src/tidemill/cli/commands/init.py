"""`tidemill init`: a small working project to begin with."""

from __future__ import annotations

import click

from tidemill.cli import late
from tidemill.cli.output import print_json, say
from tidemill.cli.settings import Settings
from tidemill.cli.settings import command as declare


@declare("tidemill init flights", "cd flights && tidemill run")
@click.argument("folder", metavar="DIR")
def command(settings: Settings, folder: str) -> None:
    """Make a small working project in DIR. Nothing that is there already is overwritten."""
    written = late("tidemill.project:init")(folder)
    files = [str(path) for path in written or ()]
    if settings.is_json:
        print_json({"project": folder, "files": files})
        return
    for file in files:
        click.echo(file)
    say(f"next: cd {folder} && tidemill run")
