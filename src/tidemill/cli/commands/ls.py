"""`tidemill ls`: the assets and jobs of a project."""

from __future__ import annotations

from typing import Any

import click

from tidemill.cli.connect import ask
from tidemill.cli.output import listed, print_json, print_table
from tidemill.cli.settings import Settings
from tidemill.cli.settings import command as declare
from tidemill.project.operations import Operations


@declare("tidemill ls", "tidemill ls --json")
def command(settings: Settings) -> None:
    """List assets (with who writes and who reads them) and jobs."""
    found = ask(settings, "ls", _found)
    if settings.is_json:
        print_json(found)
        return
    rows = [[a["asset"], a["kind"], len(a["columns"]), a["writer"], listed(a["readers"])] for a in found["assets"]]
    print_table(["asset", "kind", "columns", "writer", "readers"], rows, "there are no assets")
    click.echo()
    jobs = [[job["job"], job["mode"], listed(job["inputs"]), listed(job["outputs"])] for job in found["jobs"]]
    print_table(["job", "mode", "inputs", "outputs"], jobs, "there are no jobs")


def _found(mill: Operations) -> dict[str, Any]:
    return {"assets": mill.assets(), "jobs": mill.map()}
