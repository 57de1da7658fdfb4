"""`tidemill explain`: why a job runs, or does not."""

from __future__ import annotations

import click

from tidemill.cli.connect import ask
from tidemill.cli.output import print_json
from tidemill.cli.settings import Settings
from tidemill.cli.settings import command as declare


@declare("tidemill explain daily_report", "tidemill why daily_report --json")
@click.argument("job")
def command(settings: Settings, job: str) -> None:
    """Say why a job would run now or what it waits for, and why it last started."""
    answer = ask(settings, "explain", lambda mill: mill.explain(job))
    if settings.is_json:
        print_json(answer)
        return
    state = f" ({answer['mode']}, {answer['state']})" if answer.get("state") else ""
    click.echo(f"{answer['job']}{state}: {'ready' if answer['ready'] else 'not ready'}")
    for reason in answer["because"]:
        click.echo(f"  {reason}")
    for reason in answer.get("alarms", ()):
        click.echo(f"  alarm: {reason}")
    last = answer.get("last_start")
    if last:
        click.echo(f"last start: {last['run']}, {last['state']}")
        for reason in last.get("because", []):
            click.echo(f"  {reason}")
        for asset, (from_, to) in last.get("inputs", {}).items():
            if to > from_:
                click.echo(
                    f"  {'took' if last['state'] == 'succeeded' else 'tried'} {asset}: offsets {from_ + 1} to {to}"
                )
        if last.get("traceparents"):
            click.echo(f"  traces: {', '.join(last['traceparents'])}")
        if last.get("stages"):
            rules = ", ".join(f"{stage} by {rule}" for stage, rule in last["stages"].items())
            click.echo(f"  maintained: {rules}")
        if last.get("error"):
            click.echo(f"  error: {last['error']}")
