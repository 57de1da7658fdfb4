"""`tidemill test`: the project's fixtures, in all three modes."""

from __future__ import annotations

from dataclasses import asdict

import click

from tidemill.cli.output import print_json, say
from tidemill.cli.settings import Settings
from tidemill.cli.settings import command as declare
from tidemill.project.fixtures import Verdict, read_fixtures, verdicts


@declare("tidemill test", "tidemill test two_carriers --json")
@click.argument("names", nargs=-1, metavar="[FIXTURE]...")
def command(settings: Settings, names: tuple[str, ...]) -> int:
    """Run fixtures/*.toml, each in a copy of the project, in realtime, microbatch and batch; the results must be equal.

    A fixture says what is given, [given.ASSET] rows = [{...}], and what is expected, [expect.ASSET] rows = [{...}].
    Exit code 1 if anything differs.
    """
    fixtures = read_fixtures(settings.folder, names)
    found: list[Verdict] = []
    for verdict in verdicts(settings.folder, fixtures, settings.env):
        found.append(verdict)
        if not settings.is_json:
            _show(verdict)
    failed = sum(not verdict.is_passed for verdict in found)
    if settings.is_json:
        differences = [asdict(verdict) for verdict in found if not verdict.is_passed]
        counts = {"fixtures": len(fixtures), "passed": len(found) - failed, "failed": failed}
        print_json({**counts, "differences": differences})
    else:
        click.echo(f"{len(fixtures)} fixtures in three modes: {len(found) - failed} passed, {failed} failed")
    return 1 if failed else 0


def _show(verdict: Verdict) -> None:
    click.echo(f"{'passed' if verdict.is_passed else 'FAILED'} {verdict.fixture} ({verdict.mode})")
    if verdict.error:
        say(f"  {verdict.error}")
    for difference in verdict.differences:
        for word, rows in (("missing", difference.missing), ("extra", difference.extra)):
            for row in rows:
                say(f"  {difference.asset}: {word} {row}")
