"""Commands: told everything in one variable, judged by their exit code, ended with all they started."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tidemill.core.errors import UserError
from tidemill.core.model import Job, Place, Takes
from tidemill.core.ports import Plan, Work
from tidemill.engines.command import CommandFailed, CommandTimedOut, run_command


def work_of(*command: str, timeout_seconds: float = 0.0) -> Work:
    job = Job(
        "send", ("report",), ("sent",), Takes.COMMAND, json.dumps(command), "v",
        timeout_seconds=timeout_seconds, place=Place("tidemill.toml", 7),
    )  # fmt: skip
    return Work(job, Plan("command"), {"report": (3, 5)}, "run1", attempt=2)


def run(folder: Path, work: Work) -> str:
    log = folder / "logs" / "run1.log"
    try:
        run_command(work, "key1", folder=folder, log=log, files={"report": ["landing/a.csv"]})
    finally:
        text = log.read_text() if log.exists() else ""
    return text


def test_a_command_is_told_its_run_in_the_project_folder(tmp_path: Path) -> None:
    script = (
        "import os, json; print(os.getcwd()); print(json.dumps(json.loads(os.environ['TIDEMILL_RUN']), sort_keys=True))"
    )
    folder, told = run(tmp_path, work_of("python", "-c", script)).splitlines()
    assert folder == str(tmp_path)
    assert json.loads(told) == {
        "run": "run1",
        "idempotency_key": "key1",
        "job": "send",
        "attempt": 2,
        "value": "",
        "traceparents": [],
        "inputs": {"report": {"from": 3, "to": 5, "files": ["landing/a.csv"]}},
        "outputs": ["sent"],
    }


def test_a_command_that_fails_gives_its_code_and_the_last_lines_of_stderr(tmp_path: Path) -> None:
    script = "import sys; [print('line', n, file=sys.stderr) for n in range(30)]; sys.exit(3)"
    with pytest.raises(CommandFailed) as caught:
        run(tmp_path, work_of("python", "-c", script))
    lines = "\n".join(f"line {n}" for n in range(20, 30))
    assert (
        str(caught.value)
        == f"job send: the command ended with exit code 3: {lines}\n  mend: see all that it wrote: tidemill logs run1"
    )
    assert (tmp_path / "logs" / "run1.log").read_text().count("line") == 30


def test_a_command_that_is_not_there_names_the_definition(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        run(tmp_path, work_of("no-such-program"))
    assert str(caught.value) == (
        "tidemill.toml:7: job send: no-such-program cannot be started: No such file or directory\n"
        "  mend: name a program that is on PATH, or give its path from the project's folder"
    )


def test_a_timeout_ends_the_command_and_its_children(tmp_path: Path) -> None:
    script = (
        "sleep 600 & echo $! > child; wait"  # a shell, which begins at once: also on a busy machine it is there in time
    )
    with pytest.raises(CommandTimedOut, match="took longer than 2 s and was ended"):
        run(tmp_path, work_of("sh", "-c", script, timeout_seconds=2.0))
    child = int((tmp_path / "child").read_text())
    state = Path(f"/proc/{child}/stat")
    if state.parent.exists():
        assert state.read_text().split()[2] == "Z"
    else:
        with pytest.raises(ProcessLookupError):
            os.kill(child, 0)


def test_no_shell_reads_a_command(tmp_path: Path) -> None:
    assert run(tmp_path, work_of("echo", "$HOME", "; true", "*")) == "$HOME ; true *\n"
