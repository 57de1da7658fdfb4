"""`tidemill replay`: make a job's table anew with its present code."""

from __future__ import annotations

from typing import Any

import click

from tidemill.cli.commands.reconcile import show_comparison
from tidemill.cli.connect import ask
from tidemill.cli.output import print_json, say
from tidemill.cli.settings import Settings
from tidemill.cli.settings import command as declare


@declare("tidemill replay delay_by_carrier", "tidemill replay delay_by_carrier --dry-run")
@click.argument("job")
@click.option("--dry-run", "is_dry", is_flag=True, help="Show what would differ, and change nothing.")
def command(settings: Settings, job: str, *, is_dry: bool) -> int:
    """Make a job's table anew from its whole inputs with its present code, and commit the difference.

    The table stays as it is until the difference is committed; readers get it as ordinary changes. Rows that the job
    parked are tried again. For SQL and Python jobs whose result is a table; what acts outside is not delivered again.
    """
    progress = _quiet if settings.is_json else _said
    answer = ask(settings, "replay", lambda mill: mill.replay(job, is_dry=is_dry, progress=progress), mode="once")
    if settings.is_json:
        print_json(answer)
    elif is_dry:
        show_comparison(job, answer)
    else:
        click.echo(f"{job}: {answer['changes']} changes" if not answer["failed"] else f"{job}: the replay failed")
    return 1 if not is_dry and answer["failed"] else 0


def _quiet(said: dict[str, Any]) -> None:
    """With --json nothing is told meanwhile."""


def _said(said: dict[str, Any]) -> None:
    """What goes on; alarms are about no job."""
    what = said.get("what") or said["state"]
    about = f"{said['job']}: {what}" if said["job"] else what
    say(f"{about}: {said['error']}" if said.get("error") else about)
