"""`tidemill dead`: events and rows that were put aside, with the reason."""

from __future__ import annotations

from typing import Any

import click

from tidemill.cli.connect import ask
from tidemill.cli.output import print_json, print_table
from tidemill.cli.settings import Settings
from tidemill.cli.settings import command as declare
from tidemill.cli.settings import group as declare_group
from tidemill.core.errors import NotFound

ALL = 1_000_000


@declare_group("tidemill dead list", "tidemill dead show late_flights/departures/17")
def command(settings: Settings) -> None:
    """Look at dead letters: what was parked at the door or by a job, and why."""
    context = click.get_current_context()
    if context.invoked_subcommand is None:
        _list(settings, "", 100)


@declare("tidemill dead list", "tidemill dead list --asset departures --json", name="list")
@click.option("--asset", default="", help="Only those of this asset.")
@click.option("--limit", default=100, show_default=True, type=click.IntRange(1, ALL), help="At most so many.")
def list_(settings: Settings, asset: str, limit: int) -> None:
    """List dead letters."""
    _list(settings, asset, limit)


@declare("tidemill dead show late_flights/departures/17")
@click.argument("id", metavar="ID")
def show(settings: Settings, **said: str) -> None:
    """Show one dead letter, with all it carries."""
    wanted = said["id"]
    letters = ask(settings, "dead show", lambda mill: mill.dead(limit=ALL))
    letter = next((letter for letter in letters if str(letter["id"]) == wanted), None)
    if letter is None:
        raise NotFound(f"there is no dead letter {wanted}", mend="list them with: tidemill dead list")
    if settings.is_json:
        print_json(letter)
        return
    for name, value in letter.items():
        click.echo(f"{name + ':':<10} {value}")


def _list(settings: Settings, asset: str, limit: int) -> None:
    letters: list[dict[str, Any]] = ask(settings, "dead list", lambda mill: mill.dead(asset=asset, limit=limit))
    if settings.is_json:
        print_json(letters)
        return
    columns = ["id", "asset", "job", "stage", "reason", "attempts", "state"]
    print_table(columns, [[letter.get(name) for name in columns] for letter in letters], "no dead letters")


command.add_command(list_)
command.add_command(show)
