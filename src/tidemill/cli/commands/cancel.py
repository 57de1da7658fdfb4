"""`tidemill cancel`: end a run that is going on."""

from __future__ import annotations

import click

from tidemill.cli.connect import ask
from tidemill.cli.output import print_json
from tidemill.cli.settings import Settings
from tidemill.cli.settings import command as declare


@declare("tidemill runs --state running", "tidemill cancel 0193c2f4a01-000001")
@click.argument("run")
def command(settings: Settings, run: str) -> None:
    """Cancel a run that is going on; nothing of it is committed."""
    answer = ask(settings, "cancel", lambda mill: mill.cancel(run))
    if settings.is_json:
        print_json(answer)
    else:
        click.echo(f"{answer['run']}: {answer['state']}")
