"""`tidemill dev`: work as things change, while the project is written."""

from __future__ import annotations

import click

from tidemill.cli.live import keep_going
from tidemill.cli.settings import Settings
from tidemill.cli.settings import command as declare
from tidemill.server.local import PORT


@declare("tidemill dev", "tidemill dev --port 0")
@click.option("--port", default=PORT, show_default=True, type=click.IntRange(0, 65_535), help="0 takes any free one.")
def command(settings: Settings, port: int) -> None:
    """Follow files, events and definitions until stopped; every definition is applied as soon as it is saved."""
    keep_going(settings, "dev", mode="watch", port=port, tells_runs=True)
