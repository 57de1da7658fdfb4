"""`tidemill keys`: who may ask the server what."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import click

from tidemill.cli.connect import ask
from tidemill.cli.output import print_json, print_table, say
from tidemill.cli.settings import Settings
from tidemill.cli.settings import command as declare
from tidemill.cli.settings import group as declare_group
from tidemill.core.errors import UserError
from tidemill.project.words import duration


@declare_group("tidemill keys add shop --scope ingest:orders --scope read", "tidemill keys list")
def command(settings: Settings) -> None:
    """Make, change and remove access keys. As soon as there is one, whoever asks the server needs one."""
    context = click.get_current_context()
    if context.invoked_subcommand is None:
        _list(settings)


@declare("tidemill keys list", "tidemill keys list --json", name="list")
def list_(settings: Settings) -> None:
    """List the keys; nobody can show a key itself again."""
    _list(settings)


@declare("tidemill keys add shop --scope ingest:orders", "tidemill keys add board --scope read --scope operate")
@click.argument("name", metavar="NAME")
@click.option("--scope", "scopes", multiple=True, help="ingest, ingest:TOPIC, read or operate; several may be given.")
def add(settings: Settings, name: str, scopes: tuple[str, ...]) -> None:
    """Make a key, and show it this once."""
    _show(settings, ask(settings, "keys add", lambda mill: mill.add_key(name, list(scopes))))


@declare("tidemill keys rotate shop", "tidemill keys rotate shop --overlap 0s")
@click.argument("name", metavar="NAME")
@click.option("--overlap", default="1d", show_default=True, help="How long the present key counts beside the new one.")
def rotate(settings: Settings, name: str, overlap: str) -> None:
    """Change a key: show a new one, and let the present one count a while more."""
    try:
        seconds = duration(overlap)
    except ValueError as error:
        raise UserError(f"--overlap: {error}", mend="write --overlap 1d") from None
    _show(settings, ask(settings, "keys rotate", lambda mill: mill.rotate_key(name, seconds)))


@declare("tidemill keys remove shop")
@click.argument("name", metavar="NAME")
def remove(settings: Settings, name: str) -> None:
    """Let a key count no more, at once."""
    answer = ask(settings, "keys remove", lambda mill: mill.remove_key(name))
    if settings.is_json:
        print_json(answer)
    else:
        say(f"the key {name} counts no more")


def _show(settings: Settings, made: dict[str, Any]) -> None:
    if settings.is_json:
        print_json(made)
        return
    click.echo(made["secret"])
    until = made.get("old_until")
    say(f"the key {made['key']} may {', '.join(made['scopes'])}; keep it, it is not shown again")
    if until is not None:
        say(f"the one before counts until {_time(until)}")


def _list(settings: Settings) -> None:
    keys = ask(settings, "keys list", lambda mill: mill.keys())
    if settings.is_json:
        print_json(keys)
        return
    rows = [[key["key"], ", ".join(key["scopes"]), _time(key["created_at"]), _time(key["old_until"])] for key in keys]
    print_table(["key", "scopes", "made", "old one until"], rows, "no keys: on this machine anybody may ask")


def _time(seconds: float | None) -> str:
    return "" if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


for each in (list_, add, rotate, remove):
    command.add_command(each)
