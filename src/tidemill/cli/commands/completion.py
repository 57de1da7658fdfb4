"""`tidemill completion`: words that complete themselves in a shell."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from tidemill.cli.output import print_json
from tidemill.cli.settings import Settings
from tidemill.cli.settings import command as declare


@declare('eval "$(tidemill completion bash)"', "tidemill completion fish > ~/.config/fish/completions/tidemill.fish")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(settings: Settings, shell: str) -> None:
    """Print the completion script of a shell, to be read by its start file."""
    found = get_completion_class(shell)
    assert found is not None
    program = click.get_current_context().find_root().command
    script = found(program, {}, "tidemill", "_TIDEMILL_COMPLETE").source()
    if settings.is_json:
        print_json({"shell": shell, "script": script})
    else:
        click.echo(script)
