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


@declare("tidemill dead replay 3f2a9c", "tidemill dead replay --asset departures")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--asset", default="", help="All events that are parked at the door of this topic.")
def replay(settings: Settings, ids: tuple[str, ...], *, asset: str) -> int:
    """Send parked events through the door again, with their own identity and the contract as it is now.

    Exit code 1 if one of them is refused again; it stays parked.
    """
    chosen = _chosen(settings, ids, asset)
    answer = ask(settings, "dead replay", lambda mill: mill.replay_dead(chosen))
    _settled(settings, answer)
    return 1 if any(each["state"] == "parked" for each in answer) else 0


@declare("tidemill dead discard 3f2a9c", "tidemill dead discard --asset departures")
@click.argument("ids", nargs=-1, metavar="[ID]...")
@click.option("--asset", default="", help="All events that are parked at the door of this topic.")
def discard(settings: Settings, ids: tuple[str, ...], *, asset: str) -> None:
    """Let parked events count as settled. They are kept, and never taken."""
    chosen = _chosen(settings, ids, asset)
    _settled(settings, ask(settings, "dead discard", lambda mill: mill.discard_dead(chosen)))


@declare("""tidemill dead edit 3f2a9c --payload '{"id": "a1", "delay": 5}'""")
@click.argument("id", metavar="ID")
@click.option("--payload", required=True, metavar="JSON", help="What the event should be.")
def edit(settings: Settings, payload: str, **said: str) -> None:
    """Mend a parked event; then send it through the door again with `tidemill dead replay`."""
    answer = ask(settings, "dead edit", lambda mill: mill.edit_dead(said["id"], payload))
    if settings.is_json:
        print_json(answer)
    else:
        click.echo(f"{answer['id']}: edited; send it again with: tidemill dead replay {answer['id']}")


def _chosen(settings: Settings, ids: tuple[str, ...], asset: str) -> list[str]:
    if bool(ids) == bool(asset):
        raise click.UsageError("which events?\n  mend: name their ids, or all of a topic with --asset TOPIC")
    if ids:
        return list(ids)
    letters = ask(settings, "dead", lambda mill: mill.dead(asset=asset, limit=ALL))
    return [str(each["id"]) for each in letters if each["stage"] == "door" and each["state"] == "parked"]


def _settled(settings: Settings, answer: list[dict[str, Any]]) -> None:
    if settings.is_json:
        print_json(answer)
        return
    columns = ["id", "state", "reason"]
    print_table(columns, [[each[name] for name in columns] for each in answer], "no parked events")


def _list(settings: Settings, asset: str, limit: int) -> None:
    letters: list[dict[str, Any]] = ask(settings, "dead list", lambda mill: mill.dead(asset=asset, limit=limit))
    if settings.is_json:
        print_json(letters)
        return
    columns = ["id", "asset", "job", "stage", "reason", "attempts", "state"]
    print_table(columns, [[letter.get(name) for name in columns] for letter in letters], "no dead letters")


command.add_command(list_)
for word in (show, edit, replay, discard):
    command.add_command(word)
