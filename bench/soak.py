"""The long form of the tests: many more histories, many more kills. `make soak`; bounded, ends by itself."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from bench import mixed
from bench.measure import Figure

__all__ = ["run"]

HISTORIES = 20_000
KILLS = 100
FUZZ_SECONDS = 900
QUERY_SEEDS = 2
TPCH_SCALE = 0.1


def _seconds(command: list[str], environment: dict[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, env={**os.environ, **environment})
    return time.perf_counter() - start


def run(folder: Path) -> list[Figure]:
    """Run each long form to its end; raises CalledProcessError where one finds a defect."""
    python = sys.executable
    seed = str(int(time.time()))
    print(f"seed {seed}")
    histories = [python, "-m", "tidemill.testing.simulator", "--seed", seed, "--count", str(HISTORIES), "--all"]
    fuzz = [python, "-m", "tests.incremental.fuzz", "--seed", seed, "--seconds", str(FUZZ_SECONDS), "--all"]
    queries = [python, "-m", "tests.incremental", "--seed", seed, "--file", "--paces", "realtime,switching,batch"]
    market = [*queries, "--set", "market", "--seeds", str(QUERY_SEEDS)]
    tpch = [*queries, "--set", "tpch", "--scale", str(TPCH_SCALE)]
    kills = [python, "-m", "pytest", "-q", "tests/e2e/test_processes.py", "-k", "kills_at_random"]
    return [
        Figure(f"{HISTORIES:,} simulated histories", _seconds(histories, {}), "s", None, "", "none wrong"),
        Figure("random queries against plain DuckDB", _seconds(fuzz, {}), "s", None, "", "none wrong"),
        Figure(f"{QUERY_SEEDS} histories of every query", _seconds(market, {}), "s", None, "", "none wrong"),
        Figure(f"TPC-H at scale {TPCH_SCALE}", _seconds(tpch, {}), "s", None, "", "none wrong"),
        Figure(f"{KILLS} kills of a running project", _seconds(kills, {"TIDEMILL_KILLS": str(KILLS)}), "s"),
        *mixed.run(folder / "mixed"),
    ]
