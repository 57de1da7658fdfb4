"""`tidemill status`: lag and freshness."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import click

from tidemill.cli.connect import ask
from tidemill.cli.output import duration, print_json, print_table, say
from tidemill.cli.settings import Settings
from tidemill.cli.settings import command as declare


@declare("tidemill status", "tidemill status --json")
def command(settings: Settings) -> None:
    """Show for every job how far behind and how fresh it is, for every asset how much there is, and the alarms."""
    status = ask(settings, "status", lambda mill: mill.status())
    if settings.is_json:
        print_json(status)
        return
    jobs = [
        [
            j["job"],
            j["mode"],
            j["state"],
            j["lag_changes"],
            duration(j["lag_seconds"]),
            duration(j["freshness_seconds"]),
        ]
        for j in status["jobs"]
    ]
    print_table(["job", "mode", "state", "lag", "lag time", "fresh"], jobs, "there are no jobs")
    click.echo()
    assets = [[a["asset"], a["kind"], a["head"], a["rows"], duration(a["freshness_seconds"])] for a in status["assets"]]
    print_table(["asset", "kind", "head", "rows", "fresh"], assets, "there are no assets")
    for told in _expired(status):
        click.echo(told)
    for alarm in status.get("alarms", []):
        say(f"alarm: {' '.join(filter(None, (alarm['kind'], alarm.get('job'))))}: {alarm['reason']}")


def _expired(status: dict[str, Any]) -> Iterator[str]:
    """What has expired, and what can no longer be made anew without it."""
    for asset in status["assets"]:
        if asset["retention"] and asset["retention"]["expired"]:
            yield f"expired: {asset['asset']} up to offset {asset['retention']['expired']}"
    for job in status["jobs"]:
        for asset, offset in job["expired"].items():
            yield f"cannot be made anew: {job['job']}, for {asset} has expired up to offset {offset}"
