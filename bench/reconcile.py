"""What it costs to compare a large table with the truth, beside making it anew: equal, and with five differences.

Two tables of as many rows: one row by row from landed files, one from a topic, whose truth is its log in the ledger and not
the copy that the rebuild reads. A rebuild is what a run in one piece takes for it, which finds nothing to change. TIDEMILL_BENCH_ROWS sets
another number of rows.
"""

from __future__ import annotations

import os
from pathlib import Path

import duckdb

import tidemill
from bench.measure import Figure, timed
from tidemill.project import reconciling
from tidemill.project.mill import Mill

__all__ = ["run"]

ROWS = int(os.environ.get("TIDEMILL_BENCH_ROWS", "10_000_000"))
BLOCK = 200_000
DIFFERENCES = 5
COLUMNS = 'id = "bigint"\ncustomer = "bigint"\namount = "integer"\nat = "timestamp"\n'
PROJECT = f"""[project]
name = "bench"
[assets.landed]
kind = "files"
path = "landing/{{part}}.parquet"
format = "parquet"
[assets.landed.columns]
{COLUMNS}[assets.sent]
kind = "topic"
[assets.sent.columns]
{COLUMNS}"""
KEPT = '-- key: id\nselect id, customer, amount * 2 as doubled, "at" from {source}'
MADE = (
    "SELECT i AS id, hash(i) % 100000 AS customer, (hash(i * 7) % 1000)::INTEGER AS amount, "
    "TIMESTAMP '2026-01-01' + to_seconds(i) AS \"at\" FROM range({low}, {high}) AS r(i)"
)
JOBS = {"landed": "from landed files", "sent": "from a topic"}


def run(folder: Path) -> list[Figure]:
    """Both figures for both tables."""
    _write(folder)
    figures = []
    with tidemill.open(folder) as mill:
        _send(mill)
        mill.land(waits=False, trusts_all=True)
        mill.run()
        rebuilds = {job: _rebuilt(mill, f"kept_{job}") for job in JOBS}
    with tidemill.open(folder) as mill:
        equals = {job: _reconciled(mill, job, 0) for job in JOBS}
    _differ(folder)
    with tidemill.open(folder) as mill:
        differs = {job: _reconciled(mill, job, DIFFERENCES) for job in JOBS}
    for job, words in JOBS.items():
        name = f"reconcile {ROWS:,} rows {words}"
        figures += [
            Figure(f"{name}, equal", equals[job], "s", rebuilds[job], "one rebuild", "<= 1.5x"),
            Figure(f"{name}, {DIFFERENCES} differences", differs[job], "s", equals[job], "equal", "<= 1.1x"),
        ]
    return figures


def _write(folder: Path) -> None:
    (folder / "jobs").mkdir(parents=True)
    (folder / "landing").mkdir()
    (folder / "tidemill.toml").write_text(PROJECT)
    for source in JOBS:
        (folder / f"jobs/kept_{source}.sql").write_text(KEPT.format(source=source))
    text = MADE.format(low=0, high=ROWS)
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({text}) TO '{folder / 'landing/all.parquet'}' (FORMAT parquet)")


def _send(mill: Mill) -> None:
    """The same rows as events."""
    with duckdb.connect() as connection:
        for low in range(0, ROWS, BLOCK):
            text = MADE.format(low=low, high=min(ROWS, low + BLOCK))
            query = f"SELECT to_json(row_)::VARCHAR || chr(10) AS line FROM ({text}) AS row_"
            lines = connection.execute(query).to_arrow_table().column("line").to_pylist()
            mill.emit("sent", "".join(lines).encode())


def _rebuilt(mill: Mill, job: str) -> float:
    """Seconds of making a table anew in one run."""
    reconciling.begin_anew(mill.machine, job)
    return timed(lambda: mill.run((job,))) / 1_000


def _reconciled(mill: Mill, job: str, differences: int) -> float:
    """Seconds of one comparison that finds what it should."""
    answers = []
    spent = timed(lambda: answers.append(mill.reconcile(f"kept_{job}"))) / 1_000
    assert answers[0]["different"] == differences, answers[0]
    return spent


def _differ(folder: Path) -> None:
    """Change some rows behind the engine's back."""
    with duckdb.connect(str(folder / ".tidemill/tables.duckdb")) as tables:
        for source in JOBS:
            tables.execute(f"UPDATE store.kept_{source} SET doubled = -1 WHERE id % {ROWS // DIFFERENCES} = 7")
