"""Events in over HTTP: how many a second, how soon, and what a server costs that answers and keeps nothing.

The floor is bare uvicorn (uvloop, httptools) that reads the body and answers 202 without storing it, asked by the same
generator (knocking.py, a process of its own) in the same run, just before. Every event of ours is durable and validated
when it is answered. The wait for a verdict is measured at 100 events a second, sent whether or not earlier ones are answered.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.idle import served
from bench.measure import Figure
from bench.projects import write_project

__all__ = ["run"]

SECONDS = 6.0
CONNECTIONS = 64
BATCH = 100
RATE_PER_SECOND = 100
VERDICTS = "-- mode: realtime\nselect event_id, key, amount > 500 as is_large from events\n"
COUNTS = "-- mode: realtime\nselect key, count(*) as n, sum(amount) as total from events group by key\n"


def run(folder: Path) -> list[Figure]:
    """Singles, one connection, batches; then the time to a verdict."""
    figures: list[Figure] = []
    write_project(folder / "plain", {}, has_id=True)
    bare = {kind: _asked_of_bare(kind) for kind in ("many", "one", "batches")}
    with served(folder / "plain") as (_, connection):
        ours = {kind: _knocked(connection.port, kind) for kind in ("many", "one", "batches")}
    singles = f"single events, {CONNECTIONS} connections"
    rates = {kind: said["answers"] / SECONDS for kind, said in ours.items()}
    floors = {kind: said["answers"] / SECONDS for kind, said in bare.items()}
    figures += [
        Figure(singles, rates["many"], "events/s", floors["many"], "bare uvicorn", ">= 0.4x"),
        Figure(f"{singles}, p99", ours["many"]["p99_ms"], "ms", bare["many"]["p99_ms"], "bare uvicorn", "<= 20 ms"),
        Figure("one connection, one event at a time, p50", ours["one"]["p50_ms"], "ms", bare["one"]["p50_ms"],
               "bare uvicorn", "<= 1 ms"),
        Figure(f"arrays of {BATCH} events, {CONNECTIONS} connections", rates["batches"] * BATCH, "events/s",
               floors["batches"] * BATCH, "bare uvicorn", ">= 150,000/s"),
    ]  # fmt: skip
    for job, sql in {"verdicts": VERDICTS, "counts": COUNTS}.items():
        write_project(folder / job, {f"{job}.sql": sql}, has_id=True)
        with served(folder / job) as (_, connection):
            said = _knocked(connection.port, f"wait:{job}")
        what = f"event -> row of {job}, in the reply (?wait), {RATE_PER_SECOND}/s"
        figures += [
            Figure(f"{what}, p50", said["p50_ms"], "ms", None, "", "<= 15 ms"),
            Figure(f"{what}, p99", said["p99_ms"], "ms", None, "", "<= 50 ms"),
        ]
    return figures


def _knocked(port: int | str | None, kind: str) -> dict[str, Any]:
    """What the generator found: answers, p50_ms and p99_ms. Raises CalledProcessError where an answer was wrong."""
    command = [sys.executable, "-m", "bench.knocking", str(port), kind]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def _asked_of_bare(kind: str) -> dict[str, Any]:
    with _bare() as port:
        return _knocked(port, kind)


@contextmanager
def _bare() -> Iterator[int]:
    """The port of a server that reads, answers 202 and keeps nothing."""
    process = subprocess.Popen([sys.executable, "-m", "bench.bare"], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.terminate()
        process.wait()
