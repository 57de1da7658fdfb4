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
    "tidemill replay send_report --from 2026-05-01T06:00 --rate 50",
)
@click.argument("job")
@click.option("--from", "start", default="", metavar="OFFSET|TIME", help="Only what came after this offset or time.")
@click.option("--into", default="", metavar="TABLE", help="Write a side table; the live one is not touched.")
@click.option("--dry-run", "is_dry", is_flag=True, help="Show what would differ or be delivered, and do nothing.")
@click.option(
    "--rate", type=click.FloatRange(min=0, min_open=True), metavar="ROWS", help="Deliver at most so many a second."
)
@click.option("--abandon", "is_abandoned", is_flag=True, help="Let a side table, or an unfinished replay, go.")
def command(
    settings: Settings, job: str, start: str, into: str, rate: float | None, *, is_dry: bool, is_abandoned: bool
) -> int:
    """Do again what a job did, with its present code.

    A table is made anew from its job's whole inputs, beside the live one: the job goes on meanwhile. Then the difference is
    committed, and readers get it as ordinary changes. Rows that the job parked are tried again.

    With --into the result goes into a table of that name beside, which can be queried, and compared with: tidemill reconcile
    JOB --against TABLE. --from is then for jobs that work row by row.

    Of a command or run job the runs it did are delivered again: the same rows, with the same keys. More rows than its
    hold_above wait for: tidemill apply.

    After Ctrl-C, tidemill pause JOB or a crash the same command goes on where it was.
    """
    if is_dry and into:
        raise click.UsageError("--into touches nothing that is live\n  mend: leave out --dry-run")

    def replay(mill: Operations) -> Any:
        with following(settings) as progress:
            return mill.replay(
                job,
                start=start,
                into=into,
                is_dry=is_dry,
                rate=rate or 0.0,
                is_abandoned=is_abandoned,
                progress=progress,
            )

    answer = ask(settings, "replay", replay, mode="once")
    if settings.is_json:
        print_json(answer)
    else:
        _show(job, answer, is_dry=is_dry)
    return 1 if not is_dry and answer["failed"] else 0


def _show(job: str, answer: dict[str, Any], *, is_dry: bool) -> None:
    if "equal" in answer:
        show_comparison(job, answer)
    elif is_dry:
        _show_plan(job, answer)
    elif answer.get("state") == "abandoned":
        click.echo(f"{answer.get('into') or job}: gone")
    elif "into" in answer:
        _show_table(job, answer)
    elif "slices" in answer:
        _show_anew(job, answer)
    elif "state" in answer:
        _show_delivery(job, answer)
    else:
        click.echo(f"{job}: {answer['changes']} changes" if not answer["failed"] else f"{job}: the replay failed")


def _show_plan(job: str, answer: dict[str, Any]) -> None:
    click.echo(f"{job}: {counted(answer['runs'], 'run')} with {counted(answer['rows'], 'row')} to deliver again")
    for key in answer["keys"]:
        click.echo(f"  {key}")
    if answer["runs"] > len(answer["keys"]):
        click.echo(f"  and {answer['runs'] - len(answer['keys'])} more")
    if answer["held"]:
        say("more than hold_above: it will wait for tidemill apply")


def _show_table(job: str, answer: dict[str, Any]) -> None:
    told = [counted(answer["rows"], "row")]
    told += [f"{counted(answer['parked'], 'row')} of the input could not be processed"] if answer["parked"] else []
    click.echo(f"{answer['into']}: {', '.join(told)}")
    if answer["state"] == "paused":
        say(f"paused before it was finished: tidemill resume {job}, then the same command goes on")
    else:
        say(f"compare with: tidemill reconcile {job} --against {answer['into']}")


def _show_anew(job: str, answer: dict[str, Any]) -> None:
    if answer["state"] == "paused":
        click.echo(f"{job}: {counted(answer['slices'], 'slice')} made, and the table is as it was")
        say(f"paused before it was finished: tidemill resume {job}, then tidemill replay {job} goes on")
        return
    told = [f"{counted(answer['changes'], 'change')}"]
    told += [f"{counted(answer['parked'], 'row')} of the input could not be processed"] if answer["parked"] else []
    click.echo(f"{job}: {', '.join(told)}")


_NEXT = {
    "held": "it waits, for it is more than hold_above: let it go with tidemill apply, then tidemill replay {job}",
    "paused": "paused before it was finished: tidemill resume {job}, then tidemill replay {job} goes on",
    "failed": "{error}\nonce that is mended, tidemill replay {job} goes on",
}


def _show_delivery(job: str, answer: dict[str, Any]) -> None:
    rows = counted(answer["rows"], "row")
    click.echo(f"{job}: {answer['state']}, {counted(answer['succeeded'], 'run')} with {rows} delivered again")
    if answer["state"] in _NEXT:
        say(_NEXT[answer["state"]].format(job=job, error=answer["error"]))
