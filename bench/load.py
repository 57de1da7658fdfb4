"""How long a project of many SQL jobs takes to load: cold (every file looked at) and warm (looks kept).

Run it as `python -m bench.load [jobs]`. Read the ratio, not the milliseconds: machines differ.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path

from tidemill.project import load

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


def main(jobs: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "many"
        write_project(folder, jobs)
        cold, warm = seconds_to_load(folder), min(seconds_to_load(folder) for _ in range(3))
        print(f"{jobs} jobs: cold {cold:.2f} s, warm {warm:.2f} s, ratio {cold / warm:.1f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000)
