"""Help is complete, quick, and right in the table that is shown without loading a command."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from tidemill.cli import ALIASES, COMMANDS, program
from tidemill.cli.settings import Examples

NAMES = [name for commands in COMMANDS.values() for name in commands]
WORDS = [[name] for name in NAMES] + [
    ["dead", "list"],
    *(["dead", word] for word in ("show", "edit", "replay", "discard")),
    *(["keys", word] for word in ("list", "add", "rotate", "remove")),
]
HEAVY = {"duckdb", "pyarrow", "sqlglot", "starlette", "uvicorn", "tidemill.project", "tidemill.core.model"}
HELP_MODULES_MAX = 250


def output(*words: str) -> str:
    result = CliRunner().invoke(program, list(words))
    assert result.exit_code == 0, result.output
    return result.stdout


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_every_command_has_help_with_an_example(words: list[str]) -> None:
    text = output(*words, "--help")
    assert "Examples:\n  " in text
    assert "tidemill" in text.partition("Examples:")[2]
    assert all(option in text for option in ("--json", "--project DIR", "--env NAME"))


def test_every_command_stands_in_the_table() -> None:
    text = output("--help")
    assert [name for name in NAMES if f"\n  {name} " not in text] == []
    assert [alias for alias in ALIASES if f"(or {alias})" not in text] == []


@pytest.mark.parametrize("name", NAMES)
def test_every_command_of_the_table_is_there(name: str) -> None:
    command = program.get_command(program.make_context("tidemill", ["--help"], resilient_parsing=True), name)
    assert isinstance(command, Examples)
    assert command.help
    assert command.examples


@pytest.mark.parametrize("alias", ALIASES)
def test_an_alias_is_the_command(alias: str) -> None:
    shown = output(alias, "--help").partition("\n\n")[2]
    assert shown == output(ALIASES[alias], "--help").partition("\n\n")[2]


def test_no_words_show_help() -> None:
    assert output() == output("--help")


def test_the_version_is_shown() -> None:
    assert output("--version") == "tidemill 0.1.0\n"


def test_help_loads_little_and_nothing_heavy() -> None:
    script = (
        "import sys, json\nfrom tidemill.cli import main\ncode = main(['--help'])\n"
        "print(json.dumps(sorted(sys.modules)), file=sys.stderr)\nsys.exit(code)"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(json.loads(result.stderr))
    assert HEAVY & loaded == set()
    assert len(loaded) < HELP_MODULES_MAX


@pytest.mark.parametrize(
    ("words", "message", "mend"),
    [
        (["statsu"], "there is no command statsu", "did you mean: tidemill status"),
        (["xyzzy"], "there is no command xyzzy", "list them with: tidemill --help"),
        (
            ["dead", "lst"],
            "there is no command dead lst",
            "write tidemill dead discard or tidemill dead edit or tidemill dead list",
        ),
        (["status", "--nothing"], "No such option '--nothing'.", "see: tidemill status --help"),
        (["emit"], "Missing argument 'ASSET'.", "see: tidemill emit --help"),
        (["mode", "totals", "hourly"], "'hourly' is not one of", "see: tidemill mode --help"),
        (["run", "--force"], "--force needs the jobs to run", "name them: tidemill run JOB --force"),
        (["run", "totals", "--watch"], "--watch runs whatever is due", "leave out the other words"),
        (["emit", "a", "--row", "{}", "-"], "--row, --file and - exclude each other", "choose one"),
        (["emit", "a", "events.ndjson"], "events.ndjson is not expected", "write --file events.ndjson"),
        (["resume", "totals", "--from", "x"], "--from x is not a place", "write last, now or an offset"),
        (["keys", "ad"], "there is no command keys ad", "write tidemill keys add or"),
    ],
)
def test_wrong_use_is_answered_with_what_to_write(words: list[str], message: str, mend: str) -> None:
    result = CliRunner().invoke(program, words)
    assert result.exit_code == 2
    assert message in result.stderr
    assert f"mend: {mend}" in result.stderr
    assert result.stdout == ""


def test_wrong_use_is_json_where_json_is_asked_for() -> None:
    result = CliRunner().invoke(program, ["--json", "statsu"])
    assert result.exit_code == 2
    said = {"kind": "UserError", "message": "there is no command statsu", "place": ""}
    assert json.loads(result.stderr)["error"] == {**said, "mend": "did you mean: tidemill status"}
