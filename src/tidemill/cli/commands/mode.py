"""`tidemill mode`: the one word that says when a job's change set ends."""

from __future__ import annotations

import click

from tidemill.cli.connect import ask
from tidemill.cli.output import print_json
from tidemill.cli.settings import Settings
from tidemill.cli.settings import command as declare


@declare("tidemill mode daily_report", "tidemill mode daily_report realtime")
@click.argument("job")
@click.argument("word", required=False, type=click.Choice(["realtime", "microbatch", "batch"]))
def command(settings: Settings, job: str, word: str | None) -> None:
    """Show a job's mode, or override it (until the file says another): realtime, microbatch or batch."""
    answer = ask(settings, "mode", lambda mill: mill.mode(job, word))
    if settings.is_json:
        print_json(answer)
        return
    click.echo(f"{answer['job']}: {answer['mode']}" + (" (overridden)" if answer.get("override") else ""))
