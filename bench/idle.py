"""What a served project costs that rests: 10,000 jobs, all of which have run, and nothing to do.

Measured is the processor time of the server itself (/proc/PID/stat) over a time that is longer than the pause between
two looks at everything, beside the same for ten jobs. Target: less than 1 % of a core, and nothing that grows.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from bench.load import JOBS, write_project
from bench.measure import Figure
from tidemill.project.watching import RESYNC_SECONDS

__all__ = ["cpu_seconds", "run", "served"]

FEW_JOBS = 10
RESTING_SECONDS = RESYNC_SECONDS + 10.0
QUIET_SECONDS = 5.0
SETTLED_SHARE = 0.05
SETTLE_SECONDS_MAX = 900.0
EVENT = b'{"id":"1","kind":"k","amount":1000000,"at":"2026-01-01T00:00:00"}\n'


@contextmanager
def served(folder: Path) -> Iterator[tuple[subprocess.Popen[str], HTTPConnection]]:
    """A project served by a process of its own, and a connection to it."""
    command = [sys.executable, "-m", "tidemill", "serve", "--project", str(folder), "--port", "0", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        address = json.loads(process.stdout.readline())["address"].removeprefix("http://")
        yield process, HTTPConnection(*address.split(":"))
    finally:
        process.terminate()
        process.wait()


def cpu_seconds(pid: int) -> float:
    """The processor time that a process and its threads have used."""
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def ask(connection: HTTPConnection, method: str, path: str, body: bytes | None = None) -> Any:
    """A JSON answer."""
    connection.request(method, path, body)
    answer = connection.getresponse()
    text = answer.read()
    assert answer.status < 300, text
    return json.loads(text)


def share(pid: int, seconds: float) -> float:
    """The share of a core that a process uses over some seconds."""
    before, begun = cpu_seconds(pid), time.perf_counter()
    threading.Event().wait(seconds)
    return (cpu_seconds(pid) - before) / (time.perf_counter() - begun)


def _resting(folder: Path, jobs: int) -> float:
    """The share of a core, in percent, once every job has run."""
    write_project(folder, jobs)
    with served(folder) as (process, connection):
        ask(connection, "POST", "/v1/assets/events/events", EVENT)
        ends_at = time.perf_counter() + SETTLE_SECONDS_MAX
        while share(process.pid, QUIET_SECONDS) > SETTLED_SHARE:
            assert time.perf_counter() < ends_at, "the project does not come to rest"
        return share(process.pid, RESTING_SECONDS) * 100


def run(folder: Path) -> list[Figure]:
    """The figure for many jobs, beside that for few."""
    few = _resting(folder / "few", FEW_JOBS)
    many = _resting(folder / "many", JOBS)
    name = f"idle serve, {JOBS:,} jobs that have run"
    return [Figure(name, many, "% of a core", few, f"{FEW_JOBS} jobs", "< 1 %, does not grow")]
