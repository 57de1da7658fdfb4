"""`tidemill logs`: what a run printed."""

from __future__ import annotations

import click

from tidemill.cli.connect import ask
from tidemill.cli.output import print_json, say
from tidemill.cli.settings import Settings
from tidemill.cli.settings import command as declare


@declare("tidemill runs --limit 1", "tidemill logs 0193c2f4a01-000001")
@click.argument("run")
def command(settings: Settings, run: str) -> None:
    """Show what a run printed and logged, line by line: a command, or a Python function (its traceback too).

    Of a function's output the first 1,000,000 bytes are kept, and logs of the newest 10,000 runs.
    """
    lines = ask(settings, "logs", lambda mill: mill.logs(run))
    if settings.is_json:
        print_json(lines)
        return
    if not lines:
        say("the run printed nothing")
    for line in lines:
        click.echo(line)
