"""`tidemill check`: is everything right with the definitions? Nothing runs."""

from __future__ import annotations

from collections.abc import Sequence

import click

from tidemill.cli import late
from tidemill.cli.output import print_json
from tidemill.cli.settings import Settings
from tidemill.cli.settings import command as declare
from tidemill.core.errors import DefinitionError
from tidemill.project.definitions import Definitions

WRONG = 2


@declare("tidemill check", "tidemill check --env prod --json")
def command(settings: Settings) -> int:
    """Check every definition and run nothing. Problems come all together, with file, line and mend (exit code 2)."""
    found: Definitions = late("tidemill.project.checking:check")(settings.folder, settings.env or None)
    if settings.is_json:
        print_json(
            {
                "ok": not found.problems,
                "project": found.name,
                "assets": len(found.assets),
                "jobs": len(found.jobs),
                "problems": [_as_json(problem) for problem in found.problems],
                "warnings": [_as_json(warning) for warning in found.warnings],
                "shadows": found.shadows,
            }
        )
        return WRONG if found.problems else 0
    _tell("error", found.problems)
    _tell("warning", found.warnings)
    for shadow in found.shadows:
        click.echo(f"{shadow['job']} has a shadow: {shadow['kind']} {shadow['word']}")
    summary = f"{found.name}: {len(found.assets)} assets, {len(found.jobs)} jobs"
    click.echo(f"{summary}, {len(found.problems)} problems" if found.problems else f"{summary}, all is well")
    return WRONG if found.problems else 0


def _tell(word: str, errors: Sequence[DefinitionError]) -> None:
    for error in errors:
        click.echo(f"{word}: {error}", err=True)


def _as_json(error: DefinitionError) -> dict[str, str]:
    return {"kind": type(error).__name__, "message": error.message, "place": error.place, "mend": error.mend}
