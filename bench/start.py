"""What starting costs: `import tidemill` and `tidemill --help`, beside an empty Python."""

from __future__ import annotations

import statistics
import subprocess
import sys
from pathlib import Path

from bench.measure import Figure, timed

__all__ = ["run"]

TIMES = 7


def _median(command: list[str]) -> float:
    return statistics.median(
        timed(lambda: subprocess.run(command, check=True, capture_output=True)) for _ in range(TIMES)
    )


def run(folder: Path) -> list[Figure]:
    """Both figures."""
    del folder
    python = sys.executable
    empty = _median([python, "-c", "pass"])
    count = subprocess.run(
        [python, "-c", "import sys; n = len(sys.modules); import tidemill; print(len(sys.modules) - n)"],
        check=True,
        capture_output=True,
        text=True,
    )
    return [
        Figure("import tidemill", _median([python, "-c", "import tidemill"]), "ms", empty, "empty Python"),
        Figure("modules that `import tidemill` loads", float(count.stdout), "modules", None, "", "< 120"),
        Figure(
            "tidemill --help", _median([python, "-m", "tidemill", "--help"]), "ms", empty, "empty Python", "< 400 ms"
        ),
    ]
