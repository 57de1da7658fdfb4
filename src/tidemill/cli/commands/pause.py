"""`tidemill pause`: start no more runs of a job; what runs is finished first."""

from __future__ import annotations

import click

from tidemill.cli.connect import ask
from tidemill.cli.output import print_json
from tidemill.cli.settings import Settings
from tidemill.cli.settings import command as declare


@declare("tidemill pause daily_report")
@click.argument("job")
def command(settings: Settings, job: str) -> None:
    """Start no more runs of a job; what runs is finished first."""
    answer = ask(settings, "pause", lambda mill: mill.pause(job))
    if settings.is_json:
        print_json(answer)
    else:
        click.echo(f"{answer['job']}: {answer['state']}")
