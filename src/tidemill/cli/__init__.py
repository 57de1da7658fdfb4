"""The command line: one file a command in `commands/`, loaded when it is asked for.

Rules of this room:
  * data goes to stdout, everything else to stderr; `--json` prints what the outer contract says and nothing else
    (`descriptor.py` keeps out what programs print that jobs start);
  * exit codes: 0 ok, 1 failed work, 2 wrong use, 130 interrupted, 143 terminated;
  * a command asks the operations of a project (`connect.py`) and shows the answer; it decides nothing.

The only place that imports late: commands by name (`COMMANDS`), and by `late` what a command may turn out not to need.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from typing import Any

import click

from tidemill import __version__
from tidemill.cli.program import Program

__all__ = ["ALIASES", "COMMANDS", "late", "main", "program"]

COMMANDS: dict[str, dict[str, str]] = {
    "Begin": {
        "init": "Make a small working project.",
        "demo": "Show a project at work, on real flights.",
        "check": "Check everything, run nothing.",
        "test": "Run the project's fixtures in all three modes.",
        "doctor": "Check the machine and the state.",
    },
    "Work": {
        "run": "Do all that is due, and stop when idle.",
        "dev": "Work as things change, for development.",
        "serve": "Work as things change, and take events over HTTP.",
        "emit": "Hand in events, or say that an external asset changed.",
        "query": "Ask SQL over assets.",
        "plan": "Show what would change and run, and why.",
        "apply": "Apply what waits for it.",
    },
    "Look": {
        "ls": "List assets and jobs.",
        "show": "Show one asset, and the versions of its schema.",
        "map": "Show which jobs read and write which assets.",
        "status": "Show lag and freshness.",
        "runs": "List runs, newest first.",
        "logs": "Show what a run printed.",
        "explain": "Say why a job runs, or does not.",
        "dead": "Look at dead letters.",
    },
    "Prove": {
        "audit": "Count what became of every event, reader by reader.",
        "reconcile": "Compare a table with its job's whole inputs, and mend it.",
        "replay": "Do again what a job did, with its present code.",
        "backfill": "Process history that a job never processed.",
        "shadow": "Run another mode or query beside a job, and compare.",
    },
    "Steer": {
        "mode": "Show or override a job's mode.",
        "pause": "Start no more runs of a job.",
        "resume": "Let a paused or stopped job run again.",
        "retry": "Try a held job again at once.",
        "cancel": "Cancel a run that is going on.",
    },
    "Keep": {
        "keys": "Make and change the keys that others ask the server with.",
        "backup": "Copy the state while it works.",
        "restore": "Put a backup back.",
        "completion": "Print the completion script of a shell.",
    },
}
"""Every command with its one line of help, by what it is for; shown without loading any of them."""

ALIASES = {"validate": "check", "lineage": "map", "why": "explain", "dlq": "dead"}


def late(path: str) -> Any:
    """What `module:name` names, imported now."""
    module, _, name = path.partition(":")
    return getattr(import_module(module), name)


def _command(name: str) -> click.Command:
    found: click.Command = late(f"tidemill.cli.commands.{name}:command")
    return found


program = Program(COMMANDS, ALIASES, _command, __version__)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns the exit code."""
    return program.run(arguments)
