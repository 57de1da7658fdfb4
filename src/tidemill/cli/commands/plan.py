"""`tidemill plan`: what would change and run, and why."""

from __future__ import annotations

import click

from tidemill.cli.connect import ask
from tidemill.cli.output import print_json, print_table
from tidemill.cli.settings import Settings
from tidemill.cli.settings import command as declare


@declare("tidemill plan", "tidemill plan --json")
def command(settings: Settings) -> None:
    """Show what an apply would change, what would run and why, how each job is maintained and what it guarantees."""
    plan = ask(settings, "plan", lambda mill: mill.plan())
    if settings.is_json:
        print_json(plan)
        return
    print_table(
        ["job", "change", "why"],
        [[c["job"], c["change"], c.get("why")] for c in plan["changes"]],
        "no definition waits",
    )
    if plan["changes"]:
        click.echo()
    for job in plan["jobs"]:
        _show(job)


def _show(job: dict[str, object]) -> None:
    click.echo(f"{job['job']}: {'would run' if job['ready'] else 'would not run'}")
    because = job["because"]
    lines = {
        "because": "; ".join(map(str, because)) if isinstance(because, list) else because,
        "maintained": job["maintained"],
        "reason": job["reason"],
        "guarantee": job["guarantee"],
    }
    for word, text in lines.items():
        if text:
            click.echo(f"  {word + ':':<12}{text}")
