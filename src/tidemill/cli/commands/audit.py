"""`tidemill audit`: every reader's counts beside the log's, and who skipped events without saying so."""

from __future__ import annotations

from typing import Any

import click

from tidemill.cli.connect import ask
from tidemill.cli.output import counted, print_json, print_table, say, shown
from tidemill.cli.settings import Settings
from tidemill.cli.settings import command as declare

_COLUMNS = ("job", "asset", "log", "taken", "parked", "skipped", "passed_over", "waiting", "missing")


@declare(
    "tidemill audit",
    "tidemill audit orders",
    "tidemill audit delay_by_carrier --from 1000 --to 2000",
    "tidemill audit orders --from 2026-05-01 --to 2026-05-02",
    "tidemill audit delay_by_carrier --repair",
)
@click.argument("name", metavar="[ASSET|JOB]", default="")
@click.option("--from", "from_", default="", metavar="OFFSET|TIME", help="Only what came after this offset or time.")
@click.option("--to", default="", metavar="OFFSET|TIME", help="Only what came up to this offset, or before this time.")
@click.option("--repair", is_flag=True, help="Take what is missing, where the job keeps its result here.")
def command(settings: Settings, name: str, *, from_: str, to: str, repair: bool) -> int:
    """Count the events of a log and what became of them in each reader; list the ids of those that are missing.

    For each reader: log = taken + parked + skipped (a row-by-row job makes nothing of them) + passed over (by a person)
    + waiting (not read yet) + missing. Exit code 1 when something is missing and not repaired.
    """
    progress = None if settings.is_json else _said
    answer = ask(settings, "audit", lambda mill: mill.audit(name, from_=from_, to=to, repair=repair, progress=progress))
    if settings.is_json:
        print_json(answer)
    else:
        _show(answer)
    return 0 if answer["adds_up"] else 1


def _said(said: dict[str, Any]) -> None:
    say(f"{said['job']}: {said['what']}")


def _show(answer: dict[str, Any]) -> None:
    readers = answer["readers"]
    print_table(_COLUMNS, [[reader[name] for name in _COLUMNS] for reader in readers], "nobody reads anything")
    for reader in readers:
        where = f"{reader['job']} <- {reader['asset']}"
        if reader["missing"]:
            more = ", ..." if reader["missing"] > len(reader["missing_ids"]) else ""
            ids = ", ".join(f"{shown(row['id'])} (offset {row['offset']})" for row in reader["missing_ids"])
            click.echo(f"{where}: {counted(reader['missing'], 'event')} missing: {ids}{more}")
            say(f"mend: {reader['mend']}")
        if reader["repaired"]:
            click.echo(f"{where}: repaired: {counted(reader['repaired'], 'row')}")
        if reader["error"]:
            click.echo(f"{where}: cannot be told: {reader['error']}", err=True)
    click.echo("the counts add up" if answer["adds_up"] else "the counts do not add up")
