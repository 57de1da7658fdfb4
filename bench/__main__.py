"""Run benchmarks: all of them, or those named. Results go to bench/results.json and to the screen."""

from __future__ import annotations

import importlib
import sys
import tempfile
from pathlib import Path

from bench.measure import Figure, save, show

NAMES = (
    "start",
    "decide",
    "load",
    "latency",
    "tasks",
    "throughput",
    "memory",
    "idle",
    "door",
    "incremental",
    "plans",
    "reconcile",
    "replay",
    "shadow",
)
LONG = ("soak", "mixed")
"""Those that take many minutes; run only where they are named."""
RESULTS = Path(__file__).parent / "results.json"


def main(names: list[str]) -> int:
    """Measure, show, save."""
    unknown = [name for name in names if name not in (*NAMES, *LONG)]
    if unknown:
        print(f"unknown: {', '.join(unknown)}; there are {', '.join((*NAMES, *LONG))}", file=sys.stderr)
        return 2
    figures: list[Figure] = []
    for name in names or NAMES:
        with tempfile.TemporaryDirectory(prefix=f"tidemill-bench-{name}-") as folder:
            found = importlib.import_module(f"bench.{name}").run(Path(folder))
        show(found)
        figures += found
    save(figures, RESULTS)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
