"""`tidemill backfill`: process history that a job never processed."""

from __future__ import annotations

from typing import Any

import click

from tidemill.cli.connect import ask
from tidemill.cli.output import counted, print_json, say
from tidemill.cli.settings import Settings
from tidemill.cli.settings import command as declare
from tidemill.cli.slicing import following
from tidemill.project.operations import Operations


@declare(
    "tidemill backfill send_report",
    "tidemill backfill send_report --from 2026-05-01 --to 2026-06-01",
    "tidemill backfill large_orders --to 20000",
    "tidemill backfill pay --partition 2026-05",
)
@click.argument("job")
@click.option("--from", "start", default="", metavar="OFFSET|TIME", help="Only what came after this offset or time.")
@click.option(
    "--to", "end", default="", metavar="OFFSET|TIME", help="Only what came up to this offset, or before this time."
)
@click.option("--partition", "partitions", multiple=True, metavar="VALUE", help="Only this value of the job's gate.")
def command(settings: Settings, job: str, start: str, end: str, partitions: tuple[str, ...]) -> int:
    """Process history that a job never processed: what was there before a job with outside effects began, and what its
    cursor was moved over (resume --from). Nothing is processed twice.

    It goes in slices, beside live work and after it; each is a checkpoint, and readers follow, or take it at once when it is
    over (on_backfill: coalesce). After Ctrl-C, tidemill pause JOB or a crash the same command goes on where it was. More rows
    outside than the job's hold_above wait for: tidemill apply. Behind a gate history is processed value by value.
    """

    def backfill(mill: Operations) -> Any:
        with following(settings) as progress:
            return mill.backfill(job, start=start, end=end, partitions=partitions, progress=progress)

    answer = ask(settings, "backfill", backfill, mode="once")
    if settings.is_json:
        print_json(answer)
    else:
        _show(job, answer)
    return 1 if answer["failed"] else 0


_NEXT = {
    "held": "it waits, for it is more than hold_above: let it go with tidemill apply, then the same command",
    "paused": "paused before it was finished: tidemill resume {job}, then the same command goes on",
    "failed": "{error}\nonce that is mended, the same command goes on",
}


def _show(job: str, answer: dict[str, Any]) -> None:
    if answer["state"] == "finished" and not answer["runs"]:
        click.echo(f"{job}: nothing was skipped, so nothing is to be processed")
        return
    told = [counted(answer["succeeded"], "run"), counted(answer["changes"], "change")]
    told += [f"{counted(answer['parked'], 'row')} parked"] if answer["parked"] else []
    click.echo(f"{job}: {answer['state']}, {', '.join(told)}")
    if answer["state"] in _NEXT:
        say(_NEXT[answer["state"]].format(job=job, error=answer["error"]))
