"""`tidemill resume`: let a job run again."""

from __future__ import annotations

import click

from tidemill.cli.connect import ask
from tidemill.cli.output import print_json
from tidemill.cli.settings import Settings
from tidemill.cli.settings import command as declare
from tidemill.core.errors import UserError


@declare("tidemill resume daily_report", "tidemill resume daily_report --from now")
@click.argument("job")
@click.option("--from", "start", default="last", show_default=True, metavar="last|now|OFFSET", help="Where it goes on.")
def command(settings: Settings, job: str, start: str) -> None:
    """Let a paused or stopped job run again: from its cursor (last), the newest changes (now), or an offset."""
    if start not in ("last", "now") and not (start.isascii() and start.isdigit()):
        raise UserError(f"--from {start} is not a place", mend="write last, now or an offset")
    answer = ask(settings, "resume", lambda mill: mill.resume(job, start))
    if settings.is_json:
        print_json(answer)
    else:
        click.echo(f"{answer['job']}: {answer['state']}")
