"""How long a project of many SQL jobs takes to load: cold (every file looked at) and warm (looks kept)."""

from __future__ import annotations

import time
from pathlib import Path

from bench.measure import Figure
from tidemill.project import load
from tidemill.project.mill import open_mill

JOBS = 10_000

TOML = """[project]
name = "many"

[assets.events]
kind = "topic"
id = "id"
[assets.events.columns]
id = "varchar"
kind = "varchar"
amount = "integer"
at = "timestamp"
"""

SQL = """-- mode: realtime
-- description: number {number} of many
select kind, at::date as day, count(*) as events, sum(amount) as amount
from {source}
where amount > {number}
group by all
"""

CHAINED = """-- mode: batch
select a.kind, a.day, a.events, b.amount, rank() over (partition by a.kind order by a.amount, a.day) as place
from {source} as a
left join {other} as b on a.kind = b.kind and a.day = b.day
where a.events > {number}
"""


def write_project(folder: Path, jobs: int) -> None:
    (folder / "jobs").mkdir(parents=True)
    (folder / "tidemill.toml").write_text(TOML)
    for number in range(jobs):
        chained = number % 10 >= 7
        base = number - number % 10
        sql = CHAINED if chained else SQL
        text = sql.format(number=number, source=f"job_{base}" if chained else "events", other=f"job_{base + 1}")
        (folder / "jobs" / f"job_{number}.sql").write_text(text)


def seconds_to_load(folder: Path) -> float:
    start = time.perf_counter()
    load(folder).check()
    return time.perf_counter() - start


def run(folder: Path) -> list[Figure]:
    """Cold and warm, beside reading the files alone; and opening the project to run, warm."""
    project = folder / "many"
    write_project(project, JOBS)
    start = time.perf_counter()
    for path in (project / "jobs").iterdir():
        path.read_bytes()
    reading = time.perf_counter() - start
    (project / ".tidemill").mkdir()
    cold, warm = seconds_to_load(project), min(seconds_to_load(project) for _ in range(3))
    name = f"{JOBS:,} SQL jobs"
    return [
        Figure(f"{name}: cold load", cold, "s", reading, "reading the files", "<= 15 s"),
        Figure(f"{name}: warm load", warm, "s", reading, "reading the files", "<= 2 s"),
        Figure(f"{name}: opening, first", _seconds_to_open(project), "s"),
        Figure(f"{name}: opening, again", _seconds_to_open(project), "s", reading, "reading the files", "<= 2 s"),
    ]


def _seconds_to_open(folder: Path) -> float:
    start = time.perf_counter()
    with open_mill(folder) as mill:
        mill.machine.loop.when_handled().wait()
        return time.perf_counter() - start
