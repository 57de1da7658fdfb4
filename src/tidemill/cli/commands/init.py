"""`tidemill init`: a small working project to begin with."""

from __future__ import annotations

import click

from tidemill.cli.output import print_json, say
from tidemill.cli.settings import Settings
from tidemill.cli.settings import command as declare
from tidemill.project import init
from tidemill.project.start import TEMPLATES


@declare("tidemill init flights", "tidemill init mapped --template objects", "cd flights && tidemill run")
@click.argument("folder", metavar="DIR")
@click.option(
    "--template", default=TEMPLATES[0], show_default=True, metavar="NAME", help=f"One of {', '.join(TEMPLATES)}."
)
def command(settings: Settings, folder: str, template: str) -> None:
    """Make a small working project in DIR. Nothing that is there already is overwritten."""
    files = init(folder, template)
    if settings.is_json:
        print_json({"project": folder, "files": files})
        return
    for file in files:
        click.echo(file)
    say(f"next: cd {folder} && tidemill run")
