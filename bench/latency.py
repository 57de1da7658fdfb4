"""One event: from `emit` to the committed result, one at a time; and to the first line of a Python job.

The event that starts a Python job is written by this process, by another process over a connection that it keeps, and by
`tidemill emit` as a process of its own for each event (which pays for starting Python).
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench.idle import served
from bench.measure import Figure, floors, percentile, timed
from bench.projects import Ended, project, write_project
from bench.sender import event
from tidemill.project.owner import Address, acquire
from tidemill.server.client import RemoteMill

__all__ = ["run"]

EVENTS = 300
WARM = 30
FRESH = 7

ROWWISE = "-- mode: realtime\nselect key, amount * 2 as twice from events where amount > 0\n"
RECOMPUTE = "-- mode: realtime\nselect key, count(*) as events, sum(amount) as amount from events group by all\n"
PYTHON = """
import time
import tidemill as tm

@tm.job(inputs="events", output="seen", mode="realtime")
def seen(row: dict) -> dict:
    return {"event_id": row["event_id"], "lag": time.time() - float(row["note"])}
"""


def _one_at_a_time(folder: Path, jobs: dict[str, str], job: str) -> list[float]:
    with project(folder, jobs) as mill:
        ended = Ended(mill, job, "events")
        times = []
        for number in range(EVENTS + WARM):
            start = time.perf_counter()
            line = (
                f'{{"event_id":"e{number}","key":"k{number % 50}","amount":1,"at":"2026-01-01T00:00:00","note":"x"}}\n'
            )
            head = mill.emit("events", line.encode())["head"]
            ended.wait(head)
            times.append((time.perf_counter() - start) * 1_000)
        return times[WARM:]


def _first_line(folder: Path) -> list[float]:
    with project(folder, {"seen.py": PYTHON}) as mill:
        ended = Ended(mill, "seen", "events")
        for number in range(EVENTS + WARM):
            line = (
                f'{{"event_id":"e{number}","key":"k","amount":1,"at":"2026-01-01T00:00:00","note":"{time.time()}"}}\n'
            )
            ended.wait(mill.emit("events", line.encode())["head"])
        rows = mill.query("select lag from seen order by event_id")
        return [row["lag"] * 1_000 for row in rows][WARM:]


def _from_another_process(folder: Path) -> tuple[list[float], float, list[float]]:
    """Milliseconds from writing to the first line: over a kept connection, beside its round trip; and by `emit`."""
    write_project(folder, {"seen.py": PYTHON})
    with served(folder):
        command = [sys.executable, "-m", "bench.sender", str(folder), str(EVENTS + WARM)]
        trip = float(json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout))
        for number in range(FRESH):
            line = event(EVENTS + WARM + number).decode()
            emit = [sys.executable, "-m", "tidemill", "emit", "events", "--project", str(folder), "--row", line]
            subprocess.run(emit, check=True, capture_output=True)
        owner = acquire(folder, command="query")
        assert isinstance(owner, Address), "the project is not served any more"
        mill = RemoteMill(owner)
        mill.run()
        lags = [row["lag"] * 1_000 for row in mill.query("select lag from seen order by event_id")]
        mill.close()
    return lags[WARM:-FRESH], trip, lags[-FRESH:]


def run(folder: Path) -> list[Figure]:
    """All latency figures."""
    floor = floors(folder / "floor")
    figures = []
    for name, sql, wanted in (("row-wise", ROWWISE, "<= 4x, p50 <= 15 ms"), ("recompute", RECOMPUTE, "<= 16x")):
        times = _one_at_a_time(folder / name, {"job.sql": sql}, "job")
        p50, p99 = statistics.median(times), percentile(times, 99)
        figures.append(Figure(f"one event -> {name} SQL row, p50", p50, "ms", floor.both_ms, "both commits", wanted))
        figures.append(Figure(f"one event -> {name} SQL row, p99", p99, "ms", None, "", "<= 60 ms"))
    lags = _first_line(folder / "python")
    figures.append(Figure("one event -> first line of Python, p50", statistics.median(lags), "ms", None, "", "<= 5 ms"))
    figures.append(Figure("one event -> first line of Python, p99", percentile(lags, 99), "ms", None, "", "<= 25 ms"))
    lags, trip, fresh = _from_another_process(folder / "apart")
    name, least, beside = (
        "event of another process -> first line of Python",
        trip + floor.sqlite_ms,
        "question + commit",
    )
    start = statistics.median(timed(_empty_python) for _ in range(FRESH))
    figures += [
        Figure(f"{name}, p50", statistics.median(lags), "ms", least, beside, "<= 5 ms"),
        Figure(f"{name}, p99", percentile(lags, 99), "ms", None, "", "<= 25 ms"),
        Figure("`tidemill emit` -> first line of Python", statistics.median(fresh), "ms", start, "empty Python"),
    ]
    return figures


def _empty_python() -> None:
    subprocess.run([sys.executable, "-c", "pass"], check=True)
