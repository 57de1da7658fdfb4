"""A chain of 100 and a fan-out of 200 no-op Python jobs on external assets, each run durably recorded."""

from __future__ import annotations

import statistics
import time
from pathlib import Path

from bench.measure import Figure, floors
from bench.projects import project

__all__ = ["run"]

CHAIN = 100
FAN_OUT = 200
TIMES = 5
SETTINGS = '[project]\nname = "bench"\n[assets.start]\nkind = "external"\n'


def _chain() -> str:
    lines = ["import tidemill as tm", ""]
    for number in range(CHAIN):
        source = "start" if number == 0 else f"link_{number - 1}"
        lines += [
            f'@tm.job(inputs="{source}", outputs="link_{number}", mode="realtime", start_from="beginning")',
            f"def job_{number}(run: tm.Run) -> None: ...",
            "",
        ]
    return "\n".join(lines)


def _fan_out() -> str:
    lines = ["import tidemill as tm", ""]
    for number in range(FAN_OUT):
        lines += [
            f'@tm.job(inputs="start", outputs="leaf_{number}", mode="realtime", start_from="beginning")',
            f"def job_{number}(run: tm.Run) -> None: ...",
            "",
        ]
    return "\n".join(lines)


def _per_job(folder: Path, code: str, count: int) -> float:
    with project(folder, {"jobs.py": code}, settings=SETTINGS) as mill:
        times = []
        for _ in range(TIMES):
            start = time.perf_counter()
            mill.touch("start")
            done = mill.run()
            times.append((time.perf_counter() - start) * 1_000 / count)
            assert done["succeeded"] == count, done
        return statistics.median(times)


def run(folder: Path) -> list[Figure]:
    """Both figures."""
    floor = floors(folder / "floor")
    wanted = "<= 0.8 ms, <= 4x"
    chain = _per_job(folder / "chain", _chain(), CHAIN)
    fan_out = _per_job(folder / "fan_out", _fan_out(), FAN_OUT)
    return [
        Figure(f"chain of {CHAIN} no-op jobs, per job", chain, "ms", floor.sqlite_ms, "SQLite commit", wanted),
        Figure(f"fan-out of {FAN_OUT} no-op jobs, per job", fan_out, "ms", floor.sqlite_ms, "SQLite commit", wanted),
    ]
