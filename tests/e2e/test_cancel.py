"""Cancelling a run: nothing of it is committed, its job is paused, and resuming takes the same work again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.e2e.conftest import until
from tidemill.project.mill import Mill, open_mill

SLOW = """
[project]
name = "slow"
[assets.day]
kind = "external"
[jobs.command]
inputs = ["day"]
outputs = ["by_command"]
command = ["sleep", "60"]
"""
FUNCTION = """
import pathlib
import time
import tidemill as tm

@tm.job(inputs="day", outputs="by_function")
def function(run: tm.Run) -> None:
    pathlib.Path("started").touch()
    while not pathlib.Path("go_on").exists():
        time.sleep(0.01)
"""


def run_of(mill: Mill, job: str, state: str) -> str:
    return next((run["run"] for run in mill.runs(job=job) if run["state"] == state), "")


def test_a_cancelled_command_is_ended_at_once_and_its_job_paused(tmp_path: Path) -> None:
    (tmp_path / "tidemill.toml").write_text(SLOW)
    with open_mill(tmp_path, mode="run") as mill:
        mill.touch("day")
        run = until(lambda: run_of(mill, "command", "running"))
        until(lambda: mill.machine.effects.is_going(run))

        assert mill.cancel(run) == {"run": run, "state": "cancelled"}

        until(lambda: run_of(mill, "command", "cancelled"))
        assert mill.explain("command")["state"] == "paused"
        assert mill.status()["assets"][1]["head"] == 0


def test_a_cancelled_function_commits_nothing_and_runs_again_when_resumed(tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tidemill.toml").write_text(SLOW.partition("[jobs.command]")[0])
    (tmp_path / "jobs").mkdir()
    (tmp_path / "jobs" / "function.py").write_text(FUNCTION)
    with open_mill(tmp_path, mode="run") as mill:
        mill.touch("day")
        until((tmp_path / "started").exists)
        run = until(lambda: run_of(mill, "function", "running"))
        mill.cancel(run)
        (tmp_path / "go_on").touch()
        until(lambda: run_of(mill, "function", "cancelled"))
        assert mill.status()["jobs"][0]["lag_changes"] == 1

        mill.resume("function")
        mill.run()

        assert mill.status()["jobs"][0]["lag_changes"] == 0
