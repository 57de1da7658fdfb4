"""`tidemill plan`: what would change and run, and why."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

import click

from tidemill.cli.connect import ask
from tidemill.cli.output import counted, print_json, print_table
from tidemill.cli.settings import Settings
from tidemill.cli.settings import command as declare
from tidemill.sql.pretty import pretty


@declare("tidemill plan", "tidemill plan daily_report --sql", "tidemill plan --json")
@click.argument("jobs", nargs=-1)
@click.option("--sql", "shows_sql", is_flag=True, help="Show the statements that maintain each stage.")
def command(settings: Settings, jobs: tuple[str, ...], shows_sql: bool) -> None:
    """Show what an apply would change, what would run and why, how each job is maintained and what it guarantees.

    Of a job that is maintained in stages: what each reads, by which rule it is brought up to date, why by no cheaper one,
    and what the rules have cost so far. docs/sql.md explains the rules.
    """
    plan = ask(settings, "plan", lambda mill: mill.plan())
    if jobs:
        plan = _of(plan, jobs)
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
            _show_stage(stage)
            for rule, text in stage["statements"].items() if shows_sql else ():
                _show_statement(rule, text)
        if shows_sql and not job.get("stages") and job.get("statement"):
            _show_statement("statement", job["statement"])


def _of(plan: Mapping[str, Any], jobs: Sequence[str]) -> dict[str, Any]:
    """The plan of these jobs alone. Raises UsageError for a name that is no job's."""
    known = [job["job"] for job in plan["jobs"]] + [change["job"] for change in plan["changes"]]
    for name in jobs:
        if name not in known:
            raise click.UsageError(f"there is no job `{name}`; there are {', '.join(dict.fromkeys(known))}")
    return {part: [each for each in plan[part] if each["job"] in jobs] for part in ("changes", "jobs")}


def _show(job: Mapping[str, Any]) -> None:
    click.echo(f"{job['job']}: {'would run' if job['ready'] else 'would not run'}")
    because = job["because"]
    lines = {
        "because": "; ".join(map(str, because)) if isinstance(because, list) else because,
        "maintained": job["maintained"],
        "why": job["reason"],
        "guarantee": job["guarantee"],
    }
    for word, text in lines.items():
        if text:
            click.echo(f"  {word + ':':<12}{text}")


def _show_stage(stage: Mapping[str, Any]) -> None:
    by = f", by {', '.join(stage['key'])}" if stage["key"] else ""
    click.echo(f"  {stage['stage']}, from {', '.join(stage['reads']) or 'nothing'}{by}")
    click.echo(f"    {stage['how']}")
    if stage["why"]:
        click.echo(f"    why not cheaper: {stage['why']}")
    if stage["costs"]:
        click.echo(f"    cost so far: {'; '.join(map(_cost, stage['costs']))}; last: {stage['last']}")
    measured = {cost["rule"] for cost in stage["costs"]}
    unmeasured = [rule for rule in stage["rules"] if rule not in measured]
    if stage["costs"] and unmeasured:
        click.echo(f"    not measured yet: {', '.join(unmeasured)}")


def _cost(cost: Mapping[str, Any]) -> str:
    size = f"{cost['from']:,} to {cost['to']:,} {cost['per']}"
    return f"{cost['rule']} {cost['seconds'] * 1000:.1f} ms ({size}, {counted(cost['runs'], 'run')})"


def _show_statement(rule: str, text: str) -> None:
    click.echo(f"    -- {rule}")
    click.echo(textwrap.indent(pretty(text), "    "))
