"""What every command is told: `--json`, `--project`, `--env`, before or after its name; and what a command is.

Rules of this file:
  * a command is declared with `@command(example=...)`: without an example there is none;
  * its function gets the `Settings` first, then its own arguments, and returns an exit code or None for 0.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

__all__ = ["Examples", "Settings", "SharedOptions", "command", "group"]


@dataclass(slots=True)
class Settings:
    """What was said before or after the name of the command."""

    is_json: bool = False
    project: str = ""
    env: str = ""

    @property
    def folder(self) -> Path:
        """The project: the one named, else the nearest folder at or above here with a tidemill.toml, else here."""
        if self.project:
            return Path(self.project)
        here = Path.cwd()
        return next((folder for folder in (here, *here.parents) if (folder / "tidemill.toml").is_file()), here)


class SharedOptions(click.Command):
    """A command with the options that all have."""

    def __init__(self, *arguments: Any, **said: Any) -> None:
        super().__init__(*arguments, **said)
        self.params += [
            _remembered("--json", "is_json", is_flag=True, help="Print JSON."),
            _remembered("--project", "project", metavar="DIR", help="The project (default: the one you are in)."),
            _remembered("--env", "env", metavar="NAME", help="The environment, as in [env.NAME]."),
        ]


class Examples(SharedOptions):
    """A command whose help shows how it is used."""

    examples: tuple[str, ...] = ()

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """The examples, as they are typed."""
        with formatter.section("Examples"):
            for example in self.examples:
                formatter.write(f"{' ' * formatter.current_indent}{example}\n")


class _Group(Examples, click.Group):
    """A command of several words."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the second word."""
        if self.get_command(ctx, args[0]) is None and not ctx.resilient_parsing and not args[0].startswith("-"):
            mend = f"write {' or '.join(f'tidemill {ctx.info_name} {name}' for name in self.list_commands(ctx))}"
            raise click.UsageError(f"there is no command {ctx.info_name} {args[0]}\n  mend: {mend}", ctx)
        return super().resolve_command(ctx, args)


def command(*examples: str, name: str = "") -> Callable[[Callable[..., int | None]], Examples]:
    """Make a function a command; its docstring is its help."""

    def made(function: Callable[..., int | None]) -> Examples:
        found = click.command(name or function.__name__.rstrip("_"), cls=Examples)(click.pass_obj(function))
        found.examples = examples
        return found

    return made


def group(*examples: str, name: str = "") -> Callable[[Callable[..., int | None]], _Group]:
    """Make a function a command of several words; alone it does what the function does."""

    def made(function: Callable[..., int | None]) -> _Group:
        found = click.group(name or function.__name__.rstrip("_"), cls=_Group, invoke_without_command=True)(
            click.pass_obj(function)
        )
        found.examples = examples
        return found

    return made


def _remembered(option: str, field: str, **said: Any) -> click.Option:
    def remember(ctx: click.Context, _: click.Parameter, value: Any) -> None:
        if value:
            setattr(ctx.ensure_object(Settings), field, value)

    return click.Option([option], expose_value=False, callback=remember, **said)
