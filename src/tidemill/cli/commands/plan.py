"""`tidemill plan`: what would change and run, and why."""

from __future__ import annotations

from typing import Any

import click

from tidemill.cli.connect import ask
from tidemill.cli.output import print_json, print_table
from tidemill.cli.settings import Settings
from tidemill.cli.settings import command as declare


@declare("tidemill plan", "tidemill plan --sql", "tidemill plan --json")
@click.option("--sql", "shows_sql", is_flag=True, help="Show the statements that maintain each stage.")
def command(settings: Settings, shows_sql: bool) -> None:
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
        for stage in job.get("stages", []):
            _show_stage(stage, shows_sql)


def _show_stage(stage: dict[str, Any], shows_sql: bool) -> None:
    key = f", by {', '.join(stage['key'])}" if stage["key"] else ""
    click.echo(f"    {stage['stage']} (reads {', '.join(stage['reads']) or 'nothing'}{key}): {stage['how']}")
    if stage["why"]:
        click.echo(f"      why: {stage['why']}")
    if stage["cost_seconds"]:
        costs = [f"{rule} {seconds * 1000:.1f} ms" for rule, seconds in stage["cost_seconds"].items()]
        click.echo(f"      has cost: {', '.join(costs)}; last: {stage['last']}")
    for rule, text in stage["statements"].items() if shows_sql else ():
        click.echo(f"      {rule}: {text}")


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
