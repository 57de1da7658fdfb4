"""What a shadow costs the live lane: one event at a time through the same job, with a shadow beside it and without.

Two projects are open at once and take their blocks of events in turn, so that both see the same machine. The shadow runs
another query of the same size, is compared after each of its steps, and the table has as many rows as it says.
"""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from bench.measure import Figure, percentile
from bench.projects import Ended, project
from tidemill.project.mill import Mill

__all__ = ["run"]

ROWS = 20_000
BLOCKS, EVENTS = 10, 150
LIVE = "-- mode: realtime\nselect key, count(*) as events, sum(amount) as amount from events group by key\n"
BESIDE = "-- mode: realtime\nselect key, count(*) as events, sum(amount * 2) // 2 as amount from events group by key\n"
LINE = '{{"event_id":"{id}","key":"k{key}","amount":1,"at":"2026-01-01T00:00:00","note":"x"}}\n'


class _Lane:
    """One project at work."""

    def __init__(self, folder: Path) -> None:
        self.mill: Mill = project(folder, {"job.sql": LIVE})
        self._ended = Ended(self.mill, "job", "events")
        self._numbers = iter(range(10**9))
        self.times: list[float] = []
        self.mill.emit("events", b"".join(LINE.format(id=f"w{n}", key=n).encode() for n in range(ROWS)))
        self.mill.run()

    def block(self) -> None:
        """Milliseconds from handing in an event to its committed result, for a block of events."""
        for number in (next(self._numbers) for _ in range(EVENTS)):
            start = time.perf_counter()
            head = self.mill.emit("events", LINE.format(id=f"e{number}", key=number % ROWS).encode())["head"]
            self._ended.wait(head)
            self.times.append((time.perf_counter() - start) * 1_000)


def run(folder: Path) -> list[Figure]:
    """All figures of shadows."""
    alone, beside = _Lane(folder / "alone"), _Lane(folder / "beside")
    report = beside.mill.shadow("job", sql=BESIDE, file="beside.sql")
    assert report["equal"], report
    for _ in range(BLOCKS):
        alone.block()
        beside.block()
    report = beside.mill.shadow("job")
    assert not report["unequal"], report
    alone.mill.close()
    beside.mill.close()
    return [
        Figure("an event with a shadow beside, p50", *_both(beside, alone, 50), "without", "<= 1.15x"),
        Figure("an event with a shadow beside, p99", *_both(beside, alone, 99), "without", "<= 1.15x"),
        Figure("steps of the shadow meanwhile, each compared", report["shadow"]["runs"], "steps", None, "", ""),
    ]


def _both(beside: _Lane, alone: _Lane, percent: int) -> tuple[float, str, float]:
    if percent == 50:
        return statistics.median(beside.times), "ms", statistics.median(alone.times)
    return percentile(beside.times, percent), "ms", percentile(alone.times, percent)
