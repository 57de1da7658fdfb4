"""`tidemill reconcile`: a job's rows beside what its whole inputs give, and the repair."""

from __future__ import annotations

import json
from typing import Any

import click

from tidemill.cli.connect import ask
from tidemill.cli.output import counted, print_json, say
from tidemill.cli.settings import Settings
from tidemill.cli.settings import command as declare

_SIGNS = {"missing": "+", "extra": "-"}


@declare(
    "tidemill reconcile delay_by_carrier",
    "tidemill reconcile delay_by_carrier --repair",
    "tidemill reconcile delay_by_carrier --against nightly.csv",
    'tidemill reconcile delay_by_carrier --against "select * from nightly"',
)
@click.argument("name", metavar="JOB|ASSET")
@click.option("--repair", is_flag=True, help="Commit the difference as one change set; readers come right too.")
@click.option("--against", default="", metavar="ASSET|QUERY|FILE", help="Compare with these rows instead.")
def command(settings: Settings, name: str, *, repair: bool, against: str) -> int:
    """Compute a job's table again from its whole inputs, at its own cursors, and compare row by row.

    Topics are read from their logs, tables as they were at the cursors; rows that the job parked are left out. Missing rows
    should be there, extra ones should not, different ones have the key of a row that should be otherwise. Exit code 1 when
    not equal and not repaired.
    """
    progress = _quiet if settings.is_json else _said
    answer = ask(
        settings, "reconcile", lambda mill: mill.reconcile(name, repair=repair, against=against, progress=progress)
    )
    if settings.is_json:
        print_json(answer)
    else:
        _show(name, answer, is_own=not against)
    return 0 if answer["equal"] or answer["repaired"] else 1


def _quiet(said: dict[str, Any]) -> None:
    """With --json nothing is told meanwhile."""


def _said(said: dict[str, Any]) -> None:
    say(f"{said['job']}: {said['what']}")


def _show(name: str, answer: dict[str, Any], *, is_own: bool) -> None:
    show_comparison(name, answer)
    if answer["repaired"]:
        click.echo(f"repaired: {counted(answer['repaired'], 'row')}")
        if answer["rebuilt"]:
            say(f"to be made anew: {', '.join(answer['rebuilt'])} (tidemill run, or at once where somebody works)")
    elif is_own and not answer["equal"]:
        say(f"mend it with: tidemill reconcile {name} --repair")


def show_comparison(name: str, answer: dict[str, Any]) -> None:
    """Show what was found, with samples."""
    if answer["equal"]:
        click.echo(f"{name}: equal")
    else:
        found = ", ".join(f"{answer[kind]} {kind}" for kind in ("missing", "extra", "different"))
        click.echo(f"{name}: not equal: {found}")
    for kind, sign in _SIGNS.items():
        for row in answer["samples"].get(kind, ()):
            click.echo(f"  {sign} {_line(row)}")
    for pair in answer["samples"].get("different", ()):
        click.echo(f"  - {_line(pair['live'])}\n  + {_line(pair['expected'])}")
    for topic, counts in answer["copies"].items():
        found = ", ".join(f"{counts[kind]} {kind}" for kind in ("missing", "extra", "different"))
        click.echo(f"  the copy of {topic} that the job reads: {found}")
    if answer["lag_changes"]:
        say(f"{counted(answer['lag_changes'], 'change')} not taken yet: compared is what was taken")


def _line(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False)
