"""`tidemill replay`: do again what a job did, with its present code."""

from __future__ import annotations

from typing import Any

import click

from tidemill.cli.commands.reconcile import show_comparison
from tidemill.cli.connect import ask
from tidemill.cli.output import counted, print_json, say
from tidemill.cli.settings import Settings
from tidemill.cli.settings import command as declare
from tidemill.cli.slicing import following
from tidemill.project.operations import Operations


@declare(
    "tidemill replay delay_by_carrier",
    "tidemill replay delay_by_carrier --dry-run",
    "tidemill replay delay_by_carrier --into delay_again",
    "tidemill replay late_departures --into late_in_may --from 2026-05-01",
)
@click.argument("job")
@click.option("--from", "start", default="", metavar="OFFSET|TIME", help="Only what came after this offset or time.")
@click.option("--into", default="", metavar="TABLE", help="Write a side table; the live one is not touched.")
@click.option("--dry-run", "is_dry", is_flag=True, help="Show what would differ, and change nothing.")
@click.option("--abandon", "is_abandoned", is_flag=True, help="Let a side table go, finished or not.")
def command(settings: Settings, job: str, start: str, into: str, *, is_dry: bool, is_abandoned: bool) -> int:
    """Do again what a job did, with its present code.

    A table is made anew from its job's whole inputs, and the difference committed; until then it stays as it is, and
    readers get the difference as ordinary changes. Rows that the job parked are tried again.

    With --into the result goes into a table of that name beside, which can be queried, and compared with: tidemill reconcile
    JOB --against TABLE. It is made in slices: after Ctrl-C, tidemill pause JOB or a crash the same command goes on where it
    was. --from is for jobs that work row by row.
    """
    if is_dry and into:
        raise click.UsageError("--into touches nothing that is live\n  mend: leave out --dry-run")
    if is_abandoned and not into:
        raise click.UsageError("--abandon needs the side table\n  mend: name it: --into TABLE --abandon")
    if start and not into:
        raise click.UsageError("--from is for side tables\n  mend: name one: --into TABLE")

    def replay(mill: Operations) -> Any:
        with following(settings) as progress:
            return mill.replay(job, start=start, into=into, is_dry=is_dry, is_abandoned=is_abandoned, progress=progress)

    answer = ask(settings, "replay", replay, mode="once")
    if settings.is_json:
        print_json(answer)
    elif is_dry:
        show_comparison(job, answer)
    else:
        _show(job, answer)
    return 1 if not is_dry and answer["failed"] else 0


def _show(job: str, answer: dict[str, Any]) -> None:
    if answer.get("state") == "abandoned":
        click.echo(f"{answer['into']}: gone")
    elif "into" in answer:
        told = [counted(answer["rows"], "row")]
        told += [f"{counted(answer['parked'], 'row')} of the input could not be processed"] if answer["parked"] else []
        click.echo(f"{answer['into']}: {', '.join(told)}")
        if answer["state"] == "paused":
            say(f"paused before it was finished: tidemill resume {job}, then the same command goes on")
        else:
            say(f"compare with: tidemill reconcile {job} --against {answer['into']}")
    else:
        click.echo(f"{job}: {answer['changes']} changes" if not answer["failed"] else f"{job}: the replay failed")
