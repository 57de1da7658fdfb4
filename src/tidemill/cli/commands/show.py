"""`tidemill show`: one asset."""

from __future__ import annotations

from typing import Any

import click

from tidemill.cli.connect import ask
from tidemill.cli.output import listed, print_json, print_table
from tidemill.cli.settings import Settings
from tidemill.cli.settings import command as declare
from tidemill.project.operations import Operations
from tidemill.project.reports import found


@declare("tidemill show orders", "tidemill show orders --json")
@click.argument("asset")
def command(settings: Settings, asset: str) -> None:
    """Show an asset: its columns, who writes and reads it, and the versions of a topic's schema."""
    shown = ask(settings, "assets", lambda mill: _found(mill, asset))
    if settings.is_json:
        print_json(shown)
        return
    policy = f", schema {shown['schema']}" if "schema" in shown else ""
    click.echo(f"{shown['asset']} ({shown['kind']}{policy})")
    if shown["description"]:
        click.echo(f"  {shown['description']}")
    click.echo(f"  written by {shown['writer'] or 'nobody here'}, read by {listed(shown['readers']) or 'nobody'}")
    ranges = shown.get("ranges", {})
    rows = [
        [name, type_ + _range(ranges.get(name, {})), "key" if name in shown["key"] else ""]
        for name, type_ in shown["columns"].items()
    ]
    print_table(["column", "type", ""], rows, "no columns are known yet")
    if len(shown.get("versions", ())) > 1:
        click.echo()
        print_table(["version", "from offset", "changed"], _changes(shown["versions"]), "")


def _range(said: dict[str, Any]) -> str:
    return "".join(f", {word} {said[word]}" for word in ("minimum", "maximum") if word in said)


def _found(mill: Operations, asset: str) -> Any:
    return found({each["asset"]: each for each in mill.assets()}, asset, "asset")


def _changes(versions: list[dict[str, Any]]) -> list[list[Any]]:
    """A row a version: what it changed of the one before."""
    rows: list[list[Any]] = []
    before: dict[str, str] = {}
    for each in versions:
        now: dict[str, str] = each["columns"]
        changed = [f"{name} {type_}" for name, type_ in now.items() if before.get(name) != type_]
        changed += [f"without {name}" for name in before if name not in now]
        rows.append([each["version"], each["since"] + 1, ", ".join(changed)])
        before = now
    return rows
