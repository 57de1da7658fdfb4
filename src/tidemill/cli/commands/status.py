"""`tidemill status`: lag and freshness."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
    assets = [[a["asset"], a["kind"], *_size(a), duration(a["freshness_seconds"])] for a in status["assets"]]
    print_table(["asset", "kind", "head", "rows", "fresh"], assets, "there are no assets")
    for told in _expired(status):
        click.echo(told)
    for alarm in status.get("alarms", []):
        say(f"alarm: {' '.join(filter(None, (alarm['kind'], alarm.get('job'))))}: {alarm['reason']}")


def _size(asset: Mapping[str, Any]) -> list[Any]:
    """Head and rows; a view keeps none of its own."""
    return ["-", "-"] if asset["kind"] == "view" else [asset["head"], asset["rows"]]


def _expired(status: dict[str, Any]) -> Iterator[str]:
    """What has expired, and what can no longer be made anew without it."""
    for topic in status.get("retention", []):
        if topic["expired"]:
            yield f"expired: {topic['asset']} up to offset {topic['expired']}"
        for job in topic["not_rebuildable"]:
            yield f"cannot be made anew: {job}, for {topic['asset']} has expired up to offset {topic['expired']}"
