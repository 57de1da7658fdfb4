"""`tidemill apply`: apply what waits for it."""

from __future__ import annotations

import click

from tidemill.cli.connect import ask
from tidemill.cli.output import print_json
from tidemill.cli.settings import Settings
from tidemill.cli.settings import command as declare


@declare("tidemill plan", "tidemill apply")
def command(settings: Settings) -> None:
    """Apply the definitions that wait under `serve`, and release held runs. See first what that means: tidemill plan"""
    answer = ask(settings, "apply", lambda mill: mill.apply())
    if settings.is_json:
        print_json(answer)
        return
    for word in ("applied", "released"):
        for item in answer[word]:
            click.echo(f"{word} {item if isinstance(item, str) else item.get('job', item)}")
    if not answer["applied"] and not answer["released"]:
        click.echo("nothing waits")
