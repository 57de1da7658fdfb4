"""Replaying a million events into a side table, and what a backfill costs the live lane.

The floor of a replay is the same query as a plain CREATE TABLE AS over the typed rows of the same events, in a database
of its own; of the live lane it is the same lane without a backfill beside it.
"""

from __future__ import annotations

import statistics
import threading
import time
from pathlib import Path

import duckdb

from bench.measure import Figure, percentile
from bench.projects import Ended, project
from bench.throughput import COUNT, EVENTS, blocks
from tidemill.project.mill import Mill, open_mill

__all__ = ["run"]

ROWWISE = "-- mode: realtime\nselect key, amount * 2 as twice from events where amount > 0\n"
LIVE_EVENTS = 400
LIVE_SECONDS = 0.02
HISTORY = 100_000


def _filled(folder: Path) -> Mill:
    """A project that has counted a million events."""
    mill = project(folder, {"count.sql": COUNT, "rows.sql": ROWWISE})
    ended = [Ended(mill, "count", "events"), Ended(mill, "rows", "events")]
    for block in blocks():
        head = mill.emit("events", block)["head"]
    for each in ended:
        each.wait(head)
    return mill


def _floor(folder: Path, mill: Mill, query: str) -> float:
    """Events a second of the plain query into a plain table, on disk."""
    rows = mill.arrow("select * from events")
    with duckdb.connect(str(folder / "floor.duckdb")) as connection:
        connection.register("given", rows)
        connection.execute("create or replace table events as select * from given")
        connection.unregister("given")
        connection.execute("checkpoint")
        start = time.perf_counter()
        connection.execute(f"create or replace table made as {query}")
        connection.execute("checkpoint")
        return EVENTS / (time.perf_counter() - start)


def _replayed(mill: Mill, job: str, sql: str) -> tuple[float, float]:
    """Events a second of a replay into a side table, and of the same query as the floor."""
    floor = _floor(mill.folder, mill, sql.partition("\n")[2])
    start = time.perf_counter()
    done = mill.replay(job, into=f"{job}_again")
    rate = EVENTS / (time.perf_counter() - start)
    assert done["state"] == "finished", done
    assert mill.reconcile(job, against=f"{job}_again")["equal"]
    return rate, floor


def _live(mill: Mill, first: int) -> list[float]:
    """Milliseconds from an event to its committed row, one event after the other."""
    ended = Ended(mill, "live", "orders")
    pause = threading.Event()
    times = []
    for number in range(first, first + LIVE_EVENTS):
        start = time.perf_counter()
        line = b'{"event_id":"e%d","key":"k","amount":1,"at":"2026-01-01T00:00:00","note":"x"}\n' % number
        ended.wait(mill.emit("orders", line)["head"])
        times.append((time.perf_counter() - start) * 1_000)
        pause.wait(LIVE_SECONDS)
    return times


def _beside(folder: Path) -> tuple[list[float], list[float], float]:
    """The live lane alone, then beside a backfill; and events a second that were backfilled meanwhile."""
    columns = '[assets.{}.columns]\nevent_id = "varchar"\nkey = "varchar"\namount = "integer"\nat = "timestamp"\nnote = "varchar"\n'
    topics = "".join(f'[assets.{name}]\nkind = "topic"\n{columns.format(name)}' for name in ("events", "orders"))
    settings = f'[project]\nname = "bench"\n{topics}'
    live = "-- mode: realtime\nselect key, amount from orders\n"
    with project(folder, {"rows.sql": ROWWISE, "live.sql": live}, settings=settings) as mill:
        mill.pause("rows")
        history = b"".join(blocks())[: 180 * HISTORY]
        mill.emit("events", history[: history.rfind(b"\n") + 1])
        mill.resume("rows", "now")
        _live(mill, 0)
        alone = _live(mill, LIVE_EVENTS)
        found: list[int] = []
        thread = threading.Thread(target=lambda: found.append(mill.backfill("rows")["rows"]))
        thread.start()
        start = time.perf_counter()
        beside = _live(mill, 2 * LIVE_EVENTS)
        seconds = time.perf_counter() - start
        mill.pause("rows")
        thread.join()
        return alone, beside, found[0] / seconds


def run(folder: Path) -> list[Figure]:
    """All figures."""
    figures = []
    _filled(folder / "replay").close()
    with open_mill(folder / "replay", mode="once") as mill:  # as the command opens it where nobody serves
        for job, sql in (("rows", ROWWISE), ("count", COUNT)):
            rate, floor = _replayed(mill, job, sql)
            name = f"replay of 1 M events into a side table ({'row by row' if job == 'rows' else 'count per key'})"
            figures.append(Figure(name, rate, "events/s", floor, "CREATE TABLE AS", ">= 400,000/s"))
    alone, beside, rate = _beside(folder / "beside")
    for what, of in (("p50", statistics.median), ("p99", lambda times: percentile(times, 99))):
        name = f"one event -> row, beside a backfill, {what}"
        figures.append(Figure(name, of(beside), "ms", of(alone), "alone", "<= 1.2x at p99" if what == "p99" else ""))
    figures.append(Figure("rows backfilled meanwhile", rate, "rows/s"))
    return figures
