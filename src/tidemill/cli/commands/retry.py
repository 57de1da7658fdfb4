"""`tidemill retry`: try a held or retrying job again at once."""

from __future__ import annotations

import click

from tidemill.cli.connect import ask
from tidemill.cli.output import print_json
from tidemill.cli.settings import Settings
from tidemill.cli.settings import command as declare


@declare("tidemill retry daily_report")
@click.argument("job")
def command(settings: Settings, job: str) -> None:
    """Try a held or retrying job again at once."""
    answer = ask(settings, "retry", lambda mill: mill.retry(job))
    if settings.is_json:
        print_json(answer)
    else:
        click.echo(f"{answer['job']}: {answer['state']}")
