"""A million events of 200 bytes: emitted from a file's lines to a realtime count per key, committed."""

from __future__ import annotations

import resource
import time
from collections.abc import Iterator
from pathlib import Path

from bench.measure import Figure
from bench.projects import Ended, project

__all__ = ["COUNT", "EVENTS", "blocks", "run"]

EVENTS = 1_000_000
BLOCK_EVENTS = 20_000
COUNT = "-- mode: realtime\nselect key, count(*) as events from events group by all\n"


def _line(number: int) -> bytes:
    note = "n" * 90
    return (
        f'{{"event_id":"e{number:09d}","key":"k{number % 1000:04d}","amount":{number % 997},'
        f'"at":"2026-01-01T00:00:00","note":"{note}"}}\n'
    ).encode()


def blocks() -> Iterator[bytes]:
    """The events as lines, block by block."""
    return (
        b"".join(_line(number) for number in range(start, start + BLOCK_EVENTS))
        for start in range(0, EVENTS, BLOCK_EVENTS)
    )


def _events_a_second(folder: Path, held: list[bytes], *, has_id: bool) -> float:
    with project(folder, {"count.sql": COUNT}, has_id=has_id) as mill:
        ended = Ended(mill, "count", "events")
        start = time.perf_counter()
        for block in held:
            head = mill.emit("events", block)["head"]
        ended.wait(head)
        seconds = time.perf_counter() - start
        (counted,) = mill.query('select sum(events) as n from "count"')
        assert counted["n"] == EVENTS, counted
        return EVENTS / seconds


def run(folder: Path) -> list[Figure]:
    """Both figures, and the memory of this process."""
    held = list(blocks())
    start = time.perf_counter()
    (folder / "floor").mkdir(parents=True)
    (folder / "floor" / "events.ndjson").write_bytes(b"".join(held))
    copy = EVENTS / (time.perf_counter() - start)
    figures = []
    for has_id, wanted in ((False, ">= 250,000/s"), (True, ">= 180,000/s")):
        rate = _events_a_second(folder / f"id_{has_id}", held, has_id=has_id)
        name = f"1 M events -> count per key, {'with' if has_id else 'without'} id"
        figures.append(Figure(name, rate, "events/s", copy, "writing the file", wanted))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    figures.append(Figure("peak memory (holds the 200 MB of events too)", peak, "MB", None, "", "< 600 MB + input"))
    return figures
