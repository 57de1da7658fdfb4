"""`tidemill runs`: what ran, newest first."""

from __future__ import annotations

import click

from tidemill.cli.connect import ask
from tidemill.cli.output import moment, print_json, print_table
from tidemill.cli.settings import Settings
from tidemill.cli.settings import command as declare
from tidemill.project.operations import RUN_STATES


@declare("tidemill runs", "tidemill runs --job daily_report --state failed", "tidemill runs --limit 5 --json")
@click.option("--job", default="", help="Only runs of this job.")
@click.option(
    "--state",
    default="",
    type=click.Choice(["", *RUN_STATES]),
    metavar="STATE",
    help=f"One of {', '.join(RUN_STATES)}.",
)
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, 100_000), help="At most so many.")
def command(settings: Settings, job: str, state: str, limit: int) -> None:
    """List runs, newest first: what each took of its inputs, what it made, and why it failed."""
    runs = ask(settings, "runs", lambda mill: mill.runs(job=job, state=state, limit=limit))
    if settings.is_json:
        print_json(runs)
        return
    columns = [
        "run",
        "job",
        "state",
        "attempt",
        "started_at",
        "rows_in",
        "taken",
        "parked",
        "skipped",
        "rows_out",
        "error",
    ]
    print_table(columns, [[_shown(name, run.get(name)) for name in columns] for run in runs], "no runs")


def _shown(column: str, value: object) -> object:
    return moment(value) if column == "started_at" and isinstance(value, int | float) else value
