"""The long form of the tests: many more histories, many more kills. `make soak`; bounded, ends by itself."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from bench.measure import Figure

__all__ = ["run"]

HISTORIES = 20_000
KILLS = 100


def _seconds(command: list[str], environment: dict[str, str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, env={**os.environ, **environment})
    return time.perf_counter() - start


def run(folder: Path) -> list[Figure]:
    """Run each long form to its end; raises CalledProcessError where one finds a defect."""
    del folder
    python = sys.executable
    seed = str(int(time.time()))
    print(f"seed {seed}")
    histories = [python, "-m", "tidemill.testing.simulator", "--seed", seed, "--count", str(HISTORIES), "--all"]
    kills = [python, "-m", "pytest", "-q", "tests/e2e/test_processes.py", "-k", "kills_at_random"]
    return [
        Figure(f"{HISTORIES:,} simulated histories", _seconds(histories, {}), "s", None, "", "none wrong"),
        Figure(f"{KILLS} kills of a running project", _seconds(kills, {"TIDEMILL_KILLS": str(KILLS)}), "s"),
    ]
