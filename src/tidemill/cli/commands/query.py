"""`tidemill query`: SQL over assets."""

from __future__ import annotations

import sys

import click

from tidemill.cli.connect import ask
from tidemill.cli.output import print_json, print_rows
from tidemill.cli.settings import Settings
from tidemill.cli.settings import command as declare


@declare('tidemill query "select * from delay_by_carrier"', "tidemill query - < report.sql")
@click.argument("sql")
def command(settings: Settings, sql: str) -> None:
    """Show the rows of a query over assets (`-` reads it from stdin).

    Topics and views are brought up to date first; an extract is its file as it is now. An output that never ran is empty.
    """
    text = sys.stdin.read() if sql == "-" else sql
    rows = ask(settings, "query", lambda mill: mill.query(text))
    if settings.is_json:
        print_json(rows)
    else:
        print_rows(rows)
