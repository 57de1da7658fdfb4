"""The `tidemill` command itself: finds commands, gives help, and turns how they end into an exit code.

Rules of this file:
  * nothing of a command is loaded before it is asked for, so `--help` is quick;
  * every ending goes through `main`: an answer, an error, an interruption.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

import click

from tidemill.cli.descriptor import answer_alone
from tidemill.cli.ending import Interrupted, Terminated, complain, on_terminate
from tidemill.cli.settings import Settings, SharedOptions

__all__ = ["Program"]

_WIDTH_OF_NAMES = 12


class Program(SharedOptions, click.Group):
    """The group of all commands."""

    def __init__(
        self,
        sections: Mapping[str, Mapping[str, str]],
        aliases: Mapping[str, str],
        load: Callable[[str], click.Command],
        version: str,
    ) -> None:
        super().__init__(
            name="tidemill",
            help="Data that moves: when an asset changes, exactly the jobs that read it run.",
            invoke_without_command=True,
            callback=_show_help,
            context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        )
        self._sections = sections
        self._aliases = aliases
        self._load = load
        self.params.append(_version_option(version))

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Every command, in the order of help."""
        return [name for commands in self._sections.values() for name in commands]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command by its name or alias, loaded now; None where there is none."""
        name = self._aliases.get(cmd_name, cmd_name)
        return self._load(name) if name in self.list_commands(ctx) else None

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command of the arguments; an unknown one is answered with the nearest."""
        name = args[0]
        if self.get_command(ctx, name) is None and not ctx.resilient_parsing and not name.startswith("-"):
            nearest = get_close_matches(name, [*self.list_commands(ctx), *self._aliases], n=1, cutoff=0.5)
            mend = f"did you mean: tidemill {nearest[0]}" if nearest else "list them with: tidemill --help"
            raise click.UsageError(f"there is no command {name}\n  mend: {mend}", ctx)
        return super().resolve_command(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; an interruption stays what it is (click would say something of its own)."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt as error:
            raise Interrupted from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """The table of commands, by what they are for."""
        names = {target: f" (or {alias})" for alias, target in self._aliases.items()}
        for title, commands in self._sections.items():
            with formatter.section(title):
                rows = [(name.ljust(_WIDTH_OF_NAMES), text + names.get(name, "")) for name, text in commands.items()]
                formatter.write_dl(rows)

    def run(self, arguments: Sequence[str] | None = None) -> int:
        """Run; returns the exit code."""
        try:
            self.main(arguments, prog_name="tidemill")
        except SystemExit as ending:
            return ending.code if isinstance(ending.code, int) else 1

    def main(self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any) -> NoReturn:  # type: ignore[override]
        """Run, and leave with the exit code that says how it ended."""
        extra["standalone_mode"] = False
        said = list(sys.argv[1:] if args is None else args)
        settings = Settings(is_json="--json" in said)
        with answer_alone():
            try:
                with on_terminate():
                    code = super().main(said, prog_name or "tidemill", obj=settings, **extra)
            except BaseException as error:  # noqa: BLE001 - every ending has an exit code, and `_code` hands on what has none
                code = _code(error, settings)
        sys.exit(code if isinstance(code, int) else 0)


def _code(error: BaseException, settings: Settings) -> int:
    if isinstance(error, Terminated):
        return 143
    if isinstance(error, Interrupted | click.Abort | KeyboardInterrupt):
        return 130
    if isinstance(error, OSError) and error.errno == errno.EPIPE:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # nobody reads any more: let the flush at exit pass
        return 1
    return complain(error, is_json=settings.is_json)


def _show_help() -> None:
    context = click.get_current_context()
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


def _version_option(version: str) -> click.Option:
    def show(ctx: click.Context, _: click.Parameter, value: bool) -> None:
        if value and not ctx.resilient_parsing:
            click.echo(f"tidemill {version}")
            ctx.exit()

    return click.Option(
        ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=show, help="Show the version."
    )
