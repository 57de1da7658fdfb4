"""Memory of a served project while events pour in from a file: after the first million, and after the fifth.

Measured is the largest resident size (VmHWM) of the server alone, which counts per key in realtime, and of the command
that sends the file. Target: less than 600 MB, and flat: five million events need no more than one.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from bench.idle import served
from bench.measure import Figure
from bench.projects import write_project
from bench.throughput import COUNT, EVENTS, blocks
from tidemill.project.owner import Address, acquire
from tidemill.server.client import RemoteMill

__all__ = ["run"]

TIMES = 5


def _peak_mb(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def _sent(folder: Path, file: Path) -> tuple[float, float]:
    """Emit the file by the command; its peak in MB, and how many events a second it handed in."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "tidemill", "emit", "events", "--project", str(folder), "--file", str(file)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"emit ended with {process.returncode}"
    return used.ru_maxrss / 1024, EVENTS / (time.perf_counter() - start)


def run(folder: Path) -> list[Figure]:
    """Peaks after one and after five million events, each counted to the last."""
    write_project(folder / "project", {"count.sql": COUNT})
    file = folder / "events.ndjson"
    with file.open("wb") as out:
        out.writelines(blocks())
    peaks, sending, rates = [], 0.0, []
    with served(folder / "project") as (process, _):
        resting = _peak_mb(process.pid)
        owner = acquire(folder / "project", command="bench")
        assert isinstance(owner, Address), "the project is not served"
        mill = RemoteMill(owner)
        for time_ in range(1, TIMES + 1):
            sent, rate = _sent(folder / "project", file)
            mill.run()
            (counted,) = mill.query('select sum(events) as n from "count"')
            assert int(counted["n"]) == time_ * EVENTS, counted
            peaks.append(_peak_mb(process.pid))
            sending = max(sending, sent)
            rates.append(rate)
        mill.close()
    return [
        Figure("peak memory of the server, 1 M events", peaks[0], "MB", resting, "opened and resting", "< 600 MB"),
        Figure(f"peak memory of the server, {TIMES} M events", peaks[-1], "MB", peaks[0], "after 1 M", "flat: 1.0 x"),
        Figure("peak memory of `emit --file`", sending, "MB", None, "", "< 600 MB"),
        Figure("`emit --file` to the server, 1st million", rates[0], "events/s"),
        Figure(f"`emit --file` to the server, {TIMES}th million", rates[-1], "events/s", rates[0], "the 1st"),
    ]
