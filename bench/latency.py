"""One event: from `emit` to the committed result, one at a time; and to the first line of a Python job."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from bench.measure import Figure, floors, percentile
from bench.projects import Ended, project

__all__ = ["run"]

EVENTS = 300
WARM = 30

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
    return figures
