"""`tidemill serve`: work as things change, and take events over HTTP."""

from __future__ import annotations

import click

from tidemill.cli.live import keep_going
from tidemill.cli.settings import Settings
from tidemill.cli.settings import command as declare
from tidemill.server.local import HOST, PORT


@declare("tidemill serve", "tidemill serve --port 8080 --env prod", "tidemill serve --host 0.0.0.0")
@click.option(
    "--host",
    default=HOST,
    show_default=True,
    help="The address to answer at; any but this machine's own needs access keys.",
)
@click.option("--port", default=PORT, show_default=True, type=click.IntRange(0, 65_535), help="0 takes any free one.")
def command(settings: Settings, host: str, port: int) -> None:
    """Work as things change, until stopped, and answer HTTP: events in, rows and status out.

    Changed definitions that rebuild, remove or act outside wait for `tidemill apply`.
    A signal stops it in order, and the exit code says which: 130 (Ctrl-C) or 143 (SIGTERM).
    """
    keep_going(settings, "serve", mode="serve", host=host, port=port)
