"""Projects in temporary folders, opened for real: both stores, real files, real processes where a test asks for one."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import tidemill
from tidemill.core.event import Ticked
from tidemill.project.mill import Mill

Row = dict[str, Any]
DEADLINE_SECONDS = 20.0
PYTHON = sys.executable


def until(holds: Callable[[], Any], what: str = "", seconds: float = DEADLINE_SECONDS) -> Any:
    """What `holds` gives once it is true; fails when it does not become so in time."""
    ends_at = time.monotonic() + seconds
    pause = threading.Event()
    while True:
        found = holds()
        if found:
            return found
        if time.monotonic() > ends_at:
            raise AssertionError(f"not within {seconds:g} s: {what or holds}")
        pause.wait(0.02)


class AheadClock:
    """The machine's clock, ahead by as many seconds as a test says."""

    def __init__(self) -> None:
        self.ahead_seconds = 0.0

    def now(self) -> float:
        return time.time() + self.ahead_seconds


class Project:
    """A project's folder, and what a user does with it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, files: Mapping[str, str | bytes]) -> Project:
        """Write files, each in one step (a rename), as a careful writer does."""
        for name, content in files.items():
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            beside = self.folder.parent / f"{self.folder.name}.beside"
            beside.write_bytes(content if isinstance(content, bytes) else content.encode())
            beside.replace(path)
        return self

    def remove(self, name: str) -> None:
        (self.folder / name).unlink()

    def open(self) -> Mill:
        """The project, owned by this process: a context manager."""
        return tidemill.open(self.folder)

    def run(self) -> Row:
        """Open, do all that is due, close."""
        with self.open() as mill:
            return ran(mill)

    def command(self, *words: str) -> list[str]:
        return [PYTHON, "-m", "tidemill", *words, "--project", str(self.folder)]

    def cli(self, *words: str, code: int | None = 0) -> subprocess.CompletedProcess[str]:
        """Run a command of the command line to its end."""
        done = subprocess.run(self.command(*words), capture_output=True, text=True, timeout=60, check=False)
        assert code is None or done.returncode == code, (words, done.returncode, done.stdout, done.stderr)
        assert "leaked" not in done.stderr, f"something was not closed: {done.stderr}"
        return done

    def cli_free(self, *words: str) -> None:
        """Run a command that needs no project."""
        subprocess.run([PYTHON, "-m", "tidemill", *words], check=True, capture_output=True, timeout=60)

    def json(self, *words: str, code: int | None = 0) -> Any:
        """The JSON that a command prints."""
        return json.loads(self.cli(*words, "--json", code=code).stdout)

    def lines(self, name: str) -> list[str]:
        """The lines of a file; none where there is no such file yet."""
        path = self.folder / name
        return path.read_text().splitlines() if path.exists() else []


def ran(mill: Mill, jobs: Iterable[str] = ()) -> Row:
    """Do all that is due, every file taken at the first look (the project's files arrive by rename)."""
    mill.land(waits=False, trusts_all=True)
    return dict(mill.run(tuple(jobs)))


def settled(mill: Mill) -> None:
    """Wait until nothing runs, retries or is looked at, without asking for anything to run."""
    assert mill.machine.loop.when_idle().wait(DEADLINE_SECONDS)


def rows(mill: Mill, sql: str) -> list[tuple[Any, ...]]:
    """The rows of a query, as tuples."""
    return [tuple(row.values()) for row in mill.query(sql)]


def ahead(mill: Mill, seconds: float) -> None:
    """Move the project's clock ahead."""
    clock = mill.machine.clock
    if not isinstance(clock, AheadClock):
        clock = AheadClock()
        mill.machine.clock = mill.machine.services.clock = clock  # type: ignore[assignment]
    clock.ahead_seconds += seconds
    mill.machine.loop.post(Ticked(clock.now()))
    mill.machine.loop.when_handled().wait(DEADLINE_SECONDS)


def job_state(mill: Mill, job: str) -> str:
    """The state of a job, as `status` says it."""
    return next(str(each["state"]) for each in mill.status()["jobs"] if each["job"] == job)


def alarms(mill: Mill) -> list[str]:
    """The reasons of the alarms that stand."""
    return [str(alarm["reason"]) for alarm in mill.status()["alarms"]]


def states(mill: Mill) -> list[tuple[str, str]]:
    """(job, state) of every run, oldest first."""
    return [(run["job"], run["state"]) for run in reversed(mill.runs())]


def ended(process: subprocess.Popen[str]) -> int:
    """The exit code of a process, once it ends by itself."""
    return process.wait(timeout=DEADLINE_SECONDS)


@pytest.fixture
def project(tmp_path: Path) -> Project:
    folder = tmp_path / "project"
    folder.mkdir()
    return Project(folder)


@pytest.fixture
def started() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a command of a project in a process of its own; whatever still lives at the end is killed."""
    processes: list[subprocess.Popen[str]] = []

    def start(project: Project, *words: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            project.command(*words), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        if process.poll() is None:
            os.kill(process.pid, signal.SIGKILL)
        process.communicate(timeout=DEADLINE_SECONDS)


@contextlib.contextmanager
def watching(project: Project) -> Iterator[Mill]:
    """The project opened and followed, as by `tidemill run --watch`, within this process."""
    stop = threading.Event()
    with project.open() as mill:
        thread = threading.Thread(target=mill.watch, args=(stop,), name="watch")
        thread.start()
        try:
            yield mill
        finally:
            stop.set()
            thread.join(DEADLINE_SECONDS)


ORDERS = """[project]
name = "shop"
[assets.orders]
kind = "topic"
id = "id"
[assets.orders.columns]
id = "varchar"
customer = "varchar"
amount = "integer"
"""

STOCK = """
[assets.stock]
kind = "topic"
key = ["item"]
semantics = "upsert"
version = "seq"
[assets.stock.columns]
item = "varchar"
level = "integer"
seq = "bigint"
"""


def order(number: int, customer: str = "ada", amount: int = 1) -> Row:
    return {"id": f"o{number}", "customer": customer, "amount": amount}
