"""`tidemill emit`: hand in events, or say that an external asset changed."""

from __future__ import annotations

import sys
from typing import Any, cast

import click

from tidemill.cli.connect import ask
from tidemill.cli.output import print_json, say
from tidemill.cli.sending import Stream, Total, send_file, send_row, send_stream
from tidemill.cli.settings import Settings
from tidemill.cli.settings import command as declare
from tidemill.core.errors import NotFound, UserError
from tidemill.project.operations import Operations


@declare(
    'tidemill emit departures --row \'{"flight_id": "UA1", "delay": 4}\'',
    "tidemill emit departures --file events.ndjson",
    "tail -f events.ndjson | tidemill emit departures -",
    "tidemill emit end_of_day --version 2013-01-01",
)
@click.argument("asset")
@click.argument("stdin", required=False, metavar="[-]")
@click.option("--row", "rows", multiple=True, metavar="JSON", help="One event.")
@click.option("--file", "file", metavar="F", help="A file of events, one JSON object a line, or one JSON array.")
@click.option("--version", "version", default="", metavar="TEXT", help="What an external asset changed to.")
def command(
    settings: Settings, *, asset: str, stdin: str | None, rows: tuple[str, ...], file: str | None, version: str
) -> int:
    """Hand events to a topic; with `-` they come from stdin. They are durable when the command ends.

    A file that was interrupted goes on where it stopped. On an external asset (no events): it changed.
    Exit code 1 if an event was parked; look with: tidemill dead list
    """
    if stdin not in (None, "-"):
        raise click.UsageError(f"{stdin} is not expected\n  mend: write --file {stdin}, or - for stdin")
    if sum((bool(rows), file is not None, stdin == "-")) > 1:
        raise click.UsageError("--row, --file and - exclude each other\n  mend: choose one")
    if version and (rows or file is not None or stdin is not None):
        raise click.UsageError(
            "--version says what an external asset changed to, and events have none\n  mend: leave out --version"
        )
    is_quiet = settings.is_json

    def work(mill: Operations) -> Any:
        if rows:
            return send_row(mill, asset, rows)
        if file == "-" or stdin == "-":
            return send_stream(mill, asset, cast("Stream", sys.stdin.buffer))
        return send_file(mill, asset, file, is_quiet=is_quiet) if file else _touch(mill, asset, version)

    return _show(settings, asset, ask(settings, "emit", work))


def _touch(mill: Operations, asset: str, version: str) -> Any:
    known = next((each for each in mill.assets() if each["asset"] == asset), None)
    if known is None:
        raise NotFound(f"there is no asset {asset}", mend="see: tidemill ls")
    if version and known["kind"] != "external":
        mend = f"leave out --version, and add --row, --file or -: tidemill emit {asset} --file events.ndjson"
        raise UserError(f"{asset} is a {known['kind']}, and --version is for external assets", mend=mend)
    if known["kind"] != "external":
        mend = f"add --row, --file or -: tidemill emit {asset} --file events.ndjson"
        raise UserError(f"{asset} is a {known['kind']}, and no events were given", mend=mend)
    return mill.touch(asset, version)


def _show(settings: Settings, asset: str, answer: Total | dict[str, Any]) -> int:
    said = answer.as_json() if isinstance(answer, Total) else answer
    if settings.is_json:
        print_json({name: said[name] for name in ("accepted", "duplicate", "parked", "results") if name in said})
    else:
        click.echo(f"{asset}: {said['accepted']} accepted, {said['duplicate']} duplicate, {said['parked']} parked")
        for result in said.get("results", [])[:10]:
            column = f" ({result['column']})" if result.get("column") else ""
            say(f"  event {result['index'] + 1} {result['status']}{column}: {result['reason']}")
    if said.get("warning"):
        say(f"warning: {said['warning']}")
    return 1 if said["parked"] else 0
